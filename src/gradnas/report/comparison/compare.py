"""Several runs side by side: what may be compared is, what may not is refused."""

import os
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path

from gradnas.foundation.files import write_atomic
from gradnas.foundation.plain_text import one_line
from gradnas.report.comparison.compared_run import RUN_FILES, ComparedRun, State, read_compared_run
from gradnas.report.comparison.conclusions import conclusions
from gradnas.report.comparison.rows import Row, make_rows
from gradnas.report.comparison.rules import Role, differing, role_of, value_key, value_text
from gradnas.report.comparison.table import comparison_csv, comparison_table
from gradnas.report.records.plain_text import aligned, listed

FILE_NAME = "comparison.html"
_LISTED = 4  # settings, and runs or values of each, that a message names


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Runs side by side. ``str()`` is the table; a notebook shows it as one.

    Args:
        rows: Methods and random baselines, the most accurate first within each data set.
        datasets: Names of the data sets, one unless they were mixed.
        differences: What should have been equal and is not: empty unless unequal runs were mixed knowingly.
        notes: What one must know of the folders: unfinished runs, copies, versions, machines.
        conclusions: What the numbers show, and what they do not.
        page: Where the page was written; None where none was asked for.
    """

    rows: tuple[Row, ...]
    datasets: tuple[str, ...]
    differences: tuple[str, ...]
    notes: tuple[str, ...]
    conclusions: tuple[str, ...]
    page: Path | None = field(default=None, compare=False)

    def __str__(self) -> str:
        table = comparison_table(self.rows)
        return "\n".join(aligned([table.header, *table.rows], table.right))

    def _repr_html_(self) -> str:
        from gradnas.report.comparison.page import table_html

        return table_html(self)

    def to_csv(self) -> str:
        """The rows as CSV text with full precision: accuracies in percent, times in seconds."""
        return comparison_csv(self.rows)

    def to_html(self) -> str:
        """The page as text: one file that needs nothing else."""
        from gradnas.report.comparison.page import render_comparison

        return render_comparison(self)


def compare(
    folders: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
    *,
    out: str | os.PathLike[str] | None = None,
    mixed: bool = False,
) -> Comparison:
    """Compare finished and unfinished runs of one data set and one budget.

    Runs that differ in nothing but the seed are one row: mean and sample standard deviation of the test accuracy,
    parameters, multiply-adds, times, and the difference to random search where the runs have that baseline. Which
    settings are data set, budget and method is said once, in ``rules.py`` beside this file. The same folder given twice
    counts once. Files, and folders that hold nothing of a run, are skipped with a note, so that ``runs/*`` may be given
    as it is; when nothing else was given, that is an error. A folder that holds a part of a run is an error always.

    Args:
        folders: Run folders, at least one.
        out: Where to write the page, ending in ``.html``; None writes nothing.
        mixed: Compare runs of different data sets or budgets all the same; names and page then say what differs.

    Raises:
        FileNotFoundError: When a folder does not exist or holds a part of a run only.
        ValueError: When there is no run, when a configuration cannot be read, when runs differ in data set or budget
            and ``mixed`` is off, or when ``out`` has another ending.
        OSError: When the page cannot be written.
    """
    if out is not None:
        check_page_name(out)
    notes: list[str] = []
    runs = [read_compared_run(folder) for folder in _run_folders(folders, notes)]
    owners = _datasets(runs)
    differences = (*_dataset_differences(runs, owners), *_budget_differences(runs))
    if differences and not mixed:
        what = "data sets" if len(set(owners)) > 1 else "budgets"
        raise ValueError(
            f"these runs have different {what}: {' '.join(differences)} A difference between their accuracies would "
            "not be one between methods. Compare runs with the same settings, or mix them knowingly: --mixed true (in "
            "Python mixed=True)."
        )
    datasets = _dataset_names(runs, owners)
    n_test = {name: run.n_test for name, run in zip(datasets, runs, strict=True) if run.n_test}
    rows, counted = make_rows(runs, datasets, n_test)
    comparison = Comparison(
        rows=rows,
        datasets=tuple(dict.fromkeys(datasets)),
        differences=differences,
        notes=(*notes, *counted, *(note for run in runs for note in _state_notes(run)), *_origin_notes(runs)),
        conclusions=conclusions(rows, n_test),
        page=Path(out) if out is not None else None,
    )
    if out is not None:
        write_atomic(out, comparison.to_html())
    return comparison


def check_page_name(out: str | os.PathLike[str]) -> None:
    """Raise ValueError when a page may not be called so."""
    if Path(out).suffix.lower() not in (".html", ".htm"):
        raise ValueError(f"a comparison is written as .html, got {one_line(Path(out).name)!r}. Choose that ending.")


def default_page(folders: Iterable[str | os.PathLike[str]]) -> Path:
    """Where the page of these runs goes unless told: beside them if they lie in one folder, else here."""
    parents = {Path(os.path.abspath(folder)).parent for folder in folders}
    if len(parents) != 1:
        return Path(FILE_NAME)
    parent, here = parents.pop(), Path.cwd()
    return (parent.relative_to(here) if parent.is_relative_to(here) else parent) / FILE_NAME


def _run_folders(folders: str | os.PathLike[str] | Iterable[str | os.PathLike[str]], notes: list[str]) -> list[Path]:
    """The folders, each once, however it was written."""
    given = [Path(folders)] if isinstance(folders, (str, os.PathLike)) else [Path(folder) for folder in folders]
    kept: dict[Path, Path] = {}
    for path in given:
        if path.is_file():
            notes.append(f"{one_line(path)} is a file, no run folder: skipped.")
            continue
        if path.is_dir() and not any((path / name).is_file() for name in RUN_FILES):
            notes.append(f"{one_line(path)} is no run folder, it has no {' and no '.join(RUN_FILES)}: skipped.")
            continue
        first = kept.setdefault(path.resolve(), path)
        if first is not path:
            notes.append(f"{one_line(path)} is the folder {one_line(first)} again: counted once.")
    if not kept:
        raise ValueError(
            f"there is nothing to compare: {len(given)} {'path was' if len(given) == 1 else 'paths were'} given, none "
            f"of them a run folder. {' '.join([*notes[:_LISTED], ''])}Give folders that gradnas run, search or retrain "
            "wrote, e.g. runs/*."
        )
    return list(kept.values())


def _datasets(runs: Sequence[ComparedRun]) -> list[int]:
    """Number of the data set of each run: two are the same when nothing that is known of both differs."""
    known: list[dict[str, str]] = []
    owners: dict[int, int] = {}
    for index in sorted(range(len(runs)), key=lambda k: -len(runs[k].dataset)):  # who knows most speaks first
        facts = runs[index].dataset
        fits = [k for k, other in enumerate(known) if all(other.get(n, v) == v for n, v in facts.items())]
        owners[index] = fits[0] if fits else len(known)
        if fits:
            known[fits[0]] |= facts
        else:
            known.append(dict(facts))
    order = {owner: k for k, owner in enumerate(dict.fromkeys(owners[k] for k in range(len(runs))))}
    return [order[owners[k]] for k in range(len(runs))]


def _dataset_names(runs: Sequence[ComparedRun], owners: Sequence[int]) -> list[str]:
    """The name of the data set of each run, with what tells it from another one of that name."""
    facts: list[dict[str, str]] = [{} for _ in set(owners)]
    for run, owner in zip(runs, owners, strict=True):
        facts[owner] |= run.dataset
    plain = [known.get("data set", "a data set object") for known in facts]
    names = list(plain)
    for k, name in enumerate(plain):
        like = [facts[j] for j, other in enumerate(plain) if other == name]
        for telling in differing(like)[:1]:
            names[k] = f"{name}, {telling} {value_text(facts[k].get(telling, 'unknown'))}"
    unique = [name if names.count(name) == 1 else f"{name} [{k + 1}]" for k, name in enumerate(names)]
    return [unique[owner] for owner in owners]


def _dataset_differences(runs: Sequence[ComparedRun], owners: Sequence[int]) -> list[str]:
    if len(set(owners)) < 2:
        return []
    return _sentences([run.dataset for run in runs], runs)[:1]  # the other facts follow from it


def _budget_differences(runs: Sequence[ComparedRun]) -> list[str]:
    budgets = [
        {
            name: value
            for name, value in run.settings.items()
            if role_of(name) is Role.BUDGET and (run.retrained or not name.startswith("retrain."))
        }
        for run in runs
    ]
    return _sentences(budgets, runs)


def _sentences(all_facts: Sequence[Mapping[str, object]], runs: Sequence[ComparedRun]) -> list[str]:
    """``search.epochs is 6 in runs/a and runs/b; 50 in runs/c.`` for what differs."""
    names = differing(all_facts)
    sentences = []
    for name in names[:_LISTED]:
        folders: dict[str, list[str]] = {}
        texts: dict[str, str] = {}
        for facts, run in zip(all_facts, runs, strict=True):
            if name in facts:
                folders.setdefault(value_key(facts[name]), []).append(one_line(run.folder))
                texts[value_key(facts[name])] = value_text(facts[name])
        values = [f"{texts[key]} in {listed(where, _LISTED)}" for key, where in folders.items()]
        shown = values if len(values) <= _LISTED else [*values[:_LISTED], f"{len(values) - _LISTED} more"]
        sentences.append(f"{name.replace('.options.', '.')} is {'; '.join(shown)}.")
    if len(names) > _LISTED:
        sentences.append(f"{len(names) - _LISTED} more settings differ.")
    return sentences


def _state_notes(run: ComparedRun) -> list[str]:
    """How far a run is, and how to go on."""
    folder = one_line(run.folder)
    to_go_on = [run.to_go_on] if run.to_go_on is not None else []
    notes = list(run.problems)
    match run.result.state:
        case State.UNFINISHED:
            notes.append(" ".join([f"{folder} is not finished.", *to_go_on]))
        case State.SEARCH_ONLY:
            notes.append(
                f"{folder} was searched and not retrained: no accuracy; its parameters and MACs are those of the found "
                f"network at the size of the search. {_how_to_test(run)}"
            )
        case State.NO_TEST_SET:
            notes.append(f"{folder} was retrained on a data set without test images: no test accuracy.")
        case State.DAMAGED:
            told = [f"The results of {folder} are missing here: delete its summary.json to get them anew."]
            notes.append(" ".join([*told, *to_go_on]))
        case State.TESTED:
            if run.conf.baseline.samples > 0 and run.retrained and run.baseline is None:
                notes.append(" ".join([f"The random baseline of {folder} is not finished.", *to_go_on]))
    return notes


def _how_to_test(run: ComparedRun) -> str:
    """What retrains a run that was only searched."""
    if run.conf.data.source is None:
        return "Its data set was given in Python: test it with gradnas.retrain and that data set."
    return f"Test it with: gradnas retrain {one_line(shlex.quote(str(run.folder)))}"


def _origin_notes(runs: Sequence[ComparedRun]) -> list[str]:
    """Versions, machines and technical settings that are not the same everywhere."""
    notes = []
    versions = dict.fromkeys(run.version for run in runs)
    own = metadata.version("gradnas")
    if list(versions) != [own]:
        made = [f"{v}: {listed([one_line(run.folder) for run in runs if run.version == v], _LISTED)}" for v in versions]
        notes.append(f"Made by gradnas {'; '.join(made)}. This is gradnas {own}; results of versions may differ.")
    machines = dict.fromkeys(run.result.machine or "an unknown machine" for run in runs)
    if len(machines) > 1:
        notes.append(f"The runs are of different machines ({'; '.join(machines)}): their times cannot be compared.")
    technical = [{n: v for n, v in run.settings.items() if role_of(n) is Role.TECHNICAL} for run in runs]
    names = [name for name in differing(technical) if name != "data.root"]
    if names:
        notes.append(f"Not the same everywhere, though without a say in what is found: {', '.join(names)}.")
    sources = {run.conf.data.source for run in runs}
    if None in sources:
        notes.append("Data sets given as Python objects are told apart by type, size, classes and counts only.")
    return notes
