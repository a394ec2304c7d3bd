"""``gradnas list``."""

import re
import sys
from typing import Any

import pytest

from gradnas.cli.listing import first_sentence
from gradnas.config import preset_names
from gradnas.data import dataset_names
from gradnas.ops import OPS


def names(text: str) -> list[str]:
    return [line.split()[0] for line in text.splitlines()]


def test_presets_with_their_first_comment(gradnas: Any) -> None:
    outcome = gradnas("list", "presets")
    assert outcome.code == 0
    assert names(outcome.out) == preset_names()
    assert re.search(r"^demo +Real handwritten digits", outcome.out, flags=re.MULTILINE)


def test_strategies_with_text_and_options(gradnas: Any) -> None:
    lines = gradnas("list", "strategies").out.splitlines()
    darts = next(line for line in lines if line.startswith("darts "))
    assert "First- or second-order DARTS." in darts
    assert darts.endswith("order=1, lr=0.0003, betas=[0.5, 0.999], weight_decay=0.001, epsilon_scale=0.01")


def test_options_of_spaces_leave_out_what_the_data_decide(gradnas: Any) -> None:
    line = gradnas("list", "spaces").out.splitlines()[0]
    assert line.startswith("darts  Liu et al., DARTS (ICLR 2019): a regular and a reduction cell")
    assert "channels=16, cells=8, nodes=4, reductions=2" in line
    assert "n_classes" not in line
    assert "settings" not in line


def test_datasets_by_name_and_as_a_path(gradnas: Any) -> None:
    outcome = gradnas("list", "datasets")
    assert names(outcome.out) == [*dataset_names(), "PATH"]
    assert "torchvision.datasets.CIFAR10" in outcome.out
    cifar10, imagenet = (
        next(line for line in outcome.out.splitlines() if line.startswith(f"{name} ")).split("  ")
        for name in ("cifar10", "imagenet")
    )
    said = [cell.strip() for cell in cifar10 if cell.strip()]
    assert said[:6] == ["cifar10", "3×32×32", "10", "50,000 / 10,000", "published", "crop 4, flip"]
    said = [cell.strip() for cell in imagenet if cell.strip()]
    assert said[1:6] == ["3×224×224 (resized)", "1000", "1,281,167 / 50,000", "published", "resized crop 0.08, flip"]


def test_every_op_has_a_description(gradnas: Any) -> None:
    lines = gradnas("list", "ops").out.splitlines()
    assert names("\n".join(lines)) == OPS.names()
    assert all(len(line.split()) > 2 for line in lines)
    assert any(line.endswith("  Dilated depthwise-separable convolution.") for line in lines)


def test_lines_are_plain_where_there_is_no_terminal(gradnas: Any) -> None:
    assert "\x1b" not in gradnas("list", "ops").out


def test_a_terminal_gets_a_table(gradnas: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    text = gradnas("list", "presets").out
    assert "┏━━" in text
    assert "│ demo" in text


def test_an_unknown_list_names_the_nearest(gradnas: Any) -> None:
    outcome = gradnas("list", "preset")
    assert outcome.code == 2
    assert "there is no list of 'preset'. Did you mean 'presets'?" in outcome.err


@pytest.mark.parametrize(
    ("docstring", "sentence"),
    [
        (None, ""),
        ("One line.", "One line."),
        ("Identity or :class:`Other` at 2. ValueError for ``x``.\n\nMore.", "Identity or Other at 2."),
        ("``y = x`` over all.", "y = x over all."),
        ("Liu et al., DARTS (ICLR 2019): a cell.", "Liu et al., DARTS (ICLR 2019): a cell."),
    ],
)
def test_first_sentence(docstring: str | None, sentence: str) -> None:
    assert first_sentence(docstring) == sentence
