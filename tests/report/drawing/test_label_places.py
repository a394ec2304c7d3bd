"""Tests of ``label_places.py``."""

import math

from hypothesis import given
from hypothesis import strategies as st

from gradnas.report.drawing.label_places import Area, needs_line, place_labels

ROOM = Area(left=50, top=50, right=580, bottom=400)
places = st.tuples(st.floats(60, 570), st.floats(60, 390))
sizes = st.tuples(st.floats(10, 180), st.floats(12, 16))


def around(point: tuple[float, float], radius: float = 7.0) -> Area:
    return Area(left=point[0] - radius, top=point[1] - radius, right=point[0] + radius, bottom=point[1] + radius)


@given(st.lists(st.tuples(places, sizes), min_size=1, max_size=14))
def test_labels_cover_neither_each_other_nor_marks_nor_the_frame(wanted: list) -> None:  # type: ignore[type-arg]
    points, boxes = [point for point, _ in wanted], [size for _, size in wanted]
    marks = [around(point) for point in points]
    found = place_labels(points, boxes, room=ROOM, marks=marks)
    labels = [label for label in found if label is not None]
    for k, label in enumerate(labels):
        assert label.inside(ROOM)
        assert not any(label.overlap(mark) for mark in marks)
        assert not any(label.overlap(other) for other in labels[:k])


def test_a_lone_label_stands_right_of_its_point_in_its_size() -> None:
    label = place_labels([(200.0, 200.0)], [(60.0, 14.0)], room=ROOM, marks=[around((200.0, 200.0))])[0]
    assert label is not None
    assert (label.left, label.top, label.right, label.bottom) == (211, 193, 271, 207)
    assert needs_line((200.0, 200.0), label) is None


def test_at_the_right_edge_it_stands_on_the_left() -> None:
    label = place_labels([(570.0, 200.0)], [(60.0, 14.0)], room=ROOM, marks=[around((570.0, 200.0))])[0]
    assert label is not None
    assert label.right == 559


def test_what_is_avoided_is_covered_only_when_there_is_no_better_place() -> None:
    point, size = (300.0, 200.0), (60.0, 14.0)
    bar = Area(left=305, top=100, right=500, bottom=300)
    label = place_labels([point], [size], room=ROOM, marks=[around(point)], avoided=[bar])[0]
    assert label is not None
    assert label.overlap(bar) == 0
    everywhere = place_labels([point], [size], room=ROOM, marks=[around(point)], avoided=[ROOM])[0]
    assert everywhere is not None


def test_many_labels_of_one_point_find_room_and_get_lines() -> None:
    points = [(300.0, 200.0)] * 12
    found = place_labels(points, [(90.0, 14.0)] * 12, room=ROOM, marks=[around(points[0])])
    assert None not in found
    ends = [needs_line(points[0], label) for label in found if label is not None]
    assert any(end is not None for end in ends)
    assert all(end is None or math.dist(end, points[0]) > 15 for end in ends)


def test_a_label_without_room_is_left_out() -> None:
    assert place_labels([(100.0, 100.0)], [(900.0, 14.0)], room=ROOM, marks=[]) == [None]
