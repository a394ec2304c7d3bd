"""Tests of ``compare.py``, ``rows.py`` and ``compared_run.py``: what is compared, what is refused."""

import json
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import gradnas as gn
from gradnas.report.comparison.compare import Comparison, compare, default_page
from gradnas.report.comparison.rows import BASELINE, Row

WriteRun = Callable[..., Path]


def row(comparison: Comparison, name: str) -> Row:
    return next(row for row in comparison.rows if row.name == name)


def names(comparison: Comparison) -> list[str]:
    return [row.name for row in comparison.rows]


def notes(comparison: Comparison) -> str:
    return "\n".join(comparison.notes)


def test_it_is_public() -> None:
    assert gn.compare is compare
    assert gn.Comparison is Comparison


def test_runs_that_differ_in_the_seed_alone_are_one_row(write_run: WriteRun) -> None:
    accuracies = [97.5, 98.25, 96.0]
    runs = [write_run(f"d{seed}", seed=seed, accuracy=a, macs=4e5 + seed) for seed, a in enumerate(accuracies)]
    runs.append(write_run("x", strategy="xnas", accuracy=99.0))
    found = compare(runs)
    assert names(found) == ["xnas", "darts"]
    darts = row(found, "darts")
    assert darts.accuracy is not None
    assert darts.accuracy.mean == pytest.approx(statistics.mean(accuracies), rel=1e-15)
    assert darts.accuracy.std == pytest.approx(statistics.stdev(accuracies), rel=1e-15)
    assert darts.macs is not None
    assert (darts.macs.mean, darts.macs.low, darts.macs.high) == (400_001, 4e5, 400_002)
    assert darts.params is not None
    assert darts.params.mean == pytest.approx(400_001 / 30)
    assert darts.search_s is not None
    assert darts.search_s.mean == 11.0
    assert darts.retrain_s is not None
    assert darts.retrain_s.mean == 3.0
    assert darts.seeds == (0, 1, 2)
    single = row(found, "xnas").accuracy
    assert single is not None
    assert single.std is None
    assert found.datasets == ("digits",)
    assert found.differences == ()


def test_rows_are_named_by_what_tells_them_apart(write_run: WriteRun) -> None:
    runs = [
        write_run("a", options={"order": 1}),
        write_run("b", options={"order": 2}),
        write_run("c", options={"order": 2, "lr": 0.01}),
        write_run("d", strategy="xnas", settings={"search": {"stabilize": {"skip_dropout": 0.5}}}),
        write_run("e", strategy="gdas"),
    ]
    found = names(compare(runs))
    assert sorted(found) == ["darts (order=1, lr=0.0003)", "darts (order=2, lr=0.0003)", "darts (order=2, lr=0.01)",
                             "gdas", "xnas"]  # fmt: skip


def test_method_settings_split_rows_and_technical_ones_do_not(write_run: WriteRun) -> None:
    first = write_run("a", seed=0)
    second = write_run("b", seed=1, settings={"device": "cpu", "search": {"log_every_steps": 7, "fused": False}})
    third = write_run("c", seed=0, settings={"search": {"optimizer": {"lr": 0.5}}})
    found = compare([first, second, third])
    assert sorted(names(found)) == ["darts (search.optimizer.lr=0.025)", "darts (search.optimizer.lr=0.5)"]
    assert "search.fused" in notes(found)
    assert "search.log_every_steps" in notes(found)


def test_what_searches_is_named_even_where_the_space_would_do(write_run: WriteRun) -> None:
    random = write_run("a", settings={"search": {"finalizers": "random"}, "space": {"options": {"nodes": 2}}})
    plain = write_run("b", settings={"space": {"options": {"nodes": 3}}})
    assert set(names(compare([random, plain]))) == {
        "darts (search.finalizers=random, space.nodes=2)",
        "darts (search.finalizers=default, space.nodes=3)",
    }


def test_epochs_that_were_cut_short_are_named_where_a_number_of_epochs_would_do(write_run: WriteRun) -> None:
    cut = write_run("a", settings={"search": {"epochs": 3, "max_steps_per_epoch": 6}})
    found = compare([cut, write_run("b")], mixed=True)
    assert set(names(found)) == {"darts (search.epochs=3, search.max_steps_per_epoch=6)", "darts (search.epochs=6)"}
    assert {row.label for row in found.rows} == {"darts (search.epochs=3)", "darts (search.epochs=6)"}


