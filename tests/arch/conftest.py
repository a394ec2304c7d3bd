"""A small network as plain data: regular, reduction, regular, with a tower and a composite op."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from gradnas.arch import (
    AuxTowerDesc,
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
)

CONV = ConvMacroParams(4, 4)


def small_op(name: str, stride: int = 1) -> OpDesc:
    return OpDesc(name, Params(conv=CONV, stride=stride))


def small_composite(stride: int = 1) -> OpDesc:
    children = (small_op("sep_conv_3x3", stride), small_op("max_pool_3x3", stride))
    return OpDesc("multi_op", Params(conv=CONV), in_len=2, children=children, children_ins=(1, 0))


def small_cell(id: int = 0, cell_type: CellType = CellType.Regular, **changes: Any) -> CellDesc:
    stride = 2 if cell_type is CellType.Reduction else 1
    nodes = (
        NodeDesc((EdgeDesc(small_op("skip_connect", stride), (0,)), EdgeDesc(small_op("none", stride), (1,))), CONV),
        NodeDesc((EdgeDesc(small_op("dil_conv_3x3"), (2,)), EdgeDesc(small_composite(stride), (0, 1))), CONV),
    )
    cell = CellDesc(
        id=id,
        cell_type=cell_type,
        conf_cell=CellConf(n_nodes=2),
        stems=(small_op("prepr_normal"), small_op("prepr_normal")),
        stem_shapes=((4, 8, 8), (4, 8, 8)),
        node_descs=nodes,
        node_shapes=((4, 8 // stride, 8 // stride), (4, 8 // stride, 8 // stride)),
        post_op=OpDesc("concate_channels", Params(out_states=2)),
        out_shape=(8, 8 // stride, 8 // stride),
        trainables_from=id,
    )
    return replace(cell, **changes)


def small_model(**changes: Any) -> ModelDesc:
    model = ModelDesc(
        conf_model_desc=ModelDescConf(dataset=DatasetConf(channels=3, image_size=(8, 8), n_classes=10), n_cells=3),
        model_stems=(OpDesc("stem_conv3x3", Params(conv=ConvMacroParams(3, 12))),) * 2,
        pool_op=OpDesc("pool_adaptive_avg2d", Params(conv=ConvMacroParams(8, 8))),
        cell_descs=(small_cell(0), small_cell(1, CellType.Reduction), small_cell(2, trainables_from=0)),
        aux_tower_descs=(None, AuxTowerDesc(8, 10, 2), None),
        logits_op=OpDesc("linear", Params(n_ch=8, n_classes=10)),
    )
    return replace(model, **changes)


@pytest.fixture
def make_cell() -> Callable[..., CellDesc]:
    return small_cell


@pytest.fixture
def make_model() -> Callable[..., ModelDesc]:
    return small_model
