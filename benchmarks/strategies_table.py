"""All strategies on one data set at equal search budget, several seeds: mean and spread of the retrained test accuracy.

    python benchmarks/strategies_table.py --data path/to/set.npz [--epochs 13] [--seeds 0 1 2] [--jobs 2]

Budget: the multiply-adds of first-order DARTS for ``--epochs`` epochs. A forward pass counts 1, a backward pass for all
weights 2, one for the mixing weights 1, so second order gets 5/13 of the epochs, and random search trains its members
until they have used the same. Single-level methods hold out 10 % of the images to watch and train on the rest. XNAS is
counted as if no expert ever fell. GDAS and PC-DARTS compute a part of the supergraph; at this size their time does not
follow their arithmetic, so they get equal time instead: 4 and 1.5 times the epochs, as their steps measure. Everything
else is equal: space, split, weight optimizer, retraining. Architecture parameters learn at ten times the published
rates, because a search has some hundred steps and not 13,000, but for XNAS, which takes its rate from the schedule, and
DiDARTS, whose published one is high. The diagnostics are those of the last epoch of the search. Writes
``benchmarks/results/strategies_<data>.json`` and ``.md``. Each run keeps its folder in ``--out``; an interrupted table
goes on where it was.
"""

import argparse
import json
import statistics
from pathlib import Path
from typing import Any

from _steps import machine, write_result
from _tables import each, mean_and_deviation, sampling_error, side_by_side

SAMPLES = 8  # members of random search
# Name: the strategy, its epochs as a multiple of those of first-order DARTS, and the share of the images held out. A
# single-level epoch takes 3/5 of the passes on 9/5 of the images; one of DrNAS 21/25 of the passes, warm-up included.
METHODS = {
    "darts_1": ("{name: darts, options: {order: 1, lr: 0.003}}", 1.0, 0.5),
    "darts_2": ("{name: darts, options: {order: 2, lr: 0.003}}", 5 / 13, 0.5),
    "xnas": ("{name: xnas}", 1.0, 0.5),
    "didarts": ("{name: didarts}", 25 / 27, 0.1),
    "snas": ("{name: snas, options: {lr: 0.003}}", 25 / 27, 0.1),
    "gdas": ("{name: gdas, options: {lr: 0.003}}", 4.0, 0.5),
    "drnas": ("{name: drnas, options: {lr: 0.006}}", 25 / 21, 0.5),
    "pcdarts": ("{name: pcdarts, options: {lr: 0.006}}", 1.5, 0.5),
    "fairdarts": ("{name: fairdarts, options: {lr: 0.03}}", 1.0, 0.5),
}
DIAGNOSTICS = ("entropy", "gap", "parameter_free", "skips", "discretization_drop")


def configuration(method: str, seed: int, args: argparse.Namespace) -> str:
    """The YAML configuration of one run; that of random search is the baseline of the first-order run."""
    strategy, share, held_out = METHODS[method]
    return f"""
data: {{source: {json.dumps(args.data)}, image_size: {args.image}}}
space: {{name: darts, options: {{channels: 8, cells: 3, nodes: 3, reductions: 1}}}}
strategy: {strategy}
search:
  epochs: {max(1, round(args.epochs * share))}
  batch_size: 64
  val_ratio: {held_out}
  optimizer: {{lr: 0.05, momentum: 0.9, weight_decay: 0.0003, lr_min: 0.001}}
retrain:
  epochs: {args.retrain_epochs}
  channels: 12
  cells: 5
  batch_size: 64
  drop_path: 0.1
  optimizer: {{lr: 0.1, nesterov: true, weight_decay: 0.0005, warmup_epochs: 2}}
baseline: {{samples: {SAMPLES if method == "darts_1" else 0}}}
seed: {seed}
device: {args.device}
"""


def run_one(text: str, folder: str) -> dict[str, Any]:
    """Run a configuration, or go on with it; the summary of its folder."""
    import gradnas as gn

    summary = gn.run(gn.config.from_yaml(text), out=folder, resume=True, progress=False).summary
    last = json.loads((Path(folder) / "alphas.jsonl").read_text(encoding="utf-8").splitlines()[-1])
    return summary | {name: last[name] for name in DIAGNOSTICS}


