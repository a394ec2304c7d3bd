"""Remedies against collapse that go with every strategy: which of them a search uses."""

import math
from dataclasses import dataclass
from typing import Literal

from gradnas.arch.shapes import check_count
from gradnas.foundation.declared_types import bring_to_declared_types
from gradnas.foundation.names import did_you_mean

WHEN = ("none", "warn", "stop")
PERTURBATIONS = ("none", "random", "adversarial")


@dataclass(frozen=True, kw_only=True)
class StabilizeConf:
    """Remedies against collapse; all off, but for the warm-up that a strategy's paper prescribes.

    Args:
        warmup_epochs: Epochs at the start in which only weights learn; None takes what the strategy's paper says.
        skip_dropout: Probability with which a skip that keeps the map is left out of a pass, per edge; after the
            warm-up it falls exponentially, by a factor e for each fifth of the search (P-DARTS).
        perturb: Train weights at mixing weights moved by ``random`` or ``adversarial`` noise; nothing of it stays after
            the step (SDARTS). With ``batch_chunks`` the adversary works on each part by itself.
        perturb_radius: Largest change of a candidate's weight in the last epoch; it grows linearly from 0.03.
        perturb_steps: Ascent steps of the adversary, each a forward and backward pass.
        eigenvalue: Record the dominant Hessian eigenvalue of the validation loss after each epoch, and ``warn`` or
            ``stop`` when it has risen; stopping returns the architecture from before (RobustDARTS).
        eigenvalue_ratio: How much smaller the earlier mean must be.
        eigenvalue_window: Epochs in a mean.
        eigenvalue_lag: Epochs between the two means, and to go back.
        skip_limit: ``warn`` or ``stop`` when the regular cell has more than ``max_skips`` skip connections; stopping
            returns the last architecture with no more (DARTS+).
        max_skips: Skip connections that the regular cell may have.
        skip_limit_from: Epochs that run in any case, after the warm-up.
    """

    warmup_epochs: int | None = None
    skip_dropout: float = 0.0
    perturb: Literal["none", "random", "adversarial"] = "none"
    perturb_radius: float = 0.3
    perturb_steps: int = 7
    eigenvalue: Literal["none", "warn", "stop"] = "none"
    eigenvalue_ratio: float = 0.75
    eigenvalue_window: int = 5
    eigenvalue_lag: int = 5
    skip_limit: Literal["none", "warn", "stop"] = "none"
    max_skips: int = 1
    skip_limit_from: int = 10

    def __post_init__(self) -> None:
        bring_to_declared_types(self)
        if self.warmup_epochs is not None:
            check_count(self.warmup_epochs, "warmup_epochs of the architecture", 0)
        if not 0 <= self.skip_dropout < 1:
            raise ValueError(f"skip_dropout must be at least 0 and below 1, got {self.skip_dropout}.")
        for name, known in (("perturb", PERTURBATIONS), ("eigenvalue", WHEN), ("skip_limit", WHEN)):
            value = getattr(self, name)
            if value not in known:
                raise ValueError(f"unknown {name} {value!r}. {did_you_mean(value, known)}")
        if not (math.isfinite(self.perturb_radius) and 0 < self.perturb_radius <= 1):
            raise ValueError(f"perturb_radius must be above 0 and at most 1, got {self.perturb_radius}.")
        if not 0 < self.eigenvalue_ratio < 1:
            raise ValueError(f"eigenvalue_ratio must be between 0 and 1, got {self.eigenvalue_ratio}.")
        self._refuse_idle("perturb", "perturb_radius", "perturb_steps")
        self._refuse_idle("eigenvalue", "eigenvalue_ratio", "eigenvalue_window", "eigenvalue_lag")
        self._refuse_idle("skip_limit", "max_skips", "skip_limit_from")
        check_count(self.perturb_steps, "perturb_steps")
        check_count(self.eigenvalue_window, "eigenvalue_window")
        check_count(self.eigenvalue_lag, "eigenvalue_lag")
        check_count(self.max_skips, "max_skips", 0)
        check_count(self.skip_limit_from, "skip_limit_from")

    def _refuse_idle(self, switch: str, *names: str) -> None:
        """Refuse a setting that would have no effect."""
        changed = [name for name in names if getattr(self, name) != getattr(StabilizeConf, name)]
        if changed and getattr(self, switch) == "none":
            raise ValueError(f"{changed[0]} has no effect while {switch} is 'none'. Set {switch}, or leave it out.")

    @property
    def noisy(self) -> bool:
        """Whether passes get other mixing weights than the rule makes."""
        return self.skip_dropout > 0 or self.perturb != "none"
