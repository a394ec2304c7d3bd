"""One target for each format that gradnas reads: seeds made by the library, changes to them, and what must hold.

A target gets bytes, calls the reader, and lets through the documented errors alone. What is accepted must keep its
promise: a description is read back equal, images are within the limit, a configuration survives being saved.
"""

import io
import json
import random
import warnings
import zipfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from fuzz_mutations import as_json, change_bytes, change_json, change_members
from PIL import Image
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors

import gradnas as gn
from gradnas.arch import PUBLISHED, Genotype, ModelDesc
from gradnas.config import from_yaml, preset_names, preset_text, to_yaml
from gradnas.config.yaml_dialect import load_yaml
from gradnas.data import load_data
from gradnas.foundation.checksums import checksum, seal, seal_tensors
from gradnas.pipeline import RunFolder, load_weights
from gradnas.pipeline.weights import save_weights
from gradnas.report.records.run_folder import read_run_folder
from gradnas.report.records.run_log import read_metrics, read_mixtures
from gradnas.supergraph import Model
from gradnas.training import CheckPoint, EpochRecord, Score

MAX_BYTES = 2**22
"""Limit for the images of a data set."""

Change = Callable[[bytes, random.Random], bytes]


@dataclass(frozen=True, kw_only=True)
class Target:
    """One format.

    Args:
        read: Reads a document; True when it was accepted. Raises what it does not know.
        documented: Errors that the reader may end in.
        seeds: Valid documents.
        change: Makes another document of a valid or changed one.
    """

    read: Callable[[bytes], bool]
    documented: tuple[type[Exception], ...]
    seeds: Sequence[bytes]
    change: Change


