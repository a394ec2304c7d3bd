"""Tests of ``entropy.py``, and that all who say the bound of an entropy say the same."""

import json
import math
from pathlib import Path

import pytest

from gradnas.pipeline.diagnostics import in_words
from gradnas.report.live.look import entropy_words
from gradnas.report.records.entropy import most_entropy
from gradnas.report.records.run_folder import read_run_folder
from gradnas.report.run_page.search_story import search_story


def table(edges: int, candidates: int) -> list[list[float]]:
    return [[1 / candidates] * candidates] * edges


@pytest.mark.parametrize("cells", [[(5, 4)], [(3, 8), (1, 2)], [(2, 1)]])
def test_it_is_the_mean_entropy_of_equal_weights(cells: list[tuple[int, int]]) -> None:
    weights = [table(*size) for size in cells]
    entropies = [-sum(p * math.log(p) for p in row) for cell in weights for row in cell]
    assert most_entropy(weights) == pytest.approx(sum(entropies) / len(entropies), abs=1e-12)


def test_without_edges_there_is_none() -> None:
    assert most_entropy([]) is None
    assert most_entropy([[]]) is None


def test_page_watch_and_log_say_the_same_of_cells_with_other_candidates(tmp_path: Path) -> None:
    cells = {
        kind: {"edges": [[0, 0]] * edges, "ops": [f"op{i}" for i in range(n)], "weights": table(edges, n)}
        for kind, edges, n in (("regular", 3, 8), ("reduction", 1, 2))
    }
    most = (3 * math.log(8) + math.log(2)) / 4
    records = [{"epoch": i, "cells": cells, "entropy": most - 0.5 * i} for i in range(2)]
    (tmp_path / "alphas.jsonl").write_text("".join(f"{json.dumps(record)}\n" for record in records))
    run = read_run_folder(tmp_path)
    bound = f"of at most {most:.2f} nats"
    assert entropy_words(run.mixtures[0]) == f"{most:.2f} {bound}"
    (sentence,) = search_story(run)
    assert bound in sentence
    assert f"as if {math.exp(most - 0.5):.1f} of {math.exp(most):.3g} candidates were left" in sentence
    assert bound in in_words({**records[0], "gap": 0.1, "parameter_free": 0.5, "discretization_drop": None})
