"""Tests of ``src/gradnas/pipeline/grid_plan.py``: which combinations there are, in which order, and which cannot be."""

from collections.abc import Callable
from dataclasses import astuple
from typing import Any

import pytest

from gradnas.config import GridConf
from gradnas.costs import available_memory
from gradnas.data import DataFacts
from gradnas.pipeline import prepare
from gradnas.pipeline.grid_plan import plan_combinations
from gradnas.pipeline.plan import _Planner
from gradnas.report.records.combination import Combination
from gradnas.spaces import DartsSpace
from gradnas.strategies import Darts, PcDarts, RandomSearch, Strategy

Planned = list[tuple[tuple[int, int, int], str | None]]


@pytest.fixture
def planned(tools: Any) -> Callable[..., Planned]:
    def plan(space: DartsSpace, strategy: Strategy | None = None, **grid: Any) -> Planned:
        conf = tools.search_conf(**grid.pop("search", {}))
        found = plan_combinations(space, GridConf(**grid), conf, strategy)
        return [(astuple(each.combination), each.reason) for each in found]

    return plan


def space(size: int = 8, **options: Any) -> DartsSpace:
    return DartsSpace(1, size, 5, **{"channels": 2, "cells": 3, "nodes": 2, "reductions": 1, **options})


def test_reductions_are_outermost_then_cells_then_nodes(planned: Callable[..., Planned]) -> None:
    sizes = [size for size, _ in planned(space(cells=5), max_reductions=2, max_cells=6, max_nodes=3)]
    assert sizes == [(r, c, n) for r in (1, 2) for c in (5, 6) for n in (2, 3)]


@pytest.mark.parametrize(
    ("grid", "sizes"),
    [
        ({}, [(1, 3, 2)]),
        ({"max_cells": 3}, [(1, 3, 2)]),
        ({"max_cells": 5}, [(1, 3, 2), (1, 4, 2), (1, 5, 2)]),
        ({"max_nodes": 3}, [(1, 3, 2), (1, 3, 3)]),
        ({"max_reductions": 1}, [(1, 3, 2)]),
    ],
)
def test_a_number_without_a_largest_one_stays_that_of_the_space(
    planned: Callable[..., Planned], grid: dict[str, int], sizes: list[tuple[int, int, int]]
) -> None:
    assert planned(space(), **grid) == [(size, None) for size in sizes]


def test_too_few_cells_are_skipped_with_the_reason(planned: Callable[..., Planned]) -> None:
    found = dict(planned(space(), max_reductions=3, max_cells=5))
    assert {size for size, reason in found.items() if reason is None} == {(1, 3, 2), (1, 4, 2), (1, 5, 2), (2, 5, 2)}
    assert dict(planned(space(cells=1, reductions=0), max_reductions=1))[1, 1, 2] == (
        "1 reduction needs at least 3 cells, got 1"
    )
    assert found[2, 4, 2] == "2 reductions need at least 5 cells, got 4"
    assert found[3, 5, 2] == "3 reductions need at least 7 cells, got 5"


def test_what_the_builder_refuses_is_skipped_with_its_reason(planned: Callable[..., Planned]) -> None:
    found = dict(planned(space(size=4, reductions=2, cells=7), max_reductions=3))
    assert found[2, 7, 2] is None
    reason = found[3, 7, 2]
    assert reason is not None
    assert "should halve a map of 1×1" in reason


def test_what_the_strategy_refuses_is_skipped_too(
    planned: Callable[..., Planned], monkeypatch: pytest.MonkeyPatch
) -> None:
    supergraph = PcDarts.supergraph

    def picky(self: PcDarts, desc: Any) -> Any:
        if desc.conf_model_desc.n_cells == 4:
            raise ValueError("four is an unlucky number.")
        return supergraph(self, desc)

    monkeypatch.setattr(PcDarts, "supergraph", picky)
    found = planned(space(), PcDarts(partial=2), max_cells=5)
    assert found == [((1, 3, 2), None), ((1, 4, 2), "four is an unlucky number"), ((1, 5, 2), None)]
    assert dict(planned(space(), RandomSearch(), max_cells=5))[1, 4, 2] is None


def test_without_an_auxiliary_tower_its_loss_is_a_reason(planned: Callable[..., Planned]) -> None:
    tower = DartsSpace(1, 24, 5, channels=2, cells=5, nodes=1, reductions=2, aux_weight=0.4)
    assert planned(tower, Darts(), search={"aux_weight": 0.4}) == [((2, 5, 1), None)]
    with pytest.warns(UserWarning, match="needs at least two reductions"):
        below = space(size=24, cells=5, aux_weight=0.4, reductions=1)
    found = dict(planned(below, Darts(), max_reductions=2, search={"aux_weight": 0.4}))
    assert found[2, 5, 2] is None
    assert "search.aux_weight has no effect" in str(found[1, 5, 2])


@pytest.mark.parametrize(
    ("grid", "message"),
    [
        ({"max_cells": 2}, r"grid\.max_cells=2 is below the 3 cells of the space.*space\.options\.cells"),
        ({"max_nodes": 1, "max_cells": 4}, r"grid\.max_nodes=1 is below the 2 nodes"),
        ({"max_reductions": 0}, r"grid\.max_reductions=0 is below the 1 reductions"),
    ],
)
def test_a_largest_number_below_that_of_the_space_is_refused(
    planned: Callable[..., Planned], grid: dict[str, int], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        planned(space(), **grid)


def test_memory_is_planned_for_the_largest_size(tools: Any) -> None:
    conf = tools.conf(grid=GridConf(max_cells=5, max_reductions=2, max_nodes=3))
    planner = _Planner(prepare(conf, tools.context()), DataFacts.of(tools.source), available_memory("cpu"))
    assert astuple(Combination.of(planner._desc.conf_model_desc)) == (1, 5, 3)


def test_a_grid_of_which_nothing_can_be_built_is_refused_with_all_reasons(
    planned: Callable[..., Planned], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: Darts, desc: Any) -> Any:
        raise ValueError(f"{desc.conf_model_desc.n_cells} cells are too many.")

    monkeypatch.setattr(Darts, "supergraph", refuse)
    with pytest.raises(ValueError, match=r"no combination of the grid can be built.*3 cells, 2 nodes: 3 .*4 cells are"):
        planned(space(), Darts(), max_cells=4)
