"""The search in plain words: how decided it was, what it chose, and what should make one suspicious."""

import math
import statistics

from gradnas.arch import CellDesc, CellType, ModelDesc
from gradnas.report.drawing.palette import family
from gradnas.report.records.combination import Combination
from gradnas.report.records.entropy import most_entropy
from gradnas.report.records.quantities import percent
from gradnas.report.records.random_members import random_members
from gradnas.report.records.run_folder import RunFolder
from gradnas.report.records.run_log import MixtureRecord
from gradnas.report.run_page.first_cells import first_cells

PARAMETER_FREE_WARNING = 0.75
"""Share of parameter-free ops above which the page warns."""


def search_story(run: RunFolder) -> tuple[str, ...]:
    """Sentences on the search; none where no random architectures, ``alphas.jsonl`` or ``arch.json`` tell of it."""
    epochs = tuple(record for record in run.mixtures if record.returned is None)
    sentences = _random_sentences(run)
    sentences += _entropy_sentences(epochs) + _settling_sentences(epochs) + _cost_sentences(run.mixtures)
    cell = run.found.first_cell(CellType.Regular) if run.found is not None else None
    if cell is not None:
        sentences += _cell_sentences(cell)
    elif run.mixtures and run.mixtures[-1].skips is not None:
        skips = run.mixtures[-1].skips
        sentences.append(f"The regular cell would hold {skips} skip connection{'' if skips == 1 else 's'}.")
    return tuple(sentences)


def warning(run: RunFolder) -> str | None:
    """What the search said against itself in the end; else a warning when most of the found cells learns nothing.

    Of a given architecture nothing: no search has failed there.
    """
    if run.arch is not None:
        return None
    if run.mixtures and run.mixtures[-1].diagnosis:
        return " ".join(run.mixtures[-1].diagnosis)
    share = run.mixtures[-1].parameter_free if run.mixtures else None
    if share is None and run.found is not None:
        share = parameter_free_share(run.found)
    if share is None or share <= PARAMETER_FREE_WARNING:
        return None
    return (
        f"{share:.0%} of the chosen operations have no weights (skips and pools). Such cells are the known failure of "
        "searching by gradient: skips win because they help the supergraph train, not because the network is better "
        "with them. Expect a weak network; stop the search earlier, or choose a strategy that guards against it."
    )


def parameter_free_share(desc: ModelDesc) -> float | None:
    """Share of the edges of the first cell of each type whose op has no weights; None when there are no edges."""
    ops = [edge.op_desc for cell in first_cells(desc) for node in cell.nodes() for edge in node.edges]
    return sum(family(op) in ("skip", "pool") for op in ops) / len(ops) if ops else None


def _random_sentences(run: RunFolder) -> list[str]:
    """What random architectures have reached, at the size that was found."""
    size = None if run.found is None or run.grid is None else Combination.of(run.found.conf_model_desc)
    for best, *others in random_members(run.metrics):
        if best.size != size or best.val_top1 is None:
            continue
        if not others:
            return [
                f"A random architecture was trained for {best.epochs} epochs; its validation accuracy is "
                f"{percent(best.val_top1)}. With one there is nothing to choose from."
            ]
        accuracies = sorted(member.val_top1 for member in (best, *others) if member.val_top1 is not None)
        return [
            f"{len(others) + 1} random architectures were trained for {best.epochs} epoch"
            f"{'' if best.epochs == 1 else 's'} each. Architecture {best.number} has the highest validation accuracy, "
            f"{percent(best.val_top1)}; the one in the middle has {percent(statistics.median_low(accuracies))}, the "
            f"lowest is {percent(accuracies[0])}."
        ]
    return []


def _entropy_sentences(mixtures: tuple[MixtureRecord, ...]) -> list[str]:
    known = [record for record in mixtures if record.entropy is not None]
    most = most_entropy(cell.weights for record in mixtures for cell in record.cells.values())
    if len(known) < 2 or not most:
        return []
    first, last = known[0].entropy, known[-1].entropy
    assert first is not None and last is not None
    change = first - last
    verb = "fell" if change > 0.005 else "rose" if change < -0.005 else "stayed"
    course = f"{verb} from {first:.2f} to {last:.2f}" if verb != "stayed" else f"stayed at {last:.2f}"
    effective, n_ops = math.exp(last), math.exp(most)
    judgment = (
        "the edges are nearly decided"
        if effective < 1.5
        else "the edges lean to a few candidates"
        if effective < 0.6 * n_ops
        else "the edges are far from decided, so what the finalizer dropped still mattered to the supergraph"
    )
    return [
        f"In {len(mixtures)} epochs the mean entropy of the mixing weights {course} of at most {most:.2f} "
        f"nats; after epoch {known[-1].epoch} it is as if {effective:.1f} of {n_ops:.3g} candidates were left on an "
        f"edge: {judgment}."
    ]


def _cost_sentences(mixtures: tuple[MixtureRecord, ...]) -> list[str]:
    """What is said of the architecture of the search; after an early stop it is of an epoch before the last."""
    last = mixtures[-1] if mixtures else None
    if last is None:
        return []
    sentences = []
    if last.returned is not None:
        sentences.append(
            f"The search was stopped after epoch {last.epoch}; the architecture is that of epoch {last.returned}."
        )
    epoch = last.epoch if last.returned is None else last.returned
    if last.gap is not None:
        sentences.append(
            f"After epoch {epoch} the first candidate of an edge leads the second by {last.gap:.1%} of its weights on "
            "average."
        )
    if last.drop is not None:
        loss = f"{last.drop:.1f} points of validation accuracy" if last.drop > 0 else "no validation accuracy"
        sentences.append(
            f"With only the found cells computing, and the weights as they are after epoch {epoch}, the supergraph "
            f"loses {loss}."
        )
    return sentences


def _settling_sentences(mixtures: tuple[MixtureRecord, ...]) -> list[str]:
    known = [record for record in mixtures[1:] if record.changed_edges is not None]
    if not known:
        return []
    changed = [record.epoch for record in known if record.changed_edges]
    if not changed:
        return ["The would-be cells never changed after the first epoch."]
    quiet = mixtures[-1].epoch - changed[-1]
    if quiet == 0:
        return [f"The would-be cells still changed in the last epoch, {changed[-1]}: the search had not settled."]
    epochs = "1 epoch" if quiet == 1 else f"{quiet} epochs"
    return [f"The would-be cells last changed in epoch {changed[-1]}, {epochs} before the last, {mixtures[-1].epoch}."]


def _cell_sentences(cell: CellDesc) -> list[str]:
    skipping = [k for k, node in enumerate(cell.nodes()) if any(family(e.op_desc) == "skip" for e in node.edges)]
    n_nodes = len(cell.nodes())
    depth = [0, 0]
    for k, node in enumerate(cell.nodes()):
        depth.append(1 + max((depth[state] for edge in node.edges for state in edge.input_ids), default=depth[k + 1]))
    listed = ", ".join(f"n{k}" for k in skipping)
    skips = (
        f"{len(skipping)} of {n_nodes} nodes of the regular cell read a skip connection ({listed})"
        if skipping
        else "No node of the regular cell reads a skip connection"
    )
    shape = (
        "all nodes read the cell's inputs only" if max(depth) == 1 else f"the longest path passes {max(depth)} nodes"
    )
    return [f"{skips}; {shape}."]
