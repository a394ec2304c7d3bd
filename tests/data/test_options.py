"""Tests of ``src/gradnas/data/options.py`` and ``memory.py``."""

import os

import pytest

from gradnas.config import DataConf
from gradnas.data import LoadOptions
from gradnas.data.memory import bytes_of


@pytest.mark.parametrize(
    ("text", "n_bytes"),
    [
        ("4GB", 4 * 1000**3),
        ("4GiB", 4 * 1024**3),
        (" 1.5 mib ", 3 * 2**19),
        ("2000B", 2000),
        ("2tb", 2 * 10**12),
        ("1KB", 1000),
    ],
)
def test_amounts_of_memory(text: str, n_bytes: int) -> None:
    assert bytes_of(text) == n_bytes


@pytest.mark.parametrize("text", ["", "4", "4G", "GB", "-1GB", "4 GB GB", "4EB", "1e3MB", 4, None])
def test_other_amounts_are_refused(text: object) -> None:
    with pytest.raises(ValueError, match=r"data.max_memory must be an amount such as 4GB or 512MiB, got "):
        bytes_of(text, "data.max_memory")


def test_no_memory_is_refused() -> None:
    with pytest.raises(ValueError, match="must be at least one byte, got '0GB'"):
        bytes_of("0GB")


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"image_size": 0}, ValueError, "image_size is the side"),
        ({"channels": 2}, ValueError, r"channels must be 1 \(gray\), 3 \(RGB\) or None \(as they are\), got 2"),
        ({"stream": "allways"}, ValueError, "unknown stream 'allways'. Did you mean 'always'"),
        ({"workers": 0}, ValueError, "workers is a number of threads and must be at least 1, got 0"),
        ({"workers": True}, TypeError, "workers is a number of threads and must be an int or None, got True"),
        ({"skip_unreadable": 1}, TypeError, "skip_unreadable must be True or False, got 1"),
    ],
)
def test_options_that_make_no_sense_are_refused(arguments: dict, error: type, message: str) -> None:
    with pytest.raises(error, match=message):
        LoadOptions(**arguments)
    with pytest.raises(error, match=message):
        DataConf(**arguments)


def test_a_configuration_gives_its_options() -> None:
    assert DataConf().load_options == LoadOptions()
    conf = DataConf(image_size=8, channels=1, max_memory="1MB", stream="never", workers=3, skip_unreadable=True)
    assert conf.load_options == LoadOptions(
        image_size=8, channels=1, max_bytes=10**6, stream="never", workers=3, skip_unreadable=True
    )
    with pytest.raises(ValueError, match=r"data\.max_memory must be an amount"):
        DataConf(max_memory="much")


def test_threads() -> None:
    assert LoadOptions(workers=40).threads == 40
    assert 1 <= LoadOptions().threads <= min(16, os.cpu_count() or 1)