def test_a_label_tells_a_row_from_those_of_its_data_set(write_run: WriteRun) -> None:
    runs = [
        write_run("a"),
        write_run("b", options={"order": 2}),
        write_run("c", summary={"dataset": "other"}, settings={"search": {"epochs": 50}}),
    ]
    found = compare(runs, mixed=True)
    assert {row.label for row in found.rows if row.dataset == "digits"} == {"darts (order=1)", "darts (order=2)"}
    assert [row.label for row in found.rows if row.dataset == "other"] == ["darts"]


def test_names_stay_different_when_values_were_shortened(write_run: WriteRun) -> None:
    long = "y" * 60
    runs = [write_run(n, strategy="my.Own", options={"text": f"{long}{n}"}) for n in ("a", "b", "c")]
    found = names(compare(runs))
    assert len(set(found)) == 3
    assert all(name.startswith("Own (text=yyy") for name in found)
    assert found[2].endswith("[3]")


def test_strategies_of_one_class_name_are_told_apart(write_run: WriteRun) -> None:
    runs = [write_run("a", strategy="mine.Own"), write_run("b", strategy="yours.Own")]
    assert sorted(names(compare(runs))) == ["Own (strategy.name=mine.Own)", "Own (strategy.name=yours.Own)"]


def test_the_best_comes_first_and_untested_rows_last(write_run: WriteRun) -> None:
    runs = [
        write_run("a", strategy="gdas", found=False),
        write_run("b", strategy="xnas", accuracy=98.0, macs=6e5),
        write_run("c", strategy="snas", accuracy=98.0, macs=5e5),
        write_run("d", strategy="darts", accuracy=99.0),
    ]
    assert names(compare(runs)) == ["darts", "snas", "xnas", "gdas"]


def test_order_of_the_folders_does_not_matter(write_run: WriteRun) -> None:
    runs = [write_run(f"{s}{k}", strategy=s, seed=k, accuracy=97 + k) for s in ("darts", "xnas") for k in range(3)]
    assert compare(runs) == compare(runs[::-1])


def test_the_random_baseline_is_a_row_and_counts_once_per_seed(write_run: WriteRun) -> None:
    runs = [
        write_run(f"{s}{k}", strategy=s, seed=k, accuracy=98.0 + k / 4, baseline=97.0 + k)
        for s in ("darts", "xnas")
        for k in range(2)
    ]
    found = compare(runs)
    base = row(found, BASELINE)
    assert base.kind == "baseline"
    assert base.accuracy is not None
    assert (base.accuracy.n, base.accuracy.mean) == (2, 97.5)
    assert "2 of the random baselines are" in notes(found)
    for name in ("darts", "xnas"):
        gain = row(found, name).gain
        assert gain is not None
        assert gain.points == pytest.approx(98.125 - 97.5)
        assert gain.low is not None
    assert base.gain is None


def test_a_method_without_a_baseline_of_its_own_takes_the_one_of_its_budget(write_run: WriteRun) -> None:
    runs = [write_run("a", accuracy=98.0, baseline=97.0), write_run("b", strategy="xnas", accuracy=96.0)]
    gain = row(compare(runs), "xnas").gain
    assert gain is not None
    assert gain.points == -1.0
    assert gain.low is None


def test_baselines_of_other_sizes_are_rows_of_their_own(write_run: WriteRun) -> None:
    runs = [
        write_run("a", accuracy=98.0, baseline=97.0),
        write_run("b", strategy="xnas", accuracy=96.0, baseline=95.5, settings={"baseline": {"samples": 8}}),
        write_run("c", strategy="gdas", accuracy=96.0),
    ]
    found = compare(runs)
    assert {f"{BASELINE} (baseline.samples={n})" for n in (2, 8)} <= set(names(found))
    xnas = row(found, "xnas").gain
    assert xnas is not None
    assert xnas.points == 0.5
    assert row(found, "gdas").gain is None  # nobody could say which one


