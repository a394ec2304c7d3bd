"""The preset for CIFAR-10 on real files: a few steps from end to end."""

from pathlib import Path

import pytest

from gradnas.cli import main

DATA = Path(__file__).parents[2].parent / "shared" / "data"


@pytest.mark.skipif(not (DATA / "cifar10-mini.npz").exists(), reason="the CIFAR-10 sample is not on this machine")
def test_the_small_cifar_preset_runs_on_an_npz_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    few = [
        "--search.epochs",
        "1",
        "--retrain.epochs",
        "1",
        "--max-steps",
        "1",
    ]
    small = ["--retrain.batch_size", "4", "--retrain.channels", "4", "--retrain.cells", "5"]
    out = str(tmp_path / "run")
    data = str(DATA / "cifar10-mini.npz")
    assert main(["run", "--preset", "cifar10-small", "--data", data, "--out", out, *few, *small]) == 0
    assert "test accuracy" in capsys.readouterr().out
