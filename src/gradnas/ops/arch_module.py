"""A module that owns or shares architecture parameters."""

from collections.abc import Iterable, Iterator

from torch import nn
from torch.nn import Parameter

from gradnas.ops.arch_params import SUFFIX, ArchParam, ArchParams


class ArchModule(nn.Module):
    """An ``nn.Module`` with architecture parameters.

    The first cell of each type owns them; later cells of the type use the same objects. A ``state_dict`` therefore
    holds each once, and ``deepcopy``, ``to`` and ``load_state_dict`` keep the sharing.
    """

    def __init__(self) -> None:
        super().__init__()
        self._used_arch_params: ArchParams | None = None

    def create_arch_params(self, named_params: Iterable[tuple[str, ArchParam]]) -> None:
        """Own these parameters and use them. RuntimeError if any are set already."""
        self._refuse_second_set()
        self._used_arch_params = ArchParams(named_params, registrar=self)

    def set_arch_params(self, arch_params: ArchParams) -> None:
        """Use another module's parameters; nothing is registered here. RuntimeError if any are set already."""
        self._refuse_second_set()
        self._used_arch_params = arch_params

    def release_arch_params(self) -> None:
        """Forget the parameters, own or another module's, so that others can be set."""
        for name in ArchParams.from_module(self):
            delattr(self, name + SUFFIX)
        self._used_arch_params = None

    def _refuse_second_set(self) -> None:
        if self._used_arch_params is not None:
            raise RuntimeError(f"{type(self).__name__} already has the parameters {self._used_arch_params!r}.")

    def arch_params(self, recurse: bool = False, only_owned: bool = False) -> ArchParams:
        """Architecture parameters of this module.

        Args:
            recurse: Those of the whole subtree instead of this module alone.
            only_owned: What is registered here, instead of what is used here. In a subtree each object comes once, by
                identity, under the name of its first use.
        """
        if only_owned:
            return ArchParams.from_module(self, recurse)
        if not recurse:
            return self._used_arch_params if self._used_arch_params is not None else ArchParams.empty()
        first_use: dict[int, tuple[str, ArchParam]] = {}
        for path, module in self.named_modules():
            if isinstance(module, ArchModule):
                for name, value in module.arch_params().items():
                    first_use.setdefault(id(value), (f"{path}.{name}" if path else name, value))
        return ArchParams.view(first_use.values())

    def all_owned(self) -> ArchParams:
        """Every architecture parameter registered in the subtree, in module order."""
        return self.arch_params(recurse=True, only_owned=True)

    def nonarch_params(self, recurse: bool) -> Iterator[Parameter]:
        """The ordinary parameters."""
        return ArchParams.nonarch_from_module(self, recurse)
