"""Tests of ``src/gradnas/report/drawing/graph_text.py``: the strict parsers of this file read both languages back.

The parsers accept what ``graph_text.py`` may write and nothing else of the languages. What they accept was also given
to Mermaid 11 and Graphviz, which drew every label as it was.
"""

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gradnas.arch import (
    PUBLISHED,
    CellDesc,
    CellType,
    EdgeDesc,
    ModelDesc,
    OpDesc,
    concat_ids,
    distinct_cells,
    op_text,
    state_name,
)
from gradnas.foundation.plain_text import one_line
from gradnas.report import draw, to_dot, to_mermaid
from gradnas.report.drawing.palette import COLORS, family
from gradnas.report.drawing.svg import printable
from gradnas.spaces import DartsSpace

WRITERS = (to_mermaid, to_dot)
EVIL = [
    'a"b',
    "a\\",
    "\\n\\N\\",
    "two\nlines",
    "[x](y){z}|w|",
    "<b>&amp;</b>",
    "#35; #quot;",
    "end",
    "- list",
    "1. list",
    "%% comment",
    "style a:#b;c",
    "`code` **bold**",
    "--> x",
    "日本語 é",
    "\x00\r\ud800",
]


@dataclass
class Graph:
    """What a parser found: points and wires of each part."""

    parts: dict[str, "Part"] = field(default_factory=dict)
    colors: dict[str, str] = field(default_factory=dict)


@dataclass
class Part:
    title: str = ""
    points: dict[str, str] = field(default_factory=dict)
    roles: dict[str, str] = field(default_factory=dict)
    wires: list[tuple[str, str, str, bool, str]] = field(default_factory=list)  # start, end, text, dashed, color


# ------------------------------------------------------------------------------------------------------------ parsers


def read_mermaid(text: str) -> Graph:
    label = r'"((?:[\w ×,/()-]|#\d+;|<br>)*)"'
    graph, part, drawn = Graph(), Part(), []
    lines = text.split("\n")
    assert lines[0] == "flowchart LR"
    assert lines[-1] == ""
    inside, styles = False, {}
    for line in lines[1:-1]:
        if match := re.fullmatch(rf"  subgraph (\w+)\[{label}\]", line):
            assert not inside
            assert match[1] not in graph.parts
            inside, part = True, Part(title=_mermaid(match[2]))
            graph.parts[match[1]] = part
        elif line == "  end":
            assert inside
            inside = False
        elif match := re.fullmatch(r"    direction (LR|TB)", line):
            assert inside
        elif match := re.fullmatch(rf"    (\w+)(?:\[{label}\]|\(\({label}\)\)):::(\w+)", line):
            assert inside
            assert match[1] not in part.points
            assert not re.match(r"\d|end$", match[1])
            part.points[match[1]], part.roles[match[1]] = _mermaid(match[2] if match[3] is None else match[3]), match[4]
        elif match := re.fullmatch(rf"    (\w+) (-->|-\.->)(?:\|{label}\|)? (\w+)", line):
            assert inside
            assert match[4] in part.points
            assert match[1] in part.points
            drawn.append((part, match[1], match[4], _mermaid(match[3] or ""), match[2] == "-.->"))
        elif match := re.fullmatch(r"  classDef (\w+) fill:(#\w{6}),stroke:#\w{6},color:#\w{6}", line):
            graph.colors[match[1]] = match[2]
        else:
            match = re.fullmatch(r"  linkStyle (\d+(?:,\d+)*) stroke:(#\w{6}),stroke-width:2px", line)
            assert match is not None, line
            styles |= dict.fromkeys(map(int, match[1].split(",")), match[2])
    assert not inside
    assert set(styles) <= set(range(len(drawn)))
    for i, (where, start, end, words, dashed) in enumerate(drawn):
        where.wires.append((start, end, words, dashed, styles.get(i, COLORS["wire"][0])))
    assert {role for p in graph.parts.values() for role in p.roles.values()} == set(graph.colors)
    return graph


