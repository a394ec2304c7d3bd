"""Tests of ``src/gradnas/strategies/expert_advice.py``.

Three kinds of reference: answers known by hand, the paper's algorithm played one round at a time with exact weights
(fractions, decimals; no logarithms), and the theorems themselves (regret, safety of the wipe-out) on thousands of
random and adversarial games. Most games have rewards that are multiples of a power of two, so that totals are exact and
ties are ties. Which experts are alive at time t is known from the totals alone, without any history: who is too far
behind the leader to catch up at t still is at every later time.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal, localcontext
from fractions import Fraction
from typing import Any

import pytest
import torch
from torch import Tensor

from gradnas.strategies.expert_advice import (
    bounded_rewards,
    exact_dtype,
    expert_update,
    learning_rate,
    updated,
    wipe_out_margin,
)

F64 = torch.float64
NAN, INF = math.nan, math.inf


def floats(*rows: Sequence[float]) -> Tensor:
    return torch.tensor(rows, dtype=F64)


def masks(*rows: Sequence[int]) -> Tensor:
    return torch.tensor(rows, dtype=torch.bool)


def everyone(log_v: Tensor) -> Tensor:
    return torch.ones_like(log_v, dtype=torch.bool)


def weights(log_v: Tensor, active: Tensor) -> Tensor:
    return log_v.masked_fill(~active, -INF).softmax(1)


def step(log_v: Tensor, active: Tensor, rewards: Tensor, **changed: Any) -> tuple[Tensor, Tensor]:
    """One round out of a hundred, with rate 1 and rewards in [-1, 1] unless told otherwise."""
    return expert_update(log_v, active, rewards, **{"eta": 1.0, "bound": 1.0, "t": 1, "horizon": 100, **changed})


def fractions_of_the_bound(*shape: int, seed: int = 0) -> Tensor:
    return 2 * torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=F64) - 1


# ------------------------------------------------------------------------------------------------------------ the games


class Play:
    """Games of one length side by side, one per edge, with an account of all rewards that the source does not see."""

    def __init__(
        self, edges: int, experts: int, horizon: int, bound: float = 1.0, eta: float | None = None, announced: int = 0
    ) -> None:
        self.log_v = torch.zeros(edges, experts, dtype=F64)
        self.active = everyone(self.log_v)
        self.totals = torch.zeros_like(self.log_v)  # also of experts that were wiped out: what they would have earned
        self.earned = torch.zeros(edges, dtype=F64)  # by the forecaster, if it is asked in every round
        self.horizon, self.bound, self.t = horizon, bound, 0
        self.eta = eta or learning_rate(experts, horizon, bound)
        self.announced = announced or horizon

    def step(self, rewards: Tensor, rounds: int = 1) -> None:
        self.earned += (self.weights * rewards).sum(1)
        self.totals += rewards
        self.t += rounds
        self.log_v, self.active = expert_update(
            self.log_v, self.active, rewards, eta=self.eta, bound=self.bound, t=self.t, horizon=self.announced
        )

    @property
    def weights(self) -> Tensor:
        return weights(self.log_v, self.active)

    @property
    def gaps(self) -> Tensor:
        return self.totals.amax(1, keepdim=True) - self.totals

    @property
    def regret(self) -> Tensor:
        return self.totals.amax(1) - self.earned


# Rewards of a round of all games, in units of the bound. Every opponent draws from its generator, so that no two games
# are the same, and those that look at the state of the forecasters adapt to them.
Opponent = Callable[[Play, int, torch.Generator], Tensor]


def coins(play: Play, t: int, numbers: torch.Generator) -> Tensor:
    return 2.0 * torch.randint(2, play.log_v.shape, generator=numbers) - 1


def ties(play: Play, t: int, numbers: torch.Generator) -> Tensor:
    return torch.randint(-1, 2, play.log_v.shape, generator=numbers).to(F64)


def biased_coins(play: Play, t: int, numbers: torch.Generator) -> Tensor:
    edges, experts = play.log_v.shape
    chance = (torch.arange(experts) + torch.arange(edges)[:, None]) % experts / experts
    return 2.0 * (torch.rand(edges, experts, generator=numbers) < chance) - 1


def constant_gaps(play: Play, t: int, numbers: torch.Generator) -> Tensor:
    """An eighth apart; which expert is which differs between the edges, and from how high they start."""
    edges, experts = play.log_v.shape
    rank = (torch.arange(experts) + torch.arange(edges)[:, None]) % experts
    return (1 - rank / 8 - (torch.arange(edges) % 9)[:, None] / 8).clamp(min=-1).to(F64)


def against_the_heaviest(play: Play, t: int, numbers: torch.Generator) -> Tensor:
    """The heaviest of all loses, the lightest that is left wins."""
    rewards = ties(play, t, numbers)
    rewards.scatter_(1, play.weights.argmax(1, keepdim=True), -1)
    return rewards.scatter(1, play.log_v.masked_fill(~play.active, INF).argmin(1, keepdim=True), 1)


def all_against_the_heaviest(play: Play, t: int, numbers: torch.Generator) -> Tensor:
    """The heaviest loses, all others win, wiped out or not; now and then a coin decides."""
    rewards = torch.ones_like(play.log_v).scatter_(1, play.weights.argmax(1, keepdim=True), -1)
    return torch.where(torch.rand(len(rewards), 1, generator=numbers) < 0.05, coins(play, t, numbers), rewards)


def switching_leader(play: Play, t: int, numbers: torch.Generator) -> Tensor:
    """One expert wins while all others lose, until it is another's turn; every edge has its own pace."""
    edges, experts = play.log_v.shape
    turn = t // (1 + torch.arange(edges) % play.horizon) + torch.arange(edges)
    return 2.0 * torch.nn.functional.one_hot(turn % experts, experts) - 1


