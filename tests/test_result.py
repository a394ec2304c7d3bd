"""Tests of ``src/gradnas/result.py``."""

import json
import runpy
import shutil
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import torch

from gradnas import Result, api
from gradnas.foundation.checksums import unseal, unseal_text
from gradnas.pipeline import experiment
from gradnas.spaces import DartsSpace

QUICK: dict[str, Any] = {"epochs": 1, "batch_size": 8, "max_steps_per_epoch": 1, "device": "cpu"}


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("result") / "run"
    space = DartsSpace(1, 8, 10, channels=2, cells=3, nodes=2, reductions=1)
    api.search(space, "digits", out=path, seed=3, **QUICK)
    return path


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory, searched: Path) -> Path:
    path = Path(shutil.copytree(searched, tmp_path_factory.mktemp("result") / "run"))
    api.retrain(path, channels=4, cells=3, **QUICK)
    return path


@pytest.fixture
def copy_of(tmp_path: Path) -> Callable[[Path], Path]:
    return lambda path: Path(shutil.copytree(path, tmp_path / "copy"))


def weights(result: Result) -> dict[str, torch.Tensor]:
    return result.model.state_dict()


# ---------------------------------------------------------------------------------------------------------- the network


def test_network_is_the_retrained_one(done: Path) -> None:
    result = Result(done)
    assert result.retrained
    assert result.model.desc.conf_model_desc != result.arch.conf_model_desc
    assert not result.model.training
    assert result.model(torch.rand(2, 1, 8, 8))[0].shape == (2, 10)


def test_network_of_a_search_is_the_found_one_with_a_warning_that_it_is_not_trained(searched: Path) -> None:
    result = Result(searched)
    assert not result.retrained
    with pytest.warns(
        UserWarning, match=r"is not retrained: .* fresh weights\. Train it with .*gradnas retrain"
    ) as seen:
        network = result.model
    assert seen[0].filename == __file__  # where the network was asked for
    assert network.desc == result.arch
    assert not network.training
    assert network(torch.rand(2, 1, 8, 8))[0].shape == (2, 10)


def test_fresh_weights_follow_from_the_seed(searched: Path, copy_of: Callable[[Path], Path]) -> None:
    other = copy_of(searched)
    config = other / "config.yaml"
    with pytest.warns(UserWarning, match="not retrained"):
        first, again = weights(Result(searched)), weights(Result(other))
    config.write_text(unseal_text(config.read_text()).replace("seed: 3", "seed: 4"))
    state = torch.default_generator.get_state()
    with pytest.warns(UserWarning, match="not retrained"):
        different = weights(Result(other))
    assert torch.equal(torch.default_generator.get_state(), state)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not all(torch.equal(first[name], different[name]) for name in first)


def test_retraining_that_has_not_ended_is_no_retrained_network(done: Path, copy_of: Callable[[Path], Path]) -> None:
    begun = copy_of(done)
    (begun / "weights.safetensors").unlink()
    with pytest.warns(UserWarning, match="not retrained"):
        assert Result(begun).model.desc == Result(begun).arch


def test_damaged_weights_are_an_error(done: Path, copy_of: Callable[[Path], Path]) -> None:
    damaged = copy_of(done)
    (damaged / "weights.safetensors").write_bytes(b"not weights")
    with pytest.raises(ValueError, match=r"weights\.safetensors does not hold the weights"):
        _ = Result(damaged).model


def test_input_shape_is_channels_height_width(tmp_path: Path) -> None:
    data = torch.utils.data.TensorDataset(torch.rand(24, 2, 6, 10), torch.arange(24) % 3)
    space = DartsSpace(2, (6, 10), 3, channels=2, cells=3, nodes=1, reductions=1)
    assert api.search(space, data, out=tmp_path / "run", **QUICK).input_shape == (2, 6, 10)


