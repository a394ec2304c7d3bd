"""Tests of ``src/gradnas/report/records/restoring.py``."""

from pathlib import Path

import pytest

from gradnas.report.records.restoring import how_to_restore


@pytest.mark.parametrize(
    ("name", "checkpoint", "said"),
    [
        ("arch.json", "search.pt", "Delete it, and `gradnas resume {}` makes it again from the checkpoint."),
        ("arch.json", "search_0.pt", "Delete it, and `gradnas resume {}` makes it again from the checkpoint."),
        ("arch.json", "retrain.pt", None),
        ("weights.safetensors", "retrain.pt", "`gradnas resume {}` writes it again from the checkpoint."),
        ("weights.safetensors", "baseline_retrain.pt", None),
        ("baseline/arch.json", "baseline_search_0.pt", "`gradnas resume {}` writes it again from the checkpoint."),
        ("config.yaml", "search.pt", None),
    ],
)
def test_what_a_checkpoint_can_make_again_is_said(tmp_path: Path, name: str, checkpoint: str, said: str | None) -> None:
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / checkpoint).touch()
    assert how_to_restore(tmp_path, name) == (said and said.format(tmp_path))


def test_a_folder_without_checkpoints_promises_nothing(tmp_path: Path) -> None:
    assert how_to_restore(tmp_path, "weights.safetensors") is None
