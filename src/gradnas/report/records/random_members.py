"""The random architectures that a search has trained briefly."""

from collections.abc import Sequence
from dataclasses import dataclass

from gradnas.report.records.combination import Combination, combination_of_phase
from gradnas.report.records.run_log import EpochRecord


@dataclass(frozen=True, kw_only=True)
class RandomMember:
    """One of them.

    Args:
        number: Its number, counted from 0.
        phase: Of its training.
        size: The combination of the grid that it was drawn at; None without a grid.
        epochs: Trained so far.
        val_top1: Best validation accuracy in percent; None without one.
    """

    number: int
    phase: str
    size: Combination | None
    epochs: int
    val_top1: float | None


def random_members(metrics: Sequence[EpochRecord]) -> tuple[tuple[RandomMember, ...], ...]:
    """The members that are compared with each other, those of one size, each time the best first.

    Of equal ones the first drawn is the best; those of a random baseline are not among them.
    """
    phases = dict.fromkeys(record.phase for record in metrics)
    members = [member for phase in phases if (member := _member(phase, metrics)) is not None]
    sizes = dict.fromkeys(member.size for member in members)
    return tuple(tuple(sorted((member for member in members if member.size == size), key=_rank)) for size in sizes)


def _member(phase: str, metrics: Sequence[EpochRecord]) -> RandomMember | None:
    of_grid = combination_of_phase(phase)
    start, _, number = phase.rpartition("_")
    size, sample = of_grid if of_grid is not None else (None, number if start == "search" else "")
    if not sample.isdecimal():
        return None
    records = [record for record in metrics if record.phase == phase and record.is_epoch]
    validated = [value for record in records if (value := record.values.get(("val", "top1"))) is not None]
    return RandomMember(
        number=int(sample),
        phase=phase,
        size=size,
        epochs=len({record.epoch for record in records}),
        val_top1=max(validated, default=None),
    )


def _rank(member: RandomMember) -> tuple[bool, float, int]:
    return (member.val_top1 is None, -(member.val_top1 or 0.0), member.number)
