"""Tests of ``src/gradnas/report/records/run_folder.py``."""

from pathlib import Path

import pytest

from gradnas.report import write_report
from gradnas.report.live.look import Look
from gradnas.report.records.run_folder import read_run_folder
from gradnas.report.records.run_status import how_to_go_on, unfinished

RESTORE = "Its config.yaml cannot be read: put the right one back before going on."


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("search: {epochs: 4}\n<script>: [", "expected the node content"),
        ("", "it holds no settings"),
        ("[1, 2]", "it holds no settings"),
        ("search: 3", "search.epochs is no number"),
        ("retrain: {epochs: many}", "retrain.epochs is no number"),
        ("baseline: {samples: null}", "baseline.samples is no number"),
    ],
)
def test_a_damaged_configuration_is_named_and_never_finished(run: Path, text: str, why: str) -> None:
    (run / "config.yaml").write_text(text)
    read = read_run_folder(run)
    (problem,) = read.problems
    assert problem.startswith("config.yaml cannot be read: ")
    assert problem.endswith(". What the run was asked for is not known.")
    assert why in problem
    assert unfinished(read) == ("Whether this run is finished is not known.", RESTORE)
    assert how_to_go_on(read) == RESTORE
    assert not Look(name="run", run=read).finished
    page = write_report(run).read_text()
    assert 'id="status"' in page
    assert 'id="problems"' in page


def test_what_a_configuration_leaves_out_is_not_damage(run: Path) -> None:
    (run / "config.yaml").write_text("seed: 3\n")
    read = read_run_folder(run)
    assert read.problems == ()
    assert read.settings == {"seed": 3}
