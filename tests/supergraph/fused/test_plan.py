"""Tests of ``src/gradnas/supergraph/fused/plan.py``: what a pass through a small cell computes, written out."""

from collections.abc import Iterable, Sequence

import pytest
import torch
from torch import Tensor, nn

from gradnas.arch import DARTS_PRIMITIVES, ConvMacroParams, EdgeDesc, OpDesc, Params
from gradnas.ops import OPS, ArchParams, CompositeFactory, Op, OpRegistry
from gradnas.spaces import DartsSpace
from gradnas.supergraph import MixedOp, Model
from gradnas.supergraph.cell import Cell
from gradnas.supergraph.dag_edge import DagEdge
from gradnas.supergraph.fused.layers import EvenPixels, Halving, Norm, Pool, Relu, Separable, SubImages
from gradnas.supergraph.fused.plan import Column, Fan, Group, Plan, compile_cell

MAX, AVG, SKIP, SEP3, SEP5, DIL3, DIL5, NONE = range(8)
PAIRS = [(SEP3, SEP5), (DIL3, DIL5)]

# Nodes 0 and 1 read the states 0 and 1, and node 1 also node 0, which is state 2. Rows of the table, in that order:
NODE_AND_ROW = [[(0, 0), (1, 2)], [(0, 1), (1, 3)], [(1, 4)], []]


def make_cell(primitives: Sequence[str] = DARTS_PRIMITIVES, *, reduction: bool = False, affine: bool = False) -> Cell:
    torch.manual_seed(0)
    space = DartsSpace(channels=2, cells=3, nodes=2, reductions=1, image_size=8, primitives=primitives)
    return Model(space.build(), affine=affine).typed_cells()[1 if reduction else 0]


def plan_of(cell: Cell, *, batch_statistics: bool = True, compiled: bool = False) -> Plan:
    nodes = [[edge for edge in node if isinstance(edge, DagEdge)] for node in cell.node_edges()]
    return compile_cell(nodes, batch_statistics=batch_statistics, compiled=compiled)


def candidates(groups: Sequence[Group]) -> list[list[int]]:
    """Which candidates each group holds, in the order of its columns."""
    return [[column.candidate for column in group.columns] for group in groups]


def columns(state: int, *wanted: int) -> tuple[Column, ...]:
    """All columns of these candidates that a state has in the small cell, candidate by candidate."""
    return tuple(Column(node, row, k) for k in wanted for node, row in NODE_AND_ROW[state])


def group_of(groups: Sequence[Group], candidate: int) -> Group:
    (found,) = (group for group in groups if candidate in {column.candidate for column in group.columns})
    return found


def kinds(layers: Sequence[object]) -> list[type]:
    return [type(layer) for layer in layers]


# ---------------------------------------------------------------------------------------------------- a regular cell


def test_every_state_has_one_group_for_each_pool_the_skip_and_the_two_kinds_of_convolutions() -> None:
    plan = plan_of(make_cell())
    assert len(plan.fans) == len(plan.whole) == 4
    for state, fan in enumerate(plan.fans[:3]):
        assert [group.columns for group in fan.shared] == [columns(state, k) for k in (MAX, AVG, SKIP)]
        assert [group.columns for group in fan.wide] == [columns(state, *pair) for pair in PAIRS]
        assert fan.single == []
    assert plan.fans[3] == Fan()
    assert plan.whole == [[], [], [], []]


def test_small_kernels_come_first_whatever_the_order_of_the_candidates() -> None:
    names = ("sep_conv_5x5", "dil_conv_5x5", "sep_conv_3x3", "dil_conv_3x3")
    for state, fan in enumerate(plan_of(make_cell(names)).fans[:3]):
        assert [group.columns for group in fan.wide] == [columns(state, 2, 0), columns(state, 3, 1)]


def test_the_largest_kernel_of_a_group_is_its_layer() -> None:
    for group, side in zip(plan_of(make_cell()).fans[0].wide, (5, 5), strict=True):
        assert {layer.side for layer in group.layers if isinstance(layer, Separable)} == {side}
    for group in plan_of(make_cell(("sep_conv_3x3", "dil_conv_3x3"))).fans[0].wide:
        assert {layer.side for layer in group.layers if isinstance(layer, Separable)} == {3}


def test_kernels_of_7_are_a_group_of_their_own() -> None:
    groups = plan_of(make_cell(("sep_conv_7x7", "sep_conv_3x3", "sep_conv_5x5"))).fans[2].wide
    assert candidates(groups) == [[0], [1, 2]]