def _mermaid(text: str) -> str:
    assert not text.startswith("-")  # would be a list
    return re.sub(r"#(\d+);", lambda match: chr(int(match[1])), text.replace("<br>", "\n"))


def read_dot(text: str) -> Graph:
    """Reads ``digraph ID { attributes and subgraphs of nodes and edges }``, by the grammar of the language."""
    token = re.compile(r'\s*(?:("(?:[^"\\\n]|\\[^\n])*")|([A-Za-z_][A-Za-z_0-9]*)|(\d+)|(->|[{}\[\]=;,]))')
    tokens, at = [], 0
    while text[at:].strip():
        match = token.match(text, at)
        assert match is not None, text[at : at + 40]
        tokens.append(match[1] or match[2] or match[3] or match[4])
        at = match.end()
    stream = iter([*tokens, ""])
    ahead = next(stream)
    graph = Graph()

    def take(expected: str = "") -> str:
        nonlocal ahead
        assert not expected or ahead == expected, (ahead, expected)
        taken, ahead = ahead, next(stream, "")
        return taken

    def attributes() -> dict[str, str]:
        found: dict[str, str] = {}
        take("[")
        while ahead != "]":
            name = take()
            take("=")
            found[name] = _dot(take())
            if ahead == ",":
                take()
        take("]")
        return found

    def statements(part: Part) -> None:
        take("{")
        while ahead != "}":
            if ahead == "subgraph":
                take()
                inner = Part()
                graph.parts[take()] = inner
                statements(inner)
                continue
            name = take()
            if ahead == "=":
                take()
                value = take()
                part.title = _dot(value) if name == "label" else part.title
            elif ahead == "->":
                take()
                end, given = take(), attributes()
                assert end in part.points
                assert name in part.points
                dashed = given.get("style") == "dashed"
                part.wires.append((name, end, given.get("label", ""), dashed, given["color"]))
            else:
                given = attributes()
                if name not in ("node", "edge"):
                    assert name not in part.points
                    part.points[name], part.roles[name] = given["label"], given["fillcolor"]
            take(";")
        take("}")

    take("digraph")
    take()
    statements(Part())
    assert ahead == ""
    return graph


def _dot(text: str) -> str:
    if not text.startswith('"'):
        return text
    signs = {"\\\\": "\\", '\\"': '"', "\\n": "\n", "&amp;": "&"}
    parts = re.findall(r'\\.|&amp;|[^\\&"]', text[1:-1])
    assert "".join(parts) == text[1:-1], text
    return "".join(signs[part] if len(part) > 1 else part for part in parts)


READERS: dict[Callable[..., str], Callable[[str], Graph]] = {to_mermaid: read_mermaid, to_dot: read_dot}


# ----------------------------------------------------------------------------------------- what a description says


Wiring = Counter[tuple[str, str, tuple[tuple[str, str], ...]]]  # node, op, (input, part of it)


def described(cell: CellDesc) -> Wiring:
    edges: Wiring = Counter()
    for k, node in enumerate(cell.nodes()):
        for edge in node.edges:
            op, names = edge.op_desc, [state_name(state) for state in edge.input_ids]
            read = [
                (names[i], printable(op_text(part)))
                for part, i in zip(op.children or (), op.children_ins or (), strict=True)
            ]
            read += [(name, "") for i, name in enumerate(names) if i not in (op.children_ins or ())]
            edges[f"n{k}", printable(op_text(op)), tuple(sorted(read))] += 1
        if not node.edges:
            edges[f"n{k}", "copy", ((state_name(k + 1), ""),)] += 1
    edges["out", printable(cell.post_op.name), tuple((state_name(i), "") for i in sorted(concat_ids(cell)))] += 1
    return edges


