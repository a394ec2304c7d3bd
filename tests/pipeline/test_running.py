"""Tests of ``src/gradnas/pipeline/running.py``."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from gradnas.config import RunConf
from gradnas.pipeline import RunFolder, running
from gradnas.pipeline.running import is_settled, search_seconds
from gradnas.training import CheckPoint


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
