"""Every built-in finalizer under the public suite, and the suite on broken ones."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import pytest
import torch
from torch import nn

from gradnas.arch import EdgeDesc, ModelDesc, NodeDesc, OpDesc
from gradnas.finalizers import Finalizers, RandomFinalizers
from gradnas.finalizers.finalizers import RankedEdge
from gradnas.supergraph import DagEdge, MixedOp, Model
from gradnas.testing import FinalizerTests


class TestFinalizers(FinalizerTests):
    def finalizers(self) -> Finalizers:
        return Finalizers()


class TestRandomFinalizers(FinalizerTests):
    ranks_edges: ClassVar[bool] = False

    def finalizers(self) -> Finalizers:
        return RandomFinalizers(3)


class TestRandomFinalizersOfPairs(FinalizerTests):
    ranks_edges: ClassVar[bool] = False
    distinct_inputs: ClassVar[bool] = False

    def finalizers(self) -> Finalizers:
        return RandomFinalizers(3, allow_same_edge=True)


# -------------------------------------------------------------------------- the suite on finalizers that are broken


def under_test(make: Callable[[], Finalizers]) -> FinalizerTests:
    class Suite(FinalizerTests):
        def finalizers(self) -> Finalizers:
            return make()

    return Suite()


class _KeepsNone(Finalizers):
    def finalize_edge(self, edge: DagEdge) -> tuple[EdgeDesc, float | None]:
        if not isinstance(edge.op, MixedOp):
            return super().finalize_edge(edge)
        strengths = edge.op.probabilities().tolist()
        best = max(range(len(strengths)), key=lambda k: strengths[k])
        return EdgeDesc(OpDesc(edge.op.names[best], edge.op.candidates[best].desc.params), edge.input_ids), 1.0


def test_finalizer_that_keeps_none() -> None:
    with pytest.raises(AssertionError):
        under_test(_KeepsNone).test_none_is_never_kept()
    with pytest.raises(AssertionError, match="keeps 'none'"):
        under_test(_KeepsNone).test_result_is_legal()


class _KeepsAll(Finalizers):
    def select_edges(self, ranked: Sequence[RankedEdge], max_final_edges: int) -> list[EdgeDesc]:
        return [edge for edge, _ in ranked]


def test_finalizer_without_a_limit() -> None:
    with pytest.raises(AssertionError, match="limit 1"):
        under_test(_KeepsAll).test_limit_is_kept(1)


class _LastOfEqual(Finalizers):
    def select_edges(self, ranked: Sequence[RankedEdge], max_final_edges: int) -> list[EdgeDesc]:
        strongest = sorted(ranked, key=lambda pair: (-pair[1], -pair[0].input_ids[0]))
        return [edge for edge, _ in strongest[:max_final_edges]]


class _Weakest(Finalizers):
    def select_edges(self, ranked: Sequence[RankedEdge], max_final_edges: int) -> list[EdgeDesc]:
        return [edge for edge, _ in sorted(ranked, key=lambda pair: pair[1])[:max_final_edges]]


def test_finalizer_that_keeps_others() -> None:
    with pytest.raises(AssertionError, match="all equal, but kept"):
        under_test(_LastOfEqual).test_ties_go_to_the_first()
    with pytest.raises(AssertionError, match="the strongest are"):
        under_test(_Weakest).test_strongest_are_kept()


class _DropsRequired(Finalizers):
    def get_edge_ranks(self, node: nn.ModuleList) -> tuple[list[EdgeDesc], list[RankedEdge]]:
        return [], super().get_edge_ranks(node)[1]


def test_finalizer_that_drops_what_is_no_choice() -> None:
    with pytest.raises(AssertionError, match="lost an edge that is no choice"):
        under_test(_DropsRequired).test_edges_without_a_choice_are_kept()


class _RandomPerCell(RandomFinalizers):
    def finalize_node(self, *args: Any, **kwargs: Any) -> NodeDesc:
        return super().finalize_node(*args, **{**kwargs, "trainables_from": kwargs["cell_index"]})


@pytest.mark.filterwarnings("ignore:cells .* chose other edges")
def test_finalizer_that_draws_for_each_cell() -> None:
    with pytest.raises(AssertionError, match="of one type"):
        under_test(_RandomPerCell).test_cells_of_a_type_are_equal()


class _DrawsGlobally(RandomFinalizers):
    def finalize_model(self, model: Model, to_cpu: bool = True, restore_device: bool = True) -> ModelDesc:
        self.seed = int(torch.randint(1000, ()))
        return super().finalize_model(model, to_cpu, restore_device)


class _CountsItsCalls(RandomFinalizers):
    def finalize_model(self, model: Model, to_cpu: bool = True, restore_device: bool = True) -> ModelDesc:
        self.seed += 1
        return super().finalize_model(model, to_cpu, restore_device)


def test_finalizer_that_gives_another_result_each_time() -> None:
    with torch.random.fork_rng(devices=[]), pytest.raises(AssertionError, match="torch's global generator"):
        under_test(_DrawsGlobally).test_model_is_left_as_it_was()
    with pytest.raises(AssertionError, match="another architecture"):
        under_test(_CountsItsCalls).test_twice_is_the_same()


class _LeavesEvaluationMode(Finalizers):
    def finalize_model(self, model: Model, to_cpu: bool = True, restore_device: bool = True) -> ModelDesc:
        return super().finalize_model(model.eval(), to_cpu, restore_device)


class _SharpensFirst(Finalizers):
    @torch.no_grad()
    def finalize_model(self, model: Model, to_cpu: bool = True, restore_device: bool = True) -> ModelDesc:
        for alpha in model.all_owned().param_by_kind():
            alpha.mul_(2.0)
        return super().finalize_model(model, to_cpu, restore_device)


def test_finalizer_that_changes_the_model() -> None:
    with pytest.raises(AssertionError, match="a mode, a flag"):
        under_test(_LeavesEvaluationMode).test_model_is_left_as_it_was()
    with pytest.raises(AssertionError, match="a tensor of the model"):
        under_test(_SharpensFirst).test_model_is_left_as_it_was()


class _TakesAnyNumber(Finalizers):
    def finalize_edge(self, edge: DagEdge) -> tuple[EdgeDesc, float | None]:
        desc, rank = super().finalize_edge(edge)
        return desc, 0.0 if rank is not None and rank != rank else rank


def test_finalizer_that_takes_what_is_no_number() -> None:
    with pytest.raises(pytest.fail.Exception, match="DID NOT RAISE"):
        under_test(_TakesAnyNumber).test_what_is_no_number_is_refused()


class _SharesWeights(Finalizers):
    """Gives the live weights of the model instead of copies."""

    def finalize_edge(self, edge: DagEdge) -> tuple[EdgeDesc, float | None]:
        desc, rank = super().finalize_edge(edge)
        assert isinstance(edge.op, MixedOp)
        op = edge.op.candidates[edge.op.names.index(desc.op_desc.name)]
        live = {"name": desc.op_desc.name, "sd": {name: value.detach() for name, value in op.state_dict().items()}}
        return EdgeDesc(replace(desc.op_desc, trainables=live), desc.input_ids), rank


def test_finalizer_that_shares_weights() -> None:
    with pytest.raises(AssertionError, match="not copies"):
        under_test(_SharesWeights).test_weights_are_copies_of_the_models()
