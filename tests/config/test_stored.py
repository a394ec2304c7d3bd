"""Tests of ``src/gradnas/config/stored.py``."""

import dataclasses

import pytest

from gradnas.config import RunConf, from_stored, from_yaml, load_preset, preset_names, to_stored, to_yaml
from gradnas.foundation.checksums import is_sealed


@pytest.mark.parametrize("name", preset_names())
def test_every_preset_survives(name: str) -> None:
    conf = load_preset(name)
    assert is_sealed(to_stored(conf))
    assert from_stored(to_stored(conf), "config.yaml") == conf
    assert from_yaml(to_stored(conf)) == conf  # the checksum is a comment to every other reader


def test_without_its_checksum_a_whole_configuration_is_accepted() -> None:
    conf = RunConf(seed=3)
    assert from_stored(to_yaml(conf), "config.yaml") == conf
    assert from_stored(to_yaml(conf).replace("seed: 3", "seed: 4"), "config.yaml") == RunConf(seed=4)


def test_a_change_is_refused_as_long_as_the_checksum_is_there() -> None:
    with pytest.raises(ValueError, match=r"x/config\.yaml was changed or damaged.*meant, delete the line with the che"):
        from_stored(to_stored(RunConf(seed=3)).replace("seed: 3", "seed: 4"), "x/config.yaml")


def test_every_cut_is_refused_or_loses_no_setting() -> None:
    conf = dataclasses.replace(RunConf(seed=3), deterministic=True, max_time="1h30m")
    text = to_stored(conf)
    for length in range(len(text) - 150, len(text)):
        try:
            read = from_stored(text[:length], "config.yaml")
        except ValueError:
            continue
        assert read == conf, f"cut to {length}"


def test_missing_parts_are_named() -> None:
    with pytest.raises(ValueError, match=r"c\.yaml has no checksum and does not say what data, .*tensorboard, .* cut"):
        from_stored("seed: 3\n", "c.yaml")
