"""The text of ``model.py``: a network written out as a person would, for torch alone.

The classes of its operations are copied from ``blocks.py``, those that occur and no others; cells and network are
written for the description. Modules have the names of :class:`gradnas.supergraph.Model`, so that the weights of a run
load as they are. Reference test: ``tests/export/test_model_source.py``.
"""

import ast
import inspect
from collections.abc import Mapping
from functools import cache
from itertools import groupby

from gradnas.arch import ModelDesc, OpDesc
from gradnas.export import blocks
from gradnas.export.cell_source import CellSource, cell_sources
from gradnas.export.layout import Expression, lines, module_list
from gradnas.export.op_sources import op_source
from gradnas.export.use_source import Described, about, sizes, use

MARK = "# Written by gradnas "
"""How a file of ours begins."""


def model_source(network: Described) -> str:
    """The text of ``model.py``.

    Raises:
        ValueError: For an op without a source form, naming its place.
    """
    cells = cell_sources(network.desc.cell_descs)
    classes = {source.name: source.lines for source in cells.values()}
    body = ["\n".join(text) for text in classes.values()]
    body += ["\n".join(_network(network.desc, cells)), *use(network)]
    used = _blocks("\n".join(body))
    head = [
        f"{MARK}{network.version}. `gradnas export` replaces this file: rename it to change it.",
        about(network),
        "",
        "import hashlib",
        "import json",
        "from pathlib import Path",
        "",
        "import torch",
        "from torch import Tensor, nn",
        *(["from torch.nn import functional as F"] if any("F." in text for text in used) else []),
    ]
    return "\n\n\n".join(["\n".join(head), *used, *body]) + "\n"


@cache
def _library() -> dict[str, tuple[str, frozenset[str]]]:
    """Each class and function of ``blocks.py``, in order: its text, and the names in it."""
    text = inspect.getsource(blocks)
    library = {}
    for part in ast.parse(text).body:
        if isinstance(part, (ast.ClassDef, ast.FunctionDef)):
            names = frozenset(item.id for item in ast.walk(part) if isinstance(item, ast.Name))
            source = ast.get_source_segment(text, part)
            assert source is not None
            library[part.name] = source, names
    return library


def _blocks(body: str) -> list[str]:
    """The texts of the blocks that this one, or one of them, makes use of."""
    library = _library()
    wanted = {item.id for item in ast.walk(ast.parse(body)) if isinstance(item, ast.Name)} & set(library)
    while more := set().union(*(library[name][1] for name in wanted)) & set(library) - wanted:
        wanted |= more
    return [source for name, (source, _) in library.items() if name in wanted]


def _network(desc: ModelDesc, cells: Mapping[int, CellSource]) -> list[str]:
    first, second = desc.model_stems
    shared = bool(second.params.get("shared"))
    stems = [first] if shared and first.name == second.name else [first, second]
    s1 = "s0" if len(stems) == 1 else f"self.model_stems[1]({'s0' if shared else 'images'})"
    data = desc.conf_model_desc.dataset
    images = f"(batch, {sizes(data.image_shape, ', ')})"
    has_edges = any(node.edges for cell in desc.cell_descs for node in cell.nodes())
    return [
        "class Network(nn.Module):",
        f'    """Images {images} to logits (batch, {data.n_classes}).',
        "",
        *_column(desc, cells),
        '    """',
        "",
        "    def __init__(self) -> None:",
        "        super().__init__()",
        *lines(
            module_list(_placed(f"model_stems.{i}", stem) for i, stem in enumerate(stems)), 8, "self.model_stems = "
        ),
        *lines(module_list(cells[cell.id].build(cell) for cell in desc.cell_descs), 8, "self.cells = "),
        *lines(_placed("pool_op", desc.pool_op), 8, "self.pool_op = "),
        *lines(_placed("logits_op", desc.logits_op), 8, "self.logits_op = "),
        "",
        "    def forward(self, images: Tensor) -> Tensor:",
        "        s0 = self.model_stems[0](images)",
        f"        s1 = {s1}",
        "        for cell in self.cells:",
        "            s0, s1 = s1, cell(s0, s1)",
        "        return self.logits_op(self.pool_op(s1))",
        *(_DROP_PATH if has_edges else ()),
    ]


_DROP_PATH = (
    "",
    "    def drop_path(self, probability: float) -> None:",
    '        """How often training leaves an edge out; 0 <= probability < 1."""',
    "        if not 0.0 <= probability < 1.0:",
    '            raise ValueError(f"expected 0 <= probability < 1, got {probability}")',
    "        for module in self.modules():",
    "            if isinstance(module, Edge):",
    "                module.drop_probability = probability",
)


def _column(desc: ModelDesc, cells: Mapping[int, CellSource]) -> list[str]:
    """The column of cells with the shapes that they give, like neighbors in one line."""
    rows = []
    for (name, shape), run in groupby(desc.cell_descs, lambda cell: (cells[cell.id].name, cell.out_shape)):
        ids = [cell.id for cell in run]
        rows.append((f"cells {ids[0]}-{ids[-1]}" if len(ids) > 1 else f"cell {ids[0]}", name, sizes(shape)))
    widths = [max(len(row[k]) for row in rows) for k in range(2)]
    return [f"    {place.ljust(widths[0])}  {name.ljust(widths[1])}  {shape}" for place, name, shape in rows]


def _placed(place: str, op: OpDesc) -> Expression:
    try:
        return op_source(op)
    except ValueError as error:
        raise ValueError(f"{place}: {error}") from error
