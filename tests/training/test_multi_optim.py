"""Tests of ``src/gradnas/training/multi_optim.py``."""

import math

import pytest
import torch
from torch.nn import Parameter
from torch.optim import SGD, Adam, AdamW
from torch.optim.lr_scheduler import LambdaLR

from gradnas.training import MultiOptim, OptimConf, OptimSched, create_optimizer, create_scheduler


def rates(conf: OptimConf, epochs: int) -> list[float]:
    """Learning rate of every epoch, and after the last."""
    optimizer = create_optimizer(conf, [Parameter(torch.zeros(1))])
    multi = MultiOptim([OptimSched(optimizer, create_scheduler(conf, optimizer, epochs))])
    seen = []
    for _ in range(epochs):
        seen.append(multi.get_lr())
        multi.step()
        multi.epoch()
    return [*seen, multi.get_lr()]


def param(value: float = 1.0) -> Parameter:
    parameter = Parameter(torch.full((2,), value))
    parameter.grad = torch.ones(2)
    return parameter


def stepped(multi: MultiOptim, steps: int) -> None:
    for _ in range(steps):
        for part in multi:
            for group in part.optimizer.param_groups:
                for p in group["params"]:
                    p.grad = torch.full_like(p, 0.5)
        multi.step()
        multi.epoch()


@pytest.mark.parametrize("epochs", [1, 2, 7, 50])
def test_cosine_is_the_published_formula_in_every_epoch(epochs: int) -> None:
    expected = [0.001 + (0.025 - 0.001) * (1 + math.cos(math.pi * e / epochs)) / 2 for e in range(epochs + 1)]
    assert rates(OptimConf(lr=0.025, lr_min=0.001), epochs) == pytest.approx(expected, rel=1e-9)


def test_cosine_ends_at_its_minimum() -> None:
    assert rates(OptimConf(lr=0.025, lr_min=0.001), 5)[-1] == pytest.approx(0.001)


def test_constant_rate_stays() -> None:
    assert rates(OptimConf(lr=0.1, schedule="constant"), 4) == [0.1] * 5


@pytest.mark.parametrize("n", [1, 2, 5])
def test_warmup_rises_evenly_from_a_fraction_to_the_rate(n: int) -> None:
    seen = rates(OptimConf(lr=0.2, warmup_epochs=n), 12)
    assert seen[:n] == pytest.approx([0.2 * (e + 1) / n for e in range(n)])
    assert seen[n] == pytest.approx(0.2)


def test_cosine_after_the_warmup_takes_the_rest_of_the_epochs() -> None:
    seen = rates(OptimConf(lr=0.2, lr_min=0.01, warmup_epochs=3), 10)
    expected = [0.01 + 0.19 * (1 + math.cos(math.pi * e / 7)) / 2 for e in range(8)]
    assert seen[3:] == pytest.approx(expected, rel=1e-9)


def test_constant_rate_follows_the_warmup() -> None:
    assert rates(OptimConf(lr=0.2, warmup_epochs=2, schedule="constant"), 4) == pytest.approx([0.1, *[0.2] * 4])


@pytest.mark.parametrize("epochs", [1, 2, 3])
def test_warmup_longer_than_the_run_stays_in_range(epochs: int) -> None:
    seen = rates(OptimConf(lr=0.2, warmup_epochs=5), epochs)
    assert seen == pytest.approx([0.04 * (e + 1) for e in range(epochs + 1)])


def test_every_setting_reaches_sgd() -> None:
    group = create_optimizer(OptimConf(lr=0.3, momentum=0.8, weight_decay=0.01, nesterov=True), [param()]).param_groups[
        0
    ]
    assert [group[key] for key in ("lr", "momentum", "weight_decay", "nesterov")] == [0.3, 0.8, 0.01, True]


@pytest.mark.parametrize(("name", "kind"), [("sgd", SGD), ("adam", Adam), ("adamw", AdamW)])
def test_optimizers_go_by_name(name: str, kind: type) -> None:
    optimizer = create_optimizer(OptimConf(name=name, lr=0.3, weight_decay=0.02), [param()])  # type: ignore[arg-type]
    assert type(optimizer) is kind
    assert (optimizer.param_groups[0]["lr"], optimizer.param_groups[0]["weight_decay"]) == (0.3, 0.02)


def test_order_of_the_parameters_is_kept() -> None:
    params = [param(float(i)) for i in range(5)]
    kept = create_optimizer(OptimConf(), iter(params)).param_groups[0]["params"]
    assert [id(p) for p in kept] == [id(p) for p in params]


def test_parameter_in_two_optimizers_is_refused() -> None:
    shared = param()
    multi = MultiOptim([OptimSched(SGD([shared, param()], lr=0.1))])
    with pytest.raises(ValueError, match="1 parameters are in two optimizers"):
        multi.append(OptimSched(Adam([shared], lr=0.1)))
    assert len(multi) == 1


