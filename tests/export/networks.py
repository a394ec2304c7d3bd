"""Architectures and networks that the tests of this folder export."""

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor, nn

from gradnas.arch import (
    PUBLISHED,
    CellConf,
    CellDesc,
    CellType,
    ConvMacroParams,
    DatasetConf,
    EdgeDesc,
    ModelDesc,
    ModelDescConf,
    NodeDesc,
    OpDesc,
    Params,
    Shape,
    StemsConf,
)
from gradnas.finalizers import RandomFinalizers
from gradnas.pipeline import XnasModelDescBuilder
from gradnas.spaces import DartsSpace, ModelDescBuilder
from gradnas.spaces.builder import wired_nodes
from gradnas.strategies import Darts, PcDarts, Strategy, Xnas
from gradnas.supergraph import Model

Wiring = list[list[tuple[str, int]]]
"""For each node its (op, state) pairs."""


class Wired(ModelDescBuilder):
    """Cells of given wirings, one for regular and one for reduction cells."""

    def __init__(self, conf: ModelDescConf, regular: Wiring, reduction: Wiring) -> None:
        super().__init__(conf)
        self.wirings = {CellType.Regular: regular, CellType.Reduction: reduction}

    def build_nodes(
        self,
        stem_shapes: object,
        conf_cell: CellConf,
        cell_index: int,
        cell_type: CellType,
        node_count: int,
        in_shape: Shape,
        out_shape: Shape,
    ) -> tuple[list[Shape], list[NodeDesc]]:
        wiring = [[(OpDesc(op), state) for op, state in node] for node in self.wirings[cell_type]]
        return wired_nodes(wiring, cell_type, in_shape, out_shape)


def wired(
    regular: Wiring,
    reduction: Wiring,
    *,
    image: Shape = (3, 8, 8),
    classes: int = 5,
    channels: int = 4,
    cells: int = 3,
    merge: str = "concate_channels",
    pool: str = "pool_adaptive_avg2d",
    stems: tuple[str, str] = ("stem_conv3x3", "stem_conv3x3"),
    shared: bool = True,
) -> ModelDesc:
    conf = ModelDescConf(
        dataset=DatasetConf(channels=image[0], image_size=image[1:], n_classes=classes),
        n_cells=cells,
        n_reductions=1,
        cell=CellConf(n_nodes=len(regular), cell_post_op=merge),
        model_stems=StemsConf(ops=stems, init_node_ch=channels, stem_multiplier=2, shared=shared),
        model_post_op=pool,
    )
    return Wired(conf, regular, reduction).build()


def published(name: str, **changes: object) -> ModelDesc:
    settings: dict[str, object] = {"channels": 4, "cells": 5, "image_size": 16, **changes}
    return DartsSpace().from_genotype(PUBLISHED[name], **settings)


def small() -> ModelDesc:
    """One architecture with skips, pools and both kinds of convolution in little text."""
    regular = [[("sep_conv_3x3", 0), ("skip_connect", 1)], [("dil_conv_5x5", 1), ("max_pool_3x3", 2)]]
    reduction = [[("max_pool_3x3", 0), ("skip_connect", 1)], [("avg_pool_3x3", 0), ("sep_conv_3x3", 2)]]
    return wired(regular, reduction, image=(1, 8, 8), classes=3)


def with_cells(desc: ModelDesc, change: Callable[[CellDesc], CellDesc]) -> ModelDesc:
    return replace(desc, cell_descs=tuple(change(cell) for cell in desc.cell_descs))


def with_ops(desc: ModelDesc, change: Callable[[OpDesc], OpDesc]) -> ModelDesc:
    return desc.map_ops(lambda place, op: change(op))


def multi(stride: int, conv: ConvMacroParams, *children: tuple[str, int]) -> OpDesc:
    """A multi_op over (op, input) children; those that read an input of the cell have the stride."""
    ops = tuple(OpDesc(name, Params(stride=stride if port < 2 else 1)) for name, port in children)
    ins = tuple(port for _, port in children)
    return OpDesc("multi_op", Params(conv=conv), max(ins) + 1, children=ops, children_ins=ins)


