"""Tests of ``src/gradnas/supergraph/partial.py``, and of the mixed op that uses it."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gradnas.arch import DARTS_PRIMITIVES, ConvMacroParams, OpDesc, Params
from gradnas.ops import Op
from gradnas.supergraph import MixedOp
from gradnas.supergraph.partial import narrowed, partial_of, passed_by, shuffled, split

F64 = torch.float64


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=F64)


def desc(partial: Any = 2, channels: tuple[int, int] = (8, 8), stride: int = 1, **more: Any) -> OpDesc:
    params = Params(
        conv=ConvMacroParams(*channels), stride=stride, primitives=DARTS_PRIMITIVES, partial=partial, **more
    )
    return OpDesc("mixed_op", params)


def mixed(partial: int = 2, stride: int = 1) -> MixedOp:
    torch.manual_seed(0)
    op = MixedOp(desc(partial, stride=stride), None, True).double()
    with torch.no_grad():
        op.alphas.copy_(random(8, seed=5))
    return op


# ---------------------------------------------------------------------------------------------------------- parameters


def test_parts_are_those_that_the_op_says_or_one() -> None:
    assert partial_of(desc(4)) == 4
    params = {key: value for key, value in desc().params.items() if key != "partial"}
    assert partial_of(OpDesc("mixed_op", Params(params))) == 1
    assert partial_of(desc(1, channels=(8, 6))) == 1  # whole channels may change


@pytest.mark.parametrize("partial", [0, -2, 2.0, True, "2", None])
def test_parts_that_are_no_count_are_refused(partial: Any) -> None:
    with pytest.raises(ValueError, match="partial must be a whole number of at least 1, got"):
        partial_of(desc(partial))


@pytest.mark.parametrize(("partial", "channels"), [(3, (8, 8)), (16, (8, 8)), (2, (8, 4)), (2, (4, 8)), (2, (7, 7))])
def test_channels_that_do_not_divide_or_change_are_refused_with_numbers(
    partial: int, channels: tuple[int, int]
) -> None:
    message = (
        rf"one of {partial} equal parts .* {channels[0]} input and {channels[1]} output .* multiple of {partial}\."
    )
    with pytest.raises(ValueError, match=message):
        partial_of(desc(partial, channels))
    with pytest.raises(ValueError, match=message):
        MixedOp(desc(partial, channels), None, True)


def test_candidates_get_their_part_of_the_channels_and_all_other_parameters() -> None:
    params = desc(4, stride=2, affine="kept").params
    narrow = narrowed(params, 4)
    assert narrow["conv"] == ConvMacroParams(2, 2)
    assert narrow.replace(conv=params["conv"]) == params
    assert params["conv"] == ConvMacroParams(8, 8)


# ------------------------------------------------------------------------------------------------ split, pass, shuffle


def test_the_first_part_is_seen_and_the_others_are_not() -> None:
    x = random(2, 12, 3, 3)
    seen, rest = split(x, 3)
    assert torch.equal(seen, x[:, :4])
    assert torch.equal(rest, x[:, 4:])
    assert seen.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("size", [(1, 1), (1, 4), (6, 6), (7, 7), (5, 8)])
def test_channels_that_pass_are_the_largest_of_two_by_two_pixels(size: tuple[int, int]) -> None:
    x = random(2, 3, *size) - 10  # all negative: padding with zeros would win
    assert torch.equal(passed_by(x, 1), x)
    found = passed_by(x, 2)
    assert found.shape == (2, 3, -(-size[0] // 2), -(-size[1] // 2))
    for i in range(found.shape[2]):
        for j in range(found.shape[3]):
            window = x[:, :, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2]
            assert torch.equal(found[:, :, i, j], window.flatten(2).amax(2))


@pytest.mark.parametrize(("parts", "channels"), [(2, 8), (4, 8), (8, 8), (3, 12)])
def test_shuffle_is_a_permutation_whose_inverse_is_the_shuffle_of_the_other_number(parts: int, channels: int) -> None:
    labels = torch.arange(channels, dtype=F64).view(1, channels, 1, 1)
    width = channels // parts
    found = shuffled(labels[:, :width], labels[:, width:], parts).flatten().long().tolist()
    assert sorted(found) == list(range(channels))
    for part in range(parts):
        for c in range(width):
            assert found[c * parts + part] == part * width + c
    assert torch.tensor(found).view(width, parts).T.flatten().tolist() == list(range(channels))
    assert found == nn.ChannelShuffle(parts)(labels).flatten().long().tolist()
    x = random(2, channels, 3, 4)
    once = shuffled(x[:, :width], x[:, width:], parts)
    if width > 1:
        assert torch.equal(shuffled(once[:, :parts], once[:, parts:], width), x)


def test_a_later_edge_sees_other_channels() -> None:
    x = torch.arange(8.0).view(1, 8, 1, 1)
    once = shuffled(*split(x, 4), 4)
    assert split(once, 4)[0].flatten().tolist() == [0.0, 2.0]
    assert split(x, 4)[0].flatten().tolist() == [0.0, 1.0]


# ------------------------------------------------------------------------------------------------------------ mixed op


def by_hand(op: MixedOp, x: Tensor, weights_BN: Tensor, stride: int) -> Tensor:
    """Channel by channel, from the equation."""
    parts, width = op.partial, x.shape[1] // op.partial
    computed = torch.zeros(())
    for k, candidate in enumerate(op.candidates):
        computed = computed + weights_BN[:, k].view(-1, 1, 1, 1) * candidate(x[:, :width])
    rest = x[:, width:]
    if stride == 2:
        rest = F.pad(rest, (0, x.shape[3] % 2, 0, x.shape[2] % 2), value=-torch.inf)
        rest = torch.stack([rest[:, :, i::2, j::2] for i in (0, 1) for j in (0, 1)]).amax(0)
    rest = weights_BN.sum(1).view(-1, 1, 1, 1) * rest
    out = []
    for c in range(width):
        out.append(computed[:, c])
        out += [rest[:, part * width + c] for part in range(parts - 1)]
    return torch.stack(out, dim=1)


@pytest.mark.parametrize("per_example", [False, True])
@pytest.mark.parametrize("size", [(6, 6), (7, 7), (5, 8)])
@pytest.mark.parametrize(("partial", "stride"), [(2, 1), (4, 1), (8, 1), (2, 2), (4, 2)])
def test_equals_the_equation_in_values_and_gradients(
    partial: int, stride: int, size: tuple[int, int], per_example: bool
) -> None:
    op, x = mixed(partial, stride), random(3, 8, *size, seed=1).requires_grad_()
    shape = (3, 8) if per_example else (8,)
    weights = (0.4 * random(*shape, seed=2)).requires_grad_()  # their sum is far from 1
    inputs = [x, weights, *(p for p in op.parameters() if p is not op.alphas)]
    found = op(x, weights)
    expected = by_hand(op, x, weights.expand(3, 8), stride)
    assert found.shape == (3, 8, -(-size[0] // stride), -(-size[1] // stride))
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)
    upstream = random(*found.shape, seed=3)
    gradients = [torch.autograd.grad(y, inputs, upstream) for y in (found, expected)]
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-8, atol=1e-10)


def test_the_rule_of_the_edge_is_used_when_no_weights_are_given() -> None:
    op, x = mixed(), random(2, 8, 5, 5)
    torch.testing.assert_close(op(x), by_hand(op, x, op.alphas.softmax(0).expand(2, 8), 1), rtol=1e-10, atol=1e-12)


def test_none_alone_leaves_zeros_beside_what_passes() -> None:
    op, x = mixed(2, stride=2), random(2, 8, 7, 7)
    weights = torch.zeros(8, dtype=F64)
    weights[DARTS_PRIMITIVES.index("none")] = 0.25
    found = op(x, weights)
    assert torch.equal(found[:, ::2], torch.zeros(2, 4, 4, 4, dtype=F64))
    assert torch.equal(found[:, 1::2], 0.25 * passed_by(x[:, 4:], 2))
    op.compute_only([False] * 8)
    assert torch.equal(op(x, weights), found)


def test_one_part_is_the_ordinary_mixed_op() -> None:
    x = random(2, 8, 5, 5)
    op = mixed(1)
    params = Params({key: value for key, value in op.desc.params.items() if key != "partial"})
    torch.manual_seed(0)
    plain = MixedOp(OpDesc("mixed_op", params), None, True).double()
    plain.load_state_dict(op.state_dict())
    assert torch.equal(op(x), plain(x))


def test_candidates_are_called_with_their_part_only() -> None:
    op, seen = mixed(4), list[int]()
    for candidate in op.candidates:
        candidate.register_forward_hook(lambda module, inputs, out: seen.append(inputs[0].shape[1]))
    op(random(2, 8, 5, 5))
    assert seen == [2] * 7
    convs = [m for m in op.modules() if isinstance(m, nn.Conv2d)]
    assert convs
    assert all((conv.in_channels, conv.out_channels) == (2, 2) for conv in convs)


def test_the_choice_is_for_all_channels_without_weights_and_without_a_word_of_parts() -> None:
    op = mixed(4, stride=2)
    with torch.no_grad():
        op.alphas[DARTS_PRIMITIVES.index("sep_conv_5x5")] = 9.0
    found, rank = op.finalize()
    assert found.name == "sep_conv_5x5"
    assert dict(found.params) == {"conv": ConvMacroParams(8, 8), "stride": 2}
    assert rank == pytest.approx(float(op.alphas.detach().softmax(0).max()))
    built = Op.create(found, True).double()
    assert built(random(2, 8, 7, 7)).shape == (2, 8, 4, 4)
