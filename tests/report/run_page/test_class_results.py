"""Tests of the drawing of ``class_results.py`` and of ``heat_map.py``."""

import io

import pytest

from gradnas.report.drawing.png import to_png
from gradnas.report.drawing.scene import Box, Group, Label, Path, Scene
from gradnas.report.drawing.svg import to_svg_part
from gradnas.report.run_page.class_results import Confusion


def scene_of(n: int) -> Scene:
    counts = [
        [90 if row == column else 10 if column == (row + 1) % n else 0 for column in range(n)] for row in range(n)
    ]
    classes = tuple(f"class {k}" for k in range(n))
    scene = Confusion(classes=classes, counts=tuple(tuple(map(float, row)) for row in counts)).scene()
    assert scene is not None
    return scene


def labels(scene: Scene) -> list[str]:
    return [item.text for item in scene.items if isinstance(item, Label)]


@pytest.mark.parametrize("n", [2, 12, 25, 26, 41, 100, 120])
def test_axes_are_named_and_nothing_sticks_out(n: int) -> None:
    scene = scene_of(n)
    assert {"true class", "predicted class"} <= set(labels(scene))
    for item in scene.leaves():
        if isinstance(item, Box):
            assert 0 <= item.x <= item.x + item.width <= scene.width
            assert 0 <= item.y <= item.y + item.height <= scene.height


@pytest.mark.parametrize("n", [26, 41, 100, 120])
def test_a_large_matrix_has_a_frame_a_ground_and_every_fifth_name(n: int) -> None:
    scene = scene_of(n)
    for k in range(n):
        assert labels(scene).count(f"class {k}") == (2 if k % 5 == 0 else 0)
    frames = [item for item in scene.items if isinstance(item, Box) and item.stroke == "wire"]
    assert len(frames) == 1
    (ground,) = [item for item in scene.items if isinstance(item, Path) and item.stroke == "other"]
    (shades,) = [item for item in scene.items if isinstance(item, Group) and item.kind == "shades"]
    xs = [at[0] for _, at in ground.commands]
    assert (min(xs), max(xs)) == pytest.approx((frames[0].x + 0.5, frames[0].x + frames[0].width - 0.5))
    strong = max((item for item in shades.items if isinstance(item, Path)), key=lambda item: item.opacity)
    starts = [at for name, at in strong.commands if name == "M"]
    side = strong.line
    assert [round((y - frames[0].y - side / 2) / side) for _, y in starts] == list(range(n))  # the diagonal
    assert [round((x - frames[0].x) / side) for x, _ in starts] == list(range(n))
    assert len(to_svg_part(scene)) < 30_000


def test_squares_of_a_small_matrix_have_their_counts() -> None:
    squares = [item for item in scene_of(10).items if isinstance(item, Group) and item.kind == "square"]
    assert len(squares) == 100
    assert squares[0].title == "class 0, class 0: 90"


def test_a_line_of_half_the_color_is_painted_so_and_ends_at_its_points() -> None:
    matplotlib = pytest.importorskip("matplotlib.image")

    line = Path(commands=(("M", (10, 10)), ("L", (20, 10))), stroke="heat", opacity=0.5, line=10, ends="butt")
    paper = Box(x=0, y=0, width=30, height=20, fill="paper")
    pixels = matplotlib.imread(io.BytesIO(to_png(Scene(width=30, height=20, items=(paper, line), title="x"), zoom=1)))
    assert pixels[10, 15, 0] == pytest.approx((1 + 0x25 / 255) / 2, abs=0.01)
    assert pixels[10, 7, 0] == pixels[10, 22, 0] == 1
