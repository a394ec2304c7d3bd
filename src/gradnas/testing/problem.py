"""The small searches that the suites run: 8×8 images, three cells, a few candidates; milliseconds a step."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor
from torch.nn import functional as F

from gradnas.arch import ModelDescConf, OpDesc
from gradnas.config import SearchConf
from gradnas.data import Augmentation, BatchLoader, DataLoaders, DataSource, ImageSet, Normalization
from gradnas.foundation.seeds import generator, seeded_initialization
from gradnas.ops import ArchParams, Op
from gradnas.ops.registry import OpFactory
from gradnas.spaces import DartsSpace, ModelDescBuilder
from gradnas.strategies import MetaOptimizer, StabilizeConf
from gradnas.supergraph import Model
from gradnas.training import OptimConf

CLASSES = 4
SIZE = 8
PRIMITIVES = ("max_pool_3x3", "skip_connect", "sep_conv_3x3", "none")
PLANTED = ("planted_right", "planted_next_image", "planted_other_image")
SYMMETRIC = ("planted_same_a", "planted_same_b", "planted_same_c")


def patterns(n: int, seed: int, *, noise: float = 1.0) -> ImageSet:
    """Images of four classes in equal parts, in noise: plain, horizontal stripes, vertical stripes, a chessboard."""
    draws = generator(seed, "testing.images")
    rows = (torch.arange(SIZE) % 2).float().mul(2).sub(1).expand(SIZE, SIZE)
    shapes = torch.stack([torch.ones(SIZE, SIZE), rows.T, rows, rows * rows.T])[:, None]
    labels = (torch.arange(n) % CLASSES)[torch.randperm(n, generator=draws)]
    images = shapes[labels] + noise * torch.randn(n, 1, SIZE, SIZE, generator=draws)
    return ImageSet(images=images, labels=labels, classes=tuple("abcdefgh"[:CLASSES]))


def tiny_space(primitives: Sequence[str] = PRIMITIVES, *, nodes: int = 1) -> ModelDescBuilder:
    """Two regular cells and a reduction cell; also with the planted candidates."""
    return _TinySpace(1, SIZE, CLASSES, channels=4, cells=3, nodes=nodes, reductions=1, primitives=primitives)


class _Gives(Op):
    """Its input, averaged at stride 2, of another image of the batch."""

    def __init__(self, op_desc: OpDesc, distance: int) -> None:
        super().__init__()
        self.stride, self.distance = op_desc.stride, distance

    def forward(self, x: Tensor) -> Tensor:
        pooled = x if self.stride == 1 else F.avg_pool2d(x, 2, ceil_mode=True, count_include_pad=False)
        return pooled if self.distance == 0 else pooled.roll(self.distance, 0)


def _gives(distance: int) -> OpFactory:
    def make(op_desc: OpDesc, affine: bool, arch_params: ArchParams | None) -> Op:
        return _Gives(op_desc, distance)

    return make


_FACTORIES = {name: _gives(i) for i, name in enumerate(PLANTED)} | {name: _gives(0) for name in SYMMETRIC}


class _TinySpace(DartsSpace):
    def pre_build(self, conf_model_desc: ModelDescConf) -> None:
        for name, factory in _FACTORIES.items():
            self.registry.register_op(name, factory)


@dataclass(frozen=True, kw_only=True)
class Problem:
    """A small search.

    Args:
        primitives: Candidates of each edge, in order.
        nodes: Nodes of a cell.
        train: Training images.
        val: Held-out images, or None.
        conf: Settings; the architecture learns from the first epoch on.
        seed: Of everything.
    """

    primitives: tuple[str, ...] = PRIMITIVES
    nodes: int = 1
    train: ImageSet = field(default_factory=lambda: patterns(16, 1))
    val: ImageSet | None = field(default_factory=lambda: patterns(16, 2))
    conf: SearchConf = field(
        default_factory=lambda: SearchConf(
            epochs=2, batch_size=8, optimizer=OptimConf(lr=0.05), stabilize=StabilizeConf(warmup_epochs=0)
        )
    )
    seed: int = 0

    def but(self, **settings: object) -> "Problem":
        """The same with other search settings."""
        return replace(self, conf=replace(self.conf, **settings))  # type: ignore[arg-type]  # checked by the dataclass

    @property
    def space(self) -> ModelDescBuilder:
        """A fresh space."""
        return tiny_space(self.primitives, nodes=self.nodes)

    def model(self, strategy: MetaOptimizer, *, fused: bool = False) -> Model:
        """The supergraph that a strategy trains, with weights that follow from the seed."""
        space = self.space
        desc = strategy.supergraph(space.build())
        with seeded_initialization(self.seed, "search.weights"):
            return Model(desc, droppath=False, affine=False, fused=fused, registry=space.registry)

    def loaders(self, *, validate: bool = False) -> DataLoaders:
        """Batches of the weight and architecture steps; of a validation after each epoch only where asked for."""
        return DataLoaders(
            train=self._loader(self.train, "train", shuffle=True),
            alpha=None if self.val is None else self._loader(self.val, "alpha", shuffle=True),
            val=None if self.val is None or not validate else self._loader(self.val, "val", shuffle=False),
        )

    def _loader(self, images: ImageSet, purpose: str, *, shuffle: bool) -> BatchLoader:
        return BatchLoader(
            images,
            batch_size=self.conf.batch_size,
            normalization=Normalization.of(self.train),
            shuffle=shuffle,
            seed=self.seed,
            purpose=f"search.{purpose}",
        )

    def source(self) -> DataSource:
        """The images as a data set."""
        return DataSource(
            name="patterns",
            train=self.train,
            test=None,
            augmentation=Augmentation(),
            normalization=Normalization.of(self.train),
        )


def planted(trial: int, *, epochs: int, lr: float) -> Problem:
    """A problem in which one candidate passes the image on and the others that of another image of the batch.

    The right candidate is at another position in each of three trials.
    """
    kept = [name for name in PLANTED if name != PLANTED[0]]
    kept.insert(trial % len(PLANTED), PLANTED[0])
    return Problem(
        primitives=tuple(kept),
        train=patterns(64, 2 * trial + 1),
        val=patterns(64, 2 * trial + 2),
        conf=SearchConf(
            epochs=epochs, batch_size=16, optimizer=OptimConf(lr=lr), stabilize=StabilizeConf(warmup_epochs=0)
        ),
        seed=trial,
    )