def test_a_baseline_that_is_missing_is_said(write_run: WriteRun) -> None:
    found = compare([write_run("a", settings={"baseline": {"samples": 3}})])
    assert "The random baseline of" in notes(found)
    assert "gradnas resume" in notes(found)


def test_front_is_marked_and_rounding_noise_does_not_count(write_run: WriteRun) -> None:
    noisy = [99.16666666666667, 97.5], [98.88888888888889, 97.77777777777777]
    runs = [write_run(f"a{k}", seed=k, accuracy=noisy[0][k], macs=9e5) for k in range(2)]
    runs += [write_run(f"b{k}", strategy="xnas", seed=k, accuracy=noisy[1][k], macs=5e5) for k in range(2)]
    runs += [write_run("c", strategy="gdas", accuracy=90.0, macs=1e5), write_run("d", strategy="snas", accuracy=80.0)]
    found = compare(runs)
    assert {row.name for row in found.rows if row.on_front} == {"xnas", "gdas"}


def test_a_copy_of_a_run_counts_once_and_is_said(write_run: WriteRun) -> None:
    found = compare(
        [write_run("a", accuracy=98.0), write_run("b", accuracy=98.0), write_run("c", seed=1, accuracy=97.0)]
    )
    accuracy = row(found, "darts").accuracy
    assert accuracy is not None
    assert (accuracy.n, accuracy.mean) == (2, 97.5)
    assert "a copy, counted once" in notes(found)


def test_what_differs_in_anything_is_no_copy(write_run: WriteRun) -> None:
    runs = [
        write_run("a", accuracy=98.0, summary={"arch_hash": "x"}),
        write_run("b", accuracy=98.0, summary={"arch_hash": "y"}),
        write_run("c", accuracy=98.0, summary={"arch_hash": "x", "params": 7}),
        write_run("d", accuracy=98.0, seed=1, summary={"arch_hash": "x"}),
        write_run("e", accuracy=97.0, summary={"arch_hash": "x"}),
        write_run("f", found=False),
        write_run("g", found=False),
    ]
    found = compare(runs)
    assert len(found.rows[0].results) == len(runs)
    assert "a copy" not in notes(found)
    assert "Seed 0 occurs 4 times" in notes(found)


def test_copies_of_a_baseline_are_told_apart_by_seed_and_result(write_run: WriteRun) -> None:
    runs = [
        write_run("a", seed=0, baseline=96.0),
        write_run("b", seed=0, strategy="xnas", baseline=96.0),
        write_run("c", seed=0, strategy="gdas", baseline=95.0),
        write_run("d", seed=1, baseline=96.0, summary={"random_baseline_genotype": "random 0"}),
    ]
    found = compare(runs)
    base = row(found, BASELINE).accuracy
    assert base is not None
    assert base.n == 3
    assert base.mean == pytest.approx(287 / 3)
    assert "1 of the random baselines is that of another run" in notes(found)


def test_the_same_seed_with_another_result_counts_and_is_said(write_run: WriteRun) -> None:
    found = compare([write_run("a", accuracy=98.0), write_run("b", accuracy=97.0)])
    accuracy = row(found, "darts").accuracy
    assert accuracy is not None
    assert accuracy.n == 2
    assert "Seed 0 occurs 2 times" in notes(found)


def test_a_folder_given_twice_counts_once(write_run: WriteRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = write_run("a", accuracy=98.0)
    link = tmp_path / "link"
    link.symlink_to(run)
    monkeypatch.chdir(run.parent)
    found = compare([run, link, Path("a"), str(run / ".." / "a")])
    assert len(found.rows) == 1
    assert len(found.rows[0].results) == 1
    assert notes(found).count("again: counted once") == 3


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("search.epochs", {"search": {"epochs": 50}}),
        ("search.batch_size", {"search": {"batch_size": 7}}),
        ("search.val_ratio", {"search": {"val_ratio": 0.25}}),
        ("search.max_steps_per_epoch", {"search": {"max_steps_per_epoch": 7}}),
        ("retrain.epochs", {"retrain": {"epochs": 50}}),
        ("retrain.channels", {"retrain": {"channels": 50}}),
        ("retrain.optimizer.lr", {"retrain": {"optimizer": {"lr": 0.5}}}),
        ("space.cells", {"space": {"options": {"cells": 50}}}),
        ("data.flip", {"data": {"flip": True}}),
    ],
)
def test_other_budgets_are_refused_with_both_values(write_run: WriteRun, name: str, settings: dict[str, Any]) -> None:
    first, second = write_run("a"), write_run("b", strategy="xnas", settings=settings)
    with pytest.raises(ValueError, match="different budgets") as caught:
        compare([first, second])
    message = str(caught.value)
    value = str(next(iter(_leaves(settings))))
    assert f"{name} is " in message
    assert f"{value.lower()} in {second}" in message
    assert f"in {first}" in message
    assert "--mixed true" in message
    mixed = compare([first, second], mixed=True)
    assert mixed.differences
    assert all(name in row.name for row in mixed.rows)


