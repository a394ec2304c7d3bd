"""What the numbers of a comparison show, in sentences, and what they do not."""

from collections.abc import Mapping, Sequence

from gradnas.report.comparison.rows import Row
from gradnas.report.comparison.run_statistics import difference
from gradnas.report.records.quantities import percent, wilson_interval

_FEW = 5  # runs below which a spread is a rough guess
_NAMED = 5  # rows that a sentence lists


def conclusions(rows: Sequence[Row], n_test: Mapping[str, int]) -> tuple[str, ...]:
    """Sentences on the rows.

    Args:
        rows: The rows, the most accurate first within each data set.
        n_test: Test images of each data set, where known.
    """
    sentences: list[str] = []
    datasets = list(dict.fromkeys(row.dataset for row in rows))
    for dataset in datasets:
        own = [row for row in rows if row.dataset == dataset and row.accuracy is not None]
        said = [*_best(own), *_against_random(own), *_test_set(own, n_test.get(dataset))]
        sentences += [f"{dataset}: {sentence}" for sentence in said] if len(datasets) > 1 else said
    sentences += _how_many(rows)
    return tuple(sentences)


def _best(rows: Sequence[Row]) -> list[str]:
    if not rows:
        return ["No run has a test accuracy yet: there is nothing to conclude."]
    if len(rows) == 1:
        return []
    best, others = rows[0], rows[1:]
    assert best.accuracy is not None
    shown: list[str] = []
    open_ones: list[str] = []
    unknown: list[str] = []
    for row in others:
        assert row.accuracy is not None
        found = difference(best.accuracy, row.accuracy)
        (unknown if found.low is None else shown if found.shown else open_ones).append(row.name)
    lead = f"The highest mean is that of {best.name}, {percent(best.accuracy.mean)}."
    parts = []
    if shown:
        parts.append(f"It lies above {_names(shown)} by more than the spread over runs explains (95 % interval).")
    if open_ones:
        parts.append(f"The difference to {_names(open_ones)} may be chance: its 95 % interval includes zero.")
    if unknown:
        parts.append(f"Against {_names(unknown)} nothing can be said: a single run has no spread.")
    return [" ".join([lead, *parts])]


def _against_random(rows: Sequence[Row]) -> list[str]:
    if not any(row.kind == "baseline" for row in rows):
        return ["No run has a random baseline of equal budget, so these numbers cannot say what searching is worth."]
    judged = [(row, row.gain) for row in rows if row.gain is not None]
    better = [row.name for row, gain in judged if gain.shown and gain.points > 0]
    worse = [row.name for row, gain in judged if gain.shown and gain.points < 0]
    rest = [row.name for row, gain in judged if not gain.shown]
    sentences = []
    if better:
        sentences.append(f"Better than random search at equal budget: {_names(better)}.")
    if worse:
        sentences.append(f"Worse than random search at equal budget: {_names(worse)}.")
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
        "± of the table is the spread between runs, another thing."
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
    shown = list(names[:_NAMED])
    if len(names) > _NAMED:
        shown.append(f"{len(names) - _NAMED} more")
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]}"
