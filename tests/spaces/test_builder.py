"""Tests of ``src/gradnas/spaces/builder.py``."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from gradnas.arch import (
    PUBLISHED,
    CellConf,
    CellDesc,
    CellType,
    ConvMacroParams,
    DatasetConf,
    EdgeDesc,
    Genotype,
    ModelDesc,
    ModelDescConf,
    NodeDesc,
    OpDesc,
    Params,
    Shape,
    StemsConf,
    concat_ids,
)
from gradnas.ops import OPS, ArchParams, Op, StemBase
from gradnas.spaces import DartsSpace, ModelDescBuilder, with_changes
from gradnas.supergraph import Model

IMAGENET_STEMS = ("stem_conv3x3_s4", "stem_conv3x3_s4s2")
CHEAP = ("skip_connect", "max_pool_3x3", "dil_conv_3x3", "none")
CONF = ModelDescConf(dataset=DatasetConf(channels=3, image_size=(32, 32), n_classes=10))
SMALL = Genotype(
    normal=[("sep_conv_3x3", 0), ("skip_connect", 1), ("dil_conv_3x3", 2), ("avg_pool_3x3", 0)],
    normal_concat=[2],
    reduce=[("max_pool_3x3", 1), ("skip_connect", 0), ("none", 0), ("sep_conv_3x3", 2)],
    reduce_concat=[3, 2],
)


def small(**changes: object) -> ModelDesc:
    values: dict[str, object] = {"channels": 4, "cells": 5, "nodes": 2, "image_size": 8, **changes}
    return DartsSpace().from_genotype(SMALL, **values)


def stems_of(cell: CellDesc) -> list[tuple[str, int, int]]:
    short = {"prepr_normal": "n", "prepr_reduce": "R"}
    return [(short[op.name], op.conv.ch_in, op.conv.ch_out) for op in cell.stems]


# ------------------------------------------------------------------------------------------- reductions and channels


@pytest.mark.parametrize(
    ("cells", "reductions", "expected"),
    [
        (8, 2, [2, 5]),
        (20, 2, [6, 13]),
        (14, 2, [4, 9]),
        (5, 2, [1, 3]),
        (3, 1, [1]),
        (8, 1, [4]),
        (8, 3, [2, 4, 6]),
        (7, 3, [1, 3, 5]),
        (1, 0, []),
        (9, 0, []),
    ],
)
def test_places_of_the_reduction_cells(cells: int, reductions: int, expected: list[int]) -> None:
    conf = replace(CONF, n_cells=cells, n_reductions=reductions)
    assert ModelDescBuilder().get_reduction_indices(conf) == expected


@given(reductions=st.integers(0, 8), more=st.integers(0, 20))
@settings(deadline=None)
def test_no_two_reduction_cells_are_neighbors_and_neither_end_reduces(reductions: int, more: int) -> None:
    cells = 2 * reductions + 1 + more
    found = ModelDescBuilder().get_reduction_indices(replace(CONF, n_cells=cells, n_reductions=reductions))
    assert len(found) == reductions
    assert all(later - earlier >= 2 for earlier, later in pairwise(found))
    assert all(0 < i < cells - 1 for i in found)


@pytest.mark.parametrize(("cells", "reductions"), [(4, 2), (2, 1), (6, 3)])
def test_too_few_cells_name_both_numbers(cells: int, reductions: int) -> None:
    message = rf"^{reductions} reductions need at least {2 * reductions + 1} cells, got cells={cells}\. Use more cells"
    with pytest.raises(ValueError, match=message):
        DartsSpace(cells=cells, reductions=reductions)


def test_negative_reductions_are_refused() -> None:
    with pytest.raises(ValueError, match="n_reductions must be at least 0, got -1"):
        DartsSpace(reductions=-1)


def test_node_channels_double_at_each_reduction_cell() -> None:
    channels = ModelDescBuilder().get_node_channels(CONF)
    assert channels == [[c] * 4 for c in (16, 16, 32, 32, 32, 64, 64, 64)]


# ------------------------------------------------------------------------------- search network, row by row (18.1)

SEARCH_ROWS = [
    (0, "regular", 16, ("n", 48, 16), ("n", 48, 16), (64, 32, 32), 0),
    (1, "regular", 16, ("n", 48, 16), ("n", 64, 16), (64, 32, 32), 0),
    (2, "reduction", 32, ("n", 64, 32), ("n", 64, 32), (128, 16, 16), 2),
    (3, "regular", 32, ("R", 64, 32), ("n", 128, 32), (128, 16, 16), 0),
    (4, "regular", 32, ("n", 128, 32), ("n", 128, 32), (128, 16, 16), 0),
    (5, "reduction", 64, ("n", 128, 64), ("n", 128, 64), (256, 8, 8), 2),
    (6, "regular", 64, ("R", 128, 64), ("n", 256, 64), (256, 8, 8), 0),
    (7, "regular", 64, ("n", 256, 64), ("n", 256, 64), (256, 8, 8), 0),
]


@pytest.fixture(scope="module")
def search() -> ModelDesc:
    return DartsSpace().build()


@pytest.mark.parametrize(("i", "kind", "channels", "s0", "s1", "out", "owner"), SEARCH_ROWS)
def test_row_of_the_search_network(
    search: ModelDesc,
    i: int,
    kind: str,
    channels: int,
    s0: tuple[str, int, int],
    s1: tuple[str, int, int],
    out: Shape,
    owner: int,
) -> None:
    cell = search.cell_descs[i]
    assert (cell.id, cell.cell_type.value, cell.trainables_from) == (i, kind, owner)
    assert stems_of(cell) == [s0, s1]
    assert {node.conv_params for node in cell.nodes()} == {ConvMacroParams(channels, channels)}
    assert {edge.op_desc.conv for node in cell.nodes() for edge in node.edges} == {ConvMacroParams(channels, channels)}
    assert cell.node_shapes == ((channels, *out[1:]),) * 4
    assert cell.out_shape == out
    size = (2 * out[1], 2 * out[2]) if kind == "reduction" else out[1:]
    assert cell.stem_shapes == ((channels, *size),) * 2


def test_the_search_network_has_eight_cells(search: ModelDesc) -> None:
    assert len(search.cell_descs) == len(SEARCH_ROWS)


def test_head_and_stems_of_the_search_network(search: ModelDesc) -> None:
    conv = ConvMacroParams(3, 48)
    assert search.model_stems == (
        OpDesc("stem_conv3x3", Params(conv=conv)),
        OpDesc("stem_conv3x3", Params(conv=conv, shared=True)),
    )
    assert search.pool_op == OpDesc("pool_adaptive_avg2d", Params(conv=ConvMacroParams(256, 256)))
    assert search.logits_op == OpDesc("linear", Params(n_ch=256, n_classes=10))
    assert search.aux_tower_descs == (None,) * 8


# ------------------------------------------------------------------------------------- evaluation networks (18.2)


def cifar(**changes: object) -> ModelDesc:
    return DartsSpace().from_genotype(PUBLISHED["DARTS_V2"], channels=36, cells=20, aux_weight=0.4, **changes)


def imagenet(**changes: object) -> ModelDesc:
    space = DartsSpace(3, 224, 1000, stems=IMAGENET_STEMS, stem_multiplier=1, pool="pool_avg2d7x7")
    return space.from_genotype(PUBLISHED["DARTS_V2"], channels=48, cells=14, aux_weight=0.4, **changes)


@pytest.mark.parametrize(
    ("network", "reductions", "channels", "sizes", "halving"),
    [
        (cifar, [6, 13], (36, 72, 144), (32, 16, 8), [7, 14]),
        (imagenet, [4, 9], (48, 96, 192), (28, 14, 7), [0, 5, 10]),
    ],
    ids=["cifar", "imagenet"],
)
def test_cells_of_an_evaluation_network(
    network: Callable[[], ModelDesc],
    reductions: list[int],
    channels: Sequence[int],
    sizes: Sequence[int],
    halving: list[int],
) -> None:
    desc = network()
    found = [cell.id for cell in desc.cell_descs if cell.cell_type is CellType.Reduction]
    assert found == reductions
    for cell in desc.cell_descs:
        stage = sum(cell.id >= i for i in reductions)
        assert {shape[0] for shape in cell.node_shapes} == {channels[stage]}
        assert cell.out_shape == (4 * channels[stage], sizes[stage], sizes[stage])
        assert cell.stems[0].name == ("prepr_reduce" if cell.id in halving else "prepr_normal")
        assert cell.stems[1].name == "prepr_normal"
        assert cell.trainables_from == (reductions[0] if cell.id in reductions else 0)


@pytest.mark.parametrize(
    ("network", "inputs"),
    [
        (cifar, [(108, 108), (108, 144), (144, 144), (144, 144)]),
        (imagenet, [(48, 48), (48, 192), (192, 192), (192, 192)]),
    ],
    ids=["cifar", "imagenet"],
)
def test_channels_into_the_first_cells(network: Callable[[], ModelDesc], inputs: list[tuple[int, int]]) -> None:
    desc = network()
    found = [tuple(stem.conv.ch_in for stem in cell.stems) for cell in desc.cell_descs[:4]]
    assert found == inputs


@pytest.mark.parametrize(
    ("network", "place", "channels", "stride"), [(cifar, 13, 576, 3), (imagenet, 9, 768, 2)], ids=["cifar", "imagenet"]
)
def test_auxiliary_tower_of_an_evaluation_network(
    network: Callable[[], ModelDesc], place: int, channels: int, stride: int
) -> None:
    desc = network()
    towers = {i: tower for i, tower in enumerate(desc.aux_tower_descs) if tower is not None}
    assert list(towers) == [place]
    assert (towers[place].ch_in, towers[place].stride) == (channels, stride)
    assert towers[place].n_classes == desc.conf_model_desc.dataset.n_classes


def test_stems_and_head_of_the_imagenet_network() -> None:
    desc = imagenet()
    conv = ConvMacroParams(3, 48)
    assert desc.model_stems == (
        OpDesc("stem_conv3x3_s4", Params(conv=conv)),
        OpDesc("stem_conv3x3_s4s2", Params(conv=conv, shared=True)),
    )
    assert desc.pool_op == OpDesc("pool_avg2d7x7", Params(conv=ConvMacroParams(768, 768)))
    assert desc.logits_op == OpDesc("linear", Params(n_ch=768, n_classes=1000))


@pytest.mark.parametrize(
    ("network", "expected"),
    [
        (
            cifar,
            [26532, 27828, *[29124] * 4, 21024, 97128, *[107496] * 5, 83520, 370512, *[411984] * 5],
        ),
        (
            imagenet,
            [35952, 42864, *[49776] * 2, 37248, 168672, *[187104] * 3, 148224, 650688, *[724416] * 3],
        ),
    ],
    ids=["cifar", "imagenet"],
)
def test_weights_per_cell(network: Callable[[], ModelDesc], expected: list[int]) -> None:
    desc = network()
    with torch.device("meta"):
        model = Model(desc)
    assert [sum(p.numel() for p in cell.parameters()) for cell in model.cells] == expected


# ---------------------------------------------------------------------------------------------------------- cell stems


@pytest.mark.parametrize(("multiplier", "nodes"), [(2, 4), (1, 2)])
def test_doubled_channels_are_not_taken_for_a_halved_map(multiplier: int, nodes: int) -> None:
    space = DartsSpace(channels=2, cells=5, nodes=nodes, stem_multiplier=multiplier, image_size=8, primitives=CHEAP)
    desc = space.build()
    p, pp = desc.cell_descs[0].out_shape, (2 * multiplier, 8, 8)
    assert p[0] == 2 * pp[0]  # what invites the mistake
    assert [op.name for op in desc.cell_descs[1].stems] == ["prepr_normal", "prepr_normal"]
    assert Model(desc, affine=False)(torch.randn(2, 3, 8, 8))[0].shape == (2, 10)


def cell_stems(pp: Shape, p: Shape) -> str:
    builder = DartsSpace()
    _, (s0, _) = builder.build_cell_stems([[pp], [p]], CellConf(), 0)
    return s0.name


@pytest.mark.parametrize(
    ("pp", "p", "expected"),
    [
        ((8, 7, 9), (8, 7, 9), "prepr_normal"),
        ((8, 7, 9), (99, 7, 9), "prepr_normal"),
        ((8, 8, 8), (8, 4, 4), "prepr_reduce"),
        ((8, 7, 9), (8, 4, 5), "prepr_reduce"),
        ((8, 1, 1), (8, 1, 1), "prepr_normal"),
        ((8, 2, 1), (8, 1, 1), "prepr_reduce"),
    ],
)
def test_the_older_input_is_halved_by_size_alone(pp: Shape, p: Shape, expected: str) -> None:
    assert cell_stems(pp, p) == expected


@pytest.mark.parametrize(
    ("pp", "p"), [((8, 8, 8), (8, 3, 4)), ((8, 8, 8), (8, 8, 4)), ((8, 4, 4), (8, 8, 8)), ((8, 8, 8), (8, 2, 2))]
)
def test_sizes_that_do_not_fit_name_both_shapes_and_the_cell(pp: Shape, p: Shape) -> None:
    with pytest.raises(ValueError, match=r"^cells\[0\] reads maps of \(8, .* and \(8, .*; the older must be") as caught:
        cell_stems(pp, p)
    assert str(pp) in str(caught.value)
    assert str(p) in str(caught.value)


def test_odd_channels_behind_halving_stems_are_refused() -> None:
    with pytest.raises(ValueError, match=r"^cells\[0\] halves its older input, which needs an even .*, got 3\."):
        DartsSpace(channels=3, stems=IMAGENET_STEMS, stem_multiplier=2, image_size=64)


# ------------------------------------------------------------------------------------- described shapes are the real


@st.composite
def macros(draw: st.DrawFn) -> dict[str, object]:
    """Settings that can be built: the map is at least 2×2 in front of each reduction."""
    reductions = draw(st.integers(0, 2))
    stems = draw(
        st.sampled_from([("stem_conv3x3", "stem_conv3x3"), ("stem_conv3x3", "stem_conv3x3Relu"), IMAGENET_STEMS])
    )
    smallest = 2**reductions if stems is not IMAGENET_STEMS else 8 * (2**reductions - 1) + 1
    sides = st.integers(max(smallest, 8 if stems is IMAGENET_STEMS else 1), smallest + 9)
    return {
        "cells": 2 * reductions + 1 + draw(st.integers(0, 2)),
        "reductions": reductions,
        "nodes": draw(st.integers(1, 3)),
        "channels": draw(st.integers(1, 3)) * (2 if stems is IMAGENET_STEMS else 1),
        "stem_multiplier": draw(st.integers(1, 3)),
        "image_size": (draw(sides), draw(sides)),
        "in_channels": draw(st.integers(1, 3)),
        "n_classes": draw(st.integers(2, 5)),
        "merge": draw(st.sampled_from(["concate_channels", "proj_channels"])),
        "pool": draw(st.sampled_from(["pool_adaptive_avg2d", "pool_mean_tensor"])),
        "stems": stems,
    }


def real_shapes_equal_the_described(model: Model) -> None:
    """Run the model and compare the output of every stem, edge, node, cell and head with the description."""
    desc, seen = model.desc, 0

    def expect(module: nn.Module, shape: tuple[int, ...]) -> None:
        def check(_module: nn.Module, _inputs: object, out: Tensor) -> None:
            nonlocal seen
            seen += 1
            assert tuple(out.shape) == (2, *shape)

        module.register_forward_hook(check)

    for cell in model.typed_cells():
        for stem, shape in zip(cell.stems, cell.desc.stem_shapes, strict=True):
            expect(stem, shape)
        for node, shape in zip(cell.nodes, cell.desc.node_shapes, strict=True):
            for edge in node:  # type: ignore[attr-defined]  # a ModuleList
                expect(edge, shape)
        expect(cell, cell.desc.out_shape)
        seen -= 3 + len(cell.edges())
    channels = desc.logits_op.params["n_ch"]
    n_classes = desc.conf_model_desc.dataset.n_classes
    assert desc.cell_descs[-1].out_shape[0] == channels
    assert isinstance(channels, int)
    expect(model.pool_op, (channels,))
    seen -= 1
    logits, _ = model(torch.randn(2, *desc.conf_model_desc.dataset.image_shape))
    assert logits.shape == (2, n_classes)
    assert seen == 0  # every hook ran once


@given(macro=macros())
@settings(max_examples=25, deadline=None)
def test_real_shapes_of_a_search_network(macro: dict[str, object]) -> None:
    desc = DartsSpace(primitives=CHEAP, **macro).build()  # type: ignore[arg-type]  # mixed values
    real_shapes_equal_the_described(Model(desc, affine=False))


@given(macro=macros())
@settings(max_examples=25, deadline=None)
def test_real_shapes_of_a_grown_network(macro: dict[str, object]) -> None:
    desc = DartsSpace(nodes=2).grow(small(), **{**macro, "nodes": 2})
    real_shapes_equal_the_described(Model(desc))


@given(macro=macros())
@settings(max_examples=20, deadline=None)
def test_shapes_of_the_layers_are_those_of_the_stems(macro: dict[str, object]) -> None:
    space = DartsSpace(primitives=CHEAP, **macro)  # type: ignore[arg-type]  # mixed values
    assert space.conf is not None
    layers = [[space.conf.dataset.image_shape]]
    stems = space.build_model_stems(layers, space.conf)
    image = torch.randn(1, *layers[0][0])
    with torch.no_grad():
        first = Op.create(stems[0], affine=True).eval()(image)
        chained = stems[1].params.get("shared") and stems[0].name != stems[1].name
        second = Op.create(stems[1], affine=True).eval()(first if chained else image)
    assert layers[1:] == [[tuple(first.shape[1:])], [tuple(second.shape[1:])]]


@pytest.mark.parametrize("merge", ["concate_channels", "proj_channels"])
def test_merge_channels(merge: str) -> None:
    desc = DartsSpace(channels=4, cells=1, nodes=3, reductions=0, merge=merge).build()
    cell = desc.cell_descs[0]
    out = 12 if merge == "concate_channels" else 4
    assert cell.post_op == OpDesc(merge, Params(conv=ConvMacroParams(12, out), out_states=3))
    assert cell.out_shape == (out, 32, 32)
    assert desc.logits_op.params["n_ch"] == out


# -------------------------------------------------------------------------------------------------- the base builder


def test_the_base_builder_gives_nodes_without_edges_that_copy() -> None:
    desc = ModelDescBuilder(replace(CONF, n_cells=2, n_reductions=0)).build()
    assert desc.all_empty()
    assert [len(cell.nodes()) for cell in desc.cell_descs] == [4, 4]
    real_shapes_equal_the_described(Model(desc))


def test_nodes_without_edges_in_a_reduction_cell_are_refused() -> None:
    with pytest.raises(ValueError, match=r"^cells\[2\]\.nodes\[0\] has no edge, and a reduction cell cannot copy"):
        ModelDescBuilder(CONF).build()


def test_a_dense_cell_has_an_edge_from_every_earlier_state() -> None:
    shapes, nodes = ModelDescBuilder().dense_nodes(OpDesc("none"), CellType.Reduction, 3, (4, 8, 8), (4, 4, 4))
    assert shapes == [(4, 4, 4)] * 3
    assert [[edge.input_ids for edge in node.edges] for node in nodes] == [
        [(0,), (1,)],
        [(0,), (1,), (2,)],
        [(0,), (1,), (2,), (3,)],
    ]


@pytest.mark.parametrize(("cell_type", "strides"), [(CellType.Regular, {1}), (CellType.Reduction, {1, 2})])
def test_only_inputs_of_a_reduction_cell_are_read_with_stride_two(cell_type: CellType, strides: set[int]) -> None:
    _, nodes = ModelDescBuilder().dense_nodes(OpDesc("none"), cell_type, 3, (4, 8, 8), (4, 8, 8))
    edges = [edge for node in nodes for edge in node.edges]
    assert {edge.op_desc.stride for edge in edges} == strides
    for edge in edges:
        assert edge.op_desc.stride == (2 if cell_type is CellType.Reduction and edge.input_ids[0] < 2 else 1)


def test_the_same_settings_give_an_equal_description() -> None:
    first, second = DartsSpace().build(), DartsSpace().build()
    assert first == second
    assert first.hash() == second.hash()


def test_building_again_after_growing_gives_the_same() -> None:
    space = DartsSpace(nodes=2)
    before = space.build()
    space.grow(small(), cells=6, channels=2)
    assert space.build() == before


def test_building_draws_no_random_number() -> None:
    before = torch.get_rng_state()
    DartsSpace(stems=IMAGENET_STEMS, image_size=64).from_genotype(PUBLISHED["XNAS"])
    assert torch.equal(torch.get_rng_state(), before)


def test_building_leaves_the_package_wide_registry() -> None:
    before = OPS.names()
    DartsSpace()
    small()
    assert OPS.names() == before


def test_settings_given_to_build_win() -> None:
    builder = ModelDescBuilder(replace(CONF, n_reductions=0))
    other = replace(CONF, n_cells=3, n_reductions=0)
    assert len(builder.build(other).cell_descs) == 3
    assert len(builder.build().cell_descs) == 8


def test_building_without_settings_says_where_to_give_them() -> None:
    with pytest.raises(ValueError, match=r"build\(\) needs settings: pass conf_model_desc"):
        ModelDescBuilder().build()


def test_growing_without_settings_says_what_to_call() -> None:
    with pytest.raises(ValueError, match=r"no settings of its own; call build\(conf_model_desc, template\)"):
        ModelDescBuilder().grow(small())


# -------------------------------------------------------------------------------------------------------------- stems


@pytest.mark.parametrize(
    ("stems", "shared", "expected"),
    [
        (("stem_conv3x3", "stem_conv3x3"), True, True),
        (("stem_conv3x3", "stem_conv3x3"), False, None),
        (("stem_conv3x3", "stem_conv3x3Relu"), True, None),
        (IMAGENET_STEMS, True, True),
        (IMAGENET_STEMS, False, None),
    ],
)
def test_which_stems_are_shared(stems: tuple[str, str], shared: bool, expected: bool | None) -> None:
    conf = with_changes(CONF, image_size=64, reductions=0)
    conf = replace(conf, model_stems=StemsConf(ops=stems, shared=shared))
    first, second = ModelDescBuilder(conf).build().model_stems
    assert first.params.get("shared") is None
    assert second.params.get("shared") is expected


def test_an_op_that_is_no_stem_is_refused() -> None:
    with pytest.raises(TypeError, match=r"^'sep_conv_3x3' is not a model stem \(SepConv does not derive from StemBase"):
        DartsSpace(stems=("sep_conv_3x3", "sep_conv_3x3"))


def test_an_unknown_stem_names_the_nearest() -> None:
    with pytest.raises(KeyError, match=r"no operation 'stem_conv3x4'\. Did you mean 'stem_conv3x3'\?"):
        DartsSpace(stems=("stem_conv3x4", "stem_conv3x3"))


def test_odd_channels_of_a_quarter_stem_are_refused() -> None:
    with pytest.raises(ValueError, match="'stem_conv3x3_s4' needs an even number of output channels, got 9"):
        DartsSpace(channels=3, stems=IMAGENET_STEMS, image_size=64)


@pytest.mark.parametrize(
    ("size", "stem", "reduction"), [((3, 64), "stem_conv3x3_s4", 4), ((64, 7), "stem_conv3x3_s4s2", 8)]
)
def test_an_image_too_small_for_the_stem_is_refused(size: tuple[int, int], stem: str, reduction: int) -> None:
    with pytest.raises(
        ValueError, match=rf"^stem '{stem}' divides by {reduction}, but the image is {size[0]}×{size[1]}"
    ):
        DartsSpace(image_size=size, stems=IMAGENET_STEMS)


def test_stems_that_do_not_fit_each_other_are_refused() -> None:
    with pytest.raises(ValueError, match=r"^cells\[0\] reads maps of \(48, 32, 32\) and \(48, 8, 8\)"):
        DartsSpace(stems=("stem_conv3x3", "stem_conv3x3_s4"))


@pytest.mark.parametrize(("size", "cell"), [(2, 5), (1, 2), ((32, 2), 5)])
def test_an_image_too_small_for_the_reductions_is_refused(size: int | tuple[int, int], cell: int) -> None:
    with pytest.raises(ValueError, match=rf"^cells\[{cell}\] should halve a map of .*×1\. The image is too small"):
        DartsSpace(image_size=size)


# --------------------------------------------------------------------------------------------------------------- merge


def test_an_unknown_merge_is_refused() -> None:
    message = "cell_post_op must be 'concate_channels' or 'proj_channels', got 'add_channels'"
    with pytest.raises(ValueError, match=message):
        DartsSpace(merge="add_channels")


def test_a_cell_without_nodes_is_refused() -> None:
    class Empty(DartsSpace):
        def build_nodes(self, *args: object) -> tuple[list[Shape], list[NodeDesc]]:  # type: ignore[override]  # short
            return [], []

    with pytest.raises(ValueError, match=r"^cells\[0\] has no nodes to merge"):
        Empty()


# ---------------------------------------------------------------------------------------------------------------- head


@pytest.mark.parametrize("side", [7, 8, 13])
def test_pooling_of_seven_takes_maps_that_it_brings_to_one_pixel(side: int) -> None:
    space = DartsSpace(cells=1, reductions=0, nodes=1, channels=2, image_size=side, pool="pool_avg2d7x7")
    assert Model(space.build(), affine=False)(torch.randn(2, 3, side, side))[0].shape == (2, 10)


@pytest.mark.parametrize("size", [(6, 7), (7, 6), (14, 7), (7, 14), (32, 32)])
def test_pooling_of_seven_refuses_other_maps(size: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match=rf"7×7 to 13×13, the last cell gives {size[0]}×{size[1]}\. Use 'pool_adapt"):
        DartsSpace(cells=1, reductions=0, image_size=size, pool="pool_avg2d7x7")


def test_an_unknown_pool_names_the_nearest() -> None:
    with pytest.raises(KeyError, match=r"pool_op: no operation 'pool_avg2d7'\. Did you mean 'pool_avg2d7x7'\?"):
        DartsSpace(pool="pool_avg2d7")


@pytest.mark.parametrize(("cells", "place"), [(20, 13), (14, 9), (8, 5), (5, 3)])
def test_place_of_the_auxiliary_tower(cells: int, place: int) -> None:
    towers = DartsSpace(cells=cells, aux_weight=0.4).build().aux_tower_descs
    assert [i for i, tower in enumerate(towers) if tower is not None] == [place]
    assert len(towers) == cells


@pytest.mark.parametrize(("side", "stride"), [(24, 1), (28, 2), (32, 3), (36, 4), (33, 4)])
def test_default_stride_of_the_auxiliary_tower_runs(side: int, stride: int) -> None:
    desc = small(aux_weight=0.4, image_size=side)
    assert desc.aux_tower_descs[3] is not None
    assert desc.aux_tower_descs[3].stride == stride
    assert Model(desc)(torch.randn(2, 3, side, side))[1].shape == (2, 10)


@pytest.mark.parametrize(
    ("size", "stride", "message"),
    [
        (20, None, r"cells\[3\] pools 5×5 with stride 1; a map of 5×5 does not become 2×2"),
        ((32, 20), None, r"cells\[3\] pools 5×5 with stride 3; a map of 8×5 does not become 2×2"),
        (32, 1, r"cells\[3\] pools 5×5 with stride 1; a map of 8×8 does not become 2×2"),
        (32, 4, r"cells\[3\] pools 5×5 with stride 4; a map of 8×8 does not become 2×2"),
        ((32, 48), None, r"cells\[3\] pools 5×5 with stride 3; a map of 8×12 does not become 2×2"),
    ],
)
def test_a_tower_map_that_is_not_two_by_two_is_refused(
    size: int | tuple[int, int], stride: int | None, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        small(aux_weight=0.4, image_size=size, aux_tower_stride=stride)


def test_a_tower_on_a_map_that_is_not_square_runs() -> None:
    desc = small(aux_weight=0.4, image_size=(32, 40))
    assert Model(desc)(torch.randn(2, 3, 32, 40))[1].shape == (2, 10)


def test_auxiliary_weight_with_one_reduction_warns_once() -> None:
    with pytest.warns(UserWarning, match=r"aux_weight=0\.4 has no effect: .* at least two reductions, got 1") as caught:
        desc = small(aux_weight=0.4, reductions=1)
    assert len(caught) == 1
    assert desc.aux_tower_descs == (None,) * 5


def test_without_auxiliary_weight_there_is_no_tower() -> None:
    assert not small(image_size=32).has_aux_tower()


# ----------------------------------------------------------------------------------------------------------- templates


def parts(cell: CellDesc) -> list[list[tuple[str, int, tuple[int, ...]]]]:
    return [[(e.op_desc.name, e.op_desc.stride, e.input_ids) for e in node.edges] for node in cell.nodes()]


def with_weights(desc: ModelDesc) -> ModelDesc:
    return desc.map_ops(lambda _, op: replace(op, trainables={"name": op.name, "sd": {}}))


def test_a_grown_network_keeps_ops_strides_ids_and_merged_states() -> None:
    found = small()
    grown = DartsSpace(nodes=2).grow(found, channels=6, cells=8)
    assert len(grown.cell_descs) == 8
    for cell in grown.cell_descs:
        template = found.first_cell(cell.cell_type)
        assert template is not None
        assert parts(cell) == parts(template)
        assert concat_ids(cell) == ((2,) if cell.cell_type is CellType.Regular else (3, 2))


def test_a_grown_network_has_its_own_channels_on_every_edge_and_node() -> None:
    grown = DartsSpace(nodes=2).grow(small(), channels=6, cells=8)
    for cell, channels in zip(grown.cell_descs, (6, 6, 12, 12, 12, 24, 24, 24), strict=True):
        conv = ConvMacroParams(channels, channels)
        assert {node.conv_params for node in cell.nodes()} == {conv}
        assert {edge.op_desc.conv for node in cell.nodes() for edge in node.edges} == {conv}


def test_a_grown_network_has_no_weights() -> None:
    grown = DartsSpace(nodes=2).grow(with_weights(small()))
    assert all(op.trainables is None for _, op in grown.top_ops())


def test_growing_does_not_change_what_was_found() -> None:
    found = with_weights(small())
    text = found.to_json()
    DartsSpace(nodes=2).grow(found, channels=6, cells=8)
    assert found.to_json() == text
    assert all(op.trainables is not None for _, op in found.top_ops())


def test_a_grown_network_is_that_of_its_genotype() -> None:
    found = small()
    grown = DartsSpace(nodes=2).grow(found, channels=6, cells=8)
    assert grown == DartsSpace(nodes=2).from_genotype(found.genotype(), channels=6, cells=8)


def test_children_of_a_composite_op_get_the_new_channels() -> None:
    desc = small(reductions=0)
    conv = ConvMacroParams(4, 4)
    child = OpDesc("skip_connect", Params(conv=conv))
    multi = OpDesc("multi_op", Params(conv=conv), in_len=2, children=(child, child), children_ins=(0, 1))
    cells = [
        cell.reset_nodes(
            [NodeDesc((EdgeDesc(multi, (0, 1)),), conv)] * 2, cell.node_shapes, cell.post_op, cell.out_shape
        )
        for cell in desc.cell_descs
    ]
    desc.reset_cells(cells, desc.aux_tower_descs)
    grown = DartsSpace(nodes=2).grow(desc, channels=6, reductions=0)
    op = grown.cell_descs[3].nodes()[1].edges[0].op_desc
    assert op.children is not None
    assert {op.conv, *(child.conv for child in op.children)} == {ConvMacroParams(6, 6)}
    real_shapes_equal_the_described(Model(grown))


def test_the_node_count_of_the_template_wins_with_one_warning() -> None:
    message = "the template has 2 nodes per cell and is followed; the configured n_nodes=4 is ignored"
    with pytest.warns(UserWarning, match=message) as caught:
        grown = DartsSpace().grow(small(), cells=8)
    assert len(caught) == 1
    assert {len(cell.nodes()) for cell in grown.cell_descs} == {2}


def test_unequal_cells_of_one_type_in_the_template_are_reported() -> None:
    found = small(cells=8)
    cells = list(found.cell_descs)
    for i in (3, 6):
        nodes = cells[i].nodes()[::-1][1:] + cells[i].nodes()[:1]
        cells[i] = cells[i].reset_nodes(nodes, cells[i].node_shapes, cells[i].post_op, cells[i].out_shape)
    found.reset_cells(cells, found.aux_tower_descs)
    message = r"the regular cells of the template differ: cells \[3, 6\] are not like cells\[0\], which is copied"
    with pytest.warns(UserWarning, match=message) as caught:
        grown = DartsSpace(nodes=2).grow(found)
    assert len(caught) == 1
    assert parts(grown.cell_descs[3]) == parts(found.cell_descs[0])


def test_a_template_without_a_reduction_cell_is_refused() -> None:
    message = r"^cells\[2\] is a reduction cell, but the template has none\. .* reductions=0"
    with pytest.raises(ValueError, match=message):
        DartsSpace(nodes=2).grow(small(reductions=0))


def test_a_template_without_a_reduction_cell_serves_a_network_without() -> None:
    assert len(DartsSpace(nodes=2).grow(small(reductions=0), reductions=0, cells=4).cell_descs) == 4


def test_a_found_cifar_cell_becomes_an_imagenet_network() -> None:
    found = DartsSpace().from_genotype(PUBLISHED["DARTS_V2"])
    space = DartsSpace(3, 224, 1000, stems=IMAGENET_STEMS, stem_multiplier=1, pool="pool_avg2d7x7")
    assert space.grow(found, channels=48, cells=14, aux_weight=0.4) == imagenet()


def test_a_supergraph_grows_too() -> None:
    grown = DartsSpace(channels=2).grow(DartsSpace(channels=4, cells=3, reductions=1).build(), cells=5)
    assert grown == DartsSpace(channels=2, cells=5).build()


# ----------------------------------------------------------------------------------------------------- ops of one's own


class TimesTwo(Op):
    def __init__(self, op_desc: OpDesc) -> None:
        super().__init__()
        self.stride = op_desc.stride

    def forward(self, x: Tensor) -> Tensor:
        return 2 * x[:, :, :: self.stride, :: self.stride]


class Quiet(StemBase):
    def __init__(self, op_desc: OpDesc) -> None:
        super().__init__(reduction=2)
        self.layers = nn.Sequential(nn.Conv2d(op_desc.conv.ch_in, op_desc.conv.ch_out, 1, stride=2))


def new_times_two(op_desc: OpDesc, affine: bool, arch_params: ArchParams | None) -> Op:
    return TimesTwo(op_desc)


def new_quiet(op_desc: OpDesc, affine: bool, arch_params: ArchParams | None) -> Op:
    return Quiet(op_desc)


class OwnOps(DartsSpace):
    """A space with a candidate and a stem of its own."""

    def pre_build(self, conf_model_desc: ModelDescConf) -> None:
        self.registry.register_op("times_two", new_times_two)
        self.registry.register_op("quiet_stem", new_quiet)


def own_space() -> OwnOps:
    return OwnOps(
        channels=2,
        cells=3,
        reductions=1,
        nodes=2,
        image_size=8,
        primitives=("times_two", "skip_connect", "none"),
        stems=("quiet_stem", "quiet_stem"),
    )


def test_an_op_of_a_space_runs_as_a_candidate_and_as_a_stem() -> None:
    space = own_space()
    model = Model(space.build(), affine=False, registry=space.registry)
    assert any(isinstance(m, TimesTwo) for m in model.modules())
    assert isinstance(model.model_stems[0], Quiet)
    real_shapes_equal_the_described(model)


def test_an_op_of_a_space_runs_on_the_edge_of_a_discrete_network() -> None:
    space = own_space()
    pairs = [("times_two", 0), ("skip_connect", 1), ("times_two", 2), ("times_two", 1)]
    desc = space.from_genotype(Genotype(pairs, [2, 3], pairs, [2, 3]))
    real_shapes_equal_the_described(Model(desc, registry=space.registry))


def test_an_op_of_a_space_does_not_change_the_package_wide_registry() -> None:
    before = OPS.names()
    space = own_space()
    space.build()
    assert OPS.names() == before
    assert "times_two" in space.registry.names()
    assert "times_two" not in DartsSpace().registry.names()


def test_without_the_registry_of_the_space_its_op_is_unknown() -> None:
    with pytest.raises(KeyError, match="no operation 'quiet_stem'"):
        Model(own_space().build(), affine=False)


def test_a_space_may_replace_an_op_of_the_package_for_itself() -> None:
    class Other(DartsSpace):
        def pre_build(self, conf_model_desc: ModelDescConf) -> None:
            self.registry.register_op("skip_connect", new_times_two, replace=True)

    space = Other(channels=2, cells=1, reductions=0, nodes=1, image_size=4, primitives=("skip_connect", "none"))
    own = Model(space.build(), affine=False, registry=space.registry)
    assert any(isinstance(m, TimesTwo) for m in own.modules())
    assert not any(isinstance(m, TimesTwo) for m in Model(space.build(), affine=False).modules())


# ------------------------------------------------------------------------------------------------------- short settings


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("in_channels", 1),
        ("image_size", (28, 30)),
        ("n_classes", 7),
        ("nodes", 3),
        ("merge", "proj_channels"),
        ("stems", IMAGENET_STEMS),
        ("channels", 5),
        ("stem_multiplier", 2),
        ("cells", 9),
        ("reductions", 1),
        ("pool", "pool_mean_tensor"),
        ("aux_weight", 0.4),
        ("aux_tower_stride", 2),
        ("max_final_edges", 3),
    ],
)
def test_short_name_changes_one_setting(name: str, value: object) -> None:
    changed = with_changes(CONF, **{name: value})
    assert changed != CONF
    places = [changed, changed.dataset, changed.cell, changed.model_stems]
    before = [CONF, CONF.dataset, CONF.cell, CONF.model_stems]
    found = {
        new
        for place, old in zip(places, before, strict=True)
        for field, new in vars(place).items()
        if new != vars(old)[field] and field not in ("dataset", "cell", "model_stems")
    }
    assert found == {value}


def test_an_unknown_setting_names_the_nearest() -> None:
    with pytest.raises(TypeError, match=r"^unknown setting 'chanels'\. Did you mean 'channels'\?"):
        with_changes(CONF, chanels=3)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("channels", 0, r"channels \(init_node_ch\) must be at least 1, got 0"),
        ("channels", -3, "must be at least 1, got -3"),
        ("stem_multiplier", 0, "stem_multiplier must be at least 1"),
        ("nodes", 0, "n_nodes must be at least 1"),
        ("cells", 0, "n_cells must be at least 1"),
        ("n_classes", 1, "n_classes must be at least 2"),
        ("image_size", (8, 0), "image_size must be at least 1"),
        ("image_size", (8, 8, 8), "image_size must be one number or"),
        ("in_channels", 0, "channels of the images must be at least 1"),
        ("aux_weight", -1.0, "aux_weight must be at least 0"),
        ("aux_tower_stride", 0, "aux_tower_stride must be at least 1"),
        ("max_final_edges", -1, "max_final_edges must be at least 0"),
        ("stems", ("stem_conv3x3",), "a model has two stems"),
    ],
)
def test_a_bad_value_is_refused(name: str, value: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DartsSpace(**{name: value})  # type: ignore[arg-type]  # wrong on purpose


@pytest.mark.parametrize("name", ["channels", "cells", "nodes", "reductions", "n_classes", "image_size", "in_channels"])
def test_a_number_that_is_not_whole_is_refused(name: str) -> None:
    with pytest.raises(TypeError):
        DartsSpace(**{name: 4.5})  # type: ignore[arg-type]  # wrong on purpose
