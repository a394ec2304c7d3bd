"""Tests of ``src/gradnas/foundation/sizes.py``."""

import pytest

from gradnas.foundation.sizes import size_text


@pytest.mark.parametrize(
    ("n_bytes", "text"),
    [
        (0, "0 bytes"),
        (999, "999 bytes"),
        (1000, "0.98 KiB"),
        (41 * 2**20, "41.0 MiB"),
        (4.24 * 2**30, "4.24 GiB"),
        (999 * 2**20, "999 MiB"),
        (1000 * 2**20, "0.98 GiB"),
        (99.96 * 2**20, "100 MiB"),
        (9.996 * 2**20, "10.0 MiB"),
        (5000 * 2**40, "5000 TiB"),
    ],
)
def test_sizes_have_three_digits_and_a_binary_unit(n_bytes: float, text: str) -> None:
    assert size_text(n_bytes) == text
