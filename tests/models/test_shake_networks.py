import copy
import math
from fractions import Fraction

import pytest
import torch
from torch import nn

from gradnas.models import ShakeBlock, ShakeResNet, ShakeResNeXt


def params(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize(
    ("width", "count", "printed"),
    [(32, 2_923_146, "2.9"), (64, 11_653_962, "11.7"), (96, 26_192_906, "26.2"), (112, 35_640_426, "35.6")],
)
def test_resnets_have_the_parameters_of_the_paper(width: int, count: int, printed: str) -> None:
    with torch.device("meta"):
        model = ShakeResNet(26, width, 10)
    assert params(model) == count
    assert f"{count / 1e6:.1f}" == printed


@pytest.mark.parametrize(("label", "count"), [(100, 34_529_636), (10, 34_437_386)])
def test_resnexts_have_the_parameters_of_the_paper(label: int, count: int) -> None:
    with torch.device("meta"):
        assert params(ShakeResNeXt(29, 64, 4, label)) == count


def test_the_width_of_a_resnext_is_not_rounded() -> None:
    with torch.device("meta"):
        wide = ShakeResNeXt(11, 96, 2, 10)
        assert wide.blocks[0].branch1[0].out_channels == 192  # 64 · 96 · 2 / 64
        assert ShakeResNeXt(11, 48, 1, 10).blocks[0].branch1[0].out_channels == 48
    with pytest.raises(ValueError, match=r"must be whole, got 1/2 with w_base=1/2"):
        ShakeResNeXt(11, Fraction(1, 2), 1, 10)  # type: ignore[arg-type]


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [(4, 4), (8, 8), (9, 13), (32, 32)])
def test_images_of_any_size_from_four_pixels_become_logits(channels: int, size: tuple[int, int]) -> None:
    x = torch.randn(2, channels, *size)
    for model in (ShakeResNet(8, 4, 7, in_channels=channels), ShakeResNeXt(11, 1, 1, 5, in_channels=channels)):
        assert model(x).shape == (2, model.fc_out.out_features)


def test_the_stages_halve_the_size_and_double_the_channels() -> None:
    model, shapes = ShakeResNet(14, 4, 10), []
    x = model.c_in(torch.randn(2, 3, 16, 16))
    for block in model.blocks:
        x = block(x)
        shapes.append(tuple(x.shape[1:]))
    assert shapes == [(4, 16, 16)] * 2 + [(8, 8, 8)] * 2 + [(16, 4, 4)] * 2
    assert isinstance(model.c_in, nn.Conv2d)
    assert model.c_in.bias is not None


def test_evaluation_twice_gives_equal_outputs_and_gradients() -> None:
    model = ShakeResNet(8, 4, 10).eval()
    x = torch.randn(3, 3, 8, 8)
    outputs, grads = [], []
    for _ in range(2):
        model.zero_grad()
        y = model(x)
        y.square().sum().backward()
        outputs.append(y.detach())
        grads.append([p.grad.clone() for p in model.parameters()])
    assert torch.equal(outputs[0], outputs[1])
    assert all(torch.equal(one, other) for one, other in zip(*grads, strict=True))


def test_training_draws_from_torchs_default_generator_alone() -> None:
    model = ShakeResNet(8, 4, 10)
    x = torch.randn(3, 3, 8, 8)
    grads = []
    for seed in (1, 1, 2):
        twin = copy.deepcopy(model)
        torch.manual_seed(seed)
        twin(x).square().sum().backward()
        grads.append(twin.fc_out.weight.grad)
        assert torch.equal(grads[0], grads[-1]) is (seed == 1)


def test_it_runs_under_bfloat16_autocast() -> None:
    model = ShakeResNet(8, 4, 10)
    x = torch.randn(2, 3, 8, 8)
    with torch.autocast("cpu", torch.bfloat16):
        y = model(x)
    y.float().sum().backward()
    assert y.dtype is torch.bfloat16
    assert all(p.grad is not None and p.grad.dtype is torch.float32 for p in model.parameters())


def test_weights_begin_he_normal_by_fan_out() -> None:
    torch.manual_seed(0)
    model = ShakeResNet(8, 32, 10)
    conv = model.blocks[2].branch1[1]
    assert (conv.in_channels, conv.out_channels) == (64, 128)
    assert float(conv.weight.detach().std()) == pytest.approx(math.sqrt(2 / (9 * 128)), rel=0.02)
    assert torch.equal(model.fc_out.bias, torch.zeros(10))
    assert all(torch.equal(m.weight, torch.ones_like(m.weight)) for m in model.modules() if hasattr(m, "running_mean"))


def test_the_mode_reaches_every_block() -> None:
    model = ShakeResNet(8, 4, 10, mode="even-keep-batch")
    assert {str(m.mode) for m in model.modules() if isinstance(m, ShakeBlock)} == {"even-keep-batch"}
    blocks = ShakeResNeXt(11, 1, 1, 10, mode="shake-even").blocks
    assert {str(block.mode) for block in blocks} == {"shake-even-image"}


def test_what_cannot_be_built_is_refused() -> None:
    with pytest.raises(ValueError, match=r"depth must be 6 n \+ 2, as 26 or 32, got 29"):
        ShakeResNet(29, 32, 10)
    with pytest.raises(ValueError, match=r"depth must be 6 n \+ 2, as 8 or 14, got 2"):
        ShakeResNet(2, 32, 10)
    with pytest.raises(ValueError, match=r"depth must be 9 n \+ 2, as 20 or 29, got 26"):
        ShakeResNeXt(26, 64, 4, 10)
    with pytest.raises(ValueError, match=r"shape \(B, 3, H, W\) with H, W ≥ 4, got \(2, 1, 8, 8\)"):
        ShakeResNet(8, 4, 10)(torch.zeros(2, 1, 8, 8))
    with pytest.raises(ValueError, match=r"got \(2, 3, 8, 3\)"):
        ShakeResNet(8, 4, 10)(torch.zeros(2, 3, 8, 3))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu_it_draws_there_and_is_the_same_network_in_evaluation() -> None:
    model = ShakeResNet(8, 4, 10)
    x = torch.randn(3, 3, 8, 8)
    expected = model.eval()(x)
    model.cuda()
    torch.testing.assert_close(model(x.cuda()).cpu(), expected, rtol=1e-3, atol=1e-3)
    with torch.autocast("cuda", torch.bfloat16):
        model.train()(x.cuda()).float().square().sum().backward()
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in model.parameters())
