"""Tests of ``src/gradnas/pipeline/search_combinations.py``.

That a stopped grid goes on bit for bit is in ``test_exact_resume.py``; ``tests/faults`` kills a real process.
"""

import csv
import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, astuple, replace
from pathlib import Path
from typing import Any

import pytest

import gradnas as gn
from gradnas.arch import ModelDesc
from gradnas.config import BaselineConf, GridConf, RetrainConf, RunConf, SearchConf
from gradnas.costs import count_macs, count_params
from gradnas.finalizers import Finalizers, RandomFinalizers
from gradnas.pipeline import ArchTrainer, RunContext, RunFolder, SearchCombinations, Searcher, prepare, refuse_early
from gradnas.pipeline.grid_table import GridRow
from gradnas.pipeline.search_combinations import grid_facts
from gradnas.pipeline.searcher import ModelMetrics, SearchResult
from gradnas.report.records.combination import Combination
from gradnas.report.records.grid import read_grid
from gradnas.spaces import DartsSpace
from gradnas.strategies import Darts, DiDarts, RandomSearch
from gradnas.supergraph import Model
from gradnas.training import CheckPoint, EpochRecord, Metrics, OptimConf, Score, Stop

SIZES = [(1, 3, 1), (1, 3, 2), (1, 4, 1), (1, 4, 2)]
GRID = GridConf(max_reductions=2, max_cells=4, max_nodes=2, epochs=2)


@pytest.fixture(scope="module")
def small() -> DartsSpace:
    primitives = ["max_pool_3x3", "skip_connect", "sep_conv_3x3", "none"]
    return DartsSpace(1, 8, 5, channels=2, cells=3, nodes=1, reductions=1, primitives=primitives)


def conf(tools: Any, **changes: Any) -> Any:
    return tools.search_conf(**{"epochs": 1, "max_steps_per_epoch": 1, **changes})


def search(
    tools: Any,
    small: DartsSpace,
    folder: RunFolder | None,
    *,
    grid: GridConf = GRID,
    strategy: Any = None,
    **context: Any,
) -> tuple[SearchResult, SearchCombinations]:
    settings, drawn = context.pop("conf", conf(tools)), context.pop("drawn", False)
    combinations = SearchCombinations(tools.context(folder, **context), strategy or Darts(lr=0.1), grid)
    learns = not (drawn or isinstance(strategy, RandomSearch))
    finalizers = Finalizers() if learns else RandomFinalizers()
    found = combinations.search(settings, small, ArchTrainer if learns else None, finalizers)
    return found, combinations


def table(folder: RunFolder, name: str = "grid.tsv") -> list[dict[str, str]]:
    with open(folder / name, encoding="utf-8") as stream:
        return list(csv.DictReader(stream, delimiter="\t"))


def sizes(folder: RunFolder) -> list[tuple[int, ...]]:
    return [tuple(int(row[name]) for name in ("reductions", "cells", "nodes")) for row in table(folder)]


def scripted(monkeypatch: pytest.MonkeyPatch, accuracies: Sequence[float], macs: Sequence[int] = (5,) * 9) -> list[str]:
    """Brief trainings that train nothing and have these validation accuracies; their phases."""
    phases: list[str] = []

    def train(searcher: Searcher, desc: ModelDesc, settings: Any) -> ModelMetrics:
        phases.append(searcher.phase)
        top1 = accuracies[(len(phases) - 1) % len(accuracies)]
        record = EpochRecord(searcher.phase, 0, train=Score(1.0, 50.0), val=Score(1.0, top1), seconds=1.0)
        return ModelMetrics(Model(desc, registry=searcher.registry), Metrics([record]))

    monkeypatch.setattr(Searcher, "train_model_desc", train)
    monkeypatch.setattr(
        "gradnas.pipeline.search_combinations.count_macs", lambda model, shape: macs[(len(phases) - 1) % len(macs)]
    )
    return phases


