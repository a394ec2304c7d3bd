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
    report = tester.Tester(net).report(loader())
    expected, loss, hits = torch.zeros(3, 3, dtype=torch.int64), 0.0, 0
    net.eval()
    for x, y in loader(batch_size=1):
        logits = net(x)[0][0].detach().double()
        guess = max(range(3), key=lambda c, row=logits: row[c].item())
        expected[int(y), guess] += 1
        hits += guess == int(y)
        loss += math.log(sum(math.exp(v) for v in logits.tolist())) - logits[int(y)].item()
    assert report.confusion == tuple(map(tuple, expected.tolist()))
    assert report.score.loss == pytest.approx(loss / 11, rel=1e-5)
    assert report.score.top1 == pytest.approx(100 * hits / 11)
    assert report.score.top5 is None  # three classes
    assert tester.Tester(net).test(loader()) == report.score


class Fixed(nn.Module):
    """Gives the pixels of an image as its logits."""

    def __init__(self) -> None:
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1)


def logits_loader(n: int, n_classes: int, batch_size: int, spread: float) -> BatchLoader:
    generator = torch.Generator().manual_seed(n)
    data = ImageSet(
        images=torch.randn(n, 1, 1, n_classes, generator=generator) * spread,
        labels=torch.randint(n_classes, (n,), generator=generator),
        classes=tuple(map(str, range(n_classes))),
    )
    same = Normalization(mean=(0.0,), std=(1.0,))
    return BatchLoader(data, batch_size=batch_size, normalization=same, shuffle=False, seed=0, purpose="test")


@pytest.mark.parametrize(("n", "n_classes", "spread"), [(200, 10, 3.0), (97, 2, 1.0), (50, 5, 30.0), (60, 20, 0.01)])
def test_calibration_equals_a_loop_over_single_samples(n: int, n_classes: int, spread: float) -> None:
    report = tester.Tester(Fixed()).report(logits_loader(n, n_classes, 32, spread))
    bins: list[list[tuple[float, bool]]] = [[] for _ in range(15)]
    for x, y in logits_loader(n, n_classes, 1, spread):
        powers = [math.exp(value) for value in x.flatten().tolist()]
        confidence = max(powers) / sum(powers)
        place = next(m for m in range(1, 16) if confidence <= m / 15)
        bins[place - 1].append((confidence, powers.index(max(powers)) == int(y)))
    error = 0.0
    for found, samples in zip(report.bins, bins, strict=True):
        assert found.count == len(samples)
        if not samples:
            assert (found.confidence, found.accuracy) == (None, None)
            continue
        confidence = 100 * sum(c for c, _ in samples) / len(samples)
        accuracy = 100 * sum(hit for _, hit in samples) / len(samples)
        assert (found.confidence, found.accuracy) == pytest.approx((confidence, accuracy), rel=1e-6)
        error += len(samples) / n * abs(accuracy - confidence)
    assert report.calibration_error == pytest.approx(error, rel=1e-5)
    assert report.n_samples == n
    assert (report.score.top5 is None) is (n_classes < 5)


def test_a_confidence_on_an_edge_belongs_to_the_bin_below() -> None:
    report = tester.Tester(Fixed()).report(logits_loader(10, 5, 4, 0.0))  # each class has 1/5, which is 3/15
    assert [bin.count for bin in report.bins] == [0, 0, 10, *[0] * 12]


@pytest.mark.parametrize("sign", [1, -1])
def test_a_network_that_is_always_sure_is_off_by_its_errors(sign: int) -> None:
    class Sure(Fixed):
        def forward(self, x: Tensor) -> Tensor:
            return 1e4 * sign * nn.functional.one_hot(torch.zeros(len(x), dtype=torch.int64), 2).float()

    report = tester.Tester(Sure()).report(logits_loader(40, 2, 16, 1.0))
    assert [bin.count for bin in report.bins] == [0] * 14 + [40]
    assert report.calibration_error == pytest.approx(100 - report.score.top1)


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
    assert tester.Tester(net).report(loader(), max_steps=2).n_samples == 8


def test_bfloat16_scores_are_near_those_of_float32(net: Net) -> None:
    exact, rough = tester.Tester(net).test(loader()), tester.Tester(net, precision="bfloat16").test(loader())
    assert exact.loss != rough.loss
    assert rough.loss == pytest.approx(exact.loss, abs=0.05)
