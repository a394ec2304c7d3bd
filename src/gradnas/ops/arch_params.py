"""Architecture parameters: an immutable, ordered, shareable mapping name -> parameter."""

from collections.abc import Iterable, Iterator, Mapping

from torch import Tensor, nn
from torch.nn import Buffer, Parameter, ParameterDict, ParameterList

ArchParam = Tensor | ParameterDict | ParameterList
"""A parameter, a container of them, or a buffer: what a rule updates by itself and no optimizer ever holds."""

SUFFIX = "_arch_param"  # of the attribute under which the owner registers an entry


class ArchParams(Mapping[str, ArchParam]):
    """Named architecture parameters. The *kind* of an entry is the last dotted part of its name, e.g. ``alphas``."""

    def __init__(self, arch_params: Iterable[tuple[str, ArchParam]], registrar: nn.Module | None = None) -> None:
        """Collect the entries in order.

        Args:
            arch_params: Pairs of name and parameter, ParameterList, ParameterDict or ``torch.nn.Buffer``.
            registrar: Module that shall own them: each is registered on it as ``<name>_arch_param``, so that torch
                moves, saves and lists it. Without, this is a pure view, used for sharing.

        Raises:
            TypeError: For a value that is none of these.
            ValueError: For a duplicate or empty name, or a dotted one when there is a registrar.
            RuntimeError: When the registrar already has the attribute.
        """
        self._entries: dict[str, ArchParam] = {}
        for name, value in arch_params:
            if not isinstance(value, (Parameter, Buffer, ParameterDict, ParameterList)):
                raise TypeError(
                    f"architecture parameter {name!r} must be a Parameter, Buffer, ParameterDict or ParameterList, "
                    f"got {type(value).__name__}."
                )
            self._add(name, value, owned=registrar is not None)
        if registrar is not None:
            taken = {*registrar._parameters, *registrar._buffers, *registrar._modules, *registrar.__dict__}
            for name in self._entries:
                if name + SUFFIX in taken:
                    raise RuntimeError(f"{type(registrar).__name__} already has an attribute {name + SUFFIX!r}.")
            for name, value in self._entries.items():
                setattr(registrar, name + SUFFIX, value)
        self._registrar = registrar

    def _add(self, name: str, value: ArchParam, *, owned: bool) -> None:
        if not name or (owned and "." in name):
            raise ValueError(f"architecture parameter name {name!r} must not be empty, nor have a dot when owned.")
        if name in self._entries:
            raise ValueError(f"architecture parameter {name!r} is given twice.")
        self._entries[name] = value

    @staticmethod
    def view(registered: Iterable[tuple[str, ArchParam]]) -> "ArchParams":
        """A view of what is registered elsewhere, where torch keeps buffers as ordinary tensors."""
        params = ArchParams([])
        for name, value in registered:
            params._add(name, value, owned=False)
        return params

    def __getitem__(self, name: str) -> ArchParam:
        # What the owner holds now: torch replaces parameters in to_empty(), load_state_dict(assign=True) and functional
        # calls, and whoever shares them must follow.
        entry = self._entries[name]
        if self._registrar is None:
            return entry
        current: ArchParam = getattr(self._registrar, name + SUFFIX)
        return current

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def __setitem__(self, name: str, value: object) -> None:
        raise RuntimeError(f"architecture parameters are immutable; change the values of {name!r} in place.")

    def __delitem__(self, name: str) -> None:
        raise RuntimeError(f"architecture parameters are immutable; {name!r} cannot be deleted.")

    def __repr__(self) -> str:
        return f"ArchParams({', '.join(self._entries)})"

    def has_kind(self, kind: str) -> bool:
        """True when an entry is of this kind."""
        return any(_kind(name) == kind for name in self._entries)

    def param_by_kind(self, kind: str | None = None) -> Iterator[Parameter]:
        """Leaf parameters of a kind (None: all), members of lists and dicts included, in order; no buffers."""
        for _, value in self._of_kind(kind):
            if isinstance(value, Parameter):
                yield value
            elif isinstance(value, nn.Module):
                yield from value.parameters()

    def paramlist_by_kind(self, kind: str | None = None) -> Iterator[ParameterList]:
        """The entries of a kind that are a ParameterList."""
        return (value for _, value in self._of_kind(kind) if isinstance(value, ParameterList))

    def paramdict_by_kind(self, kind: str | None = None) -> Iterator[ParameterDict]:
        """The entries of a kind that are a ParameterDict."""
        return (value for _, value in self._of_kind(kind) if isinstance(value, ParameterDict))

    def _of_kind(self, kind: str | None) -> Iterator[tuple[str, ArchParam]]:
        return ((name, value) for name, value in self.items() if kind is None or _kind(name) == kind)

    @staticmethod
    def empty() -> "ArchParams":
        """No entries."""
        return ArchParams([])

    @staticmethod
    def from_module(module: nn.Module, recurse: bool = False) -> "ArchParams":
        """All architecture parameters registered on a module, and on its descendants when ``recurse``.

        Names come without the suffix; those of descendants carry their dotted module path. Lists and dicts come whole.
        An object registered twice comes once, under its first name.
        """
        return ArchParams.view(_registered(module, recurse))

    @staticmethod
    def nonarch_from_module(module: nn.Module, recurse: bool = False) -> Iterator[Parameter]:
        """The exact complement of :meth:`from_module`: together they give every parameter once."""
        arch = {id(p) for p in ArchParams.from_module(module, recurse).param_by_kind()}
        return (p for p in module.parameters(recurse) if id(p) not in arch)


def _kind(name: str) -> str:
    return name.rpartition(".")[2]


def _registered(module: nn.Module, recurse: bool) -> Iterator[tuple[str, ArchParam]]:
    seen: set[int] = set()
    for path, owner in module.named_modules() if recurse else [("", module)]:
        for name, value in [*owner._parameters.items(), *owner._buffers.items(), *owner._modules.items()]:
            if name.endswith(SUFFIX) and isinstance(value, (Tensor, ParameterDict, ParameterList)):
                if id(value) in seen:
                    continue
                seen.add(id(value))
                short = name.removesuffix(SUFFIX)
                yield (f"{path}.{short}" if path else short), value
