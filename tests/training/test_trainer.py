"""Tests of ``src/gradnas/training/trainer.py``."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gradnas.arch.published import DARTS_V2
from gradnas.data import BatchLoader, DataLoaders, ImageSet, Normalization
from gradnas.ops import ArchModule, DropPath_
from gradnas.spaces import DartsSpace
from gradnas.supergraph import Model
from gradnas.training import (
    CheckPoint,
    EpochRecord,
    OptimConf,
    Progress,
    ScoreSums,
    Silence,
    TrainConf,
    Trainer,
    create_checkpoint,
)

CLASSES = 6


class Fixed:
    """A loader of given batches, the same in every epoch; notes every use."""

    def __init__(self, batches: list[tuple[Tensor, Tensor]], name: str = "train", log: list[str] | None = None) -> None:
        self.content, self.name = batches, name
        self.log: list[str] = log if log is not None else []

    def __len__(self) -> int:
        return len(self.content)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        return self.batches(0)

    def batches(self, epoch: int, start: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        self.log.append(f"{self.name} {epoch}")
        yield from self.content[start:]

    def sample_numbers(self, epoch: int, index: int) -> list[int]:
        return [100 * index + i for i in range(len(self.content[index][1]))]

    fingerprint = "fixed"


def make_batches(sizes: list[int], dtype: torch.dtype = torch.float64, seed: int = 0) -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    return [
        (
            torch.randn(n, 1, 4, 4, generator=generator, dtype=dtype),
            torch.randint(CLASSES, (n,), generator=generator),
        )
        for n in sizes
    ]


def loaders(sizes: list[int], dtype: torch.dtype = torch.float64, **more: Any) -> DataLoaders:
    return DataLoaders(train=Fixed(make_batches(sizes, dtype)), **more)  # type: ignore[arg-type]


class Net(nn.Module):
    """Two layers, an auxiliary head, and optionally batch norm."""

    def __init__(self, *, norm: bool = False, dtype: torch.dtype = torch.float64, aux: bool = True) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 3, 3)
        self.norm = nn.BatchNorm2d(3) if norm else nn.Identity()
        self.head = nn.Linear(12, CLASSES)
        self.aux_head = nn.Linear(12, CLASSES) if aux else None
        generator = torch.Generator().manual_seed(3)
        for p in self.parameters():
            p.data = torch.randn(p.shape, generator=generator, dtype=dtype) * 0.5
        self.to(dtype)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        h = F.relu(self.norm(self.conv(x))).flatten(1)
        return self.head(h), self.aux_head(h) if self.aux_head is not None and self.training else None


def weights(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


def assert_same_weights(a: nn.Module, b: nn.Module) -> None:
    ours, theirs = weights(a), weights(b)
    assert [name for name in ours if not torch.equal(ours[name], theirs[name])] == []


def evaluation_network(drop_path: bool = True) -> Model:
    space = DartsSpace(1, 8, 3, channels=2, cells=3, nodes=4, reductions=1)
    return Model(space.from_genotype(DARTS_V2), droppath=drop_path, affine=True)


def images(n: int = 24) -> ImageSet:
    generator = torch.Generator().manual_seed(0)
    return ImageSet(
        images=torch.rand(n, 1, 8, 8, generator=generator), labels=torch.arange(n) % 3, classes=("a", "b", "c")
    )


def batch_loader(purpose: str = "train", n: int = 24, *, shuffle: bool = True) -> BatchLoader:
    data = images(n)
    return BatchLoader(
        data, batch_size=8, normalization=Normalization.of(data), shuffle=shuffle, seed=0, purpose=purpose
    )


# --------------------------------------------------------------------------------------------------------- the step


@pytest.mark.parametrize(("smoothing", "aux_weight", "clip"), [(0.0, 0.0, 0.0), (0.1, 0.4, 0.5), (0.0, 0.4, 100.0)])
def test_training_equals_formulas_written_out_by_hand(smoothing: float, aux_weight: float, clip: float) -> None:
    conf = TrainConf(
        epochs=3,
        optimizer=OptimConf(lr=0.1, lr_min=0.02, momentum=0.8, weight_decay=0.01),
        grad_clip=clip,
        label_smoothing=smoothing,
        aux_weight=aux_weight,
    )
    model, twin = Net(), Net()
    Trainer(conf, model).fit(loaders([5, 4]))

    def loss_of(logits: Tensor, y: Tensor) -> Tensor:
        log_p = logits - logits.exp().sum(1, keepdim=True).log()
        wanted = (1 - smoothing) * F.one_hot(y, CLASSES).double() + smoothing / CLASSES
        return -(wanted * log_p).sum() / len(y)

    params = list(twin.parameters())
    velocity = [torch.zeros_like(p) for p in params]
    for epoch in range(3):
        lr = 0.02 + 0.08 * (1 + math.cos(math.pi * epoch / 3)) / 2
        for x, y in make_batches([5, 4]):
            logits, aux = twin(x)
            assert aux is not None
            loss = loss_of(logits, y) + aux_weight * loss_of(aux, y)
            gradients = torch.autograd.grad(loss, params, allow_unused=True, materialize_grads=True)
            norm = math.sqrt(sum(float((g**2).sum()) for g in gradients))
            scale = min(1.0, clip / (norm + 1e-6)) if clip else 1.0
            with torch.no_grad():
                for p, g, v in zip(params, gradients, velocity, strict=True):
                    if aux_weight == 0 and g.count_nonzero() == 0:
                        continue  # a parameter that took no part is left alone, decay included
                    v.mul_(0.8).add_(scale * g + 0.01 * p)
                    p.sub_(lr * v)
    for ours, theirs in zip(model.parameters(), params, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-12)


def test_training_is_bit_equal_to_a_plain_torch_loop() -> None:
    conf = TrainConf(
        epochs=2, optimizer=OptimConf(lr=0.1, lr_min=0.01), grad_clip=0.7, label_smoothing=0.1, aux_weight=0.4
    )
    model, twin = Net(norm=True, dtype=torch.float32), Net(norm=True, dtype=torch.float32)
    Trainer(conf, model).fit(loaders([5, 4], torch.float32))
    optimizer = torch.optim.SGD(twin.parameters(), lr=0.1, momentum=0.9, weight_decay=3e-4)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 2, 0.01)
    for _ in range(2):
        for x, y in make_batches([5, 4], torch.float32):
            optimizer.zero_grad()
            logits, aux = twin(x)
            assert aux is not None
            loss = F.cross_entropy(logits, y, label_smoothing=0.1) + 0.4 * F.cross_entropy(aux, y, label_smoothing=0.1)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(twin.parameters(), 0.7)
            optimizer.step()
        schedule.step()
    assert_same_weights(model, twin)


@pytest.mark.parametrize("chunks", [2, 3, 5])
def test_chunks_give_the_gradient_of_one_batch(chunks: int) -> None:
    conf = TrainConf(epochs=2, batch_chunks=chunks, aux_weight=0.4, optimizer=OptimConf(lr=0.2))
    whole, parts = Net(), Net()
    metrics = Trainer(TrainConf(epochs=2, aux_weight=0.4, optimizer=OptimConf(lr=0.2)), whole).fit(loaders([8, 5]))
    chunked = Trainer(conf, parts).fit(loaders([8, 5]))
    for a, b in zip(whole.parameters(), parts.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)
    for one, other in zip(metrics, chunked, strict=True):
        assert one.train is not None
        assert other.train is not None
        assert other.train.loss == pytest.approx(one.train.loss, rel=1e-10)
        assert other.train.top1 == one.train.top1


def test_no_chunk_is_of_one_sample_from_which_a_norm_cannot_learn() -> None:
    sizes: list[int] = []

    class Noting(Trainer):
        def forward(self, x: Tensor, **others: Any) -> tuple[Tensor, Tensor | None]:
            sizes.append(len(x))
            return super().forward(x, **others)

    Noting(TrainConf(epochs=1, batch_chunks=3), Net(norm=True)).fit(loaders([7, 6, 3]))
    assert sizes == [3, 2, 2, 2, 2, 2, 3]


class WithAlphas(ArchModule):
    """A network whose architecture parameter gets a huge gradient."""

    def __init__(self) -> None:
        super().__init__()
        self.net = Net(aux=False)
        self.create_arch_params([("alphas", nn.Parameter(torch.ones(1, dtype=torch.float64)))])

    def forward(self, x: Tensor) -> Tensor:
        alphas = self.arch_params()["alphas"]
        assert isinstance(alphas, nn.Parameter)
        return self.net(x)[0] + 1e6 * (alphas - alphas.detach()) * torch.arange(CLASSES)


def test_clipping_and_optimizer_know_ordinary_weights_only() -> None:
    conf = TrainConf(epochs=2, grad_clip=0.5, optimizer=OptimConf(lr=0.2))
    plain, model = Net(aux=False), WithAlphas()
    Trainer(conf, plain).fit(loaders([5, 4]))
    Trainer(conf, model).fit(loaders([5, 4]))
    assert_same_weights(plain, model.net)
    assert model.alphas_arch_param.item() == 1.0


def test_gradients_that_a_hook_leaves_do_not_reach_the_step() -> None:
    class Leaky(Trainer):
        def pre_step(self, x: Tensor, y: Tensor) -> None:
            for p in self.model.parameters():
                p.grad = torch.full_like(p, 1e3)

    conf = TrainConf(epochs=1, aux_weight=0.4)
    clean, leaky = Net(), Net()
    Trainer(conf, clean).fit(loaders([5]))
    Leaky(conf, leaky).fit(loaders([5]))
    assert_same_weights(clean, leaky)


def test_training_is_float32_outside_and_bfloat16_inside_when_asked_for() -> None:
    seen: list[torch.dtype] = []

    class Watching(Trainer):
        def compute_loss(self, lossfn: nn.Module, y: Tensor, logits: Tensor, *rest: Any) -> Tensor:
            seen.append(logits.dtype)
            return super().compute_loss(lossfn, y, logits, *rest)

    inside: list[torch.dtype] = []
    model = Net(dtype=torch.float32)
    model.head.register_forward_hook(lambda module, args, output: inside.append(output.dtype))
    metrics = Watching(TrainConf(epochs=1, precision="bfloat16", aux_weight=0.4), model).fit(
        loaders([5, 4], torch.float32)
    )
    assert seen == [torch.float32] * 2
    assert inside == [torch.bfloat16] * 2
    assert metrics.last is not None
    assert metrics.last.train is not None
    assert math.isfinite(metrics.last.train.loss)


def test_full_precision_can_be_asked_for_one_pass() -> None:
    trainer = Trainer(TrainConf(epochs=1, precision="bfloat16"), Net(dtype=torch.float32))
    x = make_batches([3], torch.float32)[0][0]
    assert torch.equal(trainer.forward(x, full_precision=True)[0], trainer.model(x)[0])
    assert not torch.equal(trainer.forward(x)[0], trainer.model(x)[0])


# ---------------------------------------------------------------------------------------------------- epochs, hooks


def test_hooks_come_in_the_documented_order() -> None:
    calls: list[str] = []

    class Noting(Trainer):
        def pre_fit(self, *args: Any) -> None:
            calls.append(f"pre_fit with {len(self.multi_optim)} optimizer")

        def pre_epoch(self, *args: Any) -> None:
            calls.append("pre_epoch")

        def pre_step(self, *args: Any) -> None:
            calls.append("pre_step")

        def post_step(self, *args: Any) -> None:
            calls.append("post_step")

        def post_epoch(self, *args: Any) -> None:
            calls.append("post_epoch")

        def post_fit(self, *args: Any) -> None:
            calls.append("post_fit")

    Noting(TrainConf(epochs=2), Net()).fit(loaders([3, 3]))
    epoch = ["pre_epoch", "pre_step", "post_step", "pre_step", "post_step", "post_epoch"]
    assert calls == ["pre_fit with 1 optimizer", *epoch, *epoch, "post_fit"]


def test_training_metrics_are_averages_over_the_samples() -> None:
    model = Net()
    metrics = Trainer(TrainConf(epochs=1, optimizer=OptimConf(lr=1e-12)), model).fit(loaders([5, 1, 3]))
    batches = make_batches([5, 1, 3])
    x, y = torch.cat([b[0] for b in batches]), torch.cat([b[1] for b in batches])
    logits = Net()(x)[0]
    assert metrics.last is not None
    assert metrics.last.train is not None
    assert metrics.last.train.loss == pytest.approx(F.cross_entropy(logits, y).item(), rel=1e-6)
    assert metrics.last.train.top1 == pytest.approx(100 * (logits.argmax(1) == y).double().mean().item())


def test_rate_of_the_epoch_is_recorded() -> None:
    metrics = Trainer(TrainConf(epochs=2, optimizer=OptimConf(lr=0.1)), Net()).fit(loaders([3]))
    assert [record.lr for record in metrics] == pytest.approx([0.1, 0.05])


@pytest.mark.parametrize("most", [None, 2])
def test_rate_of_one_cycle_changes_in_every_step_and_comes_to_its_end(most: int | None) -> None:
    rates: list[float] = []

    class Noting(Trainer):
        def pre_step(self, x: Tensor, y: Tensor) -> None:
            rates.append(self.multi_optim.get_lr())

    conf = TrainConf(epochs=4, max_steps_per_epoch=most, optimizer=OptimConf(lr=0.1, schedule="onecycle"))
    Noting(conf, Net()).fit(loaders([3] * 5))
    steps = 4 * (most or 5)
    assert len(set(rates)) == steps
    assert (rates[0], rates[round(0.3 * steps) - 1], rates[-1]) == pytest.approx((0.1 / 25, 0.1, 0.1 / 25e4))


def test_scores_are_read_every_few_steps_only(monkeypatch: pytest.MonkeyPatch) -> None:
    reads: list[int] = []
    original = ScoreSums.read
    monkeypatch.setattr(ScoreSums, "read", lambda self: reads.append(1) or original(self))
    Trainer(TrainConf(epochs=1, log_every_steps=4), Net()).fit(loaders([3] * 10))
    assert len(reads) == 4  # after steps 4, 8 and 10, and for the record of the epoch


def test_listener_is_told_of_steps_and_epochs() -> None:
    told: list[Any] = []

    class Noting(Silence):
        def on_progress(self, progress: Progress) -> None:
            told.append((progress.phase, progress.epoch, progress.epochs, progress.step, progress.steps))

        def on_epoch(self, record: EpochRecord) -> None:
            told.append(record.epoch)

    Trainer(TrainConf(epochs=2, log_every_steps=2), Net(), phase="p", listener=Noting()).fit(loaders([3] * 3))
    assert told == [("p", 0, 2, 2, 3), ("p", 0, 2, 3, 3), 0, ("p", 1, 2, 2, 3), ("p", 1, 2, 3, 3), 1]


def test_epoch_stops_after_the_wanted_steps() -> None:
    trainer = Trainer(TrainConf(epochs=2, max_steps_per_epoch=2), Net())
    trainer.fit(loaders([3] * 5))
    assert trainer.global_step == 4


@pytest.mark.parametrize(("every", "expected"), [(1, [0, 1, 2, 3, 4]), (2, [1, 3, 4]), (9, [4])])
def test_validation_comes_every_few_epochs_and_after_the_last(every: int, expected: list[int]) -> None:
    val = Fixed(make_batches([4]))
    metrics = Trainer(TrainConf(epochs=5, validate_every_epochs=every), Net()).fit(loaders([3], val=val))
    assert [record.epoch for record in metrics if record.val is not None] == expected


def test_zero_epochs_train_nothing() -> None:
    model = Net()
    assert len(Trainer(TrainConf(epochs=0), model).fit(loaders([3]))) == 0
    assert_same_weights(model, Net())


def test_test_set_is_used_once_after_the_last_epoch() -> None:
    log: list[str] = []
    data = DataLoaders(
        train=Fixed(make_batches([3]), "train", log),  # type: ignore[arg-type]
        val=Fixed(make_batches([3]), "val", log),  # type: ignore[arg-type]
        test=Fixed(make_batches([4, 2]), "test", log),  # type: ignore[arg-type]
    )
    trainer = Trainer(TrainConf(epochs=2), Net())
    metrics = trainer.fit(data)
    assert log == ["train 0", "val 0", "train 1", "val 0", "test 0"]
    assert [record.test is not None for record in metrics] == [False, False, True]
    assert trainer.confusion is not None
    assert int(trainer.confusion.sum()) == 6


def test_diverged_epoch_is_not_saved(tmp_path: Path) -> None:
    x, y = make_batches([3])[0]
    checkpoint = CheckPoint(tmp_path / "a.pt")
    with pytest.raises(FloatingPointError, match="epoch 0"):
        Trainer(TrainConf(epochs=1), Net(), checkpoint).fit(DataLoaders(train=Fixed([(x * math.inf, y)])))  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


# -------------------------------------------------------------------------------------------------------- drop path


def test_drop_path_rises_with_the_epochs_and_reaches_every_edge() -> None:
    seen: list[set[float]] = []

    class Watching(Trainer):
        def pre_step(self, x: Tensor, y: Tensor) -> None:
            seen.append({m.p for m in self.model.modules() if isinstance(m, DropPath_)})

    model = evaluation_network()
    conf = TrainConf(epochs=4, drop_path=0.2, max_steps_per_epoch=1)
    Watching(conf, model).fit(DataLoaders(train=batch_loader()))
    assert [sorted(values) for values in seen] == [[0.0], [0.05], [0.1], [pytest.approx(0.15)]]
    assert sum(isinstance(m, DropPath_) for m in model.modules()) > 10


def test_drop_path_draws_follow_from_the_seed_alone() -> None:
    def trained(seed: int, noise: int) -> Model:
        with torch.random.fork_rng():
            torch.manual_seed(1)
            model = evaluation_network()
            torch.manual_seed(noise)
            conf = TrainConf(epochs=2, drop_path=0.6, max_steps_per_epoch=1)
            Trainer(conf, model, seed=seed).fit(DataLoaders(train=batch_loader()))
        return model

    first = trained(0, 0)
    assert_same_weights(first, trained(0, 1))
    ours, theirs = weights(first), weights(trained(1, 0))
    assert any(not torch.equal(ours[name], theirs[name]) for name in ours)


def test_training_leaves_the_global_generator_alone() -> None:
    model = evaluation_network()
    before = torch.get_rng_state()
    Trainer(TrainConf(epochs=2, drop_path=0.5, max_steps_per_epoch=1), model).fit(DataLoaders(train=batch_loader()))
    assert torch.equal(torch.get_rng_state(), before)


def test_evaluation_ignores_drop_path() -> None:
    model = evaluation_network()
    trainer = Trainer(TrainConf(epochs=2, drop_path=0.9, max_steps_per_epoch=1), model)
    trainer.fit(DataLoaders(train=batch_loader()))
    model.eval()
    x = next(iter(batch_loader()))[0]
    assert torch.equal(model(x)[0], model(x)[0])


# ------------------------------------------------------------------------------------------------------- checkpoint


class Killed(Exception):  # noqa: N818 - not an error of ours
    pass


class KillAfter(Silence):
    def __init__(self, epoch: int) -> None:
        self.epoch = epoch

    def on_epoch(self, record: EpochRecord) -> None:
        if record.epoch == self.epoch:
            raise Killed


def with_batch_norm_and_drop_path() -> Model:
    with torch.random.fork_rng():
        torch.manual_seed(5)
        return evaluation_network()


def without_seconds(trainer: Trainer) -> list[dict[str, Any]]:
    return [{**values, "seconds": 0} for values in trainer.metrics.to_list()]


@pytest.mark.parametrize(("killed_in", "every"), [(1, 1), (3, 2)])
def test_interrupted_training_continues_bit_for_bit(tmp_path: Path, killed_in: int, every: int) -> None:
    conf = TrainConf(
        epochs=4,
        drop_path=0.3,
        label_smoothing=0.1,
        max_steps_per_epoch=2,
        checkpoint_every_epochs=every,
        optimizer=OptimConf(lr=0.1, warmup_epochs=2),
    )

    def data() -> DataLoaders:
        return DataLoaders(
            train=batch_loader(), val=batch_loader("val", shuffle=False), test=batch_loader("test", shuffle=False)
        )

    whole = Trainer(conf, with_batch_norm_and_drop_path())
    whole.fit(data())
    path = tmp_path / "a.pt"
    with pytest.raises(Killed):
        Trainer(conf, with_batch_norm_and_drop_path(), CheckPoint(path), listener=KillAfter(killed_in)).fit(data())
    resumed = Trainer(conf, with_batch_norm_and_drop_path(), create_checkpoint(path, resume=True))
    resumed.fit(data())
    assert_same_weights(whole.model, resumed.model)
    assert without_seconds(whole) == without_seconds(resumed)
    assert whole.global_step == resumed.global_step
    assert whole.confusion is not None
    assert resumed.confusion is not None
    assert torch.equal(whole.confusion, resumed.confusion)
    ours, theirs = (t.multi_optim[0].optimizer.state_dict()["state"] for t in (whole, resumed))
    assert all(torch.equal(ours[i]["momentum_buffer"], theirs[i]["momentum_buffer"]) for i in ours)


def test_finished_training_gives_its_stored_metrics_without_reading_data(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    conf = TrainConf(epochs=2)
    first = Trainer(conf, Net(), CheckPoint(path))
    first.fit(loaders([3], test=Fixed(make_batches([4]))))
    log: list[str] = []
    again = Trainer(conf, Net(), create_checkpoint(path, resume=True))
    metrics = again.fit(loaders([3], test=Fixed(make_batches([4]), "test", log)))
    assert list(metrics) == list(first.metrics)
    assert metrics.test == first.metrics.test
    assert log == []
    assert again.confusion is not None
    assert first.confusion is not None
    assert torch.equal(again.confusion, first.confusion)


def test_training_killed_before_its_test_is_tested_when_resumed(tmp_path: Path) -> None:
    class Dying(Fixed):
        def batches(self, epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
            raise Killed

    path = tmp_path / "a.pt"
    with pytest.raises(Killed):
        Trainer(TrainConf(epochs=1), Net(), CheckPoint(path)).fit(loaders([3], test=Dying([])))
    resumed = Trainer(TrainConf(epochs=1), Net(), create_checkpoint(path, resume=True))
    assert resumed.fit(loaders([3], test=Fixed(make_batches([4])))).test is not None


@pytest.mark.parametrize(
    ("conf", "seed", "message"),
    [
        (TrainConf(epochs=3), 0, "epochs: 2, now 3"),
        (TrainConf(epochs=2), 1, "seed: 0, now 1"),
        (TrainConf(epochs=2, optimizer=OptimConf(lr=0.5)), 0, "optimizer: .*lr=0.025.*now .*lr=0.5"),
        (TrainConf(epochs=2, grad_clip=1.0), 0, "grad_clip: 5.0, now 1.0"),
        (TrainConf(epochs=2, drop_path=0.5), 0, "drop_path: 0.0, now 0.5"),
        (TrainConf(epochs=2, label_smoothing=0.1), 0, "label_smoothing: 0.0, now 0.1"),
    ],
    ids=["epochs", "seed", "optimizer", "clip", "drop path", "smoothing"],
)
def test_checkpoint_of_other_settings_is_refused_naming_them(
    tmp_path: Path, conf: TrainConf, seed: int, message: str
) -> None:
    path = tmp_path / "a.pt"
    Trainer(TrainConf(epochs=2), Net(), CheckPoint(path)).fit(loaders([3]))
    with pytest.raises(ValueError, match=f"is of another run .*{message}"):
        Trainer(conf, Net(), create_checkpoint(path, resume=True), seed=seed).fit(loaders([3]))


def test_how_often_one_looks_may_change_between_runs(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    Trainer(TrainConf(epochs=2), Net(), CheckPoint(path)).fit(loaders([3]))
    conf = TrainConf(epochs=2, log_every_steps=1, checkpoint_every_epochs=2)
    assert len(Trainer(conf, Net(), create_checkpoint(path, resume=True)).fit(loaders([3]))) == 2


def test_checkpoint_of_another_architecture_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    conf = TrainConf(epochs=1, max_steps_per_epoch=1)
    Trainer(conf, evaluation_network(), CheckPoint(path)).fit(DataLoaders(train=batch_loader()))
    other = Model(DartsSpace(1, 8, 3, channels=4, cells=3, nodes=4, reductions=1).from_genotype(DARTS_V2))
    with pytest.raises(ValueError, match="architecture: "):
        Trainer(conf, other, create_checkpoint(path, resume=True)).fit(DataLoaders(train=batch_loader()))


def test_checkpoint_holds_the_optimizer_by_parameter_name(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    Trainer(TrainConf(epochs=1), Net(aux=False), CheckPoint(path)).fit(loaders([3]))
    checkpoint = CheckPoint(path)
    checkpoint.load_existing()
    names = checkpoint["optimizers"][0]["optimizer"]["names"]
    assert names == ["conv.weight", "conv.bias", "head.weight", "head.bias"]


@pytest.mark.parametrize(("every", "expected"), [(1, [1, 2, 3, 4, 5]), (2, [2, 4, 5]), (9, [5])])
def test_checkpoints_come_every_few_epochs_and_after_the_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, every: int, expected: list[int]
) -> None:
    saved: list[int] = []
    monkeypatch.setattr(CheckPoint, "commit", lambda self: saved.append(self["epoch"]))
    checkpoint = CheckPoint(tmp_path / "a.pt")
    Trainer(TrainConf(epochs=5, checkpoint_every_epochs=every), Net(), checkpoint).fit(loaders([3]))
    assert saved == expected
