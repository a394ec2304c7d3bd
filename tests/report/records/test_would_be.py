"""Tests of ``src/gradnas/report/records/would_be.py``."""

import json
from pathlib import Path
from typing import Any

import pytest

from gradnas.arch import PUBLISHED, CellType, ModelDesc, concat_ids, wiring
from gradnas.pipeline.diagnostics import wired
from gradnas.report.records.run_folder import read_run_folder
from gradnas.report.records.would_be import Wire, WouldBe, changes, from_genotype, of_cell, read_would_be
from gradnas.spaces import DartsSpace

SMALL: dict[str, Any] = {
    "nodes": [[["a", [0]], ["b", [1]]], [["c", [2]]]],
    "stems": ["in0", "in1"],
    "merge": "cat",
    "merged": [2, 3],
    "shapes": [[4, 8, 8], [4, 8, 8], [4, 4, 4], [4, 4, 4], [8, 4, 4]],
}


def found() -> ModelDesc:
    return DartsSpace(channels=4, cells=5).from_genotype(PUBLISHED["DARTS_V2"])


def small(**changed: Any) -> WouldBe:
    return read_would_be({"would_be": {"reduction": SMALL | changed}})["reduction"]


def cell(*nodes: list[Wire], kind: str = "regular") -> WouldBe:
    shape = (1, 1, 1)
    shapes = (shape,) * (len(nodes) + 3)
    return WouldBe(
        kind=kind, nodes=tuple(map(tuple, nodes)), merge="m", merged=(2,), shapes=shapes, stems=("in0", "in1")
    )


def wire(op: str, *states: int) -> Wire:
    return Wire(op=op, input_ids=states)


@pytest.mark.parametrize("kind", list(CellType))
def test_what_the_search_records_is_read_back_as_the_same_cell(kind: CellType) -> None:
    desc = found().first_cell(kind)
    assert desc is not None
    stored = json.loads(json.dumps({"would_be": {kind.value: wired(desc)}}))
    read = read_would_be(stored)[kind.value]
    assert read == of_cell(desc)
    drawn = read.cell()
    assert wiring(drawn) == wiring(desc)
    assert [s.name for s in drawn.stems] == [s.name for s in desc.stems]
    assert (drawn.node_shapes, drawn.stem_shapes, drawn.out_shape) == (
        desc.node_shapes,
        desc.stem_shapes,
        desc.out_shape,
    )
    assert (drawn.post_op.name, concat_ids(drawn)) == (desc.post_op.name, concat_ids(desc))
    assert drawn.cell_type is kind


def test_operations_that_read_a_larger_map_halve_it() -> None:
    drawn = small().cell()
    assert [[edge.op_desc.stride for edge in node.edges] for node in drawn.nodes()] == [[2, 2], [1]]


def test_composites_keep_their_parts() -> None:
    parts = [["sep", [1]], ["skip", [0]]]
    edge = small(nodes=[[["a", [0]]], [["multi", [0, 1], parts]]]).cell().nodes()[1].edges[0]
    assert edge.input_ids == (0, 1)
    assert [child.name for child in edge.op_desc.children or ()] == ["sep", "skip"]
    assert edge.op_desc.children_ins == (1, 0)


@pytest.mark.parametrize(
    "changed",
    [
        {"nodes": None},
        {"nodes": [[["a", [2]]], []]},  # the first node reads itself
        {"nodes": [[["a", [-1]]], []]},
        {"nodes": [[["a", []]], []]},
        {"nodes": [[["", [0]]], []]},
        {"nodes": [[["a"]], []]},
        {"nodes": [[["a", [True]]], []]},
        {"nodes": [[["a", [0], [["b", [1]]]]], []]},  # a part reads what the composite does not
        {"nodes": [[["a", [0]]]]},  # shapes of two nodes
        {"merged": [4]},
        {"merged": ["2"]},
        {"merge": 3},
        {"stems": ["one"]},
        {"shapes": [[4, 8, 8]] * 4},
        {"shapes": [[4, 8]] * 5},
        {"shapes": [[4, 8, 0]] * 5},
    ],
)
def test_damaged_cells_are_left_out(changed: dict[str, Any]) -> None:
    assert read_would_be({"would_be": {"regular": SMALL | changed, "reduction": SMALL}}).keys() == {"reduction"}


