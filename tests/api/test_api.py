"""Tests of ``src/gradnas/api``: searching, retraining, running, going on."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch.utils.data import TensorDataset

import gradnas
from gradnas import api
from gradnas.config import BaselineConf, ComponentConf, DataConf, RetrainConf, RunConf, SearchConf
from gradnas.data import DataSource, load_data
from gradnas.finalizers import RandomFinalizers
from gradnas.pipeline import Experiment, RunFolder
from gradnas.report.records.run_folder import read_run_folder
from gradnas.report.records.run_status import how_to_go_on, unfinished
from gradnas.spaces import DartsSpace
from gradnas.strategies import Darts, RandomSearch
from gradnas.supergraph import Model
from gradnas.training import CheckPoint, EpochRecord, Silence, Stop

OPTIONS: dict[str, Any] = {
    "channels": 2,
    "cells": 3,
    "nodes": 1,
    "reductions": 1,
    "primitives": ["max_pool_3x3", "skip_connect", "sep_conv_3x3", "none"],
}
QUICK: dict[str, Any] = {"epochs": 2, "batch_size": 8, "max_steps_per_epoch": 2, "device": "cpu"}
SMALL: dict[str, Any] = {"channels": 2, "cells": 3, **QUICK}


def dataset(n: int = 48, classes: int = 4, side: int = 8, seed: int = 0) -> TensorDataset:
    generator = torch.Generator().manual_seed(seed)
    return TensorDataset(torch.rand(n, 1, side, side, generator=generator), torch.arange(n) % classes)


def space(classes: int = 4, **changes: Any) -> DartsSpace:
    return DartsSpace(1, 8, classes, **{**OPTIONS, **changes})


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished search with its retraining on the digits; copy it before changing it."""
    path = tmp_path_factory.mktemp("api") / "run"
    result = api.search(space(10), "digits", out=path, **QUICK)
    api.retrain(result, **SMALL)
    return path


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished search on the digits; copy it before changing it."""
    path = tmp_path_factory.mktemp("api") / "run"
    api.search(space(10), "digits", out=path, **QUICK)
    return path


@pytest.fixture
def copy_of(tmp_path: Path) -> Callable[[Path], Path]:
    return lambda path: Path(shutil.copytree(path, tmp_path / "copy"))


class Killed(Exception):  # noqa: N818 - not an error of ours
    pass


def kill_after(patch: pytest.MonkeyPatch, phase: str, epoch: int) -> None:
    class Killer(Silence):
        def __enter__(self) -> "Killer":
            return self

        def __exit__(self, *args: object) -> None:
            pass

        def on_epoch(self, record: EpochRecord) -> None:
            if (record.phase, record.epoch) == (phase, epoch):
                raise Killed

    for module in ("folders", "retraining"):
        patch.setattr(f"gradnas.api.{module}.progress_listener", lambda show: Killer())


def strip(value: Any) -> Any:
    """Without times."""
    if isinstance(value, dict):
        measured = ("seconds", "latency", "throughput")
        return {key: strip(item) for key, item in value.items() if not key.endswith(measured)}
    return [strip(item) for item in value] if isinstance(value, list) else value


def assert_same_run(a: Path, b: Path) -> None:
    first, second = RunFolder.open(a), RunFolder.open(b)
    for name in ("arch.json", "full_arch.json", "weights.safetensors", "alphas.jsonl", "config.yaml"):
        assert (first / name).exists() == (second / name).exists(), name
        if (first / name).exists():
            assert (first / name).read_bytes() == (second / name).read_bytes(), name
    assert strip(first.read_lines("metrics.jsonl")) == strip(second.read_lines("metrics.jsonl"))
    assert strip(first.read_json("summary.json")) == strip(second.read_json("summary.json"))


def content(path: Path) -> dict[str, bytes]:
    return {str(p.relative_to(path)): p.read_bytes() for p in path.rglob("*") if p.is_file()}


# ------------------------------------------------------------------------------------------------------ golden path


def test_golden_path_on_a_tensor_dataset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    train = TensorDataset(torch.rand(40, 1, 8, 8), torch.arange(40) % 4)
    test = TensorDataset(torch.rand(12, 1, 8, 8), torch.arange(12) % 4)
    space = DartsSpace(1, 8, 4, channels=2, cells=3, nodes=1, reductions=1)
    result = gradnas.search(space, train, epochs=1, batch_size=8, max_steps_per_epoch=1)
    result = gradnas.retrain(result, test_set=test, channels=2, cells=3, epochs=1, batch_size=8, max_steps_per_epoch=1)
    again = gradnas.load("runs/search-1")
    assert again.arch == result.arch
    x = test.tensors[0]
    assert torch.equal(again.model(x)[0], result.model(x)[0])
    assert again.summary["test_accuracy"] is not None
    assert [p.name for p in tmp_path.iterdir()] == ["runs"]


class Pictures:
    """A map-style dataset of PIL images, as torchvision's are, without any base class."""

    classes = ("dark", "bright")

    def __init__(self, n: int = 24) -> None:
        self.n = n

    def __len__(self) -> int:
        return self.n

    def __getitem__(self, index: int) -> tuple[Image.Image, int]:
        if index >= self.n:
            raise IndexError(index)
        return Image.new("RGB", (8, 8), (60 + 120 * (index % 2), index, 0)), index % 2