def _leaves(values: dict[str, Any]) -> list[Any]:
    return [leaf for v in values.values() for leaf in (_leaves(v) if isinstance(v, dict) else [v])]


@pytest.mark.parametrize(
    ("fact", "summary"),
    [
        ("data set", {"dataset": "CIFAR-10"}),
        ("list of classes", {"classes": ["cat", "dog"]}),
        ("number of training images", {"n_train": 1000}),
        ("number of test images", {"n_test": 100}),
        ("pixel mean", {"normalization": {"mean": [0.25], "std": [1.0]}}),
    ],
)
def test_other_data_sets_are_refused(write_run: WriteRun, fact: str, summary: dict[str, Any]) -> None:
    known = {"normalization": {"mean": [0.5], "std": [1.0]}}
    runs = [write_run("a", summary=known), write_run("b", summary={**known, **summary})]
    with pytest.raises(ValueError, match=f"different data sets: .*{fact} is ") as caught:
        compare(runs)
    assert str(runs[0]) in str(caught.value)
    assert str(runs[1]) in str(caught.value)
    mixed = compare(runs, mixed=True)
    assert len(mixed.datasets) == 2
    assert fact == "data set" or all(name.startswith(f"digits, {fact} ") for name in mixed.datasets)
    assert all(f"darts on {row.dataset}" == row.name for row in mixed.rows)


def test_another_image_size_is_another_data_set(write_run: WriteRun) -> None:
    first, second = write_run("a"), write_run("b", found=False, settings={"data": {"image_size": 16}})
    with pytest.raises(ValueError, match=r"image size is 8×8 in .* 16×16 in"):
        compare([first, second])


def test_a_run_that_knows_little_is_not_another_data_set(write_run: WriteRun) -> None:
    found = compare([write_run("a", found=False), write_run("b", seed=1), write_run("c", seed=2, found=False)])
    assert found.datasets == ("digits",)
    assert len(found.rows) == 1


def test_runs_that_know_different_facts_are_of_one_data_set(write_run: WriteRun) -> None:
    known = {"normalization": {"mean": [0.5], "std": [1.0]}}
    search = write_run("a", accuracy=None, settings={"retrain": {"epochs": 0}}, summary=known)  # tested on no image yet
    found = compare([search, write_run("b", seed=1)])  # as versions wrote it that did not store the normalization
    assert len(found.rows) == 1
    shortened = write_run("c", seed=2, summary={"n_test": 90})  # by max_steps_per_epoch
    assert len(compare([search, shortened]).rows) == 1


def test_a_path_of_the_data_may_differ(write_run: WriteRun) -> None:
    runs = [write_run(n, seed=k, settings={"data": {"source": f"/{n}/digits.npz"}}) for k, n in enumerate("ab")]
    assert len(compare(runs).rows) == 1


def test_fronts_and_gains_stay_within_a_data_set(write_run: WriteRun) -> None:
    runs = [
        write_run("a", accuracy=99.0, macs=1e5, baseline=98.0),
        write_run("b", accuracy=70.0, macs=9e5, baseline=75.0, summary={"dataset": "CIFAR-10"}),
    ]
    found = compare(runs, mixed=True)
    gains = {row.dataset: row.gain.points for row in found.rows if row.gain is not None}
    assert gains == {"digits": 1.0, "CIFAR-10": -5.0}
    assert {row.dataset for row in found.rows if row.on_front} == {"digits", "CIFAR-10"}


