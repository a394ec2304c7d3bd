"""Rows of a comparison: runs that differ in nothing but the seed, named by what tells them from the other rows."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Literal

from gradnas.config import RunConf
from gradnas.costs import pareto_front
from gradnas.foundation.plain_text import one_line
from gradnas.report.comparison.compared_run import ComparedRun, Measurement, State
from gradnas.report.comparison.rules import (
    DEFAULT,
    Role,
    Settings,
    counted,
    departures,
    distinguishing,
    importance,
    key_of,
    role_of,
    short_name,
    value_text,
)
from gradnas.report.comparison.run_statistics import Difference, Spread, difference, spread
from gradnas.report.drawing.scene import shortened

BASELINE = "random search at equal budget"
"""Name of the row of the random baselines."""

_OF_THE_SEARCH_ALONE = ("strategy.", "search.stabilize.", "search.finalizers")  # random search has none of it
_LONGEST_NAME = 40
_MOST_DEPARTURES = 3  # settings that a name holds besides those that tell it from others


@dataclass(frozen=True, kw_only=True)
class Row:
    """Repeated runs of one method at one budget on one data set.

    Args:
        name: What it is called: strategy, and what tells it from other rows.
        label: A shorter name, for where rows of its own data set stand alone: what tells it from them, no more.
        kind: A method that was searched with, or the random baseline.
        dataset: Name of the data set.
        settings: The settings that all its runs share and that tell rows apart.
        results: What its runs gave, those without an accuracy among them, by seed.
        gain: Mean accuracy less that of random search at the same budget, in points.
        on_front: True when no other row of the data set is at least as accurate with no more multiply-adds.
    """

    name: str
    label: str
    kind: Literal["method", "baseline"]
    dataset: str
    settings: Settings = field(repr=False)
    results: tuple[Measurement, ...] = field(repr=False)
    gain: Difference | None = None
    on_front: bool = False

    @cached_property
    def tested(self) -> tuple[Measurement, ...]:
        """The results that have a test accuracy: the means are of these."""
        return tuple(result for result in self.results if result.accuracy is not None)

    @cached_property
    def accuracy(self) -> Spread | None:
        """Test accuracy in percent."""
        return spread([result.accuracy for result in self.tested])

    @cached_property
    def params(self) -> Spread | None:
        """Parameters."""
        return spread([result.params for result in self._measured])

    @cached_property
    def macs(self) -> Spread | None:
        """Multiply-adds of one image."""
        return spread([result.macs for result in self._measured])

    @cached_property
    def search_s(self) -> Spread | None:
        """Seconds of the search."""
        return spread([result.search_s for result in self._measured])

    @cached_property
    def retrain_s(self) -> Spread | None:
        """Seconds of the retraining."""
        return spread([result.retrain_s for result in self._measured])

    @property
    def seeds(self) -> tuple[int, ...]:
        """Seeds of the results that the means are of, else of all."""
        return tuple(result.seed for result in self._measured)

    @property
    def machines(self) -> tuple[str, ...]:
        """What computed the runs."""
        return tuple(dict.fromkeys(result.machine for result in self.results if result.machine))

    @property
    def _measured(self) -> tuple[Measurement, ...]:
        return self.tested or self.results


@dataclass(kw_only=True)
class _Group:
    """A row in the making."""

    base: str
    kind: Literal["method", "baseline"]
    dataset: str
    settings: dict[str, object]
    results: list[Measurement] = field(default_factory=list)
    budget_key: str  # equal for methods and random searches of one budget
    baselines: set[str] = field(default_factory=set)  # keys of the random searches that its runs brought

    def part(self, role: Role) -> Settings:
        return {name: value for name, value in self.settings.items() if role_of(name) is role}


def make_rows(
    runs: Sequence[ComparedRun], datasets: Sequence[str], n_test: Mapping[str, int]
) -> tuple[tuple[Row, ...], tuple[str, ...]]:
    """The rows, best first within each data set, and notes on runs that were counted once or twice.

    Args:
        runs: The runs.
        datasets: Name of the data set of each.
        n_test: Test images of each data set, where known.
    """
    notes: list[str] = []
    groups = _groups(runs, datasets)
    for group in groups.values():
        _without_copies(group, notes)
    names = _names(groups)
    labels: dict[str, str] = {}
    for dataset in dict.fromkeys(datasets):
        labels |= _names({key: group for key, group in groups.items() if group.dataset == dataset}, departing=0)
    rows = {
        key: Row(
            name=names[key],
            label=labels[key],
            kind=group.kind,
            dataset=group.dataset,
            settings=group.settings,
            results=tuple(group.results),
        )
        for key, group in groups.items()
    }
    judged = [
        replace(row, gain=_gain(row, groups[key], rows, groups, n_test.get(row.dataset))) for key, row in rows.items()
    ]
    marked: list[Row] = []
    for dataset in dict.fromkeys(datasets):
        own = [row for row in judged if row.dataset == dataset]
        own.sort(key=_order)
        front = pareto_front([front_point(row) for row in own])
        marked += [replace(row, on_front=index in front) for index, row in enumerate(own)]
    return tuple(marked), tuple(notes)


def _names(groups: Mapping[str, _Group], departing: int = _MOST_DEPARTURES) -> dict[str, str]:
    return dict(zip(groups, row_names(list(groups.values()), departing), strict=True))


def front_point(row: Row) -> tuple[float | None, float | None]:
    """Mean multiply-adds and mean accuracy; None for what is not known."""
    return (row.macs.mean if row.macs else None, rounded_accuracy(row))


def rounded_accuracy(row: Row) -> float | None:
    """The mean accuracy without the last digits: those of a sum must not put one of two equal rows first."""
    return round(row.accuracy.mean, 9) if row.accuracy else None


def _order(row: Row) -> tuple[float, float, str]:
    accuracy = rounded_accuracy(row)
    return (-accuracy if accuracy is not None else math.inf, row.macs.mean if row.macs else math.inf, row.name)


def _groups(runs: Sequence[ComparedRun], datasets: Sequence[str]) -> dict[str, _Group]:
    groups: dict[str, _Group] = {}
    later: list[tuple[ComparedRun, str]] = []
    for run, dataset in zip(runs, datasets, strict=True):
        if not run.retrained:
            later.append((run, dataset))
            continue
        group = _method_group(groups, run, dataset)
        group.results.append(run.result)
        if run.baseline is not None:
            settings = _of_random_search(group.settings) | {"baseline.samples": run.conf.baseline.samples}
            key = f"baseline {dataset} {key_of(settings)}"
            fresh = replace(group, base=BASELINE, kind="baseline", settings=settings, results=[], baselines=set())
            groups.setdefault(key, fresh).results.append(run.baseline)
            group.baselines.add(key)
    for run, dataset in later:  # a search alone belongs to the runs with the same search, where it is clear to which
        search = key_of(counted(run.settings, retrained=False))
        same = [
            group
            for group in groups.values()
            if group.kind == "method" and group.dataset == dataset and _search_key(group) == search
        ]
        group = same[0] if len(same) == 1 else _method_group(groups, run, dataset)
        group.results.append(run.result)
    for group in groups.values():
        group.results.sort(key=lambda result: (result.seed, str(result.folder)))
    return groups


def _method_group(groups: dict[str, _Group], run: ComparedRun, dataset: str) -> _Group:
    settings = counted(run.settings, retrained=run.retrained)
    fresh = _Group(
        base=shortened(one_line(_named_after(run.conf)), _LONGEST_NAME),
        kind="method",
        dataset=dataset,
        settings=settings,
        budget_key=f"{dataset} {key_of(_of_random_search(settings))}",
    )
    return groups.setdefault(f"method {dataset} {key_of(settings)}", fresh)


def _named_after(conf: RunConf) -> str:
    """What names a method: the model or architecture that was given, or what searched one."""
    if conf.arch is not None:
        return conf.arch
    return (conf.model.name or conf.strategy.name).rpartition(".")[2]


def _search_key(group: _Group) -> str:
    return key_of({name: value for name, value in group.settings.items() if not name.startswith("retrain.")})


def _of_random_search(settings: Settings) -> dict[str, object]:
    return {name: value for name, value in settings.items() if not name.startswith(_OF_THE_SEARCH_ALONE)}


def _without_copies(group: _Group, notes: list[str]) -> None:
    """Leave out results that are another one again, as random search of one seed is for all methods of one budget.

    The same seed and settings give the same numbers: counting them again would make a spread look smaller than it is.
    """
    kept: dict[tuple[object, ...], Measurement] = {}
    copies = 0
    for result in group.results:
        if result.state is not State.TESTED:
            kept[(len(kept),)] = result
            continue
        key = (result.seed, result.arch, result.accuracy, result.params)
        first = kept.setdefault(key, result)
        if first is result:
            continue
        copies += 1
        if group.kind == "method":
            notes.append(
                f"{one_line(result.folder)} has the seed, the settings and the result of {one_line(first.folder)}: a "
                "copy, counted once."
            )
    if copies and group.kind == "baseline":
        notes.append(
            f"{copies} of the random baselines {'is' if copies == 1 else 'are'} that of another run with the same seed "
            "and the same result: counted once per seed."
        )
    group.results = list(kept.values())
    tested = [result.seed for result in group.results if result.state is State.TESTED]
    for seed in dict.fromkeys(tested):
        folders = [one_line(r.folder) for r in group.results if r.seed == seed and r.state is State.TESTED]
        if len(folders) > 1:
            notes.append(
                f"Seed {seed} occurs {len(folders)} times with the same settings and different results "
                f"({', '.join(folders)}): machines or versions differ. Each counts as a repeat."
            )


def row_names(groups: Sequence[_Group], departing: int) -> list[str]:
    """A name for each: the strategy; data set and budget where they are mixed; what tells equal strategies apart.

    Runs of epochs that were cut short must not look like whole ones because their number of epochs tells them apart,
    too: so many settings as ``departing`` are added that are not at their default and differ from another row of the
    strategy.
    """
    several = len({group.dataset for group in groups}) > 1
    budget = distinguishing([group.part(Role.BUDGET) for group in groups])
    chosen: list[list[str]] = []
    for group in groups:
        like = [other for other in groups if _alike(group, other, budget)]
        extra = [{**other.part(Role.METHOD), **other.part(Role.BASELINE)} for other in like]
        needed = [*distinguishing(extra), *budget]
        same = [other.settings for other in groups if other.base == group.base]
        unusual = [name for name in departures(group.settings, same) if name not in needed]
        chosen.append(sorted([*needed, *unusual[:departing]], key=importance))
    plain: list[str] = []
    for group, settings in zip(groups, chosen, strict=True):
        parts = [
            f"{short_name(name)}={value_text(group.settings.get(name, DEFAULT))}"
            for name in settings
            if name in group.settings or ".options." in name
        ]
        where = f" on {group.dataset}" if several else ""
        plain.append(group.base + where + (f" ({', '.join(parts)})" if parts else ""))
    numbers = [plain[: k + 1].count(name) for k, name in enumerate(plain)]  # what is left when values were shortened
    return [f"{name} [{number}]" if number > 1 else name for name, number in zip(plain, numbers, strict=True)]


def _alike(group: _Group, other: _Group, budget: Sequence[str]) -> bool:
    """True when the base of the name, the data set and the budget do not tell the two apart."""
    return (group.base, group.dataset) == (other.base, other.dataset) and key_of(
        {name: group.settings.get(name) for name in budget}
    ) == key_of({name: other.settings.get(name) for name in budget})


def _gain(
    row: Row, group: _Group, rows: Mapping[str, Row], groups: Mapping[str, _Group], n_test: int | None
) -> Difference | None:
    """The difference to the random search that its runs brought, else to the only one at its budget."""
    if row.kind == "baseline" or row.accuracy is None:
        return None
    like = [key for key, other in groups.items() if other.budget_key == group.budget_key]
    offered = [key for key in like if groups[key].kind == "baseline"]
    keys = [key for key in offered if key in group.baselines] or offered
    base = rows[keys[0]].accuracy if len(keys) == 1 else None
    return difference(row.accuracy, base, n_test) if base is not None else None
