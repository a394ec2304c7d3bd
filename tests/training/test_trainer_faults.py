"""Tests of ``trainer.py`` and ``fault_text.py`` in ``src/gradnas/training``: numbers that are not finite."""

import logging
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.training.test_trainer import Fixed, Net, assert_same_weights, batch_loader, images, make_batches, weights
from torch import Tensor, nn

from gradnas.data import BatchLoader, DataLoaders, Normalization
from gradnas.training import CheckPoint, Metrics, NotFiniteError, OptimConf, Silence, TrainConf, Trainer
from gradnas.training.fault_text import advice, fault_text

SGD = OptimConf(lr=0.1, momentum=0.0, weight_decay=0.0, schedule="constant")


class Poisoned(Fixed):
    """The images of one step are NaN, the first ``times`` times that it is drawn."""

    def __init__(self, batches: list[tuple[Tensor, Tensor]], where: tuple[int, int], times: int = 10**9) -> None:
        super().__init__(batches)
        self.where, self.times = where, times

    def batches_of(self, epoch: int, start: int) -> Iterator[tuple[Tensor, Tensor]]:
        for i, (x, y) in enumerate(self.content[start:], start=start):
            poison = (epoch, i) == self.where and self.times > 0
            self.times -= poison
            yield (x * math.nan if poison else x), y

    def batches(self, epoch: int, start: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        yield from self.batches_of(epoch, start)


def data(train: Fixed) -> DataLoaders:
    return DataLoaders(train=train)  # type: ignore[arg-type]


def conf(**changes: Any) -> TrainConf:
    return TrainConf(**{"epochs": 3, "optimizer": SGD, "grad_clip": 0.0, **changes})


def test_by_default_training_stops_at_the_step_naming_images_and_checkpoint(tmp_path: Path) -> None:
    train = Poisoned(make_batches([3] * 6), (1, 2))
    trainer = Trainer(conf(log_every_steps=100), Net(), CheckPoint(tmp_path / "a.pt"), phase="retrain")
    with pytest.raises(FloatingPointError) as caught:
        trainer.fit(data(train))
    assert str(caught.value) == (
        "the training loss became nan in phase 'retrain', epoch 1, step 2 (training images 200, 201, 202). The last "
        f"good checkpoint is {tmp_path / 'a.pt'}: epoch 1, step 0. Look at these images; in a new "
        "run, lower the learning rate or clip gradients. This run can go on with on_nonfinite=skip, which leaves such "
        "batches out, or with on_nonfinite=rollback, which halves the rate."
    )
    assert trainer.global_step == 8
    assert all(value.isfinite().all() for value in weights(trainer.model).values())


def test_without_a_checkpoint_the_message_says_so() -> None:
    train = Poisoned(make_batches([3] * 2), (0, 1))
    with pytest.raises(
        FloatingPointError,
        match=r"epoch 0, step 1 \(.*\)\. There is no checkpoint yet\. Look at .*=skip, which leaves such batches out\.",
    ):
        Trainer(conf(), Net()).fit(data(train))


def test_the_images_are_those_of_the_batch() -> None:
    loader = batch_loader()
    seen: list[Tensor] = []

    class Watching(Trainer):
        def pre_step(self, x: Tensor, y: Tensor) -> None:
            seen.append(y)

    trainer = Watching(conf(epochs=1, precision="float32"), _image_net())
    trainer.fit(DataLoaders(train=loader))
    for step, y in enumerate(seen):
        numbers = trainer.batch_numbers(DataLoaders(train=loader), 0, step)["training images"]
        assert torch.equal(loader._labels_N[numbers], y)


def _image_net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.LazyLinear(3)).eval()


def test_numbers_are_those_of_the_set_that_images_were_taken_from() -> None:
    numbers = torch.arange(24).flip(0) * 10
    plain = batch_loader()
    taken = BatchLoader(
        images(),
        batch_size=8,
        normalization=Normalization.of(images()),
        shuffle=True,
        seed=0,
        purpose="train",
        numbers=numbers,
    )
    assert taken.sample_numbers(2, 1) == [int(numbers[n]) for n in plain.sample_numbers(2, 1)]