def test_many_differences_are_cut_short(write_run: WriteRun) -> None:
    other = {"epochs": 7, "channels": 7, "cells": 7, "batch_size": 7, "cutout": 7, "aux_weight": 7.0}
    with pytest.raises(ValueError, match="2 more settings differ"):
        compare([write_run("a"), write_run("b", settings={"retrain": other})])


def test_unfinished_runs_are_listed_and_not_averaged(write_run: WriteRun) -> None:
    runs = [
        write_run("a", accuracy=98.0),
        write_run("b", seed=1, accuracy=None),
        write_run("c", seed=2, found=False),
        write_run("d", seed=3, accuracy=None, settings={"retrain": {"epochs": 0}}),
    ]
    found = compare(runs)
    assert len(found.rows) == 1
    darts = found.rows[0]
    assert darts.accuracy is not None
    assert darts.accuracy.n == 1
    assert len(darts.results) == 4
    assert darts.seeds == (0,)
    assert f"{runs[1]} is not finished. To go on: gradnas resume {runs[1]}" in notes(found)
    assert f"{runs[2]} is not finished" in notes(found)
    assert f"gradnas retrain {runs[3]}" in notes(found)


def test_only_unfinished_runs(write_run: WriteRun) -> None:
    found = compare([write_run("a", found=False)])
    assert found.rows[0].accuracy is None
    assert "not finished" in str(found)
    assert "nothing to conclude" in " ".join(found.conclusions)


def test_a_search_belongs_to_no_row_when_two_would_fit(write_run: WriteRun) -> None:
    runs = [
        write_run("a"),
        write_run("b", settings={"retrain": {"epochs": 7}}),
        write_run("c", seed=1, accuracy=None, settings={"retrain": {"epochs": 0}}),
    ]
    assert len(compare(runs, mixed=True).rows) == 3


def test_a_run_without_test_images_says_so(write_run: WriteRun) -> None:
    run = write_run("a", accuracy=None, summary={"retrain_seconds": 3.0})
    found = compare([run])
    assert "without test images" in notes(found)
    assert "no test set" in str(found)


@pytest.mark.parametrize("content", [b"\x00\xff{", b"[1]", b'{"test_accuracy": 9', b""])
def test_a_damaged_summary_is_named(write_run: WriteRun, content: bytes) -> None:
    run = write_run("a")
    (run / "summary.json").write_bytes(content)
    found = compare([run, write_run("b", seed=1)])
    assert f"{run}: summary.json is not a JSON object" in notes(found)
    accuracy = found.rows[0].accuracy
    assert accuracy is not None
    assert accuracy.n == 1


@pytest.mark.parametrize("wrong", ["98", True, [98.0], {"a": 1}, 10**400])
def test_values_of_another_kind_are_no_accuracy(write_run: WriteRun, wrong: object) -> None:
    run = write_run("a", summary={"test_accuracy": wrong, "params": wrong, "search_seconds": wrong})
    assert compare([run]).rows[0].accuracy is None


def test_a_damaged_configuration_is_an_error_that_names_it(write_run: WriteRun) -> None:
    run = write_run("a")
    (run / "config.yaml").write_text("search: {epoch: 3}")
    with pytest.raises(ValueError, match=r"config\.yaml.*epoch"):
        compare([run])


def test_a_folder_that_is_no_run_is_an_error(write_run: WriteRun, tmp_path: Path) -> None:
    part = tmp_path / "part"
    part.mkdir()
    (part / "config.yaml").write_text("")
    with pytest.raises(FileNotFoundError, match=r"part is not a run folder: it has no environment\.json"):
        compare([write_run("a"), part])
    with pytest.raises(FileNotFoundError, match=r"no run folder at .*nowhere"):
        compare([tmp_path / "nowhere"])


