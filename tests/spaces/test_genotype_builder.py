"""Tests of ``src/gradnas/spaces/genotype_builder.py``."""

import pytest
import torch

from gradnas.arch import PUBLISHED, CellType, Genotype, ModelDesc, concat_ids
from gradnas.spaces import DartsSpace, GenotypeBuilder
from gradnas.supergraph import Model

PLAIN = Genotype([("sep_conv_3x3", 0), ("skip_connect", 1)], [2], [], [])


def network(genotype: Genotype, **changes: object) -> ModelDesc:
    values: dict[str, object] = {"channels": 2, "cells": 5, "image_size": 8, **changes}
    return DartsSpace().from_genotype(genotype, **values)


def weights_of(op: str, channels: int, stride: int) -> int:
    """Closed form of the weights of an edge, independent of the modules."""
    c, pointwise = channels, channels**2 + 2 * channels  # 1×1 convolution and batch norm
    separable = {"sep_conv_3x3": 9, "sep_conv_5x5": 25, "sep_conv_7x7": 49}
    dilated = {"dil_conv_3x3": 9, "dil_conv_5x5": 25}
    factorized = {"conv_7x1_1x7": 14, "conv_3x1_1x3": 6}
    if op in separable:
        return 2 * (separable[op] * c + pointwise)
    if op in dilated:
        return dilated[op] * c + pointwise
    if op in factorized:
        return factorized[op] * c**2 + 2 * c
    return pointwise if (op, stride) == ("skip_connect", 2) else 0


def closed_form(genotype: Genotype, channels: int, cells: int) -> int:
    """Weights of the CIFAR network of a genotype with two reductions, without auxiliary tower."""
    stem = 3 * channels
    total = 3 * 9 * stem + 2 * stem
    older = newer = stem
    for i in range(cells):
        reduction = i in (cells // 3, 2 * cells // 3)
        channels *= 2 if reduction else 1
        total += (older + newer) * channels + 4 * channels
        pairs = genotype.reduce if reduction else genotype.normal
        concat = genotype.reduce_concat if reduction else genotype.normal_concat
        total += sum(weights_of(op, channels, 2 if reduction and source < 2 else 1) for op, source in pairs)
        older, newer = newer, len(concat) * channels
    return total + newer * 10 + 10


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_published_genotype_runs_forward_and_backward(name: str) -> None:
    model = Model(network(PUBLISHED[name], aux_weight=0.4, image_size=24), droppath=True)
    model.drop_path_prob(0.2)
    logits, aux = model(torch.randn(2, 3, 24, 24))
    assert logits.shape == aux.shape == (2, 10)
    (logits.sum() + aux.sum()).backward()
    assert model.eval()(torch.randn(1, 3, 24, 24))[0].isfinite().all()


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_genotype_comes_back_from_its_description(name: str) -> None:
    assert network(PUBLISHED[name]).genotype() == PUBLISHED[name]


@pytest.mark.parametrize("name", PUBLISHED)
def test_number_of_weights_equals_the_closed_form(name: str) -> None:
    with torch.device("meta"):
        model = Model(network(PUBLISHED[name], channels=4, cells=8))
    assert sum(p.numel() for p in model.parameters()) == closed_form(PUBLISHED[name], 4, 8)


def test_the_closed_form_gives_the_published_counts() -> None:
    assert closed_form(PUBLISHED["DARTS_V1"], 36, 20) == 3_169_414
    assert closed_form(PUBLISHED["DARTS_V2"], 36, 20) == 3_349_342


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_node_count_of_the_genotype_wins(name: str) -> None:
    assert {len(cell.nodes()) for cell in network(PUBLISHED[name], nodes=3).cell_descs} == {PUBLISHED[name].n_nodes}


@pytest.mark.parametrize("merge", ["concate_channels", "proj_channels"])
def test_the_listed_states_are_merged(merge: str) -> None:
    genotype = PUBLISHED["AmoebaNet_A"]
    desc = network(genotype, merge=merge)
    for cell in desc.cell_descs:
        expected = genotype.normal_concat if cell.cell_type is CellType.Regular else genotype.reduce_concat
        assert concat_ids(cell) == expected
        assert cell.post_op.params["out_states"] == len(expected)
        assert cell.post_op.params.get("concat_ids") == (None if expected == (4, 5, 6) else expected)
    assert Model(desc)(torch.randn(2, 3, 8, 8))[0].shape == (2, 10)


def test_the_order_of_the_merged_states_is_kept() -> None:
    pairs = [("sep_conv_3x3", 0), ("skip_connect", 1)] * 2
    desc = network(Genotype(pairs, [3, 2], [], []), reductions=0)
    assert concat_ids(desc.cell_descs[0]) == (3, 2)
    assert desc.genotype().normal_concat == (3, 2)


def test_edges_are_the_pairs_with_the_stride_of_the_cell() -> None:
    genotype = PUBLISHED["XNAS"]
    for cell in network(genotype).cell_descs:
        reduction = cell.cell_type is CellType.Reduction
        found = [(e.op_desc.name, e.input_ids[0], e.op_desc.stride) for node in cell.nodes() for e in node.edges]
        pairs = genotype.reduce if reduction else genotype.normal
        assert found == [(op, source, 2 if reduction and source < 2 else 1) for op, source in pairs]


def test_a_genotype_without_reduction_cell_cannot_reduce() -> None:
    message = r"^cells\[1\] is a reduction cell, but the genotype has none; build it with reductions=0\."
    with pytest.raises(ValueError, match=message):
        network(PLAIN)


def test_a_genotype_without_reduction_cell_builds_without_reductions() -> None:
    desc = network(PLAIN, reductions=0)
    assert desc.genotype() == PLAIN
    assert Model(desc)(torch.randn(2, 3, 8, 8))[0].shape == (2, 10)


def test_an_unknown_op_names_place_and_nearest() -> None:
    genotype = Genotype([("sep_conv_3x3", 0), ("sep_conv_3x4", 1)], [2], [], [])
    message = r"cells\[0\]\.nodes\[0\]\.edges\[1\]: no operation 'sep_conv_3x4'\. Did you mean 'sep_conv_3x3'\?"
    with pytest.raises(KeyError, match=message):
        network(genotype, reductions=0)


def test_changes_are_those_of_the_space() -> None:
    with pytest.raises(TypeError, match=r"unknown setting 'chanels'\. Did you mean 'channels'\?"):
        DartsSpace().from_genotype(PLAIN, chanels=3)


def test_the_builder_alone_takes_settings() -> None:
    conf = DartsSpace(channels=2, cells=2, reductions=0).conf
    assert GenotypeBuilder(PLAIN, conf).build() == GenotypeBuilder(PLAIN).build(conf)


def test_a_registry_of_its_own_unless_given_one() -> None:
    space = DartsSpace()
    assert GenotypeBuilder(PLAIN, registry=space.registry).registry is space.registry
    assert GenotypeBuilder(PLAIN).registry is not GenotypeBuilder(PLAIN).registry
