"""Tests of ``src/gradnas/arch/text.py``."""

import subprocess
import sys
import unicodedata
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from gradnas.arch import (
    DARTS_PRIMITIVES,
    PUBLISHED,
    AuxTowerDesc,
    CellDesc,
    EdgeDesc,
    ModelDesc,
    OpDesc,
    candidates,
    distinct_cells,
    op_call,
    op_text,
    size_text,
    state_name,
    wiring,
)
from gradnas.spaces import DartsSpace

MakeModel = Callable[..., ModelDesc]

KNOWN = """\
image 3×8×8, 10 classes
stems stem_conv3x3 3→12, stem_conv3x3 3→12

regular cell (s0, s1 = inputs)
  n0 = skip_connect(s0) + none(s1)
  n1 = dil_conv_3x3(n0) + multi_op(sep_conv_3x3(s1), max_pool_3x3(s0))
  output = concate_channels(n0, n1)

reduction cell (s0, s1 = inputs)
  n0 = skip_connect /2(s0) + none /2(s1)
  n1 = dil_conv_3x3(n0) + multi_op(sep_conv_3x3 /2(s1), max_pool_3x3 /2(s0))
  output = concate_channels(n0, n1)

cells
  0 regular   -> 8×8×8
  1 reduction -> 8×4×4  + auxiliary tower
  2 regular   -> 8×8×8
head pool_adaptive_avg2d 8→8, linear"""

SEARCHED = """\
regular cell (s0, s1 = inputs)
  n0 = 8 candidates(s0) + 8 candidates(s1)
  n1 = 8 candidates(s0) + 8 candidates(s1) + 8 candidates(n0)
  output = concate_channels(n0, n1)

reduction cell (s0, s1 = inputs)
  n0 = 8 candidates /2(s0) + 8 candidates /2(s1)
  n1 = 8 candidates /2(s0) + 8 candidates /2(s1) + 8 candidates(n0)
  output = concate_channels(n0, n1)

8 candidates: max_pool_3x3, avg_pool_3x3, skip_connect, sep_conv_3x3,
              sep_conv_5x5, dil_conv_3x3, dil_conv_5x5, none
"""

DEEP = """\
cells
    0–5 regular   -> 144×32×32
      6 reduction -> 288×16×16
   7–12 regular   -> 288×16×16
     13 reduction -> 576×8×8  + auxiliary tower
  14–19 regular   -> 576×8×8
head"""


def with_edges(desc: ModelDesc, cell: int, edges: tuple[EdgeDesc, ...]) -> ModelDesc:
    """Other edges at the last node of one cell."""
    cells = list(desc.cell_descs)
    nodes = cells[cell].nodes()
    cells[cell] = replace(cells[cell], node_descs=(*nodes[:-1], replace(nodes[-1], edges=edges)))
    return replace(desc, cell_descs=tuple(cells))


def test_known_page(make_model: MakeModel) -> None:
    assert str(make_model()) == KNOWN


def test_cell_type_that_does_not_occur_is_left_out(make_model: MakeModel) -> None:
    desc = make_model()
    text = str(replace(desc, cell_descs=desc.cell_descs[:1], aux_tower_descs=(None,)))
    assert "regular cell" in text
    assert "reduction" not in text


def test_node_without_edges_says_what_it_copies(make_model: MakeModel) -> None:
    desc = make_model()
    first = desc.cell_descs[0]
    nodes = (first.nodes()[0], replace(first.nodes()[1], edges=()))
    text = str(replace(desc, cell_descs=(replace(first, node_descs=nodes), *desc.cell_descs[1:])))
    assert "  n1 = copy of n0\n" in text


def test_candidates_are_listed_once() -> None:
    desc = DartsSpace(cells=3, nodes=2, reductions=1).build()
    assert SEARCHED in str(desc)


def test_sets_of_candidates_are_told_apart(make_model: MakeModel) -> None:
    mixed = OpDesc("mixed_op", {"primitives": ("a", "b")})
    desc = with_edges(make_model(), 0, (EdgeDesc(mixed, (0,)), EdgeDesc(OpDesc("mixed_op"), (1,))))
    text = str(desc)
    assert "  n1 = 2 candidates #1(s0) + 8 candidates #2(s1)\n" in text
    assert "2 candidates #1: a, b\n8 candidates #2: max_pool_3x3" in text


