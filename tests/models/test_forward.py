"""The forward passes of the hand-designed networks against the published formulas, written with functions only."""

from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gradnas.models import CifarResNet, PyramidNet, ShakeResNet, ShakeResNeXt


class Weights:
    """What a network has learned, by the names of its layers, and the layers computed with it."""

    def __init__(self, state: dict[str, Tensor]) -> None:
        self.state = state

    def conv(self, name: str, x: Tensor, stride: int = 1, groups: int = 1) -> Tensor:
        """A convolution that keeps the size at stride 1, with a bias where one is stored."""
        weight, bias = self.state[f"{name}.weight"], self.state.get(f"{name}.bias")
        return F.conv2d(x, weight, bias, stride, weight.shape[-1] // 2, groups=groups)

    def norm(self, name: str, x: Tensor) -> Tensor:
        """A batch norm in evaluation."""
        mean, var, weight, bias = (
            self.state[f"{name}.{part}"] for part in ("running_mean", "running_var", "weight", "bias")
        )
        return F.batch_norm(x, mean, var, weight, bias)

    def classify(self, name: str, x: Tensor) -> Tensor:
        """Global average and linear layer."""
        return F.linear(
            F.adaptive_avg_pool2d(x, 1).flatten(1), self.state[f"{name}.weight"], self.state[f"{name}.bias"]
        )


def randn(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def randomized(network: nn.Module) -> nn.Module:
    """The network in evaluation and float64, all its weights, biases and statistics at random."""
    generator = torch.Generator().manual_seed(0)
    network.double().eval()
    for name, value in network.state_dict().items():  # shares its memory with the network
        if name.endswith("running_var"):
            value.uniform_(0.5, 1.5, generator=generator)
        elif value.dim() > 1:
            value.normal_(0.0, value[0].numel() ** -0.5, generator=generator)
        elif value.is_floating_point():
            value.normal_(0.0, 0.7, generator=generator)
    return network


def blocks(n: int) -> Iterator[tuple[str, int]]:
    """Name and stride of each of three times n blocks: the second and the third stage begin by halving the size."""
    for k in range(3 * n):
        yield f"blocks.{k}", 2 if k in (n, 2 * n) else 1


def with_channels_of(x: Tensor, other: Tensor) -> Tensor:
    """Zeros behind the channels, until there are as many as in the other map."""
    return F.pad(x, (0, 0, 0, 0, 0, other.shape[1] - x.shape[1]))


def resnet(w: Weights, x: Tensor, n: int) -> Tensor:
    """He et al. 2016: figure 2, norms as in section 3.4, section 4.2 with the shortcuts A."""
    x = F.relu(w.norm("bn", w.conv("stem", x)))
    for block, stride in blocks(n):
        h = F.relu(w.norm(f"{block}.bn1", w.conv(f"{block}.conv1", x, stride)))
        h = w.norm(f"{block}.bn2", w.conv(f"{block}.conv2", h))
        x = F.relu(h + with_channels_of(F.avg_pool2d(x, 1, stride), h))
    return w.classify("linear", x)


def shake_shortcut(w: Weights, block: str, x: Tensor, channels: int, stride: int) -> Tensor:
    """Gastaldi 2017: nothing, or two paths, the second of which sees the pixels below and to the right."""
    if x.shape[1] == channels and stride == 1:
        return x
    x = F.relu(x)
    paths = [
        w.conv(f"{block}.shortcut.conv1", F.avg_pool2d(x, 1, stride)),
        w.conv(f"{block}.shortcut.conv2", F.avg_pool2d(F.pad(x, (-1, 1, -1, 1)), 1, stride)),
    ]
    return w.norm(f"{block}.shortcut.bn", torch.cat(paths, 1))


def shake_resnet_branch(w: Weights, branch: str, x: Tensor, stride: int) -> Tensor:
    """ReLU-Conv3×3-BN-ReLU-Conv3×3-BN."""
    h = w.norm(f"{branch}.2", w.conv(f"{branch}.1", F.relu(x), stride))
    return w.norm(f"{branch}.5", w.conv(f"{branch}.4", F.relu(h)))


def shake_resnext_branch(groups: int) -> Callable[[Weights, str, Tensor, int], Tensor]:
    def branch_of(w: Weights, branch: str, x: Tensor, stride: int) -> Tensor:
        """Conv1×1-BN-ReLU-grouped Conv3×3-BN-ReLU-Conv1×1-BN."""
        h = F.relu(w.norm(f"{branch}.1", w.conv(f"{branch}.0", x)))
        h = F.relu(w.norm(f"{branch}.4", w.conv(f"{branch}.3", h, stride, groups)))
        return w.norm(f"{branch}.7", w.conv(f"{branch}.6", h))

    return branch_of


def shake(w: Weights, x: Tensor, n: int, branch: Callable[[Weights, str, Tensor, int], Tensor]) -> Tensor:
    """Gastaldi 2017: equation 1 with its evaluation, both factors ½."""
    x = w.conv("c_in", x)
    for block, stride in blocks(n):
        h = torch.stack([branch(w, f"{block}.{name}", x, stride) for name in ("branch1", "branch2")]).mean(0)
        x = h + shake_shortcut(w, block, x, h.shape[1], stride)
    return w.classify("fc_out", F.relu(x))


def pyramid(w: Weights, x: Tensor, n: int, *, bottleneck: bool, shake_drop: bool) -> Tensor:
    """Han et al. 2017: figure 6d, zero-padded shortcuts; Yamada et al. 2019: branches scaled by 1 − l / (2 L)."""
    x = w.norm("stem_bn", w.conv("stem", x))
    for k, (block, stride) in enumerate(blocks(n), 1):
        strides = [1, stride, 1] if bottleneck else [stride, 1]  # it is the first 3×3 convolution that halves the size
        h = w.norm(f"{block}.branch.0", x)
        for i, step in enumerate(strides):
            h = w.norm(f"{block}.branch.{3 * i + 2}", w.conv(f"{block}.branch.{3 * i + 1}", h, step))
            if i < len(strides) - 1:  # none behind the last norm
                h = F.relu(h)
        skipped = x if stride == 1 else F.avg_pool2d(x, 2, ceil_mode=True)
        x = (1 - k / (6 * n) if shake_drop else 1) * h + with_channels_of(skipped, h)
    return w.classify("linear", F.relu(w.norm("bn", x)))


def assert_computes(network: nn.Module, formula: Callable[[Weights, Tensor], Tensor]) -> None:
    network = randomized(network)
    x = randn(3, 3, 7, 10)  # a stage halves an odd side
    given = x.clone()
    with torch.no_grad():
        logits = network(x)
        wanted = formula(Weights(network.state_dict()), x)
    assert logits.dtype == torch.float64
    assert float(wanted.std(0).min()) > 1e-3  # images differ, and 1e-10 says something
    torch.testing.assert_close(logits, wanted, rtol=0, atol=1e-10)
    assert torch.equal(x, given)


@pytest.mark.parametrize(("depth", "n"), [(8, 1), (14, 2)])
def test_cifar_resnet(depth: int, n: int) -> None:
    assert_computes(CifarResNet(depth, 5, width=4), lambda w, x: resnet(w, x, n))


@pytest.mark.parametrize(("depth", "width", "n"), [(8, 4, 1), (14, 4, 2), (8, 16, 1)])  # 16: no shortcut at first
def test_shake_resnet(depth: int, width: int, n: int) -> None:
    assert_computes(ShakeResNet(depth, width, 5), lambda w, x: shake(w, x, n, shake_resnet_branch))


@pytest.mark.parametrize(("depth", "n"), [(11, 1), (20, 2)])
def test_shake_resnext(depth: int, n: int) -> None:
    assert_computes(ShakeResNeXt(depth, 2, 2, 5), lambda w, x: shake(w, x, n, shake_resnext_branch(2)))


@pytest.mark.parametrize("shake_drop", [False, True])
@pytest.mark.parametrize(("depth", "bottleneck", "n"), [(8, False, 1), (14, False, 2), (11, True, 1), (20, True, 2)])
def test_pyramid_net(depth: int, bottleneck: bool, n: int, shake_drop: bool) -> None:
    network = PyramidNet(depth, 6, 5, bottleneck=bottleneck, shake_drop=shake_drop)
    assert_computes(network, lambda w, x: pyramid(w, x, n, bottleneck=bottleneck, shake_drop=shake_drop))
