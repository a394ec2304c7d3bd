"""Tests of ``src/gradnas/export/exporter.py``: the three formats, and what is refused."""

import importlib.util
import json
import os
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from gradnas import export as room
from gradnas.arch import OpDesc
from gradnas.data import Normalization
from gradnas.export import FORMATS, Exported, NetworkFacts, Samples, export, exporter
from gradnas.export.form import Exportable, Form
from gradnas.export.source import SourceForm
from gradnas.ops import OPS, Op, OpRegistry
from gradnas.spaces import DartsSpace
from gradnas.supergraph import Model

FILES = {"source": {"model.py", "weights.safetensors"}, "torch": {"model.pt2"}, "onnx": {"model.onnx"}}
FACTS = NetworkFacts(
    name="a run",
    dataset="dïgits",
    classes=("zero", 'o"ne', "two"),
    normalization=Normalization(mean=(0.25,), std=(0.5,)),
    pixel_scale=255,
    test_accuracy=97.5,
    seed=3,
)


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def samples(nets: Any, model: Model, count: int = 5) -> Samples:
    return Samples(images=nets.images_for(model.desc, count), what="5 images")


def read(form: str, folder: Path) -> Callable[[Tensor], Tensor]:
    """As a user would, by the documentation of torch and onnxruntime."""
    if form == "source":
        spec = importlib.util.spec_from_file_location("as_a_user", folder / "model.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        network: nn.Module = module.load()
        return network
    if form == "torch":
        return torch.export.load(folder / "model.pt2").module()
    import onnxruntime

    session = onnxruntime.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])
    return lambda images: torch.from_numpy(np.asarray(session.run(None, {"images": images.numpy()})[0]))


@pytest.fixture(scope="module")
def once(nets: Any, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[Model, Exported]]:
    """A small network in a format, made when it is first asked for."""

    @cache
    def make(form: str) -> tuple[Model, Exported]:
        model = nets.lively(nets.small(), 0)
        folder = tmp_path_factory.mktemp("once") / "new" / "folder"
        return model, export(model, form, folder, samples=samples(nets, model), facts=FACTS)

    return make


@pytest.mark.parametrize("form", FORMATS)
def test_what_is_read_back_has_the_logits_of_the_model(form: str, once: Any, nets: Any) -> None:
    model, exported = once(form)
    folder = exported.files[0].parent
    assert {path.name for path in exported.files} == FILES[form] == names(folder)
    assert exported.trained
    assert exported.note == ""
    network = read(form, folder)
    with torch.no_grad():
        for count in (1, 2, 7):
            images = nets.images_for(model.desc, count, seed=9)
            expected = model(images)[0]
            assert (network(images) - expected).abs().max() <= 1e-5 * expected.abs().max()
            assert exported.max_difference <= exported.tolerance


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize(("form", "name"), [("torch", "ImageNet"), ("onnx", "petridish"), ("onnx", "7x7 pool")])
def test_programs_of_other_architectures(form: str, name: str, nets: Any, tmp_path: Path) -> None:
    model = nets.lively(nets.CASES[name](), 0)
    exported = export(model, form, tmp_path, samples=samples(nets, model, 3))
    assert exported.note == ""


def test_the_model_is_not_changed(nets: Any, tmp_path: Path) -> None:
    model = nets.lively(nets.small(), 0).train()
    model.drop_path_prob(0.2)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    for trained in (True, False):
        export(model, "source", tmp_path / str(trained), trained=trained)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert model.training
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    assert {norm.momentum for norm in norms} == {1.0}  # lively() set it
    assert next(m for m in model.modules() if type(m).__name__ == "DropPath_").p == 0.2


def test_precision_and_memory_format_do_not_matter(nets: Any, tmp_path: Path) -> None:
    model = nets.lively(nets.small(), 0).double().to(memory_format=torch.channels_last)
    export(model, "source", tmp_path)
    assert {value.dtype for value in load_file(tmp_path / "weights.safetensors").values()} == {
        torch.float32,
        torch.int64,
    }


