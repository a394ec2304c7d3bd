"""Genotypes: the tuple notation in which the literature prints a pair of cells.

Source: Liu et al., DARTS (ICLR 2019), in the form of its repository quark0/darts, ``cnn/genotypes.py``:
``Genotype(normal, normal_concat, reduce, reduce_concat)``. The grouped form is that of khanrc/pt.darts.
Deviations: the number of nodes is free, ``reduce`` may be empty, and a text is read, never run.
Reference test: ``tests/arch/test_genotype.py::test_printed_genotype_is_read_back_equal``.

State ids of a cell: 0 and 1 are its inputs (the cell before the previous one, the previous one), k + 2 is node k. Error
messages call a node by its state id, the number that also stands in the pairs and in the concatenation.
"""

import ast
import re
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from reprlib import repr as shortened

from gradnas.arch.op_names import CELL_OPS
from gradnas.foundation.names import did_you_mean

Pair = tuple[str, int]
"""One edge of a node: operation name and the state id it reads."""

_FIELDS = ("normal", "normal_concat", "reduce", "reduce_concat")
_MAX_CHARACTERS = 10_000

_COMMENT = re.compile(r"#[^\n]*")
_HEAD = re.compile(r"\s*(?:[A-Za-z_]\w*\s*=(?!=)\s*)?", re.ASCII)
# What no genotype contains. It is searched before Python's parser sees the text: without backslashes and numbers that
# run into a name the parser has nothing to warn about, and in pure ASCII its byte offsets are columns.
_FOREIGN = re.compile(
    r"(?P<number>(?<!\w)(?:\d+[.A-Za-z_]|\d{6})[\w.]*|\.\d[\w.]*)|(?P<character>[^\w\s()\[\],.='\"-])", re.ASCII
)


