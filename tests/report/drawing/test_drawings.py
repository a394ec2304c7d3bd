"""Tests of the drawings: ``cell_drawing.py``, ``network_drawing.py``, ``picture.py`` and what they stand on."""

import ast
from functools import cache
from pathlib import Path
from xml.etree import ElementTree

import pytest

import gradnas.report
from gradnas.arch import PUBLISHED, CellDesc, CellType, EdgeDesc, Genotype, ModelDesc, NodeDesc, OpDesc, concat_ids
from gradnas.report import draw, draw_cell, draw_network
from gradnas.report.drawing.cell_drawing import cell_scene
from gradnas.report.drawing.scene import Box, Group, Label, Scene, text_width
from gradnas.spaces import DartsSpace

SVG = "{http://www.w3.org/2000/svg}"
TWO_NODES = Genotype(
    normal=[("sep_conv_3x3", 0), ("skip_connect", 1), ("max_pool_3x3", 2), ("dil_conv_3x3", 0)],
    normal_concat=[2, 3],
    reduce=[("max_pool_3x3", 0), ("max_pool_3x3", 1), ("none", 0), ("conv_3x1_1x3", 2)],
    reduce_concat=[3],
)


def network(genotype: Genotype = PUBLISHED["DARTS_V2"], *, cells: int = 8, aux_weight: float = 0.0) -> ModelDesc:
    return DartsSpace(cells=cells).from_genotype(genotype, aux_weight=aux_weight)


def regular(desc: ModelDesc) -> CellDesc:
    cell = desc.first_cell(CellType.Regular)
    assert cell is not None
    return cell


def with_first_node(cell: CellDesc, edges: tuple[EdgeDesc, ...]) -> CellDesc:
    nodes = (cell.nodes()[0], NodeDesc(edges, cell.nodes()[1].conv_params), *cell.nodes()[2:])
    return cell.reset_nodes(nodes, cell.node_shapes, cell.post_op, cell.out_shape)


def multi_op(cell: CellDesc) -> EdgeDesc:
    conv = cell.nodes()[0].conv_params
    children = (OpDesc("sep_conv_3x3", {"conv": conv}), OpDesc("skip_connect", {"conv": conv}))
    op = OpDesc("multi_op", {"conv": conv}, in_len=2, children=children, children_ins=(0, 1))
    return EdgeDesc(op, (0, 2))


def drawn_edges(svg: str) -> list[tuple[str, str, str]]:
    groups = [g for g in ElementTree.fromstring(svg).iter(f"{SVG}g") if g.get("class") == "edge"]
    return sorted((g.get("data-node", ""), g.get("data-op", ""), g.get("data-inputs", "")) for g in groups)


def described_edges(cell: CellDesc) -> list[tuple[str, str, str]]:
    names = ["s0", "s1", *(f"n{k}" for k in range(len(cell.nodes())))]
    return sorted(
        (f"n{k}", edge.op_desc.name, ", ".join(names[state] for state in edge.input_ids))
        for k, node in enumerate(cell.nodes())
        for edge in node.edges
    )


@pytest.mark.parametrize("name", sorted(PUBLISHED))
def test_every_edge_of_the_architecture_is_drawn_and_labeled(name: str) -> None:
    desc = network(PUBLISHED[name])
    for kind in CellType:
        cell = desc.first_cell(kind)
        assert cell is not None
        svg = draw_cell(cell)
        assert drawn_edges(svg) == described_edges(cell)
        texts = [text.text or "" for text in ElementTree.fromstring(svg).iter(f"{SVG}text")]
        for _, op, _ in described_edges(cell):
            assert any(text.split(" ")[0] == op for text in texts)


@pytest.mark.parametrize("name", ["DARTS_V2", "NASNet_A", "AmoebaNet_A"])
def test_every_merged_state_reaches_the_merge(name: str) -> None:
    for cell in network(PUBLISHED[name]).cell_descs[:3]:
        groups = [g for g in ElementTree.fromstring(draw_cell(cell)).iter(f"{SVG}g") if g.get("class") == "merged"]
        assert {g.get("data-inputs") for g in groups} == {f"n{state - 2}" for state in concat_ids(cell)}


