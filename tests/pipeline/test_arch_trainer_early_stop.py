"""Searches that a rule ends early, through the real ``ArchTrainer``: what stops, what is returned, what is resumed."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from gradnas.arch import ModelDesc
from gradnas.data import DataLoaders
from gradnas.finalizers import Finalizers
from gradnas.foundation.seeds import seeded_initialization
from gradnas.pipeline import ArchTrainer, prepare
from gradnas.pipeline.diagnostics import in_words
from gradnas.spaces import DartsSpace
from gradnas.strategies import (
    Darts,
    DiDarts,
    DrNas,
    FairDarts,
    Gdas,
    MetaOptimizer,
    PcDarts,
    Snas,
    StabilizeConf,
    Xnas,
)
from gradnas.supergraph import Model
from gradnas.training import create_checkpoint

SKIP, CONV = 1, 2  # positions among the candidates
Log = list[dict[str, Any]]

FAST: dict[str, Callable[[], MetaOptimizer]] = {
    "darts": lambda: Darts(lr=0.3),
    "darts 2": lambda: Darts(2, lr=0.3),
    "didarts": lambda: DiDarts(lr=0.3),
    "snas": lambda: Snas(lr=0.3),
    "gdas": lambda: Gdas(lr=0.3),
    "drnas": lambda: DrNas(lr=0.3),
    "pcdarts": lambda: PcDarts(partial=2, lr=0.3),
    "fairdarts": lambda: FairDarts(lr=0.3),
}


def supergraph(tools: Any, strategy: MetaOptimizer) -> Model:
    space = DartsSpace(1, 8, 5, channels=2, cells=3, nodes=2, reductions=1, primitives=tools.primitives)
    with seeded_initialization(0, "test"):
        return Model(strategy.supergraph(space.build()), droppath=False, affine=False, fused=True)


def data(tools: Any, **changes: Any) -> DataLoaders:
    loaders: DataLoaders = tools.context().loaders(tools.search_conf(**changes), "search", test=False)
    return loaders


def owned(model: Model) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in model.all_owned().items() if isinstance(value, Tensor)}


def state(model: Model) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def same(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> bool:
    return list(a) == list(b) and all(torch.equal(a[name], b[name]) for name in a)


class Watched(ArchTrainer):
    """Counts its steps."""

    steps = 0

    def post_step(self, x: Tensor, y: Tensor) -> None:
        super().post_step(x, y)
        self.steps += 1


def search(
    tools: Any,
    strategy: MetaOptimizer,
    log: Log | None = None,
    *,
    checkpoint: Any = None,
    listener: Any = None,
    stabilize: Mapping[str, Any] | None = None,
    **conf: Any,
) -> Watched:
    trainer = Watched(
        tools.search_conf(**conf),
        supergraph(tools, strategy),
        checkpoint,
        strategy=strategy,
        alpha_log=None if log is None else log.append,
        listener=listener,
        stabilize=StabilizeConf(**(stabilize or {})),
    )
    trainer.fit(data(tools, **conf))
    return trainer


# ----------------------------------------------------------------------------------------------------------- early stop

VALUES = [1.0, 1.0, 1.0, 4.0, 9.0, 9.0]  # with windows of two: means 1, 1, 2.5 at epochs 1, 2, 3
RISE = {"eigenvalue_window": 2, "eigenvalue_lag": 1}


@pytest.fixture
def rising(monkeypatch: pytest.MonkeyPatch) -> None:
    def value(self: ArchTrainer, _: DataLoaders) -> float | None:
        return VALUES[self.epoch] if self._learning and self.stabilize.eigenvalue != "none" else None

    monkeypatch.setattr(ArchTrainer, "_eigenvalue", value)


def logged(line: Mapping[str, Any], kind: str) -> list[list[float]]:
    return [row for cell in ("regular", "reduction") for row in line["cells"][cell][kind]]


def held(model: Model, kind: str) -> list[list[float]]:
    values = [value.flatten().tolist() for name, value in owned(model).items() if f".{kind}" in f".{name}"]
    assert values
    return values


def reason(value: float) -> str:
    return (
        f"the dominant Hessian eigenvalue of the validation loss has risen to {value:.3g}, its mean by more than a "
        "factor 1.33 in 1 epochs"
    )


@pytest.mark.parametrize("name", ["darts", "darts 2", "didarts", "snas", "gdas", "drnas", "pcdarts", "fairdarts"])
def test_search_stops_with_the_architecture_of_the_epoch_before_the_rise(tools: Any, rising: None, name: str) -> None:
    log: Log = []
    trainer = search(
        tools,
        FAST[name](),
        log,
        epochs=6,
        max_steps_per_epoch=1,
        stabilize={"eigenvalue": "stop", "warmup_epochs": 0, **RISE},
    )
    assert trainer.stopped
    assert (trainer.epoch, len(trainer.metrics), len(log)) == (4, 4, 5)
    assert [line["epoch"] for line in log] == [0, 1, 2, 3, 3]
    assert ["returned_epoch" in line for line in log] == [False] * 4 + [True]
    assert log[3]["stop"] == {"reason": reason(4.0), "returned_epoch": 2}
    assert log[3]["diagnosis"][-1] == f"{reason(4.0)}. The search stops with the architecture of epoch 2."
    assert all("stop" not in line for line in log[:3])
    assert held(trainer.supergraph, "alphas") == logged(log[2], "alphas") != logged(log[3], "alphas")
    returned = log[4]
    assert (returned["returned_epoch"], returned["stop"]) == (2, log[3]["stop"])
    described = ("genotype", "skips", "parameter_free", "free_regular", "kept_regular")
    assert {key: returned[key] for key in described} == {key: log[2][key] for key in described}
    assert logged(returned, "alphas") == logged(log[2], "alphas")
    if name not in ("snas", "gdas"):  # their temperature is that of the last epoch
        assert returned["cells"] == log[2]["cells"]
        assert (returned["entropy"], returned["gap"]) == (log[2]["entropy"], log[2]["gap"])
    if name == "pcdarts":
        assert held(trainer.supergraph, "betas") == logged(log[2], "betas") != logged(log[3], "betas")
    found = Finalizers().finalize_model(trainer.supergraph)
    assert str(found.genotype()) == log[2]["genotype"]


def test_last_record_describes_what_is_returned(tools: Any) -> None:
    log: Log = []
    rule = {"skip_limit": "stop", "skip_limit_from": 5}
    search(tools, Forced(lr=0.0, weight_decay=0.0), log, epochs=6, max_steps_per_epoch=1, stabilize=rule)
    assert [line["epoch"] for line in log] == [0, 1, 2, 3, 4, 4]
    last, returned = log[-2:]
    assert returned["returned_epoch"] == 2
    assert returned["cells"] == log[2]["cells"] != last["cells"]
    assert [line["genotype"] == log[2]["genotype"] for line in log] == [True, True, True, False, False, True]
    same_keys = ("entropy", "gap", "skips", "parameter_free", "free_regular", "kept_regular")
    assert [returned[key] for key in same_keys] == [log[2][key] for key in same_keys]
    assert (last["skips"], returned["skips"]) == (4, 0)
    # What holds for another epoch's weights is left out, and what was wrong is no longer.
    assert last["discretization_drop"] is not None
    assert (returned["discretization_drop"], returned["eigenvalue"]) == (None, None)
    assert "discretization costs" in last["words"]
    assert "discretization costs" not in returned["words"]
    assert returned["words"] == in_words(returned)
    assert [bool(line["diagnosis"]) for line in log] == [False, False, False, True, True, False]
    assert returned["stop"] == last["stop"]
    # Skips on all edges: the four that the regular cell keeps are convolutions again.
    assert (returned["changed_edges"], last["changed_edges"], log[3]["changed_edges"]) == (4, 0, 4)


def test_returned_architecture_is_diagnosed_by_itself(tools: Any, rising: None) -> None:
    """That the eigenvalue was lower does not make it a good one."""
    log: Log = []
    search(tools, Forced(first=0), log, epochs=6, max_steps_per_epoch=1, stabilize={"eigenvalue": "stop", **RISE})
    assert log[-1]["returned_epoch"] == 2
    assert log[-1]["diagnosis"] == log[2]["diagnosis"] != []
    assert log[-2]["diagnosis"][:-1] == log[2]["diagnosis"]


def test_search_that_ends_by_itself_has_no_record_more(tools: Any, rising: None) -> None:
    log: Log = []
    rule = {"eigenvalue": "warn", "skip_limit": "stop", "skip_limit_from": 6, "max_skips": 4, **RISE}
    trainer = search(tools, Forced(), log, epochs=6, max_steps_per_epoch=1, stabilize=rule)
    assert not trainer.stopped
    assert [line["epoch"] for line in log] == list(range(6))
    assert all("returned_epoch" not in line for line in log)


def test_warm_up_shifts_the_rule(tools: Any, rising: None) -> None:
    log: Log = []
    trainer = search(
        tools,
        Darts(lr=0.3),
        log,
        epochs=6,
        max_steps_per_epoch=1,
        stabilize={"eigenvalue": "stop", "warmup_epochs": 2, **RISE},
    )
    # Values of epochs 2, 3, 4 count: 1, 4, 9, means 2.5 and 6.5.
    assert log[-2]["stop"] == log[-1]["stop"] == {"reason": reason(9.0), "returned_epoch": 3}
    assert log[-1]["returned_epoch"] == 3
    assert trainer.epoch == 5


class Forced(Darts):
    """Sets all edges of the regular cell to the skip from an epoch on, and to the convolution before."""

    def __init__(self, *args: Any, first: int = 3, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.first = first

    def new_epoch(self, epoch: int) -> None:
        super().new_epoch(epoch)
        with torch.no_grad():
            for op in self._model.owner_cells()[0].mixed_ops():
                op.alphas.zero_()[SKIP if epoch >= self.first else CONV] = 10.0


@pytest.mark.parametrize(
    ("most", "earliest", "waits", "stops"),
    [(1, 1, 0, 3), (1, 5, 0, 4), (4, 1, 0, None), (0, 6, 0, 5), (1, 3, 2, 4), (1, 2, 2, 3)],
)
def test_search_stops_when_skips_win(tools: Any, most: int, earliest: int, waits: int, stops: int | None) -> None:
    """Epochs in which the architecture waits do not count."""
    log: Log = []
    rule = {"skip_limit": "stop", "max_skips": most, "skip_limit_from": earliest, "warmup_epochs": waits}
    trainer = search(tools, Forced(), log, epochs=6, max_steps_per_epoch=1, stabilize=rule)
    course = [0, 0, 0, 4, 4, 4]
    assert [line["skips"] for line in log] == (course if stops is None else [*course[: stops + 1], 0])
    assert trainer.stopped is (stops is not None)
    if stops is not None:
        assert log[-2]["stop"] == {
            "reason": f"the regular cell has 4 skip connections, more than {most}",
            "returned_epoch": 2,
        }
        assert held(trainer.supergraph, "alphas") == logged(log[2], "alphas")


def test_experts_go_back_too(tools: Any) -> None:
    """The record of XNAS is put back although nothing of it has a gradient."""
    log: Log = []
    strategy = Xnas(wipe_out=False)
    snapshots: list[dict[str, Tensor]] = []

    class Skipping(Watched):
        def post_step(self, x: Tensor, y: Tensor) -> None:
            super().post_step(x, y)
            weight = 50.0 if self.epoch == 1 else -50.0
            for op in self.supergraph.owner_cells()[0].mixed_ops():
                log_weights = op.arch_params()["log_weights"]
                assert isinstance(log_weights, Tensor)
                log_weights[SKIP] = weight

        def post_epoch(self, *args: Any) -> None:
            snapshots.append(owned(self.supergraph))
            super().post_epoch(*args)

    trainer = Skipping(
        tools.search_conf(epochs=3, max_steps_per_epoch=1),
        supergraph(tools, strategy),
        strategy=strategy,
        alpha_log=log.append,
        stabilize=StabilizeConf(skip_limit="stop", skip_limit_from=2),
    )
    trainer.fit(data(tools))
    assert [line["skips"] for line in log] == [0, 4, 0]
    assert log[-1]["stop"]["returned_epoch"] == log[-1]["returned_epoch"] == 0
    assert log[-1]["cells"] == log[0]["cells"] != log[1]["cells"]
    assert same(owned(trainer.supergraph), snapshots[0])
    assert not same(snapshots[0], snapshots[1])
    assert str(Finalizers().finalize_model(trainer.supergraph).genotype()) == log[0]["genotype"]
    trainer.fit(data(tools))  # once more: experts would start afresh
    assert same(owned(trainer.supergraph), snapshots[0])


@pytest.mark.parametrize("rule", ["eigenvalue", "skip_limit"])
def test_warning_changes_nothing_bit_for_bit(tools: Any, rising: None, rule: str) -> None:
    logs: list[Log] = [[], []]
    settings = {rule: "warn", **(RISE if rule == "eigenvalue" else {"skip_limit_from": 1})}
    warned = search(tools, Forced(lr=0.1), logs[0], epochs=6, max_steps_per_epoch=1, stabilize=settings)
    plain = search(tools, Forced(lr=0.1), logs[1], epochs=6, max_steps_per_epoch=1)
    assert same(state(warned.supergraph), state(plain.supergraph))
    assert [logged(line, "alphas") for line in logs[0]] == [logged(line, "alphas") for line in logs[1]]
    assert not warned.stopped
    added = [line["diagnosis"][len(other["diagnosis"]) :] for line, other in zip(*logs, strict=True)]
    if rule == "eigenvalue":
        assert added == [[], [], [], [f"{reason(4.0)}."], [f"{reason(9.0)}."], [f"{reason(9.0)}."]]
    else:
        assert added == [[]] * 3 + [["the regular cell has 4 skip connections, more than 1."]] * 3
    assert [line.get("stop", "absent") for line in logs[0]] == ["absent"] * 3 + [None] * 3


SKIPS_SAID = "the regular cell has 4 skip connections, more than 1."


@pytest.mark.parametrize(
    ("modes", "returned"),
    [(("warn", "stop"), 2), (("stop", "warn"), 1), (("stop", "stop"), 2)],
    ids=["skips", "eigenvalue", "both"],
)
def test_both_rules_speak_and_one_that_stops_decides(
    tools: Any, rising: None, modes: tuple[str, str], returned: int
) -> None:
    """When both stop, the limit of skips does: with a lag of two the eigenvalue goes back to epoch 1, skips to 2."""
    log: Log = []
    settings = {"eigenvalue": modes[0], "skip_limit": modes[1], "skip_limit_from": 1, **RISE, "eigenvalue_lag": 2}
    trainer = search(tools, Forced(lr=0.1), log, epochs=6, max_steps_per_epoch=1, stabilize=settings)
    risen = reason(4.0).replace("in 1 epochs", "in 2 epochs")
    outcome = f" The search stops with the architecture of epoch {returned}."
    decides = "eigenvalue" if modes[1] == "warn" else "skips"
    assert log[-2]["diagnosis"][-2:] == [
        f"{risen}.{outcome if decides == 'eigenvalue' else ''}",
        f"{SKIPS_SAID}{outcome if decides == 'skips' else ''}",
    ]
    assert log[-2]["stop"] == {
        "reason": risen if decides == "eigenvalue" else SKIPS_SAID[:-1],
        "returned_epoch": returned,
    }
    assert log[-1]["returned_epoch"] == returned
    assert held(trainer.supergraph, "alphas") == logged(log[returned], "alphas")
    assert logged(log[1], "alphas") != logged(log[2], "alphas")


def test_result_is_never_over_the_limit_that_stops(tools: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The eigenvalue alone would go back to an epoch with four skips; the last within the limit is an earlier one."""

    class Late(Forced):
        def new_epoch(self, epoch: int) -> None:
            super().new_epoch(epoch if epoch != 1 else 0)

    values = [1.0, 1.0, 1.0, 1.0, 9.0]
    monkeypatch.setattr(ArchTrainer, "_eigenvalue", lambda self, _: values[self.epoch])
    log: Log = []
    settings = {"eigenvalue": "stop", "skip_limit": "stop", "skip_limit_from": 5, **RISE}
    trainer = search(tools, Late(first=2), log, epochs=6, max_steps_per_epoch=1, stabilize=settings)
    assert [line["skips"] for line in log] == [0, 0, 4, 4, 4, 0]
    assert trainer.epoch == 5
    assert log[-1]["returned_epoch"] == 1
    found = Finalizers().finalize_model(trainer.supergraph).genotype()
    assert sum(name == "skip_connect" for name, _ in found.normal) == 0


