"""The runs that are killed: real ones on the embedded digits, small enough that an epoch takes about a second."""

INTERVAL_S = 0.2
"""Seconds between two checkpoints: several fall into an epoch."""

SPACE = [
    *("--data", "digits", "--device", "cpu", "--space.options.channels", "2", "--space.options.cells", "3"),
    *("--space.options.nodes", "2", "--space.options.reductions", "1"),
]
PRIMITIVES = ["max_pool_3x3", "skip_connect", "sep_conv_3x3", "none"]
SEARCH = [
    *("search", *SPACE, "--space.options.primitives", f"[{', '.join(PRIMITIVES)}]"),
    *("--search.epochs", "3", "--search.batch_size", "96", "--search.checkpoint_every_seconds", str(INTERVAL_S)),
    *("--search.log_every_steps", "3", "--search.stabilize.warmup_epochs", "1"),
]
GRID = [
    *("--search.epochs", "1", "--search.stabilize.warmup_epochs", "0"),
    *("--grid.max_cells", "4", "--grid.epochs", "1"),
]
RETRAIN = [
    *("--epochs", "3", "--channels", "2", "--cells", "3", "--batch_size", "96", "--log_every_steps", "5"),
    *("--checkpoint_every_seconds", str(INTERVAL_S), "--cutout", "2"),
]

STRATEGIES: dict[str, list[str]] = {
    "darts, order 1": ["--strategy", "darts", "--strategy.options.order", "1"],
    "darts, order 2": ["--strategy", "darts", "--strategy.options.order", "2"],
    "didarts": ["--strategy", "didarts"],
    "xnas": ["--strategy", "xnas"],
    "gdas": ["--strategy", "gdas"],
    "snas": ["--strategy", "snas"],
    "drnas": ["--strategy", "drnas"],
    "pcdarts": ["--strategy", "pcdarts", "--strategy.options.partial", "2"],
    "fairdarts": ["--strategy", "fairdarts"],
    "random": ["--strategy", "random", "--strategy.options.samples", "2", "--search.stabilize.warmup_epochs", "null"],
}
"""Options of a search by the name of its strategy."""

RECIPES: dict[str, list[str]] = {
    "sgd": ["--optimizer.nesterov", "true", "--optimizer.warmup_epochs", "1"],
    "adam": ["--optimizer.name", "adam", "--optimizer.lr", "0.003", "--label_smoothing", "0.1"],
    "adamw": ["--optimizer.name", "adamw", "--optimizer.lr", "0.003", "--batch_chunks", "2"],
    "drop path": ["--drop_path", "0.3", "--val_ratio", "0.2"],
    "bfloat16": ["--precision", "bfloat16", "--optimizer.schedule", "constant"],
}
"""Options of a retraining by what is special about it."""


def search(strategy: str) -> list[str]:
    """The command that searches, without ``--out``."""
    return [*SEARCH, *STRATEGIES[strategy]]


def grid() -> list[str]:
    """The command that searches two sizes, one epoch each, without ``--out``."""
    return [*search("darts, order 1"), *GRID]


def retrain(searched: str, recipe: str) -> list[str]:
    """The command that retrains what a folder holds, without ``--out``."""
    return ["retrain", searched, *RETRAIN, *RECIPES[recipe]]


def whole() -> list[str]:
    """A run of all phases: search, retraining, random baseline."""
    return ["run", "--preset", "demo", *SEARCH[1:], "--baseline.samples", "2", *_retrain_part()]


def _retrain_part() -> list[str]:
    pairs = zip(RETRAIN[::2], RETRAIN[1::2], strict=True)
    return [word for option, value in pairs for word in (f"--retrain.{option.removeprefix('--')}", value)]
