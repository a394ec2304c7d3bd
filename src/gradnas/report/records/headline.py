"""The numbers at the top of the report and the sentences that keep them honest."""

from collections.abc import Mapping
from dataclasses import dataclass

from gradnas.report.records.plain_values import member, number, numbers, words
from gradnas.report.records.quantities import millions, milliseconds, percent, time_text
from gradnas.report.records.random_members import random_members
from gradnas.report.records.run_folder import RunFolder
from gradnas.report.records.run_status import cut_short, unfinished
from gradnas.report.records.share_intervals import difference_interval, wilson_interval


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One number of the report: what it is, the value with its unit, and what one must know to read it."""

    name: str
    value: str
    note: str = ""


def headline(run: RunFolder) -> tuple[Figure, ...]:
    """The figures for which the summary has a value."""
    summary = run.summary
    figures = []
    accuracy, baseline = number(summary.get("test_accuracy")), number(summary.get("random_baseline_accuracy"))
    if accuracy is not None:
        interval = _interval(summary)
        note = f"95 % interval {interval[0]:.2f}–{interval[1]:.2f}" if interval else ""
        n_test = number(summary.get("n_test"))
        note += f"{'; ' if note else ''}{n_test:,.0f} test images" if n_test is not None else ""
        figures.append(Figure(name="Test accuracy", value=percent(accuracy), note=note))
    top5 = number(summary.get("test_top5_accuracy"))
    if top5 is not None:
        figures.append(
            Figure(name="Top-5 accuracy", value=percent(top5), note="the true class among the five likeliest")
        )
    error = number(summary.get("test_calibration_error"))
    if error is not None:
        note = "points between the confidence of the network and its accuracy"
        figures.append(Figure(name="Calibration error", value=f"{error:.2f}", note=note))
    if baseline is not None:
        note = "a random architecture, same budget"
        if accuracy is not None:
            side = "below" if accuracy < baseline else "above"
            note += f"; the found network is {abs(accuracy - baseline):.2f} points {side} random"
        figures.append(Figure(name="Random baseline", value=percent(baseline), note=note))
    params, macs = number(summary.get("params")), number(summary.get("macs"))
    if params is not None:
        figures.append(Figure(name="Parameters", value=millions(params)))
    if macs is not None:
        note = "1 MAC = 2 FLOPs; convolutions and linear layers of one image"
        figures.append(Figure(name="MACs", value=millions(macs), note=note))
    speeds = (_latency(summary.get("latency")), _throughput(summary.get("throughput")))
    figures += [speed for speed in speeds if speed is not None]
    trained = "Retraining" if run.model is None else "Training"
    for key, name in (("search_seconds", "Search"), ("retrain_seconds", trained)):
        time_s = number(summary.get(key))
        if time_s is not None:
            figures.append(Figure(name=name, value=time_text(time_s), note=_hardware(run)))
    return tuple(figures)


def honest_sentences(run: RunFolder) -> tuple[str, ...]:
    """What the headline does not say by itself: how sure the difference is, or that nothing was retrained."""
    cut = None if unfinished(run) else cut_short(run)  # an unfinished run says so elsewhere
    return (*_sureness(run), *((cut,) if cut is not None else ()))


def _sureness(run: RunFolder) -> tuple[str, ...]:
    summary = run.summary
    accuracy, baseline = number(summary.get("test_accuracy")), number(summary.get("random_baseline_accuracy"))
    training = "retrain" if run.model is None else "train"
    if accuracy is None:
        if number(summary.get("retrain_seconds")) is not None:
            return (f"The network was {training}ed and not tested, as its data set has no test images.",)
        if any(record.phase == "retrain" for record in run.metrics):
            return (f"The {training}ing has not finished: there is no test accuracy yet.",)
        if run.found is None and not run.mixtures:
            return ("This run has no result yet.",)
        if run.arch is not None:
            return ("The given architecture has not been retrained yet, so there is no test accuracy.",)
        if run.found is None:
            told = "No architecture has been found yet, and there is no test accuracy."
            return (f"{told} {_of_search(run)} how good a network will be.",)
        told = "The found architecture has not been retrained yet, so there is no test accuracy."
        return (f"{told} {_of_search(run)} how good the found network will be.",)
    seed = summary.get("seed")
    sentences = [
        f"One run{f', seed {seed}' if seed is not None else ''}: the interval covers the choice of test images, not "
        "the spread between seeds."
    ]
    if run.model is not None or run.arch is not None:
        return tuple(sentences)
    if baseline is None:
        sentences.append(
            "No random baseline of equal budget was trained, so it is not known what the search itself is worth."
        )
    else:
        sentences.append(_worth(accuracy, baseline, _tested(summary)))
    return tuple(sentences)


def _of_search(run: RunFolder) -> str:
    """What accuracies of a search are; what they do not tell follows."""
    if run.grid is not None and run.grid.rows:
        return (
            "Accuracies of the sizes are those of brief trainings, on validation images by which one size was chosen; "
            "they do not tell"
        )
    if random_members(run.metrics):
        return "Accuracies during the search are those of short trainings on few images; they do not tell"
    return (
        "Accuracies during the search are those of the supergraph, whose candidates share its weights; they do not tell"
    )


def _worth(accuracy: float, baseline: float, n_test: int | None) -> str:
    """What the test accuracies of the found and of the random network, in percent, say of the search."""
    if n_test is None or not (0 <= accuracy <= 100 and 0 <= baseline <= 100):
        return "Without the number of test images nobody can say whether the random baseline differs by more than luck."
    points = accuracy - baseline
    low, high = (100 * end for end in difference_interval(accuracy / 100, baseline / 100, n_test, n_test))
    interval = f"95 % interval of the difference {percent(low, signed=True)} to {percent(high, signed=True)} points"
    if low > 0:
        return (
            f"The found network is {points:.2f} points better than the random baseline, more than the choice of test "
            f"images explains ({interval})."
        )
    if high < 0:
        return (
            f"The found network is {-points:.2f} points worse than the random baseline, more than the choice of test "
            f"images explains ({interval}): this search did not pay."
        )
    return (
        f"The found network is not shown to differ from the random baseline: the choice of test images alone may "
        f"explain {percent(points, signed=True)} points ({interval})."
    )


def _tested(summary: Mapping[str, object]) -> int | None:
    """How many images the networks were tested on; None where that is not known."""
    n_test = number(summary.get("n_test"))
    return int(n_test) if n_test is not None and n_test >= 1 else None


def _interval(summary: Mapping[str, object]) -> tuple[float, float] | None:
    """The stored interval, else Wilson's from the number of test images, in percent."""
    stored = numbers(summary.get("test_accuracy_ci95"))
    if stored is not None and len(stored) == 2:
        return stored[0], stored[1]
    accuracy, n_test = number(summary.get("test_accuracy")), _tested(summary)
    if accuracy is None or n_test is None or not 0 <= accuracy <= 100:
        return None
    low, high = wilson_interval(accuracy / 100, n_test)
    return 100 * low, 100 * high


