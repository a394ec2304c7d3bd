"""The weights of a network as a safetensors file that says what they are of and whether they are whole."""

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor, nn

from gradnas.foundation.checksums import damaged, seal_tensors, tensors_metadata
from gradnas.foundation.files import write_atomic
from gradnas.report.records.restoring import how_to_restore
from gradnas.supergraph import Model


def save_weights(model: nn.Module, path: Path, identity: str | None = None) -> None:
    """Write the state of a network, in one step; the metadata says which network it is of, and has a checksum.

    Args:
        model: The network.
        path: The file.
        identity: What tells it from other networks; None takes the hash of its architecture.

    Raises:
        OSError: When the file cannot be written; what was there before is unchanged.
    """
    from safetensors.torch import save

    # a copy: safetensors refuses tensors that share memory, as tied weights do
    state = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in model.state_dict().items()}
    write_atomic(path, seal_tensors(save(state, metadata={"arch": _identity(model, identity)})))


def load_weights(model: nn.Module, path: Path, identity: str | None = None) -> None:
    """Load :func:`save_weights` into a network of the same description, or the same identity.

    Raises:
        FileNotFoundError: When there is no such file.
        ValueError: When the file is damaged or of another network; the network is then as it was.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    if not path.is_file():
        raise FileNotFoundError(f"no weights at {path}; the run has not been retrained.")
    data = path.read_bytes()
    restore = how_to_restore(path.parent, path.name)
    try:
        weights = load(data)
    except SafetensorError as error:
        raise ValueError(
            f"{path} does not hold the weights of this network: {error}. {restore or ''}".rstrip()
        ) from error
    try:
        arch = tensors_metadata(data).get("arch", _identity(model, identity))
    except ValueError as error:
        if restore is not None:
            raise ValueError(
                f"{path} was changed or damaged since it was written: its checksum does not fit. {restore}"
            ) from error
        raise damaged(path, "Without it, retrain the network: `gradnas retrain` with another --out.") from error
    try:
        if arch != _identity(model, identity):  # networks that differ in their pools alone have the same weights
            raise RuntimeError(f"they are of the architecture {arch[:12]}, not {_identity(model, identity)[:12]}")
        _check_shapes(model.state_dict(), weights)  # torch looks at one after the other while it writes
        model.load_state_dict(weights)
    except RuntimeError as error:
        raise ValueError(f"{path} does not hold the weights of this network: {error}") from error


def _identity(model: nn.Module, identity: str | None) -> str:
    if identity is not None:
        return identity
    assert isinstance(model, Model)
    return model.desc.hash()


def _check_shapes(wanted: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> None:
    """RuntimeError for the first name that is missing, unknown, or of another shape."""
    for missing in sorted({*wanted} - {*found}):
        raise RuntimeError(f"Missing key {missing}")
    for unexpected in sorted({*found} - {*wanted}):
        raise RuntimeError(f"Unexpected key {unexpected}")
    for name, tensor in wanted.items():
        if tensor.shape != found[name].shape:
            raise RuntimeError(f"{name} has the shape {[*found[name].shape]}, not {[*tensor.shape]}")
