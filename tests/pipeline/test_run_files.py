"""Tests of ``src/gradnas/pipeline/run_files.py``."""

from pathlib import Path

import pytest

from gradnas.pipeline.run_files import read_object, write_value


def test_a_file_above_the_limit_is_refused_unread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_value(tmp_path / "some.json", {"a": 1})
    assert read_object(tmp_path / "some.json", "") == {"a": 1}
    monkeypatch.setattr("gradnas.pipeline.run_files.MAX_CHARACTERS", 1)
    with pytest.raises(ValueError, match=r"some\.json is damaged: it has \d+ bytes, at most 4 are read\. Put the or"):
        read_object(tmp_path / "some.json", "")
