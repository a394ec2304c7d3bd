"""Tests of ``src/gradnas/arch/genotype.py`` and ``op_names.py``."""

import copy
import dataclasses
import enum
import pickle
import re
import sys
import warnings

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gradnas.arch.genotype import Genotype
from gradnas.arch.op_names import CELL_OPS, DARTS_PRIMITIVES

# Two nodes; the columns below are counted by hand on this ruler of tens:
#                  1         2         3         4         5         6         7
#         1234567890123456789012345678901234567890123456789012345678901234567890123456789
NORMAL = "[('none', 0), ('none', 1), ('none', 2), ('none', 0)]"
HEAD = f"Genotype(normal={NORMAL}, "
TAIL = "normal_concat=[2, 3], reduce=[], reduce_concat=[])"
TEXT = HEAD + TAIL
SMALL = Genotype([("none", 0), ("none", 1), ("none", 2), ("none", 0)], [2, 3], [], [])


@st.composite
def cells(draw: st.DrawFn, min_nodes: int) -> tuple[list[tuple[str, int]], list[int]]:
    n_nodes = draw(st.integers(min_nodes, 7))
    pairs = [
        (draw(st.sampled_from(CELL_OPS)), draw(st.integers(0, node - 1)))
        for node in range(2, n_nodes + 2)
        for _ in range(2)
    ]
    ids = list(range(2, n_nodes + 2))
    concat = draw(st.lists(st.sampled_from(ids), min_size=1, unique=True)) if ids else []
    return pairs, concat


@st.composite
def genotypes(draw: st.DrawFn) -> Genotype:
    return Genotype(*draw(cells(min_nodes=1)), *draw(cells(min_nodes=0)))


@given(genotype=genotypes())
@settings(deadline=None)
def test_printed_genotype_is_read_back_equal(genotype: Genotype) -> None:
    again = Genotype.from_string(str(genotype))
    assert again == genotype
    assert hash(again) == hash(genotype)
    assert repr(genotype) == str(genotype)
    assert "\n" not in str(genotype)


@given(genotype=genotypes(), start=st.integers(0, 20), name=st.sampled_from(["", "X =", "  DARTS_V1=", "\n x1 = "]))
@settings(deadline=None)
def test_spacing_grouping_and_brackets_do_not_matter(genotype: Genotype, start: int, name: str) -> None:
    grouped = [[list(pair) for pair in node] for node in genotype.normal_nodes]
    text = f"""{name}{" " * start}genotypes.Genotype(
        reduce={genotype.reduce},  # tuples, 97 % ± 0.1
        normal={grouped},\r\n
        normal_concat={genotype.normal_concat},
        reduce_concat={list(genotype.reduce_concat)},
    )
    """
    assert Genotype.from_string(text) == genotype


def test_printing_is_that_of_the_literature() -> None:
    assert str(SMALL) == TEXT
    one = Genotype([("max_pool_3x3", 0), ("none", 1)], (2,), [("none", 1), ("none", 1)], range(2, 3))
    assert str(one) == (
        "Genotype(normal=[('max_pool_3x3', 0), ('none', 1)], normal_concat=[2], "
        "reduce=[('none', 1), ('none', 1)], reduce_concat=[2])"
    )


def test_lists_and_ranges_become_tuples() -> None:
    assert SMALL.normal == (("none", 0), ("none", 1), ("none", 2), ("none", 0))
    assert SMALL.normal_concat == (2, 3)
    assert (SMALL.reduce, SMALL.reduce_concat) == ((), ())
    assert Genotype(iter(SMALL.normal), range(2, 4), (), ()) == SMALL
    from_json = [["none", 0], ["none", 1], ["none", 2], ["none", 0]]
    assert Genotype(from_json, [2, 3], [], []) == SMALL  # type: ignore[arg-type]  # JSON has no tuples


