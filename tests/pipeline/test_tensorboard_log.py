"""Tests of ``src/gradnas/pipeline/tensorboard_log.py``: what TensorBoard reads is what the logs of the run say."""

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import gradnas as gn
from gradnas.cli import main
from gradnas.config import ComponentConf, RunConf, from_yaml
from gradnas.foundation.checksums import unseal
from gradnas.pipeline import RunFolder, prepare, refuse_early
from gradnas.pipeline.tensorboard_log import TensorBoardLog, check_tensorboard
from gradnas.training import EpochRecord, Score

Scalars = dict[str, list[tuple[int, float]]]


def events(folder: Path) -> Any:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    accumulator = EventAccumulator(str(folder), size_guidance={"scalars": 0, "tensors": 0, "histograms": 0})
    accumulator.Reload()
    return accumulator


def scalars(folder: Path) -> Scalars:
    read = events(folder)
    return {tag: [(e.step, e.value) for e in read.Scalars(tag)] for tag in read.Tags()["scalars"]}


def texts(folder: Path, tag: str) -> list[tuple[int, str]]:
    found = events(folder).Tensors(f"{tag}/text_summary")
    return [(event.step, event.tensor_proto.string_val[0].decode()) for event in found]


def expected(run: Path, phase: str) -> Scalars:
    """The curves that the two logs of the run hold."""
    curves: Scalars = {}

    def add(tag: str, epoch: int, value: float | None) -> None:
        if value is not None:
            curves.setdefault(tag, []).append((epoch, pytest.approx(value, rel=1e-6)))

    for record in lines(run / "metrics.jsonl"):
        if record["phase"] == phase:
            add("lr", record["epoch"], record["lr"])
            add("seconds", record["epoch"], record["seconds"])
            for split in ("train", "val", "test"):
                for name, value in (record[split] or {}).items():
                    add(f"{name}/{split}", record["epoch"], value)
    for record in lines(run / "alphas.jsonl") if phase == "search" else ():
        for name in ("entropy", "gap", "skips", "parameter_free", "changed_edges", "discretization_drop", "eigenvalue"):
            add(f"search/{name}", record["epoch"], record[name])
        for kind, cell in record["cells"].items():
            if "survivors" in cell:
                add(f"survivors/{kind}", record["epoch"], sum(map(sum, cell["survivors"])))
    return curves


def lines(path: Path) -> Iterator[dict[str, Any]]:
    yield from map(json.loads, path.read_text(encoding="utf-8").splitlines())


def experiment(tools: Any, folder: RunFolder | None, **changes: Any) -> Any:
    conf = tools.conf(strategy=ComponentConf(name="xnas"), tensorboard=True)
    return prepare(conf, tools.context(folder, tensorboard=True, **changes), tools.space)


def test_events_are_the_curves_of_the_logs(tools: Any) -> None:
    folder = tools.folder()
    experiment(tools, folder).run()
    assert sorted(path.name for path in (folder / "tensorboard").iterdir()) == ["retrain", "search"]
    for phase in ("search", "retrain"):
        assert scalars(folder / "tensorboard" / phase) == expected(folder.path, phase)
    curves = scalars(folder / "tensorboard" / "search")
    assert {"loss/train", "top1/val", "lr", "search/entropy", "survivors/regular"} <= set(curves)
    assert [step for step, _ in curves["loss/train"]] == [0, 1]
    assert [step for step, _ in scalars(folder / "tensorboard" / "retrain")["top1/test"]] == [2]


def test_weights_and_would_be_cells_are_there(tools: Any) -> None:
    folder = tools.folder()
    experiment(tools, folder).search()
    where = folder / "tensorboard" / "search"
    last = list(lines(folder / "alphas.jsonl"))[-1]
    for kind, cell in last["cells"].items():
        (_, histogram) = [(e.step, e.histogram_value) for e in events(where).Histograms(f"weights/{kind}")][-1]
        weights = [weight for row in cell["weights"] for weight in row]
        assert histogram.num == len(weights)
        assert histogram.sum == pytest.approx(sum(weights), rel=1e-6)
        (_, first), (step, cells) = texts(where, f"would_be/{kind}")
        assert step == 1
        assert cells.startswith("    n0 = ")
        assert all(op in cells for node in last["would_be"][kind]["nodes"] for op, *_ in node)
        assert first.count("\n") == 1
    assert [step for step, _ in texts(where, "words")] == [0, 1]
    assert last["words"] in texts(where, "words")[-1][1]


@pytest.mark.parametrize("epoch", [0, 1])
def test_a_resumed_run_has_no_step_twice(tools: Any, epoch: int) -> None:
    folder = tools.folder()
    with pytest.raises(tools.killed):
        experiment(tools, folder, listener=tools.kill_after("search", epoch)).run()
    assert [step for step, _ in scalars(folder / "tensorboard" / "search")["loss/train"]] == list(range(epoch + 1))
    experiment(tools, folder, resume=True).run()
    for phase in ("search", "retrain"):
        assert scalars(folder / "tensorboard" / phase) == expected(folder.path, phase)
    assert [step for step, _ in texts(folder / "tensorboard" / "search", "words")] == [0, 1]