def test_neighbors_that_are_alike_share_a_line() -> None:
    desc = DartsSpace().from_genotype(PUBLISHED["DARTS_V2"], channels=36, cells=20, aux_weight=0.4)
    assert DEEP in str(desc)
    assert len(str(desc).splitlines()) <= 24  # of a terminal


@pytest.mark.parametrize("at", [0, 1, 2])
def test_a_tower_parts_neighbors_that_are_alike(at: int) -> None:
    desc = DartsSpace(cells=3, reductions=0).from_genotype(PUBLISHED["DARTS_V2"])
    towers = [AuxTowerDesc(64, 10, 3) if i == at else None for i in range(3)]
    lines = [line for line in str(replace(desc, aux_tower_descs=tuple(towers))).splitlines() if "->" in line]
    parted = {0: ["0", "1–2"], 1: ["0", "1", "2"], 2: ["0–1", "2"]}[at]
    assert [line.split()[0] for line in lines] == parted
    assert [line.split()[0] for line in lines if "auxiliary tower" in line] == [str(at)]


def test_cells_of_one_type_that_differ_are_all_shown(make_model: MakeModel) -> None:
    desc = with_edges(make_model(), 2, ())
    assert [title for title, _ in distinct_cells(desc)] == ["regular cell 0", "regular cell 2", "reduction cell"]
    text = str(desc)
    assert text.index("regular cell 0 (s0") < text.index("regular cell 2 (s0") < text.index("reduction cell (s0")
    deep = DartsSpace(cells=9, reductions=1).from_genotype(PUBLISHED["DARTS_V2"])
    changed = with_edges(deep, 2, ())
    assert [title for title, _ in distinct_cells(changed)] == [
        "regular cells 0–1, 3, 5–8",
        "regular cell 2",
        "reduction cell",
    ]


def test_another_merge_makes_another_cell(make_model: MakeModel) -> None:
    desc = make_model()
    last = desc.cell_descs[2]
    other = replace(last, post_op=OpDesc("concate_channels", {"concat_ids": (2,)}))
    assert len(distinct_cells(replace(desc, cell_descs=(*desc.cell_descs[:2], other)))) == 3


@pytest.mark.parametrize("name", sorted(PUBLISHED))
def test_lines_fit_a_terminal(name: str) -> None:
    desc = DartsSpace().from_genotype(PUBLISHED[name], channels=36, cells=20, aux_weight=0.4)
    assert max(map(len, str(desc).splitlines())) <= 80


def test_wide_cells_are_broken_behind_signs(make_model: MakeModel) -> None:
    wide = str(DartsSpace(cells=3, nodes=7, reductions=1).build())
    assert max(map(len, wide.splitlines())) <= 80
    assert " +\n       8 candidates(n1)" in wide
    parts = tuple(OpDesc("sep_conv_3x3") for _ in range(6))
    many = OpDesc("multi_op", children=parts, children_ins=(0,) * 6)
    lines = str(with_edges(make_model(), 0, (EdgeDesc(many, (1,)),))).splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("  n1 = multi_op("))
    assert lines[start].endswith(",")
    assert lines[start + 1].startswith("       sep_conv_3x3(s1)")
    assert max(map(len, lines)) <= 80


def test_a_name_longer_than_a_line_stays_whole(make_model: MakeModel) -> None:
    name = "x" * 90
    assert f"\n       {name}(s1)\n" in str(
        with_edges(make_model(), 0, (EdgeDesc(OpDesc("none"), (0,)), EdgeDesc(OpDesc(name), (1,))))
    )


