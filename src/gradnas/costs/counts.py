"""Exact counts: parameters and multiply-adds."""

import copy

import torch
from torch import nn

from gradnas.arch import Shape
from gradnas.ops import AuxTower


def count_params(model: nn.Module) -> int:
    """Number of weights, auxiliary towers left out as in the literature."""
    aux = {id(p) for module in model.modules() if isinstance(module, AuxTower) for p in module.parameters()}
    return sum(p.numel() for p in model.parameters() if id(p) not in aux)


def count_macs(model: nn.Module, image_shape: Shape) -> int:
    """Multiply-adds of one image in evaluation mode: convolutions and linear layers only. 1 MAC = 2 FLOPs.

    The model is not touched: a copy on the meta device is run, so nothing is computed.
    """
    from torch.utils.flop_counter import FlopCounterMode  # brings triton, which is slow to import

    twin = copy.deepcopy(model).to("meta").eval()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        twin(torch.empty(1, *image_shape, device="meta"))
    return counter.get_total_flops() // 2
