"""Tests of ``src/gradnas/pipeline/running.py``."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from gradnas.config import RunConf
from gradnas.pipeline import RunFolder, running
from gradnas.pipeline.running import is_settled, restore_search_log, search_seconds
from gradnas.training import CheckPoint, EpochRecord


def entered(tools: Any, conf: RunConf) -> Any:
    return running(tools.context(), RunFolder.entered(tools.tmp_path / "run", conf), conf, goes_on=False)


def write_checkpoint(folder: RunFolder, phase: str, seconds: float) -> None:
    checkpoint = CheckPoint(folder.checkpoint(phase))
    checkpoint["seconds"] = {"phase": seconds, "epoch": 0.0, "closing": 0.0}
    checkpoint.commit()


def test_an_operation_without_a_deterministic_algorithm_is_explained(tools: Any) -> None:
    conf = replace(tools.conf(), deterministic=True)
    explained = pytest.raises(ValueError, match=r"put_ has no deterministic algorithm on cpu\. Leave --det")
    with explained, entered(tools, conf):
        torch.zeros(3).put_(torch.zeros(3, dtype=torch.int64), torch.ones(3))


@pytest.mark.parametrize("deterministic", [False, True])
def test_other_errors_stay_what_they_are(tools: Any, deterministic: bool) -> None:
    conf = replace(tools.conf(), deterministic=deterministic)
    with pytest.raises(RuntimeError, match="a fault of ours"), entered(tools, conf):
        raise RuntimeError("a fault of ours")


@pytest.mark.parametrize("max_time", [1e-9, "0.000000001s"])
def test_limit_of_the_configuration_is_that_of_the_run(tools: Any, max_time: str | float) -> None:
    with entered(tools, replace(tools.conf(), max_time=max_time)) as context:
        assert context.stop.time_is_up()


def test_time_of_a_search_is_that_of_its_newest_checkpoints(tools: Any) -> None:
    folder = tools.folder()
    assert search_seconds(folder) == 0
    for phase, seconds in (("search_0", 1.0), ("search_0", 2.0), ("search_1", 4.0), ("retrain", 8.0)):
        write_checkpoint(folder, phase, seconds)
    write_checkpoint(folder, "baseline_search_0", 16.0)
    assert search_seconds(folder) == 6


def test_damaged_checkpoints_tell_no_time(tools: Any) -> None:
    folder = tools.folder()
    write_checkpoint(folder, "search", 1.0)
    write_checkpoint(folder, "search", 2.0)
    files = CheckPoint(folder.checkpoint("search")).files()
    for path, seconds in zip(files, (1.0, 0.0), strict=True):
        path.write_bytes(b"damaged")
        assert search_seconds(folder) == seconds


def test_a_search_is_settled_once_its_retraining_has_begun(tools: Any) -> None:
    folder = tools.folder()
    assert not is_settled(folder)
    (folder / "arch.json").write_text("{}")
    folder.write_json("summary.json", {"arch_hash": "abc"})
    assert not is_settled(folder)
    write_checkpoint(folder, "retrain", 1.0)
    assert is_settled(folder)
    Path(folder / "summary.json").unlink()
    assert not is_settled(folder)


@pytest.mark.parametrize("kept", range(4))
def test_the_log_of_a_search_that_is_over_is_made_whole_again(tools: Any, kept: int) -> None:
    folder = tools.folder()
    written = [EpochRecord(phase, epoch).to_dict() for phase in ("search_2", "search_10") for epoch in range(2)]
    for record in written:
        folder.append("metrics.jsonl", record)
    folder.write_json("summary.json", {"log_lines": {"metrics.jsonl": 4}})
    for phase in ("search_2", "search_10"):
        checkpoint = CheckPoint(folder.checkpoint(phase))
        checkpoint["metrics"] = [record for record in written if record["phase"] == phase]
        checkpoint.commit()
    whole = (folder / "metrics.jsonl").read_bytes()
    (folder / "metrics.jsonl").write_bytes(b"".join(whole.splitlines(keepends=True)[:kept]))
    with pytest.warns(UserWarning, match=rf"metrics\.jsonl lacks {4 - kept} of the 4 lines"):
        restore_search_log(folder)
    assert (folder / "metrics.jsonl").read_bytes() == whole
    restore_search_log(folder)  # nothing to say: warnings are errors


def test_a_log_that_no_checkpoint_can_make_whole_is_told_of(tools: Any) -> None:
    folder = tools.folder()
    folder.write_json("summary.json", {"log_lines": {"metrics.jsonl": 1}})
    write_checkpoint(folder, "search", 1.0)
    for path in CheckPoint(folder.checkpoint("search")).files():
        path.write_bytes(b"damaged")
    with pytest.warns(UserWarning, match=r"lacks 1 of the 1 lines"):
        restore_search_log(folder)
