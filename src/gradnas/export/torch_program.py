"""Format ``torch``: a ``torch.export`` program, which needs torch alone and no code of the network."""

import json
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import torch

from gradnas.export.form import Exportable, Form, Logits, LogitsOnly
from gradnas.export.quiet import quiet

if TYPE_CHECKING:
    from torch.export import ExportedProgram

_METADATA = "gradnas.json"


class TorchForm(Form):
    """``model.pt2``, read by ``torch.export.load``; images of any number, metadata in the extra file gradnas.json."""

    name: ClassVar[str] = "torch"
    files: ClassVar[tuple[str, ...]] = ("model.pt2",)

    def require(self) -> None:
        """Nothing: torch is there."""

    def write(self, network: Exportable, folder: Path) -> tuple[str, ...]:
        import torch.export

        metadata = {_METADATA: json.dumps(network.metadata(), ensure_ascii=False, allow_nan=False)}
        with quiet():
            torch.export.save(torch_program(network), folder / "model.pt2", extra_files=metadata)
        return ("model.pt2",)

    def read(self, folder: Path, network: Exportable) -> Logits:
        with quiet():
            return torch.export.load(folder / "model.pt2").module()

    def wrote(self, existing: Path) -> bool:
        if not zipfile.is_zipfile(existing):
            return False
        with zipfile.ZipFile(existing) as archive:
            return any(name.endswith(f"/{_METADATA}") for name in archive.namelist())

    def holds(self, existing: Path, new: Path) -> bool:
        return False


def torch_program(network: Exportable) -> "ExportedProgram":
    """The network as a program for any number of images; it names no file of this machine."""
    shape = network.image_shape
    with quiet(), torch.no_grad():
        program = torch.export.export(
            LogitsOnly(network.model).eval(),
            (torch.zeros(2, *shape),),
            dynamic_shapes={"images": {0: torch.export.Dim("batch")}},
        )
    for module in program.graph_module.modules():
        if isinstance(module, torch.fx.GraphModule):
            for node in module.graph.nodes:
                node.meta.pop("stack_trace", None)
    return program