@pytest.mark.parametrize("mode", ["warn", "stop"])
def test_limit_that_no_epoch_has_kept_warns_and_never_stops(tools: Any, mode: str) -> None:
    log: Log = []
    rule = {"skip_limit": mode, "skip_limit_from": 2}
    trainer = search(tools, Forced(first=0), log, epochs=4, max_steps_per_epoch=1, stabilize=rule)
    assert not trainer.stopped
    assert [line["skips"] for line in log] == [4] * 4
    said = (
        "the regular cell has 4 skip connections, more than 1, as in every epoch before: there is no architecture "
        "within the limit to go back to."
    )
    assert [said in line["diagnosis"] for line in log] == [False, True, True, True]
    assert [line.get("stop", "absent") for line in log] == ["absent", None, None, None]
    plain = search(tools, Forced(first=0), epochs=4, max_steps_per_epoch=1)
    assert same(state(trainer.supergraph), state(plain.supergraph))


# ------------------------------------------------------------------------------------------------------------ told once


def epochs_told(caplog: pytest.LogCaptureFixture) -> list[int]:
    """Of the warnings of the trainer."""
    told = [r for r in caplog.records if r.name == "gradnas.pipeline.arch_trainer"]
    assert all(r.levelname == "WARNING" for r in told)
    return [int(r.getMessage().split(" of the search: ")[0].removeprefix("epoch ")) for r in told]