def test_files_and_stray_folders_are_skipped_and_nothing_is_an_error(write_run: WriteRun, tmp_path: Path) -> None:
    file, empty, other = tmp_path / "comparison.html", tmp_path / "empty", tmp_path / "pictures"
    file.write_text("")
    empty.mkdir()
    other.mkdir()
    (other / "a.png").write_text("")
    said = notes(compare([write_run("a"), file, empty, other]))
    assert "comparison.html is a file, no run folder: skipped" in said
    for folder in (empty, other):
        assert f"{folder} is no run folder, it has no config.yaml and no environment.json: skipped." in said
    for nothing in ([], [file], [empty], [file, empty]):
        with pytest.raises(ValueError, match="nothing to compare") as caught:
            compare(nothing)
        assert all(str(path) in str(caught.value) for path in nothing)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"found": False}, "is not finished. Its data set was given in Python: call gradnas.search again"),
        ({"accuracy": None}, "is not finished. Its data set was given in Python: call gradnas.retrain again"),
        ({"settings": {"baseline": {"samples": 3}}}, "is not finished. Its data set was given in Python"),
        ({"accuracy": None, "settings": {"retrain": {"epochs": 0}}}, "test it with gradnas.retrain and that data set"),
    ],
)
def test_no_command_is_named_that_cannot_work(write_run: WriteRun, given: dict[str, Any], told: str) -> None:
    settings = {**given.get("settings", {}), "data": {"source": None}}
    found = compare([write_run("a", **{**given, "settings": settings})])
    assert told in notes(found)
    assert "gradnas resume" not in notes(found)
    assert "gradnas retrain" not in notes(found)


def test_one_run_works_and_one_path_need_not_be_in_a_list(write_run: WriteRun) -> None:
    run = write_run("a", accuracy=98.0)
    assert compare(str(run)) == compare([run])
    assert compare(run).rows[0].name == "darts"


def test_versions_and_machines_are_noted(write_run: WriteRun) -> None:
    own = compare([write_run("a")])
    assert "gradnas" not in notes(own)
    found = compare(
        [write_run("b", environment={"gradnas": "0.0.9"}), write_run("c", seed=1, environment={"gpu": "H"})]
    )
    assert "0.0.9" in notes(found)
    assert "different machines (a processor, 2 threads; H)" in notes(found)


def test_names_of_strangers_cannot_act_in_a_terminal(write_run: WriteRun) -> None:
    evil = "\x1b[2J\x1b[31mevil\nname\u202e"
    run = write_run("a", options={"order": evil}, summary={"dataset": evil}, environment={"gradnas": evil})
    other = write_run("b\x1b[31m", options={"order": 2}, summary={"dataset": evil}, found=True, accuracy=None)
    found = compare([run, other])
    shown = "\n".join([str(found), *found.notes, *found.conclusions, *found.datasets])
    assert "\x1b" not in shown
    assert "\u202e" not in shown
    assert "�" in shown
    with pytest.raises(FileNotFoundError) as caught:
        compare([run.parent / "no\x1b[31m"])
    assert "\x1b" not in str(caught.value).replace(str(run.parent / "no\x1b[31m"), "")


def test_the_page_is_written_where_asked_and_nowhere_else(write_run: WriteRun, tmp_path: Path) -> None:
    run = write_run("a")
    before = sorted(tmp_path.rglob("*"))
    assert compare([run]).page is None
    assert sorted(tmp_path.rglob("*")) == before
    target = tmp_path / "x.html"
    assert compare([run], out=target).page == target
    assert target.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
    with pytest.raises(ValueError, match=r"written as \.html"):
        compare([run], out=tmp_path / "x.pdf")


def test_the_default_page_lies_beside_the_runs(
    write_run: WriteRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = write_run("a"), write_run("b")
    assert default_page([first, second]) == tmp_path / "runs" / "comparison.html"
    assert default_page([first, tmp_path / "elsewhere" / "b"]) == Path("comparison.html")
    monkeypatch.chdir(tmp_path)
    assert default_page(["runs/a", "runs/b/"]) == Path("runs/comparison.html")
    monkeypatch.chdir(first)
    assert default_page(["."]) == tmp_path / "runs" / "comparison.html"


def test_summary_without_an_entry_leaves_the_cell_open(write_run: WriteRun) -> None:
    run = write_run("a")
    (run / "summary.json").write_text(json.dumps({"test_accuracy": 97.0}))
    found = compare([run])
    assert found.rows[0].macs is None
    assert "97.00 (one run)" in str(found)
    assert not found.rows[0].on_front
