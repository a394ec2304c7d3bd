"""Tests of ``src/gradnas/report/records/run_status.py`` and of the figure of the latency."""

import json
from importlib import metadata
from pathlib import Path

import pytest

from gradnas.report import write_report
from gradnas.report.live.look import Look
from gradnas.report.records.headline import Figure, headline
from gradnas.report.records.run_folder import read_run_folder
from gradnas.report.records.run_status import cut_short, how_to_go_on, unfinished

WHOLE = "data: {source: digits}\nsearch: {epochs: 12}\nretrain: {epochs: 48}\nbaseline: {samples: 1}\n"


def status_of(run: Path, config: str = WHOLE) -> str:
    (run / "config.yaml").write_text(config)
    return " ".join(unfinished(read_run_folder(run)))


def change_summary(folder: Path, **changes: object) -> None:
    path = folder / "summary.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def keep_phases(run: Path, *phases: str) -> None:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    kept = [json.dumps(line) + "\n" for line in lines if line["phase"] in phases]
    (run / "metrics.jsonl").write_text("".join(kept))


def test_a_finished_run_has_no_status(run: Path) -> None:
    assert status_of(run) == ""
    assert 'id="status"' not in write_report(run).read_text()


def test_a_retraining_that_is_not_through(run: Path) -> None:
    change_summary(run, retrain_seconds=None, test_accuracy=None, random_baseline_accuracy=None)
    lines = (run / "metrics.jsonl").read_text().splitlines(keepends=True)
    (run / "metrics.jsonl").write_text("".join(lines[: 12 + 7]))
    assert status_of(run) == (
        "This run is not finished. Done: the search. The retraining has run 7 of 48 epochs. After it comes the random "
        f"baseline. To go on: gradnas resume {run}"
    )


def test_a_retraining_that_has_not_begun(run: Path) -> None:
    change_summary(run, retrain_seconds=None, random_baseline_accuracy=None)
    keep_phases(run, "search")
    assert "Done: the search. The retraining has not begun." in status_of(run)


def test_the_test_after_a_retraining_is_no_epoch(run: Path) -> None:
    change_summary(run, retrain_seconds=None, test_accuracy=None, random_baseline_accuracy=None)
    keep_phases(run, "search", "retrain")
    assert json.loads((run / "metrics.jsonl").read_text().splitlines()[-1])["train"] is None
    assert "The retraining has run 48 of 48 epochs." in status_of(run)


def test_epochs_of_random_architectures_are_not_those_of_one_search(run: Path) -> None:
    (run / "arch.json").unlink()
    text = (run / "metrics.jsonl").read_text()
    random = [text.replace('"phase": "search"', f'"phase": "search_{i}"') for i in range(2)]
    (run / "metrics.jsonl").write_text("".join(random))
    assert "The search has begun." in status_of(run)


def test_a_baseline_that_is_missing(run: Path) -> None:
    change_summary(run, random_baseline_accuracy=None)
    assert "Done: the search and retraining. The random baseline has begun." in status_of(run)
    keep_phases(run, "search", "retrain")
    assert "The random baseline has not begun." in status_of(run)
    assert status_of(run, WHOLE.replace("samples: 1", "samples: 0")) == ""


def test_a_search_alone_is_finished_when_it_has_an_architecture(search_only: Path) -> None:
    config = "data: {source: digits}\nsearch: {epochs: 5}\nretrain: {epochs: 0}\nbaseline: {samples: 0}\n"
    assert status_of(search_only, config) == ""
    (search_only / "arch.json").unlink()
    assert "The search has run 5 of 5 epochs." in status_of(search_only, config)


def test_an_architecture_that_cannot_be_read_is_not_one_that_is_missing(run: Path) -> None:
    (run / "arch.json").write_text("{")
    assert status_of(run) == ""  # all is done; the problem is told beside it
    assert Look(name="run", run=read_run_folder(run)).finished
    change_summary(run, retrain_seconds=None, random_baseline_accuracy=None)
    keep_phases(run, "search")
    status = status_of(run)
    assert "Done: the search. The retraining has not begun." in status
    assert status.endswith("Its arch.json cannot be read. Put the right one back before going on.")
    (run / "checkpoints").mkdir()
    (run / "checkpoints" / "search.pt").touch()
    assert status_of(run).endswith(f"Delete it, and `gradnas resume {run}` makes it again from the checkpoint.")


def test_with_a_summary_that_cannot_be_read_the_end_is_not_known(run: Path) -> None:
    (run / "summary.json").write_text("{")
    assert status_of(run) == (
        "Whether this run is finished is not known. To go on: delete its summary.json, which cannot be read, then "
        f"gradnas resume {run}"
    )


def test_folders_with_spaces_are_quoted(run: Path, tmp_path: Path) -> None:
    folder = run.rename(tmp_path / "my run")
    (folder / "arch.json").unlink()
    assert status_of(folder).endswith(f"gradnas resume '{folder}'")


def test_data_given_in_python_cannot_be_resumed_from_the_command_line(run: Path) -> None:
    (run / "arch.json").unlink()
    status = status_of(run, WHOLE.replace("digits", "null"))
    assert "gradnas resume" not in status
    assert status.endswith("Its data set was given in Python: call gradnas.search again with it, out and resume=True.")


