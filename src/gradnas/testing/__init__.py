"""Conformance suites: subclass one in a pytest file, say what is tested, inherit every check.

They need pytest, which a search does not; importing gradnas does not import them.
"""

from gradnas.data.optional import optional_import

_pytest = optional_import("pytest", package='"gradnas[testing]"', needed_for="gradnas.testing")
_parts = ("finalizers", "ops", "probe", "reference", "spaces", "strategies", "strategy_checks")
_pytest.register_assert_rewrite(*(f"gradnas.testing.{part}" for part in _parts))  # asserts that say what they saw

from gradnas.testing.finalizers import FinalizerTests as FinalizerTests  # noqa: E402  # only once pytest is there
from gradnas.testing.ops import OpTests as OpTests  # noqa: E402
from gradnas.testing.spaces import SpaceTests as SpaceTests  # noqa: E402
from gradnas.testing.strategies import StrategyTests as StrategyTests  # noqa: E402
