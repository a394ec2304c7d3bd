"""The conformance suite of strategies."""

from gradnas.testing.strategy_checks.numerics import NumericsChecks
from gradnas.testing.strategy_checks.outcome import OutcomeChecks
from gradnas.testing.strategy_checks.parameters import ParameterChecks
from gradnas.testing.strategy_checks.runs import RunChecks
from gradnas.testing.strategy_checks.sharing import SharingChecks


class StrategyTests(ParameterChecks, SharingChecks, OutcomeChecks, RunChecks, NumericsChecks):
    """Everything that must be true of a strategy, on small searches with the real trainer, on the CPU.

    Derive in a pytest file, and give :meth:`strategy`, which makes a fresh strategy with its defaults. A test class
    says of itself what is not true of every strategy: ``deterministic``, ``row_sum``, ``gradient_tolerance``,
    ``planted_epochs``, ``planted_lr``, :meth:`quick_strategy`, :meth:`objective`.
    """
