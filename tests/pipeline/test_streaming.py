"""A search and a retraining on streamed images, killed and resumed: the figures are those of the set in memory."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from gradnas.config import ComponentConf, DataConf, RunConf
from gradnas.data import LabeledImages
from gradnas.pipeline import RunContext, RunFolder
from gradnas.pipeline.experiment import load_source, prepare
from gradnas.spaces import DartsSpace


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    """40 training and 10 test images of five colors in noise, larger than they are wanted."""
    draws = np.random.default_rng(0)
    colors = draws.integers(50, 200, (5, 3))
    for split, n in (("train", 40), ("test", 10)):
        for i in range(n):
            noisy = (colors[i % 5] + draws.integers(-50, 50, (14, 18, 3))).astype(np.uint8)
            target = tmp_path / "photographs" / split / "abcde"[i % 5] / f"{i:02}.png"
            target.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(noisy).save(target)
    return tmp_path / "photographs"


def figures(folder: RunFolder) -> list[dict[str, Any]]:
    lines = folder.read_lines("metrics.jsonl")
    return [{key: line[key] for key in ("phase", "epoch", "train", "val")} for line in lines]


@pytest.mark.parametrize("killed", [("search", 0), ("retrain", 0)])
def test_figures_are_those_of_the_set_in_memory(tools: Any, photographs: Path, killed: tuple[str, int]) -> None:
    options = {"channels": 2, "cells": 3, "nodes": 2, "reductions": 1, "primitives": tools.primitives}

    def conf_of(stream: str) -> RunConf:
        return replace(
            tools.conf(space=ComponentConf(options=options)),
            data=DataConf(source=str(photographs), image_size=8, stream=stream, workers=2, flip=True, crop_padding=1),
        )

    def run(name: str, stream: str, kill: tuple[str, int] | None = None) -> tuple[list[dict[str, Any]], LabeledImages]:
        conf, folder = conf_of(stream), tools.folder(name, conf_of(stream))
        source = load_source(conf)
        listener = {} if kill is None else {"listener": tools.kill_after(*kill)}
        context = RunContext(data=source, folder=folder, resume=kill is None, **listener)
        space = DartsSpace(3, 8, 5, **options)
        if kill is None:
            prepare(conf, context, space).run()
        else:
            with pytest.raises(tools.killed):
                prepare(conf, context, space).run()
        return figures(folder), source.train

    run("streamed", "always", killed)
    streamed, images = run("streamed", "always")
    in_memory, _ = run("memory", "never")
    assert images.streamed
    assert streamed == in_memory
    assert {line["phase"] for line in streamed} == {"search", "retrain"}
