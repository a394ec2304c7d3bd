"""What a user is told of a number that is not finite: where it was, on which images, what was saved before."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from gradnas.training.finite import NotFiniteError

_MOST_NUMBERS_TOLD = 128


def fault_text(
    fault: NotFiniteError,
    *,
    phase: str,
    place: tuple[int, int],
    images: Mapping[str, Sequence[int]],
    checkpoint: Path | None,
    saved_at: tuple[int, int] | None,
) -> str:
    """The fault in two sentences.

    Args:
        fault: What was found.
        phase: In which phase.
        place: Epoch and step.
        images: What the step has seen: names of sets to the numbers of images.
        checkpoint: The file of the last checkpoint; None when the run has none.
        saved_at: Epoch and step of the last checkpoint; None before the first.
    """
    batches = "; ".join(f"{name} {_listed(numbers)}" for name, numbers in images.items())
    saved = "There is no checkpoint yet."
    if checkpoint is not None and saved_at is not None:
        saved = f"The last good checkpoint is {checkpoint}: epoch {saved_at[0]}, step {saved_at[1]}."
    where = f"phase {phase!r}, epoch {place[0]}, step {place[1]}"
    return f"the {fault.what} became {fault.value} in {where} ({batches}). {saved}"


def advice(answer: str, *, skips: bool, rolls_back: bool) -> str:
    """What one may do about it.

    Args:
        answer: The setting ``on_nonfinite`` in force.
        skips: Whether this training can leave batches out.
        rolls_back: Whether it has checkpoints to go back to.
    """
    ways = ["on_nonfinite=skip, which leaves such batches out"] if skips and answer == "stop" else []
    ways += ["on_nonfinite=rollback, which halves the rate"] if rolls_back and answer != "rollback" else []
    on = f" This run can go on with {', or with '.join(ways)}." if ways else ""
    return f"Look at these images; in a new run, lower the learning rate or clip gradients.{on}"


def _listed(numbers: Sequence[int]) -> str:
    told = ", ".join(str(number) for number in numbers[:_MOST_NUMBERS_TOLD])
    more = len(numbers) - _MOST_NUMBERS_TOLD
    return f"{told} and {more} more" if more > 0 else told
