"""Tests of ``src/gradnas/cli/report.py``."""

import json
from pathlib import Path
from typing import Any

from gradnas.config import RunConf, to_yaml


def made(folder: Path) -> Path:
    """What is in a run folder before the first epoch has ended."""
    folder.mkdir()
    (folder / "config.yaml").write_text(to_yaml(RunConf()))
    (folder / "environment.json").write_text(json.dumps({"gradnas": "0.1.0", "command": "gradnas search"}))
    return folder


def test_report_is_written_anew_and_says_what_is_missing(gradnas: Any, tmp_path: Path) -> None:
    folder = made(tmp_path / "run")
    outcome = gradnas("report", folder)
    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.out.splitlines() == [
        f"report: {folder / 'report.html'}",
        "This run is not finished.",
        "The search has not begun.",
        f"To go on: gradnas resume {folder}",
    ]
    page = (folder / "report.html").read_text()
    assert f"gradnas resume {folder}" in page
    (folder / "report.html").write_text("old")
    gradnas("report", folder)
    assert (folder / "report.html").read_text() == page


def test_damage_is_told_on_stderr_and_not_taken_for_a_search_that_has_not_begun(gradnas: Any, tmp_path: Path) -> None:
    folder = made(tmp_path / "run")
    (folder / "arch.json").write_text("{")
    outcome = gradnas("report", folder)
    assert outcome.code == 0
    assert outcome.err.startswith("gradnas: warning: arch.json cannot be drawn: ")
    assert outcome.out == f"report: {folder / 'report.html'}\n"


def test_a_folder_that_is_no_run_is_refused(gradnas: Any, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    outcome = gradnas("report", "photos")
    assert outcome.code == 1
    assert outcome.err.startswith("gradnas: error: photos is not a run folder: it has none of config.yaml, ")
    assert list((tmp_path / "photos").iterdir()) == []
    outcome = gradnas("report", "nowhere")
    assert outcome.code == 1
    assert "no run folder at nowhere. Give the folder that a search or a retraining wrote." in outcome.err
