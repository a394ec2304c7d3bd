"""Tests of ``src/gradnas/arch/shapes.py``."""

import pytest

from gradnas.arch.shapes import check_count, check_shape, strided


def test_count_is_returned() -> None:
    assert check_count(3, "n") == 3
    assert check_count(0, "n", 0) == 0


def test_too_small_count_names_the_bound() -> None:
    with pytest.raises(ValueError, match="n_nodes must be at least 2, got 1"):
        check_count(1, "n_nodes", 2)


@pytest.mark.parametrize("value", [1.0, True, "1", None])
def test_count_of_another_type_is_refused(value: object) -> None:
    with pytest.raises(TypeError, match=r"n_nodes must be a whole number, got .*Pass an int of at least 1"):
        check_count(value, "n_nodes")


def test_any_sequence_of_three_counts_is_a_shape() -> None:
    assert check_shape([3, 32, 24], "image") == (3, 32, 24)


@pytest.mark.parametrize("shape", [(3, 32), (3, 32, 32, 1), ()])
def test_shape_of_another_length_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"out_shape must be \(channels, height, width\), got"):
        check_shape(shape, "out_shape")


@pytest.mark.parametrize("shape", [(3, -1, 32), (3, 0, 32)])
def test_unknown_size_is_refused_naming_the_axis(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="out_shape, H must be at least 1"):
        check_shape(shape, "out_shape")


@pytest.mark.parametrize("width", [-0.5, 16.0, None])
def test_fraction_or_missing_size_is_refused_naming_the_axis(width: object) -> None:
    with pytest.raises(TypeError, match="out_shape, W must be a whole number"):
        check_shape((3, 32, width), "out_shape")  # type: ignore[arg-type]


@pytest.mark.parametrize(("size", "halved"), [(32, 16), (7, 4), (1, 1), (2, 1)])
def test_stride_two_halves_rounding_up(size: int, halved: int) -> None:
    assert strided((4, size, size), 2) == (4, halved, halved)


def test_stride_one_keeps_the_size() -> None:
    assert strided((4, 7, 9), 1) == (4, 7, 9)


def test_channels_may_change_with_the_stride() -> None:
    assert strided((4, 7, 9), 2, channels=8) == (8, 4, 5)
