"""Tests of what ``src/gradnas/pipeline/diagnostics.py`` says about a search: gap, counts, words and warnings."""

import logging
import math
from collections.abc import Mapping
from typing import Any, ClassVar

import pytest
import torch

from gradnas.config import RunConf
from gradnas.finalizers import Finalizers
from gradnas.foundation.seeds import seeded_initialization
from gradnas.pipeline import ArchTrainer, prepare
from gradnas.pipeline.diagnostics import describe_alphas, diagnosis, in_words, would_be
from gradnas.strategies import Batch, FairDarts, MetaOptimizer, StabilizeConf, Xnas
from gradnas.supergraph import Model

# The candidates of the space: max_pool_3x3, skip_connect, sep_conv_3x3, none.
POOL, SKIP, CONV, NONE = range(4)
OPS = ["max_pool_3x3", "skip_connect", "sep_conv_3x3", "none"]
COLLAPSE = "operations of the would-be regular cell have no parameters, a sign of collapse"


def supergraph(tools: Any, regular: list[int], reduction: list[int], strength: float = 3.0) -> Model:
    """A supergraph with a clear choice on every edge."""
    with seeded_initialization(0, "test"):
        model = Model(tools.space.build(), droppath=False, affine=False)
    choose(model, regular, reduction, strength)
    return model


def choose(model: Model, regular: list[int], reduction: list[int], strength: float = 3.0) -> None:
    for cell, choices in zip(model.owner_cells(), (regular, reduction), strict=True):
        for op, choice in zip(cell.mixed_ops(), choices, strict=True):
            with torch.no_grad():
                op.alphas.zero_()
                op.alphas[choice] = strength


def described(model: Model) -> dict[str, Any]:
    return {**describe_alphas(model, would_be(model, Finalizers())), "discretization_drop": None}


# ------------------------------------------------------------------------------------------------------------------ gap


def softmax(values: list[float]) -> list[float]:
    total = sum(math.exp(v) for v in values)
    return [math.exp(v) / total for v in values]


def test_gap_is_the_lead_of_the_first_candidate_over_the_second(tools: Any) -> None:
    model = supergraph(tools, [CONV] * 5, [CONV] * 5)
    values = [0.5, -1.0, 2.0, 0.25]
    with torch.no_grad():
        model.owner_cells()[1].mixed_ops()[3].alphas.copy_(torch.tensor(values))
    p = softmax(values)
    clear = softmax([0.0, 0.0, 3.0, 0.0])
    record = described(model)
    gaps = record["cells"]["reduction"]["gap"]
    assert gaps[3] == pytest.approx(p[2] - p[0], rel=1e-5)
    assert gaps[0] == pytest.approx(clear[2] - clear[0], rel=1e-5)
    assert record["gap"] == pytest.approx((9 * (clear[2] - clear[0]) + p[2] - p[0]) / 10, rel=1e-5)


def test_none_takes_its_share_of_an_edge_but_no_place_in_the_gap(tools: Any) -> None:
    model = supergraph(tools, [NONE] * 5, [CONV] * 5)
    assert described(model)["cells"]["regular"]["gap"] == pytest.approx([0.0] * 5, abs=1e-7)
    with torch.no_grad():
        model.owner_cells()[0].mixed_ops()[0].alphas[SKIP] = 1.0
    p = softmax([0.0, 1.0, 0.0, 3.0])
    assert described(model)["cells"]["regular"]["gap"][0] == pytest.approx(p[1] - p[0], rel=1e-5)


def gated(tools: Any) -> Model:
    """A gate for each candidate; that of the convolution is open on all edges."""
    model = Model(tools.space.build(), affine=False)
    model.set_mixing_rule(FairDarts().mixing_rule)
    choose(model, [CONV] * 5, [CONV] * 5)
    return model


def test_gap_of_gates_is_in_shares_of_their_sum(tools: Any) -> None:
    model = gated(tools)
    gates = [1 / (1 + math.exp(-v)) for v in (0.0, 0.0, 3.0, 0.0)]
    assert described(model)["gap"] == pytest.approx((gates[2] - gates[0]) / sum(gates), rel=1e-5)


