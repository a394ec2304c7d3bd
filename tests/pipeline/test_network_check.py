"""What is refused of a network before it is trained."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from gradnas.arch import DatasetConf
from gradnas.config import ManualConf, ModelConf, RetrainConf
from gradnas.models import ZooModel
from gradnas.pipeline.network_check import check_network

DATA = DatasetConf(channels=1, image_size=(6, 6), n_classes=3)


class Net(nn.Module):
    """A network whose output is a function of the right logits."""

    def __init__(self, n_classes: int, output: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.linear, self.output, self.batches = nn.Linear(36, n_classes), output, 0

    def forward(self, x: Tensor) -> Any:
        return self.output(self.linear(x.flatten(1)))


def check(
    monkeypatch: pytest.MonkeyPatch, output: Callable[[Tensor], Any], conf: RetrainConf | None = None, classes: int = 0
) -> None:
    def build(in_channels: int, n_classes: int) -> nn.Module:
        return Net(classes or n_classes, output)

    monkeypatch.setattr("gradnas.config.models.MODELS", {"net": ZooModel(build, "A network.")})
    check_network(ModelConf(name="net"), conf or ManualConf().retraining(), DATA, 0)


@pytest.mark.parametrize("output", [lambda y: y, lambda y: (y, None), lambda y: (y, y + 1)])
def test_logits_alone_or_with_auxiliary_ones_are_what_is_wanted(
    monkeypatch: pytest.MonkeyPatch, output: Callable[[Tensor], Any]
) -> None:
    check(monkeypatch, output)


def test_auxiliary_logits_must_be_there_where_they_are_weighed(monkeypatch: pytest.MonkeyPatch) -> None:
    weighed = ManualConf(aux_weight=0.4).retraining()
    check(monkeypatch, lambda y: (y, y), weighed)
    with pytest.raises(ValueError, match=r"aux_weight=0.4 has no effect: model 'net' gives no auxiliary logits"):
        check(monkeypatch, lambda y: y, weighed)


@pytest.mark.parametrize(
    ("output", "message"),
    [
        (lambda y: y[:, :2], r"gives logits of shape \(2, 2\) for two images, the data has 3 classes: \(2, 3\) is"),
        (lambda y: y[:1], r"gives logits of shape \(1, 3\)"),
        (lambda y: (y, y[:, :1]), r"gives auxiliary logits of shape \(2, 1\)"),
        (lambda y: {"out": y}, "must give logits, or a pair .* got a dict"),
        (lambda y: (y, y, y), r"got a tuple of 3 \(Tensor, Tensor, Tensor\)"),
        (lambda y: y @ y, r"cannot read images of shape \(1, 6, 6\): .*mat"),
        (lambda y: y + torch.ones(2, 3, device="cpu") if y.is_meta else y, "cannot be counted"),
    ],
)
def test_what_cannot_be_trained_is_refused(
    monkeypatch: pytest.MonkeyPatch, output: Callable[[Tensor], Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        check(monkeypatch, output)


def test_another_number_of_classes_says_what_the_factory_must_take(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match=r"\(2, 10\) for two images, the data has 3 classes.*take n_classes"):
        check(monkeypatch, lambda y: y, classes=10)


def test_a_network_without_weights_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def build(in_channels: int, n_classes: int) -> nn.Module:
        return nn.Flatten()

    monkeypatch.setattr("gradnas.config.models.MODELS", {"net": ZooModel(build, "A network.")})
    with pytest.raises(ValueError, match="model 'net' has no weights to train"):
        check_network(ModelConf(name="net"), ManualConf().retraining(), DATA, 0)


def test_the_random_numbers_of_the_caller_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    before = torch.default_generator.get_state()
    check(monkeypatch, lambda y: nn.functional.dropout(y))
    assert torch.equal(torch.default_generator.get_state(), before)


def test_what_counts_is_what_it_gives_in_training(monkeypatch: pytest.MonkeyPatch) -> None:
    class TwoFaced(Net):
        def forward(self, x: Tensor) -> Any:
            logits = super().forward(x)
            return {"logits": logits} if self.training else logits

    def build(in_channels: int, n_classes: int) -> nn.Module:
        return TwoFaced(n_classes, lambda y: y).eval()

    monkeypatch.setattr("gradnas.config.models.MODELS", {"net": ZooModel(build, "A network.")})
    with pytest.raises(ValueError, match="got a dict"):
        check_network(ModelConf(name="net"), ManualConf().retraining(), DATA, 0)
