"""Tests of ``src/gradnas/training/checkpoint.py``."""

import contextlib
import errno
import io
import os
import pathlib
import pickle
import random
from pathlib import Path
from typing import Any

import pytest
import torch

from gradnas.foundation.checksums import checksum
from gradnas.training import CheckPoint, checkpoint_empty, create_checkpoint


def saved(path: Path, *values: int) -> CheckPoint:
    """A checkpoint committed once per value."""
    checkpoint = CheckPoint(path)
    for value in values:
        checkpoint["value"] = value
        checkpoint["tensor"] = torch.full((100,), float(value))
        checkpoint.commit()
    return checkpoint


def written(path: Path, payload: bytes) -> None:
    """A checkpoint file with a right checksum over any bytes."""
    path.write_bytes(f"gradnas checkpoint 2 {checksum(payload)} {len(payload)}\n".encode() + payload)


def loaded(path: Path) -> CheckPoint:
    checkpoint = CheckPoint(path)
    assert checkpoint.load_existing()
    return checkpoint


def fail_after(monkeypatch: pytest.MonkeyPatch, name: str, calls: int) -> None:
    """Let ``os.<name>`` work that often, then run out of disk space."""
    original, done = getattr(os, name), [0]

    def call(*args: Any, **kwargs: Any) -> Any:
        done[0] += 1
        if done[0] > calls:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return original(*args, **kwargs)

    monkeypatch.setattr(os, name, call)


def test_what_is_committed_is_read_back(tmp_path: Path) -> None:
    checkpoint = CheckPoint(tmp_path / "sub" / "a.pt")
    content = {"t": torch.arange(3), "n": 1.5, "s": "x", "l": [1, None], "d": {"k": True}}
    checkpoint.update(content)
    checkpoint.commit()
    other = loaded(tmp_path / "sub" / "a.pt")
    assert torch.equal(other.pop("t"), checkpoint["t"])
    assert dict(other) == {key: value for key, value in content.items() if key != "t"}


def test_it_is_a_mapping(tmp_path: Path) -> None:
    checkpoint = CheckPoint(tmp_path / "a.pt")
    checkpoint["a"], checkpoint["b"] = 1, 2
    del checkpoint["a"]
    assert (list(checkpoint), len(checkpoint), "a" in checkpoint) == (["b"], 1, False)


def test_nothing_is_written_before_the_commit(tmp_path: Path) -> None:
    checkpoint = saved(tmp_path / "a.pt", 1)
    checkpoint["value"] = 2
    assert loaded(tmp_path / "a.pt")["value"] == 1


def test_file_before_the_last_commit_is_kept(tmp_path: Path) -> None:
    saved(tmp_path / "a.pt", 1, 2, 3)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.pt", "a.pt.previous"]
    assert loaded(tmp_path / "a.pt")["value"] == 3
    assert loaded(tmp_path / "a.pt.previous")["value"] == 2


def test_without_a_file_there_is_nothing_to_load(tmp_path: Path) -> None:
    checkpoint = CheckPoint(tmp_path / "a.pt")
    assert not checkpoint.load_existing()
    assert checkpoint.is_empty()


@pytest.mark.parametrize("damage", [b"", b"nonsense", None], ids=["empty", "nonsense", "truncated"])
def test_damaged_newest_file_falls_back_to_the_previous_one(tmp_path: Path, damage: bytes | None) -> None:
    path = tmp_path / "a.pt"
    saved(path, 1, 2)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2] if damage is None else damage)
    with pytest.warns(UserWarning, match=r"damaged checkpoint, used .*a\.pt\.previous instead: .*a\.pt: it "):
        assert loaded(path)["value"] == 1


# Nothing but a stray end of stream, an empty stack, a wrong type, a short number: each another error inside torch.
@pytest.mark.parametrize(
    "damage", [b".", b"\x80\x02.", b"\x80\x02]a.", b"\x80\x02}ss.", b"\x80\x02G\x00", b"\x80\x02h\x07."]
)
def test_no_damage_escapes_as_another_error(tmp_path: Path, damage: bytes) -> None:
    written(tmp_path / "a.pt", damage)
    with pytest.raises(ValueError, match="no readable checkpoint"):
        CheckPoint(tmp_path / "a.pt").load_existing()


def test_message_about_foreign_content_does_not_advise_to_execute_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GRADNAS_TEST_BOMB", str(tmp_path / "executed"))
    written(tmp_path / "a.pt", pickle.dumps(Bomb(), protocol=2))
    with pytest.raises(ValueError, match=r"a\.pt: it is no file of torch.save") as caught:
        CheckPoint(tmp_path / "a.pt").load_existing()
    assert "weights_only" not in str(caught.value)


