"""Names of operations. Registries chain: a builder's own one looks into the package-wide one, and never changes it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gradnas.arch import OpDesc
from gradnas.foundation.names import did_you_mean
from gradnas.ops.arch_params import ArchParams

if TYPE_CHECKING:
    from gradnas.ops.base import Op

OpFactory = Callable[[OpDesc, bool, ArchParams | None], "Op"]
"""Makes an op from (description, affine batch norm?, architecture parameters to share or None)."""


@dataclass(frozen=True)
class CompositeFactory:
    """A factory of ops made of other ops: it also gets the registry in which their names are looked up."""

    build: "Callable[[OpDesc, bool, ArchParams | None, OpRegistry], Op]"


class OpRegistry:
    """Mapping from op name to factory."""

    def __init__(self, parent: "OpRegistry | None" = None) -> None:
        self._parent = parent
        self._factories: dict[str, OpFactory | CompositeFactory] = {}

    def register_op(
        self, name: str, factory: OpFactory | CompositeFactory, exists_ok: bool = True, *, replace: bool = False
    ) -> None:
        """Give an op a name.

        Args:
            name: The name that descriptions use.
            factory: Called with (description, affine, architecture parameters or None); a
                :class:`CompositeFactory` also with the registry.
            exists_ok: Whether registering the *same* factory again is a no-op rather than an error.
            replace: Take the name away from a *different* factory; one of the parent is hidden here, not changed.

        Raises:
            ValueError: When the name is taken, here or in the parent, by a different factory and ``replace`` is off,
                naming both; or by this one when ``exists_ok`` is off.
        """
        taken = self.lookup(name) if name in self.names() else None
        if taken == factory and not exists_ok:  # ==: a bound method is a new object each time
            raise ValueError(f"op {name!r} is registered already.")
        if taken is not None and taken != factory and not replace:
            raise ValueError(f"op {name!r} is {taken!r}, not {factory!r}; choose another name or pass replace=True.")
        self._factories[name] = factory

    def lookup(self, name: str) -> OpFactory | CompositeFactory:
        """The factory under a name. KeyError with the nearest names when there is none."""
        if name in self._factories:
            return self._factories[name]
        if self._parent is not None and name in self._parent.names():
            return self._parent.lookup(name)
        raise KeyError(f"no operation {name!r}. {did_you_mean(name, self.names())}")

    def names(self) -> list[str]:
        """All names, those of the parent first, in order of registration."""
        inherited = [] if self._parent is None else self._parent.names()
        return inherited + [name for name in self._factories if name not in inherited]


OPS = OpRegistry()
"""The package-wide registry. Building a model never changes it."""

register_op = OPS.register_op
