"""Tests of ``src/gradnas/supergraph/fused/program.py``: what a pass collects is what the modules and the table hold.

In float64, see the fixture in ``conftest.py``.
"""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrize

from gradnas.arch import DARTS_PRIMITIVES
from gradnas.ops import Op
from gradnas.spaces import DartsSpace
from gradnas.supergraph import Model
from gradnas.supergraph.cell import Cell
from gradnas.supergraph.dag_edge import DagEdge
from gradnas.supergraph.fused.layers import Convolution, Halving, Norm, Separable
from gradnas.supergraph.fused.plan import Column, Fan, Plan, compile_cell
from gradnas.supergraph.fused.program import Program

PRIMITIVES = (*DARTS_PRIMITIVES, "conv_3x1_1x3", "convbnrelu_3x3", "convbnrelu_1x1")
EDGES, CANDIDATES = 5, len(PRIMITIVES)


def make_cell(*, reduction: bool = False, affine: bool = True) -> Cell:
    """A cell of two nodes, every weight of which is different."""
    torch.manual_seed(0)
    space = DartsSpace(channels=2, cells=3, nodes=2, reductions=1, image_size=8, primitives=PRIMITIVES)
    cell = Model(space.build(), affine=affine).typed_cells()[1 if reduction else 0]
    with torch.no_grad():
        for p in cell.parameters():
            p.normal_()
    return cell


def plan_of(cell: Cell) -> Plan:
    nodes = [[edge for edge in node if isinstance(edge, DagEdge)] for node in cell.node_edges()]
    return compile_cell(nodes, batch_statistics=True)


def convolutions_of(op: nn.Module) -> list[Tensor]:
    return [module.weight for module in op.modules() if isinstance(module, nn.Conv2d)]


def norms_of(op: nn.Module) -> list[Tensor]:
    norms = [module for module in op.modules() if isinstance(module, nn.BatchNorm2d) and module.affine]
    return [tensor for norm in norms for tensor in (norm.weight, norm.bias)]


def centred(kernel: Tensor, size: torch.Size) -> Tensor:
    """The kernel in zeros, written element by element of the margin."""
    height, width = size[-2:]
    out = kernel.new_zeros((*kernel.shape[:2], height, width))
    top, left = (height - kernel.shape[2]) // 2, (width - kernel.shape[3]) // 2
    for i in range(kernel.shape[2]):
        for j in range(kernel.shape[3]):
            out[:, :, top + i, left + j] = kernel[:, :, i, j]
    return out


# ------------------------------------------------------------------------------------------------------------ weights


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("reduction", [True, False])
def test_collected_weights_are_those_of_the_candidates_in_the_order_of_the_columns(
    reduction: bool, affine: bool
) -> None:
    cell = make_cell(reduction=reduction, affine=affine)
    plan = plan_of(cell)
    collected = Program(plan).weights(None)
    keys = set()
    for group in plan.groups():
        ops = [cell.mixed_ops()[column.row].candidates[column.candidate] for column in group.columns]
        convolutions = [iter(convolutions_of(op)) for op in ops]
        norms = [iter(norms_of(op)) for op in ops]
        for i, (layer, _) in enumerate(group.steps()):
            # How many weights it takes of each op, in the order in which the op has them.
            counts = {Convolution: 1, Separable: 2, Halving: 2}
            count = 2 * layer.affine if isinstance(layer, Norm) else counts.get(type(layer), 0)
            rest = norms if isinstance(layer, Norm) else convolutions
            slots = [[next(own) for own in rest] for _ in range(count)]
            if slots:
                keys.add((group.number, i))
                found = collected[group.number, i]
                assert len(found) == len(slots)
                for tensor, own in zip(found, slots, strict=True):
                    largest = max((weight.shape for weight in own), key=lambda shape: shape[-1])
                    if len(largest) == 4:
                        own = [centred(weight, largest) for weight in own]
                    assert torch.equal(tensor, torch.cat(own))
        assert not any([*own] for own in (*convolutions, *norms))
    assert set(collected) == keys


def test_small_kernels_are_centred_in_zeros() -> None:
    cell = make_cell()
    plan = plan_of(cell)
    group = next(g for g in plan.fans[2].wide if {c.candidate for c in g.columns} == {3, 4})
    kernels = Program(plan).weights(None)[group.number, 1][0]
    small, large = (cell.mixed_ops()[4].candidates[k].layers for k in (3, 4))
    assert isinstance(small, nn.Sequential)
    assert isinstance(large, nn.Sequential)
    assert kernels.shape == (4, 1, 5, 5)
    assert torch.equal(kernels[:2, :, 1:4, 1:4], small[1].weight)
    assert torch.count_nonzero(kernels[:2]) == 2 * 9
    assert torch.equal(kernels[2:], large[1].weight)


@pytest.mark.parametrize("reduction", [True, False])
def test_gradients_flow_back_to_every_parameter(reduction: bool) -> None:
    cell = make_cell(reduction=reduction)
    ops = cell.mixed_ops()
    plan = plan_of(cell)
    collected = Program(plan).weights(None)
    g = torch.Generator().manual_seed(0)
    upstream = {key: [torch.randn(t.shape, generator=g) for t in tensors] for key, tensors in collected.items()}
    flat = [(t, u) for key, tensors in collected.items() for t, u in zip(tensors, upstream[key], strict=True)]
    torch.autograd.backward([t for t, _ in flat], [u for _, u in flat])
    seen = set()
    for group in plan.groups():
        for i, (layer, modules) in enumerate(group.steps()):
            for s, gradient in enumerate(upstream.get((group.number, i), [])):
                parts = gradient.chunk(len(group.columns))
                for own, part in zip(modules, parts, strict=True):
                    module, name = layer.weights(own)[s]
                    weight = getattr(module, name)
                    margin = (part.shape[-1] - weight.shape[-1]) // 2 if weight.dim() == 4 else 0
                    assert torch.equal(weight.grad, F.pad(part, (-margin,) * 4) if margin else part)
                    seen.add(weight)
    assert seen == {p for op in ops for candidate in op.candidates for p in candidate.parameters()}


