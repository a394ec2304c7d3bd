"""Tests of ``src/gradnas/arch/limits.py``: sizes are refused where they are said, before anything of them is made."""

import json
from collections.abc import Callable
from typing import Any

import pytest

import gradnas as gn
from gradnas.arch import ModelDesc
from gradnas.arch.limits import MAX_CELLS, MAX_CHANNELS, MAX_NODES


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"cells": 10**9}, "n_cells must be at most 1,000, got 1000000000"),
        ({"channels": 10**9}, r"channels \(init_node_ch\) must be at most 1,048,576"),
        ({"nodes": 10**9}, "n_nodes must be at most 100"),
        ({"cells": MAX_CELLS, "nodes": MAX_NODES}, r"n_cells 1000 times n_nodes 100\) must be at most 10,000"),
        ({"n_classes": 10**9}, "n_classes must be at most 1,048,576"),
        ({"image_size": 10**9}, "image_size must be at most 65,536"),
        ({"channels": MAX_CHANNELS}, "must be at most 1,048,576"),  # its merged cells would have more
    ],
)
def test_a_space_beyond_the_limits_is_refused_at_once(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        gn.spaces.DartsSpace(**arguments)


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        (("conf_model_desc", "n_cells"), 10**9, "n_cells must be at most 1,000"),
        (("conf_model_desc", "dataset", "channels"), 10**9, "channels of the images must be at most 1,048,576"),
        (("conf_model_desc", "aux_weight"), 10**400, "has more than 64 bits"),
        (("cell_descs", 0, "out_shape", 0), 10**9, "out_shape, C must be at most 1,048,576"),
        (("cell_descs", 0, "out_shape", 2), 10**9, "out_shape, W must be at most 65,536"),
        (("pool_op", "in_len"), 10**9, "in_len of op 'pool_adaptive_avg2d' must be at most 1,000"),
        (("pool_op", "params", "conv", "ch_in"), 10**9, "ch_in must be at most 1,048,576"),
        (("pool_op", "params", "conv"), 3, "must be ConvMacroParams, got 3"),
        (("pool_op", "name"), "\ud800", "half a character"),
        (("cell_descs", 0, "post_op", "params"), {"out_states": 5}, "reads the states 5, but the cell has only 0-3"),
        (("cell_descs", 0, "post_op", "params"), {"concat_ids": [2, 9]}, r"reads the states \(2, 9\)"),
        (("cell_descs", 0, "post_op", "params"), {"out_states": "two"}, "reads the states 'two'"),
    ],
)
def test_a_description_beyond_the_limits_is_refused(
    make_model: Callable[..., ModelDesc], place: tuple[Any, ...], value: Any, message: str
) -> None:
    document = json.loads(make_model().to_json())
    part = document["model"]
    for step in place[:-1]:
        part = part[step]
    part[place[-1]] = value
    with pytest.raises(ValueError, match=message):
        ModelDesc.from_json(json.dumps(document))


def test_a_name_that_comes_twice_is_refused(make_model: Callable[..., ModelDesc]) -> None:
    text = make_model().to_json().replace('"version": 1,', '"version": 1, "version": 1,')
    with pytest.raises(ValueError, match="the name 'version' comes twice in one object"):
        ModelDesc.from_json(text)


def test_a_file_too_large_for_a_description_is_not_read(
    make_model: Callable[..., ModelDesc], tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_model().save(tmp_path / "a.json")
    monkeypatch.setattr("gradnas.arch.model_desc.MAX_CHARACTERS", 10)
    with pytest.raises(ValueError, match=r"a\.json: it has .* bytes, at most 40 are read"):
        ModelDesc.load(tmp_path / "a.json")
