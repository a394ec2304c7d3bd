"""Every row of docs/migrating.md names something that exists."""

import importlib
import re
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "migrating.md"
ROWS = re.findall(r"^\| `([\w.]+)` \| `([\w.]+)` \|$", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)


def test_the_page_has_its_rows() -> None:
    assert len(ROWS) >= 30


@pytest.mark.parametrize(("old", "new"), ROWS, ids=[row[0].rpartition(".")[2] for row in ROWS])
def test_the_new_path_imports_and_keeps_the_name(old: str, new: str) -> None:
    module, _, name = new.rpartition(".")
    assert old.rpartition(".")[2] == name
    assert isinstance(getattr(importlib.import_module(module), name), type)
