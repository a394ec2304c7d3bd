"""What a model-description builder is told: frozen settings, checked when made."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from gradnas.arch.limits import MAX_CELLS, MAX_CHANNELS, MAX_NODES, MAX_NODES_OF_ALL_CELLS, MAX_SIDE
from gradnas.arch.params import Params
from gradnas.arch.shapes import Shape, check_count


@dataclass(frozen=True, kw_only=True)
class DatasetConf:
    """What the network must know of the data: never a default, always from the data set.

    Args:
        channels: Image channels.
        image_size: Side of a square image, or (height, width); kept as the pair.
        n_classes: Number of classes, at least 2.
    """

    channels: int
    image_size: tuple[int, int]
    n_classes: int

    def __post_init__(self) -> None:
        check_count(self.channels, "channels of the images", maximum=MAX_CHANNELS)
        size: object = self.image_size
        pair: Sequence[object] = (size, size) if isinstance(size, int) else tuple(self.image_size)
        if len(pair) != 2:
            raise ValueError(f"image_size must be one number or (height, width), got {size!r}.")
        height, width = (check_count(side, "image_size", maximum=MAX_SIDE) for side in pair)
        object.__setattr__(self, "image_size", (height, width))
        check_count(self.n_classes, "n_classes", 2, MAX_CHANNELS)

    @property
    def image_shape(self) -> Shape:
        """(channels, height, width) of one image."""
        return (self.channels, *self.image_size)


@dataclass(frozen=True, kw_only=True)
class CellConf:
    """Settings of one cell: number of intermediate nodes and how their outputs are merged."""

    n_nodes: int = 4
    cell_post_op: str = "concate_channels"

    def __post_init__(self) -> None:
        check_count(self.n_nodes, "n_nodes", maximum=MAX_NODES)


@dataclass(frozen=True, kw_only=True)
class StemsConf:
    """Settings of the two model stems.

    Args:
        ops: Names of the ops that make the states s0 and s1 of the first cell.
        init_node_ch: Channels of a node in the first cells.
        stem_multiplier: The stems give ``init_node_ch * stem_multiplier`` channels.
        shared: Equal stems are one module feeding both states, and the ImageNet pair
            (``stem_conv3x3_s4``, ``stem_conv3x3_s4s2``) computes the second from the first, as in the paper.
    """

    ops: tuple[str, str] = ("stem_conv3x3", "stem_conv3x3")
    init_node_ch: int = 16
    stem_multiplier: int = 3
    shared: bool = True

    def __post_init__(self) -> None:
        if len(self.ops) != 2:
            raise ValueError(f"a model has two stems, got ops={tuple(self.ops)}.")
        object.__setattr__(self, "ops", tuple(self.ops))
        check_count(self.init_node_ch, "channels (init_node_ch)", maximum=MAX_CHANNELS)
        check_count(self.stem_multiplier, "stem_multiplier", maximum=MAX_CHANNELS)


@dataclass(frozen=True, kw_only=True)
class ModelDescConf:
    """Everything a :class:`gradnas.spaces.ModelDescBuilder` reads.

    Args:
        dataset: Image shape and number of classes.
        n_cells: Cells in all.
        n_reductions: How many of them halve the map and double the channels.
        cell: Settings of each cell.
        model_stems: Settings of the stems.
        model_post_op: Name of the global pooling op.
        aux_weight: Weight of the auxiliary loss; a tower is built when it is positive.
        aux_tower_stride: Stride of the tower's pooling; None means side - 5, the published values.
        aux_second_norm: Whether the tower's second convolution has a batch norm; the published network for ImageNet
            lacks it.
        max_final_edges: Edges a node keeps when the network is made discrete.
        params: Plain values for a builder of your own.
    """

    dataset: DatasetConf
    n_cells: int = 8
    n_reductions: int = 2
    cell: CellConf = field(default_factory=CellConf)
    model_stems: StemsConf = field(default_factory=StemsConf)
    model_post_op: str = "pool_adaptive_avg2d"
    aux_weight: float = 0.0
    aux_tower_stride: int | None = None
    aux_second_norm: bool = field(default=True, metadata={"stored": "changed"})
    max_final_edges: int = 2
    params: Params = field(default_factory=Params)

    def __post_init__(self) -> None:
        check_count(self.n_cells, "n_cells", maximum=MAX_CELLS)
        check_count(self.n_reductions, "n_reductions", 0, MAX_CELLS)
        check_count(self.max_final_edges, "max_final_edges", 0, MAX_NODES)
        nodes = f"nodes of all cells (n_cells {self.n_cells} times n_nodes {self.cell.n_nodes})"
        check_count(self.n_cells * self.cell.n_nodes, nodes, maximum=MAX_NODES_OF_ALL_CELLS)
        if not 0 <= self.aux_weight < math.inf:
            raise ValueError(f"aux_weight must be at least 0 and finite, got {self.aux_weight}.")
        if self.aux_tower_stride is not None:
            check_count(self.aux_tower_stride, "aux_tower_stride", maximum=MAX_SIDE)
        if not isinstance(self.params, Params):
            object.__setattr__(self, "params", Params(self.params))