def test_diagnosis_that_stays_is_told_once_and_the_stop_in_any_case(
    tools: Any, caplog: pytest.LogCaptureFixture
) -> None:
    rule = {"skip_limit": "stop", "skip_limit_from": 6}
    search(tools, Forced(), epochs=8, max_steps_per_epoch=1, stabilize=rule)
    assert epochs_told(caplog) == [3, 5]
    assert "The search stops with the architecture of epoch 2." in caplog.records[-1].getMessage()


@pytest.mark.parametrize(("killed_at", "again"), [(3, [3]), (4, []), (5, [])])
def test_resumed_search_does_not_repeat_what_was_told(
    tools: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture, killed_at: int, again: list[int]
) -> None:
    """From epoch 3 on there is something to tell; the epoch in which the run was killed is run again."""
    conf = {"epochs": 6, "max_steps_per_epoch": 1, "stabilize": {"skip_limit": "warn", "skip_limit_from": 1}}
    path = tmp_path / "a.pt"
    with pytest.raises(tools.killed):
        search(
            tools,
            Forced(),
            checkpoint=create_checkpoint(path, False),
            listener=tools.kill_after("search", killed_at),
            **conf,
        )
    assert epochs_told(caplog) == ([] if killed_at == 3 else [3])
    caplog.clear()
    search(tools, Forced(), checkpoint=create_checkpoint(path, True), **conf)
    assert epochs_told(caplog) == again


