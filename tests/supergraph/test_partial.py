"""Tests of ``src/gradnas/supergraph/partial.py``, and of the mixed op that uses it."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gradnas.arch import DARTS_PRIMITIVES, ConvMacroParams, OpDesc, Params
from gradnas.ops import Op
from gradnas.spaces import DartsSpace
from gradnas.strategies import FairDarts, PcDarts
from gradnas.supergraph import Cell, MixedOp, Model
from gradnas.supergraph.partial import narrowed, partial_of, passed_by, shuffled, split, with_passing

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
    """Channel by channel, from the equation; the last weight is that of what passes by."""
    assert weights_BN.shape[1] == len(op.candidates) + 1
    parts, width = op.partial, x.shape[1] // op.partial
    computed = torch.zeros(())
    for k, candidate in enumerate(op.candidates):
        computed = computed + weights_BN[:, k].view(-1, 1, 1, 1) * candidate(x[:, :width])
    rest = x[:, width:]
    if stride == 2:
        rest = F.pad(rest, (0, x.shape[3] % 2, 0, x.shape[2] % 2), value=-torch.inf)
        rest = torch.stack([rest[:, :, i::2, j::2] for i in (0, 1) for j in (0, 1)]).amax(0)
    rest = weights_BN[:, len(op.candidates)].view(-1, 1, 1, 1) * rest
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
    shape = (3, 9) if per_example else (9,)
    weights = (0.4 * random(*shape, seed=2)).requires_grad_()  # the last is not the sum of the others
    inputs = [x, weights, *(p for p in op.parameters() if p is not op.alphas)]
    found = op(x, weights)
    expected = by_hand(op, x, weights.expand(3, 9), stride)
    assert found.shape == (3, 8, -(-size[0] // stride), -(-size[1] // stride))
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)
    upstream = random(*found.shape, seed=3)
    gradients = [torch.autograd.grad(y, inputs, upstream) for y in (found, expected)]
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-8, atol=1e-10)


def test_the_rule_of_the_edge_is_used_when_no_weights_are_given() -> None:
    op, x = mixed(), random(2, 8, 5, 5)
    weights = torch.cat([op.alphas.softmax(0), torch.ones(1, dtype=F64)]).expand(2, 9)
    torch.testing.assert_close(op(x), by_hand(op, x, weights, 1), rtol=1e-10, atol=1e-12)


def test_without_factors_all_of_what_passes_by_does_whatever_the_gates() -> None:
    op, x = mixed(), random(2, 8, 5, 5)
    op.use_rule(FairDarts().mixing_rule)
    with torch.no_grad():
        op.alphas.fill_(-800.0)  # all gates closed
    found = op(x)
    assert torch.equal(found[:, ::2], torch.zeros(2, 4, 5, 5, dtype=F64))
    assert torch.equal(found[:, 1::2], x[:, 4:])


@pytest.mark.parametrize("shape", [(8,), (10,), (2, 8), (1, 9), (3, 9), (9, 9, 2)], ids=str)
def test_rows_of_another_length_are_refused(shape: tuple[int, ...]) -> None:
    op = mixed()
    assert op.row_length == 9
    assert mixed(1).row_length == 8
    with pytest.raises(
        ValueError, match=r"shape \(9,\), one entry for each of .* and one for the channels that pass by, or \(2, 9\)"
    ):
        op(random(2, 8, 5, 5), torch.zeros(shape, dtype=F64))
    with pytest.raises(ValueError, match=r"shape \(8,\), one entry for each of \[[^]]*\], or \(2, 8\)"):
        mixed(1)(random(2, 8, 5, 5), torch.zeros(9, dtype=F64))


def test_none_alone_leaves_zeros_beside_what_passes() -> None:
    op, x = mixed(2, stride=2), random(2, 8, 7, 7)
    weights = torch.zeros(9, dtype=F64)
    weights[DARTS_PRIMITIVES.index("none")], weights[-1] = 0.5, 0.25
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


# ---------------------------------------------------------------------------------------------------- tables of a cell

OPS = ("skip_connect", "max_pool_3x3", "none")


def supergraph(partial: int, strategy: Any = None, *, fused: bool = False) -> Model:
    torch.manual_seed(0)
    space = DartsSpace(1, 8, 4, channels=4, cells=3, nodes=2, reductions=1, primitives=OPS)
    model = Model(PcDarts(partial=partial).supergraph(space.build()), affine=False, fused=fused)
    if strategy is not None:
        model.set_mixing_rule(strategy.mixing_rule)
    for i, value in enumerate(model.all_owned().param_by_kind()):
        value.data = random(*value.shape, seed=10 + i)
    return model


def test_a_last_column_is_added_for_what_passes_by() -> None:
    weights, factors = random(3, 2), random(3, seed=1)
    found = with_passing(weights, factors)
    assert found.tolist() == [[*row, factor] for row, factor in zip(weights.tolist(), factors.tolist(), strict=True)]
    assert with_passing(weights, None).tolist() == [[*row, 1.0] for row in weights.tolist()]
    assert with_passing(weights.float(), None).dtype == torch.float32


@pytest.mark.parametrize("rule", ["softmax", "gates", "weighted edges"])
@pytest.mark.parametrize("partial", [1, 2])
def test_a_cell_completes_the_weights_of_each_edge(partial: int, rule: str) -> None:
    strategy = {"softmax": None, "gates": FairDarts(), "weighted edges": PcDarts()}[rule]
    for cell in supergraph(partial, strategy).double().typed_cells():
        factors, given = cell.edge_factors(), random(5, 3, seed=3)
        assert (factors is None) == (rule != "weighted edges")
        found = cell.complete(given)
        assert found.shape == (5, 3 if partial == 1 else 4)
        for e, row in enumerate(found.tolist()):
            factor = 1.0 if factors is None else float(factors[e].detach())
            expected = [float(value) * factor for value in given[e]]
            assert row == pytest.approx(expected if partial == 1 else [*expected, factor], rel=1e-12)


@pytest.mark.parametrize("rule", ["softmax", "gates", "weighted edges"])
def test_tables_of_a_model_are_completed_and_strengths_of_a_cell_are_not(rule: str) -> None:
    strategy = {"softmax": None, "gates": FairDarts(), "weighted edges": PcDarts()}[rule]
    model = supergraph(2, strategy)
    tables, likely = model.mixing_weights(), model.probabilities()
    assert tables[0] is tables[2]
    assert likely[0] is likely[2]
    for cell, table, rows in zip(model.typed_cells(), tables, likely, strict=True):
        strengths = cell.probabilities()
        assert table is not None
        assert rows is not None
        assert strengths is not None
        assert strengths.shape == (5, 3)
        assert table.shape == rows.shape == (5, 4)
        assert table.dtype == rows.dtype == torch.float32  # the network's, although the parameters are in float64
        torch.testing.assert_close(rows[:, :3], strengths.float())
        torch.testing.assert_close(rows, table)  # nothing is drawn
        if rule == "gates":
            assert float((strengths.detach().sum(1) - 1).abs().min()) > 1e-3
            assert rows[:, 3].tolist() == [1.0] * 5
        else:
            torch.testing.assert_close(rows[:, 3], strengths.sum(1).float())


@pytest.mark.parametrize("fused", [False, True])
def test_what_passes_by_is_weighed_by_the_last_column_alone(fused: bool) -> None:
    """With no candidate at all a network is linear in the last column of one cell."""
    model = supergraph(2, fused=fused).double()
    cell: Cell = model.typed_cells()[0]
    s0, s1 = (random(2, stem_channels(cell, i), 8, 8, seed=i) for i in range(2))
    table = torch.zeros(5, 4, dtype=F64)
    assert not bool(cell(s0, s1, table).any())
    table[:, 3] = torch.tensor([0.5, -1.0, 2.0, 0.0, 3.0])
    states = [stem(s) for stem, s in zip(cell.stems, (s0, s1), strict=True)]

    def passed(x: Tensor) -> Tensor:
        return torch.stack([torch.zeros_like(x[:, 2:]), x[:, 2:]], dim=2).flatten(1, 2)

    states.append(0.5 * passed(states[0]) - passed(states[1]))
    states.append(2.0 * passed(states[0]) + 3.0 * passed(states[2]))
    torch.testing.assert_close(cell(s0, s1, table), cell.post_op(states), rtol=1e-12, atol=1e-12)
    per_example = table.unsqueeze(1).expand(5, 2, 4)
    torch.testing.assert_close(cell(s0, s1, per_example), cell.post_op(states), rtol=1e-12, atol=1e-12)


def stem_channels(cell: Cell, which: int) -> int:
    conv = cell.desc.stems[which].params["conv"]
    assert isinstance(conv, ConvMacroParams)
    return conv.ch_in


@pytest.mark.parametrize(("partial", "shape"), [(1, (5, 4)), (2, (5, 3)), (2, (5, 2, 3)), (2, (5, 3, 4)), (2, (4, 4))])
def test_tables_of_another_width_are_refused(partial: int, shape: tuple[int, ...]) -> None:
    model, length = supergraph(partial), 3 if partial == 1 else 4
    tables = [torch.zeros(shape)] * 3
    with pytest.raises(
        ValueError, match=rf"each of 3 candidates.*one row per edge, \(5, {length}\), or .* \(5, 2, {length}\)"
    ):
        model(torch.zeros(2, 1, 8, 8), tables)
