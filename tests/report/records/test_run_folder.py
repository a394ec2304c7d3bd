"""Tests of ``src/gradnas/report/records/run_folder.py``."""

import json
from pathlib import Path

import pytest

from gradnas.config import RunConf, to_stored
from gradnas.foundation.checksums import LINE_DIGITS, seal
from gradnas.report import result_card, write_report
from gradnas.report.live.live_view import frame
from gradnas.report.live.look import Look
from gradnas.report.live.run_lines import Lines
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


@pytest.fixture
def sealed(run: Path) -> Path:
    """A run whose files have checksums, as the pipeline writes them."""
    for name in ("environment.json", "summary.json"):
        (run / name).write_text(json.dumps(seal(json.loads((run / name).read_text())), indent=1))
    for name in ("metrics.jsonl", "alphas.jsonl"):
        records = [json.loads(line) for line in (run / name).read_text().splitlines()]
        (run / name).write_text("".join(json.dumps(seal(record, LINE_DIGITS)) + "\n" for record in records))
    (run / "config.yaml").write_text(to_stored(RunConf()))
    return run


def test_files_with_right_checksums_are_read_without_them(sealed: Path) -> None:
    read = read_run_folder(sealed)
    assert read.problems == ()
    assert "checksum" not in read.environment
    assert "checksum" not in read.summary


@pytest.mark.parametrize(
    ("name", "old", "new", "said"),
    [
        ("config.yaml", "seed: 0", "seed: 1", "config.yaml cannot be read: its checksum does not fit"),
        ("summary.json", "97.21", "99.21", "summary.json was changed or damaged since it was written"),
        ("environment.json", "H200", "H100", "environment.json was changed or damaged since it was written"),
        ("arch.json", "sep_conv_3x3", "sep_conv_5x5", "arch.json cannot be drawn: the description was changed or dam"),
        ("baseline/arch.json", '"stride": 1', '"stride": 2', "baseline/arch.json cannot be drawn: the description was"),
        ("metrics.jsonl", '"epoch": 3', '"epoch": 4', "metrics.jsonl, line 4 was changed or damaged since it was wri"),
        ("alphas.jsonl", '"epoch": 3', '"epoch": 4', "alphas.jsonl, line 4 was changed or damaged since it was wri"),
    ],
)
def test_a_changed_file_is_named_by_every_reader(sealed: Path, name: str, old: str, new: str, said: str) -> None:
    text = (sealed / name).read_text()
    assert old in text
    (sealed / name).write_text(text.replace(old, new, 1))
    read = read_run_folder(sealed)
    assert len(read.problems) == 1
    assert read.problems[0].startswith(said)
    assert said in write_report(sealed).read_text()
    assert said in result_card(sealed)
    look = Look(name="run", run=read)
    assert look.damage() == read.problems
    assert any(line.startswith(said) for line in Lines().new(look))
    from rich.console import Console

    console = Console(width=300)
    with console.capture() as shown:
        console.print(frame(look, 300))
    assert said in shown.get()


def test_what_a_resume_overwrites_is_not_advised_to_lose_its_checksum(sealed: Path) -> None:
    text = (sealed / "arch.json").read_text()
    (sealed / "arch.json").write_text(text.replace("sep_conv_3x3", "sep_conv_5x5", 1))
    assert read_run_folder(sealed).unreadable == ("arch.json",)
    assert "delete the field" in read_run_folder(sealed).problems[0]
    (sealed / "checkpoints").mkdir()
    (sealed / "checkpoints" / "search.pt").touch()
    (problem,) = read_run_folder(sealed).problems
    assert "delete the field" not in problem
    assert problem.endswith(f"Delete it, and `gradnas resume {sealed}` makes it again from the checkpoint.")


def test_a_configuration_that_lost_its_checksum_is_named(sealed: Path) -> None:
    text = (sealed / "config.yaml").read_text()
    (sealed / "config.yaml").write_text(text[: text.index("# checksum")])
    (problem,) = read_run_folder(sealed).problems
    assert problem.startswith("config.yaml has no checksum: it was changed by hand, or cut short.")


def test_lines_that_were_lost_since_the_summary_are_counted(sealed: Path) -> None:
    lines = (sealed / "metrics.jsonl").read_bytes().splitlines(keepends=True)
    summary = json.loads((sealed / "summary.json").read_text()) | {"log_lines": {"metrics.jsonl": len(lines)}}
    del summary["checksum"]
    (sealed / "summary.json").write_text(json.dumps(seal(summary)))
    assert read_run_folder(sealed).problems == ()
    (sealed / "metrics.jsonl").write_bytes(b"".join(lines[:-2]))
    (problem,) = read_run_folder(sealed).problems
    assert problem.startswith(f"metrics.jsonl lacks 2 of the {len(lines)} lines that it had when")
    (sealed / "metrics.jsonl").unlink()
    assert read_run_folder(sealed).problems[0].startswith(f"metrics.jsonl lacks {len(lines)} of the {len(lines)} lines")


def test_a_line_that_is_just_written_is_no_damage_to_a_watcher(sealed: Path) -> None:
    with open(sealed / "metrics.jsonl", "a") as log:
        log.write('{"phase": "retr')
    read = read_run_folder(sealed)
    assert "is incomplete" in read.problems[0]
    assert Look(name="run", run=read).damage() == ()


def test_a_file_above_the_limit_is_not_read(sealed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gradnas.report.records.run_folder.MAX_CHARACTERS", 1)
    read = read_run_folder(sealed)
    assert not read.summary
    assert any(problem.startswith("arch.json cannot be drawn: it has ") for problem in read.problems)