# ------------------------------------------------------------------------------------------------- interrupted, resumed

STOP = {"eigenvalue": "stop", "eigenvalue_window": 2, "eigenvalue_lag": 2}  # at epoch 3, back to epoch 1


@pytest.mark.parametrize("every", [1, 2])
@pytest.mark.parametrize("killed_at", [1, 2, 3])
def test_interrupted_search_stops_alike(
    tools: Any, tmp_path: Path, rising: None, killed_at: int, every: int, without_seconds: Any
) -> None:
    conf = {"epochs": 6, "checkpoint_every_epochs": every, "max_steps_per_epoch": 1}
    whole_log: Log = []
    parts_log: Log = []
    whole = search(tools, Darts(lr=0.3), whole_log, stabilize=STOP, **conf)
    path = tmp_path / "parts.pt"
    checkpoint, killer = create_checkpoint(path, False), tools.kill_after("search", killed_at)
    with pytest.raises(tools.killed):
        search(tools, Darts(lr=0.3), stabilize=STOP, checkpoint=checkpoint, listener=killer, **conf)
    resumed = search(tools, Darts(lr=0.3), parts_log, stabilize=STOP, checkpoint=create_checkpoint(path, True), **conf)
    assert whole.stopped
    assert resumed.stopped
    assert whole_log[-1]["stop"]["returned_epoch"] == 1
    assert whole_log[-1]["returned_epoch"] == 1
    assert parts_log[-2:] == whole_log[-2:]
    assert same(state(resumed.supergraph), state(whole.supergraph))
    assert without_seconds(resumed.metrics.to_list()) == without_seconds(whole.metrics.to_list())


