"""Tests of ``src/gradnas/supergraph/fused/execution.py``: both executions are one function."""

import copy
import io
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from gradnas.arch import DARTS_PRIMITIVES, ModelDesc, OpDesc
from gradnas.ops import Op
from gradnas.ops.native import is_usable
from gradnas.pipeline import XnasModelDescBuilder
from gradnas.spaces import DartsSpace
from gradnas.strategies.xnas_op import XnasOp
from gradnas.supergraph import MixedOp, Model, fixed, untouched_statistics
from gradnas.supergraph.fused import branches, execution

OTHERS = ("sep_conv_7x7", "conv_7x1_1x7", "conv_3x1_1x3", "convbnrelu_3x3", "convbnrelu_1x1")
DARTS = DartsSpace(channels=4, cells=5, nodes=3, reductions=2, image_size=12).build()


@st.composite
def descriptions(draw: Any) -> ModelDesc:
    reductions = draw(st.integers(0, 2))
    candidates = st.sampled_from([*DARTS_PRIMITIVES, *OTHERS])
    return DartsSpace(
        in_channels=draw(st.integers(1, 3)),
        image_size=(draw(st.integers(5, 13)), draw(st.integers(5, 13))),
        n_classes=3,
        channels=2 * draw(st.integers(1, 2)),
        cells=2 * reductions + draw(st.integers(1, 2)),
        nodes=draw(st.integers(1, 4)),
        reductions=reductions,
        primitives=draw(
            st.lists(candidates, min_size=2, max_size=5, unique=True).filter(lambda p: set(p) - {"none"} != set())
        ),
    ).build()


def keep_some(pair: tuple[Model, Model], seed: int) -> None:
    """Leave candidates out at random, the same in both models; an edge keeps one at least."""
    g = torch.Generator().manual_seed(seed)
    for ops in zip(*(model.mixed_ops() for model in pair), strict=True):
        n = len(ops[0].names)
        wanted = (torch.rand(n, generator=g) < 0.5).tolist()
        wanted[int(torch.randint(n, (), generator=g))] = True
        for op in ops:
            op.compute_only(wanted)


