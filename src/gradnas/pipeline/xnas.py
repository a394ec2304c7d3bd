"""XNAS under the names of the systems before: builder, trainer and runner, thin over the general ones."""

from collections.abc import Iterable
from typing import Any, ClassVar

from torch.nn import Parameter
from torch.optim import Optimizer

from gradnas.arch import ModelDescConf
from gradnas.config import ComponentConf, build_space, build_strategy
from gradnas.ops import ArchParams, CompositeFactory
from gradnas.pipeline.arch_trainer import ArchTrainer
from gradnas.pipeline.experiment import dataset_conf
from gradnas.pipeline.experiment_runner import ExperimentRunner
from gradnas.spaces import DartsSpace
from gradnas.strategies import MetaOptimizer, Xnas, XnasOp
from gradnas.supergraph import Model
from gradnas.training import CheckPoint, OptimConf, TrainConf


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
    """:class:`ArchTrainer` whose strategy is :class:`gradnas.strategies.Xnas`.

    Args:
        conf_train: Settings of the weight training.
        model: The supergraph, on its device.
        checkpoint: Where to save and from where to go on; None does neither.
        strategy: By default XNAS with the settings of the paper.
        settings: The other arguments of :class:`ArchTrainer`.

    Raises:
        TypeError: For another strategy.
    """

    def __init__(
        self,
        conf_train: TrainConf,
        model: Model,
        checkpoint: CheckPoint | None = None,
        *,
        strategy: MetaOptimizer | None = None,
        **settings: Any,
    ) -> None:
        strategy = strategy if strategy is not None else Xnas()
        if not isinstance(strategy, Xnas):
            raise TypeError(f"XnasArchTrainer trains by Xnas, got {strategy!r}. Use ArchTrainer for other strategies.")
        super().__init__(conf_train, model, checkpoint, strategy=strategy, **settings)

    def create_optimizer(self, conf_optim: OptimConf, params: Iterable[Parameter]) -> Optimizer:
        """The optimizer of the ordinary parameters among these; architecture parameters are left out."""
        arch = {id(p) for p in ArchParams.from_module(self.model, recurse=True).param_by_kind()}
        return super().create_optimizer(conf_optim, [p for p in params if id(p) not in arch])


class XnasExperimentRunner(ExperimentRunner):
    """Search and evaluation from a configuration file whose strategy is ``xnas`` and whose space is ``darts``."""

    def model_desc_builder(self) -> XnasModelDescBuilder:
        """The DARTS space of the configuration with ``xnas_op``. ValueError for another space."""
        if self.conf.space.name != "darts":
            raise ValueError(
                f"XnasExperimentRunner searches the space 'darts', the configuration says {self.conf.space.name!r}. "
                "Use ExperimentRunner with strategy.name 'xnas' for other spaces."
            )
        kind = f"{XnasModelDescBuilder.__module__}.{XnasModelDescBuilder.__qualname__}"
        space = build_space(ComponentConf(name=kind, options=self.conf.space.options), dataset_conf(self.context.data))
        assert isinstance(space, XnasModelDescBuilder)
        return space

    def trainer_class(self) -> type[XnasArchTrainer]:
        """:class:`XnasArchTrainer`. ValueError when the configuration names another strategy."""
        if not isinstance(build_strategy(self.conf.strategy), Xnas):
            raise ValueError(
                f"XnasExperimentRunner searches by XNAS, the configuration says {self.conf.strategy.name!r}. "
                "Set strategy.name to 'xnas', or use ExperimentRunner."
            )
        return XnasArchTrainer
