"""How the weights of hand-designed networks begin."""

import math

from torch import nn


def he_normal(network: nn.Module) -> None:
    """He-normal convolutions by fan-out, std = sqrt(2 / (k² · C_out)); batch norm 1 and 0; no bias of linear layers.

    Source: He et al., Delving deep into rectifiers, 2015, equation 14, without the groups, as in the released code of
    the networks. Biases of convolutions stay as torch makes them.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            height, width = module.kernel_size
            nn.init.normal_(module.weight, 0.0, math.sqrt(2 / (height * width * module.out_channels)))
        elif isinstance(module, nn.BatchNorm2d):
            nn.init.ones_(module.weight)
            nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Linear):
            nn.init.zeros_(module.bias)
