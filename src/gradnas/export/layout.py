"""Python text in the form that the usual formatters give it: 88 columns, one item per line where a line is too short.

A value becomes text by rules that let nothing out of it: names of classes and data sets come from strangers.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction

WIDTH = 88
"""Columns of a line: the default of ruff and black."""


@dataclass(frozen=True)
class Group:
    """An expression with items between brackets: ``Group("SepConv(", ("ch", "ch", "3"), ")")``."""

    opening: str
    items: "tuple[Expression, ...]"
    closing: str


Expression = str | Group
"""Text that stays on one line, or a group that may be broken."""


def call(name: str, *arguments: Expression) -> Group:
    """``name(arguments)``."""
    return Group(f"{name}(", arguments, ")")


def listed(items: Iterable[Expression]) -> Group:
    """``[items]``."""
    return Group("[", tuple(items), "]")


def module_list(items: Iterable[Expression]) -> Group:
    """``nn.ModuleList([items])``."""
    return call("nn.ModuleList", listed(items))


def tupled(items: Sequence[object]) -> Group:
    """A tuple of strings or numbers as a literal."""
    texts = tuple(literal(item) for item in items)
    return Group("(", (f"{texts[0]},",) if len(texts) == 1 else texts, ")")


def flat(expression: Expression) -> str:
    """On one line."""
    if isinstance(expression, str):
        return expression
    return f"{expression.opening}{', '.join(map(flat, expression.items))}{expression.closing}"


def lines(expression: Expression, indent: int, before: str = "", after: str = "") -> list[str]:
    """The lines of ``before expression after``, indented by this many blanks."""
    margin = " " * indent
    whole = f"{margin}{before}{flat(expression)}{after}"
    # How wide a character outside ASCII is depends on who counts; broken lines are right for all of them.
    if isinstance(expression, str) or (len(whole) <= WIDTH and whole.isascii()) or not expression.items:
        return [whole]
    inner = [line for item in expression.items for line in lines(item, indent + 4, after=_comma(item, expression))]
    return [f"{margin}{before}{expression.opening}", *inner, f"{margin}{expression.closing}{after}"]


def _comma(item: Expression, within: Group) -> str:
    """None behind the comma of a tuple of one, nor behind a list that is the only argument."""
    has_one = isinstance(item, str) and item.endswith(",")
    alone = isinstance(item, Group) and item.opening == "[" and len(within.items) == 1
    return "" if has_one or alone else ","


def summed(terms: Sequence[str], indent: int, before: str) -> list[str]:
    """The lines of ``before a + b + c``, in parentheses where they are too long for one."""
    margin, whole = " " * indent, " + ".join(terms)
    if len(f"{margin}{before}{whole}") <= WIDTH or len(terms) == 1:
        return [f"{margin}{before}{whole}"]
    if len(f"{margin}    {whole}") <= WIDTH:
        return [f"{margin}{before}(", f"{margin}    {whole}", f"{margin})"]
    inner = [f"{margin}    {'+ ' if i else ''}{term}" for i, term in enumerate(terms)]
    return [f"{margin}{before}(", *inner, f"{margin})"]


def literal(value: object) -> str:
    """A string or number as Python text that gives it back.

    Raises:
        TypeError: For another value.
        ValueError: For a number that is not finite.
    """
    if isinstance(value, str):
        quote = '"' if value.count('"') <= value.count("'") else "'"
        return f"{quote}{_escaped(value, quote)}{quote}"
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"expected a string or a number, got {value!r}.")
    if not math.isfinite(value):
        raise ValueError(f"expected a finite number, got {value!r}.")
    return repr(value)


def words(text: object) -> str:
    """Any text as one line for a docstring, in which it can neither end the string nor hide anything."""
    return _escaped(str(text), '"')


def _escaped(text: str, quote: str) -> str:
    """Backslash, quote and what does not print as escapes; the rest as it is."""
    return "".join(
        f"\\{c}"
        if c in ("\\", quote)
        else c
        if c.isprintable()
        else c.encode("unicode_escape", "surrogatepass").decode()
        for c in text
    )


def multiple(count: int, of: int, name: str) -> str:
    """A number of channels as text in terms of another one, ``2 * ch``; a plain number where that reads badly."""
    ratio = Fraction(count, of)
    if ratio.denominator > 4:
        return str(count)
    product = name if ratio.numerator == 1 else f"{ratio.numerator} * {name}"
    return product if ratio.denominator == 1 else f"{product} // {ratio.denominator}"