def test_golden_path_on_a_dataset_of_pictures(tmp_path: Path) -> None:
    result = api.search(DartsSpace(3, 8, 2, **OPTIONS), Pictures(), strategy="darts", out=tmp_path / "run", **QUICK)
    assert result.input_shape == (3, 8, 8)
    assert result.summary["classes"] == ["dark", "bright"]


def test_loaded_network_gives_the_same_logits_on_real_samples(done: Path) -> None:
    test = load_data("digits").test
    assert test is not None
    x = test.images[:50].float()
    first, second = api.load(done), api.load(str(done))
    assert first.arch == second.arch
    assert first.arch.hash() == first.summary["arch_hash"]
    assert torch.equal(first.model(x)[0], second.model(x)[0])
    assert not first.model.training


def test_loaded_network_has_the_reported_accuracy(tmp_path: Path, searched: Path) -> None:
    result = api.retrain(searched, out=tmp_path / "r", **{**SMALL, "max_steps_per_epoch": None, "epochs": 1})
    source = load_data("digits")
    assert source.test is not None
    scale, shift = source.normalization.scale_and_shift(torch.uint8)
    logits = result.model(source.test.images.float() * scale[:, None, None] + shift[:, None, None])[0]
    accuracy = 100 * (logits.argmax(1) == source.test.labels).double().mean().item()
    assert result.summary["test_accuracy"] == pytest.approx(accuracy)


def test_result_shows_where_it_is_and_what_was_found(done: Path) -> None:
    assert repr(api.load(done)).startswith(f"Result({str(done)!r}, test accuracy ")
    assert "Genotype(normal=" in repr(api.load(done))


def test_result_knows_its_configuration_and_metrics(done: Path) -> None:
    result = api.load(done)
    assert result.config.search.batch_size == 8
    assert result.config.retrain.channels == 2
    assert [len(result.metrics(phase)) for phase in ("search", "retrain", "absent")] == [2, 3, 0]


# ------------------------------------------------------------------------------------------------- data and test set


def test_test_set_is_never_read_during_a_search(tmp_path: Path) -> None:
    class Untouchable:
        def __getattr__(self, name: str) -> Any:
            raise AssertionError(f"the test set was read: {name}")

        def __len__(self) -> int:
            return 10

    source = load_data("digits")
    guarded = DataSource(
        name="guarded",
        train=source.train,
        test=None,
        augmentation=source.augmentation,
        normalization=source.normalization,
    )
    object.__setattr__(guarded, "test", Untouchable())
    for strategy in (Darts(), RandomSearch(samples=2)):
        result = api.search(space(10), guarded, strategy=strategy, out=tmp_path / type(strategy).__name__, **QUICK)
        assert result.summary["n_test"] == 10


def test_without_a_test_set_there_is_no_test_accuracy(tmp_path: Path) -> None:
    result = api.search(space(), dataset(), out=tmp_path / "run", **QUICK)
    assert api.retrain(result, **SMALL).summary["test_accuracy"] is None


