"""Tests of ``src/gradnas/report/records/run_settings.py``."""

import json
from pathlib import Path

import pytest

from gradnas.config import RunConf, load_preset, to_yaml
from gradnas.report import write_report
from gradnas.report.records.run_folder import read_run_folder
from gradnas.report.records.run_settings import settings_rows


def rows_of(folder: Path) -> dict[str, str]:
    return dict(settings_rows(read_run_folder(folder)))


def test_presets_are_told_with_what_matters(run: Path) -> None:
    (run / "config.yaml").write_text(to_yaml(load_preset("darts-cifar10")))
    rows = rows_of(run)
    assert list(rows)[:4] == ["Data", "Space", "Strategy", "Search"]
    for words in ("50 epochs", "batches of 64", "SGD with learning rate 0.025 falling to 0.001 by a cosine"):
        assert words in rows["Search"]
    for words in ("momentum 0.9", "weight decay 0.0003", "50% of the training images held out", "clipped to norm 5"):
        assert words in rows["Search"]
    assert "order 2" in rows["Strategy"]
    for words in ("600 epochs", "36 channels", "20 cells", "drop path up to 0.2", "auxiliary loss with weight 0.4"):
        assert words in rows["Retraining"]
    assert "cutout of 16 pixels" in rows["Retraining"]
    assert "label smoothing" not in rows["Search"]  # it is 0
    assert "in 1 parts" not in rows["Search"]


def test_recipes_are_told_with_what_sets_them_apart(run: Path) -> None:
    (run / "config.yaml").write_text(to_yaml(load_preset("fast-cifar10")))
    told = rows_of(run)["Retraining"]
    for words in ("as the peak of one cycle", "Nesterov momentum 0.9", "mixup with alpha", "CutMix with alpha"):
        assert words in told
    assert "moving average of the weights with decay 0.99" in told
    (run / "config.yaml").write_text(to_yaml(load_preset("darts-imagenet")))
    told = rows_of(run)["Retraining"]
    for words in ("learning rate 0.1 falling by a factor in each epoch", "stems for ImageNet", "48 channels"):
        assert words in told
    (run / "config.yaml").write_text("retrain: {epochs: 3, optimizer: {momentum: null, schedule: multistep}}\n")
    assert "momentum" not in rows_of(run)["Retraining"]  # whose is not known
    (run / "config.yaml").write_text(
        "retrain: {epochs: 3, optimizer: {name: sgd, lr: 0.1, momentum: null, schedule: multistep}}\n"
    )
    assert "falling in steps, momentum 0.9" in rows_of(run)["Retraining"]
    (run / "config.yaml").write_text(
        "retrain: {epochs: 3, optimizer: {name: torch.optim.RMSprop, lr: 0.1, options: {alpha: 0.9}}}\n"
    )
    assert "torch.optim.RMSprop with learning rate 0.1, alpha 0.9" in rows_of(run)["Retraining"]


def test_data_are_told_from_summary_and_architecture(run: Path) -> None:
    path = run / "summary.json"
    more = {"n_train": 50_000, "normalization": {"mean": [0.4914, 0.5, 0.5], "std": [0.25, 0.25, 0.2]}}
    path.write_text(json.dumps(json.loads(path.read_text()) | more))
    (run / "config.yaml").write_text("data: {source: cifar10, crop_padding: 4, flip: true}\n")
    data = rows_of(run)["Data"]
    assert data == (
        "CIFAR-10; 10 classes (airplane, automobile, bird, cat, deer, dog, frog, horse, ship, truck); "
        "50,000 training images and 10,000 test images; 32×32 pixels, 3 channels; random crops after padding by 4; "
        "mirrored at random; normalized by mean 0.491, 0.5, 0.5 and deviation 0.25, 0.25, 0.2"
    )


def test_space_names_edges_and_candidates(run: Path) -> None:
    (run / "config.yaml").write_text("space: {name: darts, options: {channels: 16, cells: 8, primitives: [x]}}\n")
    space = rows_of(run)["Space"]
    assert space.startswith("darts: channels 16, cells 8; 14 edges with 8 candidates each in the regular cell, ")
    assert "sep_conv_3x3" in space


def test_remedies_that_are_on_are_told(run: Path) -> None:
    (run / "config.yaml").write_text(
        "search: {epochs: 5, stabilize: {warmup_epochs: 3, skip_dropout: 0.5, perturb: random, eigenvalue: stop, "
        "skip_limit: none}}\n"
    )
    assert rows_of(run)["Against collapse"] == (
        "only weights learn in the first 3 epochs, skips dropped with probability 0.5, "
        "weights trained at mixtures with random noise, Hessian eigenvalue watched: stop"
    )


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (
            "max_skips: 2, skip_limit_from: 10",
            " to 2 in the regular cell once the architecture has learnt for 10 epochs",
        ),
        ("max_skips: 0, skip_limit_from: 1", " to 0 in the regular cell once the architecture has learnt for 1 epoch"),
        ("perturb: none", ""),
    ],
)
def test_a_limit_of_skips_is_told_with_its_numbers(run: Path, settings: str, words: str) -> None:
    (run / "config.yaml").write_text(f"search: {{epochs: 5, stabilize: {{skip_limit: stop, {settings}}}}}\n")
    assert rows_of(run)["Against collapse"] == f"skips limited{words}: stop"


def test_what_was_not_asked_for_is_said_or_left_out(run: Path) -> None:
    (run / "config.yaml").write_text(to_yaml(RunConf()))
    rows = rows_of(run)
    assert rows["Retraining"] == "none"
    assert "Random baseline" not in rows
    assert "Against collapse" not in rows


@pytest.mark.parametrize("text", ["", "[1, 2]", "a: [", "search: 3\nretrain: [1]\nspace: {name: 4}\nseed: x", "\x00"])
def test_no_configuration_stops_the_page(run: Path, text: str) -> None:
    (run / "config.yaml").write_text(text)
    assert 'id="settings"' in write_report(run).read_text()  # data and candidates are known from other files


def test_without_any_knowledge_there_is_no_block(run: Path) -> None:
    for name in ("config.yaml", "summary.json", "alphas.jsonl", "arch.json"):
        (run / name).unlink()
    assert 'id="settings"' not in write_report(run).read_text()
