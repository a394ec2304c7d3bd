"""What the numbers of a comparison show, in sentences, and what they do not."""

from collections.abc import Mapping, Sequence

from gradnas.report.comparison.rows import Row, rounded_accuracy
from gradnas.report.comparison.run_statistics import Difference, difference
from gradnas.report.records.plain_text import listed
from gradnas.report.records.quantities import percent
from gradnas.report.records.share_intervals import wilson_interval

_FEW = 5  # runs below which a spread is a rough guess
_NAMED = 5  # rows that a sentence lists


def conclusions(rows: Sequence[Row], n_test: Mapping[str, int]) -> tuple[str, ...]:
    """Sentences on the rows.

    Two things make an accuracy uncertain: the seed, and which images the test set happens to hold. A difference that
    the spread over runs does not explain is one on these test images; whether other images would show it is said apart.

    Args:
        rows: The rows, the most accurate first within each data set.
        n_test: Test images of each data set, where known.
    """
    sentences: list[str] = []
    datasets = list(dict.fromkeys(row.dataset for row in rows))
    for dataset in datasets:
        own = [row for row in rows if row.dataset == dataset and row.accuracy is not None]
        said = [*_best(own, n_test.get(dataset)), *_against_random(own), *_test_set(own, n_test.get(dataset))]
        sentences += [f"{dataset}: {sentence}" for sentence in said] if len(datasets) > 1 else said
    sentences += _how_many(rows)
    return tuple(sentences)


def _best(rows: Sequence[Row], n_test: int | None) -> list[str]:
    if not rows:
        return ["No run has a test accuracy yet: there is nothing to conclude."]
    if len(rows) == 1:
        return []
    highest = percent(rows[0].accuracy.mean) if rows[0].accuracy else ""
    leaders = [row for row in rows if rounded_accuracy(row) == rounded_accuracy(rows[0])]
    names = _names([row.label for row in leaders])
    shared = len(leaders) > 1
    lead = (
        f"{names} share the highest mean, {highest}." if shared else f"The highest mean is that of {names}, {highest}."
    )
    general, here, open_ones, unknown = _sorted_out(leaders, rows[len(leaders) :], n_test)
    lies = "They lie" if shared else "It lies"
    parts = []
    if general:
        parts.append(
            f"{lies} above {_names(general)} by more than the spread over runs and the choice of test images explain "
            "(95 %)."
        )
    if here:
        parts.append(
            f"{lies} above {_names(here)} by more than the spread over runs explains (95 %), but on these test images: "
            "others may show no difference."
        )
    if open_ones:
        parts.append(f"The difference to {_names(open_ones)} may be chance: its 95 % interval over runs includes zero.")
    if unknown:
        parts.append(f"Against {_names(unknown)} nothing can be said: the spread over runs is not known.")
    return [" ".join([lead, *parts])]


def _sorted_out(leaders: Sequence[Row], others: Sequence[Row], n_test: int | None) -> tuple[list[str], ...]:
    """Names of the rows that lie below all leaders: on other images as well, on these, perhaps, and nobody knows."""
    sorts: tuple[list[str], ...] = ([], [], [], [])
    for row in others:
        found = [
            difference(leader.accuracy, row.accuracy, n_test)
            for leader in leaders
            if leader.accuracy is not None and row.accuracy is not None
        ]
        sorts[max(map(_doubt, found))].append(row.label)
    return sorts


def _doubt(found: Difference) -> int:
    """0 for a difference that other test images would show, 1 for one on these, 2 for perhaps none, 3 for no idea."""
    if found.low is None:
        return 3
    return 0 if found.general else 1 if found.shown else 2


def _against_random(rows: Sequence[Row]) -> list[str]:
    if not any(row.kind == "baseline" for row in rows):
        return ["No run has a random baseline of equal budget, so these numbers cannot say what searching is worth."]
    judged = [(row, row.gain) for row in rows if row.gain is not None]
    sentences = []
    for word, sign in (("Better", 1), ("Worse", -1)):
        differ = [(row.label, gain) for row, gain in judged if gain.shown and gain.points * sign > 0]
        for where, general in (("", True), (" on these test images, perhaps not on others", False)):
            named = [name for name, gain in differ if gain.general is general]
            if named:
                sentences.append(f"{word} than random search at equal budget{where}: {_names(named)}.")
    rest = [row.label for row, gain in judged if not gain.shown]
    if rest:
        sentences.append(f"Not shown to differ from random search at equal budget: {_names(rest)}.")
    return sentences


def _test_set(rows: Sequence[Row], n_test: int | None) -> list[str]:
    if not rows or n_test is None:
        return []
    accuracy = rows[0].accuracy
    assert accuracy is not None
    low, high = wilson_interval(min(1.0, max(0.0, accuracy.mean / 100)), n_test)
    return [
        f"All accuracies are of the same {n_test:,} test images. That choice alone leaves {percent(accuracy.mean)} "
        f"uncertain between {percent(100 * low)} and {percent(100 * high)} (95 %), and more runs do not narrow it; the "
        "± of the table is the spread between runs, another thing. For a difference it is reckoned as if each row had "
        "images of its own, which claims too little rather than too much."
    ]


def _how_many(rows: Sequence[Row]) -> list[str]:
    tested = [row for row in rows if row.tested]
    single = [row.name for row in tested if len(row.tested) == 1]
    few = [row.name for row in tested if 1 < len(row.tested) < _FEW]
    sentences = []
    if single:
        sentences.append(f"Of one run only: {_names(single)}. Another seed may turn the order; run at least three.")
    if few:
        which = "all rows" if len(few) == len(tested) else _names(few)
        sentences.append(f"Fewer than {_FEW} runs, so the spread itself is a rough guess: {which}.")
    if len(tested) > 2:
        sentences.append("Intervals are for one pair of rows at a time; among many rows some stand out by chance.")
    return sentences


def _names(names: Sequence[str]) -> str:
    return listed(names, _NAMED)