@cache
def placed_cells() -> list[tuple[CellDesc, Scene]]:
    return [(cell, cell_scene(cell)) for cell in cells_to_place()]


def cells_to_place() -> list[CellDesc]:
    published = [cell for g in PUBLISHED.values() for cell in network(g).cell_descs[1:3]]
    searched = list(DartsSpace().build().cell_descs[1:3])
    two = list(network(TWO_NODES, cells=5).cell_descs[1:3])
    plain = regular(network())
    first = plain.nodes()[1].edges[0]
    special = [with_first_node(plain, (multi_op(plain), first)), with_first_node(plain, ())]
    long = OpDesc("a_very_long_name_of_an_operation_that_somebody_wrote", {"conv": plain.nodes()[0].conv_params})
    special.append(with_first_node(plain, (EdgeDesc(long, (2,)), first)))
    into_output = plain.post_op.with_params(concat_ids=(0, 1, 2, 5), out_states=4)
    special.append(plain.reset_nodes(plain.nodes(), plain.node_shapes, into_output, plain.out_shape))
    return published + searched + two + special


def test_no_two_boxes_overlap_and_every_text_lies_inside_the_picture() -> None:
    for cell, scene in placed_cells():
        groups = [item for item in scene.items if isinstance(item, Group)]
        boxes = [part for group in groups for part in group.items if isinstance(part, Box)]
        assert len(boxes) == sum(max(1, len(node.edges)) for node in cell.nodes()) + len(cell.nodes()) + 3
        for i, a in enumerate(boxes):
            for b in boxes[:i]:
                apart_x = a.x + a.width <= b.x or b.x + b.width <= a.x
                apart_y = a.y + a.height <= b.y or b.y + b.height <= a.y
                assert apart_x or apart_y, (scene.title, a, b)
        for item in scene.leaves():
            if isinstance(item, Label):
                wide = text_width(item.text, item.size)
                left = item.x - {"start": 0.0, "middle": wide / 2, "end": wide}[item.anchor]
                assert left >= 0
                assert left + wide <= scene.width
                assert 0 <= item.y <= scene.height


def test_every_label_of_an_edge_fits_into_its_box() -> None:
    for _, scene in placed_cells():
        for edge in (item for item in scene.items if isinstance(item, Group) and item.kind == "edge"):
            (box,) = (part for part in edge.items if isinstance(part, Box))
            for label in (part for part in edge.items if isinstance(part, Label)):
                assert label.x - text_width(label.text, label.size) / 2 >= box.x
                assert abs(label.y - box.y - box.height / 2) <= box.height / 2 - 8


def test_no_wire_of_an_edge_passes_through_a_label() -> None:
    for _, scene in placed_cells():
        groups = [item for item in scene.items if isinstance(item, Group)]
        labels = [p for g in groups if g.kind == "edge" for p in g.items if isinstance(p, Box)]
        for group in groups:
            for part in group.items if group.kind in ("edge", "merged") else ():
                if isinstance(part, (Box, Label, Group)) or part.stroke is None:
                    continue
                for (_, a), (name, b) in zip(part.commands, part.commands[1:], strict=False):
                    if name != "L":
                        continue
                    start, end = a[-2], b[-2]
                    for box in labels:
                        inside_y = box.y < b[-1] < box.y + box.height
                        assert not (inside_y and start < box.x + box.width and end > box.x + 0.01), (group.title, box)


def test_search_cell_says_how_many_candidates_each_edge_has() -> None:
    svg = draw_cell(regular(DartsSpace(primitives=("sep_conv_3x3", "skip_connect", "none")).build()))
    texts = [text.text for text in ElementTree.fromstring(svg).iter(f"{SVG}text")]
    assert texts.count("3 candidates") == 2 + 3 + 4 + 5


def test_composite_edge_shows_its_parts_and_both_inputs() -> None:
    plain = regular(network())
    svg = draw_cell(with_first_node(plain, (multi_op(plain), plain.nodes()[1].edges[0])))
    assert ("n1", "multi_op", "s0, n0") in drawn_edges(svg)
    texts = [text.text for text in ElementTree.fromstring(svg).iter(f"{SVG}text")]
    assert {"multi_op", "sep_conv_3x3 of s0", "skip_connect of n0"} <= set(texts)


