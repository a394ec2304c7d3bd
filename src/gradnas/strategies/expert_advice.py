"""Prediction with expert advice: exponentiated gradient with wipe-out, as pure functions.

Implements: Nayman et al., XNAS (NeurIPS 2019, arXiv 1906.08031), algorithm 1, for all edges of a cell type at once.
With log-weights l = ln v, rounds t = 1 … T and rewards bounded to [-L, L]:

    l_i <- l_i + eta R_i                                        experts that are still active
    active: l_i >= max_j l_j - 2 eta L (T - t)                  wipe-out
    eta = sqrt(2 ln N / (T L^2))                                the minimizer of ln N / eta + eta T L^2 / 2

Deviations: log-weights instead of weights, shifted so that the leader of an edge has 0 (only differences matter), and a
slack of rounding size in the comparison, so that rounding decides no tie. Late wipe-out is as safe as early.
Reference test: ``tests/strategies/test_expert_advice.py``.
Shape suffixes: E edges of a cell type, N experts per edge, C cells of the type, B examples.
"""

import math

import torch
from torch import Tensor

# Of the farthest that two log-weights can be apart in the whole game: what rounding may leave of a tie when experts
# that were far apart draw level again. In float64 orders of magnitude above rounding and below anything that means
# something. In float32 (devices without float64) a coarse compromise: a survivor may be a fraction of the leader.
_SLACK = {torch.float64: 1e-9, torch.float32: 1e-4}


def expert_update(
    log_v: Tensor, active: Tensor, rewards: Tensor, *, eta: float, bound: float, t: int, horizon: int
) -> tuple[Tensor, Tensor]:
    """One step of the forecasters of all edges: exponentiated gradient, then wipe-out.

    How rounds are grouped into steps does not matter for the safety of the wipe-out: no expert that could still be the
    best in hindsight after ``horizon`` rounds is ever removed, provided that every single reward is within the bound.

    Args:
        log_v: Log-weights, shape (E, N), float64 wherever the device has it: over a long search they reach thousands,
            where the increments of a step are below the resolution of float32.
        active: Experts that were not wiped out, bool of shape (E, N).
        rewards: Sum over the rounds of this step of the rewards, each round's within ±``bound`` (see
            :func:`bounded_rewards`), shape (E, N). Those of inactive experts are ignored.
        eta: Learning rate.
        bound: Largest absolute reward L of a round.
        t: Rounds played, those of this step included.
        horizon: Rounds T of the whole game.

    Returns:
        New log-weights, shifted so that the largest of an edge's active experts is 0, and the experts still active; the
        arguments are not changed. An inactive expert keeps its weight: it is shifted like the others but not rewarded.

    Raises:
        ValueError: For no experts, shapes that differ, an edge without an active expert, ``eta`` or ``bound`` not
            positive, ``t`` not in 0 … ``horizon``, or rewards or log-weights that are not finite, naming the first.
    """
    if log_v.dim() != 2 or log_v.shape[1] < 1 or log_v.dtype not in _SLACK:
        raise ValueError(
            "log_v must be float64 or float32 of shape (edges, experts) with at least one expert, got "
            f"{log_v.dtype} of shape {tuple(log_v.shape)}."
        )
    if active.shape != log_v.shape or rewards.shape != log_v.shape or active.dtype != torch.bool:
        raise ValueError(
            f"active (bool) and rewards must have the shape of log_v, {tuple(log_v.shape)}; got {tuple(active.shape)} "
            f"of {active.dtype} and {tuple(rewards.shape)}."
        )
    for name, value in (("eta", eta), ("bound", bound)):
        if not (math.isfinite(value) and value > 0):
            raise ValueError(f"{name} must be positive and finite, got {value}.")
    if not 0 <= t <= horizon:
        raise ValueError(
            f"round {t} is outside the horizon of {horizon} rounds. The wipe-out is safe only if no more rounds come "
            "than were announced: count the horizon from the schedule that really runs."
        )
    for what, values in (("reward", rewards), ("log-weight", log_v)):
        finite = values.isfinite() | ~active
        if not finite.all():
            edge, expert = (~finite).nonzero()[0].tolist()
            raise ValueError(
                f"the {what} of expert {expert} on edge {edge} is {values[edge, expert].item()}; the step is refused "
                "and nothing was changed. Look for a loss that is not finite."
            )
    if not active.any(dim=1).all():
        raise ValueError(f"edge {int((~active.any(dim=1)).nonzero()[0])} has no active expert left.")
    new_log_v, survivors = updated(
        log_v, active, rewards, eta=eta, margin=wipe_out_margin(eta, bound, t, horizon, log_v.dtype)
    )
    if not (new_log_v.isfinite() | ~active).all():
        raise ValueError(
            f"rewards of up to {float(rewards[active].abs().max()):g} exceed the range of {log_v.dtype}; the step is "
            "refused. Bound the reward of every round, see bounded_rewards."
        )
    return new_log_v, survivors