def test_a_retraining_on_data_given_in_python_is_called_again(run: Path) -> None:
    change_summary(run, retrain_seconds=None)
    status_of(run, WHOLE.replace("digits", "null").replace("samples: 1", "samples: 0"))
    assert how_to_go_on(read_run_folder(run)) == (
        "Its data set was given in Python: call gradnas.retrain again with it, as before, and resume=True."
    )


def test_a_given_architecture_on_data_given_in_python_is_retrained_again(run: Path) -> None:
    change_summary(run, retrain_seconds=None)
    (run / "arch.json").unlink()
    assert status_of(
        run, f"arch: DARTS_V2\n{WHOLE.replace('digits', 'null').replace('samples: 1', 'samples: 0')}"
    ).endswith("call gradnas.retrain again with it, as before, and resume=True.")


def test_how_to_go_on_is_said_of_unfinished_runs_alone(run: Path) -> None:
    status_of(run)
    assert how_to_go_on(read_run_folder(run)) is None
    (run / "arch.json").unlink()
    assert how_to_go_on(read_run_folder(run)) == f"To go on: gradnas resume {run}"
    (run / "config.yaml").unlink()
    assert how_to_go_on(read_run_folder(run)) is None


def test_without_a_configuration_nothing_is_known_to_be_missing(run: Path) -> None:
    (run / "config.yaml").unlink()
    (run / "arch.json").unlink()
    assert unfinished(read_run_folder(run)) == ()


@pytest.mark.parametrize(("version", "said"), [("0.0.7", True), (metadata.version("gradnas"), False), (None, False)])
def test_another_version_is_named(run: Path, version: str | None, said: bool) -> None:
    path = run / "environment.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"gradnas": version}))
    sentence = f"The run was made by gradnas {version}, this page by gradnas {metadata.version('gradnas')}."
    assert (sentence in write_report(run).read_text()) is said


def test_before_the_search_has_ended_the_page_is_named_by_its_settings(run: Path) -> None:
    for name in ("arch.json", "full_arch.json", "summary.json"):
        (run / name).unlink()
    keep_phases(run, "search")
    status_of(run, f"{WHOLE}strategy: {{name: gdas}}\nspace: {{name: darts}}\nseed: 3\n")
    page = write_report(run).read_text()
    assert "<h1>Architecture search on digits</h1>" in page
    assert "<p>strategy gdas · space darts · seed 3 · folder run</p>" in page
    assert "No architecture has been found yet, and there is no test accuracy." in page
    assert "has not been retrained yet" not in page


LATENCY = {
    "median_ms": 1.2345,
    "low_ms": 1.1,
    "high_ms": 1.456,
    "batch": 1,
    "runs": 50,
    "device": "cpu",
    "threads": 2,
}


def latency_of(run: Path, stored: object) -> Figure | None:
    change_summary(run, latency=stored)
    return next((f for f in headline(read_run_folder(run)) if f.name == "Latency"), None)


def test_latency_is_told_with_what_it_was_measured_on(run: Path) -> None:
    assert latency_of(run, LATENCY) == Figure(
        name="Latency",
        value="1.23 ms",
        note="one image; median of 50 passes; half of them between 1.1 ms and 1.46 ms; cpu, 2 threads",
    )
    assert "1.23 ms" in write_report(run).read_text()


def test_threads_of_the_processor_say_nothing_of_a_gpu(run: Path) -> None:
    figure = latency_of(run, LATENCY | {"device": "cuda", "batch": 8, "low_ms": None})
    assert figure is not None
    assert figure.note == "8 images; median of 50 passes; cuda"


@pytest.mark.parametrize("stored", [None, 3, {}, {"median_ms": "1"}, {"median_ms": None, "runs": 3}])
def test_no_latency_is_no_figure(run: Path, stored: object) -> None:
    assert latency_of(run, stored) is None


def test_more_time_is_advised_for_what_it_goes_on_with(run: Path) -> None:
    change_summary(run, out_of_time=["search", "retrain"])
    assert status_of(run) == (
        "The limit of time ended the search and retraining early. "
        f"To go on: gradnas resume {run} --max-time TIME, longer than before"
    )
    change_summary(run, out_of_time=["search"])
    assert status_of(run) == ""
    assert how_to_go_on(read_run_folder(run)) is None
    assert cut_short(read_run_folder(run)) == "The limit of time ended the search early."


def test_a_cut_search_does_not_hide_that_its_retraining_is_not_through(run: Path) -> None:
    change_summary(run, out_of_time=["search"], retrain_seconds=None, random_baseline_accuracy=None)
    keep_phases(run, "search", "retrain")
    status = status_of(run)
    assert "Done: the search. The retraining has run 48 of 48 epochs." in status
    assert status.endswith(f"gradnas resume {run}")


def test_more_time_is_advised_for_a_search_that_was_not_retrained(search_only: Path) -> None:
    change_summary(search_only, out_of_time=["search"])
    config = "data: {source: digits}\nsearch: {epochs: 5}\nretrain: {epochs: 0}\nmax_time: 1h30m\n"
    assert status_of(search_only, config).startswith("The limit of time (1h30m) ended the search early. To go on: ")


@pytest.mark.parametrize(("max_time", "said"), [("3600", "(1 h 00 min)"), ("'3600'", "(3600)"), ("1e-05", "(0.0 s)")])
def test_a_limit_in_seconds_is_said_in_words(run: Path, max_time: str, said: str) -> None:
    change_summary(run, out_of_time=["retrain"])
    assert f"The limit of time {said} ended the retraining early." in status_of(run, f"{WHOLE}max_time: {max_time}\n")
