"""Base of every operation."""

import math
from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from torch import Tensor, nn

from gradnas.arch import OpDesc
from gradnas.ops.arch_module import ArchModule
from gradnas.ops.arch_params import SUFFIX, ArchParams
from gradnas.ops.registry import OPS, CompositeFactory, OpRegistry


class Op(ArchModule):
    """One operation of a network. ``desc`` is its description, never modified."""

    desc: OpDesc

    @staticmethod
    def create(
        op_desc: OpDesc, affine: bool, arch_params: ArchParams | None = None, *, registry: OpRegistry = OPS
    ) -> "Op":
        """Build the op of a description and load the weights the description holds, if any.

        Args:
            op_desc: What to build.
            affine: Whether its batch norms have weights of their own (evaluation: yes, search: no).
            arch_params: Architecture parameters to share with another op; None makes own ones where the op has some.
            registry: Where names are looked up.

        Raises:
            KeyError: For an unknown name, with the nearest known ones.
            ValueError: When the description does not fit the op.
        """
        factory = registry.lookup(op_desc.name)
        if isinstance(factory, CompositeFactory):
            op = factory.build(op_desc, affine, arch_params, registry)
        else:
            op = factory(op_desc, affine, arch_params)
        op.desc = op_desc
        op.set_trainables(op_desc.trainables)
        return op

    @abstractmethod
    def forward(self, x: Any) -> Tensor:
        """Apply the op."""

    def get_trainables(self) -> dict[str, Any]:
        """Name and a detached CPU copy of the weights and batch-norm statistics (not the architecture parameters)."""
        weights = {
            key: value.detach().cpu().clone()
            for key, value in self.state_dict().items()
            if SUFFIX not in key  # members of lists and dicts carry it inside their key
        }
        return {"name": self.desc.name, "sd": weights}

    def set_trainables(self, trainables: Any) -> None:
        """Load what :meth:`get_trainables` gave; None does nothing.

        Raises:
            RuntimeError: For weights of another op, or for any missing or unexpected key; only the weight and bias of
                batch norms may be missing, because those of a search network have none.
        """
        if trainables is None:
            return
        if trainables["name"] != self.desc.name:
            raise RuntimeError(f"weights of op {trainables['name']!r} were given to op {self.desc.name!r}.")
        weights = self.accepted_weights(dict(trainables["sd"]))
        result = self.load_state_dict(weights, strict=False)
        norms = {name for name, module in self.named_modules() if isinstance(module, nn.BatchNorm2d)}
        optional = {f"{name}.{key}" if name else key for name in norms for key in ("weight", "bias")}
        missing = [key for key in result.missing_keys if key not in optional and SUFFIX not in key]
        if missing or result.unexpected_keys:
            raise RuntimeError(
                f"weights do not fit op {self.desc.name!r}: missing {missing}, unexpected {result.unexpected_keys}."
            )

    def accepted_weights(self, weights: dict[str, Tensor]) -> dict[str, Tensor]:
        """The part of stored weights that this op takes.

        An op whose form differs between search and evaluation may leave some out knowingly.
        """
        return weights

    def finalize(self) -> tuple[OpDesc, float | None]:
        """The discrete description with a copy of the weights, and its rank; rank None means "must be kept"."""
        return replace(self.desc, trainables=self.get_trainables()), None

    def ops(self) -> Iterator[tuple["Op", float]]:
        """The candidate ops with their mixing weights, in candidate order; an op without choice is its own, NaN."""
        yield self, math.nan

    def can_drop_path(self) -> bool:
        """Whether drop path applies to the output in an evaluation network."""
        return True
