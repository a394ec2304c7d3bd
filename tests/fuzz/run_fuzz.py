"""Fuzzes every reader with coverage guidance: ``make fuzz``, or ``python tests/fuzz/run_fuzz.py [FORMAT ...]``.

    python tests/fuzz/run_fuzz.py [--inputs 100000] [--seed 1] [--save DIR] [--write] [FORMAT ...]

Each format runs in a process of its own, so that the end of the interpreter is a finding and not the end of the run.
Half of the inputs come from changes that know the structure of the format, half from libFuzzer's own. A finding is an
error that is not documented, one input that takes more than two seconds of processor time or a process whose memory
grows by more than 512 MiB; its input is saved. ``--write`` puts the figures into ``benchmarks/results/fuzz.json``.
"""

import argparse
import contextlib
import hashlib
import importlib.metadata
import json
import os
import platform
import random
import re
import resource
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from pathlib import Path
from typing import Any

FORMATS = ("description", "genotype", "config", "npz", "zip", "checkpoint", "log", "weights", "run_folder")
RESULTS = Path(__file__).parents[2] / "benchmarks" / "results" / "fuzz.json"
SLOW_S = 2.0
MOST_GROWTH_MIB = 512
ADDRESS_SPACE_BYTES = 3 * 2**30  # beyond what the imports have taken
LONGEST_INPUT_BYTES = 2**14
_INSTRUMENTED = ["gradnas.arch", "gradnas.foundation", "gradnas.config", "gradnas.data", "gradnas.training.checkpoint",
                 "gradnas.report.records", "gradnas.pipeline", "yaml"]  # fmt: skip


def fuzz(name: str, inputs: int, seed: int, save: Path, report: Path) -> None:
    """Feed one target in this process until it had so many inputs; does not return."""
    import atheris

    with atheris.instrument_imports(include=_INSTRUMENTED, enable_loader_override=False):
        from fuzz_targets import TARGETS, outcome

    folder = tempfile.TemporaryDirectory(dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None)
    target = TARGETS[name](Path(folder.name))
    outcomes: Counter[str] = Counter()
    findings: dict[str, str] = {}
    slowest = 0.0
    for data in target.seeds:
        outcome(target, data)
    before_mib = _peak_mib()
    with open("/proc/self/statm", encoding="ascii") as memory:
        taken = int(memory.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (taken + ADDRESS_SPACE_BYTES,) * 2)
    start = time.perf_counter()

    def found(data: bytes, what: str, text: str) -> None:
        if what not in findings:
            path = save / f"{name}-{hashlib.sha256(data).hexdigest()[:12]}"
            path.write_bytes(data)
            findings[what] = f"{path.name}: {text}"
            print(f"FINDING {name}: {what}\n{text}", file=sys.stderr)

    def one(data: bytes) -> None:
        nonlocal slowest
        began = time.process_time()
        try:
            outcomes[outcome(target, data)] += 1
        except Exception as error:  # noqa: BLE001 - whatever is not documented is what is looked for
            place = traceback.extract_tb(error.__traceback__)[-1]
            found(data, f"{type(error).__name__} in {Path(place.filename).name}:{place.lineno}", traceback.format_exc())
        took = time.process_time() - began
        slowest = max(slowest, took)
        if took > SLOW_S:
            found(data, "slow", f"{took:.1f} s for {len(data):,} bytes")
        if _peak_mib() - before_mib > MOST_GROWTH_MIB:
            found(data, "memory", f"{_peak_mib()} MiB, {before_mib} MiB before")
        done = sum(outcomes.values()) + sum(1 for _ in findings)
        if done % 500 == 0 or done >= inputs:
            figures = {
                "inputs": done,
                "seconds": round(time.perf_counter() - start, 1),
                "outcomes": dict(sorted(outcomes.items())),
                "slowest_input_s": round(slowest, 3),
                "peak_memory_mib": _peak_mib(),
                "memory_growth_mib": _peak_mib() - before_mib,
                "findings": findings,
            }
            report.write_text(json.dumps(figures), encoding="utf-8")
        if done >= inputs:
            folder.cleanup()
            sys.stderr.flush()
            os._exit(0)

    def mutate(data: bytes, longest: int, number: int) -> bytes:
        chance = random.Random(number)
        if chance.random() < 0.5:
            data = target.change(data or target.seeds[0], chance)
            return data[:longest]
        return atheris.Mutate(data, longest)

    corpus = Path(folder.name) / "corpus"
    corpus.mkdir()
    for i, data in enumerate(target.seeds):
        (corpus / str(i)).write_bytes(data)
    options = [
        f"-seed={seed}",
        f"-max_len={LONGEST_INPUT_BYTES}",
        "-timeout=60",
        "-rss_limit_mb=0",
        "-print_final_stats=1",
    ]
    atheris.Setup([sys.argv[0], *options, f"-artifact_prefix={save}/{name}-", str(corpus)], one, custom_mutator=mutate)
    atheris.Fuzz()


