"""Tests of ``src/gradnas/supergraph/dag_edge.py``."""

from typing import Any

import pytest
import torch
from torch import Tensor

from gradnas.arch import ConvMacroParams, EdgeDesc, OpDesc, Params
from gradnas.ops import OPS, ArchParams, DropPath_, Op, OpRegistry
from gradnas.supergraph import DagEdge, MixedOp

CONV = ConvMacroParams(4, 4)


class Recorder(Op):
    """Keeps what it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: Any = None

    def forward(self, x: Any) -> Tensor:
        self.seen = x
        return torch.zeros(1)


def new_recorder(_: OpDesc, affine: bool, arch_params: ArchParams | None) -> Op:
    return Recorder()


REGISTRY = OpRegistry(parent=OPS)
REGISTRY.register_op("recorder", new_recorder)


def op(name: str, stride: int = 1) -> OpDesc:
    params = Params(conv=CONV, stride=stride)
    return OpDesc(name, params.replace(primitives=("sep_conv_3x3", "none")) if name == "mixed_op" else params)


def edge(name: str, stride: int = 1, droppath: bool = False, template: DagEdge | None = None) -> DagEdge:
    return DagEdge(EdgeDesc(op(name, stride), (0,)), False, droppath, template)


def recorded(*ids: int) -> tuple[Any, list[Tensor]]:
    states = [torch.full((1, 4, 2, 2), float(i)) for i in range(4)]
    dag_edge = DagEdge(EdgeDesc(OpDesc("recorder", in_len=len(ids)), ids), False, False, None, registry=REGISTRY)
    dag_edge(states)
    assert isinstance(dag_edge.op, Recorder)
    return dag_edge.op.seen, states


@pytest.mark.parametrize("state", range(4))
def test_one_id_passes_that_state_itself(state: int) -> None:
    seen, states = recorded(state)
    assert seen is states[state]


def test_several_ids_pass_a_list_in_the_order_of_the_ids() -> None:
    seen, states = recorded(0, 2, 3)
    assert [id(s) for s in seen] == [id(states[i]) for i in (0, 2, 3)]


def test_several_ids_feed_a_multi_op() -> None:
    children = (op("skip_connect"), op("sep_conv_3x3"))
    desc = OpDesc("multi_op", Params(conv=CONV), in_len=2, children=children, children_ins=(0, 1))
    assert DagEdge(EdgeDesc(desc, (0, 2)), True, False, None)([torch.randn(2, 4, 5, 5)] * 3).shape == (2, 4, 5, 5)


@pytest.mark.parametrize(
    ("name", "stride", "expected"),
    [
        ("sep_conv_3x3", 1, True),
        ("dil_conv_5x5", 2, True),
        ("max_pool_3x3", 1, True),
        ("none", 1, True),
        ("skip_connect", 1, False),
        ("skip_connect", 2, True),
        ("identity", 1, False),
        ("mixed_op", 1, False),
    ],
)
def test_drop_path_applies_where_the_op_allows_it(name: str, stride: int, expected: bool) -> None:
    assert isinstance(edge(name, stride, droppath=True).drop_path, DropPath_) is expected


def test_no_drop_path_unless_asked_for() -> None:
    assert edge("sep_conv_3x3").drop_path is None


def test_drop_path_acts_on_the_output_of_the_op_in_training_only() -> None:
    dag_edge, x = edge("max_pool_3x3", droppath=True), torch.rand(64, 4, 3, 3) + 1
    assert dag_edge.drop_path is not None
    dag_edge.drop_path.p = 0.5
    dag_edge.drop_path.generator = torch.Generator().manual_seed(0)
    out = dag_edge([x])
    dropped = (out == 0).flatten(1).all(1)
    assert 16 < dropped.sum() < 48
    torch.testing.assert_close(out[~dropped], 2 * dag_edge.op(x)[~dropped])
    dag_edge.eval()
    assert torch.equal(dag_edge([x]), dag_edge.op(x))


def test_architecture_parameters_are_those_of_the_template_edge() -> None:
    template = edge("mixed_op")
    user = edge("mixed_op", template=template)
    assert isinstance(user.op, MixedOp)
    assert isinstance(template.op, MixedOp)
    assert user.op.alphas is template.op.alphas
    assert not user.all_owned()


def test_without_template_the_edge_owns_its_architecture_parameters() -> None:
    first, second = edge("mixed_op"), edge("mixed_op")
    assert list(first.all_owned()) == ["op.alphas"]
    assert first.all_owned()["op.alphas"] is not second.all_owned()["op.alphas"]


def test_weights_are_not_shared_with_the_template_edge() -> None:
    template = edge("mixed_op")
    user = edge("mixed_op", template=template)
    assert not {id(p) for p in user.parameters()} & {id(p) for p in template.parameters()}


def test_a_template_without_architecture_parameters_has_no_effect() -> None:
    user = edge("sep_conv_3x3", template=edge("skip_connect"))
    assert user([torch.randn(2, 4, 5, 5)]).shape == (2, 4, 5, 5)


def test_mixing_weights_reach_the_mixed_op() -> None:
    dag_edge, x = edge("mixed_op"), torch.randn(2, 4, 5, 5)
    assert isinstance(dag_edge.op, MixedOp)
    torch.testing.assert_close(dag_edge([x], torch.tensor([3.0, 0.0])), 3 * dag_edge.op.candidates[0](x))


def test_op_names_are_looked_up_in_the_given_registry() -> None:
    with pytest.raises(KeyError, match="no operation 'recorder'"):
        DagEdge(EdgeDesc(OpDesc("recorder"), (0,)), False, False, None)
