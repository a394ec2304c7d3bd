import math

import pytest
import torch
from torch import nn

from gradnas.models import torchvision_model, torchvision_names


def test_a_resnet_of_torchvision_is_its_own() -> None:
    from torchvision import models

    torch.manual_seed(0)
    ours = torchvision_model("resnet18", 3, (32, 32), 7)
    torch.manual_seed(0)
    theirs = models.resnet18(weights=None, num_classes=7)
    assert all(torch.equal(a, b) for a, b in zip(ours.parameters(), theirs.parameters(), strict=True))


def test_gray_images_get_a_first_convolution_of_their_own() -> None:
    torch.manual_seed(0)
    rgb, gray = (torchvision_model("resnet18", channels, (32, 32), 7) for channels in (3, 1))
    assert gray(torch.randn(2, 1, 32, 32)).shape == (2, 7)
    assert (gray.conv1.stride, gray.conv1.kernel_size, gray.conv1.bias) == ((2, 2), (7, 7), None)
    ratio = float(gray.conv1.weight.detach().std() / rgb.conv1.weight.detach().std())
    assert ratio == pytest.approx(math.sqrt(3), rel=0.05)  # what it gives varies as much as before


def test_small_images_keep_their_size_in_a_resnet() -> None:
    small = torchvision_model("resnet18", 1, (8, 8), 4, small_images=True)
    assert small.conv1.stride == (1, 1)
    assert small.conv1.in_channels == 1
    assert small.layer1(small.maxpool(small.conv1(torch.randn(2, 1, 8, 8)))).shape == (2, 64, 8, 8)
    with pytest.raises(ValueError, match=r"small_images is an option of ResNets, and torchvision.squeezenet1_1"):
        torchvision_model("squeezenet1_1", 3, (32, 32), 4, small_images=True)


def test_a_vision_transformer_is_told_the_size() -> None:
    with torch.device("meta"):
        model = torchvision_model("vit_b_32", 3, (64, 64), 7)
        assert model(torch.empty(2, 3, 64, 64)).shape == (2, 7)
    with pytest.raises(ValueError, match=r"vision transformers take square images"):
        torchvision_model("vit_b_32", 3, (64, 32), 7)
    with pytest.raises(ValueError, match=r"torchvision cannot build 'vit_b_32'"):
        torchvision_model("vit_b_32", 3, (40, 40), 7)


def test_those_with_auxiliary_outputs_give_logits_alone() -> None:
    with torch.device("meta"):
        model = torchvision_model("googlenet", 3, (64, 64), 7).train()
        assert model(torch.empty(2, 3, 64, 64)).shape == (2, 7)


def test_options_reach_torchvision() -> None:
    with torch.device("meta"):
        model = torchvision_model("squeezenet1_1", 3, (64, 64), 7, dropout=0.25)
    assert [m.p for m in model.modules() if isinstance(m, nn.Dropout)] == [0.25]


def test_what_torchvision_does_not_have_is_refused() -> None:
    assert "resnet18" in torchvision_names()
    assert "fasterrcnn_resnet50_fpn" not in torchvision_names()
    with pytest.raises(ValueError, match=r"no classifier 'ResNet19'. Did you mean 'resnet18'") as refusal:
        torchvision_model("ResNet19", 3, (32, 32), 7)
    message = str(refusal.value)
    assert sum(f"{name!r}" in message for name in torchvision_names()) == 3
    assert f"gives all {len(torchvision_names())} names" in message
    with pytest.raises(ValueError, match=r"no classifier 'zzzz'\. torchvision\.models\.list_models"):
        torchvision_model("zzzz", 3, (32, 32), 7)
    with pytest.raises(ValueError, match=r"option 'weights' of torchvision.resnet18 cannot be set: weights"):
        torchvision_model("resnet18", 3, (32, 32), 7, weights="DEFAULT")
    with pytest.raises(ValueError, match=r"torchvision cannot build 'resnet18' with \{'depht': 3\}"):
        torchvision_model("resnet18", 3, (32, 32), 7, depht=3)