def marked(model: ModelDesc, mark: str) -> ModelDesc:
    """The model with a mark in every name that its file may hold: ops, their candidates and parts, the merge."""

    def renamed(op: OpDesc) -> OpDesc:
        parts = tuple(map(renamed, op.children)) if op.children else op.children
        return replace(op, name=f"a{mark}{op.name}", children=parts)

    cell = model.cell_descs[0]
    nodes = [replace(n, edges=tuple(replace(e, op_desc=renamed(e.op_desc)) for e in n.edges)) for n in cell.nodes()]
    mixed = OpDesc("mixed_op", {"primitives": (f"b{mark}", "none")})
    nodes[0] = replace(nodes[0], edges=(replace(nodes[0].edges[0], op_desc=mixed), *nodes[0].edges[1:]))
    cell = cell.reset_nodes(nodes, cell.node_shapes, renamed(cell.post_op), cell.out_shape)
    first, second = map(renamed, model.model_stems)
    ends = {"pool_op": renamed(model.pool_op), "logits_op": renamed(model.logits_op)}
    return replace(model, cell_descs=(cell, *model.cell_descs[1:]), model_stems=(first, second), **ends)


@pytest.mark.parametrize("mark", ["\x1b[31m", "\x9b2J", "\u202e", "\n"])
def test_names_of_strangers_do_not_act_on_the_terminal(make_model: MakeModel, mark: str) -> None:
    bad = ModelDesc.from_json(marked(make_model(), mark).to_json())
    lines = [*str(bad).split("\n"), *wiring(bad.cell_descs[0])]
    assert not [c for line in lines for c in line if unicodedata.category(c) in ("Cc", "Cf")]
    assert len(str(bad).split("\n")) == len(str(marked(make_model(), "_" * len(mark))).split("\n"))


def test_states_are_named_after_inputs_and_nodes() -> None:
    assert [state_name(state) for state in range(5)] == ["s0", "s1", "n0", "n1", "n2"]


def test_words_of_ops_and_shapes(make_cell: Callable[..., CellDesc]) -> None:
    assert op_text(OpDesc("max_pool_3x3", {"stride": 2})) == "max_pool_3x3 /2"
    assert op_text(OpDesc("mixed_op", {"primitives": ("a", "b"), "stride": 2})) == "2 candidates /2"
    assert candidates(OpDesc("mixed_op")) == DARTS_PRIMITIVES
    assert candidates(OpDesc("sep_conv_3x3")) == ()
    assert size_text((3, 32, 16)) == "3×32×16"
    inner = OpDesc("multi_op", children=(OpDesc("a"), OpDesc("b")), children_ins=(0, 0))
    outer = OpDesc("multi_op", in_len=2, children=(inner, OpDesc("c")), children_ins=(1, 0))
    assert op_call(outer, ["s0", "n3"]) == "multi_op(multi_op(a(n3), b(n3)), c(s0))"
    assert wiring(make_cell())[0] == "n0 = skip_connect(s0) + none(s1)"


def test_a_description_draws_itself(tmp_path: Path, make_model: MakeModel) -> None:
    desc = DartsSpace(cells=3, reductions=1).from_genotype(PUBLISHED["DARTS_V2"])
    path = desc.draw(tmp_path / "x.svg")
    assert path == tmp_path / "x.svg"
    assert path.read_text(encoding="utf-8").startswith("<svg")
    with pytest.raises(ValueError, match=r"\.svg, \.png, \.mmd or \.dot, got 'x\.gif'"):
        desc.draw(tmp_path / "x.gif")


def test_descriptions_draw_without_being_able_to_when_they_are_imported() -> None:
    """``ModelDesc.draw`` looks upwards when it is called, never before: the file alone must not import the report."""
    code = (
        "import sys, types\n"
        "package = types.ModuleType('gradnas'); package.__path__ = sys.argv[1:]; sys.modules['gradnas'] = package\n"
        "import gradnas.arch\n"
        "loaded = {name.split('.')[0] for name in sys.modules} | set(sys.modules)\n"
        "print(sorted(loaded & {'torch', 'matplotlib', 'numpy', 'jinja2', 'rich', 'gradnas.report'}))\n"
    )
    import gradnas

    done = subprocess.run(
        [sys.executable, "-c", code, *gradnas.__path__], capture_output=True, text=True, check=True, timeout=300
    )
    assert done.stdout == "[]\n"