def test_layers_before_the_first_weights_are_the_prefix() -> None:
    plan = plan_of(make_cell())
    for fan in plan.fans[:3]:
        assert [kinds(group.prefix) for group in fan.shared] == [[Pool, Norm], [Pool, Norm], []]
        assert [kinds(group.prefix) for group in fan.wide] == [[Relu], [Relu, SubImages]]
        assert [kinds(group.layers) for group in fan.wide] == [
            [Separable, Norm, Relu, Separable, Norm],
            [Separable, Norm],
        ]


def test_groups_are_numbered_and_know_their_nodes() -> None:
    plan = plan_of(make_cell())
    assert [group.number for group in plan.groups()] == list(range(15))
    assert {id(group) for group in plan.groups()} == {id(g) for fan in plan.fans for g in (*fan.shared, *fan.wide)}
    assert plan.fans[0].wide[0].nodes == (0, 1, 0, 1)
    assert plan.fans[2].shared[0].nodes == (1,)


@pytest.mark.parametrize("reduction", [True, False])
def test_each_column_has_the_modules_of_its_candidate(reduction: bool) -> None:
    cell = make_cell(reduction=reduction)
    ops = cell.mixed_ops()

    def with_state(modules: Iterable[nn.Module]) -> set[nn.Module]:
        return {module for module in modules if isinstance(module, (nn.Conv2d, nn.BatchNorm2d))}

    for group in plan_of(cell).groups():
        steps = list(group.steps())
        assert [layer for layer, _ in steps] == [*group.prefix, *group.layers]
        for m, column in enumerate(group.columns):
            candidate = ops[column.row].candidates[column.candidate]
            used = [module for _, modules in steps for module in modules[m]]
            assert with_state(used) == with_state(candidate.modules())


def test_modules_come_in_the_order_of_the_columns() -> None:
    cell = make_cell(("sep_conv_5x5", "sep_conv_3x3"))
    group = plan_of(cell).fans[1].wide[0]
    assert candidates([group]) == [[1, 1, 0, 0]]
    ops = cell.mixed_ops()
    for m, (row, k) in enumerate([(1, 1), (3, 1), (1, 0), (3, 0)]):
        layers = ops[row].candidates[k].layers
        assert isinstance(layers, nn.Sequential)
        assert group.modules[1][m] == (layers[1], layers[2])
        assert group.modules[5][m] == (layers[7],)


# ---------------------------------------------------------------------------------------------------- a reduction cell


def test_edges_of_both_strides_in_a_reduction_cell() -> None:
    plan = plan_of(make_cell(reduction=True))
    for state, fan in enumerate(plan.fans[:2]):
        assert [group.columns for group in fan.shared] == [columns(state, k) for k in (MAX, AVG)]
        assert {pool.stride for group in fan.shared for pool in group.prefix if isinstance(pool, Pool)} == {2}
        assert [group.columns for group in fan.wide] == [columns(state, *k) for k in [(SKIP,), *PAIRS]]
        assert [kinds(group.prefix) for group in fan.wide] == [[Relu], [Relu], [Relu, EvenPixels]]
        assert kinds(fan.wide[0].layers) == [Halving, Norm]
    assert candidates(plan.fans[2].shared) == [[MAX], [AVG], [SKIP]]
    assert {pool.stride for group in plan.fans[2].shared for pool in group.prefix if isinstance(pool, Pool)} == {1}


def test_edges_of_different_strides_from_one_state_are_in_different_groups() -> None:
    def edge(stride: int) -> DagEdge:
        params = Params(conv=ConvMacroParams(2, 2), stride=stride, primitives=("max_pool_3x3", "sep_conv_3x3"))
        return DagEdge(EdgeDesc(OpDesc("mixed_op", params), (0,)), False, False, None)

    fan = compile_cell([[edge(1)], [edge(2)], [edge(1)]], batch_statistics=True).fans[0]
    assert [group.nodes for group in (*fan.shared, *fan.wide)] == [(0, 2), (1,), (0, 2), (1,)]


# ------------------------------------------------------------------------------------------------ what is not computed


