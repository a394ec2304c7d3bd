"""Networks by name, from torchvision, and by factories of the user's."""

import functools
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from gradnas.arch import DatasetConf
from gradnas.config import ManualConf, ModelConf, RunConf, build_model, from_yaml, load_preset, model_name, to_yaml
from gradnas.models import MODELS, CifarResNet, ShakeResNet

DATA = DatasetConf(channels=1, image_size=(8, 10), n_classes=3)
FACTORIES = """
from __future__ import annotations
import torch
from torch import nn

calls = []

class Flat(nn.Sequential):
    def __init__(self, n_classes: int, in_channels: int, image_size: tuple, width: int = 4):
        self.facts = None
        height, wide = image_size
        super().__init__(nn.Flatten(), nn.Linear(in_channels * height * wide, width), nn.Linear(width, n_classes))

def by_other_name(num_classes: int, **options) -> nn.Sequential:
    calls.append(options)
    return nn.Sequential(nn.LazyConv2d(num_classes, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten())

class Nested:
    @staticmethod
    def inside(n_classes) -> torch.nn.Module:
        return nn.Linear(2, n_classes)

def unannotated(n_classes):
    calls.append("unannotated")
    return nn.Linear(2, n_classes)

def liar(n_classes) -> nn.Module:
    return "no module"

def wrong(n_classes) -> Missing:
    calls.append("wrong")

def refuses(n_classes) -> nn.Module:
    raise TypeError("three classes are too few")

def fails(n_classes) -> nn.Module:
    return {}["width"]

number = 3
"""


@pytest.fixture
def factories(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], object]:
    """A module of somebody's factories, importable as ``their_nets``."""
    (tmp_path / "their_nets.py").write_text(FACTORIES, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(__import__("sys").modules, "their_nets", raising=False)
    return lambda name: getattr(__import__("their_nets"), name)


def test_a_network_of_the_zoo_takes_channels_and_classes_from_the_data() -> None:
    model = build_model(ModelConf(name="resnet20", options={"width": 4}), DATA)
    assert isinstance(model, CifarResNet)
    assert (model.stem.in_channels, model.stem.out_channels, model.linear.out_features) == (1, 4, 3)


def test_a_network_of_torchvision() -> None:
    model = build_model(ModelConf(name="torchvision.resnet18", options={"small_images": True}), DATA)
    assert model(torch.randn(2, 1, 8, 10)).shape == (2, 3)


@pytest.mark.parametrize("name", ["their_nets:Flat", "their_nets.Flat"])
def test_a_class_gets_the_facts_that_it_names_and_its_options(factories: Callable[[str], object], name: str) -> None:
    model = build_model(ModelConf(name=name, options={"width": 5}), DATA)
    assert model(torch.randn(2, 1, 8, 10)).shape == (2, 3)
    assert model[1].out_features == 5


def test_a_function_may_say_num_classes_and_take_any_option(factories: Callable[[str], object]) -> None:
    build_model(ModelConf(name="their_nets:by_other_name", options={"depth": 3}), DATA)
    assert factories("calls") == [{"depth": 3}]  # and no fact that it does not name


def test_a_factory_may_lie_deeper_in_a_module(factories: Callable[[str], object]) -> None:
    assert build_model(ModelConf(name="their_nets:Nested.inside"), DATA).out_features == 3


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("resnet21", {}, r"unknown model 'resnet21'. Did you mean 'resnet\d+'.*Or give one of torchvision"),
        (":resnet20", {}, "unknown model ':resnet20'"),
        ("resnet20", {"depth": 3}, r"model 'resnet20' has no option 'depth'.*Known: width"),
        ("resnet20", {"n_classes": 3}, "model option 'n_classes' comes from the data set and cannot be set"),
        ("their_nets:Flat", {"num_classes": 3}, "model option 'num_classes' comes from the data set"),
        ("torchvision.resnet19", {}, "torchvision has no classifier 'resnet19'"),
        ("no_such_package:Net", {}, "model 'no_such_package:Net' cannot be imported: No module named"),
        ("their_nets:Net", {}, "model 'their_nets:Net' cannot be imported: module 'their_nets' has no attribute"),
        ("their_nets:number", {}, "is no class of torch.nn.Module, nor a function that says to return one"),
        ("their_nets:unannotated", {}, r"Annotate it: def unannotated\(n_classes: int\) -> torch.nn.Module"),
        ("their_nets:wrong", {}, "nor a function that says to return one"),
        ("their_nets:liar", {}, "model 'their_nets:liar' gave a str, which is no torch.nn.Module"),
        ("their_nets:refuses", {}, "model 'their_nets:refuses' with options {}: three classes are too few"),
        ("their_nets:fails", {}, "model 'their_nets:fails' with options {}: KeyError: 'width'"),
        ("os:system", {"command": "touch here"}, "model 'os:system' is no class"),
        ("builtins.eval", {}, "model 'builtins.eval' is no class"),
        ("subprocess:Popen", {"args": ["touch", "here"]}, "model 'subprocess:Popen' is no class"),
    ],
)
def test_wrong_models(
    factories: Callable[[str], object],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    options: dict[str, object],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=message):
        build_model(ModelConf(name=name, options=options), DATA)
    assert not (tmp_path / "here").exists(), "what is no factory must not be called"
    assert factories("calls") == []


