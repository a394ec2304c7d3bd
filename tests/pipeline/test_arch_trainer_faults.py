"""Tests of ``src/gradnas/pipeline/arch_trainer.py``: numbers of a search that are not finite."""

import math
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from gradnas.config import STRATEGIES, ComponentConf, build_strategy
from gradnas.data import DataLoaders
from gradnas.foundation.seeds import seeded_initialization
from gradnas.pipeline import ArchTrainer
from gradnas.strategies import MetaOptimizer, StabilizeConf
from gradnas.supergraph import Model
from gradnas.testing.probe import same, state_of
from gradnas.training import CheckPoint, ScoreSums

LEARNING = sorted(name for name, kind in STRATEGIES.items() if issubclass(kind, MetaOptimizer))
BILEVEL = [name for name in LEARNING if getattr(build_strategy(ComponentConf(name=name)), "bilevel", False)]


class Poisoned(ArchTrainer):
    """One step has NaN in the loss of the architecture or of the weights, or in the gradient of either alone."""

    where: str
    bad_step: int
    times: int = 10**9
    images: Tensor
    states: list[dict[str, Any]]

    def state(self) -> dict[str, Any]:
        state = {"model": state_of(self.model), "strategy": self.strategy.state_dict(), "sums": self._sums.state_dict()}
        return {**state, "optimizer": self.multi_optim.state_dict(self._names)}

    def train_step(self, x: Tensor, y: Tensor, sums: ScoreSums) -> None:
        if self.global_step == self.bad_step:
            self.states.append(torch_copy(self.state()))
            self.images = x
        super().train_step(x, y, sums)

    def compute_loss(self, lossfn: Any, *args: Any) -> Tensor:
        loss = super().compute_loss(lossfn, *args)
        ours = lossfn is (self._outer_loss if self.where == "architecture" else self.train_loss)
        if self.where in ("alphas", "nowhere") or not ours or self.global_step != self.bad_step or self.times == 0:
            return loss
        self.times -= 1
        return loss + 0.0 * torch.sqrt(loss * 0.0) if self.where == "gradient" else loss * math.nan

    def pre_step(self, x: Tensor, y: Tensor) -> None:
        if self.global_step == self.bad_step + 1:
            self.states.append(torch_copy(self.state()))
        super().pre_step(x, y)


