"""Tests of ``src/gradnas/pipeline/weights.py``; more of them through the evaluater, ``test_evaluater.py``."""

import random
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from gradnas.arch import Genotype
from gradnas.pipeline import load_weights
from gradnas.pipeline.weights import save_weights
from gradnas.spaces import DartsSpace
from gradnas.supergraph import Model


def network(seed: int) -> Model:
    genotype = Genotype(
        normal=[("sep_conv_3x3", 0), ("skip_connect", 1)],
        normal_concat=[2],
        reduce=[("max_pool_3x3", 0), ("skip_connect", 1)],
        reduce_concat=[2],
    )
    torch.manual_seed(seed)
    return Model(DartsSpace(1, 8, 3, channels=2, cells=3, nodes=1, reductions=1).from_genotype(genotype, channels=2))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    save_weights(network(0), tmp_path / "w.safetensors")
    return tmp_path / "w.safetensors"


def same(one: Model, two: Model) -> bool:
    return all(torch.equal(value, two.state_dict()[name]) for name, value in one.state_dict().items())


def test_weights_come_back(path: Path) -> None:
    other = network(1)
    assert not same(other, network(0))
    load_weights(other, path)
    assert same(other, network(0))


def test_the_same_weights_are_the_same_bytes(path: Path, tmp_path: Path) -> None:
    save_weights(network(0), tmp_path / "again")
    assert (tmp_path / "again").read_bytes() == path.read_bytes()


def test_weights_without_a_checksum_are_taken_as_they_are(path: Path) -> None:
    save_file(load_file(path), path)
    other = network(1)
    load_weights(other, path)
    assert same(other, network(0))


def test_a_flipped_bit_in_a_weight_is_refused_and_changes_nothing(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-3] ^= 4
    path.write_bytes(data)
    other = network(1)
    with pytest.raises(ValueError, match=r"w\.safetensors was changed or damaged.* retrain the network"):
        load_weights(other, path)
    assert same(other, network(1))


@pytest.mark.parametrize("other", ["shape", "missing", "unknown"])
def test_one_tensor_that_does_not_fit_changes_nothing(path: Path, other: str) -> None:
    tensors = load_file(path)
    last = sorted(tensors)[-1]
    if other == "shape":
        tensors[last] = torch.zeros(7, 7)
    elif other == "missing":
        del tensors[last]
    else:
        tensors["z"] = torch.zeros(1)
    save_file(tensors, path)
    model = network(1)
    with pytest.raises(
        ValueError, match=r"does not hold the weights of this network: .*(has the shape|Missing key|Unexpected key z)"
    ):
        load_weights(model, path)
    assert same(model, network(1))


@pytest.mark.parametrize("kind", ["cut", "flip"])
def test_damaged_weights_are_written_again_where_a_checkpoint_is(path: Path, kind: str) -> None:
    run = path.parent
    (run / "checkpoints").mkdir()
    (run / "checkpoints" / "retrain.pt").touch()
    data = bytearray(path.read_bytes())
    data[-3] ^= 4
    (run / "weights.safetensors").write_bytes(data[:-9] if kind == "cut" else data)
    with pytest.raises(ValueError, match=r"weights\.safetensors .*\. `gradnas resume .*` writes it again"):
        load_weights(network(1), run / "weights.safetensors")


def test_any_flipped_bit_or_cut_is_refused_or_harmless(path: Path) -> None:
    whole = path.read_bytes()
    chance = random.Random(0)
    header = 8 + int.from_bytes(whole[:8], "little")
    places = [*chance.sample(range(8 * header), 150), *chance.sample(range(8 * header, 8 * len(whole)), 50)]
    expected = network(0)
    for place in places:
        data = bytearray(whole)
        data[place // 8] ^= 1 << place % 8
        path.write_bytes(data)
        other = network(1)
        try:
            load_weights(other, path)
        except ValueError as error:
            assert "w.safetensors" in str(error)  # noqa: PT017 - most are refused, not all
        else:
            assert same(other, expected), f"bit {place}"
    for length in chance.sample(range(len(whole)), 30):
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError, match=r"w\.safetensors"):
            load_weights(network(1), path)
