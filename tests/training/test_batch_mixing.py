"""Tests of ``src/gradnas/training/batch_mixing.py``, alone and inside a training."""

from pathlib import Path
from typing import Any

import pytest
import torch
from tests.training.test_trainer import CLASSES, Net, assert_same_weights, loaders, make_batches
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.transforms import v2

from gradnas.data import DataLoaders
from gradnas.training import OptimConf, ScoreSums, TrainConf, Trainer
from gradnas.training.batch_mixing import BatchMixing, class_shares


def batch(n: int = 6, dtype: torch.dtype = torch.float64) -> Tensor:
    x = torch.randn(n, 3, 8, 8, generator=torch.Generator().manual_seed(0), dtype=dtype)
    return x.contiguous(memory_format=torch.channels_last)


@pytest.fixture(autouse=True)
def _seeded() -> Any:
    with torch.random.fork_rng():
        torch.manual_seed(7)
        yield


@pytest.mark.parametrize("n", [1, 2, 6])
def test_mixup_blends_each_image_with_another_by_one_share(n: int) -> None:
    x = batch(n)
    mixed, shares = BatchMixing(1.0, 0.0)(x)
    assert shares is not None
    torch.testing.assert_close(mixed, torch.einsum("ij,jchw->ichw", shares, x))
    torch.testing.assert_close(shares.sum(1), torch.ones(n, dtype=x.dtype))
    assert set(shares.count_nonzero(1).tolist()) == {min(n, 2)}


@pytest.mark.parametrize("n", [1, 2, 6])
def test_cutmix_counts_the_pixels_of_another_image(n: int) -> None:
    x = batch(n)
    for _ in range(10):
        mixed, shares = BatchMixing(0.0, 1.0)(x)
        assert shares is not None
        for i in range(n):
            own = (mixed[i] == x[i]).all(0).double().mean().item()
            assert shares[i, i].item() == pytest.approx(own, abs=1e-6)
            other = (mixed[i][:, ~(mixed[i] == x[i]).all(0)] if own < 1 else x[i - 1][:, :0]).flatten()
            assert torch.isin(other, x[i - 1]).all()


def test_images_are_new_and_keep_their_memory_format() -> None:
    for mixing in (BatchMixing(1.0, 0.0), BatchMixing(0.0, 1.0)):
        x = batch(dtype=torch.float32)
        mixed, shares = mixing(x)
        assert torch.equal(x, batch(dtype=torch.float32))
        assert mixed.is_contiguous(memory_format=torch.channels_last)
        assert shares is not None
        assert (mixed.dtype, shares.dtype) == (torch.float32, torch.float32)


def test_nothing_is_drawn_or_copied_where_nothing_is_mixed() -> None:
    x, state = batch(), torch.default_generator.get_state()
    assert BatchMixing(0.0, 0.0)(x) == (x, None)
    assert torch.equal(torch.default_generator.get_state(), state)


def test_of_both_each_batch_gets_one_about_evenly() -> None:
    x, mixing, pasted = batch(2), BatchMixing(1.0, 1.0), 0
    for _ in range(400):
        mixed, _ = mixing(x)
        pasted += bool(torch.isin(mixed, x).all())
    assert abs(pasted - 200) < 50  # five standard deviations


@pytest.mark.parametrize("alpha", [0.2, 1.0])
def test_shares_are_of_the_beta_distribution(alpha: float) -> None:
    x, mixing = torch.zeros(2, 1, 1, 1, dtype=torch.float64), BatchMixing(alpha, 0.0)
    drawn = torch.stack([shares[0, 0] for _, shares in (mixing(x) for _ in range(2000)) if shares is not None])
    assert drawn.mean().item() == pytest.approx(0.5, abs=0.05)
    assert drawn.var().item() == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=0.1)


def test_labels_are_those_that_torchvision_makes() -> None:
    x, y = batch(), torch.tensor([0, 1, 2, 0, 1, 1])
    for mixing, theirs in ((BatchMixing(0.4, 0.0), v2.MixUp(alpha=0.4)), (BatchMixing(0.0, 0.4), v2.CutMix(alpha=0.4))):
        torch.manual_seed(3)
        torch.multinomial(torch.ones(1), 1)  # the choice among one
        images, targets = v2.RandomChoice([type(theirs)(alpha=0.4, num_classes=3)])(x, y)
        torch.manual_seed(3)
        torch.multinomial(torch.ones(1), 1)
        mixed, shares = mixing(x)
        assert shares is not None
        assert torch.equal(mixed, images)
        torch.testing.assert_close(class_shares(shares, y, 3), targets.double(), rtol=1e-6, atol=1e-6)


def test_two_images_of_one_class_are_wholly_of_it() -> None:
    shares = torch.tensor([[0.3, 0.7], [0.7, 0.3]])
    assert torch.equal(class_shares(shares, torch.tensor([2, 2]), 4), torch.tensor([[0.0, 0, 1, 0]] * 2))