# ------------------------------------------------------------------------------------- a network for other images


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory: pytest.TempPathFactory, searched: Path) -> Path:
    """The cells found on gray digits, retrained on color images of another size with fewer classes, and not tested."""
    path = tmp_path_factory.mktemp("result") / "elsewhere"
    pictures = torch.randint(0, 256, (24, 3, 12, 10), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    data = torch.utils.data.TensorDataset(pictures, torch.arange(24) % 3)
    api.retrain(searched, train_set=data, out=path, channels=4, cells=3, **QUICK)
    return path


def test_retraining_on_other_images_gives_a_network_for_those(elsewhere: Path) -> None:
    result = Result(elsewhere)
    assert result.arch.conf_model_desc.dataset.image_shape == (1, 8, 8)
    assert result.input_shape == (3, 12, 10)
    assert result.model(torch.rand(2, *result.input_shape))[0].shape == (2, 3)


def test_network_for_other_images_leaves_with_their_normalization(elsewhere: Path, tmp_path: Path) -> None:
    result = Result(elsewhere)
    exported = result.export("source", tmp_path)
    assert "images of noise (this run used a data set object" in exported.samples
    module = runpy.run_path(str(tmp_path / "model.py"))
    pictures = torch.randint(0, 256, (4, 3, 12, 10), dtype=torch.uint8)
    mean, std = (torch.tensor(result.summary["normalization"][key]).view(-1, 1, 1) for key in ("mean", "std"))
    with torch.no_grad():
        expected = result.model((pictures / 255 - mean) / std)[0]
        torch.testing.assert_close(module["load"]()(module["prepare"](pictures)), expected)
    for wrong in (torch.zeros(2, 3, 10, 12), torch.zeros(2, 1, 12, 10), torch.zeros(3, 12, 10)):
        with pytest.raises(ValueError, match=r"images must be \(batch, 3, 12, 10\), got "):
            module["prepare"](wrong.to(torch.uint8))


def test_network_that_was_not_tested_is_retrained_all_the_same(elsewhere: Path, searched: Path, tmp_path: Path) -> None:
    assert "retrained, not tested" in repr(Result(elsewhere))
    assert "not retrained" in repr(Result(searched))
    Result(elsewhere).export("source", tmp_path)
    assert "Test accuracy: none, there was no test set" in (tmp_path / "model.py").read_text()


def test_source_of_the_untrained_network_does_not_take_the_weights_of_the_retrained_one(
    searched: Path, copy_of: Callable[[Path], Path]
) -> None:
    path = copy_of(searched)
    Result(path).export()
    module = runpy.run_path(str(path / "model.py"))
    with pytest.raises(FileNotFoundError, match="the network has not been trained"):
        module["load"]()
    api.retrain(path, channels=4, cells=3, **QUICK)
    with pytest.raises(ValueError, match="has the weights of another architecture: export that one again"):
        module["load"]()
    Result(path).export()
    runpy.run_path(str(path / "model.py"))["load"]()


def test_unknown_format_is_named_before_anything_else(searched: Path) -> None:
    with pytest.raises(ValueError, match=r"unknown format 'onx'\. Did you mean 'onnx'"):
        Result(searched).export("onx")


def test_export_does_not_fetch_a_data_set(
    done: Path, copy_of: Callable[[Path], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = copy_of(done)
    config = path / "config.yaml"
    text = unseal_text(config.read_text()).replace("source: digits", "source: MNIST")
    config.write_text(text.replace("  root: null", f"  root: {tmp_path / 'root'}"))
    asked: list[bool] = []
    load = experiment.load_with

    def watched(*args: Any, download: bool = True, **kwargs: Any) -> Any:
        asked.append(download)
        return load(*args, download=False, **kwargs)

    monkeypatch.setattr(experiment, "load_with", watched)
    assert "images of noise" in Result(path).export("source", tmp_path / "out").samples
    assert asked == [False]


# --------------------------------------------------------------------------------------------------------------- card


class Fragment(HTMLParser):
    """Elements, attributes and text; complains when elements are not closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.tags: list[str] = []
        self.words = ""
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.open.append(tag)
        self.attributes += attrs

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words += data


def test_notebook_card_has_the_numbers_and_every_edge_of_the_cells(done: Path) -> None:
    result = Result(done)
    card = Fragment(result._repr_html_())
    assert f"{result.summary['test_accuracy']:.2f} %" in card.words
    assert result.summary["genotype"] in card.words
    assert str(done / "report.html") in card.words
    drawn = [value for name, value in card.attributes if name == "data-op"]
    first = {cell.cell_type: cell for cell in reversed(result.arch.cell_descs)}.values()
    assert sorted(map(str, drawn)) == sorted(e.op_desc.name for c in first for n in c.nodes() for e in n.edges)
    assert card.tags.count("svg") == 2


def test_notebook_card_of_a_search_says_that_there_is_no_accuracy_yet(searched: Path) -> None:
    card = Fragment(Result(searched)._repr_html_())
    assert "has not been retrained yet" in card.words
    assert "svg" in card.tags


def test_notebook_card_escapes_what_the_files_say(done: Path, copy_of: Callable[[Path], Path]) -> None:
    path = copy_of(done) / "summary.json"
    hostile = "<img src=x onerror=alert(1)>"
    facts = {"dataset": hostile, "genotype": f"</code></details>{hostile}", "strategy": 'a"b'}
    path.write_text(json.dumps(unseal(json.loads(path.read_text())) | facts))
    card = Fragment(Result(path.parent)._repr_html_())
    assert "img" not in card.tags
    assert hostile in card.words
