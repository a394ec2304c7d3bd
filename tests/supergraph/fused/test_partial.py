"""Both executions are one function where candidates see a part of the channels, and where one of them is sampled."""

from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from gradnas.arch import DARTS_PRIMITIVES, ModelDesc, OpDesc
from gradnas.spaces import DartsSpace
from gradnas.strategies.gdas import HardGumbel
from gradnas.strategies.pc_darts import EdgeNormalized, PcDarts
from gradnas.supergraph import Model, untouched_statistics
from gradnas.supergraph.fused import execution
from gradnas.supergraph.fused.plan import compile_cell, parts_seen

OTHERS = ("sep_conv_7x7", "conv_7x1_1x7", "convbnrelu_3x3")


def partly(desc: ModelDesc, partial: int) -> ModelDesc:
    return PcDarts(partial=partial).supergraph(desc)


ODD = partly(DartsSpace(1, 7, 4, channels=4, cells=3, nodes=2, reductions=1).build(), 2)


@st.composite
def descriptions(draw: Any) -> ModelDesc:
    partial = draw(st.sampled_from([2, 3, 4]))
    reductions = draw(st.integers(0, 1))
    candidates = st.sampled_from([*DARTS_PRIMITIVES, *OTHERS])
    space = DartsSpace(
        in_channels=1,
        image_size=(draw(st.integers(5, 10)), draw(st.integers(5, 10))),
        n_classes=3,
        channels=partial * 2 * draw(st.integers(1, 2)),
        cells=2 * reductions + 1,
        nodes=draw(st.integers(1, 3)),
        reductions=reductions,
        primitives=draw(
            st.lists(candidates, min_size=2, max_size=4, unique=True).filter(lambda p: set(p) - {"none"} != set())
        ),
    )
    return partly(space.build(), partial)


def leave_out(pair: tuple[Model, Model], seed: int, *, empty: bool = False) -> None:
    """Leave candidates out at random, the same in both models; with ``empty`` all of some edges."""
    g = torch.Generator().manual_seed(seed)
    for ops in zip(*(model.mixed_ops() for model in pair), strict=True):
        n = len(ops[0].names)
        wanted = (torch.rand(n, generator=g) < 0.5).tolist()
        wanted[int(torch.randint(n, (), generator=g))] = True
        if empty and float(torch.rand((), generator=g)) < 0.4:
            wanted = [False] * n
        for op in ops:
            op.compute_only(wanted)


def with_rule(pair: tuple[Model, Model], rule: Any) -> None:
    for model in pair:
        model.set_mixing_rule(rule)
        for i, value in enumerate(model.all_owned().param_by_kind()):
            value.data = torch.randn(value.shape, generator=torch.Generator().manual_seed(i))


