"""Configurations to YAML and back, presets, and wrong files."""

from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gradnas.arch.published import DARTS_V2
from gradnas.config import (
    BaselineConf,
    ComponentConf,
    DataConf,
    RetrainConf,
    RunConf,
    SearchConf,
    from_values,
    from_yaml,
    load_config,
    load_preset,
    preset_names,
    preset_text,
    to_yaml,
    values_of,
)
from gradnas.spaces import DartsSpace
from gradnas.supergraph import Model
from gradnas.training import OptimConf

# ---------------------------------------------------------------------------------------------------------- round trip

TEXT = st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]), min_size=1, max_size=12)
FLOATS = st.floats(0, 0.9, allow_nan=False)
PLAIN = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-(2**63), 2**63 - 1), st.floats(allow_nan=False), TEXT),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(TEXT, inner, max_size=3)),
    max_leaves=5,
)
COMPONENTS = st.builds(
    ComponentConf,
    name=st.from_regex(r"[a-z]{1,5}(\.[A-Z][a-z]{0,4})?", fullmatch=True),
    options=st.dictionaries(TEXT, PLAIN, max_size=3),
)
KINDS = st.one_of(
    st.fixed_dictionaries({"name": st.just("sgd"), "momentum": st.none() | FLOATS}),
    st.fixed_dictionaries({"name": st.sampled_from(["adam", "adamw", "a.b.C"])}),
)
SCHEDULES = st.one_of(
    st.fixed_dictionaries({"schedule": st.sampled_from(["cosine", "onecycle"]), "lr_min": st.floats(0, 1e-12)}),
    st.fixed_dictionaries({"schedule": st.just("constant")}),
    st.fixed_dictionaries({"schedule": st.just("exponential"), "factor": st.none() | st.floats(0.1, 1)}),
    st.fixed_dictionaries(
        {"schedule": st.just("multistep"), "milestones": st.sampled_from([(), (0.25, 0.5), (1, 30, 31)])}
    ),
)
OPTIMIZERS = st.builds(
    lambda kind, schedule, **more: OptimConf(**kind, **schedule, **more),
    kind=KINDS,
    schedule=SCHEDULES,
    lr=st.floats(1e-12, 10),
    weight_decay=FLOATS,
    options=st.dictionaries(TEXT, PLAIN, max_size=3),
    warmup_epochs=st.integers(0, 5),
)
COUNTS = st.integers(1, 10**6)
EPOCHS = st.integers(6, 10**6)  # more than any warm-up above
SEARCHES = st.builds(
    SearchConf,
    epochs=EPOCHS,
    optimizer=OPTIMIZERS,
    val_ratio=FLOATS,
    grad_clip=FLOATS,
    precision=st.sampled_from(["float32", "bfloat16"]),
    finalizers=st.sampled_from(["default", "random"]),
    augment_val_batches=st.booleans(),
    max_steps_per_epoch=st.none() | COUNTS,
)
RETRAININGS = st.builds(
    RetrainConf,
    epochs=EPOCHS,
    optimizer=OPTIMIZERS,
    drop_path=FLOATS,
    channels=COUNTS,
    ema=FLOATS,
    mixup=FLOATS,
    cutmix=FLOATS,
    stems=st.sampled_from(["space", "imagenet"]),
)
SOURCES = st.sampled_from(["digits", "my set.zip", "123", "1e3", "true", "ümlaut/ ö", "a: b", "#x", "-", "[1]", "null"])
RUNS = st.builds(
    RunConf,
    data=st.builds(DataConf, source=st.none() | SOURCES, image_size=st.none() | COUNTS, flip=st.none() | st.booleans()),
    space=COMPONENTS,
    strategy=COMPONENTS,
    search=SEARCHES,
    retrain=RETRAININGS,
    baseline=st.builds(BaselineConf, samples=st.integers(0, 99)),
    seed=st.integers(0, 2**40),
    device=st.sampled_from(["auto", "cpu", "cuda:1"]),
)


@given(conf=RUNS)
@settings(max_examples=25, deadline=None)
def test_yaml_round_trip(conf: RunConf) -> None:
    assert from_yaml(to_yaml(conf)) == conf


@pytest.mark.parametrize("value", ["3", "1e3", "1e-3", "+1E5", "null", "true", "[1]", "a: b", "~", "", "2020-01-01"])
def test_text_in_options_stays_text(value: str) -> None:
    options = {"o": value, "list": [value]}
    optimizer = OptimConf(name="a.B", options=options)
    conf = RunConf(space=ComponentConf(options=options), retrain=RetrainConf(optimizer=optimizer))
    assert from_yaml(to_yaml(conf)).space.options == options
    assert from_yaml(to_yaml(conf)).retrain.optimizer.options == options


