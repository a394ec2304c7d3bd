"""The two logs of a run folder, ``metrics.jsonl`` and ``alphas.jsonl``, line by line."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from gradnas.foundation.checksums import unseal
from gradnas.foundation.strict_json import check_plain
from gradnas.report.records.plain_values import flags, member, names, number, numbers, table, words
from gradnas.report.records.would_be import WouldBe, read_would_be

PHASES = ("search", "retrain", "baseline_search", "baseline_retrain")
"""Phases in the order in which they run and are shown."""

SPLITS = ("train", "val", "test")
UNFINISHED = "is incomplete; the run was interrupted while writing it"
"""What is said of a last line without a line break, which may also just be written."""

_MOST_DAMAGE_LISTED = 5


@dataclass(frozen=True, kw_only=True)
class EpochRecord:
    """One line of ``metrics.jsonl``; ``values`` maps (split, name), as in ("val", "top1"), to a number or None."""

    phase: str
    epoch: int
    values: Mapping[tuple[str, str], float | None]
    lr: float | None
    time_s: float | None

    @property
    def is_epoch(self) -> bool:
        """False for a closing record, which holds the test result only and has the number of the next epoch."""
        return not self.values or any(split != "test" for split, _ in self.values)


@dataclass(frozen=True, kw_only=True)
class CellMixture:
    """The mixing weights of one cell type after one epoch.

    Args:
        edges: (node, state it reads) of each edge.
        ops: Candidates of the first edge.
        edge_ops: Candidates of each edge, equally many; usually those of the first.
        weights: Mixing probabilities, edges by candidates.
        survivors: Which candidates are still active, of a strategy that wipes out; else None.
        log_weights: The architecture parameters, which are log-weights where there are survivors; None when damaged.
    """

    edges: tuple[tuple[int, int], ...]
    ops: tuple[str, ...]
    edge_ops: tuple[tuple[str, ...], ...]
    weights: tuple[tuple[float, ...], ...]
    survivors: tuple[tuple[bool, ...], ...] | None
    log_weights: tuple[tuple[float, ...], ...] | None


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """What a strategy that mixes experts says of one cell type; None where a value is missing.

    Args:
        bound_hits: Share of the rewards that reached the bound, 0 to 1.
        rounds: (rounds played, rounds of the whole search).
        eta: Learning rate.
    """

    bound_hits: float | None
    rounds: tuple[float, float] | None
    eta: float | None


@dataclass(frozen=True, kw_only=True)
class MixtureRecord:
    """One line of ``alphas.jsonl``. ``entropy`` is the mean over the edges in nats; None where a value is missing.

    ``gap`` is the mean lead of the first candidate over the second in shares of an edge, ``drop`` what discretization
    costs in points of validation accuracy, ``diagnosis`` what the search said against itself. A record with
    ``returned`` comes last and tells of the epoch whose architecture an early stop returned. ``forecasts`` has the cell
    types of which the strategy says more, ``would_be`` those whose cell was recorded; older lines have its ``genotype``
    instead.
    """

    epoch: int
    cells: Mapping[str, CellMixture]
    entropy: float | None
    skips: int | None
    parameter_free: float | None
    changed_edges: int | None
    forecasts: Mapping[str, Forecast]
    gap: float | None = None
    drop: float | None = None
    eigenvalue: float | None = None
    diagnosis: tuple[str, ...] = ()
    returned: int | None = None
    would_be: Mapping[str, WouldBe] = field(default_factory=dict)
    genotype: str | None = None


def read_metrics(path: Path, problems: list[str]) -> tuple[EpochRecord, ...]:
    """The records in file order; what cannot be read is skipped and named in ``problems``."""
    records = []
    damage: list[str] = []
    for place, value in _json_lines(path, damage):
        phase, epoch = words(member(value, "phase")), number(member(value, "epoch"))
        if phase is None or epoch is None:
            damage.append(f"{place} has no phase or no epoch")
            continue
        values: dict[tuple[str, str], float | None] = {}
        for split in SPLITS:
            part = member(value, split)
            if isinstance(part, Mapping):
                values |= {(split, str(name)): number(item) for name, item in part.items()}
        records.append(
            EpochRecord(
                phase=phase,
                epoch=int(epoch),
                values=values,
                lr=number(member(value, "lr")),
                time_s=number(member(value, "seconds")),
            )
        )
    _report(damage, problems)
    return tuple(records)


def read_mixtures(path: Path, problems: list[str]) -> tuple[MixtureRecord, ...]:
    """The records in file order; what cannot be read is skipped and named in ``problems``."""
    records = []
    damage: list[str] = []
    unknown: list[str] = []
    for place, value in _json_lines(path, damage):
        epoch, cells = number(member(value, "epoch")), member(value, "cells")
        if epoch is None or not isinstance(cells, Mapping):
            damage.append(f"{place} has no epoch or no cells")
            continue
        mixtures = {str(kind): _mixture(cell) for kind, cell in cells.items()}
        damage += [
            f"{place}: the weights of the {kind} cell are not a table of edges by ops"
            for kind in mixtures
            if mixtures[kind] is None
        ]
        unknown += [
            f"{place}: the {what} of the {kind} cell are not a table of edges by ops"
            for kind, mixture in mixtures.items()
            if mixture is not None and member(cells[kind], "survivors") is not None
            for what, read in (("survivors", mixture.survivors), ("log-weights", mixture.log_weights))
            if read is None
        ]
        skips, changed = number(member(value, "skips")), number(member(value, "changed_edges"))
        records.append(
            MixtureRecord(
                epoch=int(epoch),
                cells={kind: mixture for kind, mixture in mixtures.items() if mixture is not None},
                entropy=number(member(value, "entropy")),
                skips=None if skips is None else int(skips),
                parameter_free=number(member(value, "parameter_free")),
                changed_edges=None if changed is None else int(changed),
                forecasts=_forecasts(member(value, "strategy")),
                gap=number(member(value, "gap")),
                drop=number(member(value, "discretization_drop")),
                eigenvalue=number(member(value, "eigenvalue")),
                diagnosis=names(member(value, "diagnosis")) or (),
                returned=None if (back := number(member(value, "returned_epoch"))) is None else int(back),
                would_be=read_would_be(value),
                genotype=words(member(value, "genotype")),
            )
        )
    _report(damage, problems)
    _report(unknown, problems, loss="the charts of the experts lack them", rest="such tables of experts are damaged")
    return tuple(records)


def _mixture(cell: object) -> CellMixture | None:
    ops, pairs = names(member(cell, "ops")), member(cell, "edges")
    if not ops or not isinstance(pairs, list):
        return None
    edges = [numbers(pair) for pair in pairs]
    weights = table(member(cell, "weights"), len(pairs), len(ops))
    if weights is None or any(edge is None or len(edge) != 2 for edge in edges):
        return None
    return CellMixture(
        edges=tuple((int(e[0]), int(e[1])) for e in edges if e),
        ops=ops,
        edge_ops=_edge_ops(member(cell, "edge_ops"), ops, len(pairs)),
        weights=weights,
        survivors=flags(member(cell, "survivors"), len(pairs), len(ops)),
        log_weights=table(member(cell, "alphas"), len(pairs), len(ops)),
    )


def _edge_ops(value: object, ops: tuple[str, ...], n_edges: int) -> tuple[tuple[str, ...], ...]:
    """Names per edge where they are recorded for every edge, else those of the first for all."""
    read = [names(row) for row in value] if isinstance(value, list) else []
    whole = tuple(row for row in read if row is not None and len(row) == len(ops))
    return whole if len(whole) == len(read) == n_edges else (ops,) * n_edges


def _forecasts(strategy: object) -> dict[str, Forecast]:
    parts = [member(strategy, name) for name in ("bound_hits", "rounds", "eta")]
    kinds = dict.fromkeys(str(kind) for part in parts if isinstance(part, Mapping) for kind in part)
    forecasts = {}
    for kind in kinds:
        hits, rounds, eta = (member(part, kind) for part in parts)
        share, played = number(hits), numbers(rounds)
        forecasts[kind] = Forecast(
            bound_hits=share if share is not None and 0 <= share <= 1 else None,
            rounds=(played[0], played[1]) if played and len(played) == 2 and played[0] >= 0 < played[1] else None,
            eta=number(eta),
        )
    return forecasts


def _json_lines(path: Path, damage: list[str]) -> list[tuple[str, object]]:
    """(place, value) of every line that is JSON."""
    if not path.is_file():
        return []
    values: list[tuple[str, object]] = []
    lines = path.read_bytes().split(b"\n")
    for i, raw in enumerate(lines, start=1):
        if not raw.strip():
            continue
        place = f"{path.name}, line {i}"
        try:
            value = json.loads(raw.decode("utf-8"))
            check_plain(value)
        except (ValueError, RecursionError):
            unfinished = i == len(lines)  # every complete line ends with a line break
            damage.append(f"{place} {UNFINISHED if unfinished else 'is not JSON'}")
            continue
        try:
            values.append((place, unseal(value) if isinstance(value, dict) else value))
        except ValueError:
            damage.append(f"{place} was changed or damaged since it was written")
    return values


def _report(
    damage: list[str],
    problems: list[str],
    *,
    loss: str = "the line is left out here",
    rest: str = "damaged lines of the same file are left out",
) -> None:
    problems += [f"{text}; {loss}." for text in damage[:_MOST_DAMAGE_LISTED]]
    if len(damage) > _MOST_DAMAGE_LISTED:
        problems.append(f"{len(damage) - _MOST_DAMAGE_LISTED} more {rest}.")
