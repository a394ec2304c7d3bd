"""Tests of ``src/gradnas/arch/published.py``."""

import hashlib
from collections.abc import Mapping

import pytest

from gradnas.arch import published
from gradnas.arch.genotype import Genotype, Pair
from gradnas.arch.op_names import CELL_OPS, DARTS_PRIMITIVES
from gradnas.arch.published import PUBLISHED

# The first 12 hex digits of the SHA-256 of ``str(genotype)``, taken when the constants were compared by machine with
# the project's transcription of the sources. A published genotype never changes.
DIGESTS = {
    "DARTS_V1": "42911f9d2785",
    "DARTS_V2": "95615ae01a62",
    "XNAS": "ea53a53e8879",
    "PC_DARTS_cifar": "b299a3a6bcb2",
    "PC_DARTS_image": "9a8d3abc25fd",
    "P_DARTS": "138383b1a04f",
    "DrNAS_cifar10": "df35a501da7d",
    "GDAS_V1": "4bb415cc28b8",
    "SETN": "9a95e1a46273",
    "NASNet_A": "d0f9c2bf9d1b",
    "AmoebaNet_A": "fd4e6daf23ef",
    "PNASNet": "5cfc41369684",
    "PT_DARTS_cifar10": "9c6cfcbef2e1",
    "PT_DARTS_fashion_mnist": "962ff874a4aa",
    "PT_DARTS_mnist": "5f6fa1720e31",
    "NNI_first_order": "dd72b3a11231",
    "NNI_short": "0326c7aba54b",
}

SHORT = {
    "sep3": "sep_conv_3x3",
    "dil3": "dil_conv_3x3",
    "dil5": "dil_conv_5x5",
    "skip": "skip_connect",
    "max": "max_pool_3x3",
    "avg": "avg_pool_3x3",
}


def long_form(short: str) -> tuple[tuple[Pair, Pair], ...]:
    """Nodes of ``"sep3 1, sep3 0 | skip 0, sep3 1"``, the short form of the contract."""
    nodes = []
    for node in short.split(" | "):
        (op_a, source_a), (op_b, source_b) = (pair.split() for pair in node.split(", "))
        nodes.append(((SHORT[op_a], int(source_a)), (SHORT[op_b], int(source_b))))
    return tuple(nodes)


@pytest.mark.parametrize(
    ("name", "normal", "reduce"),
    [
        (
            "DARTS_V1",
            "sep3 1, sep3 0 | skip 0, sep3 1 | skip 0, sep3 1 | sep3 0, skip 2",
            "max 0, max 1 | skip 2, max 0 | max 0, skip 2 | skip 2, avg 0",
        ),
        (
            "DARTS_V2",
            "sep3 0, sep3 1 | sep3 0, sep3 1 | sep3 1, skip 0 | skip 0, dil3 2",
            "max 0, max 1 | skip 2, max 1 | max 0, skip 2 | skip 2, max 1",
        ),
        (
            "XNAS",
            "sep3 1, skip 0 | sep3 0, sep3 2 | sep3 3, sep3 1 | dil5 4, sep3 0",
            "max 0, avg 1 | avg 0, skip 2 | dil3 3, max 0 | dil5 4, avg 0",
        ),
    ],
)
def test_equals_the_short_form_of_the_contract(name: str, normal: str, reduce: str) -> None:
    genotype = PUBLISHED[name]
    assert genotype.normal_nodes == long_form(normal)
    assert genotype.reduce_nodes == long_form(reduce)
    assert genotype.normal_concat == genotype.reduce_concat == (2, 3, 4, 5)


@pytest.mark.parametrize("name", DIGESTS)
def test_constant_is_unchanged(name: str) -> None:
    assert hashlib.sha256(str(PUBLISHED[name]).encode()).hexdigest()[:12] == DIGESTS[name]


@pytest.mark.parametrize("name", DIGESTS)
def test_survives_writing_and_reading(name: str) -> None:
    assert Genotype.from_string(f"{name} = {PUBLISHED[name]}") == PUBLISHED[name]


@pytest.mark.parametrize("name", DIGESTS)
def test_every_source_is_smaller_than_its_node(name: str) -> None:
    genotype = PUBLISHED[name]
    for nodes in (genotype.normal_nodes, genotype.reduce_nodes):
        for node, pairs in enumerate(nodes, start=2):
            assert all(0 <= source < node for _, source in pairs)
            assert all(op in CELL_OPS for op, _ in pairs)


def test_the_mapping_holds_every_constant_under_its_name() -> None:
    constants = {name: value for name, value in vars(published).items() if isinstance(value, Genotype)}
    assert constants == dict(PUBLISHED)
    assert list(PUBLISHED) == list(DIGESTS)


def test_the_mapping_is_read_only() -> None:
    assert isinstance(PUBLISHED, Mapping)
    with pytest.raises(TypeError):
        PUBLISHED["XNAS"] = PUBLISHED["DARTS_V1"]  # type: ignore[index]  # what the test is about


def test_cells_outside_the_darts_form() -> None:
    five = {"NASNet_A", "AmoebaNet_A", "PNASNet"}
    assert {name for name, genotype in PUBLISHED.items() if genotype.n_nodes == 5} == five
    assert all(PUBLISHED[name].n_nodes == 4 for name in PUBLISHED if name not in five)
    concats = {name: (PUBLISHED[name].normal_concat, PUBLISHED[name].reduce_concat) for name in five}
    assert concats == {
        "NASNet_A": ((2, 3, 4, 5, 6), (4, 5, 6)),
        "AmoebaNet_A": ((4, 5, 6), (3, 4, 6)),
        "PNASNet": ((2, 3, 4, 5, 6), (2, 3, 4, 5, 6)),
    }
    assert PUBLISHED["PNASNet"].normal == PUBLISHED["PNASNet"].reduce
    others = {
        name: sorted({op for op, _ in genotype.normal + genotype.reduce if op not in DARTS_PRIMITIVES})
        for name, genotype in PUBLISHED.items()
    }
    assert {name: ops for name, ops in others.items() if ops} == {
        "SETN": ["conv_3x1_1x3"],
        "NASNet_A": ["sep_conv_7x7"],
        "AmoebaNet_A": ["conv_7x1_1x7", "sep_conv_7x7"],
        "PNASNet": ["sep_conv_7x7"],
    }
