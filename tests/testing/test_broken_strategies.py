"""The suite of strategies finds what is wrong with these, each broken in one way."""

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor
from torch.nn import Parameter
from torch.optim import Adam, Optimizer

from gradnas.ops import ArchParams
from gradnas.strategies import Batch, BatchLoss, GradientStrategy, MetaOptimizer, SearchSchedule
from gradnas.strategies.gradient import batch_gradient
from gradnas.supergraph import MixingRule, Model, Softmax, fixed, untouched_statistics
from gradnas.testing import StrategyTests

FOUND = (AssertionError, pytest.fail.Exception)


class Plain(GradientStrategy):
    """First-order DARTS: what the others break."""

    bilevel = True

    def __init__(self, *, lr: float = 0.1) -> None:
        super().__init__(self.rule())
        self.lr = lr

    def rule(self) -> MixingRule:
        return Softmax()

    def create_optimizer(self, alphas: list[Parameter]) -> Optimizer:
        return Adam(alphas, lr=self.lr)


def under_test(make: Callable[[], MetaOptimizer]) -> StrategyTests:
    class Suite(StrategyTests):
        def strategy(self) -> MetaOptimizer:
            return make()

    return Suite()


def with_rule(rule: type[MixingRule]) -> StrategyTests:
    class Ruled(Plain):
        def rule(self) -> MixingRule:
            return rule()

    return under_test(Ruled)


# ------------------------------------------------------------------------------------------------ what a step may touch


class LeavesWeightGradients(Plain):
    def gradients(self, train_batch: Batch, val_batch: Batch) -> list[Tensor]:
        with untouched_statistics(self._model):
            self._loss(val_batch).backward()
        return [alpha.grad.clone() for alpha in self._alphas]  # type: ignore[union-attr]


class MovesRunningStatistics(Plain):
    def gradients(self, train_batch: Batch, val_batch: Batch) -> list[Tensor]:
        with fixed(self._weights):
            return batch_gradient(self._loss, val_batch, self._alphas)


class DoesNotRestoreTheWeights(Plain):
    def gradients(self, train_batch: Batch, val_batch: Batch) -> list[Tensor]:
        found = super().gradients(train_batch, val_batch)
        with torch.no_grad():
            self._weights[0].mul_(1.001)
        return found


class ClearsTheMomentum(Plain):
    def gradients(self, train_batch: Batch, val_batch: Batch) -> list[Tensor]:
        self._weight_optimizer.state.clear()
        return super().gradients(train_batch, val_batch)