def test_step_moves_the_parameters_of_every_optimizer() -> None:
    a, b = param(), param()
    MultiOptim([OptimSched(SGD([a], lr=0.1)), OptimSched(SGD([b], lr=0.5))]).step()
    assert torch.equal(a, torch.full((2,), 0.9))
    assert torch.equal(b, torch.full((2,), 0.5))


def test_zero_grad_forgets_all_gradients() -> None:
    a, b = param(), param()
    MultiOptim([OptimSched(SGD([a], lr=0.1)), OptimSched(SGD([b], lr=0.5))]).zero_grad()
    assert a.grad is None
    assert b.grad is None


def test_schedules_step_per_epoch_or_per_step_as_declared() -> None:
    first, second = SGD([param()], lr=1.0), SGD([param()], lr=1.0)
    multi = MultiOptim(
        [
            OptimSched(first, LambdaLR(first, lambda e: 0.5**e)),
            OptimSched(second, LambdaLR(second, lambda e: 0.1**e), sched_on_epoch=False),
        ]
    )
    multi.step()
    multi.step()
    assert (multi.get_lr(0), multi.get_lr(1)) == (1.0, pytest.approx(0.01))
    multi.epoch()
    assert (multi.get_lr(0), multi.get_lr(1)) == (0.5, pytest.approx(0.01))


def test_rate_of_a_group_is_found() -> None:
    optimizer = SGD([{"params": [param()], "lr": 0.1}, {"params": [param()], "lr": 0.7}], lr=1.0)
    assert MultiOptim([OptimSched(optimizer)]).get_lr(0, 1) == 0.7


@pytest.mark.parametrize("warmup", [0, 3])
def test_restored_state_continues_bit_for_bit(warmup: int) -> None:
    conf = OptimConf(lr=0.3, lr_min=0.01, warmup_epochs=warmup)

    def fresh() -> tuple[Parameter, MultiOptim]:
        p = param()
        optimizer = create_optimizer(conf, [p])
        return p, MultiOptim([OptimSched(optimizer, create_scheduler(conf, optimizer, 10))])

    through, whole = fresh()
    stepped(whole, 8)
    before, first = fresh()
    stepped(first, 4)
    after, second = fresh()
    second.load_state_dict(first.state_dict({id(before): "w"}), {id(after): "w"})
    with torch.no_grad():
        after.copy_(before)
    stepped(second, 4)
    assert torch.equal(after, through)
    assert second.get_lr() == whole.get_lr()


def test_state_of_parameters_in_another_order_is_refused() -> None:
    a, b = param(), param()
    stored = MultiOptim([OptimSched(SGD([a, b], lr=0.1))]).state_dict({id(a): "a", id(b): "b"})
    with pytest.raises(ValueError, match="expected 'b', found 'a'"):
        MultiOptim([OptimSched(SGD([b, a], lr=0.1))]).load_state_dict(stored, {id(a): "a", id(b): "b"})


def test_state_of_another_number_of_optimizers_is_refused() -> None:
    with pytest.raises(ValueError, match="expected the state of 1 optimizers, found 0"):
        MultiOptim([OptimSched(SGD([param()], lr=0.1))]).load_state_dict([], {})


@pytest.mark.parametrize("warmup", [0, 2])
@pytest.mark.parametrize("schedule", ["cosine", "constant"])
@pytest.mark.parametrize("when", [0, 1, 3])
def test_a_scaled_rate_is_scaled_for_the_rest_of_the_schedule(schedule: str, warmup: int, when: int) -> None:
    conf = OptimConf(lr=0.4, lr_min=0.1 if schedule == "cosine" else 0.0, schedule=schedule, warmup_epochs=warmup)  # type: ignore[arg-type]
    optimizer = create_optimizer(conf, [param()])
    multi = MultiOptim([OptimSched(optimizer, create_scheduler(conf, optimizer, 7))])
    seen = []
    for epoch in range(7):
        if epoch == when:
            multi.scale_lr(0.25)
        seen.append(multi.get_lr())
        multi.step()
        multi.epoch()
    expected = [rate * (0.25 if epoch >= when else 1.0) for epoch, rate in enumerate(rates(conf, 7)[:-1])]
    assert seen == pytest.approx(expected, rel=1e-12)


def test_a_scaled_rate_is_part_of_the_state() -> None:
    def make() -> MultiOptim:
        conf = OptimConf(lr=0.4, lr_min=0.1, warmup_epochs=2)
        optimizer = create_optimizer(conf, [weight])
        return MultiOptim([OptimSched(optimizer, create_scheduler(conf, optimizer, 6))])

    weight = param()
    names = {id(weight): "weight"}
    first, second = make(), make()
    first.scale_lr(0.5)
    second.load_state_dict(first.state_dict(names), names)
    rates_of = []
    for multi in (first, second):
        rates_of.append([])
        for _ in range(6):
            rates_of[-1].append(multi.get_lr())
            multi.step()
            multi.epoch()
    assert rates_of[0] == rates_of[1]
    assert max(rates_of[0]) == 0.2