def read_back(part: Part) -> Wiring:
    short = {name: name.split("_", 2)[2] for name in part.points}  # behind the type and number of the cell
    joints = {name for name in part.points if re.search(r"_n\d+_e\d+$", name)}
    edges: Wiring = Counter()
    for name, label in part.points.items():
        into = [wire for wire in part.wires if wire[1] == name]
        if name in joints:
            (after,) = (wire for wire in part.wires if wire[0] == name)
            assert re.fullmatch(r"n\d+", short[after[1]])
            edges[short[after[1]], label, tuple(sorted((short[w[0]], w[2]) for w in into))] += 1
        elif re.fullmatch(r"n\d+", short[name]):
            assert label == short[name]
            for start, _, text, dashed, _ in into:
                if start not in joints:
                    assert not dashed or text == "copy"
                    edges[short[name], text, ((short[start], ""),)] += 1
        elif short[name] == "out":
            merged = sorted((short[w[0]] for w in into), key=lambda state: (state[0] == "n", state))
            edges["out", label.rsplit("\n", 1)[0], tuple((n, "") for n in merged)] += 1
    return edges


def network(**changes: object) -> ModelDesc:
    return DartsSpace(cells=5).from_genotype(PUBLISHED["DARTS_V2"], **changes)  # type: ignore[arg-type]


def with_edges(desc: ModelDesc, edges: list[tuple[EdgeDesc, ...]]) -> ModelDesc:
    cell = desc.cell_descs[0]
    nodes = [replace(node, edges=given) for node, given in zip(cell.nodes(), edges, strict=True)]
    return replace(desc, cell_descs=(replace(cell, node_descs=tuple(nodes)), *desc.cell_descs[1:]))


def parts_of_cells(graph: Graph) -> list[Part]:
    return [part for name, part in graph.parts.items() if not name.endswith("network")]


# -------------------------------------------------------------------------------------------------------------- tests


@pytest.mark.parametrize("write", WRITERS)
@pytest.mark.parametrize("name", sorted(PUBLISHED))
def test_every_edge_of_a_published_architecture_is_read_back(write: Callable[..., str], name: str) -> None:
    desc = DartsSpace(cells=5).from_genotype(PUBLISHED[name])
    parts = parts_of_cells(READERS[write](write(desc)))
    assert [(p.title, read_back(p)) for p in parts] == [(title, described(c)) for title, c in distinct_cells(desc)]


names_of_ops = st.one_of(st.sampled_from(["sep_conv_3x3", "none", "mixed_op", *EVIL]), st.text(max_size=8))
BASE = network()


@st.composite
def descriptions(draw_: st.DrawFn) -> ModelDesc:
    """Any wiring: composites, several inputs, candidates, any names."""
    nodes: list[tuple[EdgeDesc, ...]] = []
    for k in range(4):
        edges = []
        for _ in range(draw_(st.integers(0, 3))):
            ids = draw_(st.lists(st.integers(0, k + 1), min_size=1, max_size=min(3, k + 2), unique=True))
            ports = draw_(st.lists(st.integers(0, len(ids) - 1), max_size=3))
            parts = tuple(OpDesc(draw_(names_of_ops), {"stride": draw_(st.sampled_from([1, 2]))}) for _ in ports)
            params = {"stride": draw_(st.sampled_from([1, 2]))}
            op = OpDesc(draw_(names_of_ops), params, in_len=len(ids), children=parts, children_ins=tuple(ports))
            edges.append(EdgeDesc(op, tuple(ids)))
        nodes.append(tuple(edges))
    return with_edges(BASE, nodes)


@settings(max_examples=60, deadline=None)
@given(desc=descriptions())
def test_every_edge_of_any_architecture_is_read_back(desc: ModelDesc) -> None:
    for write in WRITERS:
        parts = parts_of_cells(READERS[write](write(desc)))
        assert [read_back(part) for part in parts] == [described(cell) for _, cell in distinct_cells(desc)]


@pytest.mark.parametrize("write", WRITERS)
@pytest.mark.parametrize("name", EVIL)
def test_a_name_is_only_a_name(write: Callable[..., str], name: str) -> None:
    desc = with_edges(network(), [(EdgeDesc(OpDesc(name), (0,)),), (), (), ()])
    first = parts_of_cells(READERS[write](write(desc)))[0]
    assert one_line(name) in [wire[2] for wire in first.wires]
    write(desc).encode("utf-8")


