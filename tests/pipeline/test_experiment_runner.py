"""Tests of ``src/gradnas/pipeline/experiment_runner.py``."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gradnas.arch import ModelDesc
from gradnas.config import BaselineConf, ComponentConf, DataConf, GridConf, RunConf, to_yaml
from gradnas.finalizers import Finalizers, RandomFinalizers
from gradnas.pipeline import ArchTrainer, ExperimentRunner, RunFolder
from gradnas.report import compare
from gradnas.report.live.run_following import follow
from gradnas.report.records.run_folder import read_run_folder
from gradnas.report.records.run_status import unfinished
from gradnas.supergraph import Model
from gradnas.training import EpochRecord, Silence


@pytest.fixture
def conf(tools: Any) -> RunConf:
    """One step per phase on the digits that come with scikit-learn."""
    changed: RunConf = tools.conf(
        data=DataConf(source="digits"),
        search=tools.search_conf(epochs=1, max_steps_per_epoch=1),
        retrain=tools.retrain_conf(epochs=1, max_steps_per_epoch=1),
    )
    return changed


class Counting(Silence):
    def __init__(self) -> None:
        self.phases: list[str] = []

    def on_epoch(self, record: EpochRecord) -> None:
        self.phases.append(record.phase)


def runner(tmp_path: Path, conf: RunConf, *, clean: bool = False, listener: Any = None) -> ExperimentRunner:
    path = tmp_path / "conf.yaml"
    path.write_text(to_yaml(conf), encoding="utf-8")
    return ExperimentRunner(path, "test", clean, out=tmp_path / "runs", listener=listener)


def test_search_and_evaluation_have_folders_of_their_own(tmp_path: Path, conf: RunConf) -> None:
    found, evaluated = runner(tmp_path, conf).run()
    assert found is not None
    assert evaluated is not None
    search, evaluation = RunFolder(tmp_path / "runs" / "test_search"), RunFolder(tmp_path / "runs" / "test_eval")
    assert search.is_run()
    assert evaluation.is_run()
    assert (search / "arch.json").read_bytes() == (evaluation / "arch.json").read_bytes()
    assert [len(folder.metrics("retrain")) for folder in (search, evaluation)] == [0, 2]
    assert (evaluation / "weights.safetensors").is_file()
    assert evaluated.train_metrics.test is not None


def test_both_folders_are_finished_runs(tmp_path: Path, conf: RunConf, capsys: pytest.CaptureFixture[str]) -> None:
    _, evaluated = runner(tmp_path, replace(conf, baseline=BaselineConf(samples=1))).run()
    assert evaluated is not None
    assert evaluated.train_metrics.test is not None
    folders = [tmp_path / "runs" / name for name in ("test_search", "test_eval")]
    search, evaluation = map(RunFolder, folders)
    asked = [(c.retrain.epochs, c.baseline.samples) for c in (search.read_config(), evaluation.read_config())]
    assert asked == [(0, 0), (1, 0)]
    for folder in folders:
        assert unfinished(read_run_folder(folder)) == ()
        assert 'id="status"' not in (folder / "report.html").read_text(encoding="utf-8")
        follow(folder, sleep=lambda _: pytest.fail("the run is over, and watch waits"))
        assert "the run is finished" in capsys.readouterr().out
    found, tested = (folder.read_json("summary.json") for folder in (search, evaluation))
    assert "test_accuracy" not in found
    assert {name: tested[name] for name in ("arch_hash", "genotype", "search_seconds", "search_epochs")} == {
        name: found[name] for name in ("arch_hash", "genotype", "search_seconds", "search_epochs")
    }
    assert tested["test_accuracy"] == evaluated.train_metrics.test.top1
    (row,) = compare(folders[1]).rows
    assert [result.accuracy for result in row.tested] == [tested["test_accuracy"]]
    runner(tmp_path, replace(conf, baseline=BaselineConf(samples=1))).run()
    assert evaluation.read_json("summary.json") == tested  # the latency is not measured again


def test_one_after_the_other_is_like_both_at_once(tmp_path: Path, conf: RunConf) -> None:
    found, nothing = runner(tmp_path, conf).run(eval=False)
    assert found is not None
    assert nothing is None
    again, evaluated = runner(tmp_path, conf).run(search=False)
    assert again is None
    assert evaluated is not None


def test_random_search_trains_its_members(tmp_path: Path, conf: RunConf) -> None:
    random = ComponentConf(name="random", options={"samples": 2})
    found, evaluated = runner(tmp_path, replace(conf, strategy=random)).run()
    assert found is not None
    assert evaluated is not None
    folder = RunFolder(tmp_path / "runs" / "test_search")
    assert {record["phase"] for record in folder.read_lines("metrics.jsonl")} == {"search_0", "search_1"}
    assert ModelDesc.load(folder / "arch.json") == found.model_desc
    summary = folder.read_json("summary.json")
    assert (summary["search_epochs"], summary["search_seconds"] > 0) == (1, True)
    assert "2 random architectures were trained" in (folder / "report.html").read_text(encoding="utf-8")


def test_grid_of_sizes_is_searched_and_its_best_evaluated(tmp_path: Path, conf: RunConf) -> None:
    found, evaluated = runner(tmp_path, replace(conf, grid=GridConf(max_nodes=3, epochs=1))).run()
    assert found is not None
    assert evaluated is not None
    evaluation = RunFolder(tmp_path / "runs" / "test_eval")
    assert len(evaluation.read_json("summary.json")["grid"]["rows"]) == 2
    full = ModelDesc.load(evaluation / "full_arch.json").conf_model_desc
    assert found.model_desc is not None
    assert full.cell.n_nodes == found.model_desc.conf_model_desc.cell.n_nodes


def test_neither_does_nothing(tmp_path: Path, conf: RunConf) -> None:
    assert runner(tmp_path, conf).run(search=False, eval=False) == (None, None)
    assert not (tmp_path / "runs").exists()


def test_evaluation_without_a_search_says_so(tmp_path: Path, conf: RunConf) -> None:
    with pytest.raises(FileNotFoundError, match=r"no found architecture at .*test_search.*run the search first"):
        runner(tmp_path, conf).run(search=False)


def test_same_configuration_continues_and_trains_nothing_twice(tmp_path: Path, conf: RunConf) -> None:
    first, _ = runner(tmp_path, conf).run(eval=False)
    listener = Counting()
    again, _ = runner(tmp_path, conf, listener=listener).run(eval=False)
    assert first is not None
    assert again is not None
    assert again.model_desc == first.model_desc
    assert listener.phases == []


def test_other_configuration_is_refused(tmp_path: Path, conf: RunConf) -> None:
    runner(tmp_path, conf).run(eval=False)
    with pytest.raises(FileExistsError, match="Nothing was overwritten"):
        runner(tmp_path, replace(conf, seed=1)).run(eval=False)


def test_cleaning_removes_folders_of_earlier_runs(tmp_path: Path, conf: RunConf) -> None:
    runner(tmp_path, conf).run(eval=False)
    listener = Counting()
    runner(tmp_path, replace(conf, seed=1), clean=True, listener=listener).run(eval=False)
    assert listener.phases == ["search"]
    assert RunFolder(tmp_path / "runs" / "test_search").read_config().seed == 1


def test_cleaning_leaves_folders_that_gradnas_did_not_make(tmp_path: Path, conf: RunConf) -> None:
    (tmp_path / "runs" / "test_search").mkdir(parents=True)
    (tmp_path / "runs" / "test_search" / "thesis.tex").write_text("precious")
    with pytest.raises(FileExistsError, match="already holds files"):
        runner(tmp_path, conf, clean=True).run(eval=False)
    assert (tmp_path / "runs" / "test_search" / "thesis.tex").read_text() == "precious"


def test_missing_configuration_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"absent\.yaml"):
        ExperimentRunner(tmp_path / "absent.yaml", "test")


def test_configuration_without_data_is_refused(tmp_path: Path, conf: RunConf) -> None:
    with pytest.raises(ValueError, match=r"set data\.source"):
        runner(tmp_path, replace(conf, data=DataConf(source=None))).run()
    assert not (tmp_path / "runs").exists()


def test_context_exists_only_while_running(tmp_path: Path, conf: RunConf) -> None:
    with pytest.raises(RuntimeError, match="no run is in progress"):
        _ = runner(tmp_path, conf).context


def test_parts_follow_from_the_configuration(tmp_path: Path, conf: RunConf) -> None:
    gradient = runner(tmp_path, conf)
    assert gradient.trainer_class() is ArchTrainer
    assert type(gradient.finalizers()) is Finalizers
    assert isinstance(
        runner(tmp_path, replace(conf, search=replace(conf.search, finalizers="random"))).finalizers(), RandomFinalizers
    )
    drawn = runner(tmp_path, replace(conf, strategy=ComponentConf(name="random")))
    assert drawn.trainer_class() is None
    assert isinstance(drawn.finalizers(), RandomFinalizers)


def test_what_a_method_overrides_is_used(tmp_path: Path, conf: RunConf) -> None:
    class Mine(ExperimentRunner):
        def trainer_class(self) -> None:
            return None

    path = tmp_path / "conf.yaml"
    path.write_text(to_yaml(conf), encoding="utf-8")
    found, _ = Mine(path, "mine", out=tmp_path / "runs").run(eval=False)
    assert found is not None
    assert found.search_metrics is None
    assert RunFolder(tmp_path / "runs" / "mine_search").read_json("summary.json")["search_epochs"] == 0


def test_an_evaluation_that_has_begun_keeps_its_architecture(tmp_path: Path, conf: RunConf) -> None:
    runner(tmp_path, conf).run()
    searched, evaluation = RunFolder(tmp_path / "runs" / "test_search"), RunFolder(tmp_path / "runs" / "test_eval")
    parts = runner(tmp_path, conf)
    parts.run(search=False)  # the same architecture: nothing to refuse
    supergraph = Model(parts.model_desc_builder().build(), affine=False)
    drawn = (RandomFinalizers(seed).finalize_model(supergraph).clear_trainables() for seed in range(9))
    another = next(desc for desc in drawn if desc != ModelDesc.load(searched / "arch.json"))
    another.save(searched / "arch.json")
    before = {path: path.read_bytes() for path in evaluation.path.rglob("*") if path.is_file()}
    with pytest.raises(ValueError, match=r"test_eval evaluates another architecture than .*test_search.*overwritten"):
        runner(tmp_path, replace(conf, max_time="1h")).run(search=False)
    assert {path: path.read_bytes() for path in evaluation.path.rglob("*") if path.is_file()} == before
    runner(tmp_path, conf, clean=True).run(search=False)
    assert ModelDesc.load(evaluation / "arch.json") == another


def test_limit_of_the_search_is_none_of_the_evaluation(tmp_path: Path, conf: RunConf) -> None:
    longer = replace(conf, search=replace(conf.search, max_steps_per_epoch=2))
    runner(tmp_path, replace(longer, max_time=1e-9)).run()
    folders = [RunFolder(tmp_path / "runs" / f"test_{name}") for name in ("search", "eval")]
    assert [folder.read_json("summary.json")["out_of_time"] for folder in folders] == [["search"], []]