def test_tuples_in_options_become_lists() -> None:
    conf = RunConf(strategy=ComponentConf(options={"betas": (0.5, 0.999)}))
    assert from_yaml(to_yaml(conf)).strategy.options == {"betas": [0.5, 0.999]}


def test_nothing_is_the_default() -> None:
    assert from_yaml("") == from_yaml("# only a comment") == from_values({}) == RunConf()


def test_an_exponent_without_a_point_is_a_number() -> None:
    conf = from_yaml("search: {optimizer: {lr: 1e-2}}\nstrategy: {options: {lr: 3e-4, eps: 1E5, text: '1e-2'}}")
    assert conf.search.optimizer.lr == 0.01
    assert conf.strategy.options == {"lr": 3e-4, "eps": 1e5, "text": "1e-2"}


def test_values_given_are_not_changed() -> None:
    values = {"space": {"options": {"channels": 8}}, "search": {"epochs": 3}}
    conf = from_values(values)
    conf.space.options["channels"] = 9
    assert values == {"space": {"options": {"channels": 8}}, "search": {"epochs": 3}}


def test_values_of_fills_nothing_in() -> None:
    assert values_of("search: {epochs: 3}") == {"search": {"epochs": 3}}


# ------------------------------------------------------------------------------------------------------------- presets


@pytest.mark.parametrize("name", preset_names())
def test_every_preset_loads_and_begins_with_a_sentence(name: str) -> None:
    assert from_yaml(to_yaml(load_preset(name))) == load_preset(name)
    assert preset_text(name).startswith("# ")


def test_an_unknown_preset_names_the_nearest() -> None:
    with pytest.raises(ValueError, match=r"unknown preset 'darts_cifar10'. Did you mean 'darts-cifar10'\?"):
        load_preset("darts_cifar10")


def test_darts_on_cifar10_is_the_published_recipe() -> None:
    """Contracts, section 19.1."""
    conf = load_preset("darts-cifar10")
    search, retrain = conf.search, conf.retrain
    assert (search.epochs, retrain.epochs) == (50, 600)
    assert (search.batch_size, retrain.batch_size, retrain.eval_batch_size) == (64, 96, 1024)
    assert (search.val_ratio, retrain.val_ratio) == (0.5, 0.0)
    assert conf.space == ComponentConf(name="darts", options={"channels": 16, "cells": 8, "nodes": 4, "reductions": 2})
    assert (retrain.channels, retrain.cells) == (36, 20)
    published = {"name": "sgd", "lr": 0.025, "momentum": 0.9, "weight_decay": 3e-4, "nesterov": False}
    assert search.optimizer == OptimConf(**published, schedule="cosine", lr_min=0.001)
    assert retrain.optimizer == OptimConf(**published, schedule="cosine", lr_min=0.0)
    options = {"order": 2, "lr": 3e-4, "betas": [0.5, 0.999], "weight_decay": 1e-3}
    assert conf.strategy == ComponentConf(name="darts", options=options)
    assert (search.grad_clip, retrain.grad_clip) == (5.0, 5.0)
    assert (search.aux_weight, retrain.aux_weight) == (0.0, 0.4)
    assert (search.drop_path, retrain.drop_path) == (0.0, 0.2)
    assert (search.cutout, retrain.cutout) == (0, 16)
    assert (search.label_smoothing, retrain.label_smoothing) == (0.0, 0.0)
    assert (search.checkpoint_every_epochs, retrain.checkpoint_every_epochs) == (1, 10)
    assert (conf.data.source, conf.data.crop_padding, conf.data.flip, conf.data.image_size) == (
        "cifar10",
        4,
        True,
        None,
    )
    assert conf.seed == 2


def test_xnas_evaluates_by_its_own_recipe() -> None:
    conf, plain = load_preset("xnas-cifar10-eval"), load_preset("xnas-cifar10")
    retrain = conf.retrain
    assert (retrain.epochs, retrain.batch_size, retrain.channels, retrain.cells) == (1500, 96, 36, 20)
    assert (retrain.policy, retrain.cutout, retrain.label_smoothing) == ("autoaugment", 16, 0.1)
    assert (retrain.drop_path, retrain.aux_weight, retrain.grad_clip) == (0.2, 0.4, 5.0)
    assert retrain.optimizer == OptimConf(lr=0.025, momentum=0.9, weight_decay=3e-4, nesterov=True)
    assert plain.retrain == load_preset("darts-cifar10").retrain
    assert plain.search == conf.search