def test_a_factory_is_named_by_where_it_stands(factories: Callable[[str], object]) -> None:
    assert model_name("anything") == "anything"
    assert model_name(ShakeResNet) == "gradnas.models.shake_networks:ShakeResNet"
    assert model_name(factories("Flat")) == "their_nets:Flat"  # type: ignore[arg-type]
    inside = factories("Nested").inside  # type: ignore[attr-defined]
    assert model_name(inside) == "their_nets:Nested.inside"


def test_what_cannot_be_built_again_has_no_name() -> None:
    def local(n_classes: int) -> nn.Module:
        return nn.Linear(2, n_classes)

    with pytest.raises(TypeError, match=r"a model is given by its name or as a factory, got a Linear"):
        model_name(nn.Linear(2, 2))
    with pytest.raises(TypeError, match=r"got a int"):
        model_name(3)  # type: ignore[arg-type]
    stranger = functools.wraps(CifarResNet)(local)  # says to be what it is not
    for factory in (local, lambda n_classes: local(n_classes), MODELS["resnet20"].build, stranger):
        with pytest.raises(TypeError, match=r"cannot be imported as .*Define it at the top of a module"):
            model_name(factory)


def test_a_factory_of_the_program_that_runs_is_for_that_program_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def build(n_classes: int) -> nn.Module:
        return nn.Linear(2, n_classes)

    build.__module__, build.__qualname__ = "__main__", "build"
    with monkeypatch.context() as program:
        program.setattr(sys.modules["__main__"], "build", build, raising=False)
        with pytest.warns(UserWarning, match=r"build is defined in the program that runs.*Put it into a module"):
            name = model_name(build)
        assert isinstance(build_model(ModelConf(name=name), DATA), nn.Linear)
    with pytest.raises(ValueError, match=r"build was defined in the program that made the run, which is not this one"):
        build_model(ModelConf(name=name), DATA)


def test_a_configuration_that_names_a_model_begins_with_the_settings_of_manual_training() -> None:
    conf = from_yaml("model: {name: resnet20}\nretrain: {batch_size: 32}")
    assert conf.retrain == ManualConf(batch_size=32).retraining()
    assert (conf.retrain.epochs, conf.retrain.grad_clip, conf.retrain.drop_path) == (200, 0.0, 0.0)
    assert (conf.retrain.optimizer.lr, conf.retrain.optimizer.weight_decay) == (0.0333, 3e-4)
    assert from_yaml(to_yaml(conf)) == conf
    assert from_yaml("seed: 1").model == ModelConf()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("strategy: {name: xnas}", "so that settings of strategy have no effect"),
        ("space: {options: {cells: 5}}", "settings of space have no effect"),
        ("search: {epochs: 3}", "settings of search have no effect"),
        ("baseline: {samples: 3}", "settings of baseline have no effect"),
        ("grid: {max_cells: 3}", "settings of grid have no effect"),
        ("retrain: {channels: 8}", "retrain.channels is a setting of found networks, and 'resnet20' is none"),
        ("retrain: {cells: 8}", "retrain.cells is a setting of found networks"),
        ("retrain: {stems: imagenet}", "retrain.stems is a setting of found networks"),
        ("retrain: {drop_path: 0.2}", "retrain.drop_path=0.2 is for networks of cells"),
        ("retrain: {epochs: 0}", "the model 'resnet20' is trained, not searched: set retrain.epochs"),
    ],
)
def test_what_a_run_without_a_search_would_ignore_is_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        from_yaml(f"model: {{name: resnet20}}\n{text}")


def test_options_without_a_model_are_refused() -> None:
    with pytest.raises(ValueError, match=r"model.name names none"):
        from_yaml("model: {options: {width: 3}}")


def test_models_are_told_apart() -> None:
    one, other = ModelConf(name="a", options={"x": 1, "y": 2}), ModelConf(name="a", options={"y": 2, "x": 1})
    assert one.identity == other.identity
    assert one.identity not in (ModelConf(name="a").identity, ModelConf(name="b", options={"x": 1, "y": 2}).identity)


@pytest.mark.parametrize(
    ("name", "model", "recipe"),
    [
        ("resnet20-cifar10", "resnet20", (200, 128, 0.1, 1e-4, "multistep", (0.5, 0.75), False)),
        ("shakeshake-cifar10", "shakeshake26_2x32d", (1800, 128, 0.2, 1e-4, "cosine", (), True)),
        ("pyramidnet-cifar10", "pyramidnet110_a48", (300, 128, 0.1, 1e-4, "multistep", (0.5, 0.75), True)),
    ],
)
def test_presets_have_the_recipes_of_the_papers(name: str, model: str, recipe: tuple[object, ...]) -> None:
    conf: RunConf = load_preset(name)
    training, optimizer = conf.retrain, conf.retrain.optimizer
    assert (conf.model.name, conf.data.source) == (model, "cifar10")
    sizes = (training.epochs, training.batch_size, optimizer.lr, optimizer.weight_decay)
    assert (*sizes, optimizer.schedule, optimizer.milestones, optimizer.nesterov) == recipe
    assert (conf.data.crop_padding, conf.data.flip, training.grad_clip, training.drop_path) == (4, True, 0.0, 0.0)
    build_model(conf.model, DATA)
