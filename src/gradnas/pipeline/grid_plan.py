"""Which combinations of the macro grid there are, and which of them cannot be built."""

import warnings
from collections.abc import Iterator
from dataclasses import asdict, dataclass

from gradnas.config import GridConf, SearchConf
from gradnas.pipeline.search_plan import check_aux_tower
from gradnas.report.records.combination import Combination
from gradnas.spaces import ModelDescBuilder, with_changes
from gradnas.strategies import MetaOptimizer, Strategy


@dataclass(frozen=True)
class PlannedCombination:
    """A combination, and why it is skipped; the reason is None for one that can be built."""

    combination: Combination
    reason: str | None


def plan_combinations(
    builder: ModelDescBuilder, grid: GridConf, conf_search: SearchConf, strategy: Strategy | None
) -> tuple[PlannedCombination, ...]:
    """All combinations in the order in which they run: reductions outermost, then cells, then nodes.

    Each number goes from that of the space to the largest of the grid, both included. Descriptions are built, networks
    are not.

    Args:
        builder: The space.
        grid: The largest numbers.
        conf_search: Settings of each search.
        strategy: Of each search, if it has one; what it makes of a description must be possible too.

    Raises:
        ValueError: For a largest number below that of the space; when no combination can be built, with the reasons.
    """
    planned = tuple(
        PlannedCombination(combination, _reason(combination, builder, conf_search, strategy))
        for combination in _combinations(builder, grid)
    )
    if all(each.reason is not None for each in planned):
        reasons = "; ".join(f"{each.combination}: {each.reason}" for each in planned)
        raise ValueError(f"no combination of the grid can be built. {reasons}")
    return planned


def _combinations(builder: ModelDescBuilder, grid: GridConf) -> Iterator[Combination]:
    own = Combination.of(builder.settings)
    ranges = []
    for name, largest in grid.largest().items():
        least = getattr(own, name)
        if largest is not None and largest < least:
            raise ValueError(
                f"grid.max_{name}={largest} is below the {least} {name} of the space, with which the grid begins. "
                f"Raise it, or begin with fewer: space.options.{name}."
            )
        ranges.append(range(least, (least if largest is None else largest) + 1))
    for reductions in ranges[0]:
        for cells in ranges[1]:
            for nodes in ranges[2]:
                yield Combination(reductions, cells, nodes)


def _reason(
    combination: Combination, builder: ModelDescBuilder, conf_search: SearchConf, strategy: Strategy | None
) -> str | None:
    """Why a combination cannot be built; None when it can."""
    needed = 2 * combination.reductions + 1
    if combination.cells < needed:
        need = "reduction needs" if combination.reductions == 1 else "reductions need"
        return f"{combination.reductions} {need} at least {needed} cells, got {combination.cells}"
    conf = with_changes(builder.settings, **asdict(combination))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the search builds it again, and then it is said
            desc = builder.build(conf)
        if isinstance(strategy, MetaOptimizer):
            check_aux_tower(conf_search, desc)
            strategy.supergraph(desc)
    except ValueError as refusal:
        return str(refusal).rstrip(".")
    return None