class FreezesAWeight(Plain):
    def gradients(self, train_batch: Batch, val_batch: Batch) -> list[Tensor]:
        self._weights[0].requires_grad_(False)
        return super().gradients(train_batch, val_batch)


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (LeavesWeightGradients, ".grad of weights"),
        (MovesRunningStatistics, "running_mean"),
        (DoesNotRestoreTheWeights, "weight"),
        (ClearsTheMomentum, "the state of the weight optimizer"),
        (FreezesAWeight, "requires_grad"),
    ],
)
def test_step_that_touches_the_weights(broken: type[Plain], message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        under_test(broken).test_architecture_step_changes_no_weight(fused=False)


class LearnsInTheWeightPass(Plain):
    @contextmanager
    def weight_pass(self, alphas: Sequence[Parameter], *, learning: bool) -> Iterator[None]:
        with super().weight_pass(alphas, learning=learning):
            yield
        with torch.no_grad():
            alphas[0].add_(0.01)


def test_architecture_moved_by_the_weight_step() -> None:
    with pytest.raises(AssertionError, match="the weight step changed"):
        under_test(LearnsInTheWeightPass).test_weight_step_changes_no_architecture_parameter()


class HoldsAWeight(Plain):
    def create_optimizer(self, alphas: list[Parameter]) -> Optimizer:
        return Adam([*alphas, next(self._model.weights())], lr=self.lr)


def test_weight_in_two_optimizers() -> None:
    with pytest.raises(AssertionError, match="two optimizers"):
        under_test(HoldsAWeight).test_weights_and_architecture_share_the_parameters()


# -------------------------------------------------------------------------------------------------------- the gradient


class DetachedFirstEdge(Softmax):
    def weights(self, alphas_EN: Tensor) -> Tensor:
        return torch.cat([alphas_EN[:1].detach(), alphas_EN[1:]]).softmax(dim=1)


def test_alphas_that_are_detached() -> None:
    with pytest.raises(AssertionError, match="got the gradient 0"):
        with_rule(DetachedFirstEdge).test_every_architecture_parameter_learns()


class TwiceTheGradient(Plain):
    def gradients(self, train_batch: Batch, val_batch: Batch) -> list[Tensor]:
        return [2 * gradient for gradient in super().gradients(train_batch, val_batch)]


class LearnsFromTheTrainingBatch(Plain):
    def gradients(self, train_batch: Batch, val_batch: Batch) -> list[Tensor]:
        return super().gradients(train_batch, train_batch)


@pytest.mark.parametrize("broken", [TwiceTheGradient, LearnsFromTheTrainingBatch])
def test_gradient_of_something_else(broken: type[Plain]) -> None:
    with pytest.raises(AssertionError):
        under_test(broken).test_gradient_is_that_of_the_objective(fused=False)


class FirstChunkOnly(Plain):
    def gradients(self, train_batch: Batch, val_batch: Batch) -> list[Tensor]:
        first = (val_batch[0].chunk(self._chunks)[0], val_batch[1].chunk(self._chunks)[0])
        with untouched_statistics(self._norms), fixed(self._weights):
            return batch_gradient(self._loss, first, self._alphas)


def test_chunks_that_are_forgotten() -> None:
    with pytest.raises(AssertionError, match="in two parts"):
        under_test(FirstChunkOnly).test_chunks_give_the_gradient_of_the_whole_batch(fused=False)


class OneHot(Softmax):
    """Weighs one candidate per edge, but does not say that the others need not be computed."""

    def weights(self, alphas_EN: Tensor) -> Tensor:
        soft = alphas_EN.softmax(dim=1)
        hard = torch.zeros_like(soft).scatter_(1, soft.argmax(dim=1, keepdim=True), 1.0)
        return hard + soft - soft.detach()


def test_candidates_without_weight_that_are_trained() -> None:
    with pytest.raises(AssertionError, match="had the mixing weight 0"):
        with_rule(OneHot).test_what_takes_no_part_does_not_move(fused=False)


# --------------------------------------------------------------------------------------------- sharing, order, mixture


class OwnParametersPerCell(Plain):
    def prepare(
        self,
        model: Model,
        loss: BatchLoss,
        weight_optimizer: Optimizer,
        *,
        chunks: int = 1,
        schedule: SearchSchedule | None = None,
        seed: int = 0,
    ) -> None:
        super().prepare(model, loss, weight_optimizer, chunks=chunks, schedule=schedule, seed=seed)
        op = model.typed_cells()[-1].mixed_ops()[0]
        copied = Parameter(op.alphas.detach().clone())
        op.release_arch_params()
        op.create_arch_params([("alphas", copied)])


@pytest.mark.filterwarnings("ignore:cells .* chose other edges")
def test_parameters_that_are_not_shared() -> None:
    with pytest.raises(AssertionError, match="alphas of its own"):
        under_test(OwnParametersPerCell).test_cells_of_a_type_share_the_architecture()


class Sorted(Softmax):
    def weights(self, alphas_EN: Tensor) -> Tensor:
        return alphas_EN.softmax(dim=1).sort(dim=1).values


class LikesTheFirst(Softmax):
    def weights(self, alphas_EN: Tensor) -> Tensor:
        return (alphas_EN - 0.5 * torch.arange(alphas_EN.shape[1])).softmax(dim=1)

    def probabilities(self, alphas_EN: Tensor) -> Tensor:
        return self.weights(alphas_EN)


@pytest.mark.parametrize("rule", [Sorted, LikesTheFirst])
def test_rule_that_looks_at_positions(rule: type[MixingRule]) -> None:
    with pytest.raises(AssertionError, match="in another order"):
        with_rule(rule).test_order_of_the_candidates_does_not_matter()


def test_rule_that_favours_a_position() -> None:
    with pytest.raises(AssertionError, match="prefers one of equal candidates"):
        with_rule(LikesTheFirst).test_no_position_is_favoured()


def test_sampled_rule_that_favours_a_position() -> None:
    suite = with_rule(LikesTheFirst)
    type(suite).deterministic = False  # as if it drew
    with pytest.raises(AssertionError, match="wins of equal candidates"):
        suite.test_no_position_is_favoured()


class SumToTwo(Softmax):
    def weights(self, alphas_EN: Tensor) -> Tensor:
        return 2 * alphas_EN.softmax(dim=1)


class Negative(Softmax):
    def weights(self, alphas_EN: Tensor) -> Tensor:
        return alphas_EN - alphas_EN.mean(dim=1, keepdim=True)


@pytest.mark.parametrize(("rule", "message"), [(SumToTwo, "weights"), (Negative, "negative")])
def test_weights_that_are_none(rule: type[MixingRule], message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        with_rule(rule).test_mixing_weights_are_weights()


class LeavesOneOut(Plain):
    """Computes a candidate less, whose mixing weight is not 0."""

    def gradients(self, train_batch: Batch, val_batch: Batch) -> list[Tensor]:
        found = super().gradients(train_batch, val_batch)
        for op in self._model.mixed_ops():
            op.compute_only([k > 0 for k in range(len(op.names))])
        return found


def test_candidate_that_is_left_out_with_a_weight() -> None:
    with pytest.raises(AssertionError, match="differ from the naive ones"):
        under_test(LeavesOneOut).test_edges_are_sums_of_their_candidates(fused=False)


# --------------------------------------------------------------------------------------------------------- the outcome


class PrefersNone(Softmax):
    def choose(self, edge: ArchParams, allowed: Sequence[int]) -> tuple[int, float]:
        _, rank = super().choose(edge, allowed)
        return len(allowed), rank  # the position of none in the list of the suite


class ResetsWhenAsked(Softmax):
    def choose(self, edge: ArchParams, allowed: Sequence[int]) -> tuple[int, float]:
        chosen = super().choose(edge, allowed)
        with torch.no_grad():
            next(edge.param_by_kind()).mul_(0.5)
        return chosen


class ChoosesTheWeakest(Softmax):
    def choose(self, edge: ArchParams, allowed: Sequence[int]) -> tuple[int, float]:
        strengths = self.probabilities(self.table([edge]).detach())[0].tolist()
        worst = min(allowed, key=lambda k: strengths[k])
        return worst, strengths[worst]


def test_none_in_the_found_architecture(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="keeps 'none'"):
        with_rule(PrefersNone).test_found_architecture_is_legal(tmp_path)


def test_finalizing_that_changes_the_model() -> None:
    with pytest.raises(AssertionError, match="finalizing changed the model"):
        with_rule(ResetsWhenAsked).test_finalizing_is_pure()


def test_found_architecture_that_was_not_recorded(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="kept"):
        with_rule(ChoosesTheWeakest).test_found_architecture_is_the_last_recorded_one(tmp_path)


class Maximizes(Plain):
    def gradients(self, train_batch: Batch, val_batch: Batch) -> list[Tensor]:
        return [-gradient for gradient in super().gradients(train_batch, val_batch)]


def test_strategy_that_finds_the_worst() -> None:
    with pytest.raises(AssertionError, match="chose the right candidate"):
        under_test(Maximizes).test_planted_candidate_is_found()


# ------------------------------------------------------------------------------------------------------- runs and state


class DrawsFromTheGlobalGenerator(Softmax):
    def weights(self, alphas_EN: Tensor) -> Tensor:
        noise = [[random.gauss(0.0, 1.0) for _ in row] for row in alphas_EN]  # torch's own one is seeded by the step
        return (alphas_EN + torch.tensor(noise)).softmax(dim=1)


def test_global_randomness(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="Python's global generator"):
        with_rule(DrawsFromTheGlobalGenerator).test_same_seed_same_search(tmp_path)


class Leaves(Plain):
    def new_epoch(self, epoch: int) -> None:
        with torch.random.fork_rng(devices=[]):
            torch.seed()
            self._noise = torch.randn(())

    def gradients(self, train_batch: Batch, val_batch: Batch) -> list[Tensor]:
        return [gradient + 0.01 * self._noise for gradient in super().gradients(train_batch, val_batch)]


def test_randomness_of_no_seed(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="two searches with one seed"):
        under_test(Leaves).test_same_seed_same_search(tmp_path)


class ForgetsItsOptimizer(Plain):
    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        pass


class ForgetsItsTemperature(Plain):
    """Cools by a factor in each epoch, from wherever it is."""

    def __init__(self, *, lr: float = 0.1) -> None:
        super().__init__(lr=lr)
        self._temperature = 1.0

    def new_epoch(self, epoch: int) -> None:
        self._temperature *= 0.5

    def gradients(self, train_batch: Batch, val_batch: Batch) -> list[Tensor]:
        return [gradient * self._temperature + 1e-4 for gradient in super().gradients(train_batch, val_batch)]


@pytest.mark.parametrize("broken", [ForgetsItsOptimizer, ForgetsItsTemperature])
def test_state_that_is_not_saved(broken: type[Plain], tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="differ after resuming"):
        under_test(broken).test_resumed_search_is_the_uninterrupted_one(tmp_path, fused=False)


class Freezing(Softmax):
    temperature = 1.0

    def weights(self, alphas_EN: Tensor) -> Tensor:
        return (alphas_EN / self.temperature).softmax(dim=1)


class CoolsToZero(Plain):
    def rule(self) -> MixingRule:
        self.freezing = Freezing()
        return self.freezing

    def new_epoch(self, epoch: int) -> None:
        self.freezing.temperature = 1.0 - (epoch + 1) / self.epochs()


@pytest.mark.parametrize("epochs", [1, 2])
def test_temperature_of_zero(epochs: int) -> None:
    with pytest.raises((AssertionError, FloatingPointError)):
        under_test(CoolsToZero).test_schedules_fit_any_number_of_epochs(epochs)


class NeverLearns(Plain):
    def warmup_epochs(self, epochs: int) -> int:
        return epochs


class StandsStill(Plain):
    def __init__(self, *, lr: float = 0.0) -> None:
        super().__init__(lr=lr)


@pytest.mark.parametrize(("broken", "message"), [(NeverLearns, "waits 1 of 1"), (StandsStill, "never moved")])
def test_search_that_never_learns(broken: type[Plain], message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        under_test(broken).test_schedules_fit_any_number_of_epochs(1)


class StartsEveryEpochAnew(Plain):
    def new_epoch(self, epoch: int) -> None:
        with torch.no_grad():
            for alpha in self._alphas:
                alpha.zero_()


def test_epoch_that_moves_the_architecture() -> None:
    with pytest.raises(AssertionError, match="changed"):
        under_test(StartsEveryEpochAnew).test_new_epoch_and_reports_change_nothing()


class TakesAnyModel(Plain):
    """Like one that is not derived from GradientStrategy, and does not look."""

    def prepare(self, *args: Any, **kwargs: Any) -> None:
        pass

    def step(self, train_batch: Batch, val_batch: Batch | None) -> None:
        pass

    @contextmanager
    def weight_pass(self, alphas: Sequence[Parameter], *, learning: bool) -> Iterator[None]:
        yield


def test_model_without_a_choice_that_is_accepted() -> None:
    with pytest.raises(FOUND):
        under_test(TakesAnyModel).test_model_without_a_choice_is_refused()


def test_options_that_do_not_come_back() -> None:
    class KeepsNothing(Plain):
        def __init__(self, *, rate: float = 0.1) -> None:
            super().__init__()

    with pytest.raises(TypeError, match="cannot be read back"):
        under_test(KeepsNothing).test_run_folder_can_repeat_the_run()


# -------------------------------------------------------------------------------------------------- numbers and passes


class Exponentials(Softmax):
    def weights(self, alphas_EN: Tensor) -> Tensor:
        raised = (2 * alphas_EN).exp()
        return raised / raised.sum(dim=1, keepdim=True)


def test_rule_that_overflows() -> None:
    with pytest.raises((AssertionError, FloatingPointError)):
        with_rule(Exponentials).test_extreme_architecture_parameters()


class TellsTooLittle(Plain):
    def forward_equivalents(self, n_candidates: int) -> float:
        return 3.0


class CostsNothing(Plain):
    def forward_equivalents(self, n_candidates: int) -> float:
        return 0.0


def test_cost_that_is_not_told() -> None:
    with pytest.raises(AssertionError, match="counted"):
        under_test(TellsTooLittle).test_passes_of_a_step_are_the_ones_told()
    with pytest.raises(AssertionError, match="forward_equivalents"):
        under_test(CostsNothing).test_cost_is_told()


class SaysSparse(Softmax):
    sparse: ClassVar[bool] = True


def test_sparse_rule_that_computes_everything() -> None:
    with pytest.raises(AssertionError):
        with_rule(SaysSparse).test_passes_of_a_step_are_the_ones_told()


class Silent(Softmax):
    def record(self, edges: Sequence[ArchParams]) -> dict[str, list[list[float]]]:
        return {}


def test_epoch_without_a_record(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="lacks"):
        with_rule(Silent).test_each_epoch_is_recorded(tmp_path)


def test_the_strategy_they_are_made_of_is_sound(tmp_path: Path) -> None:
    suite = under_test(Plain)
    suite.test_architecture_step_changes_no_weight(fused=False)
    suite.test_gradient_is_that_of_the_objective(fused=False)
    suite.test_order_of_the_candidates_does_not_matter()
    suite.test_resumed_search_is_the_uninterrupted_one(tmp_path, fused=False)
    suite.test_no_position_is_favoured()
