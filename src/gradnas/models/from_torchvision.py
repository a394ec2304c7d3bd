"""Networks of torchvision, with fresh weights, for images of any channels."""

import math
from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any

from torch import nn

PREFIX = "torchvision."
"""How the name of such a network begins, as in ``torchvision.resnet18``."""

_OWN = ("weights", "weights_backbone", "num_classes", "progress")
_NO_SIDE_OUTPUTS = {"aux_logits": False, "init_weights": True}  # their auxiliary logits are of a form of their own
_FIXED: dict[str, dict[str, Any]] = {"googlenet": _NO_SIDE_OUTPUTS, "inception_v3": _NO_SIDE_OUTPUTS}


def torchvision_names() -> list[str]:
    """Names of the classifiers that torchvision has, without the prefix."""
    from torchvision import models

    return [str(name) for name in models.list_models(module=models)]


def torchvision_model(
    name: str,
    in_channels: int,
    image_size: tuple[int, int],
    n_classes: int,
    *,
    small_images: bool = False,
    **options: Any,
) -> nn.Module:
    """A classifier of torchvision with fresh weights.

    Its first convolution is exchanged for one of other input channels where images are not RGB. Networks that must know
    the size of images, as vision transformers, are told.

    Args:
        name: As torchvision calls it.
        in_channels: Channels of the images.
        image_size: (height, width).
        n_classes: Number of classes.
        small_images: Of a ResNet: a first convolution of 3×3 at stride 1 and no pool after it, as is usual for images
            of about 32 pixels, which would shrink to one pixel otherwise.
        options: Further arguments of torchvision's function, as ``dropout``.

    Raises:
        ValueError: For a name that torchvision does not have, an option that is not free or that it does not know, or a
            size that it refuses.
    """
    from torchvision import models

    known = torchvision_names()
    if name not in known:
        raise ValueError(f"torchvision has no classifier {name!r}. {_nearest_of_many(name, known)}")
    for option in options:
        if option in _OWN:
            raise ValueError(
                f"option {option!r} of {PREFIX}{name} cannot be set: weights begin fresh, and classes are those of the "
                "data. Remove it."
            )
    try:
        model: nn.Module = models.get_model(
            name, weights=None, num_classes=n_classes, **(_FIXED.get(name, {}) | _sized(name, image_size) | options)
        )
    except (TypeError, ValueError, AssertionError) as error:
        raise ValueError(
            f"torchvision cannot build {name!r} with {options} for images of {image_size}: {error}"
        ) from error
    if small_images:
        _for_small_images(name, model)
    if in_channels != 3:
        _read_channels(model, in_channels)
    return model


def _nearest_of_many(name: str, known: Sequence[str]) -> str:
    """A sentence naming the closest names, of too many to name them all."""
    *others, last = [repr(close) for close in get_close_matches(name.lower(), known, n=3)] or [""]
    question = f"Did you mean {', '.join(others)}{' or ' if others else ''}{last}? " if last else ""
    return f"{question}torchvision.models.list_models(module=torchvision.models) gives all {len(known)} names."


def _sized(name: str, image_size: tuple[int, int]) -> dict[str, Any]:
    """What tells a network the size of its images."""
    if name.startswith("vit_"):
        if image_size[0] != image_size[1]:
            raise ValueError(f"vision transformers take square images, got {image_size}; set data.image_size.")
        return {"image_size": image_size[0]}
    return {"input_size": image_size} if name.startswith("maxvit_") else {}


def _for_small_images(name: str, model: nn.Module) -> None:
    from torchvision.models import ResNet

    if not isinstance(model, ResNet):
        raise ValueError(f"small_images is an option of ResNets, and {PREFIX}{name} is none. Remove it.")
    model.conv1 = nn.Conv2d(3, model.conv1.out_channels, 3, padding=1, bias=False)
    nn.init.kaiming_normal_(model.conv1.weight, mode="fan_out", nonlinearity="relu")  # as torchvision's
    model.maxpool = nn.Identity()


def _read_channels(model: nn.Module, in_channels: int) -> None:
    """Exchange the first convolution; its weights begin such that what it gives varies as much as before."""
    name, first = next((name, m) for name, m in model.named_modules() if isinstance(m, nn.Conv2d))
    exchanged = nn.Conv2d(
        in_channels,
        first.out_channels,
        first.kernel_size,  # type: ignore[arg-type]  # a pair, as the constructor takes it
        stride=first.stride,  # type: ignore[arg-type]
        padding=first.padding,  # type: ignore[arg-type]
        bias=first.bias is not None,
    )
    deviation = float(first.weight.detach().std()) * math.sqrt(first.in_channels / in_channels)
    nn.init.normal_(exchanged.weight, 0.0, deviation)
    parent, _, attribute = name.rpartition(".")
    setattr(model.get_submodule(parent), attribute, exchanged)