def test_the_line_for_the_user_says_what_was_compared(nets: Any, tmp_path: Path) -> None:
    model = nets.lively(nets.small(), 0)
    line = str(export(model, "source", tmp_path, samples=samples(nets, model)))
    assert line.startswith(
        f"{tmp_path / 'model.py'} and {tmp_path / 'weights.safetensors'}; read back, its logits differ"
    )
    assert line.endswith("on 5 images")
    assert "\n" not in line
    assert "16 images of noise (no images were given)" in str(export(model, "source", tmp_path))


def test_equal_logits_of_all_images_are_noted(nets: Any, tmp_path: Path) -> None:
    model = nets.lively(nets.small(), 0)
    with torch.no_grad():
        model.logits_op.linear.weight.zero_()
    assert "prove little; are the weights fresh?" in str(export(model, "source", tmp_path))


# -------------------------------------------------------------------------------------------------------------- weights


def test_the_auxiliary_tower_stays_behind(nets: Any, tmp_path: Path) -> None:
    model = nets.lively(nets.published("DARTS_V2", image_size=24, aux_weight=0.4, cells=6), 0)
    assert any(name.startswith("aux_towers.") for name in model.state_dict())
    export(model, "source", tmp_path)
    stored = load_file(tmp_path / "weights.safetensors")
    assert set(stored) == {name for name in model.state_dict() if not name.startswith("aux_towers.")}
    save_file({k: v.contiguous() for k, v in model.state_dict().items()}, tmp_path / "weights.safetensors")
    images = nets.images_for(model.desc)
    with torch.no_grad():  # a file of the run, which has the tower's weights, loads as well
        torch.testing.assert_close(read("source", tmp_path)(images), model(images)[0])


def test_weights_of_a_run_are_kept_and_those_of_another_are_not_replaced(nets: Any, tmp_path: Path) -> None:
    model, other = nets.lively(nets.small(), 0), nets.lively(nets.small(), 1)
    weights = tmp_path / "weights.safetensors"
    save_file(dict(model.state_dict()), weights)
    before = weights.read_bytes()
    export(model, "source", tmp_path)
    assert weights.read_bytes() == before
    text = (tmp_path / "model.py").read_bytes()
    with pytest.raises(FileExistsError, match=r"weights.safetensors is there and was not written by an export"):
        export(other, "source", tmp_path)
    assert (weights.read_bytes(), (tmp_path / "model.py").read_bytes()) == (before, text)
    assert names(tmp_path) == {"model.py", "weights.safetensors"}


@pytest.mark.parametrize("form", FORMATS)
def test_files_of_an_earlier_export_are_replaced(form: str, nets: Any, tmp_path: Path) -> None:
    first, second = nets.lively(nets.small(), 0), nets.lively(nets.small(), 1)
    export(first, form, tmp_path)
    export(second, form, tmp_path)
    images = nets.images_for(second.desc)
    with torch.no_grad():
        torch.testing.assert_close(read(form, tmp_path)(images), second(images)[0], rtol=1e-4, atol=1e-4)
    assert names(tmp_path) == FILES[form]


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("content", [b"", b"# mine\n", b"PK\x03\x04 no archive"])
def test_a_strangers_file_is_not_replaced(form: str, content: bytes, nets: Any, tmp_path: Path) -> None:
    mine = tmp_path / {"source": "model.py", "torch": "model.pt2", "onnx": "model.onnx"}[form]
    mine.write_bytes(content)
    with pytest.raises(FileExistsError, match=f"{mine.name} is there and was not written by an export of gradnas"):
        export(nets.lively(nets.small(), 0), form, tmp_path)
    assert mine.read_bytes() == content
    assert names(tmp_path) == {mine.name}


