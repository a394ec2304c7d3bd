"""A run folder as data. Every file may be missing; a damaged one is named and treated as missing."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from gradnas.arch import ModelDesc
from gradnas.foundation.checksums import CHECKSUM, is_sealed, unseal, unseal_text
from gradnas.foundation.files import read_text
from gradnas.foundation.strict_json import MAX_CHARACTERS, check_plain
from gradnas.report.records.combination import Combination, combination_of_phase
from gradnas.report.records.grid import Grid, read_grid
from gradnas.report.records.plain_values import member, number, words
from gradnas.report.records.restoring import how_to_restore
from gradnas.report.records.run_log import EpochRecord, MixtureRecord, read_metrics, read_mixtures

FILES = (
    "config.yaml",
    "environment.json",
    "metrics.jsonl",
    "alphas.jsonl",
    "arch.json",
    "full_arch.json",
    "baseline/arch.json",
    "summary.json",
)
"""What a run leaves and the report reads; one of them makes a folder a run folder."""

LOCK = "run.lock"
"""There while a process works in the folder, before anything else is."""


@dataclass(frozen=True, kw_only=True)
class RunFolder:
    """What a run left.

    Args:
        name: Name of the folder.
        path: The folder as it was given.
        config: Text of ``config.yaml``.
        settings: Its values; empty for a text that is no YAML mapping, or does not say how much is to be run.
        environment: ``environment.json``, values as text.
        metrics: ``metrics.jsonl``.
        mixtures: ``alphas.jsonl``.
        found: ``arch.json``, the architecture the search found.
        full: ``full_arch.json``, the network that was retrained.
        baseline: ``baseline/arch.json``, the random architecture of equal budget.
        summary: ``summary.json``, not checked.
        unreadable: Names of the JSON files that are there and damaged, which is not as if they were missing.
        problems: Sentences about what could not be read.
        grid: ``grid.json``; None for a run at one size. Its ``mixtures`` are those of the size that was found, while it
            goes on of the size that it is at.
    """

    name: str
    path: Path
    config: str | None
    settings: Mapping[str, object]
    environment: Mapping[str, str]
    metrics: tuple[EpochRecord, ...]
    mixtures: tuple[MixtureRecord, ...]
    found: ModelDesc | None
    full: ModelDesc | None
    baseline: ModelDesc | None
    summary: Mapping[str, object]
    unreadable: tuple[str, ...]
    problems: tuple[str, ...]
    grid: Grid | None = None

    @property
    def model(self) -> str | None:
        """Name of the model that was trained as it is; None for a run that searches."""
        return words(member(member(self.settings, "model"), "name"))

    @property
    def arch(self) -> str | None:
        """The architecture that was given to be retrained, by its name or as "a genotype"; None for one searched."""
        given = words(member(self.settings, "arch"))
        return "a genotype" if given is not None and "(" in given else given


def read_run_folder(folder: Path) -> RunFolder:
    """Read everything that is there.

    Raises:
        FileNotFoundError: When there is no such folder, or nothing in it that a run writes.
        OSError: When a file is there and may not be read.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"no run folder at {folder}. Give the folder that a search or a retraining wrote.")
    if not any((folder / name).is_file() for name in FILES):
        raise FileNotFoundError(
            f"{folder} is not a run folder: it has none of {', '.join(FILES)}. Give the folder that a search or a "
            "retraining wrote."
        )
    problems: list[str] = []
    config = _text(folder / "config.yaml")
    environment, is_ours = _json_object(folder / "environment.json", problems)
    if is_ours and config is not None and not is_sealed(config):
        problems.append(
            "config.yaml has no checksum: it was changed by hand, or cut short. Settings that it lacks are not shown."
        )
    metrics = read_metrics(folder / "metrics.jsonl", problems)
    found = _description(folder, "arch.json", problems)
    mixtures = read_mixtures(folder / _alphas(found, metrics), problems)
    summary, _ = _json_object(folder / "summary.json", problems)
    for name in ("metrics.jsonl", "alphas.jsonl"):
        _count_lines(folder / name, number(member(member(summary, "log_lines"), name)), problems)
    full = _description(folder, "full_arch.json", problems)
    baseline = _description(folder, "baseline/arch.json", problems)
    grid = read_grid(folder, problems)
    return RunFolder(
        name=folder.resolve().name,
        path=folder,
        config=config,
        settings=_settings(config, problems),
        environment={
            key: value if isinstance(value, str) else json.dumps(value)
            for key, value in environment.items()
            if value is not None
        },
        metrics=metrics,
        mixtures=mixtures,
        found=found,
        full=full,
        baseline=baseline,
        summary=summary,
        unreadable=tuple(
            name
            for name in FILES
            if name.endswith(".json") and any(problem.startswith(f"{name} ") for problem in problems)
        ),
        problems=tuple(problems),
        grid=grid,
    )