@pytest.mark.parametrize("record", [None, {}, {"would_be": []}, {"would_be": {"regular": 1, "spiral": SMALL}}])
def test_no_record_is_no_cell(record: object) -> None:
    assert read_would_be(record) == {}


def test_a_genotype_takes_shapes_from_the_found_architecture() -> None:
    desc = found()
    cells = from_genotype(str(PUBLISHED["DARTS_V2"]), desc, ())
    assert cells == {kind.value: of_cell(first) for kind in CellType if (first := desc.first_cell(kind)) is not None}
    other = from_genotype(str(PUBLISHED["DARTS_V1"]), desc, ())
    expected = DartsSpace(channels=4, cells=5).from_genotype(PUBLISHED["DARTS_V1"]).first_cell(CellType.Reduction)
    assert expected is not None
    assert wiring(other["reduction"].cell()) == wiring(expected)


def test_a_genotype_may_name_the_candidates_of_the_search() -> None:
    text = str(PUBLISHED["DARTS_V2"]).replace("dil_conv_3x3", "conv_gelu")
    assert from_genotype(text, found(), ()) == {}
    assert from_genotype(text, found(), ("conv_gelu",))["regular"].nodes[3][1].op == "conv_gelu"


@pytest.mark.parametrize(
    "text",
    [
        None,
        "",
        "Genotype(",
        "Genotype(normal=[('none', 0), ('none', 1)], normal_concat=[2], reduce=[], reduce_concat=[])",
    ],
)
def test_without_a_genotype_of_these_nodes_there_is_no_cell(text: str | None) -> None:
    assert from_genotype(text, found(), ()) == {}


def test_without_the_found_architecture_a_genotype_has_no_shapes() -> None:
    assert from_genotype(str(PUBLISHED["DARTS_V2"]), None, ()) == {}


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ([wire("a", 0)], [wire("a", 0)], []),
        ([wire("a", 0)], [wire("b", 0)], ["n0 reads s0 through b instead of a"]),
        ([wire("a", 0)], [wire("a", 1)], ["n0 reads s1 through a instead of s0 through a"]),
        ([wire("a", 0)], [wire("a", 0), wire("b", 1)], ["n0 also reads s1 through b"]),
        ([wire("a", 0), wire("b", 1)], [wire("b", 1)], ["n0 no longer reads s0 through a"]),
        (
            [wire("a", 0), wire("b", 1)],
            [wire("c", 1), wire("d", 2)],
            ["n0 reads s1 through c instead of b", "n0 reads n0 through d instead of s0 through a"],
        ),
        ([wire("a", 0), wire("b", 1)], [wire("b", 1), wire("a", 0)], []),
        ([], [wire("a", 0, 1)], ["n0 also reads s0, s1 through a"]),
    ],
)
def test_changes_in_words(old: list[Wire], new: list[Wire], said: list[str]) -> None:
    assert changes(cell(old), cell(new)) == said


def test_changes_name_the_node_and_the_parts_of_a_composite() -> None:
    multi = Wire(op="multi", input_ids=(0, 1), parts=(wire("x", 0), wire("y", 1)))
    assert changes(cell([], [wire("a", 0)]), cell([], [multi])) == [
        "n1 reads s0, s1 through multi[x, y] instead of s0 through a"
    ]
    assert changes(cell([wire("a", 0)], [wire("b", 0)]), cell([wire("a", 0)])) == ["n1 no longer reads s0 through b"]


def test_records_of_a_run_hold_their_cells(run: Path) -> None:
    mixtures = read_run_folder(run).mixtures
    assert all(set(record.would_be) == {"regular", "reduction"} for record in mixtures)
