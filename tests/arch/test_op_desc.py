"""Tests of ``src/gradnas/arch/op_desc.py``."""

import copy
from dataclasses import FrozenInstanceError
from typing import Any

import pytest

from gradnas.arch import ConvMacroParams, OpDesc, Params

CONV = ConvMacroParams(4, 8)


class Uncopyable:
    """Stands for a large tensor: copying it is a defect."""

    def __deepcopy__(self, memo: dict[int, Any]) -> "Uncopyable":
        raise AssertionError("weights were copied")


def weights(name: str, value: object = 1) -> dict[str, Any]:
    return {"name": name, "sd": {"w": value}}


def make_composite() -> OpDesc:
    child = OpDesc("child", Params(conv=CONV, stride=2), trainables=weights("child"))
    return OpDesc(
        "parent", Params(conv=CONV), 2, trainables=weights("parent"), children=(child, child), children_ins=(1, 0)
    )


def test_weights_are_not_part_of_the_identity() -> None:
    plain, trained = OpDesc("a"), OpDesc("a", trainables=weights("a"))
    assert plain == trained
    assert hash(plain) == hash(trained)


@pytest.mark.parametrize(
    "other",
    [
        OpDesc("b", Params(stride=1)),
        OpDesc("a", Params(stride=2)),
        OpDesc("a", Params(stride=1), in_len=2),
        OpDesc("a", Params(stride=1), children=(OpDesc("c"),), children_ins=(0,)),
    ],
)
def test_name_parameters_inputs_and_children_are_the_identity(other: OpDesc) -> None:
    assert other != OpDesc("a", Params(stride=1))


def test_plain_mapping_and_lists_are_frozen() -> None:
    op = OpDesc("a", {"stride": 2}, children=[OpDesc("c")], children_ins=[0])  # type: ignore[arg-type]
    assert op.params == Params(stride=2)
    assert op.children == (OpDesc("c"),)
    assert op.children_ins == (0,)


def test_description_cannot_be_changed() -> None:
    with pytest.raises(FrozenInstanceError):
        OpDesc("a").name = "b"  # type: ignore[misc]  # what the test is about


def test_deep_copy_is_equal() -> None:
    assert copy.deepcopy(make_composite()) == make_composite()


def test_stride_is_one_unless_given() -> None:
    assert OpDesc("a").stride == 1
    assert OpDesc("a", Params(stride=2)).stride == 2


@pytest.mark.parametrize("stride", [0, 3, -1, 2.0, True, "2", None])
def test_other_strides_are_refused(stride: object) -> None:
    with pytest.raises(ValueError, match=f"stride of op 'a' must be 1 or 2, got {stride!r}"):
        OpDesc("a", Params(stride=stride))


def test_channels_of_an_op_without_them_are_an_error() -> None:
    with pytest.raises(KeyError, match="conv"):
        _ = OpDesc("a").conv
    with pytest.raises(TypeError, match=r"params\['conv'\] of op 'a' must be ConvMacroParams, got 3"):
        OpDesc("a", Params(conv=3))


def test_op_reads_at_least_one_input() -> None:
    with pytest.raises(ValueError, match="in_len of op 'a' must be at least 1, got 0"):
        OpDesc("a", in_len=0)


def test_name_must_be_a_string() -> None:
    with pytest.raises(TypeError, match="the name of an op must be a string, got 3"):
        OpDesc(3)  # type: ignore[arg-type]


@pytest.mark.parametrize("ins", [None, (), (0, 0)])
def test_each_child_needs_one_input_number(ins: tuple[int, ...] | None) -> None:
    with pytest.raises(ValueError, match=f"op 'a' has 1 children but {len(ins or ())} entries in children_ins"):
        OpDesc("a", children=(OpDesc("c"),), children_ins=ins)


