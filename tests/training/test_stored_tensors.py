"""Tests of ``src/gradnas/training/stored_tensors.py``."""

import collections
import io
import pickle
import zipfile
from typing import Any

import pytest
import torch

from gradnas.training.stored_tensors import check_stored_tensors

CONTENT = {
    "tensors": [torch.zeros(2, 3), torch.tensor(1, dtype=torch.int64), torch.zeros(3, dtype=torch.bool)],
    "parameter": torch.nn.Parameter(torch.zeros(2)),
    "ordered": collections.OrderedDict(w=torch.zeros(1, dtype=torch.bfloat16)),
    "plain": {0: (1, 2.5, None, True, "text"), "list": [[]]},
}


def saved(content: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


def packed_again(data: bytes, method: int, content: bytes | None = None) -> io.BytesIO:
    made = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as archive, zipfile.ZipFile(made, "w", method) as fresh:
        for name in archive.namelist():
            replaced = content if content is not None and name.endswith("data.pkl") else archive.read(name)
            fresh.writestr(name, replaced)
    return made


class Called:
    def __init__(self, function: Any, *arguments: Any) -> None:
        self.called = (function, arguments)

    def __reduce__(self) -> Any:
        return self.called


def test_what_torch_saves_passes_and_stands_at_its_beginning() -> None:
    stream = io.BytesIO(saved(CONTENT))
    check_stored_tensors(stream)
    assert torch.load(stream, weights_only=True)["plain"] == CONTENT["plain"]


@pytest.mark.parametrize(
    "thing",
    [Called(bytearray, 10**12), Called(print, 1), torch.Size([1]), {1, 2}],
    ids=["bytearray", "print", "size", "set"],
)
def test_other_things_are_refused(thing: Any) -> None:
    stream = packed_again(saved({}), zipfile.ZIP_STORED, pickle.dumps({"a": thing}, 2))
    with pytest.raises(ValueError, match="it holds more than tensors, numbers, strings, lists and dicts"):
        check_stored_tensors(stream)


def test_compressed_records_are_refused() -> None:
    with pytest.raises(ValueError, match="its records are compressed"):
        check_stored_tensors(packed_again(saved({"a": torch.zeros(10**5)}), zipfile.ZIP_DEFLATED))


def test_the_old_format_and_other_files_are_refused() -> None:
    old = io.BytesIO()
    torch.save({"a": 1}, old, _use_new_zipfile_serialization=False)
    for data in (old.getvalue(), b"", b"PK nothing", saved({})[:-30]):
        with pytest.raises(ValueError, match=r"it is no file of torch\.save"):
            check_stored_tensors(io.BytesIO(data))


def test_a_file_without_contents_is_refused() -> None:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("archive/version", "3")
    with pytest.raises(ValueError, match="one list of contents"):
        check_stored_tensors(stream)
