"""How a damaged file of a run folder is had again."""

import shlex
from pathlib import Path

from gradnas.foundation.plain_text import one_line

_CHECKPOINTS = {
    "arch.json": "search*",
    "full_arch.json": "retrain.pt*",
    "weights.safetensors": "retrain.pt*",
    "baseline/arch.json": "baseline_search*",
    "baseline/full_arch.json": "baseline_retrain.pt*",
    "baseline/weights.safetensors": "baseline_retrain.pt*",
}


def how_to_restore(folder: Path, name: str) -> str | None:
    """What brings a file back that a resume makes from checkpoints, as a sentence; None where none of them is there.

    Args:
        folder: The run folder.
        name: The file in it.
    """
    if name not in _CHECKPOINTS or not any((folder / "checkpoints").glob(_CHECKPOINTS[name])):
        return None
    command = f"`gradnas resume {one_line(shlex.quote(str(folder)))}`"
    if name == "arch.json":  # which a retraining reads before anything is written
        return f"Delete it, and {command} makes it again from the checkpoint."
    return f"{command} writes it again from the checkpoint."
