"""Tests of ``src/gradnas/arch/settings.py``."""

from dataclasses import FrozenInstanceError
from typing import Any

import pytest

from gradnas.arch import CellConf, DatasetConf, ModelDescConf, Params, StemsConf

DATASET = DatasetConf(channels=3, image_size=(32, 24), n_classes=10)


def test_defaults_are_those_of_the_darts_search_network() -> None:
    conf = ModelDescConf(dataset=DATASET)
    assert (conf.n_cells, conf.n_reductions, conf.cell.n_nodes, conf.max_final_edges) == (8, 2, 4, 2)
    assert conf.cell.cell_post_op == "concate_channels"
    stems = conf.model_stems
    assert (stems.ops, stems.init_node_ch, stems.stem_multiplier) == (("stem_conv3x3", "stem_conv3x3"), 16, 3)
    assert (conf.model_post_op, conf.aux_weight, conf.aux_tower_stride) == ("pool_adaptive_avg2d", 0.0, None)


def test_image_shape_has_channels_first() -> None:
    assert DATASET.image_shape == (3, 32, 24)


def test_one_number_means_a_square_image() -> None:
    assert DatasetConf(channels=3, image_size=28, n_classes=10).image_size == (28, 28)  # type: ignore[arg-type]


def test_lists_from_a_file_are_accepted() -> None:
    assert DatasetConf(channels=3, image_size=[32, 24], n_classes=10) == DATASET  # type: ignore[arg-type]
    assert StemsConf(ops=["a", "b"]).ops == ("a", "b")  # type: ignore[arg-type]
    assert ModelDescConf(dataset=DATASET, params={"a": [1]}).params == Params(a=(1,))  # type: ignore[arg-type]


def test_settings_are_frozen_and_hashable() -> None:
    conf = ModelDescConf(dataset=DATASET)
    with pytest.raises(FrozenInstanceError):
        conf.n_cells = 3  # type: ignore[misc]  # what the test is about
    assert hash(conf) == hash(ModelDescConf(dataset=DATASET))


def test_settings_take_keywords_only() -> None:
    with pytest.raises(TypeError, match="positional"):
        CellConf(4)  # type: ignore[misc]


def test_unknown_setting_is_refused() -> None:
    with pytest.raises(TypeError, match="n_node"):
        CellConf(n_node=4)  # type: ignore[call-arg]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"channels": 0}, "channels of the images must be at least 1, got 0"),
        ({"image_size": (32,)}, r"image_size must be one number or \(height, width\), got \(32,\)"),
        ({"image_size": (32, 0)}, "image_size must be at least 1, got 0"),
        ({"n_classes": 1}, "n_classes must be at least 2, got 1"),
    ],
)
def test_impossible_data_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DatasetConf(**{"channels": 3, "image_size": (32, 32), "n_classes": 10, **changes})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n_cells": 0}, "n_cells must be at least 1, got 0"),
        ({"n_reductions": -1}, "n_reductions must be at least 0, got -1"),
        ({"max_final_edges": -1}, "max_final_edges must be at least 0, got -1"),
        ({"aux_weight": -0.1}, "aux_weight must be at least 0 and finite, got -0.1"),
        ({"aux_weight": float("nan")}, "aux_weight must be at least 0 and finite, got nan"),
        ({"aux_weight": float("inf")}, "aux_weight must be at least 0 and finite, got inf"),
        ({"aux_tower_stride": 0}, "aux_tower_stride must be at least 1, got 0"),
    ],
)
def test_impossible_model_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ModelDescConf(dataset=DATASET, **changes)


def test_cell_without_nodes_is_refused() -> None:
    with pytest.raises(ValueError, match="n_nodes must be at least 1, got 0"):
        CellConf(n_nodes=0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"ops": ("stem_conv3x3",)}, r"a model has two stems, got ops=\('stem_conv3x3',\)"),
        ({"init_node_ch": 0}, r"channels \(init_node_ch\) must be at least 1, got 0"),
        ({"stem_multiplier": 0}, "stem_multiplier must be at least 1, got 0"),
    ],
)
def test_impossible_stems_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        StemsConf(**changes)