def test_candidates_that_are_not_computed_are_in_no_group() -> None:
    cell = make_cell()
    ops = cell.mixed_ops()
    ops[0].compute_only([k in (MAX, SEP5) for k in range(8)])
    ops[2].compute_only([k in (SKIP, SEP3, SEP5, NONE) for k in range(8)])
    fan = plan_of(cell).fans[0]
    assert [group.columns for group in fan.shared] == [(Column(0, 0, MAX),), (Column(1, 2, SKIP),)]
    assert [group.columns for group in fan.wide] == [(Column(1, 2, SEP3), Column(0, 0, SEP5), Column(1, 2, SEP5))]


def test_none_is_never_computed() -> None:
    for reduction in (True, False):
        plan = plan_of(make_cell(reduction=reduction))
        assert NONE not in {k for group in candidates(plan.groups()) for k in group}
        assert not any(fan.single for fan in plan.fans)


def test_an_edge_that_is_left_with_none_is_whole() -> None:
    cell = make_cell()
    cell.mixed_ops()[3].compute_only([k == NONE for k in range(8)])
    plan = plan_of(cell)
    assert plan.whole == [[], [(1, cell.edges()[3], 3)], [], []]
    assert {group.nodes for group in plan.fans[1].shared} == {(0,)}


# ------------------------------------------------------------------------------------------------ what runs as it is


class Half(Op):
    """An op without a chain."""

    def forward(self, x: Tensor) -> Tensor:
        return x / 2


class Doubled(MixedOp):
    """A mixed op that must be called."""

    def forward(self, x: Tensor, weights: Tensor | None = None) -> Tensor:
        return 2 * super().forward(x, weights)


@pytest.fixture
def registry() -> OpRegistry:
    def build(desc: OpDesc, affine: bool, arch_params: ArchParams | None, registry: OpRegistry) -> Op:
        return Doubled(desc, arch_params, affine, registry=registry)

    registry = OpRegistry(OPS)
    registry.register_op("half", lambda desc, affine, _: Half())
    registry.register_op("doubled", CompositeFactory(build))
    return registry


def make_edge(
    registry: OpRegistry,
    name: str,
    *states: int,
    primitives: tuple[str, ...] = ("skip_connect", "half", "sep_conv_3x3"),
) -> DagEdge:
    params: dict[str, object] = {"conv": ConvMacroParams(2, 2), "stride": 1}
    if name in ("mixed_op", "doubled"):
        params["primitives"] = primitives
    children = (OpDesc("identity", Params(stride=1)),) * len(states) if name == "multi_op" else None
    desc = OpDesc(
        name, Params(params), len(states), None, children, None if children is None else tuple(range(len(states)))
    )
    return DagEdge(EdgeDesc(desc, states), False, False, None, registry=registry)


def test_a_candidate_without_a_chain_is_single(registry: OpRegistry) -> None:
    nodes = [[make_edge(registry, "mixed_op", state) for state in range(n + 2)] for n in range(2)]
    plan = compile_cell(nodes, batch_statistics=True)
    ops = [edge.op for edges in nodes for edge in edges]
    for state, fan in enumerate(plan.fans):
        assert [column for column, _ in fan.single] == list(columns(state, 1))
        for column, op in fan.single:
            mixed = ops[column.row]
            assert isinstance(mixed, MixedOp)
            assert op is mixed.candidates[1]
        assert candidates(fan.shared) == [[0] * len(NODE_AND_ROW[state])] * bool(NODE_AND_ROW[state])
    assert plan.whole == [[], [], [], []]


def test_edges_that_hold_no_choice_or_must_be_called_are_whole_and_rows_count_choices(registry: OpRegistry) -> None:
    plain, called = make_edge(registry, "half", 0), make_edge(registry, "doubled", 1)
    mixed = make_edge(registry, "mixed_op", 1)
    plan = compile_cell([[plain, called], [mixed]], batch_statistics=True)
    assert plan.whole == [[(0, plain, None)], [(0, called, 0)], [], []]
    assert plan.fans[1].shared[0].columns == (Column(1, 1, 0),)
    assert [fan for j, fan in enumerate(plan.fans) if j != 1] == [Fan()] * 3


def test_an_edge_that_reads_several_states_runs_when_the_last_is_there(registry: OpRegistry) -> None:
    late, early = make_edge(registry, "multi_op", 2, 0), make_edge(registry, "multi_op", 1, 0)
    plan = compile_cell([[], [late, early]], batch_statistics=True)
    assert plan.whole == [[], [(1, early, None)], [(1, late, None)], []]
    assert plan.groups() == []


def test_a_cell_without_nodes_has_two_states() -> None:
    plan = compile_cell([], batch_statistics=True)
    assert plan == Plan([Fan(), Fan()], [[], []])


