"""Format ``onnx``: a graph for every runtime that reads ONNX. Needs the extra ``onnx``."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import torch
from torch import Tensor

from gradnas.data.optional import optional_import
from gradnas.export.form import Exportable, Form, Logits, LogitsOnly
from gradnas.export.quiet import quiet

if TYPE_CHECKING:
    from onnx import ModelProto

_PACKAGES = ("onnx", "onnxscript", "onnxruntime")
_WRITTEN_BY = "written_by"


class OnnxForm(Form):
    """``model.onnx`` from ``images`` to ``logits``, any number of images; metadata as JSON in ``metadata_props``."""

    name: ClassVar[str] = "onnx"
    files: ClassVar[tuple[str, ...]] = ("model.onnx",)

    def require(self) -> None:
        for package in _PACKAGES:
            optional_import(package, package="'gradnas[onnx]'", needed_for="export in the format 'onnx'")

    def write(self, network: Exportable, folder: Path) -> tuple[str, ...]:
        import onnx
        import torch.export

        shape = network.image_shape
        with quiet(), torch.no_grad():
            program = torch.onnx.export(
                LogitsOnly(network.model).eval(),
                (torch.zeros(2, *shape),),
                dynamo=True,
                input_names=["images"],
                output_names=["logits"],
                dynamic_shapes={"images": {0: torch.export.Dim("batch")}},
                verbose=False,
            )
        assert program is not None
        graph = program.model_proto
        _forget_origin(graph)
        graph.producer_name = "gradnas"
        for key, value in network.metadata().items():
            text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, allow_nan=False)
            graph.metadata_props.add(key=key, value=text)
        onnx.checker.check_model(graph, full_check=True)
        (folder / "model.onnx").write_bytes(graph.SerializeToString(deterministic=True))
        return ("model.onnx",)

    def read(self, folder: Path, network: Exportable) -> Logits:
        import onnxruntime  # type: ignore[import-untyped]  # no py.typed

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4  # it speaks of the machine, not of the graph
        options.intra_op_num_threads = torch.get_num_threads()
        session = onnxruntime.InferenceSession(
            folder / "model.onnx", sess_options=options, providers=["CPUExecutionProvider"]
        )

        def logits(images: Tensor) -> Tensor:
            (out,) = session.run(["logits"], {"images": images.numpy()})
            return torch.from_numpy(np.asarray(out))

        return logits

    def wrote(self, existing: Path) -> bool:
        import onnx
        from google.protobuf.message import DecodeError  # type: ignore[import-untyped]  # no py.typed

        try:
            properties = onnx.load(existing, load_external_data=False).metadata_props
        except DecodeError:
            return False
        return any(entry.key == _WRITTEN_BY and entry.value.startswith("gradnas ") for entry in properties)

    def holds(self, existing: Path, new: Path) -> bool:
        return False


def _forget_origin(graph: "ModelProto") -> None:
    """Drop what the exporter notes of its own steps: nobody needs it, and it names files of this machine."""
    del graph.metadata_props[:]
    for part in (graph.graph, *graph.functions):
        del part.metadata_props[:]
        for entry in (*part.node, *part.value_info):
            del entry.metadata_props[:]
    for entry in (*graph.graph.input, *graph.graph.output, *graph.graph.initializer):
        del entry.metadata_props[:]