def torch_copy(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.detach().clone()
    if isinstance(value, dict):
        return {key: torch_copy(item) for key, item in value.items()}
    return [torch_copy(item) for item in value] if isinstance(value, (list, tuple)) else value


def searching(tools: Any, name: str, where: str, path: Path | None = None, **changes: Any) -> Poisoned:
    strategy = build_strategy(ComponentConf(name=name, options={"partial": 2} if name == "pcdarts" else {}))
    assert isinstance(strategy, MetaOptimizer)
    with seeded_initialization(0, "test"):
        model = Model(strategy.supergraph(tools.space.build()), droppath=False, affine=False, fused=True)
    conf = tools.search_conf(epochs=3, max_steps_per_epoch=3, **changes)
    checkpoint = None if path is None else CheckPoint(path)
    trainer = Poisoned(conf, model, checkpoint, strategy=strategy)
    trainer.where, trainer.bad_step, trainer.states = where, 4, []
    for alpha in trainer.alphas if where == "alphas" else ():
        alpha.register_hook(lambda g: g * math.nan if trainer.global_step == trainer.bad_step else g)
    return trainer


def data(tools: Any) -> DataLoaders:
    conf = tools.search_conf(epochs=3, max_steps_per_epoch=3)
    return tools.context().loaders(conf, "search", test=False)  # type: ignore[no-any-return]


@pytest.mark.parametrize("where", ["weights", "gradient", "architecture", "alphas"])
@pytest.mark.parametrize("name", LEARNING)
def test_a_skipped_step_changes_nothing(tools: Any, name: str, where: str) -> None:
    if (where == "architecture" and name not in BILEVEL) or (where == "alphas" and name == "xnas"):
        pytest.skip("has no such number")
    trainer = searching(tools, name, where, on_nonfinite="skip", stabilize=_no_warmup())
    metrics = trainer.fit(data(tools))
    before, after = trainer.states
    assert same(before, after)
    assert [record.skipped for record in metrics] == [0, 1, 0]


def _no_warmup() -> StabilizeConf:
    return StabilizeConf(warmup_epochs=0)


@pytest.mark.parametrize("name", BILEVEL)
def test_a_fault_of_the_architecture_step_names_both_batches(tools: Any, name: str) -> None:
    trainer = searching(tools, name, "architecture", stabilize=_no_warmup())
    with pytest.raises(FloatingPointError, match="loss of the architecture step became nan") as caught:
        trainer.fit(data(tools))
    found = re.search(r"epoch 1, step 1 \(training images ([\d, ]+); validation images ([\d, ]+)\)", str(caught.value))
    assert found is not None
    train, val = ([int(number) for number in listed.split(",")] for listed in found.groups())
    assert not set(train) & set(val)
    source, loaders = tools.source, data(tools)
    assert torch.equal(source.train.labels[train], loaders.train.batch(1, 1)[1])
    assert loaders.alpha is not None
    assert torch.equal(source.train.labels[val], loaders.alpha.batch(*divmod(4, len(loaders.alpha)))[1])


@pytest.mark.parametrize("name", ["darts", "xnas", "gdas"])
def test_a_search_rolled_back_goes_on_at_half_the_rate(tools: Any, tmp_path: Path, name: str) -> None:
    trainer = searching(
        tools,
        name,
        "weights",
        tmp_path / "a.pt",
        on_nonfinite="rollback",
        checkpoint_every_seconds=0,
        stabilize=_no_warmup(),
    )
    trainer.times = 1
    whole = searching(tools, name, "weights", stabilize=_no_warmup())
    whole.bad_step = -1
    rates = [record.lr for record in trainer.fit(data(tools))]
    expected = [record.lr for record in whole.fit(data(tools))]
    assert rates[0] == expected[0]
    assert rates[1:] == pytest.approx([0.5 * rate for rate in expected[1:] if rate is not None])
    first, again = trainer.states[:2]  # the bad step, drawn twice from one state of the architecture
    assert same(first["strategy"], again["strategy"])


@pytest.mark.parametrize("name", ["darts", "snas"])
def test_a_bad_architecture_gradient_is_never_saved(tools: Any, tmp_path: Path, name: str) -> None:
    trainer = searching(tools, name, "alphas", tmp_path / "a.pt", checkpoint_every_seconds=1e-9, stabilize=_no_warmup())
    with pytest.raises(
        FloatingPointError, match=r"norm of the architecture parameters became nan in phase 'search', ep"
    ):
        trainer.fit(data(tools))
    stored = CheckPoint(tmp_path / "a.pt")
    assert stored.load_existing()
    assert stored["global_step"] == 4
    assert all(value.isfinite().all() for value in stored["model"].values())


def test_bad_rewards_of_xnas_are_named_and_skipped_as_any_other_fault(tools: Any) -> None:
    class Infinite(Poisoned):
        def _batch_loss(self, batch: Any, **settings: Any) -> Tensor:
            loss = super()._batch_loss(batch, **settings)
            bad = self.global_step == self.bad_step
            return loss + 0.0 * torch.sqrt(loss * 0.0) if bad else loss  # finite, its gradient is not

    for answer in ("stop", "skip"):
        trainer = searching(tools, "xnas", "nowhere", on_nonfinite=answer, stabilize=_no_warmup())
        trainer.__class__ = Infinite
        if answer == "stop":
            with pytest.raises(
                FloatingPointError, match=r"of the architecture step became not finite .*validation images"
            ):
                trainer.fit(data(tools))
        else:
            assert [record.skipped for record in trainer.fit(data(tools))] == [0, 1, 0]
            assert same(*trainer.states)