def _alphas(found: ModelDesc | None, metrics: tuple[EpochRecord, ...]) -> str:
    """The log of architecture parameters that is shown, by its name in the folder."""
    of_grid = [part[0] for record in metrics if (part := combination_of_phase(record.phase)) is not None]
    if not of_grid:
        return "alphas.jsonl"
    combination = of_grid[-1] if found is None else Combination.of(found.conf_model_desc)
    return combination.alphas


def _text(path: Path) -> str | None:
    return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else None


def _settings(config: str | None, problems: list[str]) -> dict[str, object]:
    from gradnas.config.yaml_dialect import load_yaml

    if config is None:
        return {}
    try:
        values = load_yaml(unseal_text(config))
        damage = _damage(values)
    except ValueError as error:
        values, damage = {}, str(error)
    if damage is None:
        return dict(values)
    problems.append(f"config.yaml cannot be read: {damage.removesuffix('.')}. What the run was asked for is not known.")
    return {}


def _damage(values: object) -> str | None:
    """Why these are no settings of a run; None when they are. Only what says how much is to be run is looked at."""
    if not isinstance(values, Mapping) or not values:
        return "it holds no settings"
    for part, amount in (("search", "epochs"), ("retrain", "epochs"), ("baseline", "samples")):
        settings = values.get(part, {})
        if not isinstance(settings, Mapping) or number(settings.get(amount, 0)) is None:
            return f"{part}.{amount} is no number"
    return None


def _json_object(path: Path, problems: list[str]) -> tuple[dict[str, object], bool]:
    """The members of a file, and whether it has a checksum, which fits."""
    if not path.is_file():
        return {}, False
    damage = "is not a JSON object"
    try:
        value = json.loads(read_text(path, 4 * MAX_CHARACTERS))
        check_plain(value)
        if isinstance(value, dict):
            damage = "was changed or damaged since it was written, its checksum does not fit"
            return unseal(value), CHECKSUM in value
    except (ValueError, RecursionError):
        pass
    problems.append(f"{path.name} {damage}; what it should say is missing here.{_REMADE.get(path.name, '')}")
    return {}, False


_MEANT = f"If the change is meant, delete the field {CHECKSUM!r}."  # no advice for what is made again
_REMADE = {"summary.json": " To have it made again, delete it and continue the run with gradnas resume."}


def _count_lines(path: Path, wanted: float | None, problems: list[str]) -> None:
    """Name the lines that a log has lost since the summary was written."""
    found = sum(1 for line in path.read_bytes().split(b"\n") if line.strip()) if path.is_file() else 0
    if wanted is not None and found < wanted:
        problems.append(
            f"{path.name} lacks {wanted - found:g} of the {wanted:g} lines that it had when the summary was written."
        )


def _description(folder: Path, name: str, problems: list[str]) -> ModelDesc | None:
    path = folder / name
    if not path.is_file():
        return None
    try:
        return ModelDesc.from_json(read_text(path, 4 * MAX_CHARACTERS))
    except ValueError as error:
        restore = how_to_restore(folder, name)
        cause = str(error) if restore is None else f"{str(error).removesuffix(_MEANT).rstrip(' .')}. {restore}"
        problems.append(f"{name} cannot be drawn: {cause}")
        return None
