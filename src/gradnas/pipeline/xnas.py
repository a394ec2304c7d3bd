"""XNAS under the names of the systems before: builder, trainer and runner, thin over the general ones."""

import os
from collections.abc import Iterable
from dataclasses import replace
from typing import ClassVar

from torch.nn import Parameter
from torch.optim import Optimizer

from gradnas.arch import ModelDescConf
from gradnas.data import DataLoaders
from gradnas.ops import ArchParams, CompositeFactory
from gradnas.pipeline.arch_trainer import ArchTrainer
from gradnas.pipeline.experiment_runner import ExperimentRunner
from gradnas.spaces import DartsSpace
from gradnas.strategies import MetaOptimizer, Strategy, Xnas, XnasOp
from gradnas.training import Listener, OptimConf


class XnasModelDescBuilder(DartsSpace):
    """The DARTS space with ``xnas_op`` on its edges; takes the arguments of :class:`gradnas.spaces.DartsSpace`.

    The strategy does not need it: :class:`gradnas.strategies.Xnas` searches any space.
    """

    mixed_op: ClassVar[str] = "xnas_op"

    def pre_build(self, conf_model_desc: ModelDescConf) -> None:
        """Make ``xnas_op`` known to this builder."""
        self.registry.register_op("xnas_op", _XNAS_OP)


_XNAS_OP = CompositeFactory(
    lambda desc, affine, arch_params, registry: XnasOp(desc, arch_params, affine, registry=registry)
)


class XnasArchTrainer(ArchTrainer):
    """:class:`ArchTrainer` for XNAS, by default with the settings of the paper. TypeError for another strategy."""

    strategy_class: ClassVar[type[MetaOptimizer]] = Xnas

    def pre_fit(self, data_loaders: DataLoaders) -> None:
        """Bind the strategy: rounds and learning rates of each cell type follow from the schedule that really runs.

        Raises:
            TypeError: When the strategy is not XNAS.
            ValueError: Without validation batches, or for a horizon shorter than the search.
        """
        if not isinstance(self.strategy, Xnas):
            raise TypeError(
                f"XnasArchTrainer trains by Xnas, got {self.strategy!r}. Use ArchTrainer for other strategies."
            )
        super().pre_fit(data_loaders)

    def create_optimizer(self, conf_optim: OptimConf, params: Iterable[Parameter]) -> Optimizer:
        """The optimizer of the ordinary parameters among these; architecture parameters are left out."""
        arch = {id(p) for p in ArchParams.from_module(self.model, recurse=True).param_by_kind()}
        return super().create_optimizer(conf_optim, [p for p in params if id(p) not in arch])


class XnasExperimentRunner(ExperimentRunner):
    """Search and evaluation from a configuration file whose strategy is ``xnas`` and whose space is ``darts``.

    Arguments are those of :class:`ExperimentRunner`. The folders record :class:`XnasModelDescBuilder` as the space.

    Raises:
        ValueError: For another strategy or space, beside what :class:`ExperimentRunner` refuses.
    """

    method: ClassVar[type[Strategy] | None] = Xnas

    def __init__(
        self,
        config_filename: str | os.PathLike[str],
        base_name: str,
        clean_expdir: bool = False,
        *,
        out: str | os.PathLike[str] = "runs",
        listener: Listener | None = None,
    ) -> None:
        super().__init__(config_filename, base_name, clean_expdir, out=out, listener=listener)
        builder = f"{XnasModelDescBuilder.__module__}.{XnasModelDescBuilder.__qualname__}"
        if self.conf.space.name not in ("darts", builder):
            raise ValueError(
                f"XnasExperimentRunner searches the space 'darts', the configuration says {self.conf.space.name!r}. "
                "Use ExperimentRunner with strategy.name 'xnas' for other spaces."
            )
        self.conf = replace(self.conf, space=replace(self.conf.space, name=builder))

    def model_desc_builder(self) -> XnasModelDescBuilder:
        """The DARTS space of the configuration with ``xnas_op``."""
        space = super().model_desc_builder()
        assert isinstance(space, XnasModelDescBuilder)
        return space

    def trainer_class(self) -> type[XnasArchTrainer]:
        """:class:`XnasArchTrainer`."""
        return XnasArchTrainer
