"""Weights that travel with a description, as a safetensors file beside its JSON.

The only file of this room that touches tensors; it is imported when weights are asked for.
"""

from pathlib import Path
from typing import Any

from gradnas.arch.model_desc import ModelDesc
from gradnas.arch.op_desc import OpDesc
from gradnas.foundation.checksums import damaged, seal_tensors, tensors_metadata
from gradnas.foundation.files import write_atomic

_SEPARATOR = "::"  # between the dotted place of an op and the key of its tensor


def save_trainables(desc: ModelDesc, path: Path) -> None:
    """Write the weights of every op that has some, with a checksum; other ops stay without.

    Raises:
        OSError: When the file cannot be written; what was there before is unchanged.
    """
    from safetensors.torch import save

    tensors: dict[str, Any] = {}
    for place, top in desc.top_ops():
        for inner, op in top.all_ops(place):
            for key, tensor in (op.trainables or {"sd": {}})["sd"].items():
                # a copy: safetensors refuses tensors that share memory, as those of a description used twice do
                tensors[f"{inner}{_SEPARATOR}{key}"] = tensor.detach().cpu().contiguous().clone()
    write_atomic(path, seal_tensors(save(tensors, metadata={"arch": desc.hash()})))


def load_trainables(desc: ModelDesc, path: Path) -> ModelDesc:
    """A copy of the description with the weights of :func:`save_trainables`.

    Raises:
        FileNotFoundError: When the file is missing.
        ValueError: When it is damaged or was changed, or holds weights of another description.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    if not path.is_file():
        raise FileNotFoundError(f"weights were asked for, but there is no {path}.")
    try:
        data = path.read_bytes()
        tensors = load(data)
    except SafetensorError as error:
        raise ValueError(f"{path} is not a readable safetensors file: {error}") from error
    try:
        arch = tensors_metadata(data).get("arch", "unknown")
    except ValueError as error:
        raise damaged(path, "Without it, load the description without weights.") from error
    if arch != desc.hash():
        raise ValueError(f"{path} holds the weights of another architecture: {arch[:12]}, not {desc.hash()[:12]}.")
    by_place: dict[str, dict[str, Any]] = {}
    for name, tensor in tensors.items():
        place, _, key = name.rpartition(_SEPARATOR)
        by_place.setdefault(place, {})[key] = tensor

    def attach(place: str, op: OpDesc) -> OpDesc:
        weights = by_place.pop(place, None)
        children = [attach(f"{place}.children.{i}", child).state_dict() for i, child in enumerate(op.children or ())]
        trainables = None if weights is None else {"name": op.name, "sd": weights}
        return op.load_state_dict({"trainables": trainables, "children": children})

    return desc.map_ops(attach)
