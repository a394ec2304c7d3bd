"""The DARTS cell space."""

from collections.abc import Sequence
from typing import ClassVar

from gradnas.arch import (
    DARTS_PRIMITIVES,
    CellConf,
    CellType,
    DatasetConf,
    ModelDescConf,
    NodeDesc,
    OpDesc,
    Params,
    Shape,
    StemsConf,
)
from gradnas.spaces.builder import ModelDescBuilder, with_changes
from gradnas.supergraph.mixed_op import candidate_names


class DartsSpace(ModelDescBuilder):
    """Liu et al., DARTS (ICLR 2019): a regular and a reduction cell; every edge chooses among the same candidates.

    ``build()`` gives the description of the supergraph; :meth:`grow` and :meth:`from_genotype` give evaluation
    networks.

    Args:
        in_channels: Image channels.
        image_size: Side of a square image, or (height, width).
        n_classes: Number of classes, at least 2.
        channels: Channels of a node in the first cells.
        cells: Cells in all, at least ``2 * reductions + 1``.
        nodes: Intermediate nodes per cell.
        reductions: Cells that halve the map.
        primitives: Candidate operations in order; at least two, one of them other than ``none``.
        settings: Further settings by the names of :func:`with_changes`: ``stem_multiplier``, ``stems``, ``merge``,
            ``pool``, ``max_final_edges``, ….

    Raises:
        ValueError: For settings that cannot be built, at construction.
        KeyError: For an unknown op, naming the nearest.
    """

    mixed_op: ClassVar[str] = "mixed_op"
    """Name of the op that holds the choice of an edge."""

    def __init__(
        self,
        in_channels: int = 3,
        image_size: int | tuple[int, int] = 32,
        n_classes: int = 10,
        *,
        channels: int = 16,
        cells: int = 8,
        nodes: int = 4,
        reductions: int = 2,
        primitives: Sequence[str] = DARTS_PRIMITIVES,
        **settings: object,
    ) -> None:
        conf = ModelDescConf(
            dataset=DatasetConf(channels=in_channels, image_size=image_size, n_classes=n_classes),  # type: ignore[arg-type]  # the dataclass makes a pair of a number
            n_cells=cells,
            n_reductions=reductions,
            cell=CellConf(n_nodes=nodes),
            model_stems=StemsConf(init_node_ch=channels),
            params=Params(primitives=tuple(primitives)),
        )
        super().__init__(with_changes(conf, **settings))
        sizes = {"channels": channels, "cells": cells, "nodes": nodes, "reductions": reductions}
        self.options = {**sizes, "primitives": list(primitives), **settings}
        self.build()  # refuse what cannot be built now, not in the middle of a run

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
        """Every node reads every earlier state through a mixed op over the candidates."""
        assert self._conf is not None
        op = OpDesc(self.mixed_op, Params(primitives=self._conf.params.get("primitives", DARTS_PRIMITIVES)))
        candidate_names(op)  # refuse a list without a choice now
        return self.dense_nodes(op, cell_type, node_count, in_shape, out_shape)