def test_own_validation_set_is_used(tmp_path: Path) -> None:
    result = api.search(space(), dataset(), val_set=dataset(16, seed=1), out=tmp_path / "run", **QUICK)
    same = api.search(space(), dataset(), val_set=dataset(16, seed=2), out=tmp_path / "other", **QUICK)
    assert result.metrics().last.val != same.metrics().last.val  # type: ignore[union-attr]


def test_own_validation_set_has_the_classes_of_the_training_set(tmp_path: Path) -> None:
    few = TensorDataset(torch.rand(16, 1, 8, 8), torch.zeros(16, dtype=torch.int64))  # one class of the four
    assert api.search(space(), dataset(), val_set=few, out=tmp_path / "run", **QUICK).summary["classes"] == list("0123")


def test_space_that_does_not_fit_the_data_says_what_would(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"the data has 1, 8×8 and 4\. Build the space with in_channels=1"):
        api.search(space(7), dataset(), out=tmp_path / "run", **QUICK)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (TensorDataset(torch.rand(8, 1, 8, 8), torch.zeros(8, dtype=torch.int64)), "at least two classes"),
        (TensorDataset(torch.rand(8, 3), torch.arange(8) % 2), r"shape \(N, C, H, W\)"),
        (TensorDataset(torch.full((8, 1, 8, 8), float("nan")), torch.arange(8) % 2), "image 0 holds NaN"),
        (TensorDataset(torch.rand(8, 1, 8, 8), torch.arange(8) % 3 - 1), "label -1 of sample 0"),
    ],
    ids=["one class", "no images", "NaN", "label outside"],
)
def test_bad_data_leaves_no_folder(tmp_path: Path, bad: TensorDataset, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        api.search("darts", bad, out=tmp_path / "run", **QUICK)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"batch_size": 40}, "fewer samples than the batch: 24 training images, search.batch_size=40"),
        ({"cutout": 9}, "cutout=9 is larger than the image"),
        ({"val_ratio": 0.0}, "held-out data, but there is none"),
        ({"epochs": 0}, "epochs"),
        ({"batch_size": 0}, "batch_size"),
        ({"device": "nonsense"}, "device 'nonsense' cannot be used"),
    ],
)
def test_settings_that_do_not_fit_leave_no_folder(tmp_path: Path, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        api.search(space(), dataset(), out=tmp_path / "run", **{**QUICK, **settings})
    assert not (tmp_path / "run").exists()


def test_validation_set_smaller_than_the_batch_leaves_no_folder(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="fewer samples than the batch: 4 validation images"):
        api.search(space(), dataset(), val_set=dataset(4), out=tmp_path / "run", **QUICK)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("options", "size", "message"),
    [
        ({"cells": 2, "reductions": 1}, 8, "cells"),
        ({"cells": 9, "reductions": 4}, 4, "image"),
        ({"channels": 0}, 8, "channels"),
    ],
    ids=["too few cells", "image too small", "no channels"],
)
def test_space_that_cannot_be_built_is_refused(options: dict[str, Any], size: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DartsSpace(1, size, 4, **{**OPTIONS, **options})


def test_odd_image_sizes_work(tmp_path: Path) -> None:
    odd = TensorDataset(torch.rand(32, 1, 7, 9), torch.arange(32) % 4)
    fitting = DartsSpace(1, (7, 9), 4, **OPTIONS)
    result = api.retrain(api.search(fitting, odd, out=tmp_path / "run", **QUICK), **SMALL)
    assert result.model(torch.rand(2, 1, 7, 9))[0].shape == (2, 4)


def test_unknown_setting_names_the_nearest(tmp_path: Path, searched: Path) -> None:
    with pytest.raises(TypeError, match=r"unknown setting 'batchsize'. Did you mean 'batch_size'"):
        api.search(space(), dataset(), out=tmp_path / "run", batchsize=3)
    with pytest.raises(TypeError, match=r"unknown setting 'droppath'. Did you mean 'drop_path'"):
        api.retrain(searched, out=tmp_path / "run", droppath=0.1)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("name", "known"), [("dart", "darts"), ("randon", "random")])
def test_unknown_strategy_names_the_nearest(tmp_path: Path, name: str, known: str) -> None:
    with pytest.raises(ValueError, match=f"unknown strategy '{name}'. Did you mean '{known}'"):
        api.search(space(), dataset(), strategy=name, out=tmp_path / "run", **QUICK)