@pytest.mark.parametrize("write", WRITERS)
def test_strides_and_candidates_are_said(write: Callable[..., str]) -> None:
    reduced = READERS[write](write(network())).parts
    words = [wire[2] for name, part in reduced.items() if "reduction" in name for wire in part.wires]
    assert Counter(words)["max_pool_3x3 /2"] == 5
    searched = parts_of_cells(READERS[write](write(DartsSpace(cells=3, nodes=2, reductions=1).build())))
    assert Counter(wire[2] for wire in searched[0].wires) == {"8 candidates": 5, "": 2}
    assert Counter(wire[2] for wire in searched[1].wires) == {"8 candidates": 1, "8 candidates /2": 4, "": 2}


def test_dot_names_the_candidates_in_a_tooltip() -> None:
    text = to_dot(DartsSpace(cells=3, nodes=1, reductions=1, primitives=("sep_conv_3x3", "none")).build())
    assert text.count('tooltip="sep_conv_3x3, none"') == 4


@pytest.mark.parametrize("write", WRITERS)
def test_wires_have_the_color_of_the_family(write: Callable[..., str]) -> None:
    desc = network()
    part = parts_of_cells(READERS[write](write(desc)))[0]
    ops = {op.name: op for _, op in desc.cell_descs[0].top_ops()}
    for _, _, text, _, color in part.wires:
        assert color == COLORS[f"{family(ops[text])}-line" if text else "wire"][0]


@pytest.mark.parametrize("write", WRITERS)
def test_the_network_is_a_chain_with_second_inputs_and_the_tower(write: Callable[..., str]) -> None:
    desc = network(aux_weight=0.4)
    (part,) = (part for name, part in READERS[write](write(desc)).parts.items() if name.endswith("network"))
    chain = ["image", "stems", *(f"cell_{c.id}" for c in desc.cell_descs), "pool", "logits"]
    tower = next(i for i, tower in enumerate(desc.aux_tower_descs) if tower is not None)
    solid = [(w[0], w[1]) for w in part.wires if not w[3]]
    assert solid == [*pairwise(chain), (f"cell_{tower}", f"tower_{tower}")]
    seconds = [("stems", "cell_1"), ("cell_0", "cell_2"), ("cell_1", "cell_3"), ("cell_2", "cell_4")]
    assert [(w[0], w[1], w[2]) for w in part.wires if w[3]] == [(a, b, "s0") for a, b in seconds]
    for cell in desc.cell_descs:
        size = "×".join(map(str, cell.out_shape))
        assert part.points[f"cell_{cell.id}"] == f"{cell.id} {cell.cell_type.value} cell\n{size}"
    reductions = {part.roles[f"cell_{c.id}"] for c in desc.cell_descs if c.cell_type is CellType.Reduction}
    assert reductions in ({"reduction"}, {COLORS["reduction"][0]})


@pytest.mark.parametrize("write", WRITERS)
def test_what_to_show_can_be_chosen(write: Callable[..., str]) -> None:
    read = READERS[write]
    assert [p.title for p in read(write(network(), what="cells")).parts.values()] == ["regular cell", "reduction cell"]
    assert [p.title for p in read(write(network(), what="network")).parts.values()] == ["network"]
    with pytest.raises(ValueError, match="one of all, cells, network, got 'cell'"):
        write(network(), what="cell")


@pytest.mark.parametrize(("ending", "write"), [(".mmd", to_mermaid), (".DOT", to_dot)])
def test_draw_writes_the_text(ending: str, write: Callable[..., str], tmp_path: Path) -> None:
    path = draw(network(), tmp_path / f"a{ending}")
    assert path.read_text(encoding="utf-8") == write(network())
    assert draw(network(), path, what="cells").read_text(encoding="utf-8") == write(network(), what="cells")


def test_a_node_that_reads_nothing_copies() -> None:
    desc = with_edges(network(), [(EdgeDesc(OpDesc("none"), (0,)),), (), (), ()])
    assert '    regular_0_n0 -.->|"copy"| regular_0_n1\n' in to_mermaid(desc)
    assert '    regular_0_n0 -> regular_0_n1 [label="copy", color="#8793a3", style=dashed];\n' in to_dot(desc)
