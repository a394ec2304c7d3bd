"""Tests of ``src/gradnas/pipeline/diagnostics.py``."""

import json
import math
from typing import Any

import pytest
import torch

from gradnas.arch import CellType, EdgeDesc, NodeDesc, OpDesc
from gradnas.finalizers import Finalizers
from gradnas.foundation.seeds import seeded_initialization
from gradnas.pipeline.diagnostics import changed_edges, describe_alphas, entropies, mean_entropy, wired, would_be
from gradnas.supergraph import Model

# The candidates of the space: max_pool_3x3, skip_connect, sep_conv_3x3, none.
POOL, SKIP, CONV, NONE = range(4)


def supergraph(tools: Any, strongest: dict[str, list[int]]) -> Model:
    """A supergraph with a clear choice on every edge, by cell type, edges in order."""
    with seeded_initialization(0, "test"):
        model = Model(tools.space.build(), droppath=False, affine=False)
    for cell in model.owner_cells():
        for op, choice in zip(cell.mixed_ops(), strongest[cell.desc.cell_type.value], strict=True):
            with torch.no_grad():
                op.alphas.zero_()
                op.alphas[choice] = 3.0
    return model


ALL_CONV = {"regular": [CONV] * 5, "reduction": [CONV] * 5}


def softmax(values: list[float]) -> list[float]:
    total = sum(math.exp(v) for v in values)
    return [math.exp(v) / total for v in values]


def entropy(p: list[float]) -> float:
    return -sum(v * math.log(v) for v in p)


def described(model: Model) -> dict[str, Any]:
    return describe_alphas(model, would_be(model, Finalizers()))


def test_entropy_of_equal_weights_is_the_logarithm_of_their_number(tools: Any) -> None:
    model = supergraph(tools, ALL_CONV)
    for parameter in model.all_owned().param_by_kind():
        torch.nn.init.zeros_(parameter)
    assert mean_entropy(model) == pytest.approx(math.log(4), rel=1e-6)


def test_entropy_of_a_sure_choice_is_zero(tools: Any) -> None:
    model = supergraph(tools, ALL_CONV)
    for parameter in model.all_owned().param_by_kind():
        with torch.no_grad():
            parameter[0] = 500.0
    assert mean_entropy(model) == 0.0


def test_weights_and_entropy_are_those_of_the_softmax_by_hand(tools: Any) -> None:
    model = supergraph(tools, ALL_CONV)
    values = [0.5, -1.0, 2.0, 0.25]
    with torch.no_grad():
        model.owner_cells()[0].mixed_ops()[3].alphas.copy_(torch.tensor(values))
    cell = described(model)["cells"]["regular"]
    assert cell["alphas"][3] == values
    assert cell["weights"][3] == pytest.approx(softmax(values), rel=1e-5)
    assert cell["entropy"][3] == pytest.approx(entropy(softmax(values)), rel=1e-5)
    assert cell["entropy"][0] == pytest.approx(entropy(softmax([0, 0, 3, 0])), rel=1e-5)


def test_mean_entropy_is_over_all_edges_of_both_types(tools: Any) -> None:
    model = supergraph(tools, ALL_CONV)
    with torch.no_grad():
        model.owner_cells()[0].mixed_ops()[0].alphas.zero_()
    per_edge = [value for row in entropies(model) for value in row.tolist()]
    assert len(per_edge) == 10
    expected = (math.log(4) + 9 * entropy(softmax([0, 0, 3, 0]))) / 10
    assert mean_entropy(model) == pytest.approx(expected, rel=1e-5)


def test_record_names_edges_and_candidates(tools: Any) -> None:
    cell = described(supergraph(tools, ALL_CONV))["cells"]["reduction"]
    assert cell["edges"] == [[0, 0], [0, 1], [1, 0], [1, 1], [1, 2]]
    assert cell["ops"] == ["max_pool_3x3", "skip_connect", "sep_conv_3x3", "none"]


def test_record_counts_skips_of_the_regular_cell(tools: Any) -> None:
    strongest = {"regular": [SKIP, CONV, SKIP, SKIP, CONV], "reduction": [CONV] * 5}
    # Node 1 keeps two of its three equally strong edges, those of the lower states: skip from 0 and skip from 1.
    assert described(supergraph(tools, strongest))["skips"] == 3


