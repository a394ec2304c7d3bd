"""Tests of ``src/gradnas/cli/given_network.py``: what of a preset or file counts for a network that options name."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gradnas.config import BaselineConf, GridConf, RunConf, SearchConf, load_preset, preset_names

Resolved = Callable[..., RunConf]


@pytest.fixture
def resolved(gradnas: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> Resolved:
    """The configuration that a command would run."""
    given: list[RunConf] = []

    def stop(conf: RunConf, **_: Any) -> None:
        given.append(conf)
        raise ValueError("this far.")

    monkeypatch.setattr("gradnas.api.run", stop)

    def resolve(*argv: object) -> RunConf:
        done = gradnas(*argv)
        assert done.err == "gradnas: error: this far.\n"
        return given.pop()

    return resolve


@pytest.mark.parametrize("preset", preset_names())
def test_any_preset_trains_a_model_by_its_recipe(resolved: Resolved, preset: str) -> None:
    conf, recipe = resolved("train", "resnet32", "--preset", preset), load_preset(preset)
    assert (conf.model.name, conf.model.options) == ("resnet32", {})
    assert (conf.retrain.drop_path, conf.retrain.aux_weight, conf.retrain.stems) == (0.0, 0.0, "space")
    same = ("epochs", "batch_size", "policy", "mixup", "ema", "label_smoothing", "precision", "optimizer", "cutout")
    assert {name: getattr(conf.retrain, name) for name in same} == {
        name: getattr(recipe.retrain, name) for name in same
    }
    assert conf.data == recipe.data
    assert conf == resolved("run", "--model", "resnet32", "--preset", preset)


@pytest.mark.parametrize("preset", preset_names())
def test_any_preset_retrains_a_given_architecture(resolved: Resolved, preset: str) -> None:
    conf, recipe = resolved("run", "--preset", preset, "--arch", "DARTS_V2"), load_preset(preset)
    assert (conf.arch, conf.model.name) == ("DARTS_V2", None)
    assert (conf.search, conf.baseline, conf.grid) == (SearchConf(), BaselineConf(), GridConf())
    assert conf.retrain == recipe.retrain
    assert conf.space.name == recipe.space.name
    assert conf.space.options.keys() <= {"reductions"}


def test_options_of_the_model_of_a_preset_stay_with_that_model(resolved: Resolved) -> None:
    preset = ("--preset", "shakeshake-cifar10")
    assert resolved("train", "resnet20", *preset).model.options == {}
    assert resolved("train", "shakeshake26_2x32d", *preset).model.options == {"mode": "shake-shake-image"}
    named = resolved("train", "shakeshake26_2x64d", *preset, "--model.options.mode", "even-even-batch")
    assert named.model.options == {"mode": "even-even-batch"}


def test_what_options_say_counts(resolved: Resolved) -> None:
    conf = resolved("train", "resnet20", "--preset", "darts-cifar10", "--retrain.aux_weight", 0.3, "--epochs", 7)
    assert (conf.retrain.aux_weight, conf.retrain.epochs, conf.retrain.cutout) == (0.3, 7, 16)
    given = resolved("run", "--preset", "demo", "--arch", "DARTS_V2", "--space.options.reductions", 0, "--max-steps", 2)
    assert given.space.options == {"reductions": 0}
    assert (given.search.max_steps_per_epoch, given.retrain.max_steps_per_epoch) == (2, 2)


def test_a_file_is_treated_as_a_preset(resolved: Resolved) -> None:
    text = "retrain: {epochs: 3, channels: 5, inherit_weights: true}\ngrid: {max_cells: 9}\nseed: 4\narch: PNASNet\n"
    Path("mine.yaml").write_text(text)
    model = resolved("train", "resnet20", "--config", "mine.yaml")
    assert (model.retrain.epochs, model.seed, model.arch) == (3, 4, None)
    arch = resolved("run", "--config", "mine.yaml", "--arch", "DARTS_V2")
    assert (arch.retrain.channels, arch.retrain.inherit_weights, arch.arch) == (5, False, "DARTS_V2")


def test_without_such_an_option_settings_are_kept(resolved: Resolved) -> None:
    assert resolved("run", "--preset", "demo") == load_preset("demo")
    assert resolved("run", "--preset", "demo", "--arch", "null", "--model.name", "null") == load_preset("demo")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("train", "resnet20", "--retrain.drop_path", "0.2"), "retrain.drop_path=0.2 is for networks of cells"),
        (("run", "--preset", "demo", "--arch", "DARTS_V2", "--baseline.samples", "2"), "settings of baseline have no"),
        (("run", "--preset", "demo", "--arch", "DARTS_V2", "--space.options.cells", "4"), "space.options.cells has no"),
        (("run", "--preset", "demo", "--arch", "DARTS_V2", "--model", "resnet20"), "cannot both be trained"),
    ],
)
def test_options_that_do_not_fit_are_refused(
    gradnas: Callable[..., Any], arguments: tuple[str, ...], message: str
) -> None:
    done = gradnas(*arguments)
    assert done.code == 1
    assert message in done.err
    assert not Path("runs").exists()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ("arch: DARTS_V2", "arch names the architecture 'DARTS_V2', so that nothing is searched. Use `gradnas run"),
        ("model: {name: resnet20}", "model.name names the model 'resnet20', so that nothing is searched. Use `gradnas"),
        ("arch: DARTS_V2\nretrain: {epochs: 3}", "--config 'my file.yaml'`, or gradnas retrain"),
        ("model: {name: resnet20}\nretrain: {epochs: 3}", "--config 'my file.yaml'`, or gradnas train"),
    ],
)
def test_a_search_refuses_a_network_that_is_given(gradnas: Callable[..., Any], settings: str, message: str) -> None:
    Path("my file.yaml").write_text(settings)
    done = gradnas("search", "--config", "my file.yaml")
    assert done.code == 2
    assert message in done.err
    assert not Path("runs").exists()


def test_the_help_says_so(gradnas: Callable[..., Any]) -> None:
    words = {name: " ".join(gradnas(name, "--help").out.split()) for name in ("run", "train", "retrain")}
    assert (
        "Where --arch or --model names the network to train, what a preset or file says of searching is" in words["run"]
    )
    assert (
        "what networks of cells need: channels, cells, stems, inherit_weights, drop_path, aux_weight" in words["train"]
    )
    assert "gradnas run --arch NAME --preset PRESET --data.image_size 64" in words["retrain"]
