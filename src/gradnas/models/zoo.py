"""Hand-designed networks by name."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType

from torch import nn

from gradnas.models.cifar_resnet import CifarResNet
from gradnas.models.pyramid_net import PyramidNet
from gradnas.models.shake_networks import ShakeResNet, ShakeResNeXt


@dataclass(frozen=True)
class ZooModel:
    """A network that the library knows by name.

    Args:
        build: Called with ``in_channels`` and ``n_classes``; its further arguments are options.
        text: What it is, with its parameters for 10 classes of RGB images.
    """

    build: Callable[..., nn.Module]
    text: str


def _resnet(depth: int, in_channels: int, n_classes: int, *, width: int = 16) -> nn.Module:
    return CifarResNet(depth, n_classes, in_channels=in_channels, width=width)


def _shake_resnet(w_base: int, in_channels: int, n_classes: int, *, mode: str = "shake-shake-image") -> nn.Module:
    return ShakeResNet(26, w_base, n_classes, in_channels=in_channels, mode=mode)


def _shake_resnext(in_channels: int, n_classes: int, *, mode: str = "shake-shake-image") -> nn.Module:
    return ShakeResNeXt(29, 64, 4, n_classes, in_channels=in_channels, mode=mode)


def _pyramidnet(
    depth: int, alpha: float, bottleneck: bool, in_channels: int, n_classes: int, *, shake_drop: bool = False
) -> nn.Module:
    return PyramidNet(depth, alpha, n_classes, in_channels=in_channels, bottleneck=bottleneck, shake_drop=shake_drop)


MODELS: Mapping[str, ZooModel] = MappingProxyType(
    {
        **{
            f"resnet{depth}": ZooModel(partial(_resnet, depth), f"ResNet-{depth} for CIFAR (He et al. 2016), {size}.")
            for depth, size in ((20, "0.27 M"), (32, "0.46 M"), (44, "0.66 M"), (56, "0.85 M"), (110, "1.7 M"))
        },
        **{
            f"shakeshake26_2x{w}d": ZooModel(
                partial(_shake_resnet, w), f"Shake-Shake ResNet 26 2x{w}d (Gastaldi 2017), {size}."
            )
            for w, size in ((32, "2.9 M"), (64, "11.7 M"), (96, "26.2 M"), (112, "35.6 M"))
        },
        "shakeshake29_2x4x64d": ZooModel(_shake_resnext, "Shake-Shake ResNeXt 29 2x4x64d (Gastaldi 2017), 34.4 M."),
        **{
            f"pyramidnet110_a{alpha}": ZooModel(
                partial(_pyramidnet, 110, alpha, False), f"PyramidNet-110, alpha {alpha} (Han et al. 2017), {size}."
            )
            for alpha, size in ((48, "1.7 M"), (84, "3.9 M"), (270, "28.5 M"))
        },
        **{
            f"pyramidnet{depth}_a{alpha}_bottleneck": ZooModel(
                partial(_pyramidnet, depth, alpha, True),
                f"PyramidNet-{depth} of bottlenecks, alpha {alpha} (Han et al. 2017), {size}.",
            )
            for depth, alpha, size in ((164, 270, "27.2 M"), (200, 240, "26.6 M"), (272, 200, "26.0 M"))
        },
    }
)
"""Name to network."""