def test_share_of_parameter_free_ops_is_over_both_types(tools: Any) -> None:
    # Three of four kept edges of the regular cell, one of the reduction cell; the second regular cell does not count.
    strongest = {"regular": [SKIP, POOL, POOL, CONV, CONV], "reduction": [POOL, CONV, CONV, CONV, CONV]}
    assert described(supergraph(tools, strongest))["parameter_free"] == pytest.approx(4 / 8)


def test_strongest_edges_are_kept_and_none_is_never_chosen(tools: Any) -> None:
    strongest = {"regular": [NONE, CONV, NONE, CONV, POOL], "reduction": [CONV] * 5}
    model = supergraph(tools, strongest)
    with torch.no_grad():
        model.owner_cells()[0].mixed_ops()[2].alphas[SKIP] = 0.5  # weak beside none, so this edge goes
    text = described(model)["genotype"]
    assert "normal=[('max_pool_3x3', 0), ('sep_conv_3x3', 1), ('sep_conv_3x3', 1), ('max_pool_3x3', 2)]" in text


def test_first_record_has_no_changes(tools: Any) -> None:
    assert changed_edges(None, would_be(supergraph(tools, ALL_CONV), Finalizers())) == 0


def test_changed_edges_are_counted_once_per_type(tools: Any) -> None:
    old = would_be(supergraph(tools, ALL_CONV), Finalizers())
    new = would_be(
        supergraph(tools, {"regular": [POOL, CONV, CONV, CONV, CONV], "reduction": [CONV, SKIP, SKIP, CONV, CONV]}),
        Finalizers(),
    )
    assert changed_edges(old, old) == 0
    assert changed_edges(old, new) == 3


def test_describing_changes_nothing(tools: Any) -> None:
    model = supergraph(tools, ALL_CONV)
    before, training = {k: v.clone() for k, v in model.state_dict().items()}, model.training
    rng = torch.get_rng_state()
    first, second = described(model), described(model)
    assert first == second
    assert model.training is training
    assert torch.equal(torch.get_rng_state(), rng)
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


def test_record_holds_the_would_be_cells_of_both_types(tools: Any) -> None:
    strongest = {"regular": [NONE, CONV, NONE, CONV, POOL], "reduction": [SKIP] * 5}
    model = supergraph(tools, strongest)
    with torch.no_grad():
        model.owner_cells()[0].mixed_ops()[2].alphas[SKIP] = 0.5  # weak beside none, so this edge goes
    found = would_be(model, Finalizers())
    record = json.loads(json.dumps(described(model)["would_be"]))
    nodes = record["regular"]["nodes"]
    assert [sorted(node) for node in nodes] == [
        [["max_pool_3x3", [0]], ["sep_conv_3x3", [1]]],
        [["max_pool_3x3", [2]], ["sep_conv_3x3", [1]]],
    ]
    assert {op for node in record["reduction"]["nodes"] for op, _ in node} == {"skip_connect"}
    for kind in CellType:
        cell = found.first_cell(kind)
        assert cell is not None
        shapes = [*cell.stem_shapes, *cell.node_shapes, cell.out_shape]
        assert record[kind.value]["shapes"] == [list(shape) for shape in shapes]
        assert record[kind.value]["merge"] == cell.post_op.name
        assert record[kind.value]["merged"] == [2, 3]
        assert record[kind.value]["stems"] == [stem.name for stem in cell.stems]


def test_a_composite_is_recorded_with_what_its_parts_read(tools: Any) -> None:
    cell = would_be(supergraph(tools, ALL_CONV), Finalizers()).first_cell(CellType.Regular)
    assert cell is not None
    parts = (OpDesc("sep_conv_3x3"), OpDesc("skip_connect"))
    composite = EdgeDesc(OpDesc("multi_op", in_len=2, children=parts, children_ins=(1, 0)), (0, 2))
    node = NodeDesc((composite,), cell.nodes()[1].conv_params)
    changed = cell.reset_nodes((cell.nodes()[0], node), cell.node_shapes, cell.post_op, cell.out_shape)
    assert wired(changed)["nodes"][1] == [["multi_op", [0, 2], [["sep_conv_3x3", [2]], ["skip_connect", [0]]]]]


def test_record_is_plain_json(tools: Any) -> None:
    record = described(supergraph(tools, ALL_CONV))
    assert json.loads(json.dumps(record, allow_nan=False)) == record
    named = {
        "cells",
        "would_be",
        "genotype",
        "entropy",
        "gap",
        "skips",
        "parameter_free",
        "free_regular",
        "kept_regular",
    }
    assert set(record) == named
