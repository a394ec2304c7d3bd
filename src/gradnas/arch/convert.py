"""From descriptions to genotypes. The way back is :class:`gradnas.spaces.GenotypeBuilder`, which needs a builder."""

from reprlib import repr as shortened

from gradnas.arch.cell_desc import CellDesc, CellType
from gradnas.arch.genotype import Genotype
from gradnas.arch.model_desc import ModelDesc


def to_genotype(desc: ModelDesc) -> Genotype:
    """The cells of a discrete network in the tuple format of the literature.

    Raises:
        ValueError: When cells of one type differ, or a node has not exactly two edges that read one state each.
    """
    normal, normal_concat = _pairs(desc, CellType.Regular)
    reduce, reduce_concat = _pairs(desc, CellType.Reduction)
    return Genotype(normal=normal, normal_concat=normal_concat, reduce=reduce, reduce_concat=reduce_concat)


def concat_ids(cell: CellDesc) -> tuple[int, ...]:
    """Ids of the states that the cell's merge op reads: those it lists, or the last ``out_states``; else all nodes.

    Raises:
        ValueError: When its parameters name states that the cell does not have.
    """
    n_nodes = len(cell.nodes())
    params = cell.post_op.params
    listed, out_states = params.get("concat_ids"), params.get("out_states", n_nodes)
    if listed is None and type(out_states) is int and 0 <= out_states <= n_nodes + 2:
        return tuple(range(n_nodes + 2 - out_states, n_nodes + 2))
    ids = tuple(i for i in listed if type(i) is int and 0 <= i < n_nodes + 2) if isinstance(listed, tuple) else ()
    if not isinstance(listed, tuple) or len(ids) != len(listed):
        named = shortened(listed if listed is not None else out_states)
        raise ValueError(
            f"cells[{cell.id}]: the merge op {cell.post_op.name!r} reads the states {named}, but the cell has only 0-"
            f"{n_nodes + 1}."
        )
    return ids


def _pairs(desc: ModelDesc, cell_type: CellType) -> tuple[tuple[tuple[str, int], ...], tuple[int, ...]]:
    cells = [cell for cell in desc.cell_descs if cell.cell_type is cell_type]
    if not cells:
        return (), ()
    wirings = [(_wiring(cell), concat_ids(cell)) for cell in cells]
    for cell, wiring in zip(cells, wirings, strict=True):
        if wiring != wirings[0]:
            raise ValueError(
                f"cells[{cell.id}] and cells[{cells[0].id}] are both {cell_type.value} but differ; a genotype holds "
                "one cell of each type."
            )
    return wirings[0]


def _wiring(cell: CellDesc) -> tuple[tuple[str, int], ...]:
    pairs: list[tuple[str, int]] = []
    for n, node in enumerate(cell.nodes()):
        if len(node.edges) != 2 or any(len(edge.input_ids) != 1 for edge in node.edges):
            raise ValueError(
                f"cells[{cell.id}].nodes[{n}] has the edges {[edge.input_ids for edge in node.edges]}; the genotype "
                "format has exactly two edges per node with one source each. Use to_json() for this architecture."
            )
        pairs += [(edge.op_desc.name, edge.input_ids[0]) for edge in node.edges]
    return tuple(pairs)