@settings(deadline=None, max_examples=25, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(desc=descriptions(), affine=st.booleans(), seed=st.integers(0, 1000))
def test_fused_equals_plain(
    desc: ModelDesc, affine: bool, seed: int, both: Any, batch: Any, assert_same_step: Any, assert_close: Any
) -> None:
    pair = both(desc, affine=affine, seed=seed)
    x, y = batch(desc, seed=seed)
    assert_same_step(pair, x, y)
    leave_out(pair, seed)
    assert_same_step(pair, x, y)
    for model in pair:
        model.eval()
    assert_close([model(x)[0] for model in pair], 1e-10, "logits of the evaluation")


def test_edges_that_are_weighted(both: Any, batch: Any, assert_same_step: Any, assert_close: Any) -> None:
    pair = both(ODD)
    with_rule(pair, EdgeNormalized())
    x, y = batch(ODD)
    assert_same_step(pair, x, y)
    betas = [p.grad for name, p in pair[1].named_parameters() if "betas" in name]
    assert len(betas) == 10
    assert all(g is not None and float(g) != 0 for g in betas)
    for model in pair:
        model.eval()
    assert_close([model(x)[0] for model in pair], 1e-10, "logits of the evaluation")


def test_edges_without_any_candidate_pass_the_other_channels_by(both: Any, batch: Any, assert_same_step: Any) -> None:
    pair = both(ODD)
    leave_out(pair, 3, empty=True)
    assert any(not op.computed for op in pair[0].mixed_ops())
    assert_same_step(pair, *batch(ODD))


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("some", [False, True])
def test_gradients_of_mixing_weights_of_each_example(
    some: bool, training: bool, both: Any, batch: Any, assert_close: Any
) -> None:
    pair = both(ODD)
    if some:
        leave_out(pair, 1)
    x, y = batch(ODD)
    g = torch.Generator().manual_seed(0)
    tables = [torch.rand(5, len(x), 9, generator=g).requires_grad_() for _ in ODD.cell_descs]
    outs, gradients = [], []
    for model in pair:
        outs.append(model.train(training)(x, tables)[0])
        inputs = [*tables, *model.weights()]
        gradients.append(
            torch.autograd.grad(F.cross_entropy(outs[-1], y), inputs, allow_unused=True, materialize_grads=True)
        )
    assert_close(outs, 1e-10, "logits")
    largest = max(float(a.abs().max()) for a in gradients[0])
    for a, b in zip(*gradients, strict=True):
        assert_close((a, b), 1e-10, "gradient", floor=1e-4 * largest)
    # None is not computed, and takes no part in the weight of what passes by, which is the last column.
    for found in gradients:
        assert not any(bool(table[..., DARTS_PRIMITIVES.index("none")].any()) for table in found[:3])
        assert all(bool((table[..., 8] != 0).any()) for table in found[:3])


def test_edges_with_other_parts_than_the_first_run_whole(both: Any, batch: Any, assert_same_step: Any) -> None:
    for first, others in ((1, 2), (2, 1), (2, 4)):

        def change(place: str, op: OpDesc, first: int = first, others: int = others) -> OpDesc:
            if "primitives" not in op.params:
                return op
            parts = first if place.endswith("nodes.0.edges.0") else others
            return OpDesc(op.name, op.params.replace(partial=parts))

        desc = ODD.map_ops(change)
        pair = both(desc)
        assert_same_step(pair, *batch(desc))
        for model in pair:  # rows are as long as the longest one
            assert [None if table is None else table.shape for table in model.mixing_weights()] == [(5, 9)] * 3
            assert [op.row_length for op in model.typed_cells()[0].mixed_ops()] == [8 + (first > 1)] + [
                8 + (others > 1)
            ] * 4


def test_channels_that_pass_are_weighed_apart_from_candidates(both: Any, batch: Any, assert_close: Any) -> None:
    """The last column of a table alone: both executions move with it, and by the same."""
    pair = both(ODD)
    x, _ = batch(ODD)
    g = torch.Generator().manual_seed(0)
    tables = [torch.rand(5, 9, generator=g) for _ in ODD.cell_descs]
    others = [torch.cat([table[:, :8], 1 - table[:, 8:]], dim=1) for table in tables]
    found = [[model(x, given)[0] for model in pair] for given in (tables, others)]
    for outs in found:
        assert_close(outs, 1e-10, "logits")
    assert float((found[0][0] - found[1][0]).detach().abs().max()) > 1e-3


def test_the_width_of_groups_changes_nothing(
    both: Any, batch: Any, assert_same_step: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(execution, "WIDE_BYTES", 1)
    assert_same_step(both(ODD), *batch(ODD))


def test_a_batch_of_one_and_maps_of_one_pixel(both: Any, batch: Any, assert_close: Any) -> None:
    desc = partly(DartsSpace(1, 2, 3, channels=4, cells=3, nodes=1, reductions=1).build(), 4)
    for examples in (1, 3):
        x, _ = batch(desc, examples=examples)
        assert_close([model.eval()(x)[0] for model in both(desc)], 1e-10, "logits")


def test_statistics_stay_in_a_pass_that_must_not_move_them(both: Any, batch: Any) -> None:
    _, model = both(ODD)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with untouched_statistics(model):
        model(batch(ODD)[0])
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())


def test_second_derivatives(both: Any, batch: Any, assert_close: Any) -> None:
    ops = ("max_pool_3x3", "skip_connect", "sep_conv_3x3", "none")
    desc = partly(DartsSpace(1, 7, 3, channels=4, cells=3, nodes=1, reductions=1, primitives=ops).build(), 2)
    x, y = batch(desc)
    products = []
    for model in both(desc):
        inputs = list(model.parameters())
        first = torch.autograd.grad(F.cross_entropy(model(x)[0], y), inputs, create_graph=True, allow_unused=True)
        g = torch.Generator().manual_seed(0)
        along = sum((f * torch.randn(f.shape, generator=g)).sum() for f in first if f is not None)
        products.append(torch.autograd.grad(along, inputs, allow_unused=True, materialize_grads=True))
    largest = max(float(p.abs().max()) for p in products[0])
    for a, b in zip(*products, strict=True):
        assert_close((a, b), 1e-9, "product of the Hessian and a vector", floor=1e-4 * largest)


def test_bfloat16_autocast_agrees_as_well_as_it_can(both: Any, batch: Any) -> None:
    torch.set_default_dtype(torch.float32)
    x, _ = batch(ODD, examples=8)
    plain, fused = both(ODD)
    exact = plain(x)[0].detach()
    errors = []
    for model in (plain, fused):
        with torch.autocast("cpu", torch.bfloat16):
            errors.append(float((model(x)[0].detach().float() - exact).norm() / exact.norm()))
    assert errors[1] < 1.5 * errors[0] + 0.01


# ------------------------------------------------------------------------------------------------------------- the plan


def test_the_plan_notes_by_which_edges_channels_pass() -> None:
    model = Model(ODD, affine=False, fused=True)
    reduction = model.typed_cells()[1]
    plan = compile_cell([list(node) for node in reduction.node_edges()], batch_statistics=True)  # type: ignore[arg-type]  # edges all
    assert plan.partial == parts_seen(edge.op for edge in reduction.edges()) == 2
    # Nodes 0 and 1 read the two inputs with stride 2, node 1 reads node 0 with stride 1: rows 0, 1 and 2, 3, 4.
    assert plan.passing == [{2: [(0, 0), (1, 2)]}, {2: [(0, 1), (1, 3)]}, {1: [(1, 4)]}, {}]
    assert parts_seen([]) == 1


def test_plain_models_have_nothing_that_passes() -> None:
    model = Model(DartsSpace(1, 8, 4, channels=4, cells=1, nodes=1, reductions=0).build(), affine=False, fused=True)
    plan = compile_cell([list(node) for node in model.typed_cells()[0].node_edges()], batch_statistics=True)  # type: ignore[arg-type]  # edges all
    assert plan.partial == 1
    assert plan.passing == [{}, {}, {}]


# ------------------------------------------------------------------------------------------------------- one candidate


@pytest.mark.parametrize("partial", [1, 2])
def test_sampled_candidates_give_the_same_step(partial: int, both: Any, batch: Any, assert_same_step: Any) -> None:
    desc = partly(DartsSpace(1, 7, 4, channels=4, cells=3, nodes=2, reductions=1).build(), partial)
    pair, rule = both(desc), HardGumbel(2.0)
    with_rule(pair, rule)
    x, y = batch(desc)
    idle, seen = 0, set[int]()
    for step in range(6):
        rule.draws.begin("weights", step)
        assert_same_step(pair, x, y)  # and no gradient in one execution alone
        for op, like in zip(*(model.mixed_ops() for model in pair), strict=True):
            of = [[p.grad is not None for p in candidate.parameters()] for candidate in like.candidates]
            assert of == [[p.grad is not None for p in candidate.parameters()] for candidate in op.candidates]
            idle += sum(bool(row) and not any(row) for row in of)
            seen |= {k for k, row in enumerate(of) if any(row)}
        for model in pair:
            assert all(p.grad is not None for p in model.all_owned().param_by_kind())
    assert idle > 100
    assert len(seen) >= 4
    for model in pair:
        model.eval()
    a, b = (model(x)[0] for model in pair)
    torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)


def test_a_sampled_pass_equals_one_of_all_candidates_with_the_same_weights(both: Any, batch: Any) -> None:
    desc = partly(DartsSpace(1, 7, 4, channels=4, cells=3, nodes=2, reductions=1).build(), 1)
    x, _ = batch(desc)
    for model in both(desc):
        rule = HardGumbel(2.0)
        model.set_mixing_rule(rule)
        tables: list[Tensor | None] = model.mixing_weights()
        everything = [None if table is None else table.unsqueeze(1).expand(-1, len(x), -1) for table in tables]
        torch.testing.assert_close(model(x, tables)[0], model(x, everything)[0], rtol=1e-9, atol=1e-11)
