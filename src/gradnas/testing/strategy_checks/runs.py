"""Checks of a strategy: repeatable, resumable, recorded, and refused early where it cannot work."""

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from gradnas.config import build_strategy, describe_strategy
from gradnas.finalizers import RandomFinalizers
from gradnas.foundation.checksums import unseal
from gradnas.strategies import StabilizeConf
from gradnas.supergraph import Model
from gradnas.testing.probe import ProbeTrainer, probe, same, searched, state_of, untouched_globals, without_times
from gradnas.testing.problem import Problem
from gradnas.testing.strategy_checks.base import StrategySuite
from gradnas.testing.strategy_checks.outcome import search_in
from gradnas.training import create_checkpoint

RECORDED = ("cells", "genotype", "entropy", "gap", "skips", "parameter_free", "diagnosis", "discretization_drop")
OF_A_CELL = ("edges", "ops", "alphas", "weights", "entropy", "gap")


class _Killed(Exception):  # noqa: N818  # not an error of ours
    pass


class RunChecks(StrategySuite):
    """A search as a whole: everything follows from the seed, and everything needed is saved and written."""

    def test_same_seed_same_search(self, tmp_path: Path) -> None:
        """The seed decides everything bit for bit; global generators are neither read nor moved."""
        problem = Problem()
        outcomes = []
        with torch.random.fork_rng(devices=[]):
            for attempt in range(2):
                torch.manual_seed(attempt)  # whoever reads the global generator finds other numbers
                with untouched_globals("a search"):
                    found = search_in(tmp_path, problem, self.strategy(), f"run{attempt}")
                outcomes.append((found.to_json(), self._logs(tmp_path / f"run{attempt}")))
        assert outcomes[0][0] == outcomes[1][0], "two searches with one seed found different architectures"
        assert same(outcomes[0][1], outcomes[1][1]), "two searches with one seed have different logs"
        written = sorted(path.name for path in tmp_path.iterdir())
        assert written == ["run0", "run1"], f"files outside the run folders: {written}"

    def test_another_seed_is_another_search(self) -> None:
        """Another seed gives other architecture parameters, or at least other weights."""
        states = [state_of(searched(Problem(seed=seed), self.strategy()).model) for seed in (0, 1)]
        assert list(states[0]) == list(states[1])
        assert not same(*states)

    def _logs(self, run: Path) -> object:
        logs = [(run / name).read_text().splitlines() for name in ("alphas.jsonl", "metrics.jsonl")]
        return [[without_times(unseal(json.loads(line))) for line in log] for log in logs]

    def test_resumed_search_is_the_uninterrupted_one(self, tmp_path: Path, fused: bool) -> None:
        """A search killed in the middle of an epoch goes on from its checkpoint to the same bits."""
        problem = Problem().but(epochs=3, checkpoint_every_seconds=1e-9)  # after every step
        whole, records = self._run(problem, tmp_path / "whole.pt", fused=fused)
        with pytest.raises(_Killed):
            self._run(problem, tmp_path / "killed.pt", fused=fused, kill_at=3)  # the second step of epoch 1
        resumed, later = self._run(problem, tmp_path / "killed.pt", fused=fused, resume=True)
        ours, theirs = state_of(whole.model), state_of(resumed.model)
        wrong = [name for name in ours if not same(ours[name], theirs[name])]
        assert not wrong, f"differ after resuming: {wrong}"
        assert same(whole.strategy.state_dict(), resumed.strategy.state_dict()), "the strategy's state differs"
        optimizers = [trainer.multi_optim[0].optimizer.state_dict() for trainer in (whole, resumed)]
        assert same(*optimizers), "the weight optimizer's state differs"
        assert same(without_times(whole.metrics.to_list()), without_times(resumed.metrics.to_list()))
        assert same(records[-2:], later), "the records of the architecture differ"

    def _run(
        self, problem: Problem, path: Path, *, fused: bool, resume: bool = False, kill_at: int | None = None
    ) -> tuple[ProbeTrainer, list[dict[str, Any]]]:
        records: list[dict[str, Any]] = []
        checkpoint = create_checkpoint(path, resume)
        trainer = probe(problem, self.strategy(), fused=fused, checkpoint=checkpoint, alpha_log=records.append)

        def kill(_: object) -> None:
            if trainer.global_step == kill_at:
                raise _Killed

        trainer.after = kill
        trainer.fit(problem.loaders())
        return trainer, records

    @pytest.mark.parametrize("epochs", [1, 2, 5])
    def test_schedules_fit_any_number_of_epochs(self, epochs: int) -> None:
        """With its own warm-up the architecture waits, then learns, and stays finite, however long the search."""
        waits = self.strategy().warmup_epochs(epochs)
        assert 0 <= waits < epochs, f"waits {waits} of {epochs} epochs"
        problem = Problem().but(epochs=epochs, max_steps_per_epoch=1, stabilize=StabilizeConf())
        trainer = probe(problem, self.strategy(), fused=True)
        moved: list[bool] = []
        held: list[dict[str, Tensor]] = []
        trainer.before = lambda _: held.append(state_of(trainer.model, architecture=True))
        trainer.after = lambda _: moved.append(not same(held.pop(), state_of(trainer.model, architecture=True)))
        trainer.fit(problem.loaders())
        assert not any(moved[:waits]), "the architecture moved in an epoch in which only weights learn"
        assert any(moved[waits:]), "the architecture never moved"
        for table in trainer.supergraph.mixing_weights():
            assert table is not None
            assert table.isfinite().all(), f"mixing weights after {epochs} epochs: {table}"
        said = json.loads(json.dumps(trainer.strategy.describe()))
        assert all(math.isfinite(number) for number in _numbers(said)), f"describe() says {said}"

    def test_each_epoch_is_recorded(self, tmp_path: Path) -> None:
        """Every epoch leaves what it learnt, how sure it is, what it would choose, its losses and its time."""
        problem = Problem(nodes=2)
        search_in(tmp_path, problem, self.strategy())
        run = tmp_path / "run"
        records = [json.loads(line) for line in (run / "alphas.jsonl").read_text().splitlines()]
        metrics = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
        assert [record["epoch"] for record in records] == list(range(problem.conf.epochs))
        assert len(metrics) == problem.conf.epochs
        for record in records:
            missing = [name for name in RECORDED if name not in record]
            assert not missing, f"the record of an epoch lacks {missing}"
            for kind, cell in record["cells"].items():
                missing = [name for name in OF_A_CELL if name not in cell]
                assert not missing, f"the record of the {kind} cell lacks {missing}"
                rows = {name: len(cell[name]) for name in OF_A_CELL if name != "ops"}
                assert len(set(rows.values())) == 1, f"one entry per edge, but {rows}"
                assert all(len(row) == len(cell["ops"]) for row in cell["weights"])
                assert all(number is not None and math.isfinite(number) for number in _numbers(cell))
        for line in metrics:
            assert math.isfinite(line["train"]["loss"])
            assert math.isfinite(line["val"]["loss"])
            assert line["seconds"] > 0

    def test_search_without_validation_is_refused_by_a_bilevel_strategy(self) -> None:
        """A bilevel strategy refuses a search without held-out data before anything is trained; others need none."""
        problem = replace(Problem(), val=None)
        trainer = probe(problem, self.strategy())
        before = state_of(trainer.model, architecture=False)
        if trainer.strategy.bilevel:
            with pytest.raises(ValueError, match="val"):
                trainer.fit(problem.loaders())
            assert same(before, state_of(trainer.model, architecture=False)), "trained before it was refused"
        else:
            trainer.fit(problem.loaders())
            assert not same(before, state_of(trainer.model, architecture=False))

    def test_model_without_a_choice_is_refused(self) -> None:
        """There is nothing to search in a discrete network, and the strategy says so before a step."""
        problem = Problem()
        discrete = RandomFinalizers(0).finalize_model(problem.model(self.strategy())).clear_trainables()
        model = Model(discrete, droppath=False, affine=False, registry=problem.space.registry)
        trainer = ProbeTrainer(problem.conf, model, strategy=self.strategy(), stabilize=problem.conf.stabilize)
        trainer.before = lambda _: pytest.fail("a step was taken")
        with pytest.raises(ValueError, match=r"choice|nothing"):
            trainer.fit(problem.loaders())

    def test_run_folder_can_repeat_the_run(self) -> None:
        """The options of a strategy are plain values from which an equal one is built."""
        strategy = self.strategy()
        described = describe_strategy(strategy)
        options = json.loads(json.dumps(described.options))
        again = build_strategy(replace(described, options=options))
        assert type(again) is type(strategy)
        assert describe_strategy(again) == described

    def test_cost_is_told(self) -> None:
        """The cost of a step is a positive number for any number of candidates."""
        costs = [self.strategy().forward_equivalents(n) for n in (2, 4, 8)]
        assert all(math.isfinite(cost) and cost > 0 for cost in costs), f"forward_equivalents: {costs}"


def _numbers(value: object) -> list[float]:
    """All numbers in nested values; NaN for null, which stands for one that is not finite."""
    if isinstance(value, dict):
        return [number for item in value.values() for number in _numbers(item)]
    if isinstance(value, list):
        return [number for item in value for number in _numbers(item)]
    if value is None:
        return [math.nan]
    return [float(value)] if isinstance(value, (int, float)) else []