@pytest.mark.parametrize("closed", [[0], [0, 1, 2, 3, 4]])
def test_shares_of_closed_gates_are_nothing_and_not_undefined(tools: Any, closed: list[int]) -> None:
    """A sigmoid that is exactly 0 for every candidate of an edge."""
    model = gated(tools)
    for edge in closed:
        with torch.no_grad():
            model.owner_cells()[0].mixed_ops()[edge].alphas.fill_(-1e4)
    record = described(model)
    regular = record["cells"]["regular"]
    for edge in range(5):
        if edge in closed:
            assert (regular["weights"][edge], regular["entropy"][edge], regular["gap"][edge]) == ([0.0] * 4, 0.0, 0.0)
        else:
            gates = [1 / (1 + math.exp(-v)) for v in (0.0, 0.0, 3.0, 0.0)]
            shares = [gate / sum(gates) for gate in gates]
            assert regular["gap"][edge] == pytest.approx(shares[2] - shares[0], rel=1e-5)
            assert regular["entropy"][edge] == pytest.approx(-sum(p * math.log(p) for p in shares), rel=1e-5)
    assert math.isfinite(record["entropy"])
    assert math.isfinite(record["gap"])
    assert "nan" not in in_words(record)
    assert len(diagnosis(record)) == (len(closed) == 5)  # without any open gate the choice says it, by its counts


def test_only_candidate_beside_none_leads_by_its_share(tools: Any) -> None:
    space = type(tools.space)(1, 8, 5, channels=2, cells=3, nodes=2, reductions=1, primitives=["skip_connect", "none"])
    model = Model(space.build(), affine=False)
    for p in model.all_owned().param_by_kind():
        with torch.no_grad():
            p.copy_(torch.tensor([1.0, 0.0]))
    assert described(model)["gap"] == pytest.approx(softmax([1.0, 0.0])[0], rel=1e-5)


# --------------------------------------------------------------------------------------------------------------- counts


def test_counts_are_those_of_the_regular_cell(tools: Any) -> None:
    record = described(supergraph(tools, [SKIP, POOL, CONV, CONV, SKIP], [POOL] * 5))
    # Node 1 keeps the first two of three equally strong edges.
    assert (record["skips"], record["free_regular"], record["kept_regular"]) == (1, 2, 4)
    assert record["parameter_free"] == pytest.approx((2 + 4) / 8)


# ------------------------------------------------------------------------------------------------------------ sentences


def record_of(free: int, kept: int, weights: list[list[float]] | None, **changes: Any) -> dict[str, Any]:
    cells = {} if weights is None else {"regular": {"ops": OPS, "weights": weights}}
    return {"free_regular": free, "kept_regular": kept, "cells": cells, **changes}


LEANING = [[0.1, 0.7, 0.1, 0.1]]


@pytest.mark.parametrize(
    ("free", "kept", "said"), [(0, 8, False), (4, 8, False), (5, 8, True), (8, 8, True), (0, 0, False), (1, 1, True)]
)
def test_more_than_half_without_parameters_is_a_sign_of_collapse(free: int, kept: int, said: bool) -> None:
    found = diagnosis(record_of(free, kept, LEANING))
    assert len(found) == said
    if said:
        assert found[0] == (
            f"{free} of the {kept} {COLLAPSE}: shortcuts learn faster than convolutions. Remedies: the settings of "
            "search.stabilize."
        )


def test_remedies_that_are_named_exist() -> None:
    (sentence,) = diagnosis(record_of(8, 8, LEANING))
    phase, name = sentence.split()[-1].strip(".").split(".")
    assert isinstance(getattr(getattr(RunConf(), phase), name), StabilizeConf)


def test_equal_weights_choose_by_chance_and_say_nothing() -> None:
    assert diagnosis(record_of(8, 8, [[0.25] * 4] * 5)) == []
    # Two of three choices have no parameters: a share of 2/3 at the start, 1.1 times that is 0.733.
    assert diagnosis(record_of(8, 8, [[0.36, 0.36, 0.28, 9.0]])) == []
    assert len(diagnosis(record_of(8, 8, [[0.37, 0.37, 0.26, 9.0]]))) == 1


def test_share_is_the_mean_over_the_edges() -> None:
    assert diagnosis(record_of(8, 8, [[0.0, 0.6, 0.4, 0.0], [0.0, 0.8, 0.2, 0.0]])) == []
    assert len(diagnosis(record_of(8, 8, [[0.0, 0.6, 0.4, 0.0], [0.0, 0.9, 0.1, 0.0]]))) == 1


def test_edge_that_none_has_taken_altogether_is_left_out() -> None:
    taken = [0.0, 0.0, 0.0, 1.0]
    assert diagnosis(record_of(8, 8, [taken, [0.2, 0.2, 0.6, 0.0]])) == []
    assert len(diagnosis(record_of(8, 8, [taken, *LEANING]))) == 1
    assert len(diagnosis(record_of(8, 8, [taken, taken]))) == 1


