"""Tests of ``src/gradnas/pipeline/random_searcher.py``."""

from typing import Any

import pytest

from gradnas.costs import count_macs
from gradnas.pipeline import RandomSearcher, random_searcher
from gradnas.pipeline.random_searcher import equal_budget_epochs, random_member
from gradnas.strategies import Darts, DiDarts, FairDarts, Gdas, MetaOptimizer, RandomSearch, Xnas
from gradnas.supergraph import Model
from gradnas.training import OptimConf


def test_member_with_the_best_validation_wins(tools: Any) -> None:
    folder = tools.folder()
    searcher = RandomSearcher(tools.context(folder), RandomSearch(samples=3, epochs=1))
    result = searcher.search(tools.search_conf(), tools.space)
    scores = [folder.metrics(f"search_{i}")[-1].val.top1 for i in range(3)]
    assert result.model_desc == searcher.members(tools.space)[scores.index(max(scores))]
    assert result.search_metrics.best_val_top1() == max(scores)
    assert result.train_metrics.best_val_top1() == max(scores)


def test_time_is_that_of_all_members(tools: Any) -> None:
    searcher = RandomSearcher(tools.context(), RandomSearch(samples=2, epochs=1))
    result = searcher.search(tools.search_conf(), tools.space)
    assert [record.phase for record in result.search_metrics] == ["search_0", "search_1"]
    assert result.search_metrics.seconds() == pytest.approx(searcher.seconds)


def test_members_follow_from_the_seed_and_differ(tools: Any) -> None:
    def members(seed: int) -> list[Any]:
        return RandomSearcher(tools.context(seed=seed), RandomSearch(samples=4)).members(tools.space)

    assert members(0) == members(0)
    assert members(0) != members(1)
    assert len({member.hash() for member in members(0)}) > 1


def test_members_are_legal(tools: Any) -> None:
    for member in RandomSearcher(tools.context(), RandomSearch(samples=4)).members(tools.space):
        for cell in member.cell_descs:
            for node in cell.nodes():
                assert len(node.edges) == 2
                assert all(edge.op_desc.name != "none" for edge in node.edges)
                assert node.edges[0].input_ids != node.edges[1].input_ids


def test_member_does_not_depend_on_how_many_there_are(tools: Any) -> None:
    supergraph = Model(tools.space.build(), affine=False)
    assert (
        random_member(supergraph, 0, 2)
        == RandomSearcher(tools.context(), RandomSearch(samples=3)).members(tools.space)[2]
    )


def test_without_validation_nothing_is_trained(tools: Any) -> None:
    folder = tools.folder()
    searcher = RandomSearcher(tools.context(folder), RandomSearch(samples=2))
    with pytest.raises(ValueError, match="compares members on validation data; set val_ratio above 0"):
        searcher.search(tools.search_conf(val_ratio=0.0), tools.space)
    assert not (folder / "metrics.jsonl").exists()


def test_epochs_of_the_search_are_shared_among_the_members(tools: Any) -> None:
    folder = tools.folder()
    RandomSearcher(tools.context(folder), RandomSearch(samples=2)).search(tools.search_conf(epochs=4), tools.space)
    assert [len(folder.metrics(f"search_{i}")) for i in range(2)] == [2, 2]


def test_rates_of_brief_trainings_fall_at_the_share_of_their_epochs(tools: Any) -> None:
    folder = tools.folder()
    optimizer = OptimConf(lr=0.1, schedule="multistep", milestones=(2,))
    conf = tools.search_conf(epochs=4, optimizer=optimizer)
    RandomSearcher(tools.context(folder), RandomSearch(samples=2)).search(conf, tools.space)
    trained = [record for record in folder.metrics("search_0") if record.train is not None]
    assert [record.lr for record in trained] == pytest.approx([0.1, 0.01])


def test_equal_budget_is_that_of_the_multiply_adds(tools: Any) -> None:
    supergraph = Model(tools.space.build(), affine=False)
    members = RandomSearcher(tools.context(), RandomSearch(samples=2)).members(tools.space)
    of_members = sum(count_macs(Model(member), (1, 8, 8)) for member in members)
    # A step of order 1: two forwards, one backward for the weights (2), one for the mixing weights (1).
    budget = count_macs(supergraph, (1, 8, 8)) * 5 * 20
    epochs = equal_budget_epochs(supergraph, members, Darts(), 20, tools.space.registry)
    assert epochs == budget // (3 * of_members)


@pytest.mark.parametrize(("order", "expected"), [(1, 5 * 20 // 9), (2, 13 * 20 // 9)])
def test_budget_counts_the_passes_of_the_strategy(
    tools: Any, monkeypatch: pytest.MonkeyPatch, order: int, expected: int
) -> None:
    # Order 2: five forwards, three weight backwards (2 each), two of the mixing weights (1 each).
    monkeypatch.setattr(random_searcher, "count_macs", lambda model, shape: 1000)
    supergraph = Model(tools.space.build(), affine=False)
    members = RandomSearcher(tools.context(), RandomSearch(samples=3)).members(tools.space)
    assert equal_budget_epochs(supergraph, members, Darts(order), 20, tools.space.registry) == expected


@pytest.mark.parametrize(
    ("strategy", "learning", "waiting"),
    [
        (Darts(), 5.0, 3.0),  # 0.6 of a step is the weight step: one forward and one backward pass
        (Xnas(), 5.0, 3.0),
        (Darts(2), 13.0, 3.0),  # of order 2 too
        (Gdas(), 5.0 / 4, 3.0 / 4),  # one of four candidates
        (DiDarts(), 3.0, 3.0),  # single-level: a step is a weight step
        (FairDarts(), 5.0, 3.0),
    ],
    ids=repr,
)
@pytest.mark.parametrize("extra", [0.0, 14.0])
@pytest.mark.parametrize(("epochs", "waits"), [(50, 0), (50, 15), (8, 8), (8, 15)])
def test_budget_counts_the_epochs_without_learning_and_the_passes_of_an_adversary(
    tools: Any,
    monkeypatch: pytest.MonkeyPatch,
    strategy: MetaOptimizer,
    learning: float,
    waiting: float,
    extra: float,
    epochs: int,
    waits: int,
) -> None:
    """A search that was stopped may have run fewer epochs than it waits."""
    assert strategy.forward_equivalents(4) == learning
    monkeypatch.setattr(random_searcher, "count_macs", lambda model, shape: 1000)
    supergraph = Model(tools.space.build(), affine=False)
    members = RandomSearcher(tools.context(), RandomSearch(samples=2)).members(tools.space)
    found = equal_budget_epochs(
        supergraph, members, strategy, epochs, tools.space.registry, warmup_epochs=waits, extra=extra
    )
    passes = sum((waiting if epoch < waits else learning) + extra for epoch in range(epochs))
    assert found == int(passes / 6 + 1e-9)  # two members, three passes in a step of each


def test_budget_is_never_below_one_epoch(tools: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(random_searcher, "count_macs", lambda model, shape: 1000)
    supergraph = Model(tools.space.build(), affine=False)
    members = RandomSearcher(tools.context(), RandomSearch(samples=2)).members(tools.space)
    assert equal_budget_epochs(supergraph, members, Darts(), 1, tools.space.registry) == 1