def test_stopped_search_that_is_resumed_does_nothing(tools: Any, tmp_path: Path, rising: None) -> None:
    """It is saved when it stops, whatever the epoch."""
    log: Log = []
    path = tmp_path / "a.pt"
    conf = {"epochs": 6, "max_steps_per_epoch": 1, "checkpoint_every_epochs": 3, "stabilize": STOP}
    first = search(tools, Darts(lr=0.3), checkpoint=create_checkpoint(path, False), **conf)
    before = state(first.supergraph)
    first.fit(data(tools))  # once more
    assert first.steps == 4
    again = search(tools, Darts(lr=0.3), log, checkpoint=create_checkpoint(path, True), **conf)
    assert again.stopped
    assert (again.steps, log, again.epoch) == (0, [], 4)
    assert same(state(again.supergraph), before)
    assert again.metrics.to_list() == first.metrics.to_list()


def test_other_settings_are_another_run(tools: Any, tmp_path: Path) -> None:
    search(tools, Darts(), epochs=1, checkpoint=create_checkpoint(tmp_path / "a.pt", False))
    with pytest.raises(ValueError, match=r"is of another run .*stabilize: .*skip_dropout=0\.0.*skip_dropout=0\.5"):
        search(
            tools,
            Darts(),
            epochs=1,
            stabilize={"skip_dropout": 0.5},
            checkpoint=create_checkpoint(tmp_path / "a.pt", True),
        )