# ---------------------------------------------------------------------------------------------------- kinds of norms


def test_pools_with_norms_are_their_own_when_norms_have_statistics_of_their_own() -> None:
    for fan in plan_of(make_cell(), batch_statistics=False).fans[:3]:
        assert candidates(fan.shared) == [[SKIP] * len(fan.shared[0].columns)]
        for k in (MAX, AVG):
            group = group_of(fan.wide, k)
            assert (kinds(group.prefix), kinds(group.layers)) == ([Pool], [Norm])
        assert [kinds(group.prefix) for group in fan.wide] == [[Pool], [Pool], [Relu], [Relu, SubImages]]


@pytest.mark.parametrize("batch_statistics", [True, False])
def test_pools_without_norms_are_always_shared(batch_statistics: bool) -> None:
    plan = plan_of(make_cell(affine=True), batch_statistics=batch_statistics)
    for fan in plan.fans[:3]:
        assert [kinds(group.prefix) for group in fan.shared] == [[Pool], [Pool], []]


@pytest.mark.parametrize("batch_statistics", [True, False])
def test_a_norm_with_weights_is_never_shared(batch_statistics: bool) -> None:
    cell = make_cell(("max_pool_3x3", "skip_connect"))
    for op in cell.mixed_ops():
        pool = op.candidates[0]
        pool.bn = nn.BatchNorm2d(2)
    for fan in plan_of(cell, batch_statistics=batch_statistics).fans[:3]:
        assert candidates(fan.shared) == [[1] * len(fan.shared[0].columns)]
        assert [(kinds(group.prefix), kinds(group.layers)) for group in fan.wide] == [([Pool], [Norm])]


def test_norms_of_different_settings_are_in_different_groups() -> None:
    cell = make_cell(("max_pool_3x3", "skip_connect"))
    pool = cell.mixed_ops()[0].candidates[0]
    pool.bn = nn.BatchNorm2d(2, momentum=0.2, affine=False)
    fan = plan_of(cell).fans[0]
    assert [group.nodes for group in fan.shared] == [(0,), (0, 1), (1,)]


# ------------------------------------------------------------------------------------------------ compiled operations


@pytest.mark.parametrize("reduction", [True, False])
@pytest.mark.parametrize("batch_statistics", [True, False])
def test_pools_skips_and_separable_convolutions_are_compiled_as_they_stand(
    batch_statistics: bool, reduction: bool
) -> None:
    plan = plan_of(make_cell(reduction=reduction), batch_statistics=batch_statistics, compiled=True)
    chain = [Relu, Separable, Norm]
    for state, fan in enumerate(plan.fans[:3]):
        halved = reduction and state < 2  # a factorized reduce is no compiled operation
        expected = [((MAX,), [Pool, Norm]), ((AVG,), [Pool, Norm]), ((SKIP,), [])][: 2 if halved else 3]
        expected += [((SEP3, SEP5), 2 * chain), ((DIL3, DIL5), chain)]
        assert [group.columns for group in fan.compiled] == [columns(state, *which) for which, _ in expected]
        assert [kinds((*group.prefix, *group.layers)) for group in fan.compiled] == [layers for _, layers in expected]
        assert [kinds((*group.prefix, *group.layers)) for group in fan.wide] == [[Relu, Halving, Norm]] * halved
        assert fan.shared == fan.single == []
    assert {group.number for group in plan.groups()} == set(range(len(plan.groups())))


def test_what_has_no_compiled_form_is_planned_as_without_it() -> None:
    names = ("conv_7x1_1x7", "convbnrelu_3x3", "max_pool_3x3")
    with_it, without = (plan_of(make_cell(names), compiled=compiled) for compiled in (True, False))
    for one, other in zip(with_it.fans, without.fans, strict=True):
        assert [group.columns for group in one.wide] == [group.columns for group in other.wide]
        assert [group.columns for group in one.compiled] == [group.columns for group in other.shared]


def test_norms_that_differ_in_whether_they_track_are_not_one_compiled_chain() -> None:
    cell = make_cell(("sep_conv_3x3", "skip_connect"))
    for op in cell.mixed_ops():
        op.candidates[0].layers[3] = nn.BatchNorm2d(2, affine=False, track_running_stats=False)
    for fan in plan_of(cell, compiled=True).fans[:3]:
        assert candidates(fan.compiled) == [[1] * len(fan.compiled[0].columns)]
        assert candidates(fan.wide) == [[0] * len(fan.wide[0].columns)]