class GroupNet(nn.Module):
    """Without batch statistics, so that parts of a batch know nothing of each other."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(1, 4, 3), nn.GroupNorm(2, 4)
        self.head, self.aux_head = nn.Linear(16, CLASSES), nn.Linear(16, CLASSES)
        numbers = torch.Generator().manual_seed(3)
        for p in self.parameters():
            p.data = torch.randn(p.shape, generator=numbers, dtype=torch.float64) * 0.5
        self.double()

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        h = F.relu(self.norm(self.conv(x))).flatten(1)
        return self.head(h), self.aux_head(h)


class Gradients(Trainer):
    """Notes the gradient of each step."""

    def pre_fit(self, data_loaders: DataLoaders) -> None:
        self.gradients: list[Tensor] = []

    def post_step(self, x: Tensor, y: Tensor) -> None:
        self.gradients.append(torch.cat([p.grad.flatten() for p in self.model.parameters() if p.grad is not None]))


MIXED = [{}, {"mixup": 0.8}, {"cutmix": 1.0}, {"mixup": 0.8, "cutmix": 1.0, "ema": 0.9}]


@pytest.mark.parametrize("chunks", [2, 3, 7, 100])
@pytest.mark.parametrize("mixed", MIXED, ids=lambda m: " ".join(m) or "plain")
def test_uneven_chunks_give_gradient_and_step_of_the_whole_batch(chunks: int, mixed: dict[str, float]) -> None:
    settings: dict[str, Any] = {"label_smoothing": 0.1, "aux_weight": 0.4, "grad_clip": 0.5, **mixed}
    conf = TrainConf(epochs=3, optimizer=OptimConf(lr=0.2), **settings)
    parts = TrainConf(epochs=3, optimizer=OptimConf(lr=0.2), batch_chunks=chunks, **settings)
    whole, chunked = Gradients(conf, GroupNet()), Gradients(parts, GroupNet())
    ours, theirs = whole.fit(loaders([13, 8, 5])), chunked.fit(loaders([13, 8, 5]))
    for a, b in zip(whole.gradients, chunked.gradients, strict=True):
        assert a.norm() > 1e-3
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)
    for p, q in zip(whole.model.parameters(), chunked.model.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-10, atol=1e-10)
    for one, other in zip(ours, theirs, strict=True):
        assert one.train is not None
        assert other.train is not None
        assert one.train.loss == pytest.approx(other.train.loss, rel=1e-10)
        assert (one.train.top1, one.train.top5) == (other.train.top1, other.train.top5)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_loss_of_mixed_images_is_the_mean_of_the_losses_of_both_labels(smoothing: float) -> None:
    seen: list[Tensor] = []

    class Noting(Trainer):
        def compute_loss(self, lossfn: nn.Module, y: Tensor, logits: Tensor, *rest: Any) -> Tensor:
            loss = super().compute_loss(lossfn, y, logits, *rest)
            seen.append(loss.detach())
            return loss

    conf = TrainConf(epochs=1, mixup=1.0, label_smoothing=smoothing, aux_weight=0.4, optimizer=OptimConf(lr=1e-9))
    trainer = Noting(conf, Net(), seed=5)
    trainer.fit(loaders([6]))
    x, y = make_batches([6])[0]
    torch.manual_seed(0)
    trainer.epoch, trainer.step = 0, 0
    trainer.seed_step()  # the numbers of the first step
    mixed, shares = BatchMixing(1.0, 0.0)(x)
    assert shares is not None
    own, logits = shares[0, 0], Net()(mixed)
    expected = sum(
        weight * (own * loss(part, y) + (1 - own) * loss(part, y.roll(1)))
        for part, weight in zip(logits, (1.0, 0.4), strict=True)
        for loss in [nn.CrossEntropyLoss(label_smoothing=smoothing)]
    )
    torch.testing.assert_close(seen[0], expected, rtol=1e-6, atol=1e-6)


def test_training_accuracy_counts_the_class_with_the_largest_share(monkeypatch: pytest.MonkeyPatch) -> None:
    counted: list[Tensor] = []
    add = ScoreSums.add

    def noting(self: ScoreSums, loss: Tensor, logits: Tensor, targets: Tensor) -> None:
        counted.append(targets)
        add(self, loss, logits, targets)

    monkeypatch.setattr(ScoreSums, "add", noting)
    monkeypatch.setattr(
        BatchMixing, "__call__", lambda self, x: (x, torch.tensor([[0.7, 0.3], [0.7, 0.3]], dtype=x.dtype))
    )
    Trainer(TrainConf(epochs=1, mixup=1.0), Net()).fit(loaders([2]))
    y = make_batches([2])[0][1]
    assert torch.equal(counted[0], y[[0, 0]])
    assert counted[0].dtype == torch.int64


def test_mixing_follows_from_the_seed_and_the_step_alone(tmp_path: Path) -> None:
    conf = TrainConf(epochs=2, mixup=0.4, cutmix=0.7)
    first, second = Net(), Net()
    Trainer(conf, first, seed=1).fit(loaders([5, 4]))
    torch.manual_seed(99)
    Trainer(conf, second, seed=1).fit(loaders([5, 4]))
    assert_same_weights(first, second)
    other = Net()
    Trainer(conf, other, seed=2).fit(loaders([5, 4]))
    assert not torch.equal(first.head.weight, other.head.weight)


def test_a_batch_of_one_image_and_of_two_classes_trains() -> None:
    metrics = Trainer(TrainConf(epochs=1, mixup=0.4, cutmix=0.7), Net()).fit(loaders([1, 2]))
    assert metrics.last is not None
