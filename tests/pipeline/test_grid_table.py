"""Tests of ``src/gradnas/pipeline/grid_table.py``: the best row, the front against its definition, the files."""

import csv
import io
import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradnas.pipeline.grid_table import COLUMNS, GridRow, best_row, front_rows, front_text, table_text
from gradnas.report.records.combination import Combination
from gradnas.training import EpochRecord, Metrics, Score

accuracies = st.one_of(st.none(), st.sampled_from([10.0, 30.0, 50.0, 90.0]), st.floats(0, 100))
Points = list[tuple[int, float | None]]
points = st.lists(st.tuples(st.integers(1, 6), accuracies), max_size=12)


def row(macs: int = 5, val_top1: float | None = 50.0, **changes: Any) -> GridRow:
    default = GridRow(
        reductions=1,
        cells=4,
        nodes=2,
        train_top1=60.0,
        train_epoch=1,
        val_top1=val_top1,
        val_epoch=0,
        macs=macs,
        params=12,
        peak_memory_bytes=3 * 2**19,
        seconds=1.25,
    )
    return replace(default, **changes)


def by_definition(rows: list[GridRow]) -> list[int]:
    """Points (x = multiply-adds, y = 1 - accuracy) that none beats, by rising x; of exact duplicates the first."""
    known = {k: (r.macs, 1 - r.val_top1 / 100) for k, r in enumerate(rows) if r.val_top1 is not None}

    def dominates(p: tuple[int, float], q: tuple[int, float]) -> bool:
        return p[0] <= q[0] and p[1] <= q[1] and (p[0] < q[0] or p[1] < q[1])

    free = [k for k, q in known.items() if not any(dominates(p, q) for p in known.values())]
    first = [k for k in free if not any(known[j] == known[k] for j in free if j < k)]
    return sorted(first, key=lambda k: known[k][0])


@given(points)
def test_front_is_that_of_the_definition(points: Points) -> None:
    rows = [row(macs, top1) for macs, top1 in points]
    assert list(front_rows(rows)) == by_definition(rows)


@given(points.filter(bool))
def test_best_is_the_most_accurate_then_the_cheapest_then_the_earliest(points: Points) -> None:
    rows = [row(macs, top1) for macs, top1 in points]
    known = [(-(top1 if top1 is not None else -math.inf), macs, k) for k, (macs, top1) in enumerate(points)]
    error = [1 - top1 / 100 for _, top1 in points if top1 is not None]
    found = best_row(rows)
    if len(set(error)) == len({top1 for _, top1 in points if top1 is not None}):  # rounding may make errors equal
        assert found == min(known)[2]
    assert rows[found].error == min(error, default=None)


def test_best_by_hand() -> None:
    assert best_row([row(5, 80.0), row(5, 90.0), row(4, 90.0), row(4, 90.0), row(1, None)]) == 2
    assert best_row([row(5, None), row(4, None)]) == 1
    assert best_row([row(1, None), row(9, 0.0)]) == 1


def record(epoch: int, train: float | None, val: float | None) -> EpochRecord:
    scores = [None if top1 is None else Score(1.0, top1) for top1 in (train, val)]
    return EpochRecord("x", epoch, train=scores[0], val=scores[1], seconds=0.5)


def test_row_has_the_best_epochs_the_earliest_of_equals() -> None:
    metrics = Metrics([record(0, 10.0, math.nan), record(1, 40.0, 30.0), record(2, 40.0, 20.0), record(3, 39.0, 30.0)])
    made = GridRow.of(Combination(1, 5, 3), metrics, macs=7, params=8, peak_memory_bytes=None, seconds=2.0)
    assert (made.train_top1, made.train_epoch, made.val_top1, made.val_epoch) == (40.0, 1, 30.0, 1)
    assert (made.reductions, made.cells, made.nodes, made.combination) == (1, 5, 3, Combination(1, 5, 3))
    assert (made.macs, made.params, made.peak_memory_bytes, made.seconds) == (7, 8, None, 2.0)
    assert made.error == pytest.approx(0.7)
    assert GridRow.from_dict(made.to_dict()) == made


def test_row_without_a_number_says_so() -> None:
    metrics = Metrics([record(0, 10.0, None), record(1, 20.0, math.nan)])
    made = GridRow.of(Combination(1, 5, 3), metrics, macs=7, params=8, peak_memory_bytes=None, seconds=2.0)
    assert (made.val_top1, made.val_epoch, made.error) == (None, None, None)


def test_table_can_be_read_by_any_program() -> None:
    rows = [row(5, 87.25), row(6, None, val_epoch=None, nodes=3, peak_memory_bytes=None)]
    first, second = csv.DictReader(io.StringIO(table_text(rows)), delimiter="\t")
    assert tuple(first) == COLUMNS
    assert first == {
        **{"reductions": "1", "cells": "4", "nodes": "2", "train_top1": "60.0000", "train_epoch": "1"},
        **{"val_top1": "87.2500", "val_epoch": "0", "macs": "5", "params": "12"},
        **{"peak_memory_mib": "1.5", "seconds": "1.250"},
    }
    assert (second["nodes"], second["val_top1"], second["val_epoch"], second["peak_memory_mib"]) == ("3", "", "", "")
    assert table_text([]) == "\t".join(COLUMNS) + "\n"


def test_front_file_has_errors_by_rising_multiply_adds() -> None:
    rows = [row(9, 90.0, cells=9), row(3, 80.0, cells=3), row(5, 70.0, cells=5)]
    assert front_text(rows) == ("reductions\tcells\tnodes\tmacs\terror\n1\t3\t2\t3\t0.200000\n1\t9\t2\t9\t0.100000\n")