def _latency(stored: object) -> Figure | None:
    """The measured time of a pass with what one must know of the measurement; None where it is not stored."""
    median, batch = number(member(stored, "median_ms")), number(member(stored, "batch"))
    if median is None:
        return None
    low, high, runs = (number(member(stored, name)) for name in ("low_ms", "high_ms", "runs"))
    notes = ["one image" if batch == 1 else f"{batch:g} images" if batch is not None else ""]
    notes += [f"median of {runs:g} passes" if runs is not None else ""]
    notes += [
        f"half of them between {milliseconds(low)} and {milliseconds(high)}"
        if low is not None and high is not None
        else ""
    ]
    notes += [_where(stored)]
    return Figure(name="Latency", value=milliseconds(median), note="; ".join(note for note in notes if note))


def _throughput(stored: object) -> Figure | None:
    """The images that go through in a second, likewise."""
    images, batch = number(member(stored, "images_per_second")), number(member(stored, "batch"))
    if images is None:
        return None
    notes = ["" if batch is None else "one at a time" if batch == 1 else f"in batches of {batch:g}", _where(stored)]
    value = f"{images:,.0f} images/s" if images >= 100 else f"{images:.3g} images/s"
    return Figure(name="Throughput", value=value, note="; ".join(note for note in notes if note))


def _where(stored: object) -> str:
    """The device of a measurement, and on a CPU how many threads it has used."""
    device, threads = words(member(stored, "device")), number(member(stored, "threads"))
    count = "" if threads is None or device != "cpu" else f", {threads:g} thread{'' if threads == 1 else 's'}"
    return f"{device}{count}" if device else ""


def _hardware(run: RunFolder) -> str:
    names = ("gpu", "processor")
    return next((run.environment[name] for name in names if run.environment.get(name)), "")
