"""Tests of ``src/gradnas/api/inputs.py``."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import gradnas
from gradnas.api.inputs import as_source, changed_settings
from gradnas.config import ManualConf, OptimConf, RetrainConf, SearchConf, StabilizeConf
from gradnas.data import StreamedSet, image_samples, load_data

QUICK: dict[str, Any] = {
    "epochs": 3,
    "batch_size": 16,
    "max_steps_per_epoch": 1,
    "device": "cpu",
    "options": {"width": 2},
    "progress": False,
}


def test_a_mapping_changes_the_settings_that_it_names() -> None:
    conf = changed_settings(ManualConf, ManualConf(), {"epochs": 3, "optimizer": {"schedule": "multistep"}})
    assert conf == ManualConf(epochs=3, optimizer=OptimConf(lr=0.0333, schedule="multistep"))
    conf = changed_settings(SearchConf, SearchConf(), {"stabilize": {"skip_limit": "warn", "max_skips": 2}})
    assert conf == SearchConf(stabilize=StabilizeConf(skip_limit="warn", max_skips=2))


def test_another_schedule_or_optimizer_does_not_keep_what_belonged_to_the_default() -> None:
    default = SearchConf(optimizer=OptimConf(lr=0.3, lr_min=0.001, momentum=0.8))
    changed = [
        changed_settings(SearchConf, default, {"optimizer": change}).optimizer
        for change in ({"schedule": "constant"}, {"name": "adam", "options": {"betas": (0.9, 0.95)}}, {"lr": 1})
    ]
    assert changed == [
        OptimConf(lr=0.3, momentum=0.8, schedule="constant"),
        OptimConf(name="adam", lr=0.3, lr_min=0.001, options={"betas": [0.9, 0.95]}),
        OptimConf(lr=1.0, lr_min=0.001, momentum=0.8),
    ]


def test_settings_as_an_object_take_the_place_of_the_default() -> None:
    optimizer = OptimConf(name="adam")
    assert changed_settings(SearchConf, SearchConf(), {"optimizer": optimizer}).optimizer is optimizer


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"optimiser": {}}, TypeError, "unknown setting 'optimiser'. Did you mean 'optimizer'"),
        ({"optimizer": {"shedule": "x"}}, TypeError, "unknown setting 'optimizer.shedule'. Did you mean 'schedule'"),
        ({"optimizer": "adam"}, TypeError, "optimizer must be a gradnas.config.OptimConf, or a mapping .*got 'adam'"),
        ({"optimizer": None}, TypeError, "optimizer must be a gradnas.config.OptimConf"),
        ({"optimizer": {"schedule": "multistp"}}, ValueError, "Did you mean 'multistep'"),
        ({"optimizer": {"lr": "x"}}, TypeError, "lr must be a number, got 'x'"),
    ],
)
def test_what_is_no_setting_is_refused(changes: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        changed_settings(RetrainConf, RetrainConf(), changes)


@pytest.mark.parametrize(
    "optimizer",
    [
        OptimConf(lr=0.01, weight_decay=0, schedule="multistep", milestones=(1, 2)),
        {"name": "adam", "lr": 1, "options": {"betas": (0.9, 0.95)}},
    ],
)
def test_a_run_with_settings_as_python_has_them_goes_on(optimizer: Any, tmp_path: Path) -> None:
    begun = gradnas.train("resnet20", "digits", optimizer=optimizer, out=tmp_path / "x", max_time=1e-6, **QUICK)
    assert begun.summary["out_of_time"] == ["retrain"]
    again = gradnas.train(
        "resnet20", "digits", optimizer=optimizer, out=tmp_path / "x", max_time=1e-6, resume=True, **QUICK
    )
    assert again.summary["out_of_time"] == ["retrain"]
    result = gradnas.resume(tmp_path / "x", max_time=1000, progress=False)
    assert result.summary["out_of_time"] == []


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    """Forty images in color of two classes, in files."""
    draws = np.random.default_rng(0)
    for i in range(40):
        folder = tmp_path / "set" / "train" / "ab"[i % 2]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(draws.integers(0, 256, (24, 24, 3), dtype=np.uint8)).save(folder / f"{i:02}.png")
    return tmp_path / "set"


def test_a_streamed_set_is_a_training_set_of_which_a_part_is_read(
    photographs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(image_samples, "_MEASURED", 8)
    whole = load_data(photographs, image_size=24, stream="always")
    read: list[int] = []
    one_image = StreamedSet.read
    monkeypatch.setattr(StreamedSet, "read", lambda *given: read.append(1) or one_image(*given))
    source = as_source(whole.train)
    assert len(read) == 8
    assert source.train is whole.train
    assert source.test is None
    assert (source.normalization, source.augmentation) == (whole.normalization, whole.augmentation)


def test_a_streamed_set_is_trained_on(photographs: Path, tmp_path: Path) -> None:
    images = load_data(photographs, image_size=24, stream="always").train
    result = gradnas.train("resnet20", images, test_set=images, out=tmp_path / "run", **QUICK)
    assert result.summary["test_accuracy"] is not None