def test_run_folder_holds_what_the_stop_returned_and_stays_as_it_is(tools: Any, rising: None) -> None:
    conf = tools.conf(
        search=tools.search_conf(epochs=6, max_steps_per_epoch=1, stabilize=StabilizeConf(**STOP)),
        retrain=tools.retrain_conf(epochs=0),
    )
    folder = tools.folder("run", conf)
    summary = prepare(conf, tools.context(folder), tools.space, Darts(lr=0.3)).run()
    lines = folder.read_lines("alphas.jsonl")
    assert [line["epoch"] for line in lines] == [0, 1, 2, 3, 3]
    assert lines[3]["stop"]["returned_epoch"] == lines[4]["returned_epoch"] == 1
    found = ModelDesc.load(folder / "arch.json")
    assert str(found.genotype()) == lines[1]["genotype"] == lines[4]["genotype"] == summary["genotype"]
    assert lines[4]["cells"] == lines[1]["cells"]
    assert summary["search_epochs"] == 4
    names = ("alphas.jsonl", "metrics.jsonl", "arch.json")
    before = [(folder / name).read_bytes() for name in names]
    again = prepare(conf, tools.context(folder, resume=True), tools.space, Darts(lr=0.3)).run()
    assert again == summary
    assert [(folder / name).read_bytes() for name in names] == before