def test_missing_newest_file_leaves_the_previous_one(tmp_path: Path) -> None:
    saved(tmp_path / "a.pt", 1, 2)
    (tmp_path / "a.pt").unlink()
    assert loaded(tmp_path / "a.pt")["value"] == 1


def test_two_damaged_files_are_refused_naming_both(tmp_path: Path) -> None:
    saved(tmp_path / "a.pt", 1, 2)
    (tmp_path / "a.pt").write_bytes(b"x")
    (tmp_path / "a.pt.previous").write_bytes(b"y")
    with pytest.raises(ValueError, match=r"no readable checkpoint: .*a\.pt: .*a\.pt\.previous: "):
        CheckPoint(tmp_path / "a.pt").load_existing()


def test_a_file_that_is_no_checkpoint_is_refused(tmp_path: Path) -> None:
    torch.save({"weight": torch.ones(1)}, tmp_path / "a.pt")
    with pytest.raises(ValueError, match="it does not begin as a checkpoint of this gradnas does"):
        CheckPoint(tmp_path / "a.pt").load_existing()


def test_newer_format_is_refused_naming_both_versions(tmp_path: Path) -> None:
    (tmp_path / "a.pt").write_bytes(b"gradnas checkpoint 99 00 5\nhello")
    with pytest.raises(ValueError, match="a checkpoint of format 99, this gradnas reads 2"):
        CheckPoint(tmp_path / "a.pt").load_existing()


def test_content_that_is_no_mapping_is_refused(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    torch.save([1], buffer)
    written(tmp_path / "a.pt", buffer.getvalue())
    with pytest.raises(ValueError, match="holds a mapping, not list"):
        CheckPoint(tmp_path / "a.pt").load_existing()


def test_every_flipped_bit_and_every_cut_is_detected(tmp_path: Path) -> None:
    saved(tmp_path / "a.pt", 1)
    whole = (tmp_path / "a.pt").read_bytes()
    draws = random.Random(0)
    for _ in range(300):
        place, bit = draws.randrange(len(whole)), 1 << draws.randrange(8)
        flipped = bytes([*whole[:place], whole[place] ^ bit, *whole[place + 1 :]])
        (tmp_path / "a.pt").write_bytes(draws.choice([flipped, whole[:place], whole + flipped[:1]]))
        with pytest.raises(ValueError, match="no readable checkpoint"):
            CheckPoint(tmp_path / "a.pt").load_existing()
    (tmp_path / "a.pt").write_bytes(whole)
    assert loaded(tmp_path / "a.pt")["value"] == 1


@pytest.mark.parametrize("keep", [1, 2, 3, 5])
def test_as_many_files_are_kept_as_asked_for(tmp_path: Path, keep: int) -> None:
    checkpoint = CheckPoint(tmp_path / "a.pt", keep=keep)
    for value in range(7):
        checkpoint["value"] = value
        checkpoint.commit()
    assert [loaded(path)["value"] for path in checkpoint.files()] == list(range(6, 6 - keep, -1))
    assert len(list(tmp_path.iterdir())) == keep


def test_files_beyond_a_lower_number_are_removed(tmp_path: Path) -> None:
    many, few = CheckPoint(tmp_path / "a.pt", keep=5), CheckPoint(tmp_path / "a.pt", keep=2)
    for value in range(5):
        many["value"] = value
        many.commit()
    few["value"] = 5
    few.commit()
    assert [loaded(path)["value"] for path in few.files()] == [5, 4]


def test_a_damaged_file_pushes_no_good_one_out(tmp_path: Path) -> None:
    saved(tmp_path / "a.pt", 1, 2)
    (tmp_path / "a.pt").write_bytes(b"x")
    checkpoint = CheckPoint(tmp_path / "a.pt")
    with pytest.warns(UserWarning, match="damaged checkpoint"):
        checkpoint.load_existing()
    checkpoint["value"] = 3
    checkpoint.commit()
    assert [loaded(path)["value"] for path in checkpoint.files()] == [3, 1]
    assert (tmp_path / "a.pt.damaged").read_bytes() == b"x"


@pytest.mark.parametrize("works", range(6))
def test_a_process_killed_at_any_rename_leaves_the_newest_good_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, works: int
) -> None:
    checkpoint = CheckPoint(tmp_path / "a.pt", keep=3)
    for value in range(4):
        checkpoint["value"] = value
        checkpoint.commit()
    checkpoint["value"] = 4
    with monkeypatch.context() as broken:
        fail_after(broken, "replace", works)
        with contextlib.suppress(OSError):
            checkpoint.commit()
    assert loaded(tmp_path / "a.pt")["value"] == (4 if works >= 4 else 3)


