"""Tests of ``src/gradnas/pipeline/named.py``."""

from pathlib import Path

import pytest

from gradnas.pipeline import (
    ArchTrainer,
    BilevelArchTrainer,
    DartsExperimentRunner,
    DidartsArchTrainer,
    DidartsExperimentRunner,
)
from gradnas.spaces import DartsSpace
from gradnas.strategies import Darts, DiDarts, MetaOptimizer
from gradnas.supergraph import Model
from gradnas.training import TrainConf

CONF = """
data: {{source: digits}}
space: {{name: darts, options: {{channels: 4, cells: 3, nodes: 1, reductions: 1}}}}
strategy: {{name: {name}}}
search: {{epochs: 1, max_steps_per_epoch: 2, batch_size: 16}}
"""


@pytest.mark.parametrize(("trainer", "strategy"), [(BilevelArchTrainer, Darts), (DidartsArchTrainer, DiDarts)])
def test_the_trainer_uses_its_strategy(trainer: type[ArchTrainer], strategy: type[MetaOptimizer]) -> None:
    model = Model(DartsSpace(1, 8, 4, channels=4, cells=3, nodes=1, reductions=1).build(), affine=False)
    assert type(trainer(TrainConf(epochs=1), model).strategy) is strategy


@pytest.mark.parametrize(
    ("runner", "name", "other", "trainer"),
    [
        (DartsExperimentRunner, "darts", "didarts", BilevelArchTrainer),
        (DidartsExperimentRunner, "didarts", "darts", DidartsArchTrainer),
    ],
)
def test_the_runner_searches_by_its_strategy_and_refuses_another(
    tmp_path: Path,
    runner: type[DartsExperimentRunner] | type[DidartsExperimentRunner],
    name: str,
    other: str,
    trainer: type[ArchTrainer],
) -> None:
    conf = tmp_path / "conf.yaml"
    conf.write_text(CONF.format(name=name))
    running = runner(conf, "tiny", out=tmp_path)
    assert running.trainer_class() is trainer
    found, evaluated = running.run(eval=False)
    assert evaluated is None
    assert found is not None
    assert found.model_desc is not None
    conf.write_text(CONF.format(name=other))
    with pytest.raises(ValueError, match=f"the configuration says '{other}'. Set strategy.name to '{name}'"):
        runner(conf, "tiny", out=tmp_path)
