"""Tests of ``src/gradnas/pipeline/searcher.py``."""

import math
from itertools import pairwise
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
import torch

from gradnas.arch import CellDesc, ModelDesc
from gradnas.config import RunConf, SearchConf
from gradnas.finalizers import Finalizers, RandomFinalizers
from gradnas.pipeline import ArchTrainer, RunContext, RunFolder, Searcher, SearchResult
from gradnas.strategies import Darts
from gradnas.supergraph import Model
from gradnas.training import EpochRecord, Metrics, Score, Silence


def nodes_of(cell: CellDesc) -> list[list[tuple[str, tuple[int, ...]]]]:
    return [[(edge.op_desc.name, edge.input_ids) for edge in node.edges] for node in cell.nodes()]


def search(tools: Any, folder: RunFolder | None = None, **settings: Any) -> SearchResult:
    context = tools.context(folder, **{k: settings.pop(k) for k in ("seed", "listener", "resume") if k in settings})
    return Searcher(context, Darts(lr=0.3)).search(
        tools.search_conf(**settings), tools.space, ArchTrainer, Finalizers()
    )


def implied(record: dict[str, Any], cell_type: str) -> list[set[tuple[str, int]]]:
    """The rule of DARTS applied to one line of ``alphas.jsonl``, written out."""
    cell = record["cells"][cell_type]
    nodes: dict[int, list[tuple[float, int, str]]] = {}
    for (node, state), alphas in zip(cell["edges"], cell["alphas"], strict=True):
        total = sum(math.exp(a) for a in alphas)
        strength, op = max(
            (math.exp(a) / total, name) for a, name in zip(alphas, cell["ops"], strict=True) if name != "none"
        )
        nodes.setdefault(node, []).append((strength, state, op))
    return [{(op, state) for _, state, op in sorted(edges, reverse=True)[:2]} for edges in nodes.values()]


