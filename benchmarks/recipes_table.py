"""Recipes of retraining and hand-designed networks at equal epochs, several seeds: mean and spread of the accuracy.

    python benchmarks/recipes_table.py --data path/to/set.npz [--epochs 10] [--seeds 0 1 2] [--jobs 2]

DARTS_V2 is trained by the recipe of the preset ``darts-cifar10`` and by that of ``fast-cifar10``, at ``--channels`` and
``--cells`` in place of 36 and 20; ResNet-20 and Shake-Shake 26 2x32d by their presets. Epochs are the only other thing
that is not the preset's; the schedules of the rates end with them.
Writes ``benchmarks/results/recipes_<data>.json`` and ``.md``. Each run keeps its folder in ``--out``; an interrupted
table goes on where it was.
"""

import argparse
import statistics
from dataclasses import replace
from pathlib import Path
from typing import Any

from _steps import machine, write_result
from _tables import each, mean_and_deviation, sampling_error, side_by_side

ROWS = {
    "DARTS_V2, DARTS recipe": ("DARTS_V2", "darts-cifar10"),
    "DARTS_V2, fast recipe": ("DARTS_V2", "fast-cifar10"),
    "ResNet-20": ("resnet20", "resnet20-cifar10"),
    "Shake-Shake 26 2x32d": ("shakeshake26_2x32d", "shakeshake-cifar10"),
}


def run_one(row: str, seed: int, args: argparse.Namespace) -> dict[str, Any]:
    """Train one network, or go on with it; the summary of its folder."""
    import gradnas as gn

    network, preset = ROWS[row]
    conf = gn.config.load_preset(preset)
    recipe = replace(conf.retrain, epochs=args.epochs, max_steps_per_epoch=args.max_steps)
    data = replace(conf.data, source=args.data)
    if network == "DARTS_V2":
        recipe = replace(recipe, channels=args.channels, cells=args.cells)
        conf = gn.config.RunConf(data=data, arch=network, retrain=recipe, seed=seed, device=args.device)
    else:
        conf = replace(conf, data=data, retrain=recipe, seed=seed, device=args.device)
    folder = Path(args.out) / f"{preset}_{seed}"
    return gn.run(conf, out=folder, resume=True, progress=False).summary


def row_of(row: str, seed: int, summary: dict[str, Any]) -> dict[str, Any]:
    """What the table keeps of a run."""
    kept = ("test_accuracy", "test_loss", "test_calibration_error", "params", "macs", "retrain_seconds", "n_test")
    return {"row": row, "seed": seed, **{name: summary[name] for name in kept}}


def table(rows: list[dict[str, Any]], title: str) -> str:
    """The rows as a Markdown table: mean ± standard deviation over the seeds."""
    lines = [
        title,
        "",
        "| network and recipe | test accuracy, % | seeds | each | calibration error, points | parameters "
        "| multiply-adds, M | training, s |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name in ROWS:
        own = sorted((row for row in rows if row["row"] == name), key=lambda row: row["seed"])
        values = [row["test_accuracy"] for row in own]
        lines.append(
            f"| {name} | {mean_and_deviation(values)} | {len(values)} | {each(values)} | "
            f"{statistics.mean(row['test_calibration_error'] for row in own):.1f} | {own[0]['params']:,} | "
            f"{own[0]['macs'] / 1e6:.1f} | {statistics.mean(row['retrain_seconds'] for row in own):.0f} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--data", required=True, help="data set as gradnas takes it: a file, a folder or a name")
    options.add_argument("--epochs", type=int, default=10)
    options.add_argument("--max-steps", type=int, help="stop each epoch after so many steps")
    options.add_argument("--channels", type=int, default=8, help="of DARTS_V2")
    options.add_argument("--cells", type=int, default=8, help="of DARTS_V2")
    options.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    options.add_argument("--jobs", type=int, default=2, help="runs at a time, each on one thread")
    options.add_argument("--device", default="cpu")
    options.add_argument("--out", default="runs/recipes_table")
    args = options.parse_args()

    runs = [(row, seed) for seed in args.seeds for row in ROWS]
    rows: list[dict[str, Any]] = []
    results = side_by_side(run_one, [(row, seed, args) for row, seed in runs], args.jobs)
    for (row, seed), summary in zip(runs, results, strict=True):
        rows.append(row_of(row, seed, summary))
        print(f"{row:24} seed {seed}: {rows[-1]['test_accuracy']:.2f} %", flush=True)

    used, n_test = machine(), rows[0]["n_test"]
    noise = sampling_error((row["test_accuracy"] for row in rows), n_test)
    title = (
        f"{Path(args.data).name}: test accuracy after {args.epochs} epochs, mean ± standard deviation over the seeds "
        f"{args.seeds}; DARTS_V2 with {args.channels} channels and {args.cells} cells; everything else as in the "
        f"presets. One accuracy on {n_test:,} test images has a sampling error of ±{noise:.1f} points (95 %). "
        f"{used['processor']}, one thread per run, torch {used['packages'].get('torch')}."
    )
    text = table(rows, title)
    settings = {key: value for key, value in vars(args).items() if key not in ("data", "out")}
    name = Path(args.data).stem.replace("-", "_")
    contents = {"what": title, "settings": {"data": Path(args.data).name, **settings}, "rows": rows, "machine": used}
    target = write_result(f"recipes_{name}", contents)
    target.with_suffix(".md").write_text(text, encoding="utf-8")
    print(f"{text}-> {target}")


if __name__ == "__main__":
    main()
