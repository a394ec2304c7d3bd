"""Tests of ``src/gradnas/ops/merge.py``."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from gradnas.arch import ConvMacroParams, OpDesc, Params
from gradnas.ops import MergeOp, Op


def make_merge(name: str = "concate_channels", affine: bool = True, **params: object) -> Op:
    return Op.create(OpDesc(name, Params(params)), affine)


def make_states(n: int, channels: int = 2) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(3, channels, 4, 4, generator=generator, dtype=torch.float64) for _ in range(n)]


def test_last_states_are_concatenated_in_order() -> None:
    states = make_states(6)
    assert torch.equal(make_merge(out_states=4)(states), torch.cat(states[2:], dim=1))


def test_listed_states_are_concatenated_in_the_order_of_the_list() -> None:
    states = make_states(6)
    merged = make_merge(out_states=3, concat_ids=(5, 0, 2))(states)
    assert torch.equal(merged, torch.cat([states[5], states[0], states[2]], dim=1))


def test_list_of_states_is_enough() -> None:
    states = make_states(4)
    assert torch.equal(make_merge(concat_ids=(3, 2))(states), torch.cat([states[3], states[2]], dim=1))


def test_concatenation_has_no_parameters() -> None:
    assert list(make_merge(out_states=4).parameters()) == []


@pytest.mark.parametrize("affine", [True, False])
def test_projection_equals_concatenation_convolution_norm_without_relu(affine: bool) -> None:
    op = make_merge("proj_channels", affine, conv=ConvMacroParams(6, 2), out_states=3).double()
    states = make_states(5)
    w = list(op.parameters())
    y = F.conv2d(torch.cat(states[2:], dim=1), w[0])
    expected = F.batch_norm(y, None, None, *(w[1:] if affine else (None, None)), training=True)
    torch.testing.assert_close(op(states), expected)
    assert (op(states) < 0).any()


def test_number_of_parameters_of_the_projection() -> None:
    op = make_merge("proj_channels", conv=ConvMacroParams(64, 16), out_states=4)
    assert sum(p.numel() for p in op.parameters()) == 64 * 16 + 2 * 16


@pytest.mark.parametrize("name", ["concate_channels", "proj_channels"])
def test_too_few_states_are_refused(name: str) -> None:
    op = make_merge(name, conv=ConvMacroParams(6, 2), out_states=3)
    with pytest.raises(ValueError, match=r"merge needs the states -3…-1, got 2 states"):
        op([state.float() for state in make_states(2)])


def test_listed_state_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ValueError, match=r"merge needs the states \(2, 4\), got 4 states"):
        make_merge(out_states=2, concat_ids=(2, 4))(make_states(4))


@pytest.mark.parametrize("params", [{}, {"out_states": 0}, {"out_states": "4"}, {"concat_ids": ()}])
def test_merge_of_nothing_is_refused(params: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="'concate_channels' must merge at least one state, got out_states="):
        make_merge(**params)


@pytest.mark.parametrize("ids", [(-1,), (0, "x"), 3, (1.0,)])
def test_ids_that_are_no_states_are_refused(ids: object) -> None:
    with pytest.raises(ValueError, match="'concate_channels': concat_ids must be ids of states, got"):
        make_merge(concat_ids=ids)


def test_contradicting_numbers_are_refused() -> None:
    with pytest.raises(ValueError, match=r"concat_ids \(2, 3\) and out_states 4 disagree"):
        make_merge(out_states=4, concat_ids=(2, 3))


def test_states_are_not_modified() -> None:
    states = make_states(5)
    before = [state.clone() for state in states]
    make_merge("proj_channels", conv=ConvMacroParams(6, 2), out_states=3).double()(states)
    assert all(torch.equal(a, b) for a, b in zip(states, before, strict=True))


@pytest.mark.parametrize("name", ["concate_channels", "proj_channels"])
def test_drop_path_does_not_apply(name: str) -> None:
    op = make_merge(name, conv=ConvMacroParams(6, 2), out_states=3)
    assert isinstance(op, MergeOp)
    assert not op.can_drop_path()
