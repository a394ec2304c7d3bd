"""The cells of an exported ``model.py``: one class for each structure that occurs, with the channels as an argument."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from gradnas.arch import CellDesc, CellType, concat_ids, state_name, wiring
from gradnas.export.layout import Expression, Group, call, lines, listed, multiple, summed, words
from gradnas.export.op_sources import PASS, op_source


@dataclass(frozen=True)
class CellSource:
    """A class for cells of one structure.

    Args:
        name: Name of the class.
        lines: Its text.
        takes_channels: Whether its constructor takes the channels of a node behind the two stems.
    """

    name: str
    lines: tuple[str, ...]
    takes_channels: bool

    def build(self, cell: CellDesc) -> Group:
        """The expression that builds a cell of this structure."""
        stems = [op_source(stem) for stem in cell.stems]
        return call(self.name, *stems, *([str(_channels(cell))] if self.takes_channels else []))


def cell_sources(cells: Sequence[CellDesc]) -> Mapping[int, CellSource]:
    """The class of each cell, by its id. ValueError for an op without a source form, naming its place.

    Cells share a class when the same text builds them: the ops, the wiring and the merge are equal, whatever the stems
    and the channels are.
    """
    bodies = {cell.id: _body(cell) for cell in cells}
    sources: dict[_Body, CellSource] = {}
    for cell_type in CellType:
        distinct = list(dict.fromkeys(bodies[cell.id] for cell in cells if cell.cell_type is cell_type))
        for number, body in enumerate(distinct, start=1):
            name = f"{cell_type.name}Cell{number if len(distinct) > 1 else ''}"
            sources[body] = CellSource(name, (f"class {name}(nn.Module):", *body.lines), body.takes_channels)
    return {i: sources[body] for i, body in bodies.items()}


def _channels(cell: CellDesc) -> int:
    """Channels of a node: what the other numbers of a cell are multiples of."""
    return cell.stem_shapes[0][0]


@dataclass(frozen=True)
class _Body:
    """A class behind its first line, which the name is in."""

    lines: tuple[str, ...]
    takes_channels: bool


def _body(cell: CellDesc) -> _Body:
    nodes = listed(call("node", *ops) for ops in _edge_ops(cell))
    merge = _op(cell, "post_op")
    built = [*lines("nn.ModuleList([stem_0, stem_1])", 8, "self.stems = ")]
    if any(isinstance(item, Group) and item.items for item in nodes.items):
        built += lines(call("nn.ModuleList", nodes), 8, "self.nodes = ")
    if merge != PASS:
        built += lines(merge, 8, "self.post_op = ")
    takes_channels = any("ch" in _names(line) for line in built)
    text = (
        *_docstring(cell),
        "",
        f"    def __init__(self, stem_0: nn.Module, stem_1: nn.Module{', ch: int' if takes_channels else ''}) -> None:",
        "        super().__init__()",
        *built,
        "",
        "    def forward(self, s0: Tensor, s1: Tensor) -> Tensor:",
        "        s0, s1 = self.stems[0](s0), self.stems[1](s1)",
        *_forward(cell),
        *_output(cell, merge),
    )
    return _Body(text, takes_channels)


def _edge_ops(cell: CellDesc) -> list[list[Expression]]:
    return [[_op(cell, f"nodes.{n}.edges.{e}") for e in range(len(node.edges))] for n, node in enumerate(cell.nodes())]


def _op(cell: CellDesc, place: str) -> Expression:
    try:
        return op_source(dict(cell.top_ops())[place], lambda count: multiple(count, _channels(cell), "ch"))
    except ValueError as error:
        raise ValueError(f"cells.{cell.id}.{place}: {error}") from error


def _names(line: str) -> set[str]:
    return set("".join(c if c.isidentifier() or c.isdigit() else " " for c in line).split())


def _docstring(cell: CellDesc) -> list[str]:
    effect = "Keeps" if cell.cell_type is CellType.Regular else "Halves"
    merged = [state_name(state) for state in concat_ids(cell)]
    side_by_side = f"{', '.join(merged[:-1])} and {merged[-1]} side by side" if len(merged) > 1 else merged[-1]
    through = "" if _op(cell, "post_op") == PASS else ", through a projection"
    return [
        f'    """{effect} height and width. Reads s0, two cells back, and s1, one cell back.',
        "",
        *(f"    {words(line)}" for line in wiring(cell)),
        f"    output = {side_by_side}{through}",
        '    """',
    ]


def _forward(cell: CellDesc) -> list[str]:
    built = []
    for n, node in enumerate(cell.nodes()):
        terms = [
            f"self.nodes[{n}][{e}]({', '.join(map(state_name, edge.input_ids))})" for e, edge in enumerate(node.edges)
        ]
        built += summed(terms or [state_name(n + 1)], 8, f"n{n} = ")
    return built


def _output(cell: CellDesc, merge: Expression) -> list[str]:
    states = [state_name(state) for state in concat_ids(cell)]
    merged: Expression = call("torch.cat", listed(states), "dim=1") if len(states) > 1 else states[0]
    return lines(merged if merge == PASS else call("self.post_op", merged), 8, "return ")
