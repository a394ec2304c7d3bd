"""Tests of ``random_members.py``: who is compared with whom, and who is the best."""

from gradnas.report.records.combination import Combination
from gradnas.report.records.random_members import random_members
from gradnas.report.records.run_log import EpochRecord


def record(phase: str, epoch: int = 0, top1: float | None = None) -> EpochRecord:
    return EpochRecord(phase=phase, epoch=epoch, values={("val", "top1"): top1}, lr=None, time_s=1.0)


def test_best_comes_first_and_of_equals_the_one_drawn_first() -> None:
    records = [record("search_0", 0, 50.0), record("search_2", 0, 70.0), record("search_1", 0, 20.0)]
    records += [record("search_1", 1, 70.0), record("search_3"), record("retrain", 0, 99.0)]
    (members,) = random_members([*records, record("baseline_search_0", 0, 99.0), record("search", 0, 99.0)])
    assert [(member.number, member.epochs, member.val_top1) for member in members] == [
        *[(1, 2, 70.0), (2, 1, 70.0), (0, 1, 50.0), (3, 1, None)]
    ]
    assert {member.size for member in members} == {None}


def test_members_are_compared_at_their_size() -> None:
    phases = ("search_r1_c3_n2_0", "search_r1_c3_n2_1", "search_r1_c4_n2_0", "search_r1_c3_n2_train", "search_r1_c3_n2")
    found = random_members([record(phase, 0, 10.0) for phase in phases])
    assert [(members[0].size, len(members)) for members in found] == [
        *[(Combination(1, 3, 2), 2), (Combination(1, 4, 2), 1)]
    ]


def test_a_search_by_gradient_has_none() -> None:
    assert random_members([record("search", 0, 10.0)]) == ()
