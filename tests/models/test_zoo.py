import inspect
import re

import pytest
import torch

from gradnas.models import MODELS


@pytest.mark.parametrize("name", MODELS)
def test_the_text_of_a_network_says_its_parameters(name: str) -> None:
    with torch.device("meta"):
        model = MODELS[name].build(in_channels=3, n_classes=10)
    count = sum(p.numel() for p in model.parameters()) / 1e6
    printed = re.search(r", ([\d.]+) M\.$", MODELS[name].text)
    assert printed is not None
    assert abs(float(printed[1]) - count) <= (0.005 if count < 1 else 0.055)


@pytest.mark.parametrize("name", ["resnet20", "shakeshake26_2x32d", "pyramidnet110_a48"])
def test_channels_and_classes_reach_the_network(name: str) -> None:
    with torch.device("meta"):
        assert MODELS[name].build(in_channels=1, n_classes=3)(torch.empty(2, 1, 8, 8)).shape == (2, 3)


def test_only_options_have_defaults() -> None:
    for model in MODELS.values():
        parameters = inspect.signature(model.build).parameters
        without = {name for name, p in parameters.items() if p.default is p.empty}
        assert without == {"in_channels", "n_classes"}


def test_options_are_used() -> None:
    with torch.device("meta"):
        assert MODELS["resnet20"].build(in_channels=3, n_classes=10, width=8).stem.out_channels == 8
        shaken = MODELS["shakeshake26_2x32d"].build(in_channels=3, n_classes=10, mode="even-even-batch")
        assert str(shaken.blocks[0].mode) == "even-even-batch"
        dropped = MODELS["pyramidnet110_a48"].build(in_channels=3, n_classes=10, shake_drop=True)
        assert dropped.blocks[-1].drop.keep == pytest.approx(0.5)