def test_child_cannot_read_an_input_that_the_op_does_not_have() -> None:
    with pytest.raises(ValueError, match="a child of op 'a' reads input 2, but in_len is 2"):
        OpDesc("a", in_len=2, children=(OpDesc("c"),), children_ins=(2,))
    with pytest.raises(ValueError, match="children_ins of op 'a' must be at least 0, got -1"):
        OpDesc("a", in_len=2, children=(OpDesc("c"),), children_ins=(-1,))


def test_weights_of_another_op_are_refused() -> None:
    with pytest.raises(ValueError, match="weights of 'b' were given to op 'a'"):
        OpDesc("a", trainables=weights("b"))


def test_clone_keeps_weights() -> None:
    clone = make_composite().clone()
    assert clone == make_composite()
    assert clone.trainables == weights("parent")


def test_clone_without_weights_drops_them_in_the_children_too() -> None:
    clone = make_composite().clone(clone_trainables=False)
    assert [op.trainables for _, op in clone.all_ops()] == [None, None, None]


def test_clone_does_not_copy_weights_that_it_drops() -> None:
    OpDesc("a", trainables=weights("a", Uncopyable())).clone(clone_trainables=False)


def test_clear_trainables_returns_a_copy() -> None:
    op = make_composite()
    assert [part.trainables for _, part in op.clear_trainables().all_ops()] == [None, None, None]
    assert op.trainables == weights("parent")


def test_with_params_changes_a_copy() -> None:
    op = OpDesc("a", Params(stride=2, x=1))
    assert op.with_params(x=2) == OpDesc("a", Params(stride=2, x=2))
    assert op.params["x"] == 1


def test_with_conv_reaches_the_children_and_keeps_everything_else() -> None:
    new = ConvMacroParams(2, 6)
    grown = make_composite().with_conv(new)
    assert [op.conv for _, op in grown.all_ops()] == [new, new, new]
    assert [op.stride for _, op in grown.all_ops()] == [1, 2, 2]
    assert (grown.name, grown.in_len, grown.children_ins) == ("parent", 2, (1, 0))


def test_with_other_channels_drops_weights_that_no_longer_fit() -> None:
    grown = make_composite().with_conv(ConvMacroParams(2, 6))
    assert [op.trainables for _, op in grown.all_ops()] == [None, None, None]


def test_with_equal_channels_keeps_weights() -> None:
    same = make_composite().with_conv(ConvMacroParams(4, 8))
    assert [op.trainables for _, op in same.all_ops()] == [weights("parent"), weights("child"), weights("child")]


def test_all_ops_gives_dotted_places_depth_first() -> None:
    leaf = OpDesc("leaf")
    middle = OpDesc("middle", children=(leaf,), children_ins=(0,))
    top = OpDesc("top", children=(middle, leaf), children_ins=(0, 0))
    places = ["x", "x.children.0", "x.children.0.children.0", "x.children.1"]
    assert [place for place, _ in top.all_ops("x")] == places
    assert [place for place, _ in top.all_ops()] == [place.removeprefix("x").removeprefix(".") for place in places]


def test_state_goes_through_a_description_without_weights() -> None:
    op = make_composite()
    again = op.clear_trainables().load_state_dict(op.state_dict())
    assert again.state_dict() == op.state_dict()
    assert again == op


def test_state_of_an_op_without_weights_clears_them() -> None:
    loaded = make_composite().load_state_dict(make_composite().clear_trainables().state_dict())
    assert [op.trainables for _, op in loaded.all_ops()] == [None, None, None]


def test_state_with_another_number_of_children_is_refused() -> None:
    with pytest.raises(ValueError, match="op 'a' has 0 children, the stored weights have 2"):
        OpDesc("a").load_state_dict(make_composite().state_dict())


def test_state_of_another_op_is_refused() -> None:
    with pytest.raises(ValueError, match="weights of 'b' were given to op 'a'"):
        OpDesc("a").load_state_dict(OpDesc("b", trainables=weights("b")).state_dict())