def test_autocast_decides_the_precision_of_convolutions_not_of_norms() -> None:
    torch.set_default_dtype(torch.float32)  # float64 is left alone
    plan = plan_of(make_cell())
    exact, rounded = (Program(plan).weights(dtype) for dtype in (None, torch.bfloat16))
    kinds = {(group.number, i): layer for group in plan.groups() for i, (layer, _) in enumerate(group.steps())}
    assert {isinstance(kinds[key], Norm) for key in rounded} == {True, False}
    for key, tensors in rounded.items():
        dtype = torch.float32 if isinstance(kinds[key], Norm) else torch.bfloat16
        for one, other in zip(tensors, exact[key], strict=True):
            assert one.dtype == dtype
            assert torch.equal(one, other.to(dtype))


def test_weights_are_read_at_every_pass() -> None:
    cell = make_cell()
    program = Program(plan_of(cell))
    with torch.no_grad():
        for p in cell.parameters():
            p.zero_()
    assert not any(t.any() for tensors in program.weights(None).values() for t in tensors)
    for module in cell.modules():
        if isinstance(module, (nn.Conv2d, nn.BatchNorm2d)) and module.weight is not None:
            module.weight = nn.Parameter(torch.ones_like(module.weight))
    assert all(tensors[0].any() for tensors in program.weights(None).values())


def test_a_weight_that_is_computed_is_what_its_module_says() -> None:
    class Twice(nn.Module):
        def forward(self, weight: Tensor) -> Tensor:
            return 2 * weight

    cell = make_cell()
    program = Program(plan_of(cell))
    before = program.weights(None)
    for module in [module for module in cell.modules() if isinstance(module, nn.Conv2d)]:
        parametrize.register_parametrization(module, "weight", Twice())
    norms = 0
    for key, tensors in program.weights(None).items():
        if tensors[0].dim() == 1:
            norms += 1
            continue
        for one, other in zip(tensors, before[key], strict=True):
            assert torch.equal(one, 2 * other)
    assert 0 < norms < len(before)


# ------------------------------------------------------------------------------------------------------------- mixing


def numbers(*shape: int) -> Tensor:
    """A table whose entries say where they are."""
    return torch.arange(float(torch.Size(shape).numel())).view(shape)


def entries(plan: Plan) -> list[list[tuple[Column, ...]]]:
    """The columns that each tensor of :meth:`Program.mixing` belongs to."""
    return [
        [*(group.columns for group in (*fan.shared, *fan.wide)), *((column,) for column, _ in fan.single)]
        for fan in plan.fans
    ]


@pytest.mark.parametrize("reduction", [True, False])
@pytest.mark.parametrize("examples", [None, 1, 3])
def test_mixing_weights_are_the_entries_of_the_columns(examples: int | None, reduction: bool) -> None:
    cell = make_cell(reduction=reduction)
    for op in cell.mixed_ops():
        exchanged = op.candidates[PRIMITIVES.index("conv_3x1_1x3")].layers
        assert isinstance(exchanged, nn.Sequential)
        exchanged[3] = nn.GroupNorm(1, 2)  # so that the candidate has no chain
    plan = plan_of(cell)
    program = Program(plan)
    table = numbers(EDGES, CANDIDATES) if examples is None else numbers(EDGES, examples, CANDIDATES)
    for _ in range(2):  # the second pass uses what the first noted
        mixing = program.mixing(table)
        assert [len(pieces) for pieces in mixing] == [len(wanted) for wanted in entries(plan)]
        for pieces, wanted in zip(mixing, entries(plan), strict=True):
            for piece, columns in zip(pieces, wanted, strict=True):
                assert torch.equal(piece, torch.stack([table[c.row, ..., c.candidate] for c in columns], dim=-1))
    assert [len(fan.single) for fan in plan.fans] == [2, 2, 1, 0]


def test_gradients_of_mixing_weights_flow_back_to_the_entries_in_use() -> None:
    plan = plan_of(make_cell())
    for table in (numbers(EDGES, CANDIDATES), numbers(EDGES, 2, CANDIDATES)):
        table.requires_grad_()
        mixing = Program(plan).mixing(table)
        torch.cat([piece.flatten() for pieces in mixing for piece in pieces]).sum().backward()
        expected = torch.ones_like(table)
        expected[..., PRIMITIVES.index("none")] = 0.0
        assert torch.equal(table.grad, expected)


def test_mixing_weights_may_move_to_another_device() -> None:
    plan = plan_of(make_cell())
    program = Program(plan)
    table = numbers(EDGES, CANDIDATES)
    there = program.mixing(table.to("meta"))
    assert {piece.device.type for pieces in there for piece in pieces} == {"meta"}
    for here, expected in zip(program.mixing(table), Program(plan).mixing(table), strict=True):
        assert all(torch.equal(one, other) for one, other in zip(here, expected, strict=True))


def test_a_program_without_a_choice_collects_nothing() -> None:
    class Nothing(Op):
        def forward(self, x: Tensor) -> Tensor:
            return x

    program = Program(Plan([Fan(), Fan()], [[], []]))
    assert program.weights(torch.bfloat16) == {}
    alone = Program(Plan([Fan(single=[(Column(0, 1, 2), Nothing())]), Fan()], [[], []]))
    assert alone.weights(None) == {}
    assert [[piece.tolist() for piece in pieces] for pieces in alone.mixing(numbers(2, 4))] == [[[6.0]], []]
