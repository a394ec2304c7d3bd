"""From settings to descriptions: the builder of cell-based networks.

Source: Liu et al., DARTS (ICLR 2019), section 2.1 and the released networks; the second stem and the auxiliary tower
as in Zoph et al. (CVPR 2018). Deviation: which cell input needs halving is decided from spatial sizes, never from
channels.
Shapes are (channels, height, width) and come from real strides. ``in_shapes`` is a list of layers, each the list of its
output shapes: first ``[image]``, then one entry per model stem, then one per cell.
"""

import re
import warnings
from collections.abc import Sequence
from dataclasses import replace

import torch

from gradnas.arch import (
    AuxTowerDesc,
    CellConf,
    CellDesc,
    CellType,
    ConvMacroParams,
    EdgeDesc,
    Genotype,
    ModelDesc,
    ModelDescConf,
    NodeDesc,
    OpDesc,
    Params,
    Shape,
    concat_ids,
)
from gradnas.arch.shapes import strided
from gradnas.ops import OPS, Op, OpRegistry, StemBase

Layers = list[list[Shape]]


class ModelDescBuilder:
    """Builds a :class:`ModelDesc` from settings; spaces override :meth:`build_nodes`.

    Args:
        conf: The settings that :meth:`build` uses when it is given none.

    Building changes nothing outside the builder: ops of a space's own go to :attr:`registry`, which looks into the
    package-wide one. The same settings give an equal description.
    """

    def __init__(self, conf: ModelDescConf | None = None) -> None:
        self.conf = conf
        # constructor arguments beside those that describe the data, for the record
        self.options: dict[str, object] = {}
        self.registry = OpRegistry(parent=OPS)
        self._conf: ModelDescConf | None = conf  # of the build in progress
        self._templates: dict[CellType, CellDesc] = {}
        self._template_given = False

    def build(self, conf_model_desc: ModelDescConf | None = None, template: ModelDesc | None = None) -> ModelDesc:
        """Build a description.

        Args:
            conf_model_desc: Settings; None takes those of the constructor.
            template: A found architecture: every regular cell copies its first regular cell, every reduction cell its
                first reduction cell. Weights are not carried over.

        Raises:
            ValueError: When the settings contradict each other or the template, naming the cell.
            KeyError: For an op that :attr:`registry` does not know, with the nearest names.
        """
        conf = conf_model_desc if conf_model_desc is not None else self.conf
        if conf is None:
            raise ValueError("build() needs settings: pass conf_model_desc, or give them to the constructor.")
        self._conf, self._template_given = conf, template is not None
        self._templates = {}
        for cell_type in CellType:
            cell = template.first_cell(cell_type) if template is not None else None
            if cell is not None:
                self._templates[cell_type] = cell
        if template is not None:
            self._warn_about_template(template, conf)
        self._reductions = self.get_reduction_indices(conf)
        self._node_channels = self.get_node_channels(conf)
        self.pre_build(conf)
        in_shapes: Layers = [[conf.dataset.image_shape]]
        stems = self.build_model_stems(in_shapes, conf)
        cells, towers = self.build_cells(in_shapes, conf)
        desc = ModelDesc(
            conf_model_desc=conf,
            model_stems=(stems[0], stems[1]),
            pool_op=self.build_model_pool(in_shapes, conf),
            cell_descs=tuple(cells),
            aux_tower_descs=tuple(towers),
            logits_op=self.build_logits_op(in_shapes, conf),
        )
        self._check_names(desc)
        return desc

    def grow(self, found: ModelDesc, **changes: object) -> ModelDesc:
        """Build the deep evaluation network of a found architecture.

        Args:
            found: The template.
            changes: As for :func:`with_changes`: ``channels``, ``cells``, ``aux_weight``, ….
        """
        return self.build(with_changes(self.settings, **changes), template=found)

    def from_genotype(self, genotype: Genotype, **changes: object) -> ModelDesc:
        """Build the network of a genotype with this space's settings, changed as in :meth:`grow`."""
        from gradnas.spaces.genotype_builder import GenotypeBuilder  # it derives from this class

        return GenotypeBuilder(genotype, registry=self.registry).build(with_changes(self.settings, **changes))

    def pre_build(self, conf_model_desc: ModelDescConf) -> None:
        """Hook before building: a subclass registers ops of its own on :attr:`registry` here."""

    def get_reduction_indices(self, conf: ModelDescConf) -> list[int]:
        """Cells that halve the map: floor(n (i+1) / (r+1)) for i = 0 … r-1, as 8/2 -> [2, 5].

        Raises:
            ValueError: Unless n >= 2 r + 1.
        """
        n, r = conf.n_cells, conf.n_reductions
        if n < 2 * r + 1:
            raise ValueError(
                f"{r} reductions need at least {2 * r + 1} cells, got cells={n}. Use more cells or fewer reductions."
            )
        return [n * (i + 1) // (r + 1) for i in range(r)]

    def get_node_channels(self, conf: ModelDescConf) -> list[list[int]]:
        """Channels of each node of each cell; they double at each reduction cell."""
        reductions = self.get_reduction_indices(conf)
        channels = conf.model_stems.init_node_ch
        result = []
        for i in range(conf.n_cells):
            channels *= 2 if i in reductions else 1
            result.append([channels] * conf.cell.n_nodes)
        return result

    def build_model_stems(self, in_shapes: Layers, conf: ModelDescConf) -> list[OpDesc]:
        """The two stems; appends one layer per stem to ``in_shapes``.

        Raises:
            TypeError: For an op that is not a stem.
            ValueError: When the image is too small for the stem.
        """
        settings = conf.model_stems
        channels = settings.init_node_ch * settings.stem_multiplier
        image = in_shapes[-1][0]
        equal = settings.ops[0] == settings.ops[1]
        chained = settings.ops == ("stem_conv3x3_s4", "stem_conv3x3_s4s2")
        stems = []
        for i, name in enumerate(settings.ops):
            params = Params(conv=ConvMacroParams(image[0], channels))
            if i == 1 and settings.shared and (equal or chained):
                params = params.replace(shared=True)
            stem = OpDesc(name, params)
            reduction = self._stem_reduction(stem)
            if min(image[1:]) < reduction:
                raise ValueError(f"stem {name!r} divides by {reduction}, but the image is {image[1]}×{image[2]}.")
            stems.append(stem)
            in_shapes.append([_repeatedly_halved(image, reduction, channels)])
        return stems

    def _stem_reduction(self, stem: OpDesc) -> int:
        with torch.device("meta"):  # only its declaration is wanted
            op = Op.create(stem, affine=True, registry=self.registry)
        if not isinstance(op, StemBase):
            raise TypeError(f"{stem.name!r} is not a model stem ({type(op).__name__} does not derive from StemBase).")
        return op.reduction

    def build_cells(self, in_shapes: Layers, conf: ModelDescConf) -> tuple[list[CellDesc], list[AuxTowerDesc | None]]:
        """All cells, and for each its auxiliary tower or None."""
        if conf.aux_weight > 0 and conf.n_reductions < 2:
            warnings.warn(
                f"aux_weight={conf.aux_weight} has no effect: an auxiliary tower needs at least two reductions, "
                f"got {conf.n_reductions}. Set aux_weight=0 to silence this.",
                stacklevel=2,
            )
        cells: list[CellDesc] = []
        towers: list[AuxTowerDesc | None] = []
        for i in range(conf.n_cells):
            cells.append(self.build_cell(in_shapes, conf.cell, i))
            towers.append(self.build_aux_tower(cells[-1].out_shape, conf, i))
        return cells, towers

    def build_cell(self, in_shapes: Layers, conf_cell: CellConf, cell_index: int) -> CellDesc:
        """One cell: stems, then nodes (from the template when there is one), then the merge."""
        cell_type = self.get_cell_type(cell_index)
        stem_shapes, stems = self.build_cell_stems(in_shapes, conf_cell, cell_index)
        in_shape = stem_shapes[0]
        if cell_type is CellType.Reduction and min(in_shape[1:]) < 2:
            raise ValueError(
                f"cells[{cell_index}] should halve a map of {in_shape[1]}×{in_shape[2]}. "
                "The image is too small for the reductions: use fewer reductions or larger images."
            )
        out_shape = strided(in_shape, 2) if cell_type is CellType.Reduction else in_shape
        if self._template_given:
            node_shapes, nodes = self.build_nodes_from_template(stem_shapes, conf_cell, cell_index)
        else:
            node_shapes, nodes = self.build_nodes(
                stem_shapes, conf_cell, cell_index, cell_type, conf_cell.n_nodes, in_shape, out_shape
            )
        if cell_type is CellType.Reduction:
            for n, node in enumerate(nodes):
                if not node.edges:
                    raise ValueError(
                        f"cells[{cell_index}].nodes[{n}] has no edge, and a reduction cell cannot copy its input: "
                        "the copy would keep the unreduced size."
                    )
        cell_shape, post_op = self.build_cell_post_op(stem_shapes, node_shapes, conf_cell, cell_index)
        in_shapes.append([cell_shape])
        return CellDesc(
            id=cell_index,
            cell_type=cell_type,
            conf_cell=conf_cell,
            stems=stems,
            stem_shapes=stem_shapes,
            node_descs=tuple(nodes),
            node_shapes=tuple(node_shapes),
            post_op=post_op,
            out_shape=cell_shape,
            trainables_from=self.get_trainables_from(cell_index),
        )

    def build_cell_stems(
        self, in_shapes: Layers, conf_cell: CellConf, cell_index: int
    ) -> tuple[tuple[Shape, Shape], tuple[OpDesc, OpDesc]]:
        """The ops that bring the two inputs of a cell to its channels and to one size.

        Raises:
            ValueError: When the older input is neither of the same size nor twice as large, or cannot be halved to an
                odd number of channels.
        """
        channels = self._channels(cell_index)
        p, pp = in_shapes[-1][0], in_shapes[-2][0]
        if pp[1:] == p[1:]:
            older = "prepr_normal"
        elif strided(pp, 2)[1:] == p[1:]:
            older = "prepr_reduce"
        else:
            raise ValueError(
                f"cells[{cell_index}] reads maps of {pp} and {p}; the older must be of the same size or halve to it."
            )
        if older == "prepr_reduce" and channels % 2:
            raise ValueError(
                f"cells[{cell_index}] halves its older input, which needs an even number of channels, got {channels}. "
                "Use an even number of channels."
            )
        shape = (channels, p[1], p[2])
        s0 = OpDesc(older, Params(conv=ConvMacroParams(pp[0], channels)))
        s1 = OpDesc("prepr_normal", Params(conv=ConvMacroParams(p[0], channels)))
        return (shape, shape), (s0, s1)

    def build_nodes(
        self,
        stem_shapes: Sequence[Shape],
        conf_cell: CellConf,
        cell_index: int,
        cell_type: CellType,
        node_count: int,
        in_shape: Shape,
        out_shape: Shape,
    ) -> tuple[list[Shape], list[NodeDesc]]:
        """Nodes of a cell; this base version gives them no edges. Spaces override it."""
        conv = ConvMacroParams(in_shape[0], out_shape[0])
        return [out_shape] * node_count, [NodeDesc((), conv) for _ in range(node_count)]

    def dense_nodes(
        self, op: OpDesc, cell_type: CellType, node_count: int, in_shape: Shape, out_shape: Shape
    ) -> tuple[list[Shape], list[NodeDesc]]:
        """Nodes in which node i has an edge with this op from every state 0 … i+1: 4 nodes have 14 edges."""
        wiring = [[(op, state) for state in range(n + 2)] for n in range(node_count)]
        return wired_nodes(wiring, cell_type, in_shape, out_shape)

    def build_nodes_from_template(
        self, stem_shapes: Sequence[Shape], conf_cell: CellConf, cell_index: int
    ) -> tuple[list[Shape], list[NodeDesc]]:
        """The nodes of the template's cell of the same type, with this cell's channels and without weights.

        Raises:
            ValueError: When the template has no cell of the type.
        """
        cell_type = self.get_cell_type(cell_index)
        template = self._template(cell_type, cell_index)
        shape = stem_shapes[0]
        out_shape = strided(shape, 2) if cell_type is CellType.Reduction else shape
        conv = ConvMacroParams(shape[0], shape[0])
        nodes = [
            NodeDesc(tuple(edge.clone(conv, clear_trainables=True) for edge in node.edges), conv)
            for node in template.nodes()
        ]
        return [out_shape] * len(nodes), nodes

    def build_cell_post_op(
        self, stem_shapes: Sequence[Shape], node_shapes: Sequence[Shape], conf_cell: CellConf, cell_index: int
    ) -> tuple[Shape, OpDesc]:
        """The merge of a cell, and the cell's output shape.

        Raises:
            ValueError: For an unknown merge, or a cell without nodes.
        """
        if not node_shapes:
            raise ValueError(f"cells[{cell_index}] has no nodes to merge.")
        ids = self.merged_states(cell_index, len(node_shapes))
        channels, height, width = node_shapes[-1]
        ch_out = {"concate_channels": channels * len(ids), "proj_channels": channels}.get(conf_cell.cell_post_op)
        if ch_out is None:
            raise ValueError(
                f"cell_post_op must be 'concate_channels' or 'proj_channels', got {conf_cell.cell_post_op!r}."
            )
        params = Params(conv=ConvMacroParams(channels * len(ids), ch_out), out_states=len(ids))
        n_states = len(node_shapes) + 2
        if ids != tuple(range(n_states - len(ids), n_states)):
            params = params.replace(concat_ids=ids)
        return (ch_out, height, width), OpDesc(conf_cell.cell_post_op, params)

    def merged_states(self, cell_index: int, node_count: int) -> tuple[int, ...]:
        """Ids of the states that make a cell's output: those of the template, else all nodes."""
        if self._template_given:
            return concat_ids(self._template(self.get_cell_type(cell_index), cell_index))
        return tuple(range(2, node_count + 2))

    def build_model_pool(self, in_shapes: Layers, conf: ModelDescConf) -> OpDesc:
        """Global pooling. ValueError for ``pool_avg2d7x7`` on a map that it does not bring to 1×1."""
        channels, height, width = in_shapes[-1][0]
        if conf.model_post_op == "pool_avg2d7x7" and not (7 <= height < 14 and 7 <= width < 14):
            raise ValueError(
                f"'pool_avg2d7x7' needs a map of 7×7 to 13×13, the last cell gives {height}×{width}. "
                "Use 'pool_adaptive_avg2d' for any size."
            )
        return OpDesc(conf.model_post_op, Params(conv=ConvMacroParams(channels, channels)))

    def build_logits_op(self, in_shapes: Layers, conf: ModelDescConf) -> OpDesc:
        """The classifier."""
        return OpDesc("linear", Params(n_ch=in_shapes[-1][0][0], n_classes=conf.dataset.n_classes))

    def build_aux_tower(self, out_shape: Shape, conf: ModelDescConf, cell_index: int) -> AuxTowerDesc | None:
        """The auxiliary tower, behind cell 2n/3 of an evaluation network with at least two reductions.

        Raises:
            ValueError: When its pooled map would not be 2×2, naming size and stride.
        """
        if not conf.aux_weight > 0 or conf.n_reductions < 2 or cell_index != 2 * conf.n_cells // 3:
            return None
        channels, height, width = out_shape
        stride = conf.aux_tower_stride if conf.aux_tower_stride is not None else max(1, height - 5)
        if min(height, width) < 6 or any((side - 5) // stride != 1 for side in (height, width)):
            raise ValueError(
                f"the auxiliary tower behind cells[{cell_index}] pools 5×5 with stride {stride}; a map of "
                f"{height}×{width} does not become 2×2. Use aux_weight=0, another aux_tower_stride or larger images."
            )
        return AuxTowerDesc(channels, conf.dataset.n_classes, stride, conf.aux_second_norm)

    def get_cell_type(self, cell_index: int) -> CellType:
        """Reduction at the reduction indices, else regular."""
        return CellType.Reduction if cell_index in self._reductions else CellType.Regular

    def get_trainables_from(self, cell_index: int) -> int:
        """The first cell of the same type. Architecture parameters are shared along this pointer, weights never."""
        cell_type = self.get_cell_type(cell_index)
        return next(i for i in range(cell_index + 1) if self.get_cell_type(i) is cell_type)

    def _channels(self, cell_index: int) -> int:
        return self._node_channels[cell_index][0]

    def _template(self, cell_type: CellType, cell_index: int) -> CellDesc:
        if cell_type not in self._templates:
            raise ValueError(
                f"cells[{cell_index}] is a {cell_type.value} cell, but the template has none. Search with at least one "
                "reduction, or build with reductions=0."
            )
        return self._templates[cell_type]

    def _warn_about_template(self, template: ModelDesc, conf: ModelDescConf) -> None:
        counts = sorted({len(cell.nodes()) for cell in self._templates.values()} - {conf.cell.n_nodes})
        if counts:
            warnings.warn(
                f"the template has {' and '.join(map(str, counts))} nodes per cell and is followed; the configured "
                f"n_nodes={conf.cell.n_nodes} is ignored.",
                stacklevel=3,
            )
        for cell_type, first in self._templates.items():
            same_type = [cell for cell in template.cell_descs if cell.cell_type is cell_type]
            others = [cell.id for cell in same_type if _copied_part(cell) != _copied_part(first)]
            if others:
                warnings.warn(
                    f"the {cell_type.value} cells of the template differ: cells {others} are not like "
                    f"cells[{first.id}], which is copied. A search that shares its architecture parameters finds equal "
                    "cells.",
                    stacklevel=3,
                )

    def _check_names(self, desc: ModelDesc) -> None:
        for place, top in desc.top_ops():
            for _, op in top.all_ops():
                listed = op.params.get("primitives")
                for name in (op.name, *(listed if isinstance(listed, tuple) else ())):
                    try:
                        self.registry.lookup(str(name))
                    except KeyError as error:
                        place = re.sub(r"\.(\d+)", r"[\1]", place)
                        raise KeyError(f"{place}: {error.args[0]}") from None

    @property
    def settings(self) -> ModelDescConf:
        """The settings of the constructor. ValueError when there are none."""
        if self.conf is None:
            raise ValueError("this builder has no settings of its own; call build(conf_model_desc, template).")
        return self.conf


def wired_nodes(
    wiring: Sequence[Sequence[tuple[OpDesc, int]]], cell_type: CellType, in_shape: Shape, out_shape: Shape
) -> tuple[list[Shape], list[NodeDesc]]:
    """Nodes from (op, state it reads) pairs: sets channels, and stride 2 where a reduction cell reads an input."""
    conv = ConvMacroParams(in_shape[0], out_shape[0])
    nodes = []
    for pairs in wiring:
        edges = []
        for op, state in pairs:
            stride = 2 if cell_type is CellType.Reduction and state < 2 else 1
            edges.append(EdgeDesc(op.with_params(conv=conv, stride=stride), (state,)))
        nodes.append(NodeDesc(tuple(edges), conv))
    return [out_shape] * len(nodes), nodes


def _copied_part(cell: CellDesc) -> tuple[object, ...]:
    """What a template hands on: the edges without channels and weights, and the merged states."""
    conv = ConvMacroParams(1, 1)
    nodes = tuple(tuple(edge.clone(conv, clear_trainables=True) for edge in node.edges) for node in cell.nodes())
    return nodes, concat_ids(cell)


def _repeatedly_halved(image: Shape, reduction: int, channels: int) -> Shape:
    shape = image
    while reduction > 1:
        shape, reduction = strided(shape, 2), reduction // 2
    return (channels, shape[1], shape[2])


def with_changes(conf: ModelDescConf, **changes: object) -> ModelDescConf:
    """Settings with some changed by the short names that spaces use.

    Args:
        conf: The settings to start from.
        changes: Any of ``in_channels``, ``image_size``, ``n_classes``, ``channels``, ``cells``, ``nodes``,
            ``reductions``, ``stems`` (pair of op names), ``stem_multiplier``, ``pool``, ``merge``, ``aux_weight``,
            ``aux_tower_stride``, ``aux_second_norm``, ``max_final_edges``.

    Raises:
        TypeError: For another name, naming the nearest.
        ValueError: For a value that the settings refuse.
    """
    from gradnas.foundation.names import did_you_mean

    parts: dict[str, dict[str, object]] = {"dataset": {}, "cell": {}, "model_stems": {}, "": {}}
    for name, value in changes.items():
        if name not in _SHORT_NAMES:
            raise TypeError(f"unknown setting {name!r}. {did_you_mean(name, _SHORT_NAMES)}")
        part, attribute = _SHORT_NAMES[name]
        parts[part][attribute] = value
    return replace(
        conf,
        dataset=replace(conf.dataset, **parts["dataset"]),  # type: ignore[arg-type]  # checked by the dataclass
        cell=replace(conf.cell, **parts["cell"]),  # type: ignore[arg-type]  # checked by the dataclass
        model_stems=replace(conf.model_stems, **parts["model_stems"]),  # type: ignore[arg-type]  # the same
        **parts[""],  # type: ignore[arg-type]  # the same
    )


_SHORT_NAMES = {
    "in_channels": ("dataset", "channels"),
    "image_size": ("dataset", "image_size"),
    "n_classes": ("dataset", "n_classes"),
    "nodes": ("cell", "n_nodes"),
    "merge": ("cell", "cell_post_op"),
    "stems": ("model_stems", "ops"),
    "channels": ("model_stems", "init_node_ch"),
    "stem_multiplier": ("model_stems", "stem_multiplier"),
    "cells": ("", "n_cells"),
    "reductions": ("", "n_reductions"),
    "pool": ("", "model_post_op"),
    "aux_weight": ("", "aux_weight"),
    "aux_tower_stride": ("", "aux_tower_stride"),
    "aux_second_norm": ("", "aux_second_norm"),
    "max_final_edges": ("", "max_final_edges"),
}
