"""Tests of ``src/gradnas/arch/text.py``."""

from collections.abc import Callable
from dataclasses import replace

from gradnas.arch import ModelDesc, state_name

MakeModel = Callable[..., ModelDesc]

KNOWN = """\
image 3×8×8, 10 classes
stems stem_conv3x3 3→12, stem_conv3x3 3→12

regular cell (s0, s1 = inputs)
  n0 = skip_connect(s0) + none(s1)
  n1 = dil_conv_3x3(n0) + multi_op(s0, s1)

reduction cell (s0, s1 = inputs)
  n0 = skip_connect(s0) + none(s1)
  n1 = dil_conv_3x3(n0) + multi_op(s0, s1)

cells
   0 regular   -> 8×8×8
   1 reduction -> 8×4×4  + auxiliary tower
   2 regular   -> 8×8×8
head pool_adaptive_avg2d 8→8, linear"""


def test_known_page(make_model: MakeModel) -> None:
    assert str(make_model()) == KNOWN


def test_cell_type_that_does_not_occur_is_left_out(make_model: MakeModel) -> None:
    desc = make_model()
    text = str(replace(desc, cell_descs=desc.cell_descs[:1], aux_tower_descs=(None,)))
    assert "regular cell" in text
    assert "reduction" not in text


def test_node_without_edges_says_what_it_does(make_model: MakeModel) -> None:
    desc = make_model()
    first = desc.cell_descs[0]
    nodes = (first.nodes()[0], replace(first.nodes()[1], edges=()))
    text = str(replace(desc, cell_descs=(replace(first, node_descs=nodes), *desc.cell_descs[1:])))
    assert "  n1 = copy of the previous state\n" in text


def test_states_are_named_after_inputs_and_nodes() -> None:
    assert [state_name(state) for state in range(5)] == ["s0", "s1", "n0", "n1", "n2"]