def test_darts_on_imagenet_is_the_published_evaluation() -> None:
    """Numbers, section 5.3; contracts, section 19.2."""
    conf = load_preset("darts-imagenet")
    retrain = conf.retrain
    assert conf.data.source == "imagenet"
    assert (retrain.epochs, retrain.batch_size, retrain.channels, retrain.cells) == (250, 128, 48, 14)
    assert (retrain.label_smoothing, retrain.aux_weight, retrain.drop_path) == (0.1, 0.4, 0.0)
    assert (retrain.grad_clip, retrain.cutout, retrain.policy) == (5.0, 0, "none")
    published = OptimConf(name="sgd", lr=0.1, momentum=0.9, weight_decay=3e-5, schedule="exponential", factor=0.97)
    assert retrain.optimizer == published
    # found on CIFAR-10, grown for ImageNet
    space = DartsSpace(3, 224, 1000, channels=16, cells=8)
    desc = space.grow(space.from_genotype(DARTS_V2), **retrain.network())
    assert [stem.name for stem in desc.model_stems] == ["stem_conv3x3_s4", "stem_conv3x3_s4s2"]
    assert [stem.conv.ch_out for stem in desc.model_stems] == [48, 48]
    assert desc.cell_descs[-1].out_shape == (4 * 4 * 48, 7, 7)
    (tower,) = (tower for tower in desc.aux_tower_descs if tower is not None)
    assert (tower.stride, tower.second_norm) == (2, False)
    with torch.device("meta"):
        model = Model(desc, affine=True)
    params = sum(p.numel() for name, p in model.named_parameters() if not name.startswith("aux_towers."))
    assert round(params / 1e6, 1) == 4.7
    assert isinstance(model.aux_towers["9"].get_submodule("features.4"), torch.nn.Identity)


def test_fast_recipe_is_a_modern_one_in_a_fifth_of_the_epochs() -> None:
    conf, published = load_preset("fast-cifar10"), load_preset("darts-cifar10")
    retrain = conf.retrain
    assert retrain.epochs * 5 == published.retrain.epochs
    assert (retrain.channels, retrain.cells) == (published.retrain.channels, published.retrain.cells)
    assert retrain.optimizer.schedule == "onecycle"
    assert retrain.precision == "bfloat16"
    assert min(retrain.ema, retrain.mixup, retrain.cutmix, retrain.label_smoothing) > 0
    assert retrain.policy in ("randaugment", "trivialaugment")
    assert retrain.batch_size > published.retrain.batch_size
    assert conf.search == published.search


def test_a_schedule_of_ones_own_does_not_meet_the_end_of_the_default_one() -> None:
    assert from_yaml("search: {optimizer: {lr: 0.1}}").search.optimizer == OptimConf(lr=0.1, lr_min=0.001)
    conf = from_yaml("search: {optimizer: {schedule: constant}}").search.optimizer
    assert conf == OptimConf(schedule="constant", lr_min=0.0)
    with pytest.raises(ValueError, match=r"lr_min=0.002 would have no effect with schedule='constant'"):
        from_yaml("search: {optimizer: {schedule: constant, lr_min: 0.002}}")