def test_a_gradient_that_is_not_finite_stops_before_the_weights_change() -> None:
    class Overflowing(Net):
        def forward(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
            logits, aux = super().forward(x)
            return logits + 0.0 * torch.sqrt(logits * 0.0), aux  # the derivative of sqrt at 0 is infinite

    model = Overflowing()
    before = {name: value.clone() for name, value in weights(model).items()}
    with pytest.raises(
        FloatingPointError, match="the norm of the gradient became nan in phase 'train', epoch 0, step 0"
    ):
        Trainer(conf(), model).fit(data(Fixed(make_batches([3, 3]))))
    assert all(torch.equal(before[name], value) for name, value in weights(model).items())


def test_late_knowledge_names_the_step_and_saves_nothing_bad(tmp_path: Path) -> None:
    train = Poisoned(make_batches([3] * 6), (1, 2))
    trainer = Trainer(conf(log_every_steps=4, checkpoint_every_seconds=0), Net(), CheckPoint(tmp_path / "a.pt"))
    trainer.finite._at_once = False  # as on a GPU
    with pytest.raises(
        FloatingPointError, match=r"in phase 'train', epoch 1, step 2 \(training images 200, 201, 202\)"
    ):
        trainer.fit(data(train))
    assert trainer.global_step == 10  # it was read after step 3
    stored = CheckPoint(tmp_path / "a.pt")
    stored.load_existing()
    assert all(value.isfinite().all() for value in stored["model"].values())


def test_late_knowledge_comes_before_the_next_checkpoint(tmp_path: Path) -> None:
    train = Poisoned(make_batches([3] * 6), (1, 2))
    checkpoint = CheckPoint(tmp_path / "a.pt")
    trainer = Trainer(conf(log_every_steps=100, checkpoint_every_seconds=1e-9), Net(), checkpoint)
    trainer.finite._at_once = False
    with pytest.raises(FloatingPointError, match=r"epoch 1, step 2 .*: epoch 1, step 2"):
        trainer.fit(data(train))


@pytest.mark.parametrize("bad", [0, 2, 3])
def test_a_skipped_batch_is_as_if_it_had_not_been_drawn(bad: int, caplog: pytest.LogCaptureFixture) -> None:
    batches = make_batches([3, 4, 5, 4])
    others = [batch for i, batch in enumerate(batches) if i != bad]
    optimizer = OptimConf(lr=0.1, schedule="constant")
    model, twin = Net(), Net()
    with caplog.at_level(logging.WARNING):
        metrics = Trainer(conf(epochs=1, optimizer=optimizer, on_nonfinite="skip"), model).fit(
            data(Poisoned(batches, (0, bad)))
        )
    expected = Trainer(conf(epochs=1, optimizer=optimizer), twin).fit(data(Fixed(others)))
    assert_same_weights(model, twin)
    assert metrics.last is not None
    assert expected.last is not None
    assert metrics.last.train == expected.last.train
    assert (metrics.last.skipped, expected.last.skipped) == (1, 0)
    assert re.search(rf"skipped a batch: the training loss became nan in .*epoch 0, step {bad} ", caplog.text)


def test_a_skipped_batch_keeps_its_place_in_the_schedule() -> None:
    class Noting(Trainer):
        def pre_fit(self, data_loaders: DataLoaders) -> None:
            self.rates: dict[int, float] = {}

        def pre_step(self, x: Tensor, y: Tensor) -> None:
            self.rates[self.global_step] = self.multi_optim.get_lr()

    settings = conf(on_nonfinite="skip", optimizer=OptimConf(lr=0.1, schedule="onecycle"))
    good, skipping = Noting(settings, Net()), Noting(settings, Net())
    good.fit(data(Fixed(make_batches([3] * 6))))
    skipping.fit(data(Poisoned(make_batches([3] * 6), (0, 0))))
    assert skipping.rates == good.rates


def test_a_skipped_batch_leaves_no_trace_in_running_statistics() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Linear(6, 3)).double()

    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = model

        def forward(self, x: Tensor) -> tuple[Tensor, None]:
            return self.inner(x), None

    train = Poisoned(
        [(torch.randn(5, 4, dtype=torch.float64), torch.tensor([0, 1, 2, 0, 1])) for _ in range(4)], (0, 1)
    )
    trainer = Trainer(conf(epochs=1, on_nonfinite="skip"), Two())
    trainer.fit(data(train))
    norm = model[1]
    assert isinstance(norm, nn.BatchNorm1d)
    assert norm.running_mean is not None
    assert norm.running_mean.isfinite().all()
    assert norm.num_batches_tracked == 3