def petridish() -> ModelDesc:
    """Nodes with one edge that reads several states at once, merged by a projection; a composite in a composite."""

    def change(cell: CellDesc) -> CellDesc:
        stride = 2 if cell.cell_type is CellType.Reduction else 1
        conv = cell.node_descs[0].conv_params
        first = multi(stride, conv, ("sep_conv_3x3", 1), ("max_pool_3x3", 0), ("skip_connect", 1))
        inner = multi(1, ConvMacroParams(9, 9), ("conv_3x1_1x3", 0))
        second = multi(stride, conv, ("dil_conv_3x3", 0), ("skip_connect", 2), ("avg_pool_3x3", 1))
        children, ins = (*(second.children or ()), inner), (*(second.children_ins or ()), 2)
        second = replace(second, children=children, children_ins=ins)
        nodes = (NodeDesc((EdgeDesc(first, (0, 1)),), conv), NodeDesc((EdgeDesc(second, (1, 0, 2)),), conv))
        return replace(cell, node_descs=nodes)

    nodes: Wiring = [[("skip_connect", 0)], [("skip_connect", 1)]]
    return with_cells(wired(nodes, nodes, merge="proj_channels"), change)


def differing() -> ModelDesc:
    """The last of the regular cells has other ops, wiring and merge than the first."""
    nodes: Wiring = [[("sep_conv_3x3", 0), ("skip_connect", 1)], [("max_pool_3x3", 1), ("none", 2)]]
    desc = wired(nodes, nodes, cells=4)

    def change(cell: CellDesc) -> CellDesc:
        if cell.id != 3:
            return cell
        conv = ConvMacroParams(8, 8)
        nodes = (
            NodeDesc((EdgeDesc(OpDesc("convbnrelu_3x3", Params(conv=conv, stride=1)), (1,)),), conv),
            NodeDesc((EdgeDesc(OpDesc("conv_7x1_1x7", Params(conv=conv, stride=1)), (2,)),), conv),
        )
        post_op = cell.post_op.with_params(concat_ids=(3, 0))
        return replace(cell, node_descs=nodes, post_op=post_op)

    return with_cells(desc, change)


def varying() -> ModelDesc:
    """Channels inside a cell that are one and a half, and a strange fraction, of those of its stems."""
    nodes: Wiring = [[("convbnrelu_3x3", 1)], [("convbnrelu_1x1", 2)]]

    def change(cell: CellDesc) -> CellDesc:
        (_, stride), c = (cell.cell_type, 2 if cell.cell_type is CellType.Reduction else 1), cell.stem_shapes[0][0]
        wide, odd = c * 3 // 2, c + 3
        first = OpDesc("convbnrelu_3x3", Params(conv=ConvMacroParams(c, wide), stride=stride))
        second = OpDesc("convbnrelu_1x1", Params(conv=ConvMacroParams(wide, odd), stride=1))
        nodes = tuple(
            replace(node, edges=(EdgeDesc(op, (state,)),))
            for node, op, state in zip(cell.node_descs, (first, second), (1, 2), strict=True)
        )
        post_op = cell.post_op.with_params(conv=ConvMacroParams(wide + odd, cell.post_op.conv.ch_out))
        return replace(cell, node_descs=nodes, post_op=post_op)

    return with_cells(wired(nodes, nodes, merge="proj_channels"), change)


def edgeless() -> ModelDesc:
    """Nodes that copy the state before them: an input of the cell, and a node."""
    reduction: Wiring = [[("skip_connect", 0)], [("none", 1)], [("max_pool_3x3", 1)]]
    return wired([[], [("sep_conv_3x3", 0)], []], reduction)


def normed_pools() -> ModelDesc:
    return with_ops(
        small(), lambda op: op.with_params(pool_bn=True) if "pool" in op.name and "conv" in op.params else op
    )