# --------------------------------------------------------------------------------------------------------- wrong files


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("serch: {}", r"f.yaml: unknown key 'serch'. Did you mean 'search'\?"),
        ("search: {epoch: 3}", r"f.yaml: unknown key 'search.epoch'. Did you mean 'epochs'\?"),
        ("search: {optimizer: {lrate: 3}}", r"unknown key 'search.optimizer.lrate'. Did you mean"),
        ("1: 2", "unknown key '1'"),
        ("search: {epochs: x}", "^f.yaml: search.epochs must be a whole number, got 'x'.$"),
        ("search: {epochs: 1.5}", "search.epochs must be a whole number, got '1.5'"),
        ("search: {optimizer: {lr: fast}}", "search.optimizer.lr must be a number, got 'fast'"),
        ("search: {precision: half}", "search.precision must be one of 'float32', 'bfloat16', got 'half'"),
        ("data: {flip: maybe}", "data.flip must be true or false or null, got 'maybe'"),
        ("data: {source: 12}", "data.source must be text or null, got '12'"),
        ("seed: true", "seed must be a whole number, got 'True'"),
        ("search: {epochs: 0}", "^f.yaml: search: epochs of the search must be at least 1, got 0.$"),
        ("retrain: {optimizer: {lr: -1}}", "f.yaml: retrain: optimizer: optimizer lr must be positive, got -1"),
        ("search: 3", "search must be a mapping of settings, got 3"),
        ("search: null", "search must be a mapping of settings, got None"),
        ("space: darts", "space must be a mapping of settings, got 'darts'"),
        ("search: {optimizer: sgd}", "search.optimizer must be a mapping of settings, got 'sgd'"),
        ("space: {options: [1]}", r"space.options must be a mapping of settings, got \[1\]"),
        ("space: {options: {1: 2}}", r"the keys of space.options must be names, got \[1\]"),
        ("[1]", "f.yaml must be a mapping of settings, got list"),
        ("a: b: c", "f.yaml is not YAML: mapping values are not allowed here"),
        ("search: {epochs: 1, epochs: 2}", "the key 'epochs' comes twice"),
        ("seed: 1\nseed: 2", "the key 'seed' comes twice"),
        ("[" * 3000, "f.yaml is not YAML: "),
    ],
)
def test_a_wrong_file_says_where_and_what(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        from_yaml(text, "f.yaml")
    assert "\n" not in str(caught.value)


def test_no_part_of_a_file_names_another_file(tmp_path: Path) -> None:
    (tmp_path / "other.yaml").write_text("epochs: 3")
    with pytest.raises(ValueError, match="search must be a mapping"):
        from_yaml(f"search: {tmp_path / 'other.yaml'}")


@pytest.mark.parametrize(
    "text",
    [
        "!!python/object/apply:os.mkdir [{path}]",
        "seed: !!python/object/apply:os.mkdir [{path}]",
        "space: {{options: {{o: !!python/object/apply:os.mkdir [{path}]}}}}",
        "retrain: {{optimizer: {{options: {{o: {{class_path: os.mkdir, init_args: {{path: {path}}}}}}}}}}}",
        "retrain: {{optimizer: {{class_path: os.mkdir, init_args: {{path: {path}}}}}}}",
        "space: {{options: {{o: {{class_path: os.mkdir, init_args: {{path: {path}}}}}}}}}",
        "strategy: {{options: {{class_path: os.mkdir, init_args: {{path: {path}}}}}}}",
        "data: {{class_path: os.mkdir, init_args: {{path: {path}}}}}",
        "data: {{source: {{class_path: os.mkdir, init_args: {{path: {path}}}}}}}",
    ],
)
def test_nothing_in_a_file_is_executed(text: str, tmp_path: Path) -> None:
    made = tmp_path / "made"
    with suppress(ValueError):
        from_yaml(text.format(path=made))
    assert not made.exists()


def test_a_file_is_read_or_named(tmp_path: Path) -> None:
    path = tmp_path / "my.yaml"
    with pytest.raises(FileNotFoundError, match=r"no configuration at .*my\.yaml"):
        load_config(path)
    path.write_text("seed: 4")
    assert load_config(str(path)).seed == 4
    path.write_bytes(b"seed: \xff\xfe")
    with pytest.raises(ValueError, match=r"my\.yaml is not YAML: it is no UTF-8 text"):
        load_config(path)


def test_a_file_above_the_limit_is_refused_unread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my.yaml").write_text("seed: 4")
    monkeypatch.setattr("gradnas.config.loading.MAX_CHARACTERS", 1)
    with pytest.raises(ValueError, match=r"my\.yaml is not YAML: it has 7 bytes, at most 4 are read\.$"):
        load_config(tmp_path / "my.yaml")


def test_from_values_checks_keys_too() -> None:
    values: dict[str, Any] = {"search": {"epoch": 1}}
    with pytest.raises(ValueError, match=r"settings: unknown key 'search\.epoch'"):
        from_values(values, "settings")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("seed: '12'", "seed must be a whole number, got '12'"),
        ("seed: 1:30", "seed must be a whole number, got '1:30'"),
        ("tensorboard: 'yes'", "tensorboard must be true or false, got 'yes'"),
        ("search: {optimizer: {lr: '1e-3'}}", "search.optimizer.lr must be a number, got '1e-3'"),
        ("device: null", "device must be text, got null"),
        ("search: {epochs: ~}", "search.epochs must be a whole number, got null"),
        ("search: {optimizer: {lr: 1" + "0" * 400 + "}}", "more than 64 bits"),
        ("space: {options: &a {x: *a}}", "an alias stands for what is around it"),
    ],
)
def test_text_is_no_number_and_null_no_value(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        from_yaml(text)
