"""Tests of ``src/gradnas/training/step_graph.py``; they need an NVIDIA GPU."""

import copy

import pytest
import torch
from torch import Tensor, nn

from gradnas.training import StepGraph

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")]


def test_recorded_steps_equal_eager_ones() -> None:
    torch.manual_seed(0)
    nets = [nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(144, 2)).cuda()]
    nets.append(copy.deepcopy(nets[0]))
    optimizers = [torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9) for net in nets]
    batches = [(torch.randn(5 + (i == 6), 3, 8, 8).cuda(), torch.randint(2, (5 + (i == 6),)).cuda()) for i in range(9)]

    def step(i: int, x: Tensor, y: Tensor) -> None:
        optimizers[i].zero_grad(set_to_none=True)
        nn.functional.cross_entropy(nets[i](x), y).backward()
        optimizers[i].step()

    graph = StepGraph(lambda x, y: step(1, x, y))
    for x, y in batches:
        step(0, x, y)
        graph.run(x, y)
    for a, b in zip(nets[0].state_dict().values(), nets[1].state_dict().values(), strict=True):
        torch.testing.assert_close(a, b)
