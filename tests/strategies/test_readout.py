"""Tests of ``src/gradnas/strategies/readout.py``."""

import pytest
import torch

from gradnas.strategies.readout import Readout

# Two cell types with other numbers of edges and of experts.
TABLES = [[[True, False, True], [True, True, False]], [[False, True]]]


def posted(device: str, *, finite: bool = True) -> Readout:
    readout = Readout(torch.device(device))
    tables = [torch.tensor(table, device=device) for table in TABLES]
    readout.post(torch.tensor(finite, device=device), tables, 7)
    return readout


@pytest.mark.parametrize("finite", [True, False])
def test_what_was_posted_is_taken_once(finite: bool) -> None:
    readout = posted("cpu", finite=finite)
    assert readout.take() == (finite, TABLES, 7)
    assert readout.take() is None


def test_nothing_is_taken_before_something_was_posted() -> None:
    assert Readout(torch.device("cpu")).take() is None


def test_the_outcome_is_that_of_the_step_also_when_it_is_read_late() -> None:
    readout = Readout(torch.device("cpu"))
    table = torch.tensor(TABLES[0])
    readout.post(torch.tensor(True), [table], 7)
    table.fill_(False)  # the next step goes on before anyone has looked
    assert readout.take() == (True, TABLES[:1], 7)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_hands_the_same_over() -> None:
    readout = posted("cuda")
    assert readout.lags
    assert readout.take() == (True, TABLES, 7)