@pytest.fixture(scope="module")
def found(source: Any, space: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[SearchResult, RunFolder, Any]:
    folder = RunFolder.create(tmp_path_factory.mktemp("search") / "run", RunConf())
    tools = SimpleNamespace(
        space=space,
        context=lambda folder, **more: RunContext(data=source, folder=folder, **more),
        search_conf=lambda **more: SearchConf(batch_size=8, max_steps_per_epoch=2, **more),
    )
    return search(tools, folder, epochs=3), folder, tools


def test_found_description_is_legal(found: Any, space: Any) -> None:
    result, _, _ = found
    supergraph = space.build()
    for cell, template in zip(result.model_desc.cell_descs, supergraph.cell_descs, strict=True):
        assert cell.cell_type is template.cell_type
        for n, node in enumerate(nodes_of(cell)):
            assert len(node) == 2
            assert all(op in ("max_pool_3x3", "skip_connect", "sep_conv_3x3") for op, _ in node)
            inputs = [state for _, states in node for state in states]
            assert len(set(inputs)) == 2
            assert all(0 <= state <= n + 1 for state in inputs)


def test_cells_of_a_type_are_equal(found: Any) -> None:
    first, _, last = found[0].model_desc.cell_descs
    assert nodes_of(first) == nodes_of(last)


def test_found_network_runs(found: Any) -> None:
    logits, _ = Model(found[0].model_desc).eval()(torch.rand(3, 1, 8, 8))
    assert logits.shape == (3, 5)


def test_reported_architecture_is_what_the_last_alphas_imply(found: Any) -> None:
    result, folder, _ = found
    last = folder.read_lines("alphas.jsonl")[-1]
    assert last["genotype"] == str(result.model_desc.genotype())
    for index, cell_type in ((0, "regular"), (1, "reduction")):
        nodes = nodes_of(result.model_desc.cell_descs[index])
        assert [{(op, states[0]) for op, states in node} for node in nodes] == implied(last, cell_type)


def test_one_line_of_alphas_and_of_metrics_is_written_per_epoch(found: Any) -> None:
    _, folder, _ = found
    lines = folder.read_lines("alphas.jsonl")
    assert [line["epoch"] for line in lines] == [0, 1, 2]
    assert [record.epoch for record in folder.metrics("search")] == [0, 1, 2]
    named = {"epoch", "cells", "genotype", "entropy", "gap", "skips", "parameter_free", "free_regular", "kept_regular"}
    judged = {"changed_edges", "discretization_drop", "eigenvalue", "words", "diagnosis", "would_be"}
    assert set(lines[0]) == named | judged
    assert lines[0]["changed_edges"] == 0


def test_entropy_in_the_log_is_that_of_the_logged_alphas(found: Any) -> None:
    line = found[1].read_lines("alphas.jsonl")[-1]
    expected = []
    for cell in line["cells"].values():
        for alphas, entropy in zip(cell["alphas"], cell["entropy"], strict=True):
            p = [math.exp(a) / sum(math.exp(b) for b in alphas) for a in alphas]
            expected.append(-sum(v * math.log(v) for v in p))
            assert entropy == pytest.approx(expected[-1], rel=1e-5)
    assert line["entropy"] == pytest.approx(sum(expected) / len(expected), rel=1e-5)


def test_changed_edges_in_the_log_compare_with_the_line_before(found: Any) -> None:
    lines = found[1].read_lines("alphas.jsonl")
    for before, after in pairwise(lines):
        changed = 0
        for cell_type in ("regular", "reduction"):
            pairs = zip(implied(before, cell_type), implied(after, cell_type), strict=True)
            changed += sum(len(new - old) for old, new in pairs)
        assert after["changed_edges"] == changed


def test_description_is_saved_without_weights(found: Any) -> None:
    result, folder, _ = found
    stored = ModelDesc.load(folder / "arch.json")
    assert stored == result.model_desc
    assert all(op.trainables is None for _, top in result.model_desc.top_ops() for _, op in top.all_ops("op"))


def test_search_never_has_a_test_set(found: Any) -> None:
    result, _, tools = found
    assert result.search_metrics.test is None
    assert Searcher(tools.context(None)).get_data(tools.search_conf()).test is None


def test_same_seed_twice_is_bit_identical(tools: Any, without_seconds: Any) -> None:
    first, second = (search(tools, tools.folder(name)) for name in "ab")
    assert first.model_desc == second.model_desc
    assert without_seconds(first.search_metrics.to_list()) == without_seconds(second.search_metrics.to_list())
    assert (tools.folder("a") / "alphas.jsonl").read_bytes() == (tools.folder("b") / "alphas.jsonl").read_bytes()


def test_other_seed_gives_other_numbers(tools: Any) -> None:
    search(tools, tools.folder("a"), epochs=1)
    search(tools, tools.folder("b"), epochs=1, seed=1)
    assert tools.folder("a").read_lines("alphas.jsonl") != tools.folder("b").read_lines("alphas.jsonl")


@pytest.mark.parametrize("every", [1, 2], ids=["saved the epoch before", "saved never"])
def test_interrupted_search_leaves_the_files_of_an_uninterrupted_one(
    tools: Any, without_seconds: Any, every: int
) -> None:
    whole, parts = tools.folder("whole"), tools.folder("parts")
    expected = search(tools, whole, epochs=3, checkpoint_every_epochs=every)
    with pytest.raises(tools.killed):
        search(tools, parts, epochs=3, checkpoint_every_epochs=every, listener=tools.kill_after("search", 1))
    assert not (parts / "arch.json").exists()
    resumed = search(tools, parts, epochs=3, checkpoint_every_epochs=every, resume=True)
    assert resumed.model_desc == expected.model_desc
    assert (whole / "alphas.jsonl").read_bytes() == (parts / "alphas.jsonl").read_bytes()
    assert without_seconds(whole.read_lines("metrics.jsonl")) == without_seconds(parts.read_lines("metrics.jsonl"))


def test_resumed_search_trains_only_what_is_missing(tools: Any) -> None:
    class Noting(Silence):
        epochs: ClassVar[list[int]] = []

        def on_epoch(self, record: EpochRecord) -> None:
            self.epochs.append(record.epoch)

    folder = tools.folder()
    with pytest.raises(tools.killed):
        search(tools, folder, epochs=3, listener=tools.kill_after("search", 1))
    search(tools, folder, epochs=3, resume=True, listener=Noting())
    assert Noting.epochs == [1, 2]


def test_all_three_numbers_reach_the_supergraph(tools: Any) -> None:
    desc = Searcher(tools.context()).build_model_desc(tools.space, tools.space.settings, 0, 4, 3)
    assert [len(cell.nodes()) for cell in desc.cell_descs] == [3] * 4
    assert {cell.cell_type.value for cell in desc.cell_descs} == {"regular"}


def test_without_a_trainer_nothing_is_trained(tools: Any) -> None:
    result = Searcher(tools.context()).search(tools.search_conf(), tools.space, None, RandomFinalizers(0))
    assert result.search_metrics is None
    assert all(len(node) == 2 for cell in result.model_desc.cell_descs for node in nodes_of(cell))  # type: ignore[union-attr]


def test_description_is_written_even_without_metrics(tools: Any) -> None:
    folder = tools.folder()
    Searcher(tools.context(folder)).search(tools.search_conf(), tools.space, None, RandomFinalizers(0))
    assert (folder / "arch.json").is_file()


def test_training_of_a_description_needs_epochs(tools: Any) -> None:
    desc = tools.space.from_genotype(search(tools, epochs=1).model_desc.genotype())  # type: ignore[union-attr]
    searcher = Searcher(tools.context())
    assert searcher.train_model_desc(desc, tools.retrain_conf(epochs=0)) is None
    trained = searcher.train_model_desc(desc, tools.retrain_conf(epochs=1))
    assert trained is not None
    assert len(trained.metrics) == 1


def test_training_starts_from_the_weights_inside_the_description(tools: Any) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Model(tools.space.build(), affine=True)
    desc = Finalizers().finalize_model(model)
    trained = Searcher(tools.context()).train_model_desc(
        desc, tools.retrain_conf(epochs=1, max_steps_per_epoch=1, grad_clip=1e-12)
    )
    assert trained is not None
    for name, value in Model(desc).state_dict().items():
        if name.endswith("weight") and value.ndim > 1:
            torch.testing.assert_close(trained.model.state_dict()[name], value, atol=1e-4, rtol=1e-3)


def test_result_without_a_description_is_passed_on(tools: Any) -> None:
    result = SearchResult(None, Metrics([EpochRecord("search", 0, val=Score(1.0, 2.0))]), None)
    folder = tools.folder()
    assert Searcher(tools.context(folder)).clean_log_result(tools.search_conf(), result) is result
    assert not (folder / "arch.json").exists()
