"""Tests of ``gradnas draw``."""

from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from gradnas.arch import PUBLISHED, ModelDesc
from gradnas.config import RunConf
from gradnas.pipeline import RunFolder
from gradnas.spaces import DartsSpace

GENOTYPE = "Genotype(normal=[('sep_conv_5x5', 0), ('skip_connect', 1)], normal_concat=[2], reduce=[], reduce_concat=[])"


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run that has found an architecture and retrained it."""
    folder = RunFolder.create(tmp_path / "run", RunConf())
    space = DartsSpace(channels=4, cells=3, reductions=1)
    space.from_genotype(PUBLISHED["DARTS_V2"]).save(folder / "arch.json")
    space.from_genotype(PUBLISHED["DARTS_V2"], channels=8, cells=6).save(folder / "full_arch.json")
    return folder.path


def cells(path: Path) -> int:
    return sum(group.get("class") == "cell" for group in ElementTree.parse(path).iter("{http://www.w3.org/2000/svg}g"))


def test_a_run_is_drawn_into_its_folder_at_its_final_size(run: Path, gradnas: Any) -> None:
    outcome = gradnas("draw", run)
    assert (outcome.code, outcome.out) == (0, f"drawing: {run / 'arch.svg'}\n")
    assert cells(run / "arch.svg") == 6
    (run / "full_arch.json").unlink()
    assert gradnas("draw", run).code == 0
    assert cells(run / "arch.svg") == 3


def test_a_description_is_drawn_beside_it(run: Path, gradnas: Any) -> None:
    assert gradnas("draw", run / "arch.json").out == f"drawing: {run / 'arch.svg'}\n"
    assert cells(run / "arch.svg") == 3


@pytest.mark.parametrize(
    ("ending", "start"), [("png", b"\x89PNG"), ("mmd", b"flowchart LR\n"), ("dot", b"digraph "), ("SVG", b"<svg ")]
)
def test_the_ending_decides_what_is_written(run: Path, gradnas: Any, ending: str, start: bytes) -> None:
    outcome = gradnas("draw", run, "--out", f"it.{ending}")
    assert (outcome.code, outcome.out) == (0, f"drawing: it.{ending}\n")
    assert Path(f"it.{ending}").read_bytes().startswith(start)


def test_another_ending_is_refused_with_the_four(run: Path, gradnas: Any) -> None:
    outcome = gradnas("draw", run, "--out", "it.gif")
    assert outcome.code == 1
    assert "a drawing is written as .svg, .png, .mmd or .dot, got 'it.gif'" in outcome.err
    assert not Path("it.gif").exists()


def test_a_published_architecture_is_drawn_by_name(gradnas: Any) -> None:
    outcome = gradnas("draw", "DARTS_V2")
    assert (outcome.code, outcome.out) == (0, "drawing: DARTS_V2.svg\n")
    expected = DartsSpace().from_genotype(PUBLISHED["DARTS_V2"], channels=36, cells=20).draw("expected.svg")
    assert Path("DARTS_V2.svg").read_bytes() == expected.read_bytes()


def test_a_folder_wins_over_a_published_name(run: Path, gradnas: Any) -> None:
    run.rename("DARTS_V2")
    assert gradnas("draw", "DARTS_V2").out == f"drawing: {Path('DARTS_V2') / 'arch.svg'}\n"


def test_a_genotype_is_drawn(gradnas: Any) -> None:
    outcome = gradnas("draw", GENOTYPE)
    assert (outcome.code, outcome.out) == (0, "drawing: genotype.svg\n")
    text = Path("genotype.svg").read_text(encoding="utf-8")
    assert 'data-op="sep_conv_5x5"' in text
    assert "reduction" not in text
    broken = gradnas("draw", "Genotype(normal=[('sep_conv_5x5', 0)])")
    assert broken.code == 1
    assert broken.err.startswith("gradnas: error: ")


@pytest.mark.parametrize(("what", "has"), [("cells", (True, False)), ("network", (False, True)), ("all", (True, True))])
def test_a_part_can_be_drawn(run: Path, gradnas: Any, what: str, has: tuple[bool, bool]) -> None:
    assert gradnas("draw", run, "--what", what, "--out", "it.svg").code == 0
    text = Path("it.svg").read_text(encoding="utf-8")
    assert ('class="edge"' in text, 'class="cell"' in text) == has


def test_another_part_is_refused(run: Path, gradnas: Any) -> None:
    outcome = gradnas("draw", run, "--what", "cell")
    assert outcome.code == 1
    assert "what to draw is one of all, cells, network, got 'cell'" in outcome.err


def test_nothing_of_the_name_is_explained(gradnas: Any) -> None:
    near = gradnas("draw", "DART_V2")
    assert near.code == 1
    assert "no run folder, file or published architecture 'DART_V2'. Did you mean 'DARTS_V2'?" in near.err
    assert "Did you mean 'DARTS_V2'?" in gradnas("draw", "darts_v2").err
    far = gradnas("draw", "runs/nowhere")
    assert far.code == 1
    assert all(name in far.err for name in PUBLISHED)


def test_a_run_that_has_found_nothing_yet_says_so(run: Path, gradnas: Any) -> None:
    (run / "arch.json").unlink()
    outcome = gradnas("draw", run)
    assert outcome.code == 1
    assert f"the search in {run} is not finished. Continue it with `gradnas resume {run}`" in outcome.err


def test_a_file_that_is_no_description_is_named(run: Path, gradnas: Any) -> None:
    outcome = gradnas("draw", run / "config.yaml")
    assert outcome.code == 1
    assert "config.yaml: not a model description" in outcome.err


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path, gradnas: Any) -> None:
    (tmp_path / "photos").mkdir()
    outcome = gradnas("draw", tmp_path / "photos")
    assert outcome.code == 1
    assert "is not a run folder" in outcome.err


def test_drawing_changes_nothing_else(run: Path, gradnas: Any) -> None:
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    gradnas("draw", run)
    assert {path: path.read_bytes() for path in run.rglob("*") if path.name != "arch.svg" and path.is_file()} == before
    assert ModelDesc.load(run / "arch.json").hash()