def test_search_without_a_choice_in_the_regular_cell_is_judged_by_the_counts() -> None:
    assert len(diagnosis(record_of(5, 8, None))) == 1
    assert diagnosis(record_of(4, 8, None)) == []


def test_experts_of_which_only_none_is_left_can_be_described(tools: Any) -> None:
    model = supergraph(tools, [SKIP] * 5, [SKIP] * 5)
    model.set_mixing_rule(Xnas(horizon=10).mixing_rule)
    for value in model.all_owned().values():
        assert isinstance(value, torch.Tensor)
        value.copy_(torch.tensor([0, 0, 0, 1], dtype=value.dtype))
    record = described(model)
    assert record["cells"]["regular"]["weights"] == [[0.0, 0.0, 0.0, 1.0]] * 5
    assert len(diagnosis(record)) == 1


def test_words_give_the_numbers_of_the_record() -> None:
    record = record_of(2, 4, LEANING, entropy=1.2345, gap=0.0567, parameter_free=0.375, discretization_drop=None)
    assert in_words(record) == (
        "Entropy 1.23 of at most 1.39 nats; the first candidate leads the second by 5.7%; 38% of the operations of the "
        "would-be cells have no parameters."
    )
    said = in_words({**record, "discretization_drop": 12.34})
    assert said.endswith("no parameters; discretization costs 12.3 points of validation accuracy.")


# -------------------------------------------------------------------------------------------------------- real searches


class Scripted(MetaOptimizer):
    """Sets the alphas of both cell types in each epoch as the script says."""

    bilevel: ClassVar[bool] = False

    def __init__(self, *, script: list[int]) -> None:
        self.script = script

    def forward_equivalents(self, n_candidates: int) -> float:
        return 3.0

    def prepare(self, model: Model, *args: Any, **kwargs: Any) -> None:
        self.model = model

    def new_epoch(self, epoch: int) -> None:
        choose(self.model, [self.script[epoch]] * 5, [CONV] * 5)

    def step(self, train_batch: Batch, val_batch: Batch | None) -> None:
        pass

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        pass


SCRIPT = [CONV, SKIP, POOL, CONV, SKIP]


def test_sentence_appears_in_the_epochs_in_which_skips_win(tools: Any, caplog: pytest.LogCaptureFixture) -> None:
    log: list[dict[str, Any]] = []
    model = supergraph(tools, [CONV] * 5, [CONV] * 5)
    conf = tools.search_conf(epochs=5, max_steps_per_epoch=1)
    trainer = ArchTrainer(conf, model, strategy=Scripted(script=SCRIPT), alpha_log=log.append)
    with caplog.at_level(logging.WARNING, "gradnas"):
        trainer.fit(tools.context().loaders(conf, "search", test=False))
    assert [len(line["diagnosis"]) for line in log] == [0, 1, 1, 0, 1]
    assert log[1]["diagnosis"][0].startswith(f"4 of the 4 {COLLAPSE}")
    assert [line["skips"] for line in log] == [0, 4, 0, 0, 4]
    assert all(line["words"] == in_words(line) for line in log)
    # What stays is told once.
    assert {record.name for record in caplog.records} == {"gradnas.pipeline.arch_trainer"}
    assert [record.message.split(":")[0] for record in caplog.records] == [
        "epoch 1 of the search",
        "epoch 4 of the search",
    ]


def test_healthy_search_says_nothing(tools: Any, caplog: pytest.LogCaptureFixture) -> None:
    log: list[dict[str, Any]] = []
    conf = tools.search_conf(epochs=2, max_steps_per_epoch=1)
    trainer = ArchTrainer(
        conf, supergraph(tools, [CONV] * 5, [SKIP] * 5), strategy=Scripted(script=[CONV] * 2), alpha_log=log.append
    )
    with caplog.at_level(logging.WARNING, "gradnas"):
        trainer.fit(tools.context().loaders(conf, "search", test=False))
    assert [line["diagnosis"] for line in log] == [[], []]
    assert caplog.records == []


def test_sentences_go_to_the_run_folder(tools: Any) -> None:
    conf = tools.conf(search=tools.search_conf(epochs=3, max_steps_per_epoch=1), retrain=tools.retrain_conf(epochs=0))
    folder = tools.folder("run", conf)
    prepare(conf, tools.context(folder), tools.space, Scripted(script=[CONV, SKIP, CONV])).run()
    lines = folder.read_lines("alphas.jsonl")
    assert [len(line["diagnosis"]) for line in lines] == [0, 1, 0]
    assert COLLAPSE in lines[1]["diagnosis"][0]
    assert all(isinstance(line["gap"], float) and line["words"] for line in lines)