def _peak_mib() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def run(name: str, inputs: int, seed: int, save: Path) -> dict[str, Any]:
    """Fuzz one format in a process of its own; its figures, what ended it among the findings."""
    report = save / f"{name}.json"
    report.unlink(missing_ok=True)
    command = [
        sys.executable,
        __file__,
        "--inputs",
        str(inputs),
        "--seed",
        str(seed),
        "--save",
        str(save),
        "--in",
        name,
    ]
    log = save / f"{name}.log"
    with open(log, "w", encoding="utf-8") as stream:
        done = subprocess.run(command, stdout=stream, stderr=stream, check=False)
    text = log.read_text(encoding="utf-8", errors="replace")
    figures: dict[str, Any] = {"inputs": 0, "findings": {}}
    with contextlib.suppress(OSError, ValueError):
        figures = json.loads(report.read_text(encoding="utf-8"))
    coverage = re.findall(r"cov: (\d+) ft: (\d+)", text)
    figures["coverage"] = {"edges": int(coverage[-1][0]), "features": int(coverage[-1][1])} if coverage else None
    if done.returncode != 0:
        figures["findings"]["process ended"] = f"code {done.returncode}: {' '.join(text[-2000:].split())}"
    return figures


def main() -> int:
    """Fuzz the formats one after the other; 1 where something was found."""
    parser = argparse.ArgumentParser(description="Fuzz the readers of gradnas.")
    parser.add_argument("formats", nargs="*", metavar="FORMAT", help=", ".join(FORMATS))
    parser.add_argument("--inputs", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--save", type=Path, help="where inputs of findings go, by default a new temporary folder")
    parser.add_argument("--write", action="store_true", help=f"put the figures into {RESULTS.name}")
    parser.add_argument("--in", dest="inside", choices=FORMATS, help=argparse.SUPPRESS)
    given = parser.parse_args()
    unknown = set(given.formats) - set(FORMATS)
    if unknown:
        parser.error(f"unknown format {sorted(unknown)[0]!r}; known: {', '.join(FORMATS)}")
    save = given.save or Path(tempfile.mkdtemp(prefix="gradnas-fuzz-"))
    save.mkdir(parents=True, exist_ok=True)
    if given.inside:
        fuzz(given.inside, given.inputs, given.seed, save, save / f"{given.inside}.json")
    try:
        importlib.metadata.version("atheris")
    except importlib.metadata.PackageNotFoundError:
        print("fuzzing needs the package atheris: pip install 'gradnas[fuzz]'", file=sys.stderr)
        return 2
    results: dict[str, Any] = {}
    for name in given.formats or FORMATS:
        results[name] = run(name, given.inputs, given.seed, save)
        found = results[name]["findings"]
        print(
            f"{name}: {results[name]['inputs']:,} inputs, {len(found)} findings, {results[name].get('seconds')} s",
            flush=True,
        )
        for what, text in found.items():
            print(f"  {what}: {text}")
    print(f"logs, and inputs of findings: {save}")
    if given.write:
        _write(results, given.inputs)
    return 1 if any(result["findings"] for result in results.values()) else 0


def _write(results: dict[str, Any], inputs: int) -> None:
    """The figures of this run in place of older ones of the same formats."""
    known: dict[str, Any] = {}
    with contextlib.suppress(OSError, ValueError):
        known = json.loads(RESULTS.read_text(encoding="utf-8"))["formats"]
    formats = {name: {**known, **results}[name] for name in FORMATS if name in {**known, **results}}
    packages = ("gradnas", "torch", "numpy", "pillow", "pyyaml", "safetensors", "atheris")
    document = {
        "what": "inputs fed to each reader, half of them changed by rules that know the format, half by libFuzzer",
        "command": f"python tests/fuzz/run_fuzz.py --inputs {inputs} --write",
        "bounds": {"seconds_of_one_input": SLOW_S, "memory_growth_mib": MOST_GROWTH_MIB},
        "findings": sum(len(result["findings"]) for result in formats.values()),
        "formats": formats,
        "machine": {"processor": platform.machine(), "system": platform.system(), "cpu_count": os.cpu_count()},
        "versions": {"python": platform.python_version(), **{p: importlib.metadata.version(p) for p in packages}},
    }
    RESULTS.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
