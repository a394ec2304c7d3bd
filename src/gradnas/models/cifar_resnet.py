"""ResNets for small images. Source: He et al., Deep residual learning for image recognition, 2016, section 4.2.

A 3×3 convolution to 16 channels, three stages of n blocks with 16, 32 and 64 channels, global average, linear layer:
6 n + 2 layers. Shortcuts have no weights (option A): every second pixel, and zeros for new channels. Weights begin He-
normal by fan-out, as in the authors' later code. Deviations: none. Reference test: tests/models/test_cifar_resnet.py.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gradnas.models.initialization import he_normal
from gradnas.models.sizes import blocks_per_stage, check_images


def zero_padded(x: Tensor, channels: int) -> Tensor:
    """(B, C, H, W) -> (B, channels, H, W): channels of zeros behind those there are."""
    return F.pad(x, (0, 0, 0, 0, 0, channels - x.shape[1]))


class BasicBlock(nn.Module):
    """Two 3×3 convolutions with batch norms, and a shortcut of option A.

    (B, in_ch, H, W) -> (B, out_ch, ceil(H / stride), ceil(W / stride)), out_ch ≥ in_ch.
    """

    def __init__(self, in_ch: int, out_ch: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_ch, out_ch, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(out_ch)
        self.conv2 = nn.Conv2d(out_ch, out_ch, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_ch)
        self.out_ch, self.stride = out_ch, stride

    def forward(self, x: Tensor) -> Tensor:
        h = self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x)))))
        return torch.relu(h + zero_padded(x[:, :, :: self.stride, :: self.stride], self.out_ch))


class CifarResNet(nn.Module):
    """ResNet-20, 32, 44, 56, 110, … for small images: (B, in_channels, H, W) -> (B, n_classes), H, W ≥ 4.

    Args:
        depth: Convolutional layers on a path, and the linear one.
        n_classes: Number of classes.
        in_channels: Channels of the images.
        width: Channels of the first stage; 16 in the paper.

    Raises:
        ValueError: For a depth that is not 6 n + 2, or images that are too small.
    """

    def __init__(self, depth: int, n_classes: int, *, in_channels: int = 3, width: int = 16) -> None:
        super().__init__()
        n = blocks_per_stage(depth, 6)
        self.stem = nn.Conv2d(in_channels, width, 3, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(width)
        blocks: list[nn.Module] = []
        channels = width
        for stage in range(3):
            for block in range(n):
                blocks.append(BasicBlock(channels, width * 2**stage, 2 if stage > 0 and block == 0 else 1))
                channels = width * 2**stage
        self.blocks = nn.Sequential(*blocks)
        self.linear = nn.Linear(channels, n_classes)
        he_normal(self)

    def forward(self, x: Tensor) -> Tensor:
        check_images(x, self.stem.in_channels)
        x = self.blocks(torch.relu(self.bn(self.stem(x))))
        logits: Tensor = self.linear(x.mean(dim=(2, 3)))
        return logits
