"""The cells of an architecture that a page shows: the first of each type."""

from gradnas.arch import CellDesc, CellType, ModelDesc


def first_cells(desc: ModelDesc | None) -> tuple[CellDesc, ...]:
    """The first cell of each type that the architecture has, the regular one first; none without an architecture."""
    cells = [desc.first_cell(kind) for kind in CellType] if desc is not None else []
    return tuple(cell for cell in cells if cell is not None)