def test_in_parts_of_a_batch_none_counts() -> None:
    batches = make_batches([4, 4])
    batches[1][0][-1] = math.nan  # in the second half of the second batch
    model, twin = Net(), Net()
    metrics = Trainer(conf(epochs=1, batch_chunks=2, on_nonfinite="skip"), model).fit(data(Fixed(batches)))
    expected = Trainer(conf(epochs=1, batch_chunks=2), twin).fit(data(Fixed(batches[:1])))
    assert_same_weights(model, twin)
    assert metrics.to_list()[0]["train"] == expected.to_list()[0]["train"]


def test_batch_after_batch_is_not_skipped_for_ever() -> None:
    batches = [(x * math.nan, y) for x, y in make_batches([3] * 20)]
    with pytest.raises(
        FloatingPointError, match=r"step 10 \(.*The 10 batches before it were skipped: the cause is not"
    ):
        Trainer(conf(on_nonfinite="skip"), Net()).fit(data(Fixed(batches)))


@pytest.mark.parametrize("late", [False, True])
def test_rolled_back_training_goes_on_from_the_checkpoint_at_half_the_rate(tmp_path: Path, late: bool) -> None:
    batches = make_batches([3, 4, 5])
    trainer = Trainer(
        conf(epochs=3, on_nonfinite="rollback", checkpoint_every_seconds=0), Net(), CheckPoint(tmp_path / "a.pt")
    )
    trainer.finite._at_once = not late
    metrics = trainer.fit(data(Poisoned(batches, (1, 1), times=1)))
    twin = Net()
    for rate in (0.1, 0.05, 0.05):
        for x, y in batches:
            twin.zero_grad()
            logits, _ = twin(x)
            nn.functional.cross_entropy(logits, y).backward()
            with torch.no_grad():
                for p in twin.parameters():
                    if p.grad is not None:
                        p -= rate * p.grad
    for name, value in weights(trainer.model).items():
        torch.testing.assert_close(value, weights(twin)[name], rtol=1e-12, atol=1e-14)
    assert [record.lr for record in metrics] == [0.1, 0.05, 0.05]
    assert [record.epoch for record in metrics] == [0, 1, 2]


def test_a_rate_that_is_too_high_is_halved_until_it_works(tmp_path: Path) -> None:
    class Steep(nn.Module):
        """Diverges to infinity within an epoch where the rate is above 0.1."""

        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.tensor(2.0, dtype=torch.float64))

        def forward(self, x: Tensor) -> tuple[Tensor, None]:
            return torch.zeros(len(x), 3, dtype=torch.float64) + self.weight * 0, None

    class Quartic(Trainer):
        def compute_loss(self, *args: Any) -> Tensor:
            weight: Tensor = self.model.weight  # type: ignore[assignment]
            return weight**4

    train = Fixed(make_batches([2] * 8))
    conf_ = conf(epochs=2, optimizer=OptimConf(lr=1.0, momentum=0.0, weight_decay=0.0, schedule="constant"))
    with pytest.raises(FloatingPointError):
        Quartic(conf_, Steep()).fit(data(train))
    trainer = Quartic(
        conf(epochs=2, optimizer=conf_.optimizer, on_nonfinite="rollback"), Steep(), CheckPoint(tmp_path / "a")
    )
    trainer.fit(data(train))
    assert trainer.multi_optim.get_lr() in (0.125, 0.0625)


def test_what_fails_at_every_rate_ends(tmp_path: Path) -> None:
    train = Poisoned(make_batches([3] * 3), (1, 1))
    trainer = Trainer(conf(on_nonfinite="rollback"), Net(), CheckPoint(tmp_path / "a.pt"))
    with pytest.raises(FloatingPointError, match=r"epoch 1, step 1 .* It was rolled back 5 times already"):
        trainer.fit(data(train))


def test_in_the_first_epoch_there_is_something_to_roll_back_to(tmp_path: Path) -> None:
    train = Poisoned(make_batches([3] * 3), (0, 1), times=1)
    trainer = Trainer(conf(on_nonfinite="rollback"), Net(), CheckPoint(tmp_path / "a.pt"))
    assert [record.lr for record in trainer.fit(data(train))] == [0.05] * 3


def test_rolling_back_without_checkpoints_is_refused() -> None:
    with pytest.raises(ValueError, match="goes back to a checkpoint; give one"):
        Trainer(conf(on_nonfinite="rollback"), Net())


