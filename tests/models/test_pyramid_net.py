import pytest
import torch

from gradnas.models import PyramidNet, ShakeDrop


@pytest.mark.parametrize(
    ("depth", "alpha", "bottleneck", "count"),
    [
        (110, 48, False, 1_739_730),  # printed 1.7 M
        (110, 84, False, 3_855_054),  # 3.8 M
        (110, 270, False, 28_485_477),  # 28.3 M
        (164, 270, True, 27_216_021),  # 27.0 M
        (200, 240, True, 26_617_000),  # 26.6 M
        (236, 220, True, 26_806_528),  # 26.8 M
        (272, 200, True, 26_049_562),  # 26.0 M
    ],
)
def test_parameters(depth: int, alpha: int, bottleneck: bool, count: int) -> None:
    with torch.device("meta"):
        model = PyramidNet(depth, alpha, 10, bottleneck=bottleneck)
    assert sum(p.numel() for p in model.parameters()) == count


@pytest.mark.parametrize(("depth", "alpha", "bottleneck", "features"), [(110, 48, False, 64), (272, 200, True, 864)])
def test_the_last_features_are_those_of_the_paper(depth: int, alpha: int, bottleneck: bool, features: int) -> None:
    with torch.device("meta"):
        assert PyramidNet(depth, alpha, 10, bottleneck=bottleneck).linear.in_features == features


def test_channels_grow_from_block_to_block() -> None:
    with torch.device("meta"):
        model = PyramidNet(14, 9, 10)  # 6 blocks, 1.5 channels each
    assert [block.out_ch for block in model.blocks] == [17, 19, 20, 22, 23, 25]
    assert [block.stride for block in model.blocks] == [1, 1, 2, 1, 2, 1]


@pytest.mark.parametrize("bottleneck", [False, True])
@pytest.mark.parametrize("size", [(4, 4), (9, 9), (32, 32)])
def test_images_become_logits(size: tuple[int, int], bottleneck: bool) -> None:
    model = PyramidNet(11 if bottleneck else 8, 6, 5, in_channels=1, bottleneck=bottleneck, shake_drop=True)
    model(torch.randn(3, 1, *size)).sum().backward()
    assert model.eval()(torch.randn(3, 1, *size)).shape == (3, 5)
    assert all(p.grad is not None for p in model.parameters())


@pytest.mark.parametrize("bottleneck", [False, True])
def test_every_block_gets_its_keep_probability(bottleneck: bool) -> None:
    model = PyramidNet(20 if bottleneck else 14, 6, 10, bottleneck=bottleneck, shake_drop=True)
    drops = [block.drop for block in model.blocks]
    assert all(isinstance(drop, ShakeDrop) for drop in drops)
    assert [drop.keep for drop in drops] == pytest.approx([1 - k / 12 for k in range(1, 7)])


def test_without_shake_drop_training_draws_nothing() -> None:
    model = PyramidNet(8, 6, 10)
    x = torch.randn(2, 3, 8, 8)
    assert torch.equal(model(x), model(x))


def test_the_skip_is_an_average_with_zeros_behind() -> None:
    model = PyramidNet(14, 9, 10).eval()
    block = model.blocks[2]
    torch.nn.init.zeros_(block.branch[-1].weight)  # the last norm: the branch is zero
    x = torch.randn(1, 19, 5, 5)
    y = block(x)
    assert y.shape == (1, 20, 3, 3)
    torch.testing.assert_close(y[:, :19, 0, 0], x[:, :, :2, :2].mean((2, 3)))
    assert torch.equal(y[:, 19:], torch.zeros(1, 1, 3, 3))


def test_what_cannot_be_built_is_refused() -> None:
    with pytest.raises(ValueError, match=r"depth must be 9 n \+ 2, as 110 or 119, got 111"):
        PyramidNet(111, 48, 10, bottleneck=True)
    with pytest.raises(ValueError, match=r"alpha must be a finite number of at least 0, got -1"):
        PyramidNet(8, -1, 10)
