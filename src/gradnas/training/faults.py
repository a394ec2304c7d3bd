"""What follows a number that is not finite: stop, leave the batch out, or go back to a checkpoint; and how often."""

import logging
from typing import Any

from gradnas.training.finite import NotFiniteError

_LOG = logging.getLogger(__name__)

MOST_ROLLBACKS = 5  # each halves the rate: what fails at a thirty-second of it has another cause
MOST_SKIPS_IN_A_ROW = 10  # then it is not the batch


class FaultAnswers:
    """Decides and counts; the training does.

    Args:
        answer: The setting ``on_nonfinite``.
    """

    def __init__(self, answer: str) -> None:
        self.answer = answer
        self.skipped = 0
        """Batches left out in this epoch."""
        self.rollbacks = 0
        self._skipped_in_a_row = 0

    def begin_epoch(self) -> None:
        """An epoch begins."""
        self.skipped = 0

    def step_done(self) -> None:
        """A step was good."""
        self._skipped_in_a_row = 0

    def skip(self, fault: NotFiniteError, said: str, advice: str) -> None:
        """A batch is left out.

        Args:
            fault: Why.
            said: The fault in words.
            advice: What a user may do.

        Raises:
            FloatingPointError: When too many were, one after the other.
        """
        self.skipped += 1
        self._skipped_in_a_row += 1
        if self._skipped_in_a_row > MOST_SKIPS_IN_A_ROW:
            raise FloatingPointError(
                f"{said} The {MOST_SKIPS_IN_A_ROW} batches before it were skipped: the cause is not in the data. "
                f"{advice}"
            ) from fault
        _LOG.warning("skipped a batch: %s", said)

    def refuse_or_roll_back(self, fault: FloatingPointError, said: str, advice: str) -> None:
        """Return when the training should go back to its checkpoint.

        Args:
            fault: A number that is not finite, or that a strategy refuses.
            said: The fault in words.
            advice: What a user may do.

        Raises:
            FloatingPointError: When the training stops instead.
        """
        if self.answer != "rollback":
            if not isinstance(fault, NotFiniteError):
                raise fault
            raise FloatingPointError(f"{said} {advice}") from fault
        if self.rollbacks == MOST_ROLLBACKS:
            raise FloatingPointError(f"{said} It was rolled back {MOST_ROLLBACKS} times already.") from fault

    def counts(self) -> dict[str, Any]:
        """What a checkpoint holds of them."""
        return {"skipped": [self.skipped, self._skipped_in_a_row], "rollbacks": self.rollbacks}

    def restore(self, skipped: list[int], rollbacks: int) -> None:
        """Go on from :meth:`counts`."""
        self.skipped, self._skipped_in_a_row = skipped
        self.rollbacks = rollbacks
