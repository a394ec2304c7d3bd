"""Tests of ``src/gradnas/testing/__init__.py``."""

import subprocess
import sys

WITHOUT_PYTEST = """
import sys
sys.modules["pytest"] = None  # what an import of a package that is not installed finds
import gradnas
assert not [name for name in sys.modules if name.startswith("gradnas.testing")]
try:
    import gradnas.testing
except ImportError as error:
    print(error)
"""


def test_without_pytest_the_library_works_and_the_suites_say_what_to_install() -> None:
    done = subprocess.run([sys.executable, "-c", WITHOUT_PYTEST], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert 'pip install "gradnas[testing]"' in done.stdout


def test_names() -> None:
    import gradnas.testing as testing

    suites = {name for name in vars(testing) if name.endswith("Tests")}
    assert suites == {"FinalizerTests", "OpTests", "SpaceTests", "StrategyTests"}


def test_every_check_says_what_it_checks() -> None:
    import gradnas.testing as testing

    for suite in (testing.FinalizerTests, testing.OpTests, testing.SpaceTests, testing.StrategyTests):
        checks = [name for name in dir(suite) if name.startswith("test_")]
        assert len(checks) >= 9
        assert [name for name in checks if not getattr(suite, name).__doc__] == []