@pytest.mark.parametrize("compiled", [True, False])
@settings(deadline=None, max_examples=15, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(desc=descriptions(), affine=st.booleans(), seed=st.integers(0, 1000))
def test_fused_equals_plain(
    desc: ModelDesc,
    affine: bool,
    seed: int,
    compiled: bool,
    both: Any,
    batch: Any,
    assert_same_step: Any,
    assert_close: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if compiled and not is_usable(torch.float64):
        pytest.skip("there is no C compiler with OpenMP")
    monkeypatch.setattr(branches, "is_usable", lambda dtype: compiled)
    pair = both(desc, affine=affine, seed=seed)
    x, y = batch(desc, seed=seed)
    assert_same_step(pair, x, y)
    keep_some(pair, seed)
    assert_same_step(pair, x, y)
    for model in pair:
        model.eval()
    assert_close([model(x)[0] for model in pair], 1e-10, "logits of the evaluation")


def test_gradients_of_mixing_weights_of_each_example(both: Any, batch: Any, assert_close: Any) -> None:
    pair = both(DARTS)
    x, y = batch(DARTS)
    g = torch.Generator().manual_seed(0)
    shape = (sum(range(2, 5)), len(x), 8)
    tables = [torch.rand(shape, generator=g).requires_grad_() for _ in DARTS.cell_descs]
    gradients = []
    for model in pair:
        loss = F.cross_entropy(model(x, tables)[0], y)
        gradients.append(torch.autograd.grad(loss, tables))
    for a, b in zip(*gradients, strict=True):
        assert_close((a, b), 1e-10, "gradient of the mixing weights")
        assert (a[..., DARTS_PRIMITIVES.index("none")] == 0).all()


def test_second_derivatives(both: Any, batch: Any, assert_close: Any) -> None:
    desc = DartsSpace(channels=2, cells=3, nodes=2, reductions=1, image_size=8).build()
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


def test_an_op_without_a_fused_form_runs_as_it_is(both: Any, batch: Any, assert_same_step: Any) -> None:
    class Sine(Op):
        def __init__(self, op_desc: OpDesc) -> None:
            super().__init__()
            self.stride = op_desc.stride
            self.frequency = nn.Parameter(torch.ones(op_desc.conv.ch_in, 1, 1))

        def forward(self, x: Tensor) -> Tensor:
            return (self.frequency * x[:, :, :: self.stride, :: self.stride]).sin()

    space = DartsSpace(channels=2, cells=3, nodes=2, reductions=1, image_size=8)
    space.registry.register_op("sine", lambda desc, affine, _: Sine(desc))
    desc = _with_primitives(space, ("skip_connect", "sine", "sep_conv_3x3", "none"))
    pair = both(desc, registry=space.registry)
    x, y = batch(desc)
    assert_same_step(pair, x, y)
    keep_some(pair, 1)
    assert_same_step(pair, x, y)


def test_candidates_whose_layers_were_exchanged_are_computed_as_they_are_now(
    both: Any, batch: Any, assert_same_step: Any
) -> None:
    pair = both(DARTS)
    x, y = batch(DARTS)
    assert_same_step(pair, x, y)
    for model in pair:
        for op in model.mixed_ops():
            layers = op.candidates[op.names.index("sep_conv_3x3")].layers
            assert isinstance(layers, nn.Sequential)
            layers[3] = nn.GroupNorm(2, layers[3].num_features)
    assert_same_step(pair, x, y)


def test_settings_of_norms_that_change_count(both: Any, batch: Any, assert_same_step: Any) -> None:
    pair = both(DARTS)
    x, y = batch(DARTS)
    assert_same_step(pair, x, y)
    for eps, momentum in ((0.5, 0.1), (1e-5, 0.5), (1e-5, None)):
        for model in pair:
            for module in model.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.eps, module.momentum = eps, momentum
        assert_same_step(pair, x, y)


def test_exchanged_edges_and_ops_count(both: Any, batch: Any, assert_close: Any) -> None:
    pair = both(DARTS)
    x, _ = batch(DARTS)
    others = both(DARTS, seed=1)
    for model in pair:
        model(x)
    for model, other in zip(pair, others, strict=True):
        model.typed_cells()[0].edges()[0].op = other.typed_cells()[0].edges()[0].op
        model.typed_cells()[1].node_edges()[0][1] = other.typed_cells()[1].node_edges()[0][1]
    assert_close([model(x)[0] for model in pair], 1e-10, "logits")


def test_inference_mode_leaves_no_trace(both: Any, batch: Any, assert_same_step: Any) -> None:
    pair = both(DARTS)
    x, y = batch(DARTS)
    for model in pair:
        with torch.inference_mode():
            model(x)
    assert_same_step(pair, x, y)


def test_given_mixing_weights_may_have_another_precision(both: Any, batch: Any, assert_close: Any) -> None:
    pair = both(DARTS)
    x, _ = batch(DARTS)
    tables = [None if table is None else table.detach().float() for table in pair[0].mixing_weights()]
    assert_close([model(x, tables)[0] for model in pair], 1e-6, "logits")


def test_plans_do_not_pile_up(both: Any, batch: Any, assert_same_step: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(execution, "MAX_PROGRAMS", 2)
    pair = both(DARTS)
    x, y = batch(DARTS)
    for seed in range(5):
        keep_some(pair, seed)
        assert_same_step(pair, x, y)
    for cell in pair[1].typed_cells():
        assert cell._fused is not None
        assert len(cell._fused._programs) <= 2


@pytest.mark.parametrize("widest_bytes", [1, 5000])
def test_the_width_of_groups_changes_nothing(
    widest_bytes: int, both: Any, batch: Any, assert_same_step: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(execution, "WIDE_BYTES", widest_bytes)
    assert_same_step(both(DARTS), *batch(DARTS))


def test_float64_is_left_alone_by_autocast(both: Any, batch: Any, assert_same_step: Any) -> None:
    with torch.autocast("cpu", torch.bfloat16):
        assert_same_step(both(DARTS), *batch(DARTS))


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_model_in_half_precision_trains(dtype: torch.dtype, affine: bool, both: Any, batch: Any) -> None:
    model = both(DARTS, affine=affine)[1].to(dtype)
    x, y = batch(DARTS)
    F.cross_entropy(model(x.to(dtype))[0].float(), y).backward()
    assert all(p.grad is None or p.grad.dtype == dtype for p in model.parameters())
    assert any(buffer.abs().sum() > 0 for name, buffer in model.named_buffers() if name.endswith("running_mean"))


def test_norms_that_disagree_run_plain(both: Any, batch: Any, assert_same_step: Any) -> None:
    pair = both(DARTS)
    x, y = batch(DARTS)
    assert_same_step(pair, x, y)
    for model in pair:
        next(m for op in model.mixed_ops() for m in op.modules() if isinstance(m, nn.BatchNorm2d)).eval()
    assert_same_step(pair, x, y)


def test_statistics_stay_in_a_pass_that_must_not_move_them(both: Any, batch: Any) -> None:
    _, model = both(DARTS)
    before = copy.deepcopy(model.state_dict())
    with untouched_statistics(model):
        model(batch(DARTS)[0])
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())


def test_an_edge_that_needs_its_own_forward_gets_it(batch: Any) -> None:
    space = XnasModelDescBuilder(channels=2, cells=3, nodes=2, reductions=1, image_size=8)
    torch.manual_seed(0)
    model = Model(space.build(), affine=False, fused=True, registry=space.registry)
    x, y = batch(model.desc)
    op = next(model.mixed_ops())
    assert isinstance(op, XnasOp)
    with op.reward_pass():
        F.cross_entropy(model(x)[0], y, reduction="sum").backward()
    before = op.log_weights.clone()
    op.update_alphas(0.1, len(x), 100, 1.0)
    assert not torch.equal(before, op.log_weights)


def test_states_load_in_either_execution(both: Any, batch: Any) -> None:
    plain, fused = both(DARTS)
    assert list(plain.state_dict()) == list(fused.state_dict())
    fused(batch(DARTS)[0])
    plain.load_state_dict(fused.state_dict())
    for a, b in zip(plain.state_dict().values(), fused.state_dict().values(), strict=True):
        assert torch.equal(a, b)


def test_copies_and_saved_models_compute_with_their_own_weights(both: Any, batch: Any) -> None:
    _, model = both(DARTS)
    x, _ = batch(DARTS)
    model.eval()
    expected = model(x)[0]
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    for other in (copy.deepcopy(model), torch.load(file, weights_only=False)):
        assert torch.equal(other(x)[0], expected)
        with torch.no_grad():
            for p in other.parameters():
                p.zero_()
        assert not other(x)[0].any()
        assert torch.equal(model(x)[0], expected)


def test_finalizing_does_not_care(both: Any) -> None:
    from gradnas.finalizers import Finalizers

    plain, fused = both(DARTS)
    assert Finalizers().finalize_model(plain) == Finalizers().finalize_model(fused)


# ------------------------------------------------------------------------------------------------- what is not computed


def test_pools_are_computed_once_per_state_and_stride(
    both: Any, batch: Any, calls: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, model = both(DARTS)
    x, _ = batch(DARTS)
    monkeypatch.setattr(branches, "is_usable", lambda dtype: False)  # torch does not see what is compiled
    with calls:
        model(x)
    states_with_edges = 2 + 3 - 1
    assert calls.counts["max_pool2d_with_indices"] == calls.counts["avg_pool2d"] == states_with_edges * 5


@pytest.mark.parametrize("kept", ["skip_connect", "max_pool_3x3", "sep_conv_3x3"])
def test_candidates_left_out_cost_nothing(kept: str, both: Any, batch: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(branches, "is_usable", lambda dtype: False)  # torch does not count what is compiled
    pair = both(DARTS)
    x, _ = batch(DARTS)
    costs = []
    for model in pair:
        for op in model.mixed_ops():
            op.compute_only([name == kept for name in op.names])
        with FlopCounterMode(display=False) as counter:
            model(x)
        costs.append({op: n for op, n in counter.get_flop_counts()["Global"].items() if "conv" in str(op)})
    convolutions = [sum(cost.values()) for cost in costs]
    pointwise = convolutions[0] - convolutions[1]  # the fused execution multiplies matrices for these
    assert pointwise >= 0
    assert (pointwise == 0) == (kept != "sep_conv_3x3")


@pytest.mark.parametrize("fixed_weights", [True, False])
def test_a_pass_keeps_much_less_than_a_plain_one(fixed_weights: bool, both: Any, batch: Any) -> None:
    x, y = batch(DARTS)
    kept = []
    for model in both(DARTS):
        storages: dict[int, int] = {}

        def pack(t: Tensor, storages: dict[int, int] = storages) -> Tensor:
            storages[t.untyped_storage().data_ptr()] = t.untyped_storage().nbytes()
            return t

        with (
            fixed(model.weights() if fixed_weights else ()),
            torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t),
        ):
            loss = F.cross_entropy(model(x)[0], y)  # alive, so that no storage is used twice
        kept.append(sum(storages.values()))
        del loss
    assert kept[1] < 0.6 * kept[0]


HOST_READS = ("_local_scalar_dense", "item", "nonzero", "is_nonzero", "equal")


def test_a_pass_reads_nothing_from_the_device(both: Any, batch: Any, calls: Any) -> None:
    _, model = both(DARTS)
    x, y = batch(DARTS)
    model(x)  # the first pass compiles
    with calls:
        F.cross_entropy(model(x)[0], y).backward()
    assert not [name for name in HOST_READS if calls.counts[name]]


def _with_primitives(space: DartsSpace, primitives: tuple[str, ...]) -> ModelDesc:
    """The description of a space whose candidates include one of its own registry."""
    from dataclasses import replace

    from gradnas.arch import Params

    conf = space.conf
    assert conf is not None
    return space.build(replace(conf, params=Params(primitives=primitives)))


def test_bfloat16_autocast_agrees_as_well_as_it_can(both: Callable[..., Any], batch: Callable[..., Any]) -> None:
    torch.set_default_dtype(torch.float32)
    plain, fused = both(DARTS)
    x, y = batch(DARTS, examples=8)
    exact = [p.grad.clone() for p in _after_step(plain, x, y) if p.grad is not None]
    errors = []
    for model in (plain, fused):
        with torch.autocast("cpu", torch.bfloat16):
            grads = [p.grad for p in _after_step(model, x, y) if p.grad is not None]
        norm = torch.stack([g.norm() for g in exact]).norm()
        errors.append(float(torch.stack([(g - e).norm() for g, e in zip(grads, exact, strict=True)]).norm() / norm))
    assert errors[1] < 1.5 * errors[0] + 0.01


def _after_step(model: Model, x: Tensor, y: Tensor) -> list[nn.Parameter]:
    model.zero_grad()
    F.cross_entropy(model(x)[0].float(), y).backward()
    return list(model.parameters())


def test_a_mixed_op_that_overrides_forward_is_called() -> None:
    class Doubled(MixedOp):
        def forward(self, x: Tensor, weights: Tensor | None = None) -> Tensor:
            return 2 * super().forward(x, weights)

    assert not Doubled(
        OpDesc("mixed_op", DARTS.cell_descs[0].nodes()[0].edges[0].op_desc.params), None, False
    ).can_fuse()