def test_looking_again_at_a_finished_run_adds_nothing(tools: Any) -> None:
    folder = tools.folder()
    experiment(tools, folder).run()
    before = {path: path.read_bytes() for path in (folder / "tensorboard").rglob("*") if path.is_file()}
    experiment(tools, folder, resume=True).run()
    assert {path: path.read_bytes() for path in (folder / "tensorboard").rglob("*") if path.is_file()} == before


def test_runs_do_not_write_events_unless_asked(tools: Any) -> None:
    folder = tools.folder()
    prepare(tools.conf(), tools.context(folder), tools.space).search()
    assert not (folder / "tensorboard").exists()


def test_events_change_nothing_else(tools: Any, without_seconds: Any) -> None:
    plain, watched = tools.folder("plain"), tools.folder("watched")
    conf = tools.conf(strategy=ComponentConf(name="xnas"))
    prepare(conf, tools.context(plain), tools.space).run()
    experiment(tools, watched).run()
    for log in ("metrics.jsonl", "alphas.jsonl"):
        told = [[unseal(line) for line in lines(folder / log)] for folder in (plain, watched)]
        assert without_seconds(told[0]) == without_seconds(told[1])


def test_numbers_that_are_none_are_left_out(tmp_path: Path) -> None:
    log = TensorBoardLog(tmp_path / "x")
    log.epoch(EpochRecord("search", 0, train=Score(float("nan"), 50.0), lr=None, seconds=1.5))
    assert scalars(tmp_path / "x") == {"top1/train": [(0, 50.0)], "seconds": [(0, 1.5)]}  # on disk when it returns


def test_an_early_stop_repeats_no_step(tmp_path: Path) -> None:
    cells = {"regular": {"edges": [[0, 0]], "ops": ["a", "b"], "weights": [[0.25, 0.75]]}}
    log = TensorBoardLog(tmp_path / "x")
    log.alphas({"epoch": 3, "cells": cells, "entropy": 0.5, "words": "said", "diagnosis": ["stopped"]})
    log.alphas({"epoch": 3, "returned_epoch": 1, "cells": cells, "entropy": 0.7})
    assert scalars(tmp_path / "x") == {"search/entropy": [(3, 0.5)]}
    assert texts(tmp_path / "x", "words") == [(3, "said\n\nstopped")]
    assert texts(tmp_path / "x", "returned") == [(3, "the architecture of epoch 1")]


def test_a_missing_package_is_refused_before_the_folder_is_made(tools: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(ImportError, match=r"pip install 'gradnas\[tensorboard\]'"):
        check_tensorboard()
    with pytest.raises(ImportError, match="TensorBoard is not installed"):
        refuse_early(experiment(tools, None))
    path = tools.tmp_path / "never"
    with pytest.raises(ImportError, match="TensorBoard is not installed"):
        gn.search(tools.space, tools.source, out=path, tensorboard=True, batch_size=8, epochs=1)
    assert not path.exists()


def test_from_python_and_from_the_command_line(tools: Any) -> None:
    path = tools.tmp_path / "python"
    quick = {"epochs": 1, "batch_size": 8, "max_steps_per_epoch": 1}
    result = gn.search(tools.space, tools.source, out=path, tensorboard=True, device="cpu", **quick)
    assert result.config.tensorboard
    assert scalars(path / "tensorboard" / "search") == expected(path, "search")
    gn.retrain(result, train_set=tools.source, channels=2, cells=3, out=tools.tmp_path / "later", **quick)
    assert scalars(tools.tmp_path / "later" / "tensorboard" / "retrain")
    small = {"train_set": tools.source, "channels": 2, "cells": 3, "tensorboard": False}
    gn.retrain(result, out=tools.tmp_path / "silent", **small, **quick)
    assert not (tools.tmp_path / "silent" / "tensorboard").exists()
    out = tools.tmp_path / "cli"
    tiny = ("--max-steps", "1", "--epochs", "1", "--space.options.channels", "2", "--space.options.cells", "3")
    options = (
        *tiny,
        "--space.options.nodes",
        "1",
        "--space.options.reductions",
        "1",
        "--device",
        "cpu",
        "--tensorboard",
        "true",
        "--out",
        str(out),
    )
    assert main(["search", *options]) == 0
    assert scalars(out / "tensorboard" / "search") == expected(out, "search")
    again = ("--epochs", "1", "--max-steps", "1", "--channels", "2", "--cells", "3", "--batch_size", "16")
    for value, written in (("true", True), ("false", False)):
        target = tools.tmp_path / value
        assert main(["retrain", str(out), *again, "--tensorboard", value, "--out", str(target)]) == 0
        assert (target / "tensorboard" / "retrain").exists() == written


def test_the_setting_is_stored_and_off_by_default() -> None:
    assert not RunConf().tensorboard
    assert from_yaml("tensorboard: true") == replace(RunConf(), tensorboard=True)


def test_tensorboard_is_not_imported_unless_asked_for() -> None:
    code = "import sys, gradnas, gradnas.pipeline, gradnas.cli.running; print('tensorboard' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=300)
    assert done.stdout == "False\n"