@pytest.mark.parametrize("name", ["model.pt2", "model.onnx"])
def test_a_program_that_another_tool_wrote_is_not_replaced(name: str, nets: Any, tmp_path: Path) -> None:
    line = nn.Sequential(nn.Flatten(), nn.Linear(64, 3)).eval()
    image = torch.zeros(2, 1, 8, 8)
    if name == "model.pt2":
        torch.export.save(torch.export.export(line, (image,)), tmp_path / name)
    else:
        from gradnas.export.quiet import quiet

        with quiet():
            torch.onnx.export(line, (image,), tmp_path / name, dynamo=True, verbose=False)
    before = (tmp_path / name).read_bytes()
    with pytest.raises(FileExistsError, match="was not written by an export of gradnas"):
        export(nets.lively(nets.small(), 0), "torch" if name == "model.pt2" else "onnx", tmp_path)
    assert (tmp_path / name).read_bytes() == before


# ------------------------------------------------------------------------------------------------------ without weights


def test_a_network_that_is_not_trained_is_source_without_weights(nets: Any, tmp_path: Path) -> None:
    model = Model(nets.published("DARTS_V2", cells=20), droppath=True)  # deep and fresh: its own logits are constant
    exported = export(model, "source", tmp_path, trained=False)
    assert names(tmp_path) == {"model.py"}
    assert exported.note == ""
    assert "model.py without weights, as the network is not trained; read back" in str(exported)
    with pytest.raises(FileNotFoundError, match="the network has not been trained"):
        read("source", tmp_path)
    text = (tmp_path / "model.py").read_text(encoding="utf-8")
    assert "Test accuracy: none, the network has not been trained" in text
    assert "network = build().eval()" in text


@pytest.mark.parametrize("form", ["torch", "onnx"])
def test_other_formats_of_a_network_that_is_not_trained_are_refused(form: str, nets: Any, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f"not trained, and the format '{form}' holds weights. Train it first"):
        export(nets.lively(nets.small(), 0), form, tmp_path / "new", trained=False)
    assert not (tmp_path / "new").exists()


def test_weights_of_another_network_are_not_left_beside_one_without(nets: Any, tmp_path: Path) -> None:
    model = nets.lively(nets.small(), 0)
    export(model, "source", tmp_path)
    with pytest.raises(FileExistsError, match=r"weights.safetensors is there, but this export has no such file"):
        export(model, "source", tmp_path, trained=False)


# ------------------------------------------------------------------------------------------------------------- refusals


class Wrong(Form):
    """The source form with a difference in what is read back."""

    name, files = "source", ("weights.safetensors", "model.py")

    def __init__(self, change: Callable[[Tensor], Tensor]) -> None:
        self.change, self.right = change, SourceForm()

    def require(self) -> None:
        self.right.require()

    def write(self, network: Exportable, folder: Path) -> tuple[str, ...]:
        return self.right.write(network, folder)

    def read(self, folder: Path, network: Exportable) -> Callable[[Tensor], Tensor]:
        logits = self.right.read(folder, network)
        return lambda images: self.change(logits(images))

    def wrote(self, existing: Path) -> bool:
        return self.right.wrote(existing)

    def holds(self, existing: Path, new: Path) -> bool:
        return self.right.holds(existing, new)


def in_large_batches(logits: Tensor) -> Tensor:
    return logits * (1.1 if len(logits) > 2 else 1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda logits: logits * (1 + 3e-5), r"a logit differs by .*, .* is allowed \(the largest is"),
        (lambda logits: logits * float("nan"), "a logit differs by"),
        (in_large_batches, "a logit differs by"),
        (lambda logits: logits * (1.1 if len(logits) == 1 else 1), "a logit differs by"),
        (lambda logits: logits * (1.1 if len(logits) == 2 else 1), "a logit differs by"),
        (lambda logits: logits[:, :1], r"gives logits of shape \(1, 1\), the original one of \(1, 3\)"),
    ],
)
def test_a_copy_that_differs_is_refused_and_nothing_is_left(
    change: Callable[[Tensor], Tensor], message: str, nets: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exporter, "_FORMS", {"source": Wrong(change)})
    with pytest.raises(ValueError, match=message):
        export(nets.lively(nets.small(), 0), "source", tmp_path / "a" / "b")
    assert names(tmp_path) == set()