class Bomb:
    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return pathlib.Path.touch, (pathlib.Path(os.environ["GRADNAS_TEST_BOMB"]),)


def test_nothing_in_a_file_is_executed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRADNAS_TEST_BOMB", str(tmp_path / "executed"))
    buffer = io.BytesIO()
    torch.save({"x": Bomb()}, buffer)
    written(tmp_path / "a.pt", buffer.getvalue())
    written(tmp_path / "b.pt", pickle.dumps(Bomb(), protocol=2))
    for name in ("a.pt", "b.pt"):
        with pytest.raises(ValueError, match="no readable checkpoint"):
            CheckPoint(tmp_path / name).load_existing()
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize(
    ("call", "works", "value"),
    [("fsync", 0, 2), ("replace", 0, 2), ("replace", 1, 2), ("replace", 2, 2)],
    ids=["flush", "first rename", "rename to previous", "last rename"],
)
def test_full_disk_leaves_the_last_good_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, works: int, value: int
) -> None:
    checkpoint = saved(tmp_path / "a.pt", 1, 2)
    checkpoint["value"] = 3
    with monkeypatch.context() as broken:
        fail_after(broken, call, works)
        with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
            checkpoint.commit()
    assert loaded(tmp_path / "a.pt")["value"] == value


def test_full_disk_leaves_no_partial_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint = saved(tmp_path / "a.pt", 1, 2)
    fail_after(monkeypatch, "fsync", 0)
    with pytest.raises(OSError, match="What was there before is unchanged"):
        checkpoint.commit()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.pt", "a.pt.previous"]


def test_saving_goes_on_when_the_disk_has_room_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint = saved(tmp_path / "a.pt", 1)
    with monkeypatch.context() as broken:
        fail_after(broken, "replace", 1)
        with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
            checkpoint.commit()
    checkpoint["value"] = 5
    checkpoint.commit()
    assert loaded(tmp_path / "a.pt")["value"] == 5
    assert loaded(tmp_path / "a.pt.previous")["value"] == 1


def test_no_path_makes_no_checkpoint() -> None:
    assert create_checkpoint(None, resume=True) is None


def test_resuming_loads_what_exists(tmp_path: Path) -> None:
    saved(tmp_path / "a.pt", 1)
    checkpoint = create_checkpoint(tmp_path / "a.pt", resume=True)
    assert checkpoint is not None
    assert checkpoint["value"] == 1


def test_starting_anew_keeps_the_old_file_as_previous(tmp_path: Path) -> None:
    saved(tmp_path / "a.pt", 1)
    checkpoint = create_checkpoint(tmp_path / "a.pt", resume=False)
    assert checkpoint is not None
    assert checkpoint.is_empty()
    assert [p.name for p in tmp_path.iterdir()] == ["a.pt.previous"]
    assert loaded(tmp_path / "a.pt.previous")["value"] == 1


def test_resuming_without_a_file_starts_empty(tmp_path: Path) -> None:
    checkpoint = create_checkpoint(tmp_path / "a.pt", resume=True)
    assert checkpoint is not None
    assert checkpoint.is_empty()


def test_none_and_no_content_are_empty(tmp_path: Path) -> None:
    checkpoint = CheckPoint(tmp_path / "a.pt")
    assert checkpoint_empty(None)
    assert checkpoint_empty(checkpoint)
    checkpoint["a"] = 1
    assert not checkpoint_empty(checkpoint)


def test_a_lower_number_removes_nothing_before_the_new_file_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved(tmp_path / "a.pt", 1, 2)
    (tmp_path / "a.pt").write_bytes(b"x")
    checkpoint = CheckPoint(tmp_path / "a.pt", keep=1)
    with pytest.warns(UserWarning, match="damaged checkpoint"):
        checkpoint.load_existing()
    with monkeypatch.context() as broken:
        fail_after(broken, "replace", 2)  # after that of the file itself and of the damaged one: the last
        with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
            checkpoint.commit()
    assert loaded(tmp_path / "a.pt")["value"] == 1


def test_names_are_flushed_after_the_last_rename(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    replace, fsync = os.replace, os.fsync
    monkeypatch.setattr(os, "replace", lambda *args: (done.append("replace"), replace(*args)))
    monkeypatch.setattr(os, "fsync", lambda handle: (done.append("fsync"), fsync(handle)))
    saved(tmp_path / "a.pt", 1)
    assert done[-1] == "fsync"
