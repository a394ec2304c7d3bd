"""Tests of ``src/gradnas/foundation/checksums.py``."""

import hashlib
import json
import random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import SafetensorError
from safetensors.torch import load, save

from gradnas.foundation.checksums import (
    checksum,
    damaged,
    is_sealed,
    seal,
    seal_tensors,
    seal_text,
    tensors_metadata,
    unseal,
    unseal_text,
)

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
OBJECTS = st.dictionaries(st.text().filter(lambda name: name != "checksum"), PLAIN, max_size=4)


def test_checksum_is_blake2b_of_128_bits() -> None:
    assert checksum(b"") == "cae66941d9efbd404e4d88758ea67670"
    assert checksum(b"gradnas") == hashlib.blake2b(b"gradnas", digest_size=16).hexdigest()


def test_the_error_says_what_happened_and_what_to_do() -> None:
    with pytest.raises(ValueError, match=r"^x was changed or damaged since it was written: .* back\. Do this\.$"):
        raise damaged("x", "Do this.")


@given(values=OBJECTS, digits=st.integers(8, 32))
@settings(max_examples=60, deadline=None)
def test_an_object_survives_the_seal_and_json(values: dict[str, object], digits: int) -> None:
    sealed = json.loads(json.dumps(seal(values, digits)))
    assert list(sealed)[-1] == "checksum"
    assert len(sealed["checksum"]) == digits
    assert unseal(sealed) == values


def test_an_object_without_a_checksum_is_taken_as_it_is() -> None:
    assert unseal({}) == {}
    assert unseal({"a": 1, "b": "text"}) == {"a": 1, "b": "text"}


def test_order_spaces_and_keys_that_become_texts_are_no_damage() -> None:
    sealed = seal({"b": 1, "a": {10: 1, 9: [1, 2]}})
    text = json.dumps(dict(reversed(sealed.items())), indent=4)
    assert unseal(json.loads(text)) == {"b": 1, "a": {"10": 1, "9": [1, 2]}}


@pytest.mark.parametrize(
    "change",
    [{"a": 2}, {"a": 1.0}, {"a": True}, {"b": [2, 1]}, {"c": None}, {"checksum": "0" * 32}, {"checksum": 5}],
    ids=str,
)
def test_a_changed_value_is_noticed(change: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="its checksum does not fit"):
        unseal(seal({"a": 1, "b": [1, 2]}) | change)


def test_a_short_beginning_of_the_checksum_does_not_count() -> None:
    sealed = seal({"a": 1})
    with pytest.raises(ValueError, match="does not fit"):
        unseal(sealed | {"checksum": sealed["checksum"][:7]})


def test_a_missing_value_is_noticed() -> None:
    sealed = seal({"a": 1, "b": 2})
    del sealed["a"]
    with pytest.raises(ValueError, match="does not fit"):
        unseal(sealed)


def test_damage_in_the_name_of_the_checksum_is_noticed() -> None:
    *others, (_, found) = seal({"a": 1}).items()
    with pytest.raises(ValueError, match="its checksum is named 'checksul'"):
        unseal({**dict(others), "checksul": found})


def test_values_nested_too_deeply_are_a_value_error() -> None:
    values: dict[str, object] = {}
    for _ in range(100_000):
        values = {"a": values}
    with pytest.raises(ValueError, match="nested too deeply"):
        unseal({"a": values, "checksum": "0" * 32})


def test_every_flipped_bit_of_a_sealed_object_is_noticed_or_harmless() -> None:
    values = {"seed": 3, "accuracy": 98.61, "classes": ["ä", "b"], "none": None}
    data = (json.dumps(seal(values), indent=1, ensure_ascii=False) + "\n").encode()
    for place in range(8 * len(data)):
        flipped = bytearray(data)
        flipped[place // 8] ^= 1 << place % 8
        try:
            read = unseal(json.loads(flipped.decode()))
        except ValueError:
            continue
        assert read == values, f"bit {place}"


@given(text=st.text())
@settings(max_examples=60, deadline=None)
def test_a_text_survives_the_seal(text: str) -> None:
    lines = text.replace("\r", "") + "\n"
    assert is_sealed(seal_text(lines))
    assert unseal_text(seal_text(lines)) == lines


def test_a_text_without_a_checksum_is_taken_as_it_is() -> None:
    for text in ("", "a: 1\n", "# checksum: of what\na: 1\n"):
        assert not is_sealed(text)
        assert unseal_text(text) == text


def test_every_flipped_bit_and_every_cut_of_a_sealed_text_is_noticed_or_leaves_a_beginning() -> None:
    content = "a: 1\nb: null\n"
    data = seal_text(content).encode()
    for place in range(8 * len(data)):
        flipped = bytearray(data)
        flipped[place // 8] ^= 1 << place % 8
        try:
            read = unseal_text(flipped.decode())
        except ValueError:
            continue
        assert read.startswith(content), f"bit {place}"  # the damage lies in the comment
    for length in range(len(data)):
        try:
            read = unseal_text(data[:length].decode())
        except ValueError:
            continue
        assert content.startswith(read) or read.startswith(content), f"cut to {length}"


def tensors() -> dict[str, torch.Tensor]:
    return {"b": torch.arange(6.0).view(2, 3), "a": torch.tensor([1, 2]), "empty": torch.zeros(0)}


@pytest.mark.parametrize("metadata", [None, {"arch": "é"}])
def test_sealed_tensors_are_read_by_anyone_and_keep_their_metadata(metadata: dict[str, str] | None) -> None:
    data = seal_tensors(save(tensors(), metadata=metadata))
    assert all(torch.equal(value, tensors()[name]) for name, value in load(data).items())
    assert tensors_metadata(data) == (metadata or {})
    assert seal_tensors(save(tensors(), metadata=metadata)) == data


def test_tensors_without_a_checksum_are_taken_as_they_are() -> None:
    assert tensors_metadata(save(tensors())) == {}
    assert tensors_metadata(save(tensors(), metadata={"a": "b"})) == {"a": "b"}


def test_every_flipped_bit_of_sealed_tensors_is_noticed_or_harmless() -> None:
    data = seal_tensors(save(tensors(), metadata={"arch": "x"}))
    places = range(8 * len(data))
    for place in random.Random(0).sample(places, 800):
        flipped = bytearray(data)
        flipped[place // 8] ^= 1 << place % 8
        try:
            read, said = load(bytes(flipped)), tensors_metadata(bytes(flipped))
        except (ValueError, SafetensorError):
            continue
        assert said["arch"] == "x", f"bit {place}"
        assert all(torch.equal(value, tensors()[name]) for name, value in read.items()), f"bit {place}"


@pytest.mark.parametrize("data", [b"", b"\xff" * 40, b"\x02\0\0\0\0\0\0\0[]", b"\x02\0\0\0\0\0\0\0{]", b"8" * 9])
def test_what_is_no_file_of_tensors_is_a_value_error(data: bytes) -> None:
    with pytest.raises(ValueError, match="its header is not"):
        tensors_metadata(data)