def test_nodes_group_the_pairs() -> None:
    assert SMALL.n_nodes == 2
    assert SMALL.normal_nodes == ((("none", 0), ("none", 1)), (("none", 2), ("none", 0)))
    assert SMALL.reduce_nodes == ()
    one = Genotype(SMALL.normal, [3], [("identity", 0), ("none", 1)], [2])
    assert one.n_nodes == 2
    assert one.reduce_nodes == ((("identity", 0), ("none", 1)),)


def test_order_of_pairs_and_concatenation_is_kept_and_counts() -> None:
    swapped = Genotype(SMALL.normal, [3, 2], [], [])
    assert swapped.normal_concat == (3, 2)
    assert swapped != SMALL


def test_is_a_frozen_value() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        SMALL.normal = ()  # type: ignore[misc]  # what the test is about
    assert pickle.loads(pickle.dumps(SMALL)) == SMALL  # noqa: S301  # our own bytes: workers receive genotypes so
    assert copy.deepcopy(SMALL) == SMALL
    assert dataclasses.replace(SMALL, normal_concat=(3,)).normal_concat == (3,)
    with pytest.raises(ValueError, match="names 9"):
        dataclasses.replace(SMALL, normal_concat=(9,))


def test_subclasses_of_string_and_integer_print_as_literals() -> None:
    class Op(enum.StrEnum):
        NONE = "none"

    class Id(enum.IntEnum):
        TWO = 2

    genotype = Genotype([(Op.NONE, 0), (Op.NONE, 1), (Op.NONE, Id.TWO), (Op.NONE, 0)], [Id.TWO, 3], [], [])
    assert str(genotype) == TEXT


def test_names_of_operations() -> None:
    assert DARTS_PRIMITIVES == (
        "max_pool_3x3",
        "avg_pool_3x3",
        "skip_connect",
        "sep_conv_3x3",
        "sep_conv_5x5",
        "dil_conv_3x3",
        "dil_conv_5x5",
        "none",
    )
    assert CELL_OPS[:8] == DARTS_PRIMITIVES
    assert set(CELL_OPS[8:]) == {
        "sep_conv_7x7",
        "conv_7x1_1x7",
        "conv_3x1_1x3",
        "identity",
        "convbnrelu_3x3",
        "convbnrelu_1x1",
    }
    assert len(set(CELL_OPS)) == 14


