"""The colors of drawings and page by role, for light and dark surroundings."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from gradnas.arch import OpDesc, candidates

COLORS: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "paper": ("#ffffff", "#171b22"),
        "ink": ("#1b2430", "#e6e9ee"),
        "muted": ("#5b6675", "#9aa5b4"),
        "faint": ("#d5dae1", "#39424f"),
        "wire": ("#8793a3", "#77828f"),
        "state": ("#ffffff", "#222934"),
        "state-line": ("#4b5766", "#a3adba"),
        "sep": ("#dbeafe", "#1d3a63"),
        "sep-line": ("#3b82f6", "#5c9bf7"),
        "dil": ("#ede4ff", "#3d2c66"),
        "dil-line": ("#8b5cf6", "#a988f8"),
        "pool": ("#feefc3", "#4d3a0d"),
        "pool-line": ("#d99207", "#d9a13a"),
        "skip": ("#d8f5e1", "#14432b"),
        "skip-line": ("#1fa255", "#3fbf74"),
        "other": ("#eceff3", "#2c3541"),
        "other-line": ("#7c8896", "#8b97a6"),
        "mixed": ("#fde4ef", "#51233a"),
        "mixed-line": ("#d6468a", "#e0709f"),
        "reduction": ("#ffe4d3", "#54301a"),
        "reduction-line": ("#e0702a", "#ea8b50"),
        "first": ("#2563eb", "#6aa5ff"),
        "second": ("#d9660a", "#f59a4a"),
        "third": ("#0f8a5f", "#3fc998"),
        "heat": ("#2563eb", "#4f8ff7"),
        "on-heat": ("#ffffff", "#ffffff"),
        "mark": ("#d9660a", "#ffb066"),
    }
)
"""Role to (color on white, color on dark)."""

FAMILIES: Mapping[str, str] = MappingProxyType(
    {
        "sep": "separable convolution",
        "dil": "dilated convolution",
        "pool": "pooling",
        "skip": "skip connection",
        "other": "other operation",
        "mixed": "undecided, several candidates",
    }
)
"""Families of operations with the words of the legend."""

_SPARE_LINES = ("mixed-line", "reduction-line", "state-line")  # for more than two ops of one family


def family(op: OpDesc) -> str:
    """The family of an op: a key of :data:`FAMILIES`."""
    if candidates(op):
        return "mixed"
    return family_of_name(op.name)


def family_of_name(name: str) -> str:
    """The family of a plain op by its name: a key of :data:`FAMILIES`."""
    if name.startswith("sep_conv"):
        return "sep"
    if name.startswith("dil_conv"):
        return "dil"
    if "pool" in name:
        return "pool"
    return "skip" if name in ("skip_connect", "identity") else "other"


def line_styles(ops: Sequence[str]) -> tuple[tuple[str, bool], ...]:
    """(color role, dashed) of the curve of each op.

    The first two ops of a family have its color, solid and dashed; others get spare colors. Styles repeat from about a
    dozen ops on: more cannot be told apart by eye.
    """
    styles: list[tuple[str, bool]] = []
    for op in ops:
        own = f"{family_of_name(op)}-line"
        offered = [(role, dashed) for role in (own, *_SPARE_LINES) for dashed in (False, True)]
        styles.append(min(offered, key=styles.count))  # of equally used ones the first
    return tuple(styles)