def rows_of(method: str, seed: int, summary: dict[str, Any]) -> list[dict[str, Any]]:
    """One row per method that the run tells about."""
    rows = [
        {
            "method": method,
            "seed": seed,
            "test_accuracy": summary["test_accuracy"],
            "search_epochs": summary["search_epochs"],
            "search_seconds": summary["search_seconds"],
            "params": summary["params"],
            "macs": summary["macs"],
            "genotype": summary["genotype"],
            "n_test": summary["n_test"],
            **{name: summary[name] for name in DIAGNOSTICS},
        }
    ]
    if "random_baseline_accuracy" in summary:
        rows.append(
            {
                "method": "random",
                "seed": seed,
                "test_accuracy": summary["random_baseline_accuracy"],
                "search_epochs": summary["random_baseline_epochs_each"],
                "search_seconds": summary["random_baseline_search_seconds"],
                "params": summary["random_baseline_params"],
                "macs": summary["random_baseline_macs"],
                "genotype": summary["random_baseline_genotype"],
                "n_test": summary["n_test"],
            }
        )
    return rows


def table(rows: list[dict[str, Any]], title: str) -> str:
    """The rows as a Markdown table: mean ± standard deviation over the seeds."""
    lines = [
        title,
        "",
        "| method | test accuracy, % | seeds | each | search epochs | search, s | parameters | multiply-adds, M "
        "| entropy, nats | first leads second by | parameter-free | skips | lost by discretization, points |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for method in (*METHODS, "random"):
        own = sorted((row for row in rows if row["method"] == method), key=lambda row: row["seed"])
        if not own:
            continue
        values = [row["test_accuracy"] for row in own]
        epochs = sorted({row["search_epochs"] for row in own})
        lines.append(
            f"| {method} | {mean_and_deviation(values)} | {len(values)} | "
            f"{each(values)} | {', '.join(map(str, epochs))} | "
            f"{statistics.mean(row['search_seconds'] for row in own):.0f} | "
            f"{statistics.mean(row['params'] for row in own):,.0f} | "
            f"{statistics.mean(row['macs'] for row in own) / 1e6:.1f} | {_diagnostics(own)} |"
        )
    return "\n".join(lines) + "\n"


def _diagnostics(rows: list[dict[str, Any]]) -> str:
    """Means over the seeds; random search has no supergraph."""
    if DIAGNOSTICS[0] not in rows[0]:
        return " | ".join("" for _ in DIAGNOSTICS)
    means = [statistics.mean(row[name] for row in rows) for name in DIAGNOSTICS]
    forms = ("{:.2f}", "{:.1%}", "{:.0%}", "{:.1f}", "{:.1f}")
    return " | ".join(form.format(mean) for form, mean in zip(forms, means, strict=True))


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--data", required=True, help="data set as gradnas takes it: a file, a folder or a name")
    options.add_argument("--image", type=int, default=16, help="side in pixels to which images are brought")
    options.add_argument("--epochs", type=int, default=13, help="epochs of a first-order search")
    options.add_argument("--retrain-epochs", type=int, default=15)
    options.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    options.add_argument("--jobs", type=int, default=2, help="runs at a time, each on one thread")
    options.add_argument("--device", default="cpu")
    options.add_argument("--out", default="runs/strategies_table")
    args = options.parse_args()

    runs = [(method, seed) for seed in args.seeds for method in METHODS]
    calls = [(configuration(method, seed, args), str(Path(args.out) / f"{method}_{seed}")) for method, seed in runs]
    rows: list[dict[str, Any]] = []
    for (method, seed), summary in zip(runs, side_by_side(run_one, calls, args.jobs), strict=True):
        new = rows_of(method, seed, summary)
        rows += new
        for row in new:
            print(f"{row['method']:8} seed {seed}: {row['test_accuracy']:.2f} %", flush=True)

    name = Path(args.data).stem.replace("-", "_")
    used = machine()
    n_test = rows[0]["n_test"]
    noise = sampling_error((row["test_accuracy"] for row in rows), n_test)
    title = (
        f"{Path(args.data).name} at {args.image}×{args.image}: test accuracy of the retrained network, mean ± standard "
        f"deviation over the seeds {args.seeds}, equal search multiply-adds (XNAS as if no expert fell; GDAS and "
        "PC-DARTS equal time; single-level methods on 90 % of the images), small space (3 cells, 3 nodes, 8 channels), "
        "architecture parameters at ten times the published rates but for XNAS and DiDARTS. One accuracy "
        f"on {n_test:,} test images has a sampling error of ±{noise:.1f} points (95 %). "
        f"{used['processor']}, one thread per run, torch {used['packages'].get('torch')}."
    )
    text = table(rows, title)
    settings = {key: value for key, value in vars(args).items() if key not in ("data", "out")}
    target = write_result(
        f"strategies_{name}",
        {
            "what": title,
            "settings": {"data": Path(args.data).name, **settings, "random_samples": SAMPLES},
            "configuration": {
                method: configuration(method, 0, args).replace(args.data, Path(args.data).name) for method in METHODS
            },
            "rows": rows,
            "machine": used,
        },
    )
    target.with_suffix(".md").write_text(text, encoding="utf-8")
    print(f"{text}-> {target}")


if __name__ == "__main__":
    main()
