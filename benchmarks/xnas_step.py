"""Time of one XNAS search step against a first-order DARTS step, and against the number of experts still alive.

    python benchmarks/xnas_step.py [--batch 16] [--channels 16] [--cells 8] [--repeats 5] [--device cpu]

Writes ``benchmarks/results/xnas_step_<device>.json``. The steps alternate in one run; each ratio is of two neighbours.
Survivors are set by hand, on every edge the same number: the first ones in the order of the primitives, so that what is
left when few are left is cheap (pooling, skip); the second column of numbers keeps the last ones, convolutions.
"""

import torch
from _steps import OneStep, machine, parser, spread, write_result

import gradnas as gn
from gradnas.strategies import Xnas
from gradnas.supergraph.mixing import entry

SURVIVORS = (8, 6, 4, 2, 1)


def keep(step: OneStep, alive: range) -> None:
    """Let only these experts of every edge live; ``none``, the last one, counts as one."""
    masks = []
    for cell in step.model.owner_cells():
        masks.append([entry(op.arch_params(), "survivors") for op in cell.mixed_ops()])
        for mask in masks[-1]:
            mask.copy_(torch.tensor([k in alive for k in range(len(mask))]))
    assert isinstance(step.strategy, Xnas)
    step.strategy._drop_fallen(masks)


def main() -> None:
    args = parser(__doc__).parse_args()
    darts = OneStep(gn.strategies.Darts(order=1), args)
    xnas = OneStep(Xnas(), args)
    cases = {
        **{f"{n} first": range(n) for n in SURVIVORS},
        **{f"{n} last but none": range(7 - n, 7) for n in SURVIVORS[1:]},
    }
    darts_s: list[float] = []
    seconds: dict[str, list[float]] = {name: [] for name in cases}
    ratios: dict[str, list[float]] = {name: [] for name in cases}
    for repeat in range(args.repeats + 1):
        for name, alive in cases.items():
            reference = darts.run() if name == next(iter(cases)) else darts_s[-1] if darts_s else 1.0
            keep(xnas, alive)
            elapsed = xnas.run()
            if repeat > 0:  # the first one warms up
                if name == next(iter(cases)):
                    darts_s.append(reference)
                seconds[name].append(elapsed)
                ratios[name].append(elapsed / darts_s[-1])
    result = {
        "what": "one XNAS search step in seconds against one first-order DARTS step, plain execution",
        "settings": vars(args),
        "n": args.repeats,
        "darts_order_1_s": spread(darts_s),
        "survivors_per_edge": {
            name: {"seconds": spread(seconds[name]), "of_darts": spread(ratios[name])} for name in cases
        },
        "bar": "at most 1.15 times first-order DARTS with all experts, less as experts fall",
        "machine": machine(),
    }
    target = write_result(f"xnas_step_{args.device.split(':')[0]}", result)
    used = result["machine"]
    print(f"{used['gpu'] or used['processor']}, {used['threads']} threads, torch {torch.__version__}, n={args.repeats}")
    print(f"first-order DARTS      {spread(darts_s)['median']:7.3f} s/step")
    for name in cases:
        share = spread(ratios[name])
        print(
            f"XNAS, {name:<16} {spread(seconds[name])['median']:7.3f} s/step   of DARTS {share['median']:5.2f}"
            f"   ({share['min']:.2f} to {share['max']:.2f})"
        )
    print(f"-> {target}")


if __name__ == "__main__":
    main()
