import pytest
import torch
from torch.nn import functional as F

from gradnas.models import ShakeBlock, ShakeBottleNeck, ShakeMode, Shortcut


def test_the_shortcut_reads_every_second_pixel_and_the_one_beside_it() -> None:
    torch.manual_seed(0)
    shortcut = Shortcut(3, 8, 2).eval()
    for size in (6, 7):
        x = torch.randn(2, 3, size, size)
        positive = x.clamp(min=0)
        shifted = torch.zeros_like(x)
        shifted[:, :, :-1, :-1] = positive[:, :, 1:, 1:]  # moved by a pixel, zeros at the end
        halves = [F.conv2d(positive[:, :, ::2, ::2], shortcut.conv1.weight)]
        halves += [F.conv2d(shifted[:, :, ::2, ::2], shortcut.conv2.weight)]
        wanted = shortcut.bn(torch.cat(halves, 1))
        torch.testing.assert_close(shortcut(x), wanted)
        assert shortcut(x).shape == (2, 8, -(-size // 2), -(-size // 2))


def test_the_shortcut_at_stride_one_shifts_as_well() -> None:
    shortcut = Shortcut(2, 4, 1).eval()
    x = torch.randn(1, 2, 5, 5)
    assert shortcut(x).shape == (1, 4, 5, 5)
    moved = shortcut(torch.roll(x, (1, 1), (2, 3)))
    torch.testing.assert_close(moved[:, :2, 1:, 1:], shortcut(x)[:, :2, :-1, :-1])


def test_an_odd_number_of_channels_is_refused() -> None:
    with pytest.raises(ValueError, match=r"even number of channels, half in each branch, got 7"):
        Shortcut(3, 7, 2)


@pytest.mark.parametrize(
    ("ends", "stride", "same"), [((8, 8), 1, True), ((8, 8), 2, False), ((8, 16), 1, False), ((8, 16), 2, False)]
)
def test_the_input_skips_a_block_where_channels_and_size_stay(ends: tuple[int, int], stride: int, same: bool) -> None:
    for block in (ShakeBlock(*ends, stride), ShakeBottleNeck(ends[0], 4, ends[1], 2, stride)):
        assert isinstance(block.shortcut, Shortcut) is not same
        y = block(torch.randn(2, 8, 9, 9))
        assert y.shape == (2, ends[1], *((9, 9) if stride == 1 else (5, 5)))


def test_evaluation_is_the_mean_of_the_branches() -> None:
    block = ShakeBlock(4, 4).eval()
    x = torch.randn(3, 4, 6, 6)
    torch.testing.assert_close(block(x), (block.branch1(x) + block.branch2(x)) / 2 + x)
    assert torch.equal(block(x), block(x))


def test_branches_are_mixed_as_the_mode_says() -> None:
    x = torch.randn(3, 4, 6, 6)
    even = ShakeBlock(4, 4, mode=ShakeMode.of("even-even"))
    torch.testing.assert_close(even(x), (even.branch1(x) + even.branch2(x)) / 2 + x)
    for block, other in (
        (ShakeBlock(4, 4), ShakeBlock(4, 4, mode=ShakeMode("shake", "shake", "batch"))),
        (ShakeBottleNeck(4, 4, 4, 2), ShakeBottleNeck(4, 4, 4, 2, mode=ShakeMode("shake", "shake", "batch"))),
    ):
        for shaken, level in ((block, "image"), (other, "batch")):
            mixed = shaken(x) - x
            x1, x2 = shaken.branch1(x), shaken.branch2(x)
            a = ((mixed - x2) * (x1 - x2)).sum((1, 2, 3)) / (x1 - x2).square().sum((1, 2, 3))
            assert (bool(a.max() - a.min() > 1e-3)) is (level == "image")
            assert not torch.equal(shaken(x), shaken(x))


def test_a_generator_makes_the_draws_repeat() -> None:
    block = ShakeBlock(4, 4, generator=torch.Generator())
    x, outputs = torch.randn(2, 4, 5, 5), []
    for _ in range(2):
        block.generator.manual_seed(5)
        outputs.append(block(x))
    assert torch.equal(outputs[0], outputs[1])


def test_a_block_leaves_its_input_alone() -> None:
    x = torch.randn(2, 4, 5, 5)
    before = x.clone()
    ShakeBlock(4, 8, 2)(x)
    ShakeBottleNeck(4, 4, 8, 2)(x)
    assert torch.equal(x, before)


def test_groups_must_divide_the_middle() -> None:
    with pytest.raises(ValueError, match=r"multiple of the cardinality, got 6 and 4"):
        ShakeBottleNeck(8, 6, 8, 4)
