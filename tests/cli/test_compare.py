"""Tests of ``gradnas compare``."""

import csv
from collections.abc import Callable
from pathlib import Path

import pytest

WriteRun = Callable[..., Path]
Gradnas = Callable[..., object]


@pytest.fixture
def runs(write_run: WriteRun) -> list[Path]:
    made = [write_run(f"d{k}", seed=k, accuracy=97.0 + k, baseline=96.0 + k) for k in range(2)]
    return [*made, write_run("x", strategy="xnas", accuracy=98.0)]


def test_table_notes_and_page(gradnas, runs: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]  # the fixture's class is private
    monkeypatch.setenv("COLUMNS", "80")
    (runs[0].parent / "notes.txt").write_text("")
    done = gradnas("compare", *sorted(runs[0].parent.iterdir()))
    assert (done.code, done.err) == (0, "")
    lines = done.out.splitlines()
    assert lines[0].split("  ")[0] == "method"
    assert lines[0].endswith("Pareto")  # a pipe has room for every column
    assert [line.split("  ")[0] for line in lines[1:4]] == ["xnas", "darts", "random search at equal budget"]
    assert "97.50 ± 0.71" in lines[2]
    assert any(line.startswith("note: ") and "notes.txt is a file" in line for line in lines)
    assert any("highest mean is that of xnas" in line for line in lines)
    page = runs[0].parent / "comparison.html"
    assert lines[-1] in (f"page: {page}", f"page: {page.relative_to(Path.cwd())}")
    assert page.is_file()
    again = gradnas("compare", *sorted(runs[0].parent.iterdir()))  # now with the page among the paths
    assert again.code == 0
    assert "comparison.html is a file" in again.out


def test_out_and_csv(gradnas, runs: list[Path], tmp_path: Path) -> None:  # type: ignore[no-untyped-def]  # as above
    done = gradnas("compare", *runs, "--out", tmp_path / "p.html", "--csv", tmp_path / "t.csv")
    assert done.code == 0
    assert f"csv: {tmp_path / 't.csv'}" in done.out
    assert (tmp_path / "p.html").is_file()
    assert not (runs[0].parent / "comparison.html").exists()
    with open(tmp_path / "t.csv", encoding="utf-8", newline="") as stream:
        assert [record["method"] for record in csv.DictReader(stream)][:2] == ["xnas", "darts"]


@pytest.mark.parametrize("option", ["--out", "--csv"])
def test_a_place_that_cannot_be_written_to_does_not_cost_the_table(gradnas, runs: list[Path], option: str) -> None:  # type: ignore[no-untyped-def]  # as above
    (runs[0].parent / "file").write_text("")
    ending = "html" if option == "--out" else "csv"
    done = gradnas("compare", *runs, option, runs[0].parent / "file" / f"p.{ending}")
    assert done.code == 1
    assert "97.50 ± 0.71" in done.out
    assert "highest mean" in done.out
    assert f"p.{ending}" in done.err


def test_a_stray_folder_is_skipped(gradnas, runs: list[Path]) -> None:  # type: ignore[no-untyped-def]  # as above
    stray = runs[0].parent / "stray"
    stray.mkdir()
    done = gradnas("compare", *sorted(runs[0].parent.iterdir()))
    assert done.code == 0
    assert "note: " in done.out
    assert "stray is no run folder" in done.out
    alone = gradnas("compare", stray)
    assert alone.code == 1
    assert "nothing to compare" in alone.err


def test_mixed(gradnas, runs: list[Path], write_run: WriteRun) -> None:  # type: ignore[no-untyped-def]  # as above
    other = write_run("other", settings={"search": {"epochs": 50}})
    refused = gradnas("compare", *runs, other)
    assert refused.code == 1
    assert refused.out == ""
    assert "search.epochs is 6 in" in refused.err
    assert "--mixed true" in refused.err
    assert not (other.parent / "comparison.html").exists()
    assert gradnas("compare", *runs, other, "--mixed", "false").code == 1
    mixed = gradnas("compare", *runs, other, "--mixed", "true")
    assert mixed.code == 0
    assert "mixed: search.epochs is 6 in" in mixed.out
    assert "darts (search.epochs=50)" in mixed.out


@pytest.mark.parametrize(
    ("args", "code", "message"),
    [
        ([], 2, "needs RUN"),
        (["nowhere"], 1, "no run folder at nowhere"),
        (["RUN", "--mixd", "true"], 2, "Did you mean --mixed?"),
        (["RUN", "--mixed", "perhaps"], 2, "--mixed must be true or false"),
        (["RUN", "--csv", "t.txt"], 2, "--csv must end in .csv"),
        (["RUN", "--out", "t.pdf"], 1, "written as .html"),
    ],
)
def test_wrong_usage(gradnas, runs: list[Path], args: list[str], code: int, message: str) -> None:  # type: ignore[no-untyped-def]  # as above
    done = gradnas("compare", *(runs[0] if arg == "RUN" else arg for arg in args))
    assert done.code == code
    assert message in done.err


@pytest.mark.parametrize(("columns", "has_all"), [(200, True), (80, False)])
def test_a_narrow_terminal_gets_fewer_columns(  # type: ignore[no-untyped-def]  # as above
    gradnas, runs: list[Path], monkeypatch: pytest.MonkeyPatch, columns: int, has_all: bool
) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", str(columns))
    done = gradnas("compare", *runs)
    assert done.code == 0
    assert ("Pareto" in done.out) is has_all
    assert "97.50 ± 0.71" in done.out
    assert "…" not in done.out.partition("note:")[0]


@pytest.mark.slow
def test_real_runs(gradnas, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]  # as above
    tiny = ["--max-steps", "1", "--search.epochs", "1", "--retrain.epochs", "1", "--baseline.samples", "1"]
    tiny += ["--search.batch_size", "16", "--retrain.batch_size", "16", "--retrain.channels", "2", "--device", "cpu"]
    tiny += ["--space.options.channels", "2", "--space.options.nodes", "1"]
    for strategy, seed in (("darts", 0), ("darts", 1), ("snas", 0)):
        out = tmp_path / "runs" / f"{strategy}{seed}"
        assert gradnas("run", "--preset", "demo", "--strategy", strategy, "--seed", seed, *tiny, "--out", out).code == 0
    done = gradnas("compare", *sorted((tmp_path / "runs").iterdir()))
    assert (done.code, done.err) == (0, "")
    rows = [line for line in done.out.splitlines() if line.startswith(("darts ", "snas ", "random search "))]
    assert len(rows) == 3
    assert sum("(one run)" in row for row in rows) == 1
    assert done.out.splitlines()[-1] == "page: runs/comparison.html"
