"""Tests of ``src/gradnas/costs/counts.py``.

Counting rule: convolutions and linear layers of one image, 1 MAC = 2 FLOPs.
"""

import pytest
import torch
from torch import nn

from gradnas.arch import Genotype
from gradnas.arch.published import DARTS_V1, DARTS_V2
from gradnas.costs import count_macs, count_params
from gradnas.spaces import DartsSpace
from gradnas.supergraph import Model

SMALL = DartsSpace(1, 8, 10, channels=2, cells=3, nodes=4, reductions=1)


def cifar(genotype: Genotype, aux_weight: float = 0.0) -> Model:
    """On the meta device: these networks are large, and only their sizes matter."""
    space = DartsSpace(3, 32, 10, cells=3, reductions=1)
    with torch.device("meta"):
        return Model(space.from_genotype(genotype, channels=36, cells=20, reductions=2, aux_weight=aux_weight))


def imagenet(genotype: Genotype) -> Model:
    desc = DartsSpace(3, 224, 1000, cells=3, reductions=1).from_genotype(
        genotype,
        channels=48,
        cells=14,
        reductions=2,
        stems=("stem_conv3x3_s4", "stem_conv3x3_s4s2"),
        stem_multiplier=1,
        pool="pool_avg2d7x7",
    )
    with torch.device("meta"):
        return Model(desc)


def macs_by_hooks(model: nn.Module, x: torch.Tensor) -> int:
    """Every output value of a layer costs one multiply-add per weight that it reads."""
    counted: list[int] = []

    def count(module: nn.Module, args: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        weight = module.weight
        assert isinstance(weight, torch.Tensor)
        counted.append(output[0].numel() * weight[0].numel())

    hooks = [m.register_forward_hook(count) for m in model.modules() if isinstance(m, (nn.Conv2d, nn.Linear))]
    with torch.no_grad():
        model.eval()(x)
    for hook in hooks:
        hook.remove()
    return sum(counted)


@pytest.mark.parametrize(
    ("genotype", "expected"), [(DARTS_V1, 500_987_520), (DARTS_V2, 528_359_040)], ids=["DARTS_V1", "DARTS_V2"]
)
def test_multiply_adds_on_cifar_are_the_published_networks(genotype: Genotype, expected: int) -> None:
    assert count_macs(cifar(genotype), (3, 32, 32)) == expected


@pytest.mark.parametrize(
    ("genotype", "expected"), [(DARTS_V1, 505_864_704), (DARTS_V2, 529_911_552)], ids=["DARTS_V1", "DARTS_V2"]
)
def test_multiply_adds_on_imagenet_are_the_published_networks(genotype: Genotype, expected: int) -> None:
    assert count_macs(imagenet(genotype), (3, 224, 224)) == expected


@pytest.mark.parametrize(
    ("genotype", "expected"), [(DARTS_V1, 3_169_414), (DARTS_V2, 3_349_342)], ids=["DARTS_V1", "DARTS_V2"]
)
def test_parameters_on_cifar_leave_the_auxiliary_tower_out(genotype: Genotype, expected: int) -> None:
    model = cifar(genotype, aux_weight=0.4)
    assert len(model.aux_towers) == 1
    assert count_params(model) == expected


def test_parameters_on_imagenet_are_the_published_networks() -> None:
    assert count_params(imagenet(DARTS_V2)) == 4_718_752


def test_auxiliary_tower_costs_no_multiply_adds() -> None:
    plain, with_tower = (
        Model(DartsSpace(1, 32, 10, channels=2, cells=6, reductions=2).from_genotype(DARTS_V2, aux_weight=weight))
        for weight in (0.0, 0.4)
    )
    assert len(with_tower.aux_towers) == 1
    assert count_macs(with_tower, (1, 32, 32)) == count_macs(plain, (1, 32, 32))


def test_convolution_and_linear_layer_are_counted_by_hand() -> None:
    model = nn.Sequential(nn.Conv2d(2, 6, 3, groups=2, bias=True), nn.ReLU(), nn.Flatten(), nn.Linear(6 * 9, 4))
    assert count_macs(model, (2, 5, 5)) == 6 * 9 * 9 + 54 * 4
    assert count_params(model) == 6 * 9 + 6 + 54 * 4 + 4


def test_small_network_is_counted_as_by_hooks() -> None:
    model = Model(SMALL.from_genotype(DARTS_V2))
    assert count_macs(model, (1, 8, 8)) == macs_by_hooks(model, torch.rand(1, 1, 8, 8))


def test_supergraph_counts_all_its_candidates() -> None:
    space = DartsSpace(1, 8, 10, channels=2, cells=3, nodes=1, reductions=1)
    model = Model(space.build(), affine=False)
    assert count_macs(model, (1, 8, 8)) == macs_by_hooks(model, torch.rand(1, 1, 8, 8))


def test_shared_parameter_is_counted_once() -> None:
    first, second = nn.Linear(3, 3, bias=False), nn.Linear(3, 3, bias=False)
    second.weight = first.weight
    assert count_params(nn.Sequential(first, second)) == 9


def test_counting_leaves_the_model_as_it_was() -> None:
    model = Model(SMALL.from_genotype(DARTS_V2)).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    count_macs(model, (1, 8, 8))
    assert model.training
    assert {p.device.type for p in model.parameters()} == {"cpu"}
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
