"""Tests of ``grid.py``, ``grid_words.py`` and ``combination.py``: what a grid has left, and what is not read of it."""

import json
from pathlib import Path
from typing import Any

import pytest

from gradnas.arch import CellConf, DatasetConf, ModelDescConf
from gradnas.foundation.checksums import seal
from gradnas.report.records.combination import Combination, combination_of_phase
from gradnas.report.records.grid import Grid, read_grid
from gradnas.report.records.grid_words import COLUMNS, cells_of, grid_sentence, marks_of, sizes_of


def row(cells: int, val_top1: Any = 80.0, **changes: Any) -> dict[str, Any]:
    values: dict[str, Any] = {"reductions": 1, "cells": cells, "nodes": 2, "train_top1": 90.0, "train_epoch": 3}
    values |= {"val_top1": val_top1, "val_epoch": 4, "macs": 1_500_000 * cells, "params": 20_000}
    return {**values, "peak_memory_bytes": 3 * 2**30, "seconds": 65.0, **changes}


def stored(*rows: Any, **changes: Any) -> dict[str, Any]:
    planned = [{"reductions": 1, "cells": cells, "nodes": 2} for cells in (3, 4, 5)]
    skipped = [{"reductions": 2, "cells": 4, "nodes": 2, "reason": "too few cells"}]
    values = {"combinations": planned, "skipped": skipped, "rows": list(rows), "front": [0], "best": {"row": 1}}
    return {**values, **changes}


def read(folder: Path, values: Any) -> tuple[Grid | None, list[str]]:
    (folder / "grid.json").write_text(json.dumps(values), encoding="utf-8")
    problems: list[str] = []
    return read_grid(folder, problems), problems


def test_names_of_a_combination_and_back() -> None:
    size = Combination(1, 5, 2)
    assert (size.phase, size.train_phase) == ("search_r1_c5_n2", "search_r1_c5_n2_train")
    assert (size.folder, size.alphas) == ("metrics/1/5/2", "metrics/1/5/2/alphas.jsonl")
    assert combination_of_phase(size.phase) == (size, "")
    assert combination_of_phase(size.train_phase) == (size, "train")
    assert combination_of_phase(f"{size.phase}_12") == (size, "12")
    assert str(size) == "1 reduction, 5 cells, 2 nodes"
    assert str(Combination(0, 1, 1)) == "0 reductions, 1 cell, 1 node"
    conf = ModelDescConf(
        dataset=DatasetConf(channels=1, image_size=(8, 8), n_classes=5),
        n_cells=5,
        n_reductions=1,
        cell=CellConf(n_nodes=2),
    )
    assert Combination.of(conf) == size


@pytest.mark.parametrize(
    "phase", ["search", "search_0", "retrain", "search_r1_c5", "search_r1_c5_n2_x", "a search_r1_c5_n2"]
)
def test_other_phases_are_none_of_a_grid(phase: str) -> None:
    assert combination_of_phase(phase) is None


def test_rows_skipped_ones_and_marks(tmp_path: Path) -> None:
    grid, problems = read(tmp_path, seal(stored(row(3), row(4, 85.0))))
    assert grid is not None
    assert problems == []
    assert [each.combination for each in grid.rows] == [Combination(1, 3, 2), Combination(1, 4, 2)]
    assert [(each.on_front, each.best) for each in grid.rows] == [(True, False), (False, True)]
    assert [marks_of(each) for each in grid.rows] == ["Pareto front", "best"]
    assert grid.skipped == ((Combination(2, 4, 2), "too few cells"),)
    assert grid.total == 3
    assert sizes_of(grid.rows[0]) == ("1", "3", "2")
    shown = dict(zip(COLUMNS, cells_of(grid.rows[0]), strict=True))
    assert shown == {
        **{"validation": "80.00 %", "epoch": "4", "training": "90.00 %", "MACs": "4.50 M", "parameters": "20.0 k"},
        **{"peak memory": "3.00 GiB", "time": "1 min 05 s"},
    }
    assert grid_sentence(grid) == (
        "Of 3 sizes of the network 2 were searched, and what was found was trained briefly. The best validation "
        "accuracy, 85.00 %, has the one with 1 reduction, 4 cells, 2 nodes."
    )


def test_run_without_a_grid_has_none(tmp_path: Path) -> None:
    problems: list[str] = []
    assert read_grid(tmp_path, problems) is None
    assert problems == []


def test_a_grid_that_has_just_begun(tmp_path: Path) -> None:
    grid, _ = read(tmp_path, stored(front=[], best=None))
    assert grid is not None
    assert grid_sentence(grid) == "Of 3 sizes of the network 0 were searched, and what was found was trained briefly."


@pytest.mark.parametrize(
    "damage",
    [
        {**seal(stored(row(3))), "rows": []},
        [],
        {"rows": 3, "combinations": []},
        {"rows": [], "combinations": None},
        "x",
    ],
    ids=["checksum", "list", "rows", "combinations", "text"],
)
def test_damage_is_named(tmp_path: Path, damage: Any) -> None:
    grid, problems = read(tmp_path, damage)
    assert grid is None
    (problem,) = problems
    assert "grid.json was changed or damaged" in problem
    assert problem.endswith("delete it and continue the run with gradnas resume.")


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000, '{"rows": NaN}'])
def test_text_that_is_no_json_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "grid.json").write_text(text, encoding="utf-8")
    problems: list[str] = []
    assert read_grid(tmp_path, problems) is None
    assert len(problems) == 1


@pytest.mark.parametrize("value", ["many", True, -1, None, 1e999])
def test_values_of_another_kind_are_not_known(tmp_path: Path, value: Any) -> None:
    unknown = {"val_top1": "x", "macs": [], "seconds": None, "peak_memory_bytes": {}, "params": None, "val_epoch": "y"}
    grid, problems = read(
        tmp_path, stored(row(3, **unknown), {**row(4), "cells": value}, 7, best={"row": "b"}, front="all")
    )
    assert grid is not None
    assert [each.combination for each in grid.rows] == [Combination(1, 3, 2)]
    assert problems == ["grid.json has 2 rows that name no combination; they are left out here."]
    assert cells_of(grid.rows[0]) == ("–", "–", "90.00 %", "–", "–", "–", "–")
    assert marks_of(grid.rows[0]) == ""
