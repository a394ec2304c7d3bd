"""Tests of ``table.py`` and ``conclusions.py``: the numbers as text, and what is said of them."""

import csv
import io
from collections.abc import Callable
from pathlib import Path

import pytest

from gradnas.report.comparison.compare import compare
from gradnas.report.comparison.conclusions import conclusions
from gradnas.report.comparison.rows import Row
from gradnas.report.comparison.run_statistics import Difference, spread
from gradnas.report.comparison.table import comparison_csv, comparison_table, count_text, gain_text, seeds_text
from gradnas.report.records.plain_text import columns_of

WriteRun = Callable[..., Path]


@pytest.fixture
def rows(write_run: WriteRun) -> tuple[Row, ...]:
    accuracies = {"darts": (97.0, 97.5, 98.0), "xnas": (98.75, 99.0, 99.25), "gdas": (96.0,)}
    runs = [
        write_run(
            f"{s}{k}",
            strategy=s,
            seed=k,
            accuracy=a,
            macs=4e5 + 1e5 * k,
            baseline=95.0 + k / 4 if s == "darts" else None,
        )
        for s, values in accuracies.items()
        for k, a in enumerate(values)
    ]
    return compare(runs).rows


def test_table_by_hand(rows: tuple[Row, ...]) -> None:
    table = comparison_table(rows)
    lines = [dict(zip(table.header, line, strict=True)) for line in table.rows]
    assert lines[0] == {
        "method": "xnas",
        "test accuracy, %": "99.00 ± 0.25",
        "runs": "3",
        "seeds": "0–2",
        "vs random, points": "+3.75",
        "parameters": "16.7 k (13.3–20.0)",
        "MACs": "0.50 M (0.40–0.60)",
        "search": "11.0 s",
        "retraining": "3.0 s",
        "Pareto": "front",
    }
    assert [line["method"] for line in lines] == ["xnas", "darts", "gdas", "random search at equal budget"]
    assert lines[2]["test accuracy, %"] == "96.00 (one run)"
    assert lines[2]["MACs"] == "0.40 M"
    assert [line["Pareto"] for line in lines] == ["front", "", "front", ""]
    assert lines[3]["vs random, points"] == lines[3]["retraining"] == "–"


def test_lines_of_the_text_are_aligned(write_run: WriteRun, rows: tuple[Row, ...]) -> None:
    text = str(compare([write_run("a"), write_run("b", strategy="xnas", accuracy=9.5, found=True)]))
    header, *lines = text.splitlines()
    end = header.index("test accuracy, %") + len("test accuracy, %")
    assert [line[end - 9 : end] for line in lines] == ["(one run)"] * 2
    brief = comparison_table(rows, brief=True)
    assert brief.header == ("method", "test accuracy, %", "runs", "vs random, points", "MACs", "search")
    assert brief.width() < comparison_table(rows).width()
    assert (
        brief.width()
        == sum(max(columns_of(c) for c in column) + 3 for column in zip(brief.header, *brief.rows, strict=True)) + 1
    )


def test_columns_without_a_value_are_left_out(write_run: WriteRun) -> None:
    header = comparison_table(compare([write_run("a")]).rows).header
    assert "vs random, points" not in header
    assert "machine" not in header


def test_machines_are_a_column_when_they_differ(write_run: WriteRun) -> None:
    runs = [write_run("a"), write_run("b", strategy="xnas", environment={"processor": "another"})]
    table = comparison_table(compare(runs).rows)
    assert table.header[-1] == "machine"
    assert {line[-1] for line in table.rows} == {"a processor, 2 threads", "another, 2 threads"}


@pytest.mark.parametrize(
    ("seeds", "text"), [((), ""), ((0,), "0"), ((1, 0), "0, 1"), ((0, 1, 2), "0–2"), ((5, 7, 8, 9, 0), "0, 5, 7–9")]
)
def test_seeds(seeds: tuple[int, ...], text: str) -> None:
    assert seeds_text(seeds) == text


def test_gains() -> None:
    assert gain_text(None) == "–"
    assert gain_text(Difference(points=-0.001, low=None, high=None)) == "+0.00"
    gain = Difference(points=-1.234, low=-2.0, high=0.25)
    assert gain_text(gain) == "−1.23"
    assert gain_text(gain, interval=True) == "−1.23 (−2.00 to +0.25)"


def test_counts() -> None:
    assert count_text(None) == "–"
    assert count_text(spread([3.3e6, 3.3e6])) == "3.30 M"
    assert count_text(spread([3.3e6, 3.5e6])) == "3.40 M (3.30–3.50)"
    assert count_text(spread([90e3, 130e3])) == "0.11 M (90.0 k–0.13 M)"
    assert count_text(spread([100.0, 200.0])) == "150 (100–200)"