@pytest.fixture(scope="module")
def whole(source: Any, small: DartsSpace, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A grid of four sizes that can be built and four that cannot."""
    folder = RunFolder.create(tmp_path_factory.mktemp("grid") / "run", RunConf(device="cpu"))
    settings = SearchConf(epochs=1, batch_size=8, max_steps_per_epoch=1)
    combinations = SearchCombinations(RunContext(data=source, folder=folder), Darts(lr=0.1), GRID)
    return combinations.search(settings, small, ArchTrainer, Finalizers()), folder, combinations


TWO = GridConf(max_cells=4, epochs=1)


def two_steps(tools: Any) -> dict[str, Any]:
    return {"grid": TWO, "conf": conf(tools, max_steps_per_epoch=2, checkpoint_every_seconds=1e-9)}


@pytest.fixture(scope="module")
def two(source: Any, small: DartsSpace, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A grid of two sizes, two steps each."""
    folder = RunFolder.create(tmp_path_factory.mktemp("grid") / "two", RunConf(device="cpu"))
    settings = SearchConf(epochs=1, batch_size=8, max_steps_per_epoch=2, checkpoint_every_seconds=1e-9)
    SearchCombinations(RunContext(data=source, folder=folder), Darts(lr=0.1), TWO).search(
        settings, small, ArchTrainer, Finalizers()
    )
    return folder


@pytest.fixture
def copy(two: RunFolder, tmp_path: Path) -> RunFolder:
    return RunFolder(shutil.copytree(two.path, tmp_path / "copy"))


def test_every_size_that_can_be_built_has_a_row_in_order(whole: Any) -> None:
    _, folder, _ = whole
    assert sizes(folder) == SIZES


def test_rows_say_what_the_logs_and_the_descriptions_say(whole: Any) -> None:
    _, folder, _ = whole
    for size, row in zip(SIZES, table(folder), strict=True):
        combination = Combination(*size)
        search, train = folder.metrics(combination.phase), folder.metrics(combination.train_phase)
        assert (len(search), len(train)) == (1, 2)
        best = max(train, key=lambda record: record.val.top1)
        assert (float(row["val_top1"]), int(row["val_epoch"])) == (pytest.approx(best.val.top1, abs=1e-4), best.epoch)
        best = max(train, key=lambda record: record.train.top1)
        assert float(row["train_top1"]) == pytest.approx(best.train.top1, abs=1e-4)
        assert int(row["train_epoch"]) == best.epoch
        network = Model(ModelDesc.load(folder / combination.folder / "arch.json"))
        assert Combination.of(network.desc.conf_model_desc) == combination
        assert (int(row["macs"]), int(row["params"])) == (count_macs(network, (1, 8, 8)), count_params(network))
        assert float(row["seconds"]) == pytest.approx(sum(r.seconds for r in (*search, *train)), abs=1e-3)


def test_files_of_a_size_hold_its_metrics(whole: Any) -> None:
    _, folder, combinations = whole
    for row in combinations.rows:
        stored = folder.read_json(f"{row.combination.folder}/metrics.json")
        assert {name: stored[name] for name in row.to_dict()} == row.to_dict()
        desc = ModelDesc.load(folder / row.combination.folder / "arch.json")
        assert (stored["arch_hash"], stored["genotype"]) == (desc.hash(), str(desc.genotype()))
        assert Metrics.from_list(stored["train"]).to_list() == [
            r.to_dict() for r in folder.metrics(row.combination.train_phase)
        ]
        assert Metrics.from_list(stored["search"]).to_list() == [
            r.to_dict() for r in folder.metrics(row.combination.phase)
        ]
        lines = folder.log(row.combination.alphas).read()
        assert [line["epoch"] for line in lines] == [0]
    assert not (folder / "alphas.jsonl").exists()


def test_result_is_the_most_accurate_and_lies_where_a_retraining_looks(whole: Any) -> None:
    found, folder, combinations = whole
    best = max(combinations.rows, key=lambda row: (row.val_top1, -row.macs))
    assert ModelDesc.load(folder / "arch.json") == found.model_desc
    assert Combination.of(found.model_desc.conf_model_desc) == best.combination
    assert (folder / "arch.json").read_bytes() == (folder / best.combination.folder / "arch.json").read_bytes()
    assert found.train_metrics.best_val_top1() == best.val_top1
    assert [record.phase for record in found.search_metrics] == [best.combination.phase]


def test_brief_training_begins_with_the_weights_of_the_search(
    tools: Any, small: DartsSpace, monkeypatch: pytest.MonkeyPatch
) -> None:
    held: list[bool] = []
    train = Searcher.train_model_desc

    def looking(searcher: Searcher, desc: ModelDesc, settings: Any) -> Any:
        held.append(desc != desc.clear_trainables() or _has_weights(desc))
        return train(searcher, desc, settings)

    monkeypatch.setattr(Searcher, "train_model_desc", looking)
    found, _ = search(tools, small, None, grid=GridConf(max_cells=3, epochs=1))
    assert held == [True]
    assert not _has_weights(found.model_desc)


def _has_weights(desc: ModelDesc | None) -> bool:
    assert desc is not None
    return any(op.trainables is not None for _, top in desc.top_ops() for _, op in top.all_ops())


def test_front_has_a_file_and_a_chart(whole: Any) -> None:
    _, folder, combinations = whole
    rows = combinations.rows
    points = {astuple(r.combination): (r.macs, 1 - r.val_top1 / 100) for r in rows}
    free = {
        size
        for size, (x, y) in points.items()
        if not any(u <= x and v <= y and (u, v) != (x, y) for u, v in points.values())
    }
    found = [tuple(int(row[name]) for name in ("reductions", "cells", "nodes")) for row in table(folder, "pareto.tsv")]
    assert len(found) == len({points[size] for size in free})
    assert set(found) <= free
    assert (folder / "pareto.svg").read_text(encoding="utf-8").startswith("<svg")


def test_what_was_skipped_is_kept_and_logged(
    tools: Any, small: DartsSpace, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    scripted(monkeypatch, [50.0])
    caplog.set_level("INFO")
    folder = tools.folder()
    search(tools, small, folder, drawn=True)
    skipped = folder.read_json("grid.json")["skipped"]
    assert [(s["reductions"], s["cells"], s["nodes"]) for s in skipped] == [(2, 3, 1), (2, 3, 2), (2, 4, 1), (2, 4, 2)]
    assert {s["reason"] for s in skipped} == {f"2 reductions need at least 5 cells, got {n}" for n in (3, 4)}
    said = "skipped 2 reductions, 3 cells, 1 node: 2 reductions need at least 5 cells, got 3."
    assert [r.levelname for r in caplog.records if r.getMessage() == said] == ["INFO"]


def test_a_grid_that_dies_in_its_first_combination_says_how_many_there_are(
    tools: Any, small: DartsSpace, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tools.folder()
    with monkeypatch.context() as patch:
        scripted(patch, [10.0])
        kill_after(patch, tools, "save_trained", 1)
        with pytest.raises(tools.killed):
            search(tools, small, folder, drawn=True)
    grid = read_grid(folder.path, [])
    assert grid is not None
    assert (len(grid.rows), grid.total, len(grid.skipped)) == (0, 4, 4)
    assert grid_facts(folder)["grid"]["best"] is None
    scripted(monkeypatch, [10.0, 30.0, 20.0, 25.0])
    _, combinations = search(tools, small, folder, resume=True, drawn=True)
    assert len(combinations.rows) == 4


@pytest.mark.parametrize(
    ("accuracies", "macs", "best"),
    [
        ([10.0, 30.0, 20.0, 25.0], [5] * 4, 1),
        ([30.0, 30.0, 30.0, 10.0], [7, 5, 6, 1], 1),
        ([30.0, 30.0, 30.0, 10.0], [5, 5, 5, 1], 0),
        ([float("nan"), float("nan"), 10.0, float("nan")], [1, 1, 9, 1], 2),
        ([float("nan")] * 4, [3, 2, 2, 4], 1),
    ],
    ids=["highest", "fewer multiply-adds", "earlier", "no number never wins", "not one number"],
)
def test_best_of_scripted_trainings(
    tools: Any,
    small: DartsSpace,
    monkeypatch: pytest.MonkeyPatch,
    accuracies: list[float],
    macs: list[int],
    best: int,
) -> None:
    phases = scripted(monkeypatch, accuracies, macs)
    folder = tools.folder()
    found, _ = search(tools, small, folder, drawn=True)
    assert phases == [Combination(*size).train_phase for size in SIZES]
    assert astuple(Combination.of(found.model_desc.conf_model_desc)) == SIZES[best]  # type: ignore[union-attr]
    assert folder.read_json("grid.json")["best"]["row"] == best


def kill_after(monkeypatch: pytest.MonkeyPatch, tools: Any, method: str, number: int) -> None:
    """The process dies in the call of that number, before or after it has done its work."""
    done, calls = getattr(SearchCombinations, method), []

    def dying(self: SearchCombinations, *args: Any, **kwargs: Any) -> Any:
        calls.append(1)
        if method == "record_checkpoint" and len(calls) == number:
            raise tools.killed("before the checkpoint")
        result = done(self, *args, **kwargs)
        if len(calls) == number:
            raise tools.killed("behind the row")
        return result

    monkeypatch.setattr(SearchCombinations, method, dying)


@pytest.mark.parametrize(("method", "begins"), [("save_trained", 1), ("record_checkpoint", 1)])
def test_a_crash_between_row_and_checkpoint_leaves_no_row_twice(
    tools: Any, small: DartsSpace, monkeypatch: pytest.MonkeyPatch, method: str, begins: int
) -> None:
    folder = tools.folder()
    phases = scripted(monkeypatch, [10.0, 30.0, 20.0, 25.0])
    with monkeypatch.context() as patch:
        kill_after(patch, tools, method, 2)
        with pytest.raises(tools.killed):
            search(tools, small, folder, drawn=True)
    assert sizes(folder) == SIZES[:2]
    assert folder.read_json("grid.json")["next"] == begins
    combinations = SearchCombinations(tools.context(folder, resume=True), Darts(lr=0.1), GRID)
    begin, _ = combinations.restore_checkpoint(conf(tools), [Combination(*size) for size in SIZES])
    assert begin == begins
    assert sizes(folder) == SIZES[:begins]
    scripted(monkeypatch, [30.0, 20.0, 25.0])
    phases.clear()
    found, combinations = search(tools, small, folder, resume=True, drawn=True)
    assert sizes(folder) == SIZES
    assert [row.val_top1 for row in combinations.rows] == [10.0, 30.0, 20.0, 25.0]
    assert astuple(Combination.of(found.model_desc.conf_model_desc)) == SIZES[1]  # type: ignore[union-attr]


def test_killed_after_a_combination_it_goes_on_with_the_next(
    tools: Any, small: DartsSpace, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, part = tools.folder("whole"), tools.folder("part")
    scripted(monkeypatch, [10.0, 30.0, 20.0, 25.0])
    search(tools, small, whole)
    scripted(monkeypatch, [10.0, 30.0, 20.0, 25.0])
    with pytest.raises(tools.killed):
        search(tools, small, part, listener=tools.kill_after("search_r1_c4_n1", 0))
    combinations = SearchCombinations(tools.context(part, resume=True), Darts(lr=0.1), GRID)
    begin, best = combinations.restore_checkpoint(conf(tools), [Combination(*size) for size in SIZES])
    assert begin == 2
    assert best is not None
    assert astuple(Combination.of(best.model_desc.conf_model_desc)) == SIZES[1]  # type: ignore[union-attr]
    phases = scripted(monkeypatch, [20.0, 25.0])
    search(tools, small, part, resume=True)
    assert phases == ["search_r1_c4_n1_train", "search_r1_c4_n2_train"]
    columns = [{k: v for k, v in row.items() if k not in ("seconds", "peak_memory_mib")} for row in table(part)]
    assert columns == [
        {k: v for k, v in row.items() if k not in ("seconds", "peak_memory_mib")} for row in table(whole)
    ]
    assert (part / "arch.json").read_bytes() == (whole / "arch.json").read_bytes()


def test_a_finished_grid_gives_its_result_again_and_trains_nothing(
    tools: Any, whole: Any, small: DartsSpace, monkeypatch: pytest.MonkeyPatch
) -> None:
    found, folder, combinations = whole
    before = (folder / "grid.tsv").read_bytes()
    monkeypatch.setattr(Searcher, "search_model_desc", lambda *args: pytest.fail("it searches again"))
    again, _ = search(tools, small, folder, resume=True)
    assert again.model_desc == found.model_desc
    assert again.train_metrics.to_list() == found.train_metrics.to_list()  # type: ignore[union-attr]
    assert (folder / "grid.tsv").read_bytes() == before
    assert combinations.rows == [GridRow.from_dict(row) for row in folder.read_json("grid.json")["rows"]]


def test_a_log_that_lost_lines_is_made_whole(tools: Any, small: DartsSpace, copy: RunFolder) -> None:
    before = copy.read_lines("metrics.jsonl")
    lines = (copy / "metrics.jsonl").read_bytes().splitlines(keepends=True)
    (copy / "metrics.jsonl").write_bytes(b"".join(lines[1:]))
    search(tools, small, copy, resume=True, **two_steps(tools))
    assert copy.read_lines("metrics.jsonl") == before
    (copy / "metrics/1/3/1/metrics.json").write_text("{")  # nothing depends on it
    search(tools, small, copy, resume=True, **two_steps(tools))


def test_fresh_start_begins_an_empty_table(tools: Any) -> None:
    folder = tools.folder()
    combinations = SearchCombinations(tools.context(folder), Darts(), GRID)
    assert combinations.restore_checkpoint(conf(tools), [Combination(1, 3, 1)]) == (0, None)
    assert table(folder) == []
    assert (folder / "grid.tsv").read_text().startswith("reductions\tcells\tnodes\t")


def test_another_grid_is_refused_showing_both(tools: Any, whole: Any, small: DartsSpace) -> None:
    _, folder, _ = whole
    with pytest.raises(ValueError, match=r"another grid: 1×3×1, 1×3×2, 1×4×1, 1×4×2, now 1×3×1, 1×4×1\. Go on with"):
        search(tools, small, folder, grid=GridConf(max_cells=4, epochs=2), resume=True)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"conf": {"batch_size": 16}}, "batch_size: 8, now 16"),
        ({"seed": 3}, "seed: 0, now 3"),
        ({"strategy": DiDarts()}, r"strategy: .*'darts'.*, now .*'didarts'"),
        ({"grid": replace(GRID, epochs=3)}, r"grid\.epochs: 2, now 3"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_rows_of_other_settings_are_not_mixed(
    tools: Any, whole: Any, small: DartsSpace, changes: dict[str, Any], message: str
) -> None:
    _, folder, _ = whole
    settings = {**changes, "conf": conf(tools, **changes.get("conf", {}))}
    with pytest.raises(ValueError, match=f"other settings .*{message}"):
        search(tools, small, folder, resume=True, **settings)


def test_what_is_only_watched_may_differ(tools: Any, whole: Any, small: DartsSpace) -> None:
    found, folder, _ = whole
    again, _ = search(tools, small, folder, resume=True, conf=conf(tools, log_every_steps=7, keep_checkpoints=1))
    assert again.model_desc == found.model_desc


def test_damaged_checkpoint_is_refused_and_made_again_from_those_of_the_phases(
    tools: Any, small: DartsSpace, copy: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = table(copy)
    (copy / "grid.json").write_text((copy / "grid.json").read_text().replace('"next": 2', '"next": 1'))
    with pytest.raises(ValueError, match=r"grid\.json was changed or damaged.*delete the file: `gradnas resume"):
        search(tools, small, copy, resume=True, **two_steps(tools))
    (copy / "grid.json").unlink()
    monkeypatch.setattr(ArchTrainer, "train_step", lambda *args: pytest.fail("it trains again"))
    search(tools, small, copy, resume=True, **two_steps(tools))
    without_peak = [{**row, "peak_memory_mib": ""} for row in table(copy)]
    assert without_peak == [{**row, "peak_memory_mib": ""} for row in before]


def test_without_a_largest_number_there_is_one_combination(tools: Any, small: DartsSpace) -> None:
    folder = tools.folder()
    search(tools, small, folder, grid=GridConf())
    assert sizes(folder) == [(1, 3, 1)]


def test_rates_of_brief_trainings_fall_at_the_share_of_their_epochs(tools: Any, small: DartsSpace) -> None:
    folder = tools.folder()
    settings = conf(tools, epochs=4, optimizer=OptimConf(lr=0.1, schedule="multistep", milestones=(2,)))
    search(tools, small, folder, grid=GridConf(max_nodes=1, epochs=2), conf=settings)
    trained = folder.metrics(Combination(1, 3, 1).train_phase)
    assert [record.lr for record in trained if record.train is not None] == pytest.approx([0.1, 0.01])


def test_nothing_is_written_without_a_folder(
    tools: Any, small: DartsSpace, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    scripted(monkeypatch, [1.0, 2.0, 4.0, 3.0])
    found, combinations = search(tools, small, None, drawn=True)
    assert astuple(Combination.of(found.model_desc.conf_model_desc)) == SIZES[2]  # type: ignore[union-attr]
    assert len(combinations.rows) == 4
    assert list(tmp_path.iterdir()) == []


def test_validation_is_needed_before_anything_runs(tools: Any, small: DartsSpace) -> None:
    folder = tools.folder()
    with pytest.raises(ValueError, match=r"compared on validation data, but there is none\. Set val_ratio"):
        search(tools, small, folder, conf=conf(tools, val_ratio=0.0), strategy=DiDarts())
    assert not (folder / "grid.tsv").exists()


def test_a_strategy_is_new_at_every_size(tools: Any, small: DartsSpace) -> None:
    """Its second search is that of a strategy that has never searched; the one that was given stays unbound."""
    strategy = Darts(lr=0.1)
    before = dict(vars(strategy))
    _, both = search(tools, small, None, grid=TWO, strategy=strategy)
    assert vars(strategy) == before
    larger = DartsSpace(1, 8, 5, **{**small.options, "cells": 4})  # type: ignore[arg-type]
    _, alone = search(tools, larger, None, grid=TWO, strategy=Darts(lr=0.1))
    assert replace(both.rows[1], seconds=0, peak_memory_bytes=0) == replace(
        alone.rows[0], seconds=0, peak_memory_bytes=0
    )


def test_random_search_draws_members_at_every_size(tools: Any, small: DartsSpace) -> None:
    folder = tools.folder()
    found, combinations = search(
        tools, small, folder, grid=GridConf(max_cells=4, epochs=1), strategy=RandomSearch(samples=2, epochs=1)
    )
    phases = {record["phase"] for record in folder.read_lines("metrics.jsonl")}
    assert phases == {f"search_r1_c{c}_n1_{part}" for c in (3, 4) for part in (0, 1, "train")}
    for row in combinations.rows:
        members = [folder.metrics(f"{row.combination.phase}_{i}") for i in (0, 1)]
        trained = [*members[0], *members[1], *folder.metrics(row.combination.train_phase)]
        assert row.seconds == pytest.approx(sum(record.seconds for record in trained))
    assert found.model_desc is not None


def out_of_time(monkeypatch: pytest.MonkeyPatch, after: Callable[[], bool]) -> None:
    monkeypatch.setattr(Stop, "time_is_up", lambda self, reserve_s=0.0: after())


def test_when_time_is_up_the_best_of_the_complete_ones_is_the_result(
    tools: Any, small: DartsSpace, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tools.folder()
    done = folder / "metrics/1/3/2/metrics.json"
    out_of_time(monkeypatch, done.is_file)
    stop = Stop(1.0)
    _, combinations = search(tools, small, folder, stop=stop)
    assert sizes(folder) == SIZES[:2]
    assert [phase for phase, cut in stop.cut_short.items() if cut] == ["search_r1_c4_n1"]
    assert ModelDesc.load(folder / "arch.json").conf_model_desc.n_cells == 3
    monkeypatch.undo()
    search(tools, small, folder, resume=True)
    assert sizes(folder) == SIZES
    assert len(combinations.rows) == 2


@pytest.mark.parametrize("first", [True, False], ids=["the first", "the second"])
@pytest.mark.parametrize("part", ["search", "training"])
def test_a_combination_that_time_cuts_short_has_no_row_and_goes_on_later(
    tools: Any, small: DartsSpace, two: RunFolder, monkeypatch: pytest.MonkeyPatch, first: bool, part: str
) -> None:
    folder, combination = tools.folder(), Combination(1, 3 if first else 4, 1)
    begun = folder.checkpoint(combination.phase if part == "search" else combination.train_phase)
    out_of_time(monkeypatch, begun.is_file)
    search(tools, small, folder, stop=Stop(1.0), **two_steps(tools))
    assert sizes(folder) == ([] if first else [(1, 3, 1)])
    assert ModelDesc.load(folder / "arch.json").conf_model_desc.n_cells == 3
    monkeypatch.undo()
    search(tools, small, folder, resume=True, **two_steps(tools))
    assert [row["val_top1"] for row in table(folder)] == [row["val_top1"] for row in table(two)]
    assert (folder / "arch.json").read_bytes() == (two / "arch.json").read_bytes()


def test_the_first_combination_gives_what_it_has_reached(
    tools: Any, small: DartsSpace, monkeypatch: pytest.MonkeyPatch
) -> None:
    out_of_time(monkeypatch, lambda: True)
    folder, stop = tools.folder(), Stop(1.0)
    found, _ = search(tools, small, folder, stop=stop, **two_steps(tools))
    assert Combination.of(found.model_desc.conf_model_desc) == Combination(1, 3, 1)  # type: ignore[union-attr]
    assert ModelDesc.load(folder / "arch.json") == found.model_desc
    assert not (folder / "arch.safetensors").exists()  # more time finds another network, for which they would stay
    assert table(folder) == []
    assert stop.cut_short == {"search_r1_c3_n1": True}
    assert found.train_metrics is None  # more time would train another network


def test_a_grid_leaves_no_weights_to_inherit(whole: Any) -> None:
    found, folder, _ = whole
    assert not (folder / "arch.safetensors").exists()
    assert not any(op.trainables for _, op in found.model_desc.top_ops())


def test_time_of_complete_combinations_counts(tools: Any, whole: Any, small: DartsSpace) -> None:
    _, folder, combinations = whole
    stop = Stop(1e6)
    search(tools, small, folder, resume=True, stop=stop)
    assert stop._earlier_s == pytest.approx(sum(row.seconds for row in combinations.rows))


def test_run_of_a_grid_is_summarized_and_retrained_at_the_size_found(
    tools: Any, small: DartsSpace, monkeypatch: pytest.MonkeyPatch
) -> None:
    primitives = list(tools.primitives)
    options = {"channels": 2, "cells": 3, "nodes": 1, "reductions": 0, "primitives": primitives}
    wanted = tools.conf(
        space=gn.config.ComponentConf(options=options),
        search=conf(tools),
        grid=GridConf(max_reductions=1, epochs=1),
        retrain=tools.retrain_conf(epochs=1, cells=4),
    )
    folder = tools.folder("run", wanted)
    phases = scripted(monkeypatch, [10.0, 30.0])
    summary = prepare(wanted, tools.context(folder)).run()
    assert phases == ["search_r0_c3_n1_train", "search_r1_c3_n1_train"]
    grid = summary["grid"]
    assert (grid["combinations"], grid["best"], grid["skipped"]) == (2, 1, [])
    assert [row["reductions"] for row in grid["rows"]] == [0, 1]
    searches = [record for phase in phases for record in folder.metrics(phase.removesuffix("_train"))]
    assert summary["search_seconds"] == pytest.approx(sum(record.seconds for record in searches))
    full = ModelDesc.load(folder / "full_arch.json")
    assert Combination.of(full.conf_model_desc) == Combination(1, 4, 1)
    assert summary["test_accuracy"] is not None
    assert json.loads((folder / "summary.json").read_text())["grid"] == json.loads(json.dumps(grid))
    assert 'id="grid"' in (folder / "report.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"search": {"val_ratio": 0.0}}, "combinations of a grid are compared on held-out data"),
        ({"baseline": BaselineConf(samples=1)}, "random baseline gets the budget of one search, and a grid is many"),
        ({"grid": GridConf(max_cells=2)}, r"grid\.max_cells=2 is below the 3 cells"),
        (
            {"retrain": RetrainConf(epochs=1, batch_size=8, cells=4), "grid": GridConf(max_reductions=2, max_cells=5)},
            "2 reductions need at least 5 cells, got cells=4",
        ),
    ],
    ids=["no validation", "baseline", "empty", "retraining"],
)
def test_what_cannot_be_is_refused_before_anything_is_written(
    tools: Any, changes: dict[str, Any], message: str
) -> None:
    settings = {"grid": GridConf(max_cells=4), "retrain": RetrainConf(epochs=0), **changes}
    settings["search"] = conf(tools, **settings.get("search", {}))
    wanted = tools.conf(strategy=gn.config.ComponentConf(name="didarts"), **settings)
    with pytest.raises(ValueError, match=message):
        refuse_early(prepare(wanted, tools.context()))


def test_python_searches_a_grid_and_goes_on(tools: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    space = DartsSpace(1, 8, 5, channels=2, cells=3, nodes=1, reductions=1, primitives=tools.primitives)
    settings: dict[str, Any] = {"epochs": 1, "batch_size": 8, "max_steps_per_epoch": 1, "device": "cpu"}
    settings |= {"grid": GridConf(max_cells=4, epochs=1), "out": tmp_path / "run"}
    result = gn.search(space, tools.source.train, **settings)
    assert [row["cells"] for row in result.summary["grid"]["rows"]] == [3, 4]
    monkeypatch.setattr(CheckPoint, "commit", lambda self: pytest.fail("it is finished"))
    again = gn.search(space, tools.source.train, **settings, resume=True)
    assert again.arch == result.arch


def test_a_strategy_without_validation_batches_searches_a_grid(tools: Any, small: DartsSpace) -> None:
    _, combinations = search(tools, small, None, grid=GridConf(max_nodes=2, epochs=1), strategy=DiDarts())
    assert [asdict(row.combination) for row in combinations.rows] == [
        {"reductions": 1, "cells": 3, "nodes": nodes} for nodes in (1, 2)
    ]
