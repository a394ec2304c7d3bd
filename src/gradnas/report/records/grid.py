"""What ``grid.json`` says of the combinations of a macro grid."""

import json
from dataclasses import dataclass, replace
from pathlib import Path

from gradnas.foundation.checksums import unseal
from gradnas.foundation.files import read_text
from gradnas.foundation.strict_json import MAX_CHARACTERS, check_plain
from gradnas.report.records.combination import GRID_FILE, Combination
from gradnas.report.records.plain_values import member, number, numbers, words


@dataclass(frozen=True, kw_only=True)
class GridRow:
    """A complete combination; None for what is not known.

    Args:
        combination: Which one.
        train_top1: Best training accuracy of the brief training in percent.
        val_top1: Best validation accuracy, by which combinations are compared.
        val_epoch: The epoch of it, counted from 0.
        macs: Multiply-adds of the found network for one image.
        params: Its parameters.
        peak_memory_bytes: The most memory in use at once.
        time_s: Of search and training.
        on_front: Whether no other one beats it in both accuracy and multiply-adds.
        best: Whether it was chosen.
    """

    combination: Combination
    train_top1: float | None
    val_top1: float | None
    val_epoch: float | None
    macs: float | None
    params: float | None
    peak_memory_bytes: float | None
    time_s: float | None
    on_front: bool = False
    best: bool = False


@dataclass(frozen=True, kw_only=True)
class Grid:
    """A macro grid as far as it has been searched.

    Args:
        rows: The complete combinations in order.
        skipped: Those that cannot be built, with the reason.
        total: How many can be built.
    """

    rows: tuple[GridRow, ...]
    skipped: tuple[tuple[Combination, str], ...]
    total: int


def read_grid(folder: Path, problems: list[str]) -> Grid | None:
    """The grid of a run folder; None for a run without one. What cannot be read is named in ``problems``."""
    path = folder / GRID_FILE
    if not path.is_file():
        return None
    try:
        value = json.loads(read_text(path, 4 * MAX_CHARACTERS))
        check_plain(value)
        value = unseal(value) if isinstance(value, dict) else None
    except (ValueError, RecursionError):
        value = None
    rows, planned = member(value, "rows"), member(value, "combinations")
    front, best = numbers(member(value, "front")) or (), number(member(member(value, "best"), "row"))
    if not isinstance(rows, list) or not isinstance(planned, list):
        problems.append(
            f"{GRID_FILE} was changed or damaged since it was written; the combinations of the grid are not shown "
            "here. To have it made again, delete it and continue the run with gradnas resume."
        )
        return None
    read = [
        replace(row, on_front=k in front, best=k == best) for k, row in enumerate(map(_row, rows)) if row is not None
    ]
    if len(read) < len(rows):
        problems.append(
            f"{GRID_FILE} has {len(rows) - len(read)} rows that name no combination; they are left out here."
        )
    skipped = member(value, "skipped")
    return Grid(
        rows=tuple(read),
        skipped=tuple(
            (combination, words(member(each, "reason")) or "no reason is given")
            for each in (skipped if isinstance(skipped, list) else [])
            if (combination := _combination(each)) is not None
        ),
        total=len(planned),
    )


def _row(value: object) -> GridRow | None:
    combination = _combination(value)
    if combination is None:
        return None
    return GridRow(
        combination=combination,
        train_top1=number(member(value, "train_top1")),
        val_top1=number(member(value, "val_top1")),
        val_epoch=number(member(value, "val_epoch")),
        macs=number(member(value, "macs")),
        params=number(member(value, "params")),
        peak_memory_bytes=number(member(value, "peak_memory_bytes")),
        time_s=number(member(value, "seconds")),
    )


def _combination(value: object) -> Combination | None:
    numbers = [number(member(value, name)) for name in ("reductions", "cells", "nodes")]
    known = [int(each) for each in numbers if each is not None and each >= 0]
    return Combination(*known) if len(known) == len(numbers) else None
