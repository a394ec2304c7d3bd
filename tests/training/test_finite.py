"""Tests of ``src/gradnas/training/finite.py``."""

import math

import pytest
import torch

from gradnas.training.finite import FiniteWatch, NotFiniteError

CPU = torch.device("cpu")


def late() -> FiniteWatch:
    """A watch as on a GPU, which is not waited for."""
    watch = FiniteWatch(CPU)
    watch._at_once = False
    return watch


@pytest.mark.parametrize(("value", "text"), [(math.nan, "nan"), (math.inf, "inf"), (-math.inf, "-inf")])
def test_on_the_cpu_a_bad_number_is_known_at_once(value: float, text: str) -> None:
    watch = FiniteWatch(CPU)
    watch.begin(7)
    with pytest.raises(NotFiniteError, match=f"the training loss became {text} at step 7") as caught:
        watch.see(torch.tensor(value), "training loss")
    assert (caught.value.what, caught.value.value, caught.value.global_step) == ("training loss", text, 7)


def test_finite_numbers_pass() -> None:
    for watch in (FiniteWatch(CPU), late()):
        for step in range(3):
            watch.begin(step)
            watch.see(torch.tensor(1e38), "training loss")
        watch.check()


def test_late_the_first_bad_step_is_named_however_many_follow() -> None:
    watch = late()
    for step in range(6):
        watch.begin(step)
        watch.see(torch.tensor(math.nan if step in (3, 4) else 1.0), "training loss")
        watch.see(torch.tensor(math.inf if step == 5 else 1.0), "norm of the gradient")
    with pytest.raises(NotFiniteError, match="at step 3"):
        watch.check()


def test_late_numbers_may_be_part_of_a_graph() -> None:
    watch = late()
    weight = torch.ones(1, requires_grad=True)
    watch.begin(0)
    watch.see((weight * math.inf).sum(), "training loss")
    with pytest.raises(NotFiniteError, match="at step 0"):
        watch.check()


def test_what_was_undone_is_forgotten() -> None:
    watch = late()
    watch.begin(2)
    watch.see(torch.tensor(math.nan), "training loss")
    watch.forget()
    watch.check()
    watch.begin(4)
    watch.see(torch.tensor(math.nan), "training loss")
    with pytest.raises(NotFiniteError, match="at step 4"):
        watch.check()