OK = [("none", 0), ("none", 1)]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([], [], [], []), "normal: the normal cell has no nodes; it needs at least one, so two pairs."),
        ((OK[:1], [2], [], []), "normal: every node has two pairs, but normal lists 1."),
        ((OK, [2], [*OK, *OK, *OK][:5], [2]), "reduce: every node has two pairs, but reduce lists 5."),
        (
            ([("none", 0), ("none", 2)], [2], [], []),
            "normal[1]: node 2 reads source 2, but only sources 0-1 exist before it.",
        ),
        (
            (OK, [2], [*OK, *OK, ("none", 5), ("none", 0)], [2]),
            "reduce[4]: node 4 reads source 5, but only sources 0-3 exist before it.",
        ),
        (
            ([("none", -1), ("none", 0)], [2], [], []),
            "normal[0]: node 2 reads source -1, but only sources 0-1 exist before it.",
        ),
        (([("none", 0), ("none",)], [2], [], []), "normal[1]: a pair is (operation, source), got 1 items."),
        (
            ([("none", 0), ("sep conv", 1)], [2], [], []),
            "normal[1]: operation 'sep conv' is not a name of letters, digits and underscores.",
        ),
        (([("none", 0), ("é", 1)], [2], [], []), "normal[1]: operation 'é' is not a name"),
        (([("none", 0), ("", 1)], [2], [], []), "normal[1]: operation '' is not a name"),
        ((OK, [1], [], []), "normal_concat[0]: the concatenation names 1, but the only node is 2."),
        ((OK * 2, [2, 4], [], []), "normal_concat[1]: the concatenation names 4, but the nodes are 2-3."),
        ((OK, [2], [], [2]), "reduce_concat[0]: the concatenation names 2, but there are no nodes."),
        ((OK, [2, 2], [], []), "normal_concat[1]: the concatenation names node 2 twice."),
        (
            (OK, [], [], []),
            "normal_concat: the concatenation is empty, but the only node is 2; name at least one.",
        ),
        ((OK, [2], OK, []), "reduce_concat: the concatenation is empty, but the only node is 2; name at least one."),
        ((OK, range(2, 10**18), [], []), "normal_concat[1]: the concatenation names 3, but the only node is 2."),
    ],
)
def test_constructor_refuses_value(arguments: tuple[list[object], ...], message: str) -> None:
    with pytest.raises(ValueError, match=r"^genotype, ") as caught:
        Genotype(*arguments)  # type: ignore[arg-type]  # wrong on purpose
    assert str(caught.value).startswith(f"genotype, {message}")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((5, [2], [], []), "normal: expected a list, got 5."),
        (("none", [2], [], []), "normal: expected a list, got 'none'."),
        ((OK, None, [], []), "normal_concat: expected a list, got None."),
        ((OK, "2", [], []), "normal_concat: expected a list, got '2'."),
        ((["none", "none"], [2], [], []), "normal[0]: expected a pair (operation, source), got 'none'."),
        (([OK[0], (3, 0)], [2], [], []), "normal[1]: expected the name of an operation, got 3."),
        (([OK[0], ("none", True)], [2], [], []), "normal[1]: expected an integer source, got True."),
        (([OK[0], ("none", 1.0)], [2], [], []), "normal[1]: expected an integer source, got 1.0."),
        (([OK[0], ("none", "1")], [2], [], []), "normal[1]: expected an integer source, got '1'."),
        ((OK, [2.0], [], []), "normal_concat[0]: expected an integer node id, got 2.0."),
        ((OK, [2], OK, [True]), "reduce_concat[0]: expected an integer node id, got True."),
    ],
)
def test_constructor_refuses_type(arguments: tuple[object, ...], message: str) -> None:
    with pytest.raises(TypeError) as caught:
        Genotype(*arguments)  # type: ignore[arg-type]  # wrong on purpose
    assert str(caught.value) == f"genotype, {message}"


@pytest.mark.parametrize(
    "text",
    [
        TEXT,
        f"  {TEXT}  \n",
        f"BEST = {TEXT}",
        f"BEST={TEXT}",
        f"BEST = genotypes.{TEXT}",
        f"BEST = \n  my.genotypes.{TEXT}",
        f"Genotype({NORMAL}, [2, 3], [], [])",
        f"Genotype({NORMAL}, [2, 3], reduce_concat=(), reduce=(),)",
        TEXT.replace("[2, 3]", "range(2, 4)"),
        TEXT.replace("[2, 3]", "(2, 3)"),
        TEXT.replace("reduce_concat=[]", "reduce_concat=range(2, 2)"),
        TEXT.replace(NORMAL, "[[('none', 0), ('none', 1)], [('none', 2), ('none', 0)]]"),
        TEXT.replace(NORMAL, "((('none', 0), ('none', 1)), (('none', 2), ('none', 0)))"),
        TEXT.replace(NORMAL, "[['none', 0], ['none', 1], ['none', 2], ['none', 0]]"),
        TEXT.replace("'", '"'),
        f"{TEXT}  # second order, 97.24 ± 0.09, lambda: \\d",
        TEXT.replace(", ", ",\r\n"),
        TEXT.replace(", ", ",  # old Macintosh\r"),
    ],
)
def test_accepted_forms(text: str) -> None:
    assert Genotype.from_string(text) == SMALL


def test_printing_of_pt_darts() -> None:
    text = """Genotype(
        normal=[[('sep_conv_3x3', 0), ('dil_conv_5x5', 1)], [('skip_connect', 0), ('dil_conv_3x3', 2)]],
        normal_concat=range(2, 4),
        reduce=[[('max_pool_3x3', 0), ('max_pool_3x3', 1)], [('max_pool_3x3', 0), ('skip_connect', 2)]],
        reduce_concat=range(2, 4)
    )"""
    expected = Genotype(
        normal=[("sep_conv_3x3", 0), ("dil_conv_5x5", 1), ("skip_connect", 0), ("dil_conv_3x3", 2)],
        normal_concat=[2, 3],
        reduce=[("max_pool_3x3", 0), ("max_pool_3x3", 1), ("max_pool_3x3", 0), ("skip_connect", 2)],
        reduce_concat=[2, 3],
    )
    assert Genotype.from_string(text) == expected