def test_the_lower_rate_outlives_the_process(tmp_path: Path) -> None:
    class Killed(Exception):  # noqa: N818
        pass

    class Killing(Trainer):
        def pre_step(self, x: Tensor, y: Tensor) -> None:
            if self.faults.rollbacks and self.step == 0:
                raise Killed

    train = Poisoned(make_batches([3] * 3), (1, 1), times=1)
    rollback = conf(on_nonfinite="rollback")
    with pytest.raises(Killed):
        Killing(rollback, Net(), CheckPoint(tmp_path / "a.pt")).fit(data(train))
    checkpoint = CheckPoint(tmp_path / "a.pt")
    checkpoint.load_existing()
    resumed = Trainer(rollback, Net(), checkpoint)
    assert [record.lr for record in resumed.fit(data(train))] == [0.1, 0.05, 0.05]


def test_the_listener_hears_from_where_it_goes_on(tmp_path: Path) -> None:
    told: list[int] = []

    class Noting(Silence):
        def on_start(self, phase: str, metrics: Metrics) -> None:
            told.append(metrics.next_epoch())

    train = Poisoned(make_batches([3] * 3), (2, 1), times=1)
    settings = conf(on_nonfinite="rollback", checkpoint_every_epochs=2, checkpoint_every_seconds=0)
    Trainer(settings, Net(), CheckPoint(tmp_path / "a.pt"), listener=Noting()).fit(data(train))
    assert told == [0, 2]


def test_many_images_are_listed_in_part() -> None:
    text = fault_text(
        NotFiniteError("training loss", "inf", 3),
        phase="search",
        place=(0, 3),
        images={"training images": range(200), "validation images": [7]},
        checkpoint=None,
        saved_at=None,
    )
    assert "126, 127 and 72 more; validation images 7)" in text


class Killed(Exception):  # noqa: N818 - not an error of ours
    pass


class KilledAt(Trainer):
    """Ends before a step, once a number of rollbacks is reached."""

    kill_at: int
    rollbacks = 0

    def pre_step(self, x: Tensor, y: Tensor) -> None:
        if self.global_step == self.kill_at and self.faults.rollbacks == self.rollbacks:
            raise Killed


def killed_and_resumed(path: Path, settings: TrainConf, train: Poisoned, kill_at: int, rollbacks: int = 0) -> Trainer:
    first = KilledAt(settings, Net(), CheckPoint(path))
    first.kill_at, first.rollbacks = kill_at, rollbacks
    with pytest.raises(Killed):
        first.fit(data(train))
    checkpoint = CheckPoint(path)
    assert checkpoint.load_existing()
    return Trainer(settings, Net(), checkpoint)


def test_skipped_batches_are_counted_across_processes(tmp_path: Path) -> None:
    settings = conf(epochs=1, on_nonfinite="skip", checkpoint_every_seconds=1e-9)
    train = Poisoned(make_batches([3] * 4), (0, 1))
    resumed = killed_and_resumed(tmp_path / "a.pt", settings, train, kill_at=2)
    assert resumed.fit(data(train)).to_list()[0]["skipped"] == 1


def test_batches_skipped_in_a_row_are_counted_across_processes(tmp_path: Path) -> None:
    settings = conf(epochs=1, on_nonfinite="skip", checkpoint_every_seconds=1e-9)
    train = Fixed([(x * math.nan, y) for x, y in make_batches([3] * 20)])
    resumed = killed_and_resumed(tmp_path / "a.pt", settings, train, kill_at=6)  # type: ignore[arg-type]
    with pytest.raises(FloatingPointError, match=r"step 10 \("):
        resumed.fit(data(train))


def test_rollbacks_are_counted_across_processes(tmp_path: Path) -> None:
    train = Poisoned(make_batches([3] * 3), (1, 1))
    resumed = killed_and_resumed(tmp_path / "a.pt", conf(on_nonfinite="rollback"), train, kill_at=3, rollbacks=3)
    with pytest.raises(FloatingPointError, match="rolled back 5 times already"):
        resumed.fit(data(train))
    assert resumed.multi_optim.get_lr() == 0.1 / 2**5


@pytest.mark.parametrize(
    ("answer", "skips", "rolls_back", "ways"),
    [
        ("stop", True, True, ["skip", "rollback"]),
        ("stop", False, True, ["rollback"]),
        ("stop", True, False, ["skip"]),
        ("stop", False, False, []),
        ("skip", True, True, ["rollback"]),
        ("rollback", True, True, []),
    ],
)
def test_advice_is_what_this_run_can_do(answer: str, skips: bool, rolls_back: bool, ways: list[str]) -> None:
    text = advice(answer, skips=skips, rolls_back=rolls_back)
    assert re.findall(r"on_nonfinite=(\w+)", text) == ways
    assert text.startswith("Look at these images; in a new run, lower the learning rate or clip gradients.")
