"""The parts of :class:`gradnas.testing.StrategyTests`, by subject."""
