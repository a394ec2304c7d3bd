"""Tests of ``gradnas export``, and of ``Result.export`` behind it, on real runs."""

import importlib.util
import json
import shutil
import warnings
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch.utils.data import TensorDataset

import gradnas as gn
from gradnas.cli import main
from gradnas.foundation.checksums import unseal, unseal_text

TINY = [
    *("--max-steps", "2", "--search.epochs", "1", "--search.batch_size", "16", "--search.val_ratio", "0.1"),
    *("--space.options.channels", "2", "--space.options.nodes", "2", "--device", "cpu", "--space.options.cells=3"),
]
LATER = [
    *("--retrain.epochs", "1", "--retrain.channels", "2", "--retrain.batch_size", "16", "--baseline.samples", "0"),
]


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cli") / "done"
    assert main(["run", "--preset", "demo", *TINY, *LATER, "--out", str(folder)]) == 0
    return folder


@pytest.fixture
def finished(done: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(done, tmp_path / "finished"))


@pytest.fixture
def searched(finished: Path) -> Path:
    """As a search leaves it."""
    for name in ("full_arch.json", "weights.safetensors"):
        (finished / name).unlink()
    return finished


def imported(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("as_a_user", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_source_stands_beside_the_weights_of_the_run(finished: Path, gradnas: Any) -> None:
    before = {path: path.read_bytes() for path in finished.rglob("*") if path.is_file()}
    outcome = gradnas("export", finished)
    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.out.startswith(
        f"exported: {finished / 'model.py'} and {finished / 'weights.safetensors'}; read back"
    )
    assert outcome.out.endswith("on 16 test images of digits\n")
    assert {path: path.read_bytes() for path in before} == before
    assert {path for path in finished.rglob("*") if path.is_file()} == {*before, finished / "model.py"}


def test_the_network_classifies_raw_images_as_the_run_did(finished: Path) -> None:
    result = gn.load(finished)
    exported = result.export()
    module = imported(exported.files[-1])
    test = result.data().test
    assert test is not None
    network = module.load()
    with torch.no_grad():
        hits = network(module.prepare(test.images)).argmax(1) == test.labels
    summary = result.summary
    assert tuple(summary["classes"]) == module.CLASSES
    right = sum(summary["confusion"][k][k] for k in range(10))
    seen = sum(map(sum, summary["confusion"]))
    assert seen == len(hits) == 360
    assert int(hits.sum()) == right
    assert f"{summary['test_accuracy']:.2f} %" in module.__doc__
    assert f"Strategy:      {summary['strategy']}\n" in module.__doc__


@pytest.mark.parametrize(("form", "files"), [("torch", ["model.pt2"]), ("onnx", ["model.onnx"])])
def test_other_formats_and_folders(form: str, files: list[str], finished: Path, gradnas: Any, tmp_path: Path) -> None:
    outcome = gradnas("export", finished, "--format", form, "--out", tmp_path / "new" / "place")
    assert (outcome.code, outcome.err) == (0, "")
    assert [path.name for path in (tmp_path / "new" / "place").iterdir()] == files


def test_another_folder_gets_the_weights_too(finished: Path, gradnas: Any, tmp_path: Path) -> None:
    assert gradnas("export", finished, "--out", tmp_path / "out").code == 0
    there, here = load_file(tmp_path / "out" / "weights.safetensors"), load_file(finished / "weights.safetensors")
    assert there.keys() == here.keys()
    assert all(torch.equal(there[name], here[name]) for name in here)
    assert gradnas("export", finished, "--out", tmp_path / "out").code == 0  # again


def test_a_run_that_is_not_retrained_is_source_alone(searched: Path, gradnas: Any) -> None:
    outcome = gradnas("export", searched)
    assert (outcome.code, outcome.err) == (0, "")
    assert f"{searched / 'model.py'} without weights, as the network is not trained" in outcome.out
    module = imported(searched / "model.py")
    model = gn.supergraph.Model(gn.load(searched).arch)
    assert list(module.build().state_dict()) == list(model.state_dict())
    with pytest.raises(FileNotFoundError, match="not been trained"):
        module.load()
    outcome = gradnas("export", searched, "--format", "onnx")
    assert outcome.code == 1
    assert f"{searched} is not retrained" in outcome.err
    assert f"`gradnas retrain {searched}`" in outcome.err


def test_a_run_without_its_data_is_compared_on_noise(finished: Path, gradnas: Any) -> None:
    config = unseal_text((finished / "config.yaml").read_text())
    (finished / "config.yaml").write_text(config.replace("source: digits", "source: /no/such/place.npz"))
    outcome = gradnas("export", finished)
    assert (outcome.code, outcome.err) == (0, "")
    assert "on 16 images of noise (no data set at /no/such/place.npz)" in outcome.out
    text = (finished / "model.py").read_text()
    assert "MEAN = " in text  # the run remembers
    assert "images / 255" in text


def test_data_that_changed_since_is_not_used(finished: Path, gradnas: Any) -> None:
    config = unseal_text((finished / "config.yaml").read_text())
    assert "image_size: null" in config
    (finished / "config.yaml").write_text(config.replace("image_size: null", "image_size: 9"))
    assert (
        "noise (the network takes images of (1, 8, 8), those of digits are of (1, 9, 9) now)"
        in gradnas("export", finished).out
    )


def test_a_data_set_object_is_remembered(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    images = 3 + 2 * torch.rand(40, 1, 8, 8, generator=generator)
    data = TensorDataset(images, torch.arange(40) % 2)
    space = gn.spaces.DartsSpace(1, 8, 2, channels=2, cells=3, nodes=1, reductions=1)
    quick: dict[str, Any] = {"epochs": 1, "batch_size": 8, "max_steps_per_epoch": 1, "device": "cpu"}
    result = gn.search(space, data, out=tmp_path / "run", **quick)
    result = gn.retrain(result, channels=2, cells=3, **quick)
    assert "training images" in str(result.export())
    exported = gn.load(tmp_path / "run").export()
    assert "noise (this run used a data set object given in Python" in str(exported)
    module = imported(exported.files[-1])
    assert module.prepare(images).mean().abs() < 1e-5
    assert abs(float(module.prepare(images).std()) - 1) < 0.01
    with torch.no_grad():
        torch.testing.assert_close(module.load()(module.prepare(images)), result.model(module.prepare(images))[0])


def test_a_run_of_an_older_version_takes_the_normalization_from_its_data(finished: Path) -> None:
    summary = unseal(json.loads((finished / "summary.json").read_text()))
    for key in ("normalization", "pixels"):
        del summary[key]
    (finished / "summary.json").write_text(json.dumps(summary))
    result = gn.load(finished)
    module = imported(result.export().files[-1])
    assert result.data().normalization.mean == module.MEAN
    assert "images / 255" in (finished / "model.py").read_text()


def test_no_warning_escapes(searched: Path) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        gn.load(searched).export()
    assert caught == []


def test_ones_own_model_py_is_not_replaced(finished: Path, gradnas: Any) -> None:
    (finished / "model.py").write_text("mine = 1\n")
    outcome = gradnas("export", finished)
    assert outcome.code == 1
    assert f"{finished / 'model.py'} is there and was not written by an export of gradnas" in outcome.err
    assert (finished / "model.py").read_text() == "mine = 1\n"


def test_weights_of_another_run_are_not_touched(finished: Path, done: Path, gradnas: Any, tmp_path: Path) -> None:
    assert gradnas("export", finished, "--out", tmp_path / "elsewhere").code == 0
    weights = load_file(finished / "weights.safetensors")
    other = tmp_path / "other"
    other.mkdir()
    from safetensors.torch import save_file

    save_file({name: value + 1 for name, value in weights.items()}, other / "weights.safetensors")
    outcome = gradnas("export", finished, "--out", other)
    assert outcome.code == 1
    assert "weights.safetensors is there and was not written by an export" in outcome.err
    assert [path.name for path in other.iterdir()] == ["weights.safetensors"]


def test_an_unknown_format_is_a_wrong_command_line(finished: Path, gradnas: Any) -> None:
    outcome = gradnas("export", finished, "--format", "onxx")
    assert outcome.code == 2
    assert "unknown format 'onxx'. Did you mean 'onnx'?" in outcome.err
    with pytest.raises(ValueError, match="unknown format 'pt'"):
        gn.load(finished).export("pt")


def test_what_is_no_finished_run_is_refused(finished: Path, gradnas: Any, tmp_path: Path) -> None:
    outcome = gradnas("export", tmp_path / "nothing")
    assert outcome.code == 1
    assert "is not a run folder" in outcome.err
    for name in ("arch.json", "full_arch.json"):
        (finished / name).unlink()
    outcome = gradnas("export", finished)
    assert outcome.code == 1
    assert "is not finished. Continue it with `gradnas resume" in outcome.err
    assert outcome.err.count("\n") == 1


def test_the_help_names_the_formats(gradnas: Any) -> None:
    outcome = gradnas("export", "--help")
    assert outcome.code == 0
    assert "source|torch|onnx" in outcome.out
    assert "export" in gradnas("--help").out
