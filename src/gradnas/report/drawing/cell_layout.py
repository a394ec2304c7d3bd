"""Where the parts of a cell stand: a layout in which labels cannot overlap, by construction.

Every input of every edge has a row of its own. The label of an edge stands in its rows, directly left of its node; a
wire changes rows only in the gap right of the column it starts from, where nothing stands, and runs straight after
that. So no wire crosses a label and no label meets another, whatever the cell.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations

from gradnas.arch import CellDesc, concat_ids

ROW = 30.0  # height of a row, in pixels
_PORT = 16.0  # between the inputs of one label
BAND_GAP = 12.0  # between the rows of two nodes
_MOST_SEARCHED = 5  # nodes; 5! orders are tried in a few hundredths of a second, more would be felt


@dataclass(frozen=True, kw_only=True)
class EdgePlace:
    """An edge of node ``node`` (edge ``index``) and the rows, as y, in which its inputs arrive."""

    node: int
    index: int
    input_ids: tuple[int, ...]
    rows: tuple[float, ...]
    n_rows: int
    top: float

    @property
    def middle(self) -> float:
        """Middle of the label, as y."""
        return self.top + self.n_rows * ROW / 2


@dataclass(frozen=True, kw_only=True)
class CellLayout:
    """Rows and columns of a cell; the drawing turns columns into x.

    Args:
        layers: Column of each state: 0 for the inputs, 1 + the latest column a node reads.
        state_y: Middle of each state.
        edges: All edges in the order of nodes and edges.
        through: y in which an input that is merged directly runs to the right, by state.
        height: Of everything.
    """

    layers: tuple[int, ...]
    state_y: tuple[float, ...]
    edges: tuple[EdgePlace, ...]
    through: dict[int, float]
    height: float


def read_states(cell: CellDesc, node: int) -> list[tuple[int, ...]]:
    """The states each edge of a node reads; a node without edges copies the state before it."""
    return [edge.input_ids for edge in cell.nodes()[node].edges] or [(node + 1,)]


def place_cell(cell: CellDesc, line_counts: Sequence[Sequence[int]]) -> CellLayout:
    """The layout with the fewest crossings among all orders of the nodes, for more than five nodes in their own order.

    Args:
        cell: The cell.
        line_counts: Lines of text on the label of each edge of each node.
    """
    n_nodes = len(cell.nodes())
    layers = [0, 0]
    for node in range(n_nodes):
        read = [state for ids in read_states(cell, node) for state in ids]
        layers.append(1 + max(layers[state] for state in read))
    orders = permutations(range(n_nodes)) if n_nodes <= _MOST_SEARCHED else iter([tuple(range(n_nodes))])
    placed = (_place(cell, line_counts, tuple(layers), order) for order in orders)
    return min(placed, key=lambda layout: _cost(cell, layout))


def _place(
    cell: CellDesc, line_counts: Sequence[Sequence[int]], layers: tuple[int, ...], order: tuple[int, ...]
) -> CellLayout:
    n_nodes = len(order)
    merged = concat_ids(cell)
    n_rows = [
        [max(len(ids), lines) for ids, lines in zip(read_states(cell, k), line_counts[k], strict=True)]
        for k in range(n_nodes)
    ]
    tops, y = [0.0] * n_nodes, 0.0
    for k in order:
        tops[k] = y
        y += max(1, sum(n_rows[k])) * ROW + BAND_GAP
    through: dict[int, float] = {}
    for state in (0, 1):
        if state in merged:
            through[state] = y + ROW / 2
            y += ROW
    height = max(y - BAND_GAP if not through else y, 3 * ROW)
    centers = [tops[k] + sum(n_rows[k]) * ROW / 2 for k in range(n_nodes)]
    state_y = [*_input_places(cell, centers, through, height), *centers]
    edges = [
        place for k in range(n_nodes) for place in _edge_places(k, read_states(cell, k), n_rows[k], tops[k], state_y)
    ]
    return CellLayout(layers=layers, state_y=tuple(state_y), edges=tuple(edges), through=through, height=height)


def _input_places(
    cell: CellDesc, centers: Sequence[float], through: dict[int, float], height: float
) -> tuple[float, float]:
    """The y of s0 and s1: the mean of what reads them, kept apart, the one whose readers are higher above."""
    wanted = []
    for state in (0, 1):
        ys = [
            center
            for node, center in enumerate(centers)
            for ids in read_states(cell, node)
            for read in ids
            if read == state
        ]
        ys += [through[state]] if state in through else []
        wanted.append(sum(ys) / len(ys) if ys else height * (0.25 + 0.5 * state))
    apart = min(2.2 * ROW, height / 2)
    middle, half = sum(wanted) / 2, max(abs(wanted[0] - wanted[1]), apart) / 2
    margin = ROW / 2
    middle = min(max(middle, half + margin), height - half - margin) if height > 2 * (half + margin) else height / 2
    first_above = wanted[0] <= wanted[1]
    return (middle - half, middle + half) if first_above else (middle + half, middle - half)


def _edge_places(
    node: int, read: list[tuple[int, ...]], n_rows: Sequence[int], top: float, state_y: Sequence[float]
) -> list[EdgePlace]:
    # The edge that comes from higher up gets the higher rows.
    heights = [sum(state_y[state] for state in ids) / len(ids) for ids in read]
    tops: dict[int, float] = {}
    for index in sorted(range(len(read)), key=lambda e: (heights[e], e)):
        tops[index] = top
        top += n_rows[index] * ROW
    places = []
    for index, ids in enumerate(read):
        middle = tops[index] + n_rows[index] * ROW / 2
        ranks = {state: rank for rank, state in enumerate(sorted(ids, key=lambda state: state_y[state]))}
        rows = tuple(middle + _PORT * (ranks[state] - (len(ids) - 1) / 2) for state in ids)
        places.append(
            EdgePlace(node=node, index=index, input_ids=ids, rows=rows, n_rows=n_rows[index], top=tops[index])
        )
    return places


def _cost(cell: CellDesc, layout: CellLayout) -> tuple[int, float]:
    """Crossings of wires, then their vertical length."""
    wires = [
        (layout.layers[state], layout.layers[edge.node + 2], layout.state_y[state], row)
        for edge in layout.edges
        for state, row in zip(edge.input_ids, edge.rows, strict=True)
    ]
    last = max(layout.layers) + 1
    ends = [
        (layout.layers[s], last, layout.state_y[s], layout.through.get(s, layout.state_y[s])) for s in concat_ids(cell)
    ]
    crossings = 0
    for i, (start, stop, y, row) in enumerate(wires + ends):
        for other_start, other_stop, other_y, other_row in (wires + ends)[:i]:
            if start == other_start:
                crossings += (y - other_y) * (row - other_row) < 0
            elif other_start < start < other_stop:
                crossings += (y - other_row) * (row - other_row) < 0
            elif start < other_start < stop:
                crossings += (other_y - row) * (other_row - row) < 0
    return crossings, sum(abs(y - row) for _, _, y, row in wires)