def test_a_small_rounding_difference_is_allowed(nets: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exporter, "_FORMS", {"source": Wrong(lambda logits: logits * (1 + 3e-6))})
    exported = export(nets.lively(nets.small(), 0), "source", tmp_path)
    assert 0 < exported.max_difference < exported.tolerance


def test_a_link_that_leads_nowhere_is_not_replaced(nets: Any, tmp_path: Path) -> None:
    (tmp_path / "model.py").symlink_to(tmp_path / "nowhere")
    with pytest.raises(FileExistsError, match=r"model\.py is there and was not written by an export"):
        export(nets.lively(nets.small(), 0), "source", tmp_path)
    assert (tmp_path / "model.py").is_symlink()


def test_a_folder_in_the_place_of_the_file_is_named(nets: Any, tmp_path: Path) -> None:
    (tmp_path / "model.py").mkdir()
    with pytest.raises(FileExistsError, match=r"model\.py is there and was not written by an export"):
        export(nets.lively(nets.small(), 0), "source", tmp_path)


def test_home_is_found(nets: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    export(nets.lively(nets.small(), 0), "source", "~/out")
    assert names(tmp_path / "out") == {"model.py", "weights.safetensors"}


@pytest.mark.parametrize("model", [None, torch.nn.ReLU()])
def test_what_is_no_model_is_refused(model: Any, tmp_path: Path) -> None:
    with pytest.raises(TypeError, match=r"export takes a gradnas\.supergraph\.Model, or .*, got (NoneType|ReLU)"):
        export(model, "source", tmp_path)


def test_logits_that_are_not_finite_are_refused(nets: Any, tmp_path: Path) -> None:
    model = nets.lively(nets.small(), 0)
    with torch.no_grad():
        model.logits_op.linear.bias[0] = float("nan")
    with pytest.raises(ValueError, match="gives logits that are not finite"):
        export(model, "source", tmp_path)


@pytest.mark.parametrize(("form", "near"), [("sourc", "'source'"), ("onx", "'onnx'"), ("pytorch", "'torch'")])
def test_an_unknown_format_names_the_nearest(form: str, near: str, nets: Any, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f"unknown format '{form}'. Did you mean {near}"):
        export(nets.lively(nets.small(), 0), form, tmp_path)


@pytest.mark.parametrize("missing", ["onnx", "onnxscript", "onnxruntime"])
def test_a_missing_package_is_named_with_its_extra(
    missing: str, nets: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(ImportError, match=r"format 'onnx' needs .*pip install 'gradnas\[onnx\]'"):
        export(nets.lively(nets.small(), 0), "onnx", tmp_path / "new")
    assert not (tmp_path / "new").exists()
    with pytest.raises(ImportError):
        room.check_format("onnx")


def test_a_search_network_is_refused(tmp_path: Path) -> None:
    space = DartsSpace(3, 8, 4, channels=4, cells=3, nodes=1, reductions=1)
    with pytest.raises(ValueError, match=r"still holds a choice \('mixed_op'\)"):
        export(Model(space.build(), affine=False), "torch", tmp_path)


def test_a_fused_network_is_refused_with_what_to_do(nets: Any, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="Build it with fused=False and load its state_dict"):
        export(Model(nets.small(), fused=True), "source", tmp_path)


def test_facts_and_samples_of_another_network_are_refused(nets: Any, tmp_path: Path) -> None:
    model = nets.lively(nets.small(), 0)
    with pytest.raises(ValueError, match="has 3 classes, but 2 names"):
        export(model, "source", tmp_path, facts=NetworkFacts(classes=("a", "b")))
    three = Normalization(mean=(0.5,) * 3, std=(0.5,) * 3)
    with pytest.raises(ValueError, match="images of 1 channels, but the normalization is for 3"):
        export(model, "source", tmp_path, facts=NetworkFacts(normalization=three))
    with pytest.raises(ValueError, match=r"takes images of \(1, 8, 8\), the samples are of \(1, 9, 8\)"):
        export(model, "source", tmp_path, samples=Samples(images=torch.zeros(2, 1, 9, 8), what=""))


def test_norms_without_weights_have_no_source_form_but_other_formats(nets: Any, tmp_path: Path) -> None:
    model = Model(nets.small(), affine=False)
    with pytest.raises(ValueError, match=r"other weights than the network, the first at .*affine=False.*'torch'"):
        export(model, "source", tmp_path)
    assert names(tmp_path) == set()
    export(model, "torch", tmp_path)


class Mine(Op):
    """An op of a user's own."""

    def __init__(self, op_desc: OpDesc) -> None:
        super().__init__()
        self.conv = nn.Conv2d(op_desc.conv.ch_in, op_desc.conv.ch_out, 3, op_desc.stride, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(self.conv(x))


@pytest.mark.parametrize("form", ["torch"])
def test_ops_of_ones_own_leave_as_programs(form: str, nets: Any, tmp_path: Path) -> None:
    registry = OpRegistry(parent=OPS)
    registry.register_op("my_op", lambda desc, affine, _: Mine(desc))
    old = nets.small()
    desc = nets.with_ops(old, lambda op: OpDesc("my_op", op.params) if op.name.startswith("sep_conv") else op)
    model = Model(desc, registry=registry).eval()
    export(model, form, tmp_path / form)
    with pytest.raises(ValueError, match=r"no source form of the op 'my_op'.*'torch' and 'onnx'"):
        export(model, "source", tmp_path / "source")
    assert names(tmp_path) == {form}
    hidden = OpRegistry(parent=OPS)
    hidden.register_op("sep_conv_3x3", lambda desc, affine, _: Mine(desc), replace=True)
    with pytest.raises(ValueError, match="ops of your own under the names of others"):
        export(Model(old, registry=hidden), "source", tmp_path / "source")


def test_a_folder_that_cannot_be_written_is_named(nets: Any, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for target in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(OSError, match=f"cannot write to {target}: "):
            export(nets.lively(nets.small(), 0), "source", target)
    assert names(tmp_path) == {"file"}


def test_an_interrupted_writing_leaves_nothing(nets: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = nets.lively(nets.small(), 0)

    def full(path: Path, data: bytes) -> int:
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match=f"cannot write to {tmp_path / 'new'}: No space left"):
        export(model, "source", tmp_path / "new")
    assert names(tmp_path) == set()


# --------------------------------------------------------------------------------------------------------- the metadata


@pytest.mark.parametrize("form", ["torch", "onnx"])
def test_programs_say_what_they_are_and_nothing_of_this_machine(form: str, once: Any) -> None:
    model, exported = once(form)
    (path,) = exported.files
    if form == "torch":
        extra = {"gradnas.json": ""}
        torch.export.load(path, extra_files=extra)
        said = json.loads(extra["gradnas.json"])
    else:
        import onnx

        properties = {entry.key: entry.value for entry in onnx.load(path).metadata_props}
        plain = {"written_by", "name", "dataset", "arch_hash", "input"}
        said = {key: value if key in plain else json.loads(value) for key, value in properties.items()}
    assert said.pop("written_by").startswith("gradnas ")
    assert said == {
        "name": "a run",
        "dataset": "dïgits",
        "classes": ["zero", 'o"ne', "two"],
        "mean": [0.25],
        "std": [0.5],
        "pixel_scale": 255,
        "input": "(pixels / pixel_scale - mean) / std, for each channel",
        "test_accuracy_percent": 97.5,
        "seed": 3,
        "input_shape": ["batch", 1, 8, 8],
        "n_classes": 3,
        "parameters": sum(p.numel() for p in model.parameters()),
        "macs": said["macs"],
        "arch_hash": model.desc.hash(),
    }
    content = path.read_bytes()
    for place in (Path(exporter.__file__).parents[1], Path(torch.__file__).parent, Path(__file__).parent):
        assert str(place).encode() not in content


def test_an_onnx_graph_has_named_ends_and_takes_any_number_of_images(once: Any) -> None:
    import onnx

    graph = onnx.load(once("onnx")[1].files[0]).graph
    (taken,), (given,) = graph.input, graph.output
    assert (taken.name, given.name) == ("images", "logits")
    assert [d.dim_param or d.dim_value for d in taken.type.tensor_type.shape.dim] == ["batch", 1, 8, 8]
    assert [d.dim_param or d.dim_value for d in given.type.tensor_type.shape.dim] == ["batch", 3]


@pytest.mark.parametrize("form", FORMATS)
def test_nothing_is_printed(form: str, nets: Any, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    export(nets.lively(nets.small(), 0), form, tmp_path)
    printed = capfd.readouterr()
    assert (printed.out, printed.err) == ("", "")


# ------------------------------------------------------------------------------------------------------ without gradnas


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of a virtual environment that has what is installed here, but no gradnas."""
    folder = tmp_path_factory.mktemp("bare") / "venv"
    venv.create(folder, with_pip=False, symlinks=True)
    site = Path(sysconfig.get_path("purelib", vars={"base": str(folder), "platbase": str(folder)}))
    for source in dict.fromkeys(sysconfig.get_path(kind) for kind in ("purelib", "platlib")):
        for entry in Path(source).iterdir():
            ours = "gradnas" in entry.name or entry.suffix == ".pth" or entry.name == "__pycache__"
            if not ours and not (site / entry.name).exists():
                (site / entry.name).symlink_to(entry)
    return folder / "bin" / "python"


SCRIPT = """
import importlib.util, sys
from pathlib import Path

try:
    import gradnas
except ImportError:
    pass
else:
    raise SystemExit("gradnas is installed here")
import torch
from safetensors.torch import load_file, save_file

torch.set_num_threads(1)
folder = Path(sys.argv[1])
sys.path.insert(0, str(folder / "source"))
import model

images = load_file(folder / "images.safetensors")["images"]
with torch.no_grad():
    logits = {
        "source": model.load()(images),
        "torch": torch.export.load(folder / "torch" / "model.pt2").module()(images),
        "fresh": model.build().eval()(images),
    }
model.build().train()(images).sum().backward()
save_file(logits, folder / "logits.safetensors")
assert not any(name.split(".")[0] == "gradnas" for name in sys.modules)
"""


@pytest.mark.slow
def test_the_files_work_where_there_is_no_gradnas(bare: Path, nets: Any, tmp_path: Path) -> None:
    model = nets.lively(nets.petridish(), 0)
    for form in ("source", "torch"):
        export(model, form, tmp_path / form, facts=NetworkFacts(classes=tuple("abcde")))
    images = nets.images_for(model.desc, 5)
    save_file({"images": images}, tmp_path / "images.safetensors")
    (tmp_path / "script.py").write_text(SCRIPT)
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    for arguments in ([tmp_path / "script.py", tmp_path], [tmp_path / "source" / "model.py"]):
        done = subprocess.run(
            [bare, *arguments], capture_output=True, text=True, cwd=tmp_path, env=environment, check=False
        )
        assert done.returncode == 0, done.stderr
    assert "tensor([[" in done.stdout  # its own example
    logits = load_file(tmp_path / "logits.safetensors")
    with torch.no_grad():
        expected = model(images)[0]
    torch.testing.assert_close(logits["source"], expected, rtol=0, atol=1e-5)
    torch.testing.assert_close(logits["torch"], expected, rtol=0, atol=1e-5)
    assert not torch.allclose(logits["fresh"], expected)
