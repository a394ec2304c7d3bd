"""Every format in ``fuzz_targets.py``, some hundred changed documents each; ``make fuzz`` has the hundred thousands."""

import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from fuzz_targets import TARGETS, Target, outcome
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from run_fuzz import FORMATS

FEW = settings(
    max_examples=100, derandomize=True, deadline=None, database=None, suppress_health_check=list(HealthCheck)
)


@pytest.fixture(scope="module")
def target_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Target]:
    made: dict[str, Target] = {}

    def make(name: str) -> Target:
        if name not in made:
            made[name] = TARGETS[name](tmp_path_factory.mktemp(name))
        return made[name]

    return make


def test_every_format_is_fuzzed() -> None:
    assert tuple(TARGETS) == FORMATS


@pytest.mark.parametrize("name", FORMATS)
def test_valid_documents_are_accepted(target_of, name: str) -> None:
    target = target_of(name)
    outcomes = [outcome(target, seed) for seed in target.seeds]
    assert outcomes.count("accepted") >= 1 or name in ("log", "run_folder")  # each seed of a log is one of two kinds
    assert set(outcomes) <= {"accepted", "partly", "ValueError"}


@pytest.mark.parametrize("name", FORMATS)
@given(number=st.integers(0, 2**32), times=st.integers(1, 3))
@FEW
def test_changed_documents_end_in_documented_errors(target_of, name: str, number: int, times: int) -> None:
    target, chance = target_of(name), random.Random(number)
    data = chance.choice(target.seeds)
    for _ in range(times):
        data = target.change(data, chance)
    outcome(target, data)


@pytest.mark.parametrize("name", FORMATS)
@given(data=st.binary(max_size=64))
@settings(FEW, max_examples=60)
def test_noise_ends_in_documented_errors(target_of, name: str, data: bytes) -> None:
    outcome(target_of(name), data)


def test_an_error_that_is_not_documented_is_not_let_through() -> None:
    def read(data: bytes) -> bool:
        raise KeyError(data)

    target = Target(read=read, documented=(ValueError,), seeds=[b""], change=lambda data, _: data)
    with pytest.raises(KeyError):
        outcome(target, b"x")


def test_an_unknown_format_is_refused() -> None:
    script = Path(__file__).with_name("run_fuzz.py")
    done = subprocess.run([sys.executable, script, "nosuch"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "unknown format 'nosuch'; known: description, genotype" in done.stderr