def outcome(target: Target, data: bytes) -> str:
    """``accepted``, ``partly`` or the name of the documented error; anything else is raised."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return "accepted" if target.read(data) else "partly"
    except target.documented as error:
        if not str(error):
            raise AssertionError("the error has no message") from error
        if isinstance(error, UnicodeEncodeError):
            raise AssertionError("accepted what cannot be written") from error
        return type(error).__name__


def small_description() -> ModelDesc:
    """A network of the DARTS space with as little as possible in it."""
    space = gn.spaces.DartsSpace(
        image_size=8, channels=2, cells=3, nodes=1, reductions=1, primitives=("skip_connect", "none")
    )
    return space.build()


def _json_change(seeds: Sequence[bytes]) -> Change:
    def change(data: bytes, chance: random.Random) -> bytes:
        if chance.random() < 0.3:
            return change_bytes(data, chance, seeds)
        with suppress(ValueError, RecursionError):
            return as_json(change_json(json.loads(data), chance), chance)
        return as_json(change_json(json.loads(chance.choice(seeds)), chance), chance)

    return change


def _bytes_change(seeds: Sequence[bytes]) -> Change:
    return lambda data, chance: change_bytes(data, chance, seeds)


def description(folder: Path) -> Target:
    """``ModelDesc.from_json``."""
    del folder
    seeds = [small_description().to_json().encode()]

    def read(data: bytes) -> bool:
        desc = ModelDesc.from_json(data.decode("utf-8", "replace"))
        text = desc.to_json()
        again = ModelDesc.from_json(text)
        assert again == desc
        assert again.hash() == desc.hash()
        text.encode()
        str(desc).encode()
        return True

    return Target(read=read, documented=(ValueError,), seeds=seeds, change=_json_change(seeds))


def genotype(folder: Path) -> Target:
    """``Genotype.from_string``."""
    del folder
    published = [str(g) for g in PUBLISHED.values()]
    seeds = [text.encode() for text in published[:6]]
    seeds.append(b"DARTS = genotypes.Genotype(\n  normal=[[('skip_connect', 0), ('none', 1)]], # a\n"
                 b"  normal_concat=range(2, 3), reduce=[], reduce_concat=[])\n")  # fmt: skip

    def read(data: bytes) -> bool:
        found = Genotype.from_string(data.decode("utf-8", "replace"))
        assert Genotype.from_string(str(found)) == found
        return True

    return Target(read=read, documented=(ValueError,), seeds=seeds, change=_bytes_change(seeds))


def config(folder: Path) -> Target:
    """``from_yaml``."""
    del folder
    seeds = [min(map(preset_text, preset_names()), key=len).encode()]  # short ones: PyYAML is what takes the time
    seeds.append(b"a: &a {epochs: 3}\nsearch: {<<: *a, optimizer: {lr: 1e-3}}\nspace: {name: darts, options: {x: [1]}}")
    seeds.append(b"strategy:\n  name: darts\n  options:\n    order: 1\nsearch: {epochs: 2, fused: no}\nseed: 3\n")
    seeds.append(b"seed: 0x1F\ndevice: cpu\nmax_time: 1h30m\ndata: {source: 2024-01-01, flip: no}\n")

    def read(data: bytes) -> bool:
        conf = from_yaml(data.decode("utf-8", "replace"))
        text = to_yaml(conf)
        text.encode()
        assert repr(load_yaml(text)) == repr(_listed(asdict(conf)))  # YAML has lists alone
        return True

    return Target(read=read, documented=(ValueError,), seeds=seeds, change=_bytes_change(seeds))


def npz(folder: Path) -> Target:
    """``load_data`` of an ``.npz``."""
    path = folder / "set.npz"
    seeds = []
    x, y = np.arange(48, dtype=np.uint8).reshape(2, 2, 4, 3), np.array([0, 1])
    for save, arrays in (
        (np.savez, {"x_train": x, "y_train": y}),
        (np.savez_compressed, {"x_train": x, "y_train": y, "x_test": x, "y_test": y, "classes": np.array(["a", "b"])}),
        (np.savez, {"x_train": np.asfortranarray(x / 9).astype(">f4"), "y_train": y.astype(">f8")}),
    ):
        buffer = io.BytesIO()
        save(buffer, **arrays)
        seeds.append(buffer.getvalue())

    def member(name: str, content: bytes, chance: random.Random) -> bytes:
        del name
        if chance.random() < 0.3:
            return change_bytes(content, chance, seeds)
        head, length = content[:8], int.from_bytes(content[8:10], "little")
        text = content[10 : 10 + length].decode("latin-1")
        old, new = chance.choice((
            ("'|u1'", "'|O'"), ("'|u1'", "'<U9'"), ("'|u1'", "'>u2'"), ("'|u1'", "'V1'"), ("'<i8'", "[('a', '<i8')]"),
            ("'<i8'", "'<U0'"), ("'<i8'", "'>i8'"), ("'<i8'", "'<m8[ns]'"), ("(2,", "(-2,"), ("(2,", "(2**60,"),
            ("(2,", "(1000000000000,"), ("(2,", "(2.0,"), ("(2,", "(0,"), ("(2,", "('2',"), ("False", "True"),
            ("False", "None"), ("'shape'", "'form'"), ("(", "(" * 90), ("'descr'", "'descr': '|u1', 'descr'"),
        ))  # fmt: skip
        fresh = text.replace(old, new, 1).encode("latin-1")
        version = bytes((chance.choice((1, 1, 1, 2, 3, 9)), 0))
        size = chance.choice((len(fresh), len(fresh), 2**16 - 1, 0)).to_bytes(2 if version[0] == 1 else 4, "little")
        return head[:6] + version + size + fresh + content[10 + length :]

    def change(data: bytes, chance: random.Random) -> bytes:
        return _change_zip(data, chance, seeds, lambda name, content: member(name, content, chance))

    return Target(read=lambda data: _read_images(path, data), documented=(ValueError,), seeds=seeds, change=change)


def zip_images(folder: Path) -> Target:
    """``load_data`` of a ``.zip`` of images."""
    path = folder / "set.zip"
    generator = np.random.default_rng(0)
    images: dict[str, bytes] = {}
    for suffix, form in ((".png", "PNG"), (".jpg", "JPEG"), (".bmp", "BMP"), (".ppm", "PPM"), (".webp", "WEBP")):
        for mode in ("L", "RGB", *(("P",) if form == "PNG" else ())):
            shape = (3, 4, 3) if mode == "RGB" else (3, 4)
            buffer = io.BytesIO()
            Image.fromarray(generator.integers(0, 255, shape, dtype=np.uint8), mode if mode != "P" else "L").convert(
                mode
            ).save(buffer, form, **({"transparency": 1} if mode == "P" else {}))
            images[f"{mode}{suffix}"] = buffer.getvalue()
    seeds = []
    for name, content in images.items():
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED if "L" in name else zipfile.ZIP_STORED) as archive:
            archive.writestr(f"train/a/{name}", content)
            archive.writestr(f"train/b/{name}", content)
        seeds.append(buffer.getvalue())

    def change(data: bytes, chance: random.Random) -> bytes:
        others = list(images.values())
        return _change_zip(data, chance, seeds, lambda _, content: change_bytes(content, chance, others))

    return Target(read=lambda data: _read_images(path, data), documented=(ValueError,), seeds=seeds, change=change)


def _change_zip(
    data: bytes, chance: random.Random, seeds: Sequence[bytes], change: Callable[[str, bytes], bytes]
) -> bytes:
    if chance.random() < 0.3:
        return change_bytes(data, chance, seeds)
    try:
        return change_members(data, chance, change)
    except Exception:  # noqa: BLE001 - not even a zip any more: begin again with one
        return change_members(chance.choice(seeds), chance, change)


def _read_images(path: Path, data: bytes) -> bool:
    path.write_bytes(data)
    source = load_data(path, max_bytes=MAX_BYTES)
    for part in (source.train, source.test):
        assert part is None or part.images.nbytes <= MAX_BYTES
    for name in source.train.classes:
        name.encode()
    return True


def checkpoint(folder: Path) -> Target:
    """``CheckPoint.load_existing``, also of a changed content whose checksum is right."""
    path = folder / "search.pt"
    stored = CheckPoint(path)
    stored["epoch"] = 3
    stored["network"] = {"w": torch.arange(6.0).reshape(2, 3), "n": torch.tensor(7), "b": torch.zeros(0)}
    stored["optimizer"] = {"state": {0: {"step": 2}}, "groups": [{"lr": 0.1, "nesterov": False, "betas": (0.9, 0.99)}]}
    stored["metrics"] = [{"phase": "search", "epoch": 0, "train": {"loss": 1.5}, "none": None}]
    stored.commit()
    seeds = [path.read_bytes()]

    def read(data: bytes) -> bool:
        path.write_bytes(data)
        found = CheckPoint(path)
        assert found.load_existing()
        for value in found.values():
            _touch(value)
        return True

    def change(data: bytes, chance: random.Random) -> bytes:
        if chance.random() < 0.2:
            return change_bytes(data, chance, seeds)
        head, _, payload = data.partition(b"\n")
        changed = _change_zip(
            payload,
            chance,
            [seed.partition(b"\n")[2] for seed in seeds],
            lambda _, content: change_bytes(content, chance, [content]),
        )
        words = head.split(b" ")[:3]
        return b" ".join([*words, checksum(changed).encode(), str(len(changed)).encode()]) + b"\n" + changed

    return Target(read=read, documented=(ValueError,), seeds=seeds, change=change)


def _touch(value: Any) -> None:
    """Read every element: a tensor that reached beyond its storage would end the process here."""
    if isinstance(value, torch.Tensor):
        if not value.is_meta and value.layout is torch.strided and value.numel() < 2**20:
            value.clone()
    elif isinstance(value, dict):
        for item in value.values():
            _touch(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            _touch(item)


METRICS: tuple[dict[str, Any], ...] = (
    EpochRecord("search", 0, train=Score(2.0, 10.0), val=Score(2.1, 9.0), lr=0.1, seconds=1.5).to_dict(),
    EpochRecord("retrain", 1, test=Score(1.0, 50.0, 90.0), seconds=2.5, skipped=1).to_dict(),
)
MIXTURES: tuple[dict[str, Any], ...] = (
    {
        "epoch": 0,
        "cells": {
            "regular": {
                "ops": ["skip_connect", "none"],
                "edges": [[0, 0], [0, 1]],
                "edge_ops": [["skip_connect", "none"], ["none", "skip_connect"]],
                "weights": [[0.5, 0.5], [0.25, 0.75]],
                "survivors": [[True, False], [True, True]],
                "alphas": [[0.1, 0.2], [0.0, 0.0]],
            }
        },
        "would_be": {"regular": [[["skip_connect", 0], ["none", 1]]]},
        "strategy": {"bound_hits": {"regular": 0.5}, "rounds": {"regular": [1, 10]}, "eta": {"regular": 0.1}},
        "entropy": 0.6,
        "skips": 1,
        "diagnosis": ["skips"],
    },
)


def log(folder: Path) -> Target:
    """The two logs of a run folder."""
    path = folder / "log.jsonl"
    seeds = [
        "".join(json.dumps(seal(record, 8)) + "\n" for record in records).encode() for records in (METRICS, MIXTURES)
    ]

    def read(data: bytes) -> bool:
        path.write_bytes(data)
        problems: list[str] = []
        read_metrics(path, problems)
        records = read_mixtures(path, problems)
        for problem in problems:
            problem.encode()
        return bool(records) and not problems

    def change(data: bytes, chance: random.Random) -> bytes:
        lines = data.split(b"\n")
        at = chance.randrange(len(lines))
        with suppress(ValueError, RecursionError):
            value = json.loads(lines[at])
            plain = {k: v for k, v in value.items() if k != "checksum"} if isinstance(value, dict) else value
            changed = change_json(plain, chance)
            sealed = isinstance(changed, dict) and chance.random() < 0.8
            lines[at] = as_json(seal(changed, 8) if sealed else changed, chance).replace(b"\n", b"")
            return b"\n".join(lines)
        return change_bytes(data, chance, seeds)

    return Target(read=read, documented=(), seeds=seeds, change=change)


def weights(folder: Path) -> Target:
    """``load_weights`` of a network."""
    path = folder / "weights.safetensors"
    model = Model(small_description(), droppath=False, affine=False)
    save_weights(model, path)
    tensors = load_tensors(path.read_bytes())
    seeds = [path.read_bytes(), save_tensors(tensors), save_tensors({"a": torch.zeros(2)}, {"arch": "x"})]

    def read(data: bytes) -> bool:
        path.write_bytes(data)
        load_weights(model, path)
        return True

    def change(data: bytes, chance: random.Random) -> bytes:
        if chance.random() < 0.3:
            return change_bytes(data, chance, seeds)
        whole = data if chance.random() < 0.5 else chance.choice(seeds)
        length = int.from_bytes(whole[:8], "little")
        with suppress(ValueError, RecursionError, AttributeError, TypeError):
            changed = change_json(json.loads(whole[8 : 8 + length]), chance)
            header = as_json(changed, chance)
            made = len(header).to_bytes(8, "little") + header + whole[8 + length :]
            return seal_tensors(made) if chance.random() < 0.5 else made
        return change_bytes(data, chance, seeds)

    return Target(read=read, documented=(ValueError,), seeds=seeds, change=change)


RUN_FILES = ("environment.json", "summary.json", "arch.json", "full_arch.json", "config.yaml", "metrics.jsonl")


def run_folder(folder: Path) -> Target:
    """``gradnas.load`` and the records of the report; the first byte of a document chooses the file it replaces."""
    run = folder / "run"
    RunFolder.create(run, from_yaml(preset_text("demo")))
    made = RunFolder(run)
    # Every part, so that it is whole without a checksum, and no setting, so that it is read in no time.
    parts = "".join(f"{name}: {{}}\n" for name in ("data", "space", "strategy", "search", "retrain", "baseline"))
    rest = "seed: 0\ndevice: cpu\ntensorboard: no\nmax_time: null\ndeterministic: no\n"
    (run / "config.yaml").write_text(parts + rest)
    desc = small_description()
    for name in ("arch.json", "full_arch.json"):
        desc.save(run / name)
    made.write_json("summary.json", {"strategy": "darts", "test_accuracy": 51.5, "genotype": None, "seconds": [1, 2]})
    for record in METRICS:
        made.append("metrics.jsonl", record)
    seeds = [bytes((i,)) + (run / name).read_bytes() for i, name in enumerate(RUN_FILES)]

    def read(data: bytes) -> bool:
        path = run / RUN_FILES[data[0] % len(RUN_FILES)] if data else run / RUN_FILES[0]
        before = path.read_bytes()
        try:
            path.write_bytes(data[1:])
            seen = read_run_folder(run)
            for problem in seen.problems:
                problem.encode()
            result = gn.load(run)
            result.summary  # noqa: B018 - reads the file
            result.arch  # noqa: B018
            if path.name == "config.yaml":
                result.config  # noqa: B018
            result.metrics("search")
            repr(result).encode()
            return not seen.problems
        finally:
            path.write_bytes(before)

    def change(data: bytes, chance: random.Random) -> bytes:
        which, content = data[:1] or b"\x00", data[1:]
        with suppress(ValueError, RecursionError):
            value = json.loads(content)
            if isinstance(value, dict) and chance.random() < 0.8:
                changed = change_json({k: v for k, v in value.items() if k != "checksum"}, chance)
                sealed = isinstance(changed, dict) and chance.random() < 0.8
                return which + as_json(seal(changed) if sealed else changed, chance)
        return chance.choice((which, bytes((chance.randrange(256),)))) + change_bytes(content, chance, seeds)

    return Target(read=read, documented=(ValueError, FileNotFoundError), seeds=seeds, change=change)


TARGETS: dict[str, Callable[[Path], Target]] = {
    "description": description,
    "genotype": genotype,
    "config": config,
    "npz": npz,
    "zip": zip_images,
    "checkpoint": checkpoint,
    "log": log,
    "weights": weights,
    "run_folder": run_folder,
}


def _listed(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _listed(item) for key, item in value.items()}
    return [_listed(item) for item in value] if isinstance(value, (list, tuple)) else value
