"""Tests of ``src/gradnas/pipeline/search_plan.py``, and that a run refuses the same before it makes a folder."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import gradnas as gn
from gradnas.config import ComponentConf, RunConf
from gradnas.data import BatchPlan
from gradnas.foundation.seeds import seeded_initialization
from gradnas.pipeline import ArchTrainer, prepare, refuse_early
from gradnas.pipeline.search_plan import check_graph, check_monitor, check_penalty, search_schedule, warmup_epochs
from gradnas.strategies import (
    Darts,
    DiDarts,
    DrNas,
    FairDarts,
    Gdas,
    MetaOptimizer,
    PcDarts,
    SearchSchedule,
    Snas,
    StabilizeConf,
    Xnas,
)
from gradnas.supergraph import Model
from gradnas.training import OptimConf, TrainConf

GRADIENT = [Darts(1), Darts(2), DiDarts(), Snas(), Gdas(), DrNas(), PcDarts(), FairDarts()]

# -------------------------------------------------------------------------------------------------------------- warm-up


@pytest.mark.parametrize(
    ("strategy", "epochs", "waits"),
    [
        (PcDarts(), 50, 15),
        (PcDarts(), 10, 3),
        (PcDarts(), 1, 0),
        (DrNas(), 25, 10),
        (DrNas(), 2, 0),
        (Darts(), 50, 0),
        (Xnas(), 50, 0),
        (Snas(), 50, 0),
    ],
)
def test_without_a_setting_the_paper_decides(strategy: MetaOptimizer, epochs: int, waits: int) -> None:
    assert warmup_epochs(StabilizeConf(), strategy, epochs) == waits


@pytest.mark.parametrize("waits", [0, 1, 9])
@pytest.mark.parametrize("strategy", [Darts(), PcDarts(), DrNas(), Xnas()], ids=repr)
def test_a_setting_decides_for_every_strategy(strategy: MetaOptimizer, waits: int) -> None:
    assert warmup_epochs(StabilizeConf(warmup_epochs=waits), strategy, 10) == waits


@pytest.mark.parametrize(("waits", "epochs"), [(10, 10), (11, 10), (1, 1)])
def test_search_in_which_the_architecture_never_learns_is_refused(waits: int, epochs: int) -> None:
    with pytest.raises(ValueError, match=rf"waits for {waits} epochs, but the search has {epochs}: it would never"):
        warmup_epochs(StabilizeConf(warmup_epochs=waits), Darts(), epochs)


def test_search_of_no_epochs_is_not_this_error() -> None:
    assert warmup_epochs(StabilizeConf(warmup_epochs=2), Darts(), 0) == 2


@pytest.mark.parametrize("epochs", range(1, 60))
def test_default_always_leaves_epochs_to_learn(epochs: int) -> None:
    assert all(warmup_epochs(StabilizeConf(), strategy, epochs) < epochs for strategy in (PcDarts(), DrNas()))


# ------------------------------------------------------------------------------------------------------------- schedule


@pytest.mark.parametrize("batch", [8, 7])
@pytest.mark.parametrize("waits", [0, 1, 3])
@pytest.mark.parametrize("limit", [None, 2, 99])
def test_schedule_counts_the_examples_that_are_really_drawn(batch: int, waits: int, limit: int | None) -> None:
    """Against a loop that draws them: batches of a pass over 40 examples, again and again."""
    train, alpha = BatchPlan.of(40, 8, shuffle=True), BatchPlan.of(40, batch, shuffle=True)
    schedule = search_schedule(TrainConf(epochs=5, max_steps_per_epoch=limit), train, alpha, waits)
    steps = 5 if limit in (None, 99) else 2
    sizes = [batch] * (40 // batch) + ([40 % batch] if 40 % batch else [])
    sizes = sizes[: len(alpha)]
    drawn = sum(sizes[i % len(sizes)] for i in range((5 - waits) * steps))
    assert schedule == SearchSchedule(epochs=5, steps_per_epoch=steps, val_samples=drawn)


def test_schedule_without_validation_draws_nothing() -> None:
    schedule = search_schedule(TrainConf(epochs=5), BatchPlan.of(40, 8, shuffle=True), None)
    assert (schedule.val_samples, schedule.epochs) == (0, 5)


# --------------------------------------------------------------------------------------------------------------- checks


@pytest.mark.parametrize("stabilize", [None, StabilizeConf(), StabilizeConf(eigenvalue="stop", warmup_epochs=1)])
def test_step_without_noise_can_be_recorded(stabilize: StabilizeConf | None) -> None:
    check_graph(Darts(), "cuda", stabilize)


@pytest.mark.parametrize("noise", [{"skip_dropout": 0.1}, {"perturb": "random"}, {"perturb": "adversarial"}])
def test_step_with_noise_cannot_be_recorded(noise: Any) -> None:
    with pytest.raises(ValueError, match=r"would repeat its noise: skip_dropout and perturb need search\.cuda_graph"):
        check_graph(Darts(), "cuda", StabilizeConf(**noise))


def test_step_cannot_be_recorded_elsewhere_or_for_every_strategy() -> None:
    with pytest.raises(ValueError, match="cuda_graph needs an NVIDIA GPU, the search runs on 'cpu'"):
        check_graph(Darts(), "cpu")
    with pytest.raises(ValueError, match="no CUDA graph can be made of the step of Gdas"):
        check_graph(Gdas(), "cuda")


def test_penalty_needs_the_parameters_it_acts_on() -> None:
    check_penalty(TrainConf(l1_alphas=0.0), Xnas())
    check_penalty(TrainConf(l1_alphas=0.1), PcDarts())
    with pytest.raises(ValueError, match=r"l1_alphas acts on parameters that Xnas does not have\. Set it to 0"):
        check_penalty(TrainConf(l1_alphas=0.1), Xnas())


@pytest.mark.parametrize("strategy", GRADIENT, ids=repr)
def test_every_strategy_by_gradient_can_be_monitored(strategy: MetaOptimizer) -> None:
    check_monitor(StabilizeConf(eigenvalue="stop"), strategy, has_validation=True)


@pytest.mark.parametrize("mode", ["warn", "stop"])
def test_monitor_needs_a_hessian_and_held_out_data(mode: Any) -> None:
    conf = StabilizeConf(eigenvalue=mode)
    with pytest.raises(ValueError, match="eigenvalue is that of the validation loss, but there is no validation set"):
        check_monitor(conf, DiDarts(), has_validation=False)
    with pytest.raises(ValueError, match="Xnas learns without gradients: there is no Hessian of its parameters"):
        check_monitor(conf, Xnas(), has_validation=True)


def test_monitor_that_is_off_needs_nothing() -> None:
    check_monitor(StabilizeConf(skip_limit="stop"), Xnas(), has_validation=False)


# ----------------------------------------------------------------------------------------------- before a folder exists


def run_conf(tools: Any, strategy: str, search: dict[str, Any], **stabilize: Any) -> RunConf:
    conf: RunConf = tools.conf(strategy=ComponentConf(name=strategy))
    return replace(conf, search=replace(conf.search, stabilize=StabilizeConf(**stabilize), **search))


REFUSED: dict[str, tuple[str, dict[str, Any], dict[str, Any], str]] = {
    "warm-up": ("darts", {}, {"warmup_epochs": 2}, "waits for 2 epochs, but the search has 2"),
    "warm-up of XNAS": ("xnas", {}, {"warmup_epochs": 5}, "waits for 5 epochs, but the search has 2"),
    "no Hessian": ("xnas", {}, {"eigenvalue": "warn"}, "Xnas learns without gradients"),
    "no validation": ("didarts", {"val_ratio": 0.0}, {"eigenvalue": "stop"}, "but there is no validation set"),
    "no supergraph": (
        "random",
        {},
        {"skip_limit": "warn"},
        r"'random' trains no supergraph: search.stabilize has no effect. Remove it",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_run_is_refused_before_anything_is_written(tools: Any, tmp_path: Path, case: str) -> None:
    strategy, search, stabilize, message = REFUSED[case]
    conf = run_conf(tools, strategy, search, **stabilize)
    with pytest.raises(ValueError, match=message):
        refuse_early(prepare(conf, tools.context()))
    with pytest.raises(ValueError, match=message):
        gn.search(
            tools.space,
            tools.source,
            strategy=strategy,
            epochs=2,
            batch_size=8,
            out=tmp_path / "run",
            device="cpu",
            stabilize=conf.search.stabilize,
            **search,
        )
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("strategy", "optimizer", "message"),
    [
        (
            PcDarts(partial=4),
            "sgd",
            "the candidates cannot see one of 4 equal parts of the channels: the edge has 2 input",
        ),
        (Darts(2), "adam", "SGD"),
    ],
    ids=["channels", "optimizer"],
)
def test_strategy_that_cannot_work_is_refused_before_anything_is_written(
    tools: Any, tmp_path: Path, strategy: MetaOptimizer, optimizer: Any, message: str
) -> None:
    settings = {"epochs": 1, "batch_size": 8, "optimizer": OptimConf(name=optimizer), "device": "cpu"}
    with pytest.raises(ValueError, match=message):
        gn.search(tools.space, tools.source, strategy=strategy, out=tmp_path / "run", **settings)
    assert not (tmp_path / "run").exists()


def test_recorded_noise_is_refused_early(tools: Any) -> None:
    """In a context that says it has a GPU; nothing is computed there."""
    context = tools.context(device=torch.device("cuda"))
    refuse_early(prepare(run_conf(tools, "darts", {"cuda_graph": True}), context))
    with pytest.raises(ValueError, match="would repeat its noise"):
        refuse_early(prepare(run_conf(tools, "darts", {"cuda_graph": True}, skip_dropout=0.1), context))


def test_horizon_of_xnas_is_compared_with_the_rounds_really_played(tools: Any) -> None:
    """2 epochs of 2 steps with batches of 8 draw 32 examples; the first epoch none when the experts wait."""
    for waits, drawn in ((0, 32), (1, 16)):
        conf = run_conf(tools, "xnas", {}, warmup_epochs=waits)
        refuse_early(prepare(conf, tools.context(), strategy=Xnas(horizon=drawn)))
        with pytest.raises(
            ValueError, match=f"horizon={drawn - 1} is shorter than the search, which will draw {drawn}"
        ):
            refuse_early(prepare(conf, tools.context(), strategy=Xnas(horizon=drawn - 1)))


def test_same_settings_without_a_contradiction_are_accepted(tools: Any) -> None:
    for strategy, search, stabilize in (
        (
            "darts",
            {},
            {"warmup_epochs": 1, "eigenvalue": "stop", "skip_limit": "stop", "perturb": "random", "skip_dropout": 0.1},
        ),
        ("didarts", {"val_ratio": 0.0}, {"skip_limit": "stop", "warmup_epochs": 1}),
        ("random", {}, {}),
    ):
        refuse_early(prepare(run_conf(tools, strategy, search, **stabilize), tools.context()))


# ------------------------------------------------------------------------------------------------------- a loop by hand


def trainer(tools: Any, strategy: MetaOptimizer, search: dict[str, Any], **stabilize: Any) -> ArchTrainer:
    with seeded_initialization(0, "test"):
        model = Model(tools.space.build(), affine=False)
    conf = tools.search_conf(**search)
    return ArchTrainer(conf, model, strategy=strategy, stabilize=StabilizeConf(**stabilize))


def test_trainer_refuses_by_itself(tools: Any) -> None:
    with pytest.raises(ValueError, match="waits for 2 epochs"):
        trainer(tools, Darts(), {}, warmup_epochs=2)
    held_out = tools.context().loaders(tools.search_conf(), "search", test=False)
    with pytest.raises(ValueError, match="Xnas learns without gradients"):
        trainer(tools, Xnas(), {}, eigenvalue="warn").fit(held_out)
    nothing = tools.context().loaders(tools.search_conf(val_ratio=0.0), "search", test=False)
    with pytest.raises(ValueError, match="there is no validation set"):
        trainer(tools, DiDarts(), {"val_ratio": 0.0}, eigenvalue="warn").fit(nothing)
    with pytest.raises(ValueError, match="cuda_graph needs an NVIDIA GPU"):
        ArchTrainer(tools.search_conf(), trainer(tools, Darts(), {}).supergraph, cuda_graph=True)
