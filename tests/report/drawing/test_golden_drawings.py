"""The drawings of ``tests/golden/drawings``: what they show and how their parts join, not where each pixel is.

A drawing that is a little larger or has moved passes; one with a lost edge, another label, a color of another family,
a wire that ends elsewhere or boxes over each other fails. The tests at the end break drawings to see that.
"""

import importlib.util
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

import pytest

from gradnas.report import draw
from gradnas.report.drawing.palette import COLORS
from gradnas.report.drawing.scene import text_width

FOLDER = Path(__file__).parents[2] / "golden" / "drawings"
SVG = "{http://www.w3.org/2000/svg}"
NEAR = 4.0  # pixels between the end of a wire and what it joins


def _samples() -> ModuleType:
    spec = importlib.util.spec_from_file_location("gradnas_drawings", FOLDER / "regenerate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


SAMPLES: dict[str, Callable[..., object]] = dict(_samples().SAMPLES)


def golden(name: str) -> str:
    return (FOLDER / f"{name}.svg").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", SAMPLES)
def test_drawing_shows_what_it_showed(name: str, tmp_path: Path) -> None:
    drawn = draw(SAMPLES[name](), tmp_path / "now.svg").read_text(encoding="utf-8")  # type: ignore[arg-type]
    assert structure(drawn) == structure(golden(name))


@pytest.mark.parametrize("name", SAMPLES)
def test_parts_of_a_drawing_join(name: str, tmp_path: Path) -> None:
    check(golden(name))
    check(draw(SAMPLES[name](), tmp_path / "now.svg").read_text(encoding="utf-8"))  # type: ignore[arg-type]


def test_every_golden_drawing_has_a_sample() -> None:
    assert {path.stem for path in FOLDER.glob("*.svg")} == set(SAMPLES)


# ---------------------------------------------------------------------------------------------------------- structure


def structure(svg: str) -> object:
    """Elements with classes, data, texts and dashes; no coordinate, no color, children in any order."""
    return _structure(ElementTree.fromstring(svg))


def _structure(element: Element) -> tuple[object, ...]:
    kept = {
        key: value
        for key, value in element.attrib.items()
        if key.startswith("data-")
        or key in ("class", "role", "aria-label", "stroke-dasharray", "text-anchor", "font-weight")
    }
    text = (element.text or "").strip() if not element.tag.endswith("style") else ""
    return (element.tag, tuple(sorted(kept.items())), text, tuple(sorted(map(_structure, element), key=repr)))


# ----------------------------------------------------------------------------------------------------------- geometry


@dataclass(frozen=True)
class Rect:
    left: float
    top: float
    right: float
    bottom: float

    @staticmethod
    def of(element: Element) -> "Rect":
        x, y, width, height = (float(element.get(name, "nan")) for name in ("x", "y", "width", "height"))
        return Rect(x, y, x + width, y + height)

    @property
    def middle(self) -> float:
        return (self.top + self.bottom) / 2

    def holds(self, other: "Rect", slack: float = 0.5) -> bool:
        across = self.left - slack <= other.left and other.right <= self.right + slack
        return across and self.top - slack <= other.top and other.bottom <= self.bottom + slack

    def meets(self, other: "Rect") -> bool:
        apart = self.right <= other.left or other.right <= self.left
        return not (apart or self.bottom <= other.top or other.bottom <= self.top)


def check(svg: str) -> None:
    """AssertionError unless wires join what they say, nothing overlaps, and texts stand in their boxes."""
    root = ElementTree.fromstring(svg)
    paper = Rect(0, 0, float(root.get("width", "nan")), float(root.get("height", "nan")))
    for element in root.iter():
        _check_color(element)
        if element.tag == f"{SVG}rect":
            assert paper.holds(Rect.of(element)), element.attrib
        if element.tag == f"{SVG}text":
            assert paper.holds(_text_rect(element)), element.text
    groups = list(root.iter(f"{SVG}g"))
    boxes = [Rect.of(rect) for group in groups for rect in group.iter(f"{SVG}rect")]
    for i, box in enumerate(boxes):
        assert not any(box.meets(other) for other in boxes[:i]), box
    for group in groups:
        for rect in group.iter(f"{SVG}rect"):
            for text in group.iter(f"{SVG}text"):
                assert Rect.of(rect).holds(_text_rect(text), slack=1.0), text.text
    cells = list(_cells(groups))
    assert cells
    for cell in cells:
        _check_cell(cell)
    column = [Rect.of(rect) for g in groups if g.get("class") in ("part", "cell") for rect in g.iter(f"{SVG}rect")]
    assert all(above.bottom < below.top for above, below in pairwise(column))


def _cells(groups: list[Element]) -> Iterator[list[Element]]:
    """The groups of each cell; a merge is its last."""
    cell: list[Element] = []
    for group in groups:
        if group.get("class") in ("edge", "merged", "input", "node", "merge"):
            cell.append(group)
        if group.get("class") == "merge":
            yield cell
            cell = []
    assert not cell


def _check_cell(groups: list[Element]) -> None:
    states = {g.get("data-state", ""): _only_rect(g) for g in groups if g.get("class") in ("input", "node")}
    merge = _only_rect(groups[-1])
    for group in groups:
        if group.get("class") not in ("edge", "merged"):
            continue
        names = group.get("data-inputs", "").split(", ")
        lines = [_ends(p) for p in group.iter(f"{SVG}path") if p.get("fill") == "none"]
        target = _only_rect(group) if group.get("class") == "edge" else merge
        assert len(lines) == len(names) + (group.get("class") == "edge")
        for name, (start, end) in zip(names, lines, strict=False):
            source = states[name]
            assert abs(start[0] - source.right) < NEAR, name
            assert abs(start[1] - source.middle) < NEAR, name
            assert abs(end[0] - target.left) < NEAR, name
            assert target.top < end[1] < target.bottom, name
        if group.get("class") == "edge":
            start, end = lines[-1]
            node = states[group.get("data-node", "")]
            assert abs(start[0] - target.right) < NEAR
            assert abs(end[0] - node.left) < NEAR
            assert node.top < end[1] < node.bottom


def _only_rect(group: Element) -> Rect:
    (rect,) = group.iter(f"{SVG}rect")
    return Rect.of(rect)


def _ends(path: Element) -> tuple[tuple[float, float], tuple[float, float]]:
    numbers = [float(text) for text in re.findall(r"-?\d+(?:\.\d+)?", path.get("d", ""))]
    return (numbers[0], numbers[1]), (numbers[-2], numbers[-1])


def _text_rect(text: Element) -> Rect:
    x, y, size = (float(text.get(name, "nan")) for name in ("x", "y", "font-size"))
    wide = text_width(text.text or "", size) * 0.95  # text_width is a bound from above
    left = x - {None: 0.0, "middle": wide / 2, "end": wide}[text.get("text-anchor")]
    return Rect(left, y - size / 2, left + wide, y + size / 2)


def _check_color(element: Element) -> None:
    for name in (element.get("class") or "").split():
        kind, _, role = name.partition("-")
        if kind in ("fill", "stroke"):
            assert element.get(kind) == COLORS[role][0], name


# ------------------------------------------------------------------------------------------- the checks can fail


def edges_of(svg: str) -> list[str]:
    return re.findall(r'<g class="edge".*?</g>', svg, flags=re.DOTALL)


def shifted(group: str, pattern: str, by: float) -> str:
    """The group with the first number that the pattern captures moved."""
    return re.sub(pattern, lambda m: m[0].replace(m[1], f"{float(m[1]) + by:g}"), group, count=1)


STRUCTURE_FAULTS: dict[str, Callable[[str], str]] = {
    "a lost edge": lambda svg: svg.replace(edges_of(svg)[1], ""),
    "an edge drawn twice": lambda svg: svg.replace(edges_of(svg)[1], edges_of(svg)[1] * 2),
    "another label": lambda svg: svg.replace(">skip_connect</text>", ">skip_conect</text>", 1),
    "another op in the data": lambda svg: svg.replace('data-op="skip_connect"', 'data-op="none"', 1),
    "a color of another family": lambda svg: svg.replace('class="fill-skip ', 'class="fill-pool ', 1),
    "a lost word of the legend": lambda svg: svg.replace(">pooling</text>", "></text>", 1),
    "a wire that is dashed": lambda svg: svg.replace('stroke-linecap="round"/>', 'stroke-dasharray="5 4"/>', 1),
    "a lost cell of the network": lambda svg: re.sub(r'<g class="cell" data-id="1".*?</g>', "", svg, flags=re.DOTALL),
    "another shape": lambda svg: svg.replace("16×8×8</text>", "16×8×9</text>", 1),
    "another tooltip": lambda svg: svg.replace("n0 reads s0", "n0 reads s1", 1),
}


@pytest.mark.parametrize("fault", STRUCTURE_FAULTS)
def test_another_structure_is_seen(fault: str) -> None:
    broken = STRUCTURE_FAULTS[fault](golden("found"))
    assert broken != golden("found")
    assert structure(broken) != structure(golden("found"))


GEOMETRY_FAULTS: dict[str, Callable[[str], str]] = {
    "a wire that starts elsewhere": lambda group: shifted(group, r'd="M([\d.]+),', 12.0),
    "a wire of another state": lambda group: shifted(group, r'd="M[\d.]+,([\d.]+)', 60.0),
    "a label away from its wire": lambda group: shifted(group, r'<rect x="([\d.]+)"', 15.0),
    "a label over another": lambda group: shifted(group, r'<rect x="[\d.]+" y="([\d.]+)"', 20.0),
    "a box too narrow for its text": lambda group: shifted(group, r' width="([\d.]+)"', -60.0),
    "a text beside its box": lambda group: shifted(group, r'<text x="([\d.]+)"', 40.0),
    "a box outside the paper": lambda group: shifted(group, r'<rect x="([\d.]+)"', 5000.0),
    "a color that its class does not mean": lambda group: re.sub(
        r' fill="#[0-9a-f]{6}"', ' fill="#123456"', group, count=1
    ),
    "a wire too few": lambda group: re.sub(r'<path d="[^>]*fill="none"[^>]*/>', "", group, count=1),
}


@pytest.mark.parametrize("fault", GEOMETRY_FAULTS)
def test_parts_that_do_not_join_are_seen(fault: str) -> None:
    svg = golden("found")
    group = edges_of(svg)[0]
    broken = svg.replace(group, GEOMETRY_FAULTS[fault](group))
    assert broken != svg
    with pytest.raises(AssertionError):
        check(broken)


def test_a_nudge_passes() -> None:
    svg = golden("found")
    group = edges_of(svg)[0]
    nudged = svg.replace(group, shifted(group, r'<rect x="([\d.]+)"', 1.5))
    assert nudged != svg
    check(nudged)
    assert structure(nudged) == structure(svg)