# ----------------------------------------------------------------------------------------------------------- folders


def test_folders_are_numbered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs" / "search-1").mkdir(parents=True)
    quick = {**QUICK, "epochs": 1, "max_steps_per_epoch": 1}
    assert [api.search(space(), dataset(), **quick).folder.name for _ in range(2)] == ["search-2", "search-3"]
    assert list((tmp_path / "runs" / "search-1").iterdir()) == []


def test_existing_run_is_never_overwritten(copy_of: Callable[[Path], Path], searched: Path) -> None:
    path = copy_of(searched)
    before = content(path)
    with pytest.raises(FileExistsError, match=r"already holds a run.*resume=True.*another name"):
        api.search(space(10), "digits", out=path, **QUICK)
    assert content(path) == before


def test_resuming_with_other_settings_is_refused(copy_of: Callable[[Path], Path], searched: Path) -> None:
    path = copy_of(searched)
    before = content(path)
    with pytest.raises(ValueError, match="holds a run with another configuration"):
        api.search(space(10), "digits", out=path, resume=True, **{**QUICK, "epochs": 3})
    assert content(path) == before


def test_second_retraining_in_a_folder_is_refused(copy_of: Callable[[Path], Path], done: Path) -> None:
    path = copy_of(done)
    before = content(path)
    with pytest.raises(FileExistsError, match=r"has a retrained network already.*out=.*resume=True"):
        api.retrain(path, **SMALL)
    assert content(path) == before


def test_second_retraining_goes_to_another_folder(tmp_path: Path, done: Path) -> None:
    before = content(done)
    result = api.retrain(done, out=tmp_path / "wide", **{**SMALL, "channels": 4})
    assert content(done) == before
    assert result.arch == api.load(done).arch
    assert result.summary["params"] > api.load(done).summary["params"]
    assert result.config.retrain.channels == 4


def test_what_another_retraining_measured_is_not_taken_over(copy_of: Callable[[Path], Path], done: Path) -> None:
    path = copy_of(done)
    old = RunFolder.open(path).read_json("summary.json")
    of_another = {"latency": {"median_ms": -1.0}, "random_baseline_accuracy": 99.9, "retrain_epochs": 77}
    RunFolder.open(path).write_json("summary.json", old | of_another)
    result = api.retrain(path, out=path.parent / "again", **SMALL)
    assert result.summary["latency"]["median_ms"] > 0
    assert "random_baseline_accuracy" not in result.summary
    assert result.summary["retrain_epochs"] == SMALL["epochs"]
    assert result.summary["search_seconds"] == old["search_seconds"]


def test_summary_of_a_retraining_names_the_data_it_was_trained_on(tmp_path: Path, searched: Path) -> None:
    images = load_data("digits").train
    other = replace(images, images=255 - images.images[:200], labels=images.labels[:200])
    summary = api.retrain(searched, out=tmp_path / "other", train_set=other, test_set=other, **SMALL).summary
    assert (summary["dataset"], summary["n_train"], summary["n_test"]) == ("ImageSet", 200, 200)
    assert summary["normalization"]["mean"] == pytest.approx([1 - float(images.images[:200].double().mean()) / 255])


@pytest.mark.parametrize(
    "settings", [{"batch_size": 10**6}, {"cutout": 9}, {"epochs": 0}, {"cells": 2}, {"channels": 0}]
)
def test_retraining_that_cannot_start_changes_no_file(
    copy_of: Callable[[Path], Path], searched: Path, settings: dict[str, Any]
) -> None:
    path = copy_of(searched)
    before = content(path)
    with pytest.raises(ValueError, match=r"batch|cutout|epoch|cells|channels"):
        api.retrain(path, **{**SMALL, **settings})
    assert content(path) == before


def test_retraining_continued_with_other_settings_is_refused_and_changes_no_file(
    copy_of: Callable[[Path], Path], done: Path
) -> None:
    path = copy_of(done)
    before = content(path)
    with pytest.raises(ValueError, match=r"has other settings.*Continue it with those"):
        api.retrain(path, resume=True, **{**SMALL, "channels": 4})
    assert content(path) == before


def test_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    for call in (api.load, api.resume):
        with pytest.raises(FileNotFoundError, match="is not a run folder"):
            call(tmp_path)


