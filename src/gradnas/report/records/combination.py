"""A combination of the macro grid, and the names under which its parts stand in a run folder."""

import re
from dataclasses import dataclass

from gradnas.arch import ModelDescConf

GRID_FILE = "grid.json"
"""How far the search of a grid is: its combinations, the rows of those that are complete, the best of them."""

_PHASE = re.compile(r"search_r(?P<reductions>\d+)_c(?P<cells>\d+)_n(?P<nodes>\d+)(?:_(?P<part>train|\d+))?")


@dataclass(frozen=True)
class Combination:
    """How many cells halve the map, how many cells there are, and how many nodes each has."""

    reductions: int
    cells: int
    nodes: int

    @staticmethod
    def of(conf: ModelDescConf) -> "Combination":
        """That of a network."""
        return Combination(conf.n_reductions, conf.n_cells, conf.cell.n_nodes)

    @property
    def phase(self) -> str:
        """Name of its search in metrics and checkpoints; member i of a random search is ``<phase>_<i>``."""
        return f"search_r{self.reductions}_c{self.cells}_n{self.nodes}"

    @property
    def train_phase(self) -> str:
        """Name of the brief training of what its search has found."""
        return f"{self.phase}_train"

    @property
    def folder(self) -> str:
        """Where its files lie in the run folder."""
        return f"metrics/{self.reductions}/{self.cells}/{self.nodes}"

    @property
    def alphas(self) -> str:
        """The log of its search's architecture parameters in the run folder."""
        return f"{self.folder}/alphas.jsonl"

    def __str__(self) -> str:
        parts = ((self.reductions, "reduction"), (self.cells, "cell"), (self.nodes, "node"))
        return ", ".join(f"{count} {name}{'' if count == 1 else 's'}" for count, name in parts)


def combination_of_phase(phase: str) -> tuple[Combination, str] | None:
    """The combination of a phase, and what of it: "" for its search, ``train``, or the number of a random member.

    None for a phase that is none of a grid.
    """
    found = _PHASE.fullmatch(phase)
    if found is None:
        return None
    return Combination(int(found["reductions"]), int(found["cells"]), int(found["nodes"])), found["part"] or ""