def test_csv_has_every_number_in_full(rows: tuple[Row, ...]) -> None:
    records = list(csv.DictReader(io.StringIO(comparison_csv(rows))))
    assert [record["method"] for record in records] == [row.name for row in rows]
    assert len(rows) == len(records)
    for row, record in zip(rows, records, strict=True):
        assert row.accuracy is not None
        assert float(record["test_accuracy_percent_mean"]) == row.accuracy.mean
        assert record["test_accuracy_percent_std"] == ("" if row.accuracy.std is None else str(row.accuracy.std))
        assert record["on_pareto_front"] == str(row.on_front).lower()
    assert records[0]["seeds"] == "0 1 2"
    assert records[0]["gain_over_random_points"] == "3.75"
    assert records[0]["macs_min"] == "400000.0"
    assert records[-1]["retrain_s_mean"] == ""
    assert records[-1]["kind"] == "baseline"


def test_csv_holds_no_formula(write_run: WriteRun) -> None:
    found = compare([write_run("a", strategy="my.=cmd()", summary={"dataset": '@sum("a",b)\n'})])
    record = next(csv.DictReader(io.StringIO(found.to_csv())))
    assert record["method"] == "'=cmd()"
    assert record["data_set"] == '\'@sum("a",b)'


def said(rows: tuple[Row, ...], n_test: int | None = 360) -> str:
    return " ".join(conclusions(rows, {"digits": n_test} if n_test else {}))


def test_what_is_shown_open_and_unknown(rows: tuple[Row, ...]) -> None:
    text = said(rows)
    assert "The highest mean is that of xnas, 99.00 %." in text
    assert (
        "It lies above random search at equal budget by more than the spread over runs and the choice of test images "
        "explain (95 %)."
    ) in text
    assert "It lies above darts by more than the spread over runs explains (95 %), but on these test images" in text
    assert "Against gdas nothing can be said: the spread over runs is not known." in text
    assert "Better than random search at equal budget: xnas." in text
    assert "Better than random search at equal budget on these test images, perhaps not on others: darts." in text
    assert "Not shown to differ from random search at equal budget: gdas." in text
    assert "Of one run only: gdas." in text
    assert "rough guess: xnas, darts and random search at equal budget." in text


def test_overlap_may_be_chance(write_run: WriteRun) -> None:
    runs = [
        write_run(f"{s}{k}", strategy=s, seed=k, accuracy=97 + shift + k, baseline=99.5 + k / 100 if shift else None)
        for s, shift in (("darts", 0.0), ("xnas", 0.25))
        for k in range(2)
    ]
    text = said(compare(runs).rows)
    assert "may be chance: its 95 % interval over runs includes zero" in text
    assert "Not shown to differ from random search at equal budget: xnas and darts." in text
    assert "rough guess: all rows" in text


def test_worse_than_random_is_said(write_run: WriteRun) -> None:
    runs = [write_run(f"{k}", seed=k, accuracy=93 + k / 10, baseline=95 + k / 10) for k in range(3)]
    runs += [write_run(f"x{k}", strategy="xnas", seed=k, accuracy=70 + k / 10) for k in range(3)]
    runs += [write_run(f"g{k}", strategy="gdas", seed=k, accuracy=99.9 + k / 100) for k in range(3)]
    text = said(compare(runs).rows)
    assert "Worse than random search at equal budget: xnas." in text
    assert "Worse than random search at equal budget on these test images, perhaps not on others: darts." in text
    assert "Better than random search at equal budget: gdas." in text


def test_one_image_between_equal_seeds_shows_nothing(write_run: WriteRun) -> None:
    accuracies = {"darts": 100 * 356 / 360, "xnas": 100 * 355 / 360}
    runs = [
        write_run(f"{s}{k}", strategy=s, seed=k, accuracy=a, baseline=98.8)
        for s, a in accuracies.items()
        for k in range(2)
    ]
    text = " ".join(compare(runs).conclusions)
    assert "The difference to random search at equal budget and xnas may be chance" in text
    assert "lies above" not in text
    assert "Better than" not in text


def test_an_equal_mean_is_shared(write_run: WriteRun) -> None:
    runs = [write_run(f"d{k}", seed=k, accuracy=98.0 + k, baseline=99.0 - k) for k in range(2)]
    runs += [write_run(f"x{k}", strategy="xnas", seed=k, accuracy=50.0 + k) for k in range(2)]
    text = said(compare(runs).rows, 1000)
    assert "darts and random search at equal budget share the highest mean, 98.50 %. They lie above xnas by" in text
    assert "highest mean is that of" not in text


def test_a_missing_baseline_and_the_test_images_are_said(write_run: WriteRun) -> None:
    rows = compare([write_run("a", accuracy=50.0)]).rows
    text = said(rows, 100)
    assert "No run has a random baseline" in text
    assert "same 100 test images" in text
    assert "between 40.38 % and 59.62 %" in text  # Wilson's interval of 50 in 100
    assert "test images" not in said(rows, None)


def test_data_sets_are_judged_apart(write_run: WriteRun) -> None:
    runs = [write_run("a", accuracy=99.0), write_run("b", strategy="xnas", accuracy=70.0, summary={"dataset": "other"})]
    found = compare(runs, mixed=True)
    text = " ".join(found.conclusions)
    assert "digits: " in text
    assert "other: " in text
    assert "highest mean" not in text
