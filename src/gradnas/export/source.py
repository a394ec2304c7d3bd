"""Format ``source``: ``model.py`` that imports torch only, with its weights beside it."""

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import ClassVar

import torch
from torch import Tensor, nn

from gradnas.export.form import Exportable, Form, Logits
from gradnas.export.model_source import MARK, model_source
from gradnas.export.use_source import AUX_TOWERS, WEIGHTS, Described
from gradnas.foundation.checksums import seal_tensors

_EXPORTED = " exported"
"""Behind the architecture in the metadata of the weights of an export; those of a run are never replaced."""


class SourceForm(Form):
    """Readable source; weights as safetensors, under the names of the original."""

    name: ClassVar[str] = "source"
    files: ClassVar[tuple[str, ...]] = (WEIGHTS, "model.py")

    def require(self) -> None:
        """Nothing: safetensors comes with gradnas."""

    def write(self, network: Exportable, folder: Path) -> tuple[str, ...]:
        from safetensors.torch import save

        described = _described(network)
        (folder / "model.py").write_text(model_source(described), encoding="utf-8", newline="\n")
        if not described.trained:
            return ("model.py",)
        metadata = {"arch": described.desc.hash() + _EXPORTED}
        (folder / WEIGHTS).write_bytes(seal_tensors(save(_own_weights(network), metadata=metadata)))
        return WEIGHTS, "model.py"

    def read(self, folder: Path, network: Exportable) -> Logits:
        module = _imported(folder / "model.py")
        built: nn.Module = module.build()
        _check_names(built, network)
        if _described(network).trained:
            return module.load()
        built.load_state_dict(_own_weights(network))
        return built.eval()

    def wrote(self, existing: Path) -> bool:
        from safetensors import SafetensorError, safe_open

        if existing.name != WEIGHTS:
            return existing.read_bytes().startswith(MARK.encode())
        try:
            with safe_open(existing, "pt") as stored:
                arch: str = (stored.metadata() or {}).get("arch", "")
                return arch.endswith(_EXPORTED)
        except SafetensorError:
            return False

    def holds(self, existing: Path, new: Path) -> bool:
        """Weights of a run do, those of its auxiliary tower aside."""
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        if existing.name != WEIGHTS:
            return False
        try:
            before, after = load_file(existing), load_file(new)
        except SafetensorError:
            return False
        before = {name: value for name, value in before.items() if not name.startswith(AUX_TOWERS)}
        return before.keys() == after.keys() and all(torch.equal(before[name], after[name]) for name in after)


def _described(network: Exportable) -> Described:
    if network.described is None:
        raise ValueError(
            "a network that was designed by hand has a source already, and gradnas writes that of found ones alone. "
            "Formats 'torch' and 'onnx' hold any network."
        )
    return network.described


def _own_weights(network: Exportable) -> dict[str, Tensor]:
    """The state of the network that is exported, which has no auxiliary tower."""
    state = network.model.state_dict()
    return {name: value.contiguous() for name, value in state.items() if not name.startswith(AUX_TOWERS)}


def _check_names(built: nn.Module, network: Exportable) -> None:
    ours = {name: tuple(value.shape) for name, value in _own_weights(network).items()}
    theirs = {name: tuple(value.shape) for name, value in built.state_dict().items()}
    differing = [name for name in {**ours, **theirs} if ours.get(name) != theirs.get(name)]
    if differing:
        raise ValueError(
            f"the source has other weights than the network, the first at {differing[0]!r}. Batch norms without "
            "weights (affine=False) and ops of your own under the names of others have no source form. Formats "
            "'torch' and 'onnx' hold any network."
        )


def _imported(path: Path) -> ModuleType:
    """The file as a module of its own, known to nobody else."""
    spec = importlib.util.spec_from_file_location("exported_model", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
