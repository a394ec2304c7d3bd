"""Tests of ``src/gradnas/training/metrics.py``."""

import json
import math

import pytest
import torch
from torch.nn import functional as F

from gradnas.training import EpochRecord, Metrics, Score, ScoreSums


def record(epoch: int, val_top1: float | None = None, *, seconds: float = 1.0) -> EpochRecord:
    val = None if val_top1 is None else Score(0.5, val_top1)
    return EpochRecord("search", epoch, train=Score(1.0, 50.0), val=val, lr=0.1, seconds=seconds)


def batches(sizes: list[int], n_classes: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
    generator = torch.Generator().manual_seed(0)
    return [
        (torch.randn(n, n_classes, generator=generator), torch.randint(n_classes, (n,), generator=generator))
        for n in sizes
    ]


def score_of(parts: list[tuple[torch.Tensor, torch.Tensor]]) -> Score:
    sums = ScoreSums("cpu")
    for logits, targets in parts:
        sums.add(F.cross_entropy(logits, targets), logits, targets)
    return sums.read()


def test_averages_are_weighted_by_batch_size() -> None:
    parts = batches([7, 1, 4], 9)
    loss, top1, top5, n = 0.0, 0, 0, 0
    for logits, targets in parts:
        for row, target in zip(logits.double(), targets.tolist(), strict=True):
            order = sorted(range(9), key=lambda c, row=row: -row[c].item())
            loss += math.log(sum(math.exp(v - row[target].item()) for v in row.tolist()))
            top1, top5, n = top1 + (order[0] == target), top5 + (target in order[:5]), n + 1
    score = score_of(parts)
    assert n == 12
    assert score.loss == pytest.approx(loss / 12, rel=1e-6)
    assert (score.top1, score.top5) == (pytest.approx(100 * top1 / 12), pytest.approx(100 * top5 / 12))


def test_top5_is_left_out_below_five_classes() -> None:
    assert score_of(batches([6], 4)).top5 is None


def test_top5_of_five_classes_is_always_hit() -> None:
    assert score_of(batches([6], 5)).top5 == 100.0


def test_score_before_the_first_batch_is_not_a_number() -> None:
    score = ScoreSums("cpu").read()
    assert math.isnan(score.loss)
    assert math.isnan(score.top1)


def test_sums_keep_no_graph() -> None:
    logits = torch.randn(3, 2, requires_grad=True)
    sums = ScoreSums("cpu")
    sums.add(F.cross_entropy(logits, torch.zeros(3, dtype=torch.int64)), logits, torch.zeros(3, dtype=torch.int64))
    assert not sums._sums.requires_grad


def test_small_losses_are_not_lost_in_a_large_sum() -> None:
    sums = ScoreSums("cpu")
    for loss in (2.0**24, 1.0):
        sums.add(torch.tensor(loss), torch.zeros(1, 2), torch.zeros(1, dtype=torch.int64))
    assert sums.read().loss == (2.0**24 + 1) / 2


def test_best_epoch_is_the_earliest_with_the_highest_validation_accuracy() -> None:
    best = Metrics([record(0, 60.0), record(1, 80.0), record(2, 80.0)]).best_epoch()
    assert best is not None
    assert best.epoch == 1


def test_accuracy_that_is_not_a_number_never_wins() -> None:
    metrics = Metrics([record(0, math.nan), record(1, 10.0), record(2, math.nan)])
    assert metrics.best_val_top1() == 10.0


@pytest.mark.parametrize("records", [[], [record(0)], [record(0, math.nan)]], ids=["empty", "unvalidated", "nan"])
def test_without_a_validated_epoch_there_is_no_best(records: list[EpochRecord]) -> None:
    metrics = Metrics(records)
    assert metrics.best_epoch() is None
    assert math.isnan(metrics.best_val_top1())


def test_empty_metrics_know_nothing() -> None:
    metrics = Metrics()
    assert (len(metrics), metrics.test, metrics.last, metrics.seconds()) == (0, None, None, 0)


def test_last_epoch_is_not_the_test_record() -> None:
    metrics = Metrics([record(0), record(1), EpochRecord("search", 2, test=Score(0.1, 90.0))])
    assert metrics.last == record(1)
    assert metrics.test == Score(0.1, 90.0)


def test_seconds_are_summed() -> None:
    assert Metrics([record(0, seconds=1.5), record(1, seconds=2.0)]).seconds() == 3.5


def test_records_survive_json() -> None:
    metrics = Metrics([record(0, 60.0), EpochRecord("retrain", 1, test=Score(0.1, 90.0, 99.0), seconds=0.25)])
    assert list(Metrics.from_list(json.loads(json.dumps(metrics.to_list())))) == list(metrics)


def test_metrics_do_not_share_the_list_they_were_made_of() -> None:
    records = [record(0)]
    Metrics(records).add(record(1))
    assert records == [record(0)]