def test_accepted_operations_are_those_of_the_caller() -> None:
    text = TEXT.replace("none", "my_op")
    with pytest.raises(ValueError, match=r"column 19: unknown operation 'my_op'\."):
        Genotype.from_string(text)
    assert Genotype.from_string(text, ops={"my_op"}).normal[0] == ("my_op", 0)
    with pytest.raises(ValueError, match=r"unknown operation 'none'. Known: my_op\.$"):
        Genotype.from_string(TEXT, ops=["my_op"])


def refusal(text: str) -> str:
    """The message of the error; nothing but ValueError, and no warning, may come."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(ValueError, match=r"^genotype, ") as caught:
            Genotype.from_string(text)
    assert type(caught.value) is ValueError
    return str(caught.value)


def test_column_of_a_source_counted_by_hand() -> None:
    #                1         2         3         4         5
    #       12345678901234567890123456789012345678901234567890123456
    text = "Genotype([('none',0),('none',1),('none',5),('none', 0)], [2], [], [])"
    assert refusal(text) == "genotype, column 41: node 3 reads source 5, but only sources 0-2 exist before it."


# Columns: the list of pairs opens at 17, its pairs at 18, 31, 44, 57 (each 13 on), an operation one further, a source
# nine further than its pair; "normal_concat" stands at 71, its value at 85, "reduce" at 93, its value at 100,
# "reduce_concat" at 104, its value at 118.
@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        # sources
        ("2), ('none', 0)", "3), ('none', 0)", "53: node 3 reads source 3, but only sources 0-2 exist before it."),
        ("2), ('none', 0)", "-1), ('none', 0)", "53: node 3 reads source -1, but only sources 0-2 exist before it."),
        ("2), ('none', 0)", "True), ('none', 0)", "53: expected an integer source, got True."),
        ("2), ('none', 0)", "None), ('none', 0)", "53: expected an integer source, got None."),
        ("2), ('none', 0)", "'2'), ('none', 0)", "53: expected an integer source, got '2'."),
        ("2), ('none', 0)", "2.0), ('none', 0)", "53: numbers are integers of at most 5 digits, got '2.0'."),
        ("2), ('none', 0)", "1e0), ('none', 0)", "53: numbers are integers of at most 5 digits, got '1e0'."),
        ("2), ('none', 0)", "0x2), ('none', 0)", "53: numbers are integers of at most 5 digits, got '0x2'."),
        ("2), ('none', 0)", "1or 2), ('none', 0)", "53: numbers are integers of at most 5 digits, got '1or'."),
        ("2), ('none', 0)", "999999), ('none', 0)", "53: numbers are integers of at most 5 digits, got '999999'."),
        ("2), ('none', 0)", ".5), ('none', 0)", "53: numbers are integers of at most 5 digits, got '.5'."),
        ("2), ('none', 0)", "k), ('none', 0)", "53: expected an integer source, got k. Code in a genotype is not run."),
        ("2), ('none', 0)", "1-0), ('none', 0)", "53: expected an integer source, got 1-0. Code"),
        ("2), ('none', 0)", "--2), ('none', 0)", "53: expected an integer source, got --2. Code"),
        ("2), ('none', 0)", "1 if a else 2), ('none', 0)", "53: expected an integer source, got 1 if a else 2. Code"),
        ("2), ('none', 0)", "int('2')), ('none', 0)", "53: expected an integer source, got int('2'). Code"),
        ("2), ('none', 0)", "not 2), ('none', 0)", "53: expected an integer source, got not 2. Code"),
        ("2), ('none', 0)", "x.y), ('none', 0)", "53: expected an integer source, got x.y. Code"),
        ("2), ('none', 0)", "x[2]), ('none', 0)", "53: expected an integer source, got x[2]. Code"),
        ("2), ('none', 0)", "...), ('none', 0)", "53: expected an integer source, got ...."),
        ("2), ('none', 0)", "02), ('none', 0)", "53: leading zeros"),
        # operations
        ("'none', 2", "'nome', 2", "45: unknown operation 'nome'. Did you mean 'none'? Known: max_pool_3x3, avg_"),
        ("'none', 2", f"'{'x' * 99}', 2", f"45: unknown operation '{'x' * 40}'. Known: max_pool_3x3"),
        ("'none', 2", "'', 2", "45: unknown operation ''. Known: max_pool_3x3"),
        ("'none', 2", "none, 2", "45: expected the name of an operation in quotes, got none. Code"),
        ("'none', 2", "b'none', 2", "45: expected the name of an operation in quotes, got b'none'."),
        ("'none', 2", "f'none', 2", "45: expected the name of an operation in quotes, got f'none'. Code"),
        ("'none', 2", "7, 2", "45: expected the name of an operation in quotes, got 7."),
        ("'none', 2", "str(x), 2", "45: expected the name of an operation in quotes, got str(x). Code"),
        ("'none', 2", "'no\\ne', 2", "48: the character '\\\\' has no place in a genotype."),
        ("'none', 2", "'no\\de', 2", "48: the character '\\\\' has no place in a genotype."),
        ("'none', 2", "f'{x}', 2", "47: the character '{' has no place in a genotype."),
        ("'none', 2", "'nöne', 2", "47: the character 'ö' has no place in a genotype."),
        ("'none', 2", "lambda: 0, 2", "51: the character ':' has no place in a genotype."),
        ("'none', 2", "(x := 1), 2", "48: the character ':' has no place in a genotype."),
        ("'none', 2", "'none'\x00, 2", "51: the character '\\x00' has no place in a genotype."),
        ("'none', 2", "'\ud800', 2", "46: the character '\\ud800' has no place in a genotype."),
        # pairs
        ("('none', 2)", "('none', 2, 0)", "44: a pair is (operation, source), got 3 items."),
        ("('none', 2)", "('none',)", "44: a pair is (operation, source), got 1 items."),
        ("('none', 2)", "()", "44: a pair is (operation, source), got 0 items."),
        ("('none', 2)", "('none')", "45: expected a pair (operation, source), got 'none'."),
        ("('none', 2)", "pair", "44: expected a pair (operation, source), got pair. Code in a genotype is not run."),
        ("('none', 2)", "*pairs", "44: the character '*' has no place in a genotype."),
        (", ('none', 0)]", "]", "17: every node has two pairs, but normal lists 3."),
        (NORMAL, "[]", "17: the normal cell has no nodes; it needs at least one, so two pairs."),
        (NORMAL, "5", "17: expected a list of pairs, got 5."),
        (NORMAL, "'none'", "17: expected a list of pairs, got 'none'."),
        (NORMAL, "pairs", "17: expected a list of pairs, got pairs. Code in a genotype is not run."),
        (NORMAL, "[('none', i) for i in x]", "17: expected a list of pairs, got [('none', i) for i in x]. Code"),
        (NORMAL, "(('none', i) for i in x)", "17: expected a list of pairs, got (('none', i) for i in x). Code"),
        (NORMAL, "[('none', 0)] * 4", "31: the character '*' has no place in a genotype."),
        (NORMAL, "{('none', 0)}", "17: the character '{' has no place in a genotype."),
        # groups
        ("('none', 1), ('none', 2)", "[('none', 1), ('none', 2)]", "18: expected a group of two pairs like its"),
        (
            "[('none', 0), ('none', 1)",
            "[[('none', 0)], ('none', 1)",
            "18: a group holds the two pairs of a node, got 1.",
        ),
        (
            NORMAL,
            "[[('none', 0), ('none', 1)], [('none', 0), ('none', 1), ('none', 2)]]",
            "46: a group holds the two pairs of a node, got 3.",
        ),
        (
            NORMAL,
            "[[('none', 0), ('none', 1)], ('none', 0)]",
            "46: expected a group of two pairs like its neighbors, got ('none', 0).",
        ),
        (
            NORMAL,
            "[[('none', 0), ('none', 1)], x]",
            "46: expected a group of two pairs like its neighbors, got x. Code",
        ),
        # concatenations
        ("[2, 3]", "[2, 4]", "89: the concatenation names 4, but the nodes are 2-3."),
        ("[2, 3]", "[1, 3]", "86: the concatenation names 1, but the nodes are 2-3."),
        ("[2, 3]", "[2, -3]", "89: the concatenation names -3, but the nodes are 2-3."),
        ("[2, 3]", "[3, 3]", "89: the concatenation names node 3 twice."),
        ("[2, 3]", "[]", "85: the concatenation is empty, but the nodes are 2-3; name at least one."),
        ("[2, 3]", "[2, True]", "89: expected an integer node id, got True."),
        ("[2, 3]", "['2']", "86: expected an integer node id, got '2'."),
        ("[2, 3]", "range(2, 5)", "85: the concatenation names 4, but the nodes are 2-3."),
        ("[2, 3]", "range(2, 99999)", "85: the concatenation names 4, but the nodes are 2-3."),
        ("[2, 3]", "range(4, 2)", "85: the concatenation is empty, but the nodes are 2-3; name at least one."),
        ("[2, 3]", "range(4)", "85: range takes a start and a stop here."),
        ("[2, 3]", "range(2, 4, 1)", "85: range takes a start and a stop here."),
        ("[2, 3]", "range(2, stop=4)", "85: range takes a start and a stop here."),
        ("[2, 3]", "range(2, 4, step=1)", "85: range takes a start and a stop here."),
        ("[2, 3]", "range(2, n)", "94: expected an integer, got n. Code in a genotype is not run."),
        (
            "[2, 3]",
            "list(range(2, 4))",
            "85: expected a list of node ids or range(start, stop), got list(range(2, 4)). ",
        ),
        ("[2, 3]", "x.range(2, 4)", "85: expected a list of node ids or range(start, stop), got x.range(2, 4). Code"),
        ("[2, 3]", "3", "85: expected a list of node ids or range(start, stop), got 3."),
        ("reduce_concat=[]", "reduce_concat=[2]", "119: the concatenation names 2, but there are no nodes."),
        ("reduce=[]", "reduce=[('none', 0), ('none', 9)]", "123: node 2 reads source 9, but only sources 0-1 exist"),
        # the call
        (
            "reduce_concat",
            "reduce_conkat",
            "104: unknown keyword reduce_conkat. Did you mean 'reduce_concat'? Known: n",
        ),
        ("reduce_concat=[]", "reduce=[]", "104: reduce is given twice."),
        (
            ", reduce_concat=[]",
            "",
            "1: Genotype takes normal, normal_concat, reduce, reduce_concat; reduce_concat missing.",
        ),
        ("reduce_concat=[]", "reduce_concat=[], dropout=1", "122: unknown keyword dropout. Known: normal, "),
        ("reduce_concat=[]", "**x", "104: the character '*' has no place in a genotype."),
        (
            "normal=[",
            "[], [], [], [], [",
            "26: Genotype takes normal, normal_concat, reduce, reduce_concat; this is argu",
        ),
        ("normal=[", "[], normal=[", "14: normal is given twice."),
        ("Genotype(", "Genotyp(", "1: expected one Genotype(...), got Genotyp(normal=[('none', 0), ('none',.... Code"),
        ("Genotype(", "x.Genotyp(", "1: expected one Genotype(...), got x.Genotyp("),
        ("Genotype(", "x().Genotype(", "1: expected one Genotype(...), got x().Genotype("),
        ("Genotype(", "x[0].y.Genotype(", "1: expected one Genotype(...), got x[0].y.Genotype("),
        ("Genotype(", "getattr(x, 'Genotype')(", "1: expected one Genotype(...), got getattr(x, 'Genotype')("),
        ("Genotype(", "Genotype()(", "1: expected one Genotype(...), got Genotype()("),
        ("Genotype(", "X == Genotype(", "1: expected one Genotype(...), got X == Genotype("),
        ("Genotype(", "not Genotype(", "1: expected one Genotype(...), got not Genotype("),
        ("Genotype(", "X = Y = Genotype(", "7: invalid syntax"),
        ("Genotype(", "X = genotype(", "5: expected one Genotype(...), got genotype("),
        ("Genotype(", "import os; Genotype(", "10: the character ';' has no place in a genotype."),
        ("reduce_concat=[])", "reduce_concat=[]), 1", "1: expected one Genotype(...), got Genotype("),
        ("reduce_concat=[])", "reduce_concat=[])(1)", "1: expected one Genotype(...), got Genotype("),
        ("reduce_concat=[])", "reduce_concat=[]) 1", "122: invalid syntax"),
        ("reduce_concat=[])", "reduce_concat=[]))", "121: unmatched ')'."),
        (
            "reduce_concat=[])",
            "reduce_concat=[)",
            "119: closing parenthesis ')' does not match opening parenthesis '['.",
        ),
        ("reduce_concat=[])", "reduce_concat=[]", "9: '(' was never closed."),
        ("reduce_concat=[])", "reduce_concat=['", "119: unterminated string literal"),
    ],
)
def test_refused_piece(old: str, new: str, message: str) -> None:
    assert TEXT.count(old) == 1
    text = TEXT.replace(old, new)
    assert refusal(text).startswith(f"genotype, column {message}")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "column 1: expected one Genotype(...), got nothing."),
        ("  \n ", "column 1: expected one Genotype(...), got nothing."),
        ("# Genotype", "column 11: expected one Genotype(...), got nothing."),
        ("BEST = ", "column 7: expected one Genotype(...), got nothing."),
        ("5", "column 1: expected one Genotype(...), got 5."),
        (
            "__import__('os').system('x')",
            "column 1: expected one Genotype(...), got __import__('os').system('x'). Code",
        ),
        ("X = __import__('os')", "column 5: expected one Genotype(...), got __import__('os'). Code"),
        ("Genotype(__import__('os').system('x'), [], [], [])", "column 10: expected a list of pairs, got __import__"),
        ("(lambda: 0)()", "column 8: the character ':' has no place in a genotype."),
        ("f'{1}'", "column 3: the character '{' has no place in a genotype."),
        ("f'Genotype'", "column 1: expected one Genotype(...), got f'Genotype'. Code in a genotype is not run."),
        ("(x := 1)", "column 4: the character ':' has no place in a genotype."),
        ("b'Genotype()'", "column 1: expected one Genotype(...), got b'Genotype()'."),
        ("[x for x in y]", "column 1: expected one Genotype(...), got [x for x in y]. Code"),
        ("yield", "column 1: "),
        ("exec('x')", "column 1: expected one Genotype(...), got exec('x'). Code in a genotype is not run."),
        ("\ufeffGenotype()", "column 1: the character '\\ufeff' has no place in a genotype."),
        ("7" * 5000, "column 1: numbers are integers of at most 5 digits, got '777"),
        ("x" * 41, f"column 1: expected one Genotype(...), got {'x' * 37}.... Code"),
        ("'" + "x" * 3000 + "'", "column 1: expected one Genotype(...), got 'xxxx"),
        ("'''a\nb'''", "line 1, column 1: expected one Genotype(...), got '''a b'''."),
    ],
)
def test_refused_text(text: str, message: str) -> None:
    assert refusal(text).startswith(f"genotype, {message}")


@pytest.mark.parametrize(
    "piece", ["[", "(", "-", "not ", "a.", "a if ", "await ", "Genotype(", "f(", "x = ", "'", '"""', "\n("]
)
@pytest.mark.parametrize("end", ["", "1", "a"])
def test_nesting_ends_in_a_value_error(piece: str, end: str) -> None:
    text = piece * ((10_000 - len(end)) // len(piece)) + end
    assert refusal(text).startswith("genotype, ")


@pytest.mark.parametrize("raised", [RecursionError, MemoryError])
def test_exhausted_parser_is_a_value_error(raised: type[Exception], monkeypatch: pytest.MonkeyPatch) -> None:
    def parse(*_: object, **__: object) -> None:
        raise raised

    monkeypatch.setattr("ast.parse", parse)
    assert refusal(f"X = {TEXT}") == "genotype, column 5: the text is nested too deeply."


def test_deep_nesting_is_named() -> None:
    assert "nested" in refusal("[" * 5000)
    if sys.version_info < (3, 12):  # later parsers read a longer chain before they give up
        assert refusal("-" * 5000 + "1") == "genotype, column 1: the text is nested too deeply."


def test_length_limit() -> None:
    at_limit = TEXT + " " * (10_000 - len(TEXT))
    assert Genotype.from_string(at_limit) == SMALL
    expected = "genotype, column 10001: the text has 10001 characters, at most 10000 are read."
    assert refusal(at_limit + " ") == expected
    assert refusal("(" * 10**7).startswith("genotype, column 10001: the text has 10000000 characters")


def test_position_in_a_text_of_several_lines() -> None:
    text = "\n# two nodes\r\nX = Genotype(\n  normal=[('none', 0),\r\n    ('none', 1), ('none', 7)],\n [2], [], [])"
    assert refusal(text).startswith("genotype, line 6, column 13: positional argument follows keyword argument")
    text = text.replace(" [2], [], []", "normal_concat=[2], reduce=[], reduce_concat=[]")
    assert refusal(text) == "genotype, line 4, column 10: every node has two pairs, but normal lists 3."
    text = text.replace("7)]", "7), ('none', 0)]")
    assert refusal(text) == (
        "genotype, line 5, column 27: node 3 reads source 7, but only sources 0-2 exist before it."
    )
    text = text.replace("7)", "2)").replace("Genotype(", "genotype(")
    assert refusal(text).startswith("genotype, line 3, column 5: expected one Genotype(...), got genotype( normal=[")
    text = text.replace("X = ", "").replace("('none', 2)", "('none' 2)")
    assert refusal(text).startswith("genotype, line 5, column 19: invalid syntax")


def test_warnings_of_the_parser_do_not_leak() -> None:
    for piece in ["'\\d'", "'\\8'", "1or 2", "1if 2 else 3", "0x1for x in y", "1.or 2", ".5or 2", "1e5and 2", "1jin x"]:
        refusal(piece)
        refusal(TEXT.replace("'none', 2", f"'none', {piece}"))


@given(text=st.text(alphabet="Genotype()[]'\",=. -#\n\r\t\\019abxéf:{}*\x00\x0c", max_size=60))
@settings(max_examples=300, deadline=None)
def test_noise_is_refused(text: str) -> None:
    assert refusal(text).startswith("genotype, ")


@given(
    position=st.integers(0, len(TEXT)),
    noise=st.text(alphabet="()[]',=.-# 0a\\1\n\"", max_size=3),
    cut=st.integers(0, 3),
)
@settings(max_examples=300, deadline=None)
def test_damaged_text_is_read_or_refused(position: int, noise: str, cut: int) -> None:
    text = TEXT[:position] + noise + TEXT[position + cut :]
    try:
        genotype = Genotype.from_string(text)
    except ValueError:
        assert re.match(r"genotype, (line \d+, )?column \d+: .+", refusal(text), flags=re.DOTALL)
    else:
        assert Genotype.from_string(str(genotype)) == genotype


@pytest.mark.parametrize("text", [b"Genotype()", None, 5, ["Genotype()"]])
def test_only_strings_are_read(text: object) -> None:
    with pytest.raises(TypeError, match=f"read from a string, got {type(text).__name__}"):
        Genotype.from_string(text)  # type: ignore[arg-type]  # wrong on purpose


def test_one_string_is_no_collection_of_operations() -> None:
    with pytest.raises(TypeError, match="ops must be a collection of operation names, got the one string 'none'"):
        Genotype.from_string(TEXT, ops="none")
