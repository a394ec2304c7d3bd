"""Time of one XNAS search step against a first-order DARTS step, and against the number of experts still alive.

    python benchmarks/xnas_step.py [--batch 16] [--channels 16] [--cells 8] [--repeats 5] [--device cpu]

Writes ``benchmarks/results/xnas_step_<device>.json``. In each repeat one step of DARTS is followed by one of XNAS for
every number of survivors; each time is divided by that of DARTS in the same repeat. Survivors are set by hand, the same
on every edge. Operations differ much in cost, so there are two series: keeping the first primitives (pooling and skip
come first), and keeping the last ones before ``none`` (convolutions).
"""

import torch
from _steps import OneStep, machine, parser, spread, write_result

import gradnas as gn
from gradnas.strategies import Xnas
from gradnas.supergraph.mixing import entry

CASES = {
    "all 8 experts": range(8),
    **{f"{n} cheap ones": range(n) for n in (6, 4, 2, 1)},
    **{f"{n} convolutions": range(7 - n, 7) for n in (4, 2, 1)},
}


def keep(step: OneStep, alive: range) -> None:
    """Let only these experts of every edge live, in the way of a resumed search: its masks are in the model."""
    for cell in step.model.owner_cells():
        for op in cell.mixed_ops():
            mask = entry(op.arch_params(), "survivors")
            mask.copy_(torch.tensor([k in alive for k in range(len(mask))]))
    step.strategy.load_state_dict(step.strategy.state_dict())


def main() -> None:
    args = parser(__doc__).parse_args()
    darts, xnas = OneStep(gn.strategies.Darts(order=1), args), OneStep(Xnas(), args)
    reference: list[float] = []
    seconds: dict[str, list[float]] = {name: [] for name in CASES}
    for repeat in range(args.repeats + 1):
        once = {"darts": darts.run()}
        for name, alive in CASES.items():
            keep(xnas, alive)
            once[name] = xnas.run()
        if repeat > 0:  # the first one warms up
            reference.append(once["darts"])
            for name, values in seconds.items():
                values.append(once[name])
    shares = {
        name: spread([own / other for own, other in zip(values, reference, strict=True)])
        for name, values in seconds.items()
    }
    result = {
        "what": "one XNAS search step in seconds against one first-order DARTS step, fused execution",
        "settings": vars(args),
        "n": args.repeats,
        "darts_order_1_s": spread(reference),
        "survivors_per_edge": {
            name: {"seconds": spread(values), "of_darts": shares[name]} for name, values in seconds.items()
        },
        "bar": "at most 1.15 times first-order DARTS with all experts, less as experts fall",
        "machine": machine(),
    }
    target = write_result(f"xnas_step_{args.device.split(':')[0]}", result)
    used = result["machine"]
    print(f"{used['gpu'] or used['processor']}, {used['threads']} threads, torch {torch.__version__}, n={args.repeats}")
    print(f"first-order DARTS     {spread(reference)['median']:7.3f} s/step")
    for name, share in shares.items():
        print(
            f"XNAS, {name:<15} {spread(seconds[name])['median']:7.3f} s/step   of DARTS {share['median']:5.2f}"
            f"   ({share['min']:.2f} to {share['max']:.2f})"
        )
    print(f"-> {target}")


if __name__ == "__main__":
    main()
