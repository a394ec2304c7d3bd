"""Export of networks that were designed by hand."""

import json
from pathlib import Path

import onnx
import pytest
import torch

from gradnas.export import GivenNetwork, NetworkFacts, Samples, export
from gradnas.models import PyramidNet, ShakeResNet


@pytest.fixture(scope="module")
def shaken() -> GivenNetwork:
    torch.manual_seed(0)
    model = ShakeResNet(8, 4, 3, in_channels=1)
    model(torch.randn(16, 1, 8, 8))  # statistics of its own
    return GivenNetwork(model=model, name="shaken", options={"mode": "x"}, image_shape=(1, 8, 8), n_classes=3)


def test_a_program_gives_the_logits_of_the_network(shaken: GivenNetwork, tmp_path: Path) -> None:
    images = torch.randn(5, 1, 8, 8)
    exported = export(shaken, "torch", tmp_path, samples=Samples(images=images, what="noise"))
    assert exported.max_difference <= exported.tolerance
    extra = {"gradnas.json": ""}
    program = torch.export.load(tmp_path / "model.pt2", extra_files=extra)
    shaken.model.eval()
    with torch.no_grad():
        torch.testing.assert_close(program.module()(images), shaken.model(images))
    said = json.loads(extra["gradnas.json"])
    assert (said["model"], said["model_options"]) == ("shaken", {"mode": "x"})
    assert (said["input_shape"], said["n_classes"]) == (["batch", 1, 8, 8], 3)
    assert said["parameters"] == sum(p.numel() for p in shaken.model.parameters())
    assert "arch_hash" not in said


def test_an_onnx_graph_holds_shake_drop(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = PyramidNet(8, 4, 3, in_channels=1, shake_drop=True)
    given = GivenNetwork(model=model, name="dropped", image_shape=(1, 9, 9), n_classes=3)
    exported = export(given, "onnx", tmp_path, facts=NetworkFacts(classes=("a", "b", "c")))
    assert exported.max_difference <= exported.tolerance
    properties = {entry.key: entry.value for entry in onnx.load(tmp_path / "model.onnx").metadata_props}
    assert properties["model"] == "dropped"


def test_its_source_is_not_ours_to_write(shaken: GivenNetwork, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="designed by hand has a source already"):
        export(shaken, "source", tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_what_does_not_fit_is_refused(shaken: GivenNetwork, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="exported with its weights: train it first"):
        export(shaken, "source", tmp_path, trained=False)
    with pytest.raises(ValueError, match="has 3 classes, but 2 names were given"):
        export(shaken, "torch", tmp_path, facts=NetworkFacts(classes=("a", "b")))
    with pytest.raises(TypeError, match=r"or a gradnas.export.GivenNetwork, got ShakeResNet"):
        export(shaken.model, "torch", tmp_path)  # type: ignore[arg-type]