@dataclass(frozen=True, init=False, repr=False)
class Genotype:
    """A normal and a reduction cell, two (operation, source) pairs per node.

    Immutable, hashable, equal by content. ``str`` gives the printing of the literature, which ``from_string`` reads.

    Attributes:
        normal: The pairs of the normal cell, node after node.
        normal_concat: State ids whose outputs the normal cell concatenates, in that order.
        reduce: The pairs of the reduction cell, empty for a network without reduction cells.
        reduce_concat: State ids whose outputs the reduction cell concatenates.
    """

    normal: tuple[Pair, ...]
    normal_concat: tuple[int, ...]
    reduce: tuple[Pair, ...]
    reduce_concat: tuple[int, ...]

    def __init__(
        self,
        normal: Iterable[Pair],
        normal_concat: Iterable[int],
        reduce: Iterable[Pair],
        reduce_concat: Iterable[int],
    ) -> None:
        """Check the four parts and keep them as tuples.

        Args:
            normal: Pairs ``(operation, source)``, two per node, at least one node. Pairs 2k and 2k + 1 belong to the
                node with state id k + 2 and read smaller state ids. The operation is any ASCII identifier: which
                names exist is known to the text reader and to the operation registry, not here.
            normal_concat: Distinct state ids of nodes, at least one.
            reduce: As ``normal``, or empty.
            reduce_concat: As ``normal_concat``; empty exactly when ``reduce`` is.

        Raises:
            TypeError: If a part is not a list, a pair not a pair, an operation not a string or an id not an integer
                (a bool is none).
            ValueError: If an operation is not an identifier, the number of pairs is odd, a source does not exist
                before its node, or a concatenation names something else than distinct nodes.
        """
        for cell, pairs, concat in (("normal", normal, normal_concat), ("reduce", reduce, reduce_concat)):
            checked = tuple(_pair(pair, f"{cell}[{i}]") for i, pair in enumerate(_listed(pairs, cell)))
            _check_sources(cell, [source for _, source in checked], _indexed(cell))
            at_concat = _indexed(f"{cell}_concat")
            object.__setattr__(self, cell, checked)
            ids = _concat(_listed(concat, f"{cell}_concat"), len(checked) // 2, at_concat)
            object.__setattr__(self, f"{cell}_concat", ids)

    @classmethod
    def from_string(cls, text: str, *, ops: Collection[str] = CELL_OPS) -> "Genotype":
        """Read a printed genotype without running any of it.

        Args:
            text: ``Genotype(normal=[('sep_conv_3x3', 0), ...], normal_concat=range(2, 6), reduce=[...],
                reduce_concat=[...])`` with keywords or positions, lists or tuples; pairs flat or in one group of two
                per node; concatenations as lists or ``range(start, stop)``. ``NAME =`` may stand before it, a dotted
                module before ``Genotype``, comments anywhere. At most 10,000 characters.
            ops: The operation names to accept.

        Returns:
            The genotype; ``Genotype.from_string(str(genotype)) == genotype``.

        Raises:
            TypeError: If ``text`` is not a string, or ``ops`` is a single one.
            ValueError: If the text is anything else than such a genotype. The message names the column, in a text of
                several lines also the line, of the offending piece:
                ``genotype, column 41: node 4 reads source 5, but only sources 0-3 exist before it.``
        """
        if not isinstance(text, str):
            raise TypeError(f"a genotype is read from a string, got {type(text).__name__}. Decode or print it first.")
        if isinstance(ops, str):
            raise TypeError(f"ops must be a collection of operation names, got the one string {shortened(ops)}.")
        reader = _Reader(text, ops)
        parts = reader.parts()
        cells: list[tuple[list[Pair], tuple[int, ...]]] = []
        for cell in ("normal", "reduce"):
            pairs, at_source = reader.pairs(parts[cell])
            _check_sources(cell, [source for _, source in pairs], at_source)
            ids, at_id = reader.ids(parts[f"{cell}_concat"])
            cells.append((pairs, _concat(ids, len(pairs) // 2, at_id)))
        return cls(*cells[0], *cells[1])

    def __str__(self) -> str:
        """The printing of the literature, on one line."""
        parts = ", ".join(f"{name}={list(getattr(self, name))}" for name in _FIELDS)
        return f"Genotype({parts})"

    __repr__ = __str__

    @property
    def n_nodes(self) -> int:
        """Number of nodes of the normal cell."""
        return len(self.normal) // 2

    @property
    def normal_nodes(self) -> tuple[tuple[Pair, Pair], ...]:
        """The two pairs of each node of the normal cell."""
        return _by_node(self.normal)

    @property
    def reduce_nodes(self) -> tuple[tuple[Pair, Pair], ...]:
        """The two pairs of each node of the reduction cell."""
        return _by_node(self.reduce)


# Where a message points: to the i-th pair or id of a part, or with None to the part as a whole.
_Places = Callable[[int | None], str]


def _indexed(part: str) -> _Places:
    """Places inside an argument of the constructor: ``normal`` or ``normal[3]``."""
    return lambda i: part if i is None else f"{part}[{i}]"


def _by_node(pairs: tuple[Pair, ...]) -> tuple[tuple[Pair, Pair], ...]:
    return tuple(zip(pairs[::2], pairs[1::2], strict=True))


def _listed(value: Iterable[object], part: str) -> Iterable[object]:
    if isinstance(value, str) or not isinstance(value, Iterable):
        raise TypeError(f"genotype, {part}: expected a list, got {shortened(value)}.")
    return value


def _pair(pair: object, place: str) -> Pair:
    if not isinstance(pair, tuple | list):
        raise TypeError(f"genotype, {place}: expected a pair (operation, source), got {shortened(pair)}.")
    if len(pair) != 2:
        raise ValueError(f"genotype, {place}: a pair is (operation, source), got {len(pair)} items.")
    op, source = pair
    if not isinstance(op, str):
        raise TypeError(f"genotype, {place}: expected the name of an operation, got {shortened(op)}.")
    if not (op.isascii() and op.isidentifier()):
        raise ValueError(
            f"genotype, {place}: operation {shortened(op)} is not a name of letters, digits and underscores."
        )
    if not isinstance(source, int) or isinstance(source, bool):
        raise TypeError(f"genotype, {place}: expected an integer source, got {shortened(source)}.")
    return str(op), int(source)  # of an enumeration or a numpy string only the value, so that it prints as a literal


def _check_sources(cell: str, sources: Sequence[int], at: _Places) -> None:
    """Refuse a cell whose pairs do not make nodes, or whose nodes read what does not exist yet."""
    if cell == "normal" and not sources:
        raise ValueError(f"genotype, {at(None)}: the normal cell has no nodes; it needs at least one, so two pairs.")
    if len(sources) % 2:
        raise ValueError(f"genotype, {at(None)}: every node has two pairs, but {cell} lists {len(sources)}.")
    for i, source in enumerate(sources):
        node = i // 2 + 2
        if not 0 <= source < node:
            raise ValueError(
                f"genotype, {at(i)}: node {node} reads source {source}, but only sources 0-{node - 1} exist before it."
            )


def _concat(ids: Iterable[object], n_nodes: int, at: _Places) -> tuple[int, ...]:
    """The concatenation as a tuple; it stops at the first bad id, so a huge range is never expanded."""
    nodes = {0: "there are no nodes", 1: "the only node is 2"}.get(n_nodes, f"the nodes are 2-{n_nodes + 1}")
    checked: list[int] = []
    for i, state in enumerate(ids):
        if not isinstance(state, int) or isinstance(state, bool):
            raise TypeError(f"genotype, {at(i)}: expected an integer node id, got {shortened(state)}.")
        if not 2 <= state < n_nodes + 2:
            raise ValueError(f"genotype, {at(i)}: the concatenation names {state}, but {nodes}.")
        if state in checked:
            raise ValueError(f"genotype, {at(i)}: the concatenation names node {state} twice.")
        checked.append(int(state))
    if n_nodes and not checked:
        raise ValueError(f"genotype, {at(None)}: the concatenation is empty, but {nodes}; name at least one.")
    return tuple(checked)


class _Reader:
    """One text, its syntax tree, and errors that point into it."""

    def __init__(self, text: str, ops: Collection[str]) -> None:
        self.ops = ops
        if len(text) > _MAX_CHARACTERS:
            raise ValueError(
                f"genotype, column {_MAX_CHARACTERS + 1}: the text has {len(text)} characters, "
                f"at most {_MAX_CHARACTERS} are read."
            )
        text = text.rstrip().replace("\r\n", "\n").replace("\r", "\n")
        self.text = _COMMENT.sub(lambda comment: " " * len(comment[0]), text)
        if foreign := _FOREIGN.search(self.text):
            if foreign["number"]:
                message = f"numbers are integers of at most 5 digits, got {shortened(foreign['number'])}."
            else:
                message = f"the character {foreign['character']!r} has no place in a genotype."
            raise self.fault(foreign.start(), message)
        head = _HEAD.match(self.text)
        start = head.end() if head else 0
        newlines = re.finditer("\n", self.text[start:])
        self.line_starts = [start, *(start + newline.end() for newline in newlines)]
        self.tree = self.parsed(self.text[start:])

    def parsed(self, body: str) -> ast.expr:
        start = self.line_starts[0]
        if not body.strip():
            raise self.fault(start, "expected one Genotype(...), got nothing.")
        try:
            return ast.parse(body, mode="eval").body
        except SyntaxError as error:
            line_start = self.line_starts[min(error.lineno or 1, len(self.line_starts)) - 1]
            raise self.fault(line_start + max(error.offset or 1, 1) - 1, f"{error.msg}.") from None
        except (RecursionError, MemoryError):
            raise self.fault(start, "the text is nested too deeply.") from None

    def fault(self, at: int | ast.expr | ast.keyword, message: str) -> ValueError:
        return ValueError(f"genotype, {self.place(at)}: {message}")

    def unexpected(self, expected: str, node: ast.expr) -> ValueError:
        literal = isinstance(node, ast.Constant | ast.List | ast.Tuple)
        reason = "" if literal else " Code in a genotype is not run."
        shown = " ".join(self.text[self.offset(node) : self.offset(node, end=True)].split())
        shown = shown if len(shown) <= 40 else f"{shown[:37]}..."
        return self.fault(node, f"expected {expected}, got {shown}.{reason}")

    def offset(self, node: ast.expr | ast.keyword, *, end: bool = False) -> int:
        line, column = (node.end_lineno, node.end_col_offset) if end else (node.lineno, node.col_offset)
        assert line is not None  # both are filled in by the parser
        assert column is not None
        return self.line_starts[line - 1] + column

    def place(self, at: int | ast.expr | ast.keyword) -> str:
        offset = at if isinstance(at, int) else self.offset(at)
        column = offset - self.text.rfind("\n", 0, offset)
        if "\n" not in self.text:
            return f"column {column}"
        line = self.text.count("\n", 0, offset) + 1
        return f"line {line}, column {column}"

    def places(self, whole: ast.expr, items: Sequence[ast.expr]) -> _Places:
        return lambda i: self.place(whole if i is None else items[i])

    def parts(self) -> dict[str, ast.expr]:
        """The four arguments of the call, by name."""
        call, signature = self.tree, f"Genotype takes {', '.join(_FIELDS)}"
        if not isinstance(call, ast.Call) or not _names_genotype(call.func):
            raise self.unexpected("one Genotype(...)", call)
        if len(call.args) > len(_FIELDS):
            raise self.fault(call.args[len(_FIELDS)], f"{signature}; this is argument {len(_FIELDS) + 1}.")
        parts = dict(zip(_FIELDS, call.args, strict=False))
        for keyword in call.keywords:
            if keyword.arg not in _FIELDS:
                raise self.fault(keyword, f"unknown keyword {keyword.arg}. {did_you_mean(str(keyword.arg), _FIELDS)}")
            if keyword.arg in parts:
                raise self.fault(keyword, f"{keyword.arg} is given twice.")
            parts[keyword.arg] = keyword.value
        if missing := [name for name in _FIELDS if name not in parts]:
            raise self.fault(call, f"{signature}; {', '.join(missing)} missing.")
        return parts

    def pairs(self, whole: ast.expr) -> tuple[list[Pair], _Places]:
        """The pairs of a cell, and where each of their sources stands."""
        items = self.items(whole, "a list of pairs")
        if any(map(_is_group, items)):
            items = [pair for group in items for pair in self.group(group)]
        pairs: list[Pair] = []
        sources: list[ast.expr] = []
        for item in items:
            parts = self.items(item, "a pair (operation, source)")
            if len(parts) != 2:
                raise self.fault(item, f"a pair is (operation, source), got {len(parts)} items.")
            pairs.append((self.op(parts[0]), self.integer(parts[1], "an integer source")))
            sources.append(parts[1])
        return pairs, self.places(whole, sources)

    def group(self, group: ast.expr) -> list[ast.expr]:
        pairs = self.items(group, "a group of two pairs like its neighbors")
        if not _is_group(group):
            raise self.unexpected("a group of two pairs like its neighbors", group)
        if len(pairs) != 2:
            raise self.fault(group, f"a group holds the two pairs of a node, got {len(pairs)}.")
        return pairs

    def ids(self, whole: ast.expr) -> tuple[list[int], _Places]:
        """The ids of a concatenation, and where each stands."""
        if isinstance(whole, ast.Call) and isinstance(whole.func, ast.Name) and whole.func.id == "range":
            if len(whole.args) != 2 or whole.keywords:
                raise self.fault(whole, "range takes a start and a stop here.")
            start, stop = (self.integer(bound, "an integer") for bound in whole.args)
            return list(range(start, stop)), lambda _: self.place(whole)
        items = self.items(whole, "a list of node ids or range(start, stop)")
        return [self.integer(item, "an integer node id") for item in items], self.places(whole, items)

    def items(self, node: ast.expr, expected: str) -> list[ast.expr]:
        if not isinstance(node, ast.List | ast.Tuple):
            raise self.unexpected(expected, node)
        return node.elts

    def op(self, node: ast.expr) -> str:
        if not isinstance(node, ast.Constant) or not isinstance(node.value, str):
            raise self.unexpected("the name of an operation in quotes", node)
        if node.value not in self.ops:
            name = node.value[:40]
            raise self.fault(node, f"unknown operation {name!r}. {did_you_mean(name, self.ops)}")
        return node.value

    def integer(self, node: ast.expr, expected: str) -> int:
        sign, digits = 1, node
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):  # -1: an integer, refused by its range
            sign, digits = -1, node.operand
        if not isinstance(digits, ast.Constant) or type(digits.value) is not int:
            raise self.unexpected(expected, node)
        return sign * digits.value


def _names_genotype(function: ast.expr) -> bool:
    """Whether it is the name Genotype, after any dotted module path."""
    if isinstance(function, ast.Name):
        return function.id == "Genotype"
    if not isinstance(function, ast.Attribute) or function.attr != "Genotype":
        return False
    module = function.value
    while isinstance(module, ast.Attribute):
        module = module.value
    return isinstance(module, ast.Name)


def _is_group(item: ast.expr) -> bool:
    """Whether it is a list of lists: the pairs of one node rather than one pair."""
    if not isinstance(item, ast.List | ast.Tuple):
        return False
    return bool(item.elts) and all(isinstance(pair, ast.List | ast.Tuple) for pair in item.elts)