def late_bloomer(play: Play, t: int, numbers: torch.Generator) -> Tensor:
    """Expert 0 loses until about half the game is over, and from then on alone wins: it is level at the very end."""
    rewards = ties(play, t, numbers)
    blooms = t >= play.horizon // 2 + torch.arange(len(rewards)) % 3 - 1
    rewards[:, 0] = torch.where(blooms, 1.0, -1.0)
    rewards[:, 1] = torch.where(blooms, -1.0, 1.0)
    return torch.where(blooms[:, None], rewards.clamp(max=0).index_fill_(1, torch.tensor(0), 1), rewards)


def any_number(play: Play, t: int, numbers: torch.Generator) -> Tensor:
    return 2 * torch.rand(play.log_v.shape, generator=numbers, dtype=F64) - 1


EXACT = (
    coins,
    ties,
    biased_coins,
    constant_gaps,
    against_the_heaviest,
    all_against_the_heaviest,
    switching_leader,
    late_bloomer,
)
OPPONENTS = (*EXACT, any_number)
every_opponent = pytest.mark.parametrize("opponent", OPPONENTS, ids=lambda opponent: opponent.__name__)


def play_out(play: Play, opponent: Opponent, seed: int = 0) -> Play:
    """One round at a time until the end."""
    numbers = torch.Generator().manual_seed(seed)
    for t in range(play.horizon):
        play.step(play.bound * opponent(play, t, numbers))
    return play


def random_batches(horizon: int, seed: int) -> list[int]:
    """Sizes that sum to the horizon, some 1, some long."""
    numbers = torch.Generator().manual_seed(seed)
    sizes: list[int] = []
    while sum(sizes) < horizon:
        longest = (1, 4, 16)[len(sizes) % 3]
        sizes.append(min(int(torch.randint(1, longest + 1, (), generator=numbers)), horizon - sum(sizes)))
    return sizes


def play_in_batches(play: Play, opponent: Opponent, seed: int, after: Callable[[], None] = lambda: None) -> Play:
    numbers = torch.Generator().manual_seed(seed)
    for size in random_batches(play.horizon, seed):
        play.step(play.bound * torch.stack([opponent(play, play.t + k, numbers) for k in range(size)]).sum(0), size)
        after()
    return play


@pytest.mark.parametrize("opponent", EXACT, ids=lambda opponent: opponent.__name__)
def test_opponents_stay_within_the_bound_and_in_eighths(opponent: Opponent) -> None:
    play, numbers = Play(60, 5, horizon=30), torch.Generator().manual_seed(0)
    for t in range(play.horizon):
        rewards = opponent(play, t, numbers)
        play.step(rewards)
        assert rewards.abs().max() <= 1
        assert torch.equal(8 * rewards, (8 * rewards).round())


# ---------------------------------------------------------------------------------------------------- one step, by hand


def test_log_weights_grow_by_the_rate_times_the_reward_and_are_shifted_so_that_the_leader_has_0() -> None:
    log_v, _ = step(floats([0.0, -1.0, -2.0]), masks([1, 1, 1]), floats([1.0, -0.5, 0.25]), eta=0.5)
    assert torch.equal(log_v, floats([0.0, -1.75, -2.375]))  # 0.5, -1.25, -1.875 before the shift


def test_the_lead_can_change_hands() -> None:
    log_v, _ = step(floats([0.0, -0.5]), masks([1, 1]), floats([-1.0, 1.0]))
    assert torch.equal(log_v, floats([-1.5, 0.0]))


def test_weights_of_a_step_known_by_hand() -> None:
    rewards = floats([1.0, 0.0, -1.0])
    log_v, active = step(floats([0.0] * 3), masks([1, 1, 1]), rewards, eta=math.log(2))  # times 2, 1 and 1/2
    torch.testing.assert_close(weights(log_v, active), floats([4 / 7, 2 / 7, 1 / 7]))


def test_the_margin_is_what_the_leader_can_lose_and_the_other_gain_in_the_rounds_that_remain() -> None:
    margin = wipe_out_margin(eta=0.5, bound=3.0, t=7, horizon=11, dtype=F64)
    assert margin == pytest.approx(0.5 * (3.0 + 3.0) * 4, rel=1e-7)
    assert margin > 12.0  # the rest is slack


