"""Tests of ``src/gradnas/training/tester.py``."""

import math

import pytest
import torch
from torch import Tensor, nn

from gradnas.data import BatchLoader, ImageSet, Normalization
from gradnas.training import tester


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(1)
        self.linear = nn.Linear(16, 3)
        self.grad_was_on: list[bool] = []

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        self.grad_was_on.append(torch.is_grad_enabled())
        logits = self.linear(self.norm(x).flatten(1))
        return logits, torch.full_like(logits, math.nan)  # auxiliary logits must not matter


def images(n: int) -> ImageSet:
    generator = torch.Generator().manual_seed(0)
    return ImageSet(
        images=torch.rand(n, 1, 4, 4, generator=generator),
        labels=torch.randint(3, (n,), generator=generator),
        classes=("a", "b", "c"),
    )


def loader(n: int = 11, batch_size: int = 4) -> BatchLoader:
    data = images(n)
    return BatchLoader(
        data, batch_size=batch_size, normalization=Normalization.of(data), shuffle=False, seed=0, purpose="val"
    )


@pytest.fixture
def net() -> Net:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Net()


def test_score_and_confusion_equal_a_loop_over_single_samples(net: Net) -> None:
    score, confusion = tester.Tester(net).predict(loader())
    expected, loss, hits = torch.zeros(3, 3, dtype=torch.int64), 0.0, 0
    net.eval()
    for x, y in loader(batch_size=1):
        logits = net(x)[0][0].detach().double()
        guess = max(range(3), key=lambda c, row=logits: row[c].item())
        expected[int(y), guess] += 1
        hits += guess == int(y)
        loss += math.log(sum(math.exp(v) for v in logits.tolist())) - logits[int(y)].item()
    assert torch.equal(confusion, expected)
    assert score.loss == pytest.approx(loss / 11, rel=1e-5)
    assert score.top1 == pytest.approx(100 * hits / 11)


def test_loss_has_no_label_smoothing_and_no_auxiliary_part(net: Net) -> None:
    assert math.isfinite(tester.Tester(net).test(loader()).loss)


@pytest.mark.parametrize("training", [True, False])
def test_mode_is_put_back(net: Net, training: bool) -> None:
    net.train(training)
    tester.Tester(net).test(loader())
    assert net.training is training


def test_mode_is_put_back_after_an_error(net: Net) -> None:
    net.train()
    net.linear = nn.Linear(5, 3)
    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        tester.Tester(net).test(loader())
    assert net.training


def test_nothing_of_the_network_changes(net: Net) -> None:
    before = {name: value.clone() for name, value in net.state_dict().items()}
    tester.Tester(net).test(loader())
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert all(p.grad is None for p in net.parameters())


def test_no_gradients_are_recorded(net: Net) -> None:
    tester.Tester(net).test(loader())
    assert net.grad_was_on == [False] * 3


def test_limit_of_steps_is_kept(net: Net) -> None:
    assert int(tester.Tester(net).predict(loader(), max_steps=2)[1].sum()) == 8


def test_bfloat16_scores_are_near_those_of_float32(net: Net) -> None:
    exact, rough = tester.Tester(net).test(loader()), tester.Tester(net, precision="bfloat16").test(loader())
    assert exact.loss != rough.loss
    assert rough.loss == pytest.approx(exact.loss, abs=0.05)
