"""Time of one DARTS search step (architecture step plus weight step), first and second order, in one run.

    python benchmarks/search_step.py [--batch 16] [--channels 16] [--cells 8] [--repeats 5] [--device cpu]

Prints medians and their ratio, and writes ``benchmarks/results/search_step_<device>.json`` with machine, versions, n
and spread. Steps of the two orders alternate, so a drift of the machine's speed does not favour either.
"""

import torch
from _steps import OneStep, machine, parser, spread, write_result

import gradnas as gn


def main() -> None:
    args = parser(__doc__).parse_args()
    steps = {order: OneStep(gn.strategies.Darts(order=order), args) for order in (1, 2)}
    seconds: dict[int, list[float]] = {1: [], 2: []}
    for repeat in range(args.repeats + 1):
        for order, step in steps.items():
            elapsed = step.run()
            if repeat > 0:  # the first one warms up
                seconds[order].append(elapsed)
    ratio = spread([b / a for a, b in zip(seconds[1], seconds[2], strict=True)])
    result = {
        "what": "one DARTS search step in seconds, plain execution",
        "settings": vars(args),
        "n": args.repeats,
        "order_1_s": spread(seconds[1]),
        "order_2_s": spread(seconds[2]),
        "ratio": ratio,
        "bar": "order 2 costs at most 2.6 times order 1",
        "machine": machine(),
    }
    target = write_result(f"search_step_{args.device.split(':')[0]}", result)
    used = result["machine"]
    print(f"{used['gpu'] or used['processor']}, {used['threads']} threads, torch {torch.__version__}, n={args.repeats}")
    for order in (1, 2):
        print(f"order {order}  {spread(seconds[order])['median']:7.3f} s/step")
    print(f"ratio    {ratio['median']:7.2f}   ({ratio['min']:.2f} to {ratio['max']:.2f})   -> {target}")


if __name__ == "__main__":
    main()