def test_experts_that_were_thousands_apart_and_tie_at_the_end_both_survive() -> None:
    horizon, size = 7_500_000, 384
    eta = learning_rate(8, horizon, 1.0)
    log_v, active = torch.zeros(1, 8, dtype=F64), torch.ones(1, 8, dtype=torch.bool)
    played = totals = 0.0
    for k in range(-(-horizon // size)):
        rounds = min(size, horizon - k * size)
        played += rounds
        lead = 362.5 if k < 9984 else -384.0 if k < 9984 + 9425 else 0.0
        totals += lead
        rewards = torch.tensor([[lead, -lead, *[-float(rounds)] * 6]], dtype=F64)
        log_v, active = expert_update(log_v, active, rewards, eta=eta, bound=1.0, t=int(played), horizon=horizon)
    assert totals == 0.0  # in whole numbers they tie exactly
    assert played == horizon
    assert log_v[0, :2].tolist() != [0.0, 0.0]  # and rounding has separated them, or this would be no test of it
    assert active.tolist() == [[True, True, *[False] * 6]]


@pytest.mark.parametrize("eta", [1.0, 0.1, 1e-4])
@pytest.mark.parametrize("bound", [1.0, 0.3, 7.0])
def test_an_expert_exactly_at_the_threshold_stays_and_one_a_millionth_below_goes(eta: float, bound: float) -> None:
    margin = 2 * eta * bound * 3  # after 7 of 10 rounds
    log_v = floats([0.0, -margin * (1 - 1e-6), -margin, -margin * (1 + 1e-6) - 1e-6])
    setting = {"eta": eta, "bound": bound, "t": 7, "horizon": 10}
    kept, active = step(log_v, everyone(log_v), torch.zeros_like(log_v), **setting)
    assert torch.equal(active, masks([1, 1, 1, 0]))
    assert torch.equal(kept, log_v)


def test_after_the_last_round_only_those_who_tie_for_the_lead_are_left() -> None:
    log_v = floats([0.0, 0.0, -1e-6, -3.0])
    assert torch.equal(step(log_v, everyone(log_v), torch.zeros_like(log_v), t=100)[1], masks([1, 1, 0, 0]))


def test_rounding_does_not_break_a_tie() -> None:
    play = Play(1, 3, horizon=30, eta=0.1)
    thirds = [floats([0.1, 0.2, 0.3]), floats([0.2, 0.3, 0.1]), floats([0.3, 0.1, 0.2])]
    for t in range(play.horizon):  # the sums of 10 × 0.1, 0.2 and 0.3 round differently in different order
        play.step(thirds[t // 10])
    assert len(set(play.log_v[0].tolist())) > 1
    assert play.active.all()


def test_the_threshold_is_measured_from_the_best_active_expert() -> None:
    log_v, active = floats([50.0, 0.0, -1.0, -5.0]), masks([0, 1, 1, 1])
    log_v, active = step(log_v, active, torch.zeros_like(log_v), t=98)  # margin 4
    assert torch.equal(active, masks([0, 1, 1, 0]))
    assert torch.equal(log_v, floats([50.0, 0.0, -1.0, -5.0]))


def test_inactive_experts_are_not_rewarded_and_keep_their_distance_to_the_leader_of_their_time() -> None:
    log_v, active = step(floats([0.0, -1.0, -5.0]), masks([1, 1, 0]), floats([1.0, 0.5, 1.0]))
    assert torch.equal(log_v, floats([0.0, -1.5, -6.0]))  # the leader moved away by 1, and so the shift is 1
    assert torch.equal(active, masks([1, 1, 0]))


@pytest.mark.parametrize("reward", [NAN, INF, -INF, 1e300])
def test_rewards_of_inactive_experts_are_ignored_whatever_they_are(reward: float) -> None:
    log_v, active = floats([0.0, -1.0, -5.0], [-7.0, 0.0, -1.0]), masks([1, 1, 0], [0, 1, 1])
    rewards = fractions_of_the_bound(2, 3)
    expected = step(log_v, active, rewards)
    got = step(log_v, active, torch.where(active, rewards, reward))
    assert torch.equal(got[0], expected[0])
    assert torch.equal(got[1], expected[1])


def test_nobody_returns_even_when_level_with_the_leader() -> None:
    _, active = step(floats([0.0, 0.0]), masks([1, 0]), floats([-1.0, 1.0]))
    assert torch.equal(active, masks([1, 0]))


def test_a_lone_expert_stays_whatever_it_earns() -> None:
    log_v, active = step(floats([0.0], [0.0]), masks([1], [1]), floats([-1.0], [1.0]), t=100)
    assert torch.equal(log_v, floats([0.0], [0.0]))
    assert active.all()


def test_before_the_first_round_nothing_happens() -> None:
    log_v, active = step(floats([0.0, 0.0]), masks([1, 1]), floats([0.0, 0.0]), t=0)
    assert torch.equal(log_v, floats([0.0, 0.0]))
    assert active.all()


def test_an_infinite_margin_switches_wipe_out_off() -> None:
    log_v = floats([0.0, -1e300])
    kept, active = updated(log_v, everyone(log_v), torch.zeros_like(log_v), eta=1.0, margin=INF)
    assert active.all()
    assert torch.equal(kept, log_v)


def test_the_update_without_checks_reads_nothing_from_the_device() -> None:
    log_v = torch.zeros(3, 4, dtype=F64, device="meta")  # has no values: every read raises
    after, active = updated(log_v, everyone(log_v), torch.zeros_like(log_v), eta=1.0, margin=1.0)
    assert (after.shape, active.dtype) == ((3, 4), torch.bool)


@pytest.mark.parametrize("own", [torch.float32, F64])
@pytest.mark.parametrize("given", [torch.float32, F64])
def test_log_weights_keep_their_precision_whatever_that_of_the_rewards(own: torch.dtype, given: torch.dtype) -> None:
    log_v, _ = step(torch.zeros(1, 2, dtype=own), masks([1, 1]), torch.tensor([[1.0, -0.5]], dtype=given))
    assert torch.equal(log_v, torch.tensor([[0.0, -1.5]], dtype=own))


# ---------------------------------------------------------------------------- the paper's algorithm, with exact weights


@dataclass
class Told:
    """What the paper's algorithm says after a round."""

    active: list[bool]
    weights: list[float]


def paper(rounds: Sequence[Sequence[Any]], horizon: int, factor: Callable[[Any], Any], two_bounds: Any) -> list[Told]:
    """The figure of the paper, word for word.

    Args:
        rounds: Rewards of each expert in each round.
        horizon: Rounds T.
        factor: exp(eta × reward), in exact or many-digit arithmetic.
        two_bounds: 2 L.
    """
    v = [factor(0 * two_bounds) for _ in rounds[0]]
    left = set(range(len(v)))
    told = []
    for t, rewards in enumerate(rounds, start=1):
        for i in left:
            v[i] = v[i] * factor(rewards[i])
        threshold = max(v[i] for i in left) * factor(-two_bounds * (horizon - t))
        left = {i for i in left if not v[i] < threshold}
        total = sum(v[i] for i in left)
        alive = [i in left for i in range(len(v))]
        told.append(Told(alive, [float(v[i] / total) * alive[i] for i in range(len(v))]))
    return told


def assert_same(play: Play, references: Sequence[Sequence[Told]]) -> None:
    now = [reference[play.t - 1] for reference in references]
    assert play.active.tolist() == [told.active for told in now]
    torch.testing.assert_close(play.weights, floats(*(told.weights for told in now)), rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize(("experts", "horizon"), [(2, 6), (3, 12), (5, 9), (8, 16)])
def test_games_of_whole_rewards_equal_the_paper_played_with_fractions(experts: int, horizon: int) -> None:
    # With eta = ln 2 weights are powers of two: many meet the threshold exactly, and fractions decide those too.
    games = torch.randint(-1, 2, (horizon, 100, experts), generator=torch.Generator().manual_seed(horizon))
    references = [paper(game.tolist(), horizon, lambda r: Fraction(2) ** r, 2) for game in games.unbind(1)]
    play = Play(100, experts, horizon, eta=math.log(2))
    for rewards in games:
        play.step(rewards.to(F64))
        assert_same(play, references)


@pytest.mark.parametrize(("experts", "horizon", "bound"), [(2, 10, 1.0), (4, 25, 0.3), (8, 12, 5.0)])
def test_games_of_any_rewards_equal_the_paper_played_with_fifty_digits(
    experts: int, horizon: int, bound: float
) -> None:
    games = bound * fractions_of_the_bound(horizon, 30, experts, seed=horizon)
    play = Play(30, experts, horizon, bound)
    with localcontext(prec=50):
        eta, two_bounds = Decimal(play.eta), 2 * Decimal(bound)
        references = [
            paper([[Decimal(r) for r in row] for row in game.tolist()], horizon, lambda r: (eta * r).exp(), two_bounds)
            for game in games.unbind(1)
        ]
    for rewards in games:
        play.step(rewards)
        assert_same(play, references)


# ---------------------------------------------------------------------------------------------------- the learning rate


@pytest.mark.parametrize(("horizon", "printed"), [(7_500_000, 7.4466e-4), (2_500_000, 1.28979e-3)])
def test_rates_of_the_default_search_have_the_printed_digits(horizon: int, printed: float) -> None:
    assert learning_rate(8, horizon, 1.0) == pytest.approx(printed, abs=5e-9)


def test_the_rate_falls_with_the_root_of_the_rounds_and_with_the_bound() -> None:
    assert learning_rate(8, 400, 2.0) == pytest.approx(learning_rate(8, 100, 1.0) / 4, rel=1e-15)


@pytest.mark.parametrize(("experts", "horizon", "bound"), [(2, 1, 1.0), (8, 2_500_000, 1.0), (5, 700, 0.03)])
def test_the_rate_minimizes_the_guarantee(experts: int, horizon: int, bound: float) -> None:
    eta = learning_rate(experts, horizon, bound)
    least = guarantee(eta, experts, horizon, bound)
    assert least == pytest.approx(bound * math.sqrt(2 * horizon * math.log(experts)), rel=1e-14)
    assert all(guarantee(factor * eta, experts, horizon, bound) > least for factor in (0.99, 1.01))


# ----------------------------------------------------------------------------------------------------------- the regret


def guarantee(eta: float, experts: int, horizon: int, bound: float) -> float:
    """Largest regret of exponentiated gradient with any rate."""
    return math.log(experts) / eta + eta * horizon * bound**2 / 2


@every_opponent
@pytest.mark.parametrize(("experts", "horizon", "bound"), [(8, 300, 1.0), (2, 200, 0.25), (5, 40, 4.0)])
def test_regret_is_at_most_the_bound_times_the_root_of_2_T_ln_N(
    opponent: Opponent, experts: int, horizon: int, bound: float
) -> None:
    play = play_out(Play(150, experts, horizon, bound), opponent)
    assert play.regret.max() <= bound * math.sqrt(2 * horizon * math.log(experts))


@every_opponent
def test_regret_without_wipe_out_has_the_same_bound(opponent: Opponent) -> None:
    play = play_out(Play(150, 6, horizon=200, announced=10**9), opponent)
    assert play.active.all()
    assert play.regret.max() <= math.sqrt(2 * 200 * math.log(6))


@every_opponent
@pytest.mark.parametrize("factor", [0.1, 0.5, 3.0, 30.0])
def test_regret_with_another_rate_has_the_bound_of_that_rate(opponent: Opponent, factor: float) -> None:
    eta = factor * learning_rate(4, 150, 2.0)
    play = play_out(Play(100, 4, horizon=150, bound=2.0, eta=eta), opponent)
    assert play.regret.max() <= guarantee(eta, 4, 150, 2.0)


@pytest.mark.parametrize(("factor", "opponent"), [(1e3, all_against_the_heaviest), (1e-3, constant_gaps)])
def test_the_games_are_hard_enough_to_punish_a_wrong_rate(factor: float, opponent: Opponent) -> None:
    # Large: follows the leader. Small: never learns.
    play = play_out(Play(20, 8, horizon=300, eta=factor * learning_rate(8, 300, 1.0), announced=10**9), opponent)
    assert play.regret.max() > 1.5 * math.sqrt(2 * 300 * math.log(8))


# ------------------------------------------------------------------------------------------- the safety of the wipe-out


@every_opponent
@pytest.mark.parametrize("bound", [1.0, 0.25, 8.0])
@pytest.mark.parametrize("seed", [0, 1])
def test_who_is_best_in_hindsight_survives_and_alone_however_rounds_are_grouped(
    opponent: Opponent, bound: float, seed: int
) -> None:
    play = play_in_batches(Play(60, 5, horizon=100, bound=bound), opponent, seed)
    assert play.t == play.horizon
    assert play.active[play.gaps == 0].all()
    assert (play.gaps[play.active] <= 1e-6).all()


@every_opponent
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_no_expert_is_removed_that_could_still_have_led_and_all_others_are(opponent: Opponent, seed: int) -> None:
    play = Play(60, 5, horizon=80, bound=2.0)

    def check() -> None:
        most, rest = play.totals.amax(1, keepdim=True), play.bound * (play.horizon - play.t)
        highest, lowest = play.totals + rest, most - rest  # if it wins all rounds from now on, and the leader loses all
        assert play.active[highest >= lowest].all()
        assert (highest >= lowest - 1e-6)[play.active].all()

    play_in_batches(play, opponent, seed, check)


def test_late_bloomers_come_back_from_nearly_as_far_as_there_is_a_way_back_while_others_are_gone() -> None:
    play, furthest = Play(60, 5, horizon=100), torch.zeros(60, 5, dtype=F64)
    gone_early = torch.zeros(60, 5, dtype=torch.bool)

    def note() -> None:
        furthest.copy_(torch.maximum(furthest, play.gaps))
        gone_early.logical_or_(~play.active & (play.t < 90))

    play_in_batches(play, late_bloomer, 0, note)
    assert (furthest[:, 0] >= 96).all()  # behind expert 1; from more than 100 there is none
    assert play.active[:, 0].any()
    assert gone_early[play.active[:, 0]].any()


def test_random_games_end_with_ties() -> None:
    assert (play_in_batches(Play(60, 5, horizon=100), ties, 0).active.sum(1) > 1).any()


def test_the_experts_alive_at_a_time_do_not_depend_on_how_the_rounds_before_were_grouped() -> None:
    games = torch.randint(-1, 2, (60, 200, 4), generator=torch.Generator().manual_seed(0)).to(F64)
    alive: dict[int, Tensor] = {}
    for batches in ([1] * 60, [60], [7] * 8 + [4], [30, 30], [10] * 6, random_batches(60, 0), random_batches(60, 1)):
        play = Play(200, 4, horizon=60)
        for size in batches:
            play.step(games[play.t : play.t + size].sum(0), size)
            assert torch.equal(play.active, alive.setdefault(play.t, play.active))
    assert len(alive) == 60


# ----------------------------------------------------------------------------------------------------- constant rewards


def test_with_constant_rewards_log_weights_are_the_rate_times_the_sum_exactly() -> None:
    rewards = floats([1.0, 0.75, 0.5, -1.0])
    play = Play(1, 4, horizon=4096, eta=2.0**-7)
    for _ in range(1024):
        play.step(rewards)
    assert torch.equal(play.log_v, 2.0**-7 * 1024 * (rewards - 1))


@pytest.mark.parametrize("batch", [1, 10, 64])
def test_with_any_constant_rewards_log_weights_are_the_rate_times_the_sum(batch: int) -> None:
    rewards = 0.7 * fractions_of_the_bound(6, 5)
    play = Play(6, 5, horizon=6400, bound=0.7)
    for _ in range(640 // batch):
        play.step(batch * rewards, batch)
    expected = learning_rate(5, 6400, 0.7) * 640 * (rewards - rewards.amax(1, keepdim=True))
    torch.testing.assert_close(play.log_v, expected, rtol=1e-12, atol=1e-12)


def test_an_expert_that_trails_by_r_per_round_goes_in_the_first_round_past_2_L_T_over_2_L_plus_r() -> None:
    play = Play(3, 2, horizon=20_000)
    trailing = floats([1.0], [0.5], [0.1]) / 2
    gone: dict[int, int] = {}
    while len(gone) < 3:
        play.step(torch.cat([trailing, -trailing], dim=1))
        for edge in (~play.active[:, 1]).nonzero().flatten().tolist():
            gone.setdefault(edge, play.t)
    # Of the second, 40,000 / 2.5 = 16,000: then it can still draw level, and stays for another round.
    assert gone == {0: 13_334, 1: 16_001, 2: 19_048}
    assert play.active[:, 0].all()


def test_the_moment_of_the_wipe_out_scales_with_the_bound() -> None:
    play = Play(1, 2, horizon=100, bound=0.25)
    while play.active.all():
        play.step(floats([0.25, -0.25]))  # the farthest apart they can be: gone when more than half is played
    assert play.t == 51


# ---------------------------------------------------------------------------------------------------------- large games


def extremes(call: int, calls: int, size: float) -> Tensor:
    """Rewards of a call of seven games of eight experts, all at the bound."""
    one = torch.full((8,), -size, dtype=F64)
    one[0] = size
    other = one.roll(1)
    return torch.stack(
        [
            one,
            -one,
            torch.full_like(one, size),
            torch.full_like(one, -size),
            one if call % 2 else -one,  # swings
            one if call < calls // 2 else other,  # the leader is caught up with exactly at the end
            one.roll(call),  # all take turns
        ]
    )


@pytest.mark.parametrize(("bound", "eta"), [(1.0, None), (1e3, None), (1e-3, None), (1.0, 1.0), (1.0, 1e-9)])
def test_ten_million_rounds_at_the_bound_stay_finite(bound: float, eta: float | None) -> None:
    play, calls, rounds = Play(7, 8, horizon=10**7, bound=bound, eta=eta), 100, 10**5
    for call in range(calls):
        play.step(extremes(call, calls, bound * rounds), rounds)
        assert play.log_v.isfinite().all()
        assert torch.equal(play.log_v.masked_fill(~play.active, -INF).amax(1), torch.zeros(7, dtype=F64))
        assert play.weights.isfinite().all()
        torch.testing.assert_close(play.weights.sum(1), torch.ones(7, dtype=F64), rtol=0, atol=1e-14)
    assert play.t == play.horizon
    # Of the last, turns 0 to 3 came once more than the others.
    left = [[0], [1, 2, 3, 4, 5, 6, 7], [*range(8)], [*range(8)], [*range(8)], [0, 1], [0, 1, 2, 3]]
    assert [row.nonzero().flatten().tolist() for row in play.active] == left


def test_without_wipe_out_ten_million_rounds_stay_finite_and_are_the_rate_times_the_sum() -> None:
    log_v = torch.zeros(7, 8, dtype=F64)
    active, totals, eta = everyone(log_v), torch.zeros(7, 8, dtype=F64), learning_rate(8, 10**7, 1.0)
    for call in range(100):
        rewards = extremes(call, 100, 1e5)
        totals += rewards
        log_v, active = updated(log_v, active, rewards, eta=eta, margin=INF)
        torch.testing.assert_close(weights(log_v, active).sum(1), torch.ones(7, dtype=F64), rtol=0, atol=1e-14)
    assert active.all()
    torch.testing.assert_close(log_v, eta * (totals - totals.amax(1, keepdim=True)), rtol=1e-12, atol=1e-9)


def test_single_rounds_late_in_a_large_game_are_resolved() -> None:
    play = Play(1, 8, horizon=10**7)
    play.step(torch.cat([floats([4e6]), floats([-4e6] * 7)], dim=1), 4 * 10**6)
    before = play.log_v.clone()
    assert before[0, 1] < -5000  # where float32 resolves half a thousandth
    for _ in range(1000):
        play.step(floats([0.0, 1e-3, -1e-3, 0.0, 0.0, 0.0, 0.0, 0.0]))
    expected = play.eta * floats([0.0, 1.0, -1.0, 0.0, 0.0, 0.0, 0.0, 0.0])
    torch.testing.assert_close(play.log_v - before, expected, rtol=1e-6, atol=0)


# --------------------------------------------------------------------------------------------------------- equivariance


def state(seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Six edges of five experts in the middle of a game: about half are gone, and some go in the next step."""
    log_v = 12 * fractions_of_the_bound(6, 5, seed=seed)
    active = fractions_of_the_bound(6, 5, seed=seed + 1) < 0.3
    active[:, 2] = True
    return log_v, active, fractions_of_the_bound(6, 5, seed=seed + 2)


def test_the_state_of_these_tests_has_some_that_stay_some_that_go_and_some_that_are_gone() -> None:
    log_v, active, rewards = state()
    after = step(log_v, active, rewards, t=96)[1]
    assert after.any()
    assert (active & ~after).any()
    assert (~active).any()


def test_permuted_experts_have_permuted_results() -> None:
    order = [3, 0, 4, 1, 2]
    expected = step(*state(), t=96)
    got = step(*(tensor[:, order] for tensor in state()), t=96)
    assert torch.equal(got[0], expected[0][:, order])
    assert torch.equal(got[1], expected[1][:, order])


def test_an_edge_does_not_depend_on_other_edges() -> None:
    together = step(*state(), t=96)
    for edge in range(6):
        alone = step(*(tensor[edge : edge + 1] for tensor in state()), t=96)
        assert torch.equal(alone[0][0], together[0][edge])
        assert torch.equal(alone[1][0], together[1][edge])


def test_a_shift_of_all_log_weights_of_an_edge_does_not_matter() -> None:
    log_v, active, rewards = state()
    expected = step(log_v, active, rewards, t=96)
    got = step(log_v + 64 * torch.arange(6, dtype=F64)[:, None], active, rewards, t=96)
    torch.testing.assert_close(got[0], expected[0], rtol=0, atol=1e-12)
    assert torch.equal(got[1], expected[1])


def test_the_arguments_are_not_changed() -> None:
    given, untouched = state(), state()
    step(*given, t=96)
    assert all(torch.equal(a, b) for a, b in zip(given, untouched, strict=True))


@every_opponent
def test_an_expert_that_always_earns_less_than_another_does_not_change_who_wins(opponent: Opponent) -> None:
    numbers = torch.Generator().manual_seed(0)
    play, wider = Play(50, 4, horizon=60), Play(50, 5, horizon=60, eta=learning_rate(4, 60, 1.0))
    for t in range(60):
        rewards = opponent(play, t, numbers)
        play.step(rewards)
        wider.step(torch.cat([rewards, (rewards[:, 1:2] - 0.25).clamp(min=-1)], dim=1))
        assert torch.equal(wider.log_v[:, :4], play.log_v)
        assert torch.equal(wider.active[:, :4], play.active)


# ------------------------------------------------------------------------------------------------------ bounded rewards


def cells(*examples: float) -> Tensor:
    """One cell with one edge of one expert."""
    return torch.tensor(examples, dtype=F64).view(1, 1, 1, -1)


@pytest.mark.parametrize("bound", [0.1, 1.0, 50.0])
def test_rewards_equal_a_loop_over_cells_and_examples(bound: float) -> None:
    gradients = 2 * torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(0), dtype=F64)
    expected = [[0.0] * 4 for _ in range(3)]
    for cell in gradients.tolist():
        for e, edge in enumerate(cell):
            for n, examples in enumerate(edge):
                for gradient in examples:
                    expected[e][n] += max(-bound, min(bound, -gradient))
    torch.testing.assert_close(bounded_rewards(gradients, bound), floats(*expected), rtol=1e-13, atol=1e-13)


def test_an_expert_along_which_the_loss_falls_is_rewarded() -> None:
    assert bounded_rewards(cells(-0.5, -0.25), 1.0).item() == 0.75


def test_every_round_is_bounded_before_the_sum() -> None:
    assert bounded_rewards(cells(3.0, -1.0), 1.0).item() == 0.0  # the sum of 2, bounded afterwards, would give -1
    assert bounded_rewards(cells(-0.75, -0.75), 1.0).item() == 1.5  # and here 1


def test_cells_are_bounded_one_by_one_too() -> None:
    assert bounded_rewards(torch.cat([cells(3.0), cells(-1.0)]), 1.0).item() == 0.0


@pytest.mark.parametrize("size", [1e4, 1e30, INF])
def test_huge_gradients_count_as_the_bound(size: float) -> None:
    gradients = torch.full((2, 3, 4, 5), -size)
    gradients[:, 1] = size
    expected = torch.full((3, 4), 2 * 5 * 0.5, dtype=F64)
    expected[1] *= -1
    assert torch.equal(bounded_rewards(gradients, 0.5), expected)


def test_an_expert_with_a_gradient_of_0_has_a_reward_of_exactly_0() -> None:
    assert bounded_rewards(torch.zeros(2, 3, 4, 5), 1.0).abs().max() == 0


def test_nan_stays_nan_where_it_is() -> None:
    gradients = torch.zeros(2, 3, 4, 5)
    gradients[1, 2, 0, 4] = NAN
    where = torch.zeros(3, 4, dtype=torch.bool)
    where[2, 0] = True
    assert torch.equal(bounded_rewards(gradients, 1.0).isnan(), where)


def test_single_precision_gradients_are_summed_in_double_precision() -> None:
    rewards = bounded_rewards(-cells(1.0, 2.0**-30).float(), 1.0)
    assert rewards.dtype == F64
    assert rewards.item() == 1 + 2.0**-30


def test_the_gradients_are_not_changed() -> None:
    gradients = cells(3.0, -1.0)
    bounded_rewards(gradients, 1.0)
    assert torch.equal(gradients, cells(3.0, -1.0))


@pytest.mark.parametrize(("device", "dtype"), [("cpu", F64), ("cuda", F64), ("mps", torch.float32)])
def test_double_precision_is_used_wherever_the_device_has_it(device: str, dtype: torch.dtype) -> None:
    assert exact_dtype(torch.device(device)) == dtype


# --------------------------------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize("t", [101, 10**9, -1])
def test_a_round_outside_the_horizon_is_refused(t: int) -> None:
    with pytest.raises(ValueError, match=rf"^round {t} is outside the horizon of 100 rounds\..*count the horizon"):
        step(*state(), t=t)


@pytest.mark.parametrize("name", ["eta", "bound"])
@pytest.mark.parametrize("value", [0.0, -1.0, NAN, INF])
def test_a_rate_or_bound_that_is_not_positive_and_finite_is_refused(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=rf"^{name} must be positive and finite, got {value}\.$"):
        step(*state(), **{name: value})


@pytest.mark.parametrize("shape", [(3, 0), (3,), (), (2, 3, 4)])
def test_log_weights_without_experts_or_of_another_rank_are_refused(shape: tuple[int, ...]) -> None:
    log_v = torch.zeros(shape, dtype=F64)
    with pytest.raises(ValueError, match=r"at least one expert, got torch\.float64 of shape \("):
        step(log_v, everyone(log_v), torch.zeros_like(log_v))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.int64])
def test_log_weights_of_low_precision_are_refused(dtype: torch.dtype) -> None:
    log_v = torch.zeros(2, 3, dtype=dtype)
    with pytest.raises(ValueError, match=rf"^log_v must be float64 or float32 .* got {dtype} of shape \(2, 3\)"):
        step(log_v, everyone(log_v), log_v)


@pytest.mark.parametrize("shape", [(6, 4), (1, 5), (5,), (5, 6)])
@pytest.mark.parametrize("position", [1, 2])
def test_shapes_that_differ_are_refused_even_where_they_could_be_broadcast(
    shape: tuple[int, ...], position: int
) -> None:
    arguments = list(state())
    arguments[position] = torch.ones(shape, dtype=arguments[position].dtype)
    with pytest.raises(ValueError, match=r"must have the shape of log_v, \(6, 5\); got "):
        step(*arguments)


def test_a_mask_that_is_not_bool_is_refused() -> None:
    log_v, active, rewards = state()
    with pytest.raises(ValueError, match=r"^active \(bool\) .* of torch\.float64"):
        step(log_v, active.to(F64), rewards)


@pytest.mark.parametrize("reward", [NAN, INF, -INF])
def test_a_reward_that_is_not_finite_is_refused_with_its_place_and_nothing_is_changed(reward: float) -> None:
    given, untouched = state(), state()
    for rewards in (given[2], untouched[2]):
        rewards[3, 2] = rewards[4, 2] = reward  # the first is named
    with pytest.raises(ValueError, match=rf"^the reward of expert 2 on edge 3 is {reward}; .*nothing was changed"):
        step(*given)
    assert all(torch.equal(a, b) for a, b in zip(given[:2], untouched[:2], strict=True))
    torch.testing.assert_close(given[2], untouched[2], rtol=0, atol=0, equal_nan=True)


def test_an_edge_with_nobody_left_is_refused() -> None:
    log_v, active, rewards = state()
    active[4] = False
    with pytest.raises(ValueError, match=r"^edge 4 has no active expert left\.$"):
        step(log_v, active, rewards)


@pytest.mark.parametrize("experts", [1, 0, -3])
def test_a_rate_for_fewer_than_two_experts_is_refused(experts: int) -> None:
    with pytest.raises(ValueError, match=rf"at least 2 experts to choose from, got {experts}\.$"):
        learning_rate(experts, 100, 1.0)


@pytest.mark.parametrize("horizon", [0, -5])
def test_a_rate_for_no_rounds_is_refused(horizon: int) -> None:
    with pytest.raises(ValueError, match=rf"^the horizon must be at least 1 round, got {horizon}\.$"):
        learning_rate(8, horizon, 1.0)


@pytest.mark.parametrize("bound", [0.0, -1.0, NAN, INF])
def test_a_rate_for_a_bound_that_is_not_positive_and_finite_is_refused(bound: float) -> None:
    with pytest.raises(ValueError, match=rf"^bound must be positive and finite, got {bound}\.$"):
        learning_rate(8, 100, bound)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_reward_of_low_precision_stays_within_the_bound(dtype: torch.dtype) -> None:
    rewards = bounded_rewards(torch.full((1, 1, 2, 1), -5.0, dtype=dtype), 0.1)
    assert rewards.tolist() == [[0.1, 0.1]]


@pytest.mark.parametrize("bound", [0.0, -1.0, math.nan, math.inf])
def test_rewards_cannot_be_bounded_by_a_number_that_is_not_positive(bound: float) -> None:
    with pytest.raises(ValueError, match="bound must be positive and finite, got"):
        bounded_rewards(torch.zeros(1, 1, 2, 1), bound)


def test_a_log_weight_that_is_no_number_is_refused() -> None:
    log_v = torch.tensor([[0.0, math.nan]], dtype=F64)
    with pytest.raises(ValueError, match="the log-weight of expert 1 on edge 0 is nan; the step is refused"):
        expert_update(log_v, everyone(log_v), torch.zeros_like(log_v), eta=1.0, bound=1.0, t=1, horizon=2)


def test_rewards_beyond_the_range_of_the_log_weights_are_refused() -> None:
    log_v, active = torch.zeros(1, 2, dtype=torch.float32), torch.ones(1, 2, dtype=torch.bool)
    with pytest.raises(ValueError, match=r"rewards of up to 1e\+39 exceed the range of torch.float32"):
        expert_update(log_v, active, torch.tensor([[1e39, 0.0]], dtype=F64), eta=1.0, bound=1.0, t=1, horizon=2)


def test_an_inactive_expert_may_have_no_weight_at_all() -> None:
    log_v = torch.tensor([[0.0, -math.inf, -1.0]], dtype=F64)
    active = torch.tensor([[True, False, True]])
    new, survivors = expert_update(log_v, active, torch.zeros(1, 3, dtype=F64), eta=0.1, bound=1.0, t=1, horizon=100)
    assert new.tolist() == log_v.tolist()
    assert torch.equal(survivors, active)