def test_unfinished_search_is_no_result(tmp_path: Path) -> None:
    RunFolder.create(tmp_path / "run", RunConf())
    with pytest.raises(FileNotFoundError, match=r"is not finished\. Continue it with `gradnas resume"):
        api.load(tmp_path / "run")


# ------------------------------------------------------------------------------------------------------------ resume


def test_killed_search_is_resumed_bit_for_bit(tmp_path: Path, searched: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        kill_after(patch, "search", 1)
        with pytest.raises(Killed):
            api.search(space(10), "digits", out=tmp_path / "run", **QUICK)
    api.resume(tmp_path / "run")
    assert_same_run(searched, tmp_path / "run")


def test_killed_search_on_a_dataset_object_is_resumed_with_it(tmp_path: Path) -> None:
    api.search(space(), dataset(), out=tmp_path / "whole", **QUICK)
    with pytest.MonkeyPatch.context() as patch:
        kill_after(patch, "search", 1)
        with pytest.raises(Killed):
            api.search(space(), dataset(), out=tmp_path / "parts", **QUICK)
    with pytest.raises(ValueError, match="which its configuration cannot name"):
        api.resume(tmp_path / "parts")
    api.search(space(), dataset(), out=tmp_path / "parts", resume=True, **QUICK)
    assert_same_run(tmp_path / "whole", tmp_path / "parts")


@pytest.mark.parametrize("epoch", [0, 1])
def test_killed_retraining_is_resumed_bit_for_bit(tmp_path: Path, searched: Path, done: Path, epoch: int) -> None:
    path = Path(shutil.copytree(searched, tmp_path / "run"))
    result = api.load(path)
    with pytest.MonkeyPatch.context() as patch:
        kill_after(patch, "retrain", epoch)
        with pytest.raises(Killed):
            api.retrain(result, **SMALL)
    api.retrain(result, resume=True, **SMALL)
    assert_same_run(done, path)


def test_killed_retraining_in_its_own_folder_is_resumed_without_another_search(tmp_path: Path, searched: Path) -> None:
    drawn = RandomFinalizers(7).finalize_model(Model(space(10).build(), affine=False)).clear_trainables()
    path = Path(shutil.copytree(searched, tmp_path / "found"))
    drawn.save(path / "arch.json")  # a search of this configuration would not find this one
    assert api.load(searched).arch.genotype() != drawn.genotype()
    api.retrain(path, out=tmp_path / "whole", **SMALL)
    with pytest.MonkeyPatch.context() as patch:
        kill_after(patch, "retrain", 1)
        with pytest.raises(Killed):
            api.retrain(path, out=tmp_path / "parts", **SMALL)
    api.resume(tmp_path / "parts")
    assert api.load(tmp_path / "parts").arch == drawn
    assert_same_run(tmp_path / "whole", tmp_path / "parts")


def test_finished_run_gives_its_result_again(copy_of: Callable[[Path], Path], done: Path) -> None:
    path = copy_of(done)
    before = content(path)
    result = api.resume(path)
    after = content(path)
    assert result.summary == api.load(done).summary
    for name in ("metrics.jsonl", "alphas.jsonl", "weights.safetensors", "arch.json", "config.yaml"):
        assert after[name] == before[name], name


# --------------------------------------------------------------------------------------------------------------- run


def whole_run(**changes: Any) -> RunConf:
    settings: dict[str, Any] = {
        "data": DataConf(source="digits"),
        "space": ComponentConf(options=OPTIONS),
        "search": SearchConf(epochs=1, batch_size=8, max_steps_per_epoch=1),
        "retrain": RetrainConf(epochs=1, batch_size=8, max_steps_per_epoch=1, channels=2, cells=3),
        "baseline": BaselineConf(samples=1),
        "device": "cpu",
    }
    return RunConf(**{**settings, **changes})


def test_run_does_everything_that_the_configuration_asks_for(tmp_path: Path) -> None:
    result = api.run(whole_run(), out=tmp_path / "run")
    assert result.summary["test_accuracy"] is not None
    assert result.summary["random_baseline_accuracy"] is not None
    assert result.config == whole_run()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"retrain": RetrainConf(epochs=1, batch_size=10**5, channels=2, cells=3)}, r"retrain\.batch_size=100000"),
        ({"retrain": RetrainConf(epochs=1, channels=2, cells=2)}, "cells"),
        ({"search": SearchConf(batch_size=10**5)}, r"search\.batch_size=100000"),
        ({"space": ComponentConf(options={"cels": 3})}, "cels"),
        ({"data": DataConf(source=None)}, "given in Python"),
        (
            {"strategy": ComponentConf(name="xnas"), "search": SearchConf(l1_alphas=0.1)},
            "l1_alphas acts on parameters that Xnas does not have",
        ),
        (
            {"strategy": ComponentConf(name="xnas", options={"horizon": 7})},
            r"horizon=7 is shorter than the search, which will draw 8 validation examples",
        ),
        (
            {"retrain": RetrainConf(epochs=1, batch_size=8, channels=2, cells=3, policy="autoaugment")},
            "policy='autoaugment' needs RGB images",
        ),
    ],
    ids=[
        "large batch",
        "too few cells",
        "large search batch",
        "unknown option",
        "no data",
        "penalty without alphas",
        "short horizon",
        "policy for other images",
    ],
)
def test_run_that_would_fail_late_is_refused_before_anything_is_written(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        api.run(whole_run(**changes), out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_importing_the_library_imports_nothing_heavy() -> None:
    heavy = ["torchvision", "sklearn", "matplotlib", "rich", "jsonargparse", "networkx", "jinja2", "yaml", "PIL"]
    # torch itself may import some of them; only what the library adds counts
    program = (
        "import sys, torch; before = set(sys.modules); import gradnas; "
        f"print([name for name in {heavy} if name in sys.modules and name not in before])"
    )
    source = str(Path(gradnas.__file__).parents[1])
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": source},
    )
    assert done.stdout.strip() == "[]"


def test_a_retraining_elsewhere_is_one_from_its_first_file_on(
    searched: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed while its folder is filled it can be begun again; once it counts as a run it retrains."""

    def killed(*_: object) -> None:
        raise SystemExit

    out = tmp_path / "elsewhere"
    with monkeypatch.context() as broken:
        broken.setattr(RunFolder, "write_config", killed)
        broken.setattr(Path, "unlink", lambda *args, **kwargs: None)
        with pytest.raises(SystemExit):
            api.retrain(searched, out=out, **SMALL)
    assert sorted(path.name for path in out.iterdir() if path.name != "run.lock") == [
        "arch.json",
        "environment.json",
        "summary.json",
    ]
    assert api.retrain(searched, out=out, **SMALL).retrained


def test_a_retraining_of_another_architecture_is_not_continued(tmp_path: Path, searched: Path) -> None:
    api.retrain(searched, out=tmp_path / "a", **SMALL)
    other = Path(shutil.copytree(searched, tmp_path / "other"))
    found = api.load(searched)
    seeds = (RandomFinalizers(seed).finalize_model(Model(space(10).build(), affine=False)) for seed in range(9))
    another = next(desc for desc in seeds if desc != found.arch)
    another.clear_trainables().save(other / "arch.json")
    with pytest.raises(ValueError, match="retrains another architecture"):
        api.retrain(other, out=tmp_path / "a", resume=True, **SMALL)


# ------------------------------------------------------------------------------------------------------------- limits

AT_ONCE = 1e-9  # seconds: after the first step time is up


@pytest.fixture(scope="module")
def cut(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A search on the digits that the limit of time has ended after a step; copy it before changing it."""
    path = tmp_path_factory.mktemp("api") / "run"
    assert api.search(space(10), "digits", out=path, max_time=AT_ONCE, **QUICK).summary["out_of_time"] == ["search"]
    return path


def saved_seconds(path: Path, phase: str) -> float:
    checkpoint = CheckPoint(RunFolder(path).checkpoint(phase))
    assert checkpoint.load_existing()
    return float(checkpoint["seconds"]["phase"])


@pytest.fixture
def accounted(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds of earlier processes that a limit of time is told of."""
    told: list[float] = []
    monkeypatch.setattr(Stop, "account_for", lambda self, seconds: told.append(seconds))
    return told


@pytest.mark.parametrize("epoch", [0, 1, None])
def test_more_time_does_not_go_on_with_a_search_whose_retraining_has_begun(
    copy_of: Callable[[Path], Path], cut: Path, monkeypatch: pytest.MonkeyPatch, epoch: int | None
) -> None:
    path = copy_of(cut)
    with monkeypatch.context() as patch:
        if epoch is not None:
            kill_after(patch, "retrain", epoch)
            with pytest.raises(Killed):
                api.retrain(path, **SMALL)
        else:
            api.retrain(path, **SMALL)
    arch, searched = (path / "arch.json").read_bytes(), api.load(path).metrics("search")
    monkeypatch.setattr(Experiment, "search", lambda self: pytest.fail("the search is entered again"))
    result = api.resume(path, max_time="1h")
    assert (path / "arch.json").read_bytes() == arch
    assert list(result.metrics("search")) == list(searched)
    assert result.retrained
    assert result.summary["out_of_time"] == ["search"]
    assert result.summary["search_epochs"] == 1
    assert (how_to_go_on(read_run_folder(path)), unfinished(read_run_folder(path))) == (None, ())


def test_searching_again_gives_the_architecture_that_was_retrained(copy_of: Callable[[Path], Path], cut: Path) -> None:
    path = copy_of(cut)
    api.retrain(path, **SMALL)
    before = content(path)
    result = api.search(space(10), "digits", out=path, resume=True, max_time="1h", **QUICK)
    assert result.retrained
    assert content(path) == before


def test_more_time_goes_on_with_a_search_that_was_not_retrained(copy_of: Callable[[Path], Path], cut: Path) -> None:
    result = api.resume(copy_of(cut), max_time="1h")
    assert result.summary["out_of_time"] == []
    assert len(result.metrics("search")) == QUICK["epochs"]


def test_more_time_goes_on_with_a_random_search(tmp_path: Path) -> None:
    settings = {**QUICK, "strategy": RandomSearch(samples=2, epochs=1), "out": tmp_path / "run"}
    first = api.search(space(10), "digits", max_time=AT_ONCE, **settings)
    assert first.summary["out_of_time"] == ["search_0", "search_1"]
    again = api.search(space(10), "digits", max_time="1h", resume=True, **settings)
    assert again.summary["out_of_time"] == []
    assert [len(again.metrics(f"search_{i}")) for i in range(2)] == [1, 1]


def test_limit_of_a_retraining_is_stored_with_the_time_of_the_search(
    copy_of: Callable[[Path], Path], searched: Path, accounted: list[float]
) -> None:
    path = copy_of(searched)
    search_s = saved_seconds(path, "search")
    with pytest.MonkeyPatch.context() as patch:
        kill_after(patch, "retrain", 1)
        with pytest.raises(Killed):
            api.retrain(path, max_time="1h", **SMALL)
    assert RunFolder(path).read_config().max_time == pytest.approx(3600 + search_s)
    assert accounted == [search_s]
    retrain_s = saved_seconds(path, "retrain")
    accounted.clear()
    api.resume(path)
    assert accounted == [search_s, retrain_s]
    assert RunFolder(path).read_config().max_time == pytest.approx(3600 + search_s)


def test_limit_of_a_retraining_in_its_own_folder_is_stored_as_it_is(
    tmp_path: Path, searched: Path, accounted: list[float]
) -> None:
    result = api.retrain(searched, out=tmp_path / "own", max_time="1h", **SMALL)
    assert result.config.max_time == "1h"
    assert sum(accounted) == 0


def test_without_a_limit_a_retraining_removes_that_of_the_search(copy_of: Callable[[Path], Path], cut: Path) -> None:
    assert api.retrain(copy_of(cut), **SMALL).config.max_time is None


def test_retraining_elsewhere_does_not_say_that_its_search_was_cut_short(tmp_path: Path, cut: Path) -> None:
    result = api.retrain(cut, out=tmp_path / "own", **SMALL)
    assert result.summary["out_of_time"] == []
    assert result.summary["search_epochs"] == 1
    assert unfinished(read_run_folder(result.folder)) == ()


@pytest.mark.parametrize("max_time", [3600, 1e16, 1e5, 2.5, "90m"])
def test_numbers_are_limits_too(
    copy_of: Callable[[Path], Path], searched: Path, monkeypatch: pytest.MonkeyPatch, max_time: str | float
) -> None:
    taken: list[RunConf] = []
    monkeypatch.setattr("gradnas.api.resuming.run", lambda conf, **_: taken.append(conf))
    api.resume(copy_of(searched), max_time=max_time)
    assert [conf.max_time for conf in taken] == [max_time]


@pytest.mark.parametrize("max_time", ["soon", 0, -1.0, float("nan")])
def test_limits_that_are_none_leave_no_folder(tmp_path: Path, max_time: str | float) -> None:
    with pytest.raises(ValueError, match="max_time must be"):
        api.search(space(10), "digits", out=tmp_path / "run", max_time=max_time, **QUICK)
    assert not (tmp_path / "run").exists()


# --------------------------------------------------------------------------------------- numbers that are not finite


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], list[RunConf]]:
    """Make the search of a folder one of recorded steps, and collect what it is continued with."""

    def change(path: Path) -> list[RunConf]:
        folder, taken = RunFolder(path), list[RunConf]()
        conf = folder.read_config()
        folder.write_config(replace(conf, search=replace(conf.search, cuda_graph=True)))
        monkeypatch.setattr("gradnas.api.resuming.run", lambda conf, **_: taken.append(conf))
        return taken

    return change


def test_recorded_search_that_is_over_does_not_refuse_skipping_in_the_retraining(
    copy_of: Callable[[Path], Path], done: Path, recorded: Callable[[Path], list[RunConf]]
) -> None:
    path = copy_of(done)
    taken = recorded(path)
    api.resume(path, on_nonfinite="skip")
    assert [(conf.search.on_nonfinite, conf.retrain.on_nonfinite) for conf in taken] == [("stop", "skip")]
    with pytest.raises(ValueError, match="unknown answer"):
        api.resume(path, on_nonfinite="hope")


def test_recorded_search_that_is_to_go_on_refuses_skipping(
    copy_of: Callable[[Path], Path], cut: Path, recorded: Callable[[Path], list[RunConf]]
) -> None:
    path = copy_of(cut)
    taken = recorded(path)
    with pytest.raises(ValueError, match="cannot be skipped"):
        api.resume(path, on_nonfinite="skip")
    assert taken == []


def test_baseline_that_takes_the_settings_of_a_recorded_search_says_that_it_keeps_its_answer(
    copy_of: Callable[[Path], Path], done: Path, recorded: Callable[[Path], list[RunConf]]
) -> None:
    path = copy_of(done)
    RunFolder(path).write_config(replace(RunFolder(path).read_config(), baseline=BaselineConf(samples=1)))
    taken = recorded(path)
    with pytest.warns(UserWarning, match="random baseline keep on_nonfinite=stop"):
        api.resume(path, on_nonfinite="skip")
    assert [conf.retrain.on_nonfinite for conf in taken] == ["skip"]


def test_other_data_needs_a_folder_of_its_own_also_where_the_folder_is_named(
    copy_of: Callable[[Path], Path], searched: Path
) -> None:
    folder = copy_of(searched)
    before = content(folder)
    with pytest.raises(ValueError, match="the architecture was found on 'digits'; retraining on 'mnist' needs a run"):
        api.retrain(folder, out=folder, train_set="mnist", **SMALL)
    assert content(folder) == before


def test_the_same_data_by_its_name_is_read_as_the_search_has_read_it(tmp_path: Path) -> None:
    conf = RunConf(
        data=DataConf(image_size=12, crop_padding=0),
        space=ComponentConf(options=OPTIONS),
        search=SearchConf(**{name: value for name, value in QUICK.items() if name != "device"}),
        device="cpu",
    )
    found = api.run(conf, out=tmp_path / "search")
    again = api.retrain(found, train_set="digits", out=tmp_path / "again", **SMALL)
    assert again.config.data == conf.data
    assert again.summary["image_shape"] == [1, 12, 12]


def test_finished_search_without_its_checkpoints_gives_its_result(
    copy_of: Callable[[Path], Path], searched: Path
) -> None:
    folder = copy_of(searched)
    shutil.rmtree(folder / "checkpoints")
    before = content(folder)
    assert api.resume(folder).arch == api.load(searched).arch
    assert content(folder) == before
