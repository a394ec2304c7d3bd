"""Tests of ``src/gradnas/arch/weights.py``, through ``ModelDesc.save`` and ``ModelDesc.load``."""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from gradnas.arch import ModelDesc, OpDesc

MakeModel = Callable[..., ModelDesc]


def trained(desc: ModelDesc) -> ModelDesc:
    """Give each op, children included, a weight of its own, and one op several of different types."""
    generator = torch.Generator().manual_seed(0)

    def train(op: OpDesc) -> OpDesc:
        sd: dict[str, Any] = {"layers.0.weight": torch.randn(2, 3, generator=generator)}
        if op.name == "linear":
            sd |= {"bias": torch.arange(3.0, dtype=torch.float64), "n": torch.tensor(7), "half": torch.ones(2).half()}
        children = None if op.children is None else tuple(train(child) for child in op.children)
        return replace(op, trainables={"name": op.name, "sd": sd}, children=children)

    return desc.map_ops(lambda _, op: train(op))


def all_weights(desc: ModelDesc) -> dict[str, dict[str, torch.Tensor] | None]:
    parts = [part for place, top in desc.top_ops() for part in top.all_ops(place)]
    return {place: None if op.trainables is None else op.trainables["sd"] for place, op in parts}


def assert_same_weights(one: ModelDesc, two: ModelDesc) -> None:
    first, second = all_weights(one), all_weights(two)
    assert first.keys() == second.keys()
    for place, sd in first.items():
        other = second[place]
        assert (sd is None) == (other is None), place
        if sd is not None and other is not None:
            assert sd.keys() == other.keys(), place
            assert all(torch.equal(sd[key], other[key]) and sd[key].dtype == other[key].dtype for key in sd), place


def test_weights_return_bit_for_bit_with_their_types_also_in_children(make_model: MakeModel, tmp_path: Path) -> None:
    desc = trained(make_model())
    desc.save(tmp_path / "m.json", save_trainables=True)
    loaded = ModelDesc.load(tmp_path / "m.json", load_trainables=True)
    assert loaded == desc
    assert_same_weights(loaded, desc)
    assert all_weights(loaded)["cells.0.nodes.1.edges.1.children.1"] is not None


def test_weights_lie_beside_the_description(make_model: MakeModel, tmp_path: Path) -> None:
    trained(make_model()).save(tmp_path / "m.json", save_trainables=True)
    assert sorted(os.listdir(tmp_path)) == ["m.json", "m.safetensors"]


def test_ops_without_weights_stay_without(make_model: MakeModel, tmp_path: Path) -> None:
    desc = trained(make_model())
    desc = replace(desc, pool_op=desc.pool_op.clear_trainables())
    desc.save(tmp_path / "m.json", save_trainables=True)
    assert_same_weights(ModelDesc.load(tmp_path / "m.json", load_trainables=True), desc)


def test_description_without_any_weights_can_be_saved_with_them(make_model: MakeModel, tmp_path: Path) -> None:
    make_model().save(tmp_path / "m.json", save_trainables=True)
    assert_same_weights(ModelDesc.load(tmp_path / "m.json", load_trainables=True), make_model())


def test_weights_are_left_out_unless_asked_for(make_model: MakeModel, tmp_path: Path) -> None:
    trained(make_model()).save(tmp_path / "m.json", save_trainables=True)
    assert set(all_weights(ModelDesc.load(tmp_path / "m.json")).values()) == {None}


def test_ops_that_share_tensors_can_be_saved(make_model: MakeModel, tmp_path: Path) -> None:
    both = torch.arange(6.0)
    desc = make_model().map_ops(
        lambda _, op: replace(op, trainables={"name": op.name, "sd": {"whole": both, "part": both[:2]}})
    )
    desc.save(tmp_path / "m.json", save_trainables=True)
    assert_same_weights(ModelDesc.load(tmp_path / "m.json", load_trainables=True), desc)


def test_views_and_tensors_with_gradient_can_be_saved(make_model: MakeModel, tmp_path: Path) -> None:
    weight = torch.arange(6.0).reshape(2, 3).t().requires_grad_()
    desc = make_model()
    desc = replace(desc, logits_op=replace(desc.logits_op, trainables={"name": "linear", "sd": {"w": weight}}))
    desc.save(tmp_path / "m.json", save_trainables=True)
    loaded = all_weights(ModelDesc.load(tmp_path / "m.json", load_trainables=True))["logits_op"]
    assert loaded is not None
    assert torch.equal(loaded["w"], weight)
    assert not loaded["w"].requires_grad


def test_requested_weights_that_are_missing_are_named(make_model: MakeModel, tmp_path: Path) -> None:
    make_model().save(tmp_path / "m.json")
    with pytest.raises(FileNotFoundError, match=r"weights were asked for, but there is no .*m\.safetensors"):
        ModelDesc.load(tmp_path / "m.json", load_trainables=True)


@pytest.mark.parametrize("damage", [lambda data: b"", lambda data: data[:-1], lambda data: b"\xff" * 64])
def test_damaged_weights_are_named(make_model: MakeModel, tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    trained(make_model()).save(tmp_path / "m.json", save_trainables=True)
    weights = tmp_path / "m.safetensors"
    weights.write_bytes(damage(weights.read_bytes()))
    with pytest.raises(ValueError, match=r"m\.safetensors is not a readable safetensors file"):
        ModelDesc.load(tmp_path / "m.json", load_trainables=True)


def test_weights_of_another_network_are_refused(make_model: MakeModel, tmp_path: Path) -> None:
    trained(make_model()).save(tmp_path / "m.json", save_trainables=True)
    smaller = make_model(cell_descs=make_model().cell_descs[:2], aux_tower_descs=(None, None))
    smaller.save(tmp_path / "m.json")
    with pytest.raises(ValueError, match=r"m\.safetensors holds the weights of another architecture: \w{12}, not"):
        ModelDesc.load(tmp_path / "m.json", load_trainables=True)


def test_full_disk_leaves_the_saved_weights(
    make_model: MakeModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fsync(handle: int) -> None:
        raise OSError(28, "No space left on device")

    desc = trained(make_model())
    desc.save(tmp_path / "m.json", save_trainables=True)
    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(OSError, match=r"cannot write .*m\.safetensors"):
        make_model().save(tmp_path / "m.json", save_trainables=True)
    assert_same_weights(ModelDesc.load(tmp_path / "m.json", load_trainables=True), desc)


def test_a_flipped_bit_is_refused(make_model: MakeModel, tmp_path: Path) -> None:
    trained(make_model()).save(tmp_path / "m.json", save_trainables=True)
    data = bytearray((tmp_path / "m.safetensors").read_bytes())
    data[-2] ^= 1
    (tmp_path / "m.safetensors").write_bytes(data)
    with pytest.raises(ValueError, match=r"m\.safetensors was changed or damaged"):
        ModelDesc.load(tmp_path / "m.json", load_trainables=True)