def updated(log_v: Tensor, active: Tensor, rewards: Tensor, *, eta: float, margin: float) -> tuple[Tensor, Tensor]:
    """:func:`expert_update` without its checks: reads nothing from the device.

    Args:
        log_v: Log-weights, shape (E, N).
        active: Experts that were not wiped out, bool of shape (E, N).
        rewards: Sum of the bounded rewards of this step, shape (E, N).
        eta: Learning rate.
        margin: How far below the leader an expert survives, see :func:`wipe_out_margin`; infinite switches wipe-out
            off.
    """
    gains = torch.where(active, rewards.to(log_v.dtype), 0.0)
    raised = log_v + eta * gains
    leader = torch.where(active, raised, -math.inf).amax(dim=1, keepdim=True)
    centered = raised - leader
    return centered, active & (centered >= -margin)


def wipe_out_margin(eta: float, bound: float, t: int, horizon: int, dtype: torch.dtype) -> float:
    """2 eta L (T - t): how much the distance of two log-weights can still shrink in the rounds that remain.

    A slack is added for the rounding of log-weights of this dtype.
    """
    return 2.0 * eta * bound * (horizon - t) + _SLACK[dtype] * (1.0 + 2.0 * eta * bound * horizon)


def learning_rate(experts: int, horizon: int, bound: float) -> float:
    """The rate sqrt(2 ln N / (T L^2)), for which the regret is at most L sqrt(2 T ln N).

    Args:
        experts: Experts N of an edge, at least 2.
        horizon: Rounds T, at least 1.
        bound: Largest absolute reward L of a round.

    Raises:
        ValueError: For fewer experts or rounds, or a bound that is not positive.
    """
    if experts < 2:
        raise ValueError(f"a forecaster needs at least 2 experts to choose from, got {experts}.")
    if horizon < 1:
        raise ValueError(f"the horizon must be at least 1 round, got {horizon}.")
    if not (math.isfinite(bound) and bound > 0):
        raise ValueError(f"bound must be positive and finite, got {bound}.")
    return math.sqrt(2.0 * math.log(experts) / horizon) / bound


def bounded_rewards(gradients: Tensor, bound: float) -> Tensor:
    """Rewards of the rounds of a step, R = -gradient limited to ±bound, summed over cells and examples.

    Args:
        gradients: Derivative of the *sum* of the examples' losses with respect to each example's own mixing weights in
            each cell, shape (C, E, N, B). By the chain rule an entry is <d loss / d p, f_i>, the inner product of the
            loss gradient at the edge's output and the expert's output, for that example in that cell.
        bound: Largest absolute reward L of a round.

    Returns:
        Tensor of shape (E, N) in float64 where the device has it. NaN stays NaN; an infinite gradient counts as the
        bound, so look at the gradients to refuse a step.

    Raises:
        ValueError: For a bound that is not positive.
    """
    if not (math.isfinite(bound) and bound > 0):
        raise ValueError(f"bound must be positive and finite, got {bound}.")
    return -gradients.to(exact_dtype(gradients.device)).clamp(-bound, bound).sum(dim=(0, 3))


def exact_dtype(device: torch.device) -> torch.dtype:
    """float64, or float32 on a device that has no better."""
    return torch.float32 if device.type == "mps" else torch.float64
