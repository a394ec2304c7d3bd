"""Changes to valid documents: of bytes, of JSON values, of lines, and of the members of a zip."""

import io
import json
import random
import zipfile
from collections.abc import Callable, Sequence
from typing import Any

NUMBERS: tuple[Any, ...] = (
    *(0, -1, 1, 2, 3, 255, 2**31 - 1, 2**31, 2**53, 2**63 - 1, 2**63, 2**64, 10**9, 10**18, 10**400),
    *(0.5, -0.0, 1e-320, 1e308, float("inf"), float("nan"), True, False),
)
TEXTS = ("", "a", "regular", "../x", "/etc/passwd", "\x00", "\ud800", "é" * 5, "a.b.C", "os.system", "x" * 5000, "1:30")
TOKENS = (
    *(
        b"null",
        b"NaN",
        b"Infinity",
        b"-",
        b"1e999",
        b'"\\ud800"',
        b"[" * 3000,
        b'{"a":' * 500,
        b"9" * 5000,
        b"\xff\xfe",
    ),
    *(b"&a [*a]", b"<<: *a", b"!!python/object/apply:os.system [x]", b"!!binary aGk=", b"1:30", b"0x10", b"~", b"? "),
    *(b"range(2, 10**9)", b"__import__('os')", b"lambda: 0", b"(" * 200, b"\\x41", b"PK\x03\x04", b"PK\x01\x02"),
    *(b"'none'", b"'max_pool_3x3'", b"0", b"2", b"[]", b"range(2, 6)", b", ", b"'", b")]"),
    *(b"\x00" * 8, b"\xff" * 8, b"\x7f\xff\xff\xff", b"\x80\x02", b"cposix\nsystem\n", b"\x93NUMPY\x01\x00"),
)
_FEWEST_KINDS = 8


def change_bytes(data: bytes, chance: random.Random, others: Sequence[bytes]) -> bytes:
    """One to four changes: a bit, a byte, a token, a part removed, repeated, cut off, or of another document."""
    changed = bytearray(data or b"\x00")
    for _ in range(chance.choice((1, 1, 2, 4))):
        at = chance.randrange(len(changed) + 1)
        end = min(len(changed), at + chance.choice((1, 2, 4, 8, 64)))
        kind = chance.randrange(_FEWEST_KINDS)
        if kind == 0 and at < len(changed):
            changed[at] ^= 1 << chance.randrange(8)
        elif kind == 1:
            changed[at:end] = chance.randbytes(end - at)
        elif kind == 2:
            changed[at:at] = chance.choice(TOKENS)
        elif kind == 3:
            changed[at:end] = chance.choice(TOKENS)
        elif kind == 4:
            del changed[at:end]
        elif kind == 5:
            changed[at:at] = changed[at:end] * chance.choice((1, 2, 50))
        elif kind == 6:
            del changed[at:]
        else:
            other = chance.choice(others)
            start = chance.randrange(len(other) + 1)
            changed[at:end] = other[start : start + chance.choice((8, 64, 512))]
    return bytes(changed)


def change_json(value: Any, chance: random.Random) -> Any:
    """A copy of a JSON value with one to three of its parts replaced, removed, repeated, renamed or nested."""
    changed = json.loads(json.dumps(value))
    for _ in range(chance.choice((1, 1, 2, 3))):
        places = list(_places(changed))
        if not places:
            return chance.choice((changed, *NUMBERS, *TEXTS))
        parent, key = chance.choice(places)
        kind = chance.randrange(_FEWEST_KINDS)
        if kind == 0:
            parent[key] = chance.choice(NUMBERS)
        elif kind == 1:
            parent[key] = chance.choice(TEXTS)
        elif kind == 2:
            parent[key] = chance.choice((None, [], {}, [parent[key]], {"a": parent[key]}))
        elif kind == 3:
            del parent[key]
        elif kind == 4 and isinstance(parent, list):
            parent.insert(key, parent[key])
        elif kind == 5 and isinstance(parent, dict):
            parent[chance.choice((*TEXTS, key + "s"))] = parent.pop(key)
        elif kind == 6:
            other, other_key = chance.choice(places)
            parent[key] = json.loads(json.dumps(other[other_key])) if _holds(other, other_key) else None
        else:
            for _ in range(chance.choice((1, 10, 90))):
                parent[key] = [parent[key]] if chance.random() < 0.5 else {"children": parent[key]}
    return changed


def _holds(parent: Any, key: Any) -> bool:
    return key in parent if isinstance(parent, dict) else key < len(parent)


def _places(value: Any) -> list[tuple[Any, Any]]:
    found: list[tuple[Any, Any]] = []
    waiting = [value] if isinstance(value, (dict, list)) else []
    while waiting and len(found) < 5000:
        parent = waiting.pop()
        items = list(parent.items()) if isinstance(parent, dict) else list(enumerate(parent))
        found += [(parent, key) for key, _ in items]
        waiting += [inside for _, inside in items if isinstance(inside, (dict, list))]
    return found


def as_json(value: Any, chance: random.Random) -> bytes:
    """JSON text, now and then with a name that comes twice, or in the spelling of halves of characters."""
    text = json.dumps(value, indent=chance.choice((None, 1)))
    if chance.random() < 0.05:
        text = text.replace("{", '{"schema": 1, "schema": 2, ', 1)
    return text.encode("utf-8", "surrogatepass")


def change_members(data: bytes, chance: random.Random, change: Callable[[str, bytes], bytes]) -> bytes:
    """A zip made again: one member changed by ``change(name, content)``, or renamed, repeated, linked or disguised."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = [(member, archive.read(member)) for member in archive.infolist()]
    chosen = chance.randrange(len(members))
    kind = chance.randrange(_FEWEST_KINDS)
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        for i, (member, content) in enumerate(members):
            fresh = zipfile.ZipInfo(member.filename, (1980, 1, 1, 0, 0, 0))
            fresh.compress_type = member.compress_type
            if i == chosen and kind == 0:
                fresh.filename = chance.choice(("../x.png", "/x", "C:/x", "a\\b", "train/a/./1.png", "train/a", "é/é"))
            elif i == chosen and kind == 1:
                fresh.external_attr = chance.choice((0o120777, 0o010666, 0o040755)) << 16
            elif i == chosen and kind == 2:
                fresh.compress_type = chance.choice((zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA, zipfile.ZIP_DEFLATED))
            elif i == chosen:
                content = change(member.filename, content)
            archive.writestr(fresh, content)
    result = bytearray(made.getvalue())
    if kind == 3:  # sizes, offsets and flags of the directory
        at = result.find(b"PK\x01\x02", chance.randrange(len(result)))
        if at >= 0:
            field = chance.choice((8, 10, 16, 20, 24, 28, 30, 32, 38, 42))
            result[at + field : at + field + 4] = chance.choice((0, 1, 2**16, 2**31, 2**32 - 1)).to_bytes(4, "little")
    return bytes(result)