def test_node_without_edges_shows_the_copy_it_is() -> None:
    assert ("n1", "copy", "n0") in drawn_edges(draw_cell(with_first_node(regular(network()), ())))


def test_stride_of_a_reduction_cell_is_written_where_an_input_is_read() -> None:
    cell = network().first_cell(CellType.Reduction)
    assert cell is not None
    texts = [text.text for text in ElementTree.fromstring(draw_cell(cell)).iter(f"{SVG}text")]
    assert texts.count("max_pool_3x3 /2") == 5
    assert texts.count("skip_connect") == 3


def test_network_lists_every_cell_with_type_and_shape_and_marks_the_tower() -> None:
    desc = network(cells=20, aux_weight=0.4)
    root = ElementTree.fromstring(draw_network(desc))
    cells = [g for g in root.iter(f"{SVG}g") if g.get("class") == "cell"]
    expected = [(str(c.id), c.cell_type.value, "×".join(map(str, c.out_shape))) for c in desc.cell_descs]
    assert [(g.get("data-id"), g.get("data-type"), g.get("data-shape")) for g in cells] == expected
    assert [g.get("class") for g in root.iter(f"{SVG}g")].count("tower") == 1
    assert "tower" not in draw_network(network()).lower()


def test_markup_in_names_and_titles_stays_text() -> None:
    plain = regular(network())
    evil = '<script>alert("1")</script>&\x00'
    op = OpDesc(evil, {"conv": plain.nodes()[0].conv_params})
    svg = draw_cell(with_first_node(plain, (EdgeDesc(op, (0,)),)), title=evil)
    root = ElementTree.fromstring(svg)
    assert not [element for element in root.iter() if element.tag.endswith("script")]
    assert ("n1", evil.replace("\x00", "�"), "s0") in drawn_edges(svg)


@pytest.mark.parametrize("suffix", [".svg", ".png"])
def test_same_architecture_gives_the_same_bytes(tmp_path: Path, suffix: str) -> None:
    desc = network(TWO_NODES, cells=5)
    first = draw(desc, tmp_path / f"a{suffix}")
    second = draw(desc, str(tmp_path / f"b{suffix.upper()}"))
    assert first == tmp_path / f"a{suffix}"
    assert first.read_bytes() == second.read_bytes()
    assert b"date" not in first.read_bytes().lower()


def test_png_is_a_picture_with_both_cells_and_the_network_in_color(tmp_path: Path) -> None:
    from matplotlib.image import imread

    pixels = imread(draw(network(), tmp_path / "a.png"))
    assert pixels.shape[0] > 800
    assert pixels.shape[1] > 1600
    for column in (slice(0, 1000), slice(1500, None)):  # cells left, network right
        assert pixels[:, column, :3].std() > 0.01


def test_picture_holds_the_edges_of_both_cells(tmp_path: Path) -> None:
    desc = network()
    cells = [cell for kind in CellType if (cell := desc.first_cell(kind))]
    expected = sorted(edge for cell in cells for edge in described_edges(cell))
    assert drawn_edges(draw(desc, tmp_path / "a.svg").read_text()) == expected


def test_other_suffix_is_refused_with_the_choices(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"\.svg, \.png, \.mmd or \.dot, got 'a\.pdf'"):
        draw(network(), tmp_path / "a.pdf")
    assert not list(tmp_path.iterdir())


def test_drawing_libraries_are_imported_inside_functions_only() -> None:
    sources = sorted(Path(gradnas.report.__file__).parent.rglob("*.py"))
    assert len(sources) > 40
    for source in sources:
        for statement in ast.parse(source.read_text(encoding="utf-8")).body:
            imported = [a.name for a in statement.names] if isinstance(statement, ast.Import) else []
            imported += [statement.module or ""] if isinstance(statement, ast.ImportFrom) else []
            assert not {"matplotlib", "jinja2", "markupsafe", "networkx", "torch"} & {n.split(".")[0] for n in imported}