def imagenet(**settings: object) -> ModelDesc:
    stems = ("stem_conv3x3_s4", "stem_conv3x3_s4s2")
    return published("PC_DARTS_image", **{"stems": stems, "image_size": 64, "aux_weight": 0.0, **settings})


def two_stems() -> ModelDesc:
    """Stems that do not share: the second reads the image too, and gives maps of half the size."""
    nodes: Wiring = [[("sep_conv_3x3", 0), ("sep_conv_3x3", 1)]]
    return wired(nodes, nodes, image=(2, 32, 32), stems=("stem_conv3x3_s4", "stem_conv3x3_s4s2"), shared=False)


def found(builder: type[DartsSpace], strategy: Strategy, n: int) -> ModelDesc:
    """What a finalizer leaves of the supergraph of a space under a strategy."""
    space = builder(3, 8, 4, channels=4, cells=3, nodes=2, reductions=1)
    model = Model(strategy.supergraph(space.build()), droppath=False, affine=False, registry=space.registry)
    return space.grow(RandomFinalizers(n).finalize_model(model), channels=4)


CASES: dict[str, Callable[[], ModelDesc]] = {
    **{name: lambda name=name: published(name) for name in PUBLISHED},  # type: ignore[misc]  # bound now
    "small": small,
    "petridish": petridish,
    "cells that differ": differing,
    "channels that vary": varying,
    "nodes without edges": edgeless,
    "pools with norms": normed_pools,
    "ImageNet": imagenet,
    "ImageNet with tower": lambda: imagenet(aux_weight=0.4, image_size=256, aux_tower_stride=3, cells=6),
    "two stems": two_stems,
    "stem with ReLU": lambda: wired([[("identity", 0)]], [[("none", 0)]], stems=("stem_conv3x3Relu", "stem_conv3x3")),
    "mean pool": lambda: wired([[("sep_conv_3x3", 0)]], [[("sep_conv_3x3", 0)]], pool="pool_mean_tensor"),
    "7x7 pool": lambda: wired(
        [[("none", 0), ("identity", 1)]], [[("skip_connect", 0)]], image=(1, 15, 19), pool="pool_avg2d7x7"
    ),
    "odd size": lambda: published("DARTS_V1", image_size=(13, 9)),
    "gray": lambda: published("GDAS_V1", in_channels=1, n_classes=2),
    "auxiliary tower": lambda: published("DARTS_V2", image_size=24, aux_weight=0.4, cells=6),
    "without reductions": lambda: published("DARTS_V2", reductions=0, cells=2),
    "found in the DARTS space": lambda: found(DartsSpace, Darts(order=1), 0),
    "found by PC-DARTS": lambda: found(DartsSpace, PcDarts(), 1),
    "found by XNAS": lambda: found(XnasModelDescBuilder, Xnas(), 2),
}
"""Descriptions by what is special about them."""


def lively(desc: ModelDesc, seed: int, droppath: bool = True) -> Model:
    """A network as after training: random weights, statistics as of images, so that its logits tell images apart."""
    generator = torch.Generator().manual_seed(seed)
    model = Model(desc, droppath=droppath)
    shape = desc.conf_model_desc.dataset.image_shape
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            values = torch.randn(parameter.shape, generator=generator)
            fan = max(1, parameter[0].numel()) if parameter.dim() > 1 else 1
            is_scale = parameter.dim() == 1 and name.endswith("weight")
            parameter.copy_(values.abs() + 0.5 if is_scale else values * (2 / fan) ** 0.5)
        norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
        for norm in norms:
            norm.momentum = 1.0
        towers, model.aux_towers = model.aux_towers, nn.ModuleDict()
        model.train()(torch.randn(8, *shape, generator=generator))
        model.aux_towers = towers
    return model.eval()


def images_for(desc: ModelDesc, count: int = 3, seed: int = 1) -> Tensor:
    shape = desc.conf_model_desc.dataset.image_shape
    return torch.randn(count, *shape, generator=torch.Generator().manual_seed(seed))
