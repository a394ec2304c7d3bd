"""Tests of ``src/gradnas/training/multi_optim.py``."""

from pathlib import Path

import pytest
import torch
from torch.nn import Parameter
from torch.optim import SGD, Adam
from torch.optim.lr_scheduler import LambdaLR

from gradnas.training import MultiOptim, OptimConf, OptimSched, create_optimizer, create_scheduler


def param(value: float = 1.0) -> Parameter:
    parameter = Parameter(torch.full((2,), value))
    parameter.grad = torch.ones(2)
    return parameter


EPOCHS, STEPS = 7, 3
SCHEDULES: dict[str, OptimConf] = {
    "cosine": OptimConf(lr=0.4, lr_min=0.1),
    "cosine after a warm-up": OptimConf(lr=0.4, lr_min=0.1, warmup_epochs=2, warmup_factor=0.3),
    "constant": OptimConf(lr=0.4, schedule="constant"),
    "constant after a warm-up": OptimConf(lr=0.4, schedule="constant", warmup_epochs=2),
    "exponential": OptimConf(lr=0.4, schedule="exponential", factor=0.7),
    "multistep after a warm-up": OptimConf(lr=0.4, schedule="multistep", milestones=(0.4, 0.8), warmup_epochs=2),
    "onecycle": OptimConf(lr=0.4, schedule="onecycle"),
    "onecycle to a rate": OptimConf(lr=0.4, lr_min=0.1, schedule="onecycle", warmup_epochs=2),
}


def scheduled(conf: OptimConf, weight: Parameter) -> MultiOptim:
    optimizer = create_optimizer(conf, [weight])
    scheduler = create_scheduler(conf, optimizer, EPOCHS, STEPS)
    return MultiOptim([OptimSched(optimizer, scheduler, sched_on_epoch=not conf.schedule_per_step)])


def walk(multi: MultiOptim, first: int = 0, last: int = EPOCHS * STEPS) -> list[float]:
    """The rates of the steps from ``first`` to before ``last``, each of which moves the parameters."""
    seen = []
    for step in range(first, last):
        seen.append(multi.get_lr())
        for p in multi.params():
            p.grad = torch.full_like(p, 0.5)
        multi.step()
        if step % STEPS == STEPS - 1:
            multi.epoch()
    return seen


def stepped(multi: MultiOptim, steps: int) -> None:
    for _ in range(steps):
        for part in multi:
            for group in part.optimizer.param_groups:
                for p in group["params"]:
                    p.grad = torch.full_like(p, 0.5)
        multi.step()
        multi.epoch()


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


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("stop", [1, 7, 12])
def test_restored_state_continues_bit_for_bit_from_any_step(name: str, stop: int) -> None:
    conf = SCHEDULES[name]
    through, before, after = param(), param(), param()
    expected = walk(whole := scheduled(conf, through))
    first, second = scheduled(conf, before), scheduled(conf, after)
    seen = walk(first, 0, stop)
    second.load_state_dict(first.state_dict({id(before): "w"}), {id(after): "w"})
    with torch.no_grad():
        after.copy_(before)
    assert seen + walk(second, stop) == expected
    assert torch.equal(after, through)
    assert second.get_lr() == whole.get_lr()


class Stateless(torch.optim.Optimizer):
    """Steps by the sign of the gradient and remembers nothing."""

    def __init__(self, params: object, lr: float) -> None:
        super().__init__(params, {"lr": lr})  # type: ignore[arg-type]  # what torch takes

    def step(self, closure: object = None) -> None:  # type: ignore[override]  # it has no use for one
        with torch.no_grad():
            for group in self.param_groups:
                for p in group["params"]:
                    p.sub_(group["lr"] * p.grad.sign())


def test_an_optimizer_without_state_and_with_groups_is_saved_and_restored(tmp_path: Path) -> None:
    weights = [param(), param()]
    names = {id(weights[0]): "a", id(weights[1]): "b"}

    def make() -> MultiOptim:
        groups = [{"params": weights[:1], "lr": 0.1}, {"params": weights[1:], "lr": 0.7}]
        optimizer = Stateless(groups, lr=1.0)
        return MultiOptim([OptimSched(optimizer, LambdaLR(optimizer, lambda e: 0.5**e))])

    first, second = make(), make()
    stepped(first, 2)
    torch.save(first.state_dict(names), tmp_path / "state.pt")
    second.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True), names)
    assert [second.get_lr(0, group) for group in (0, 1)] == pytest.approx([0.025, 0.175])
    stepped(second, 1)
    assert [second.get_lr(0, group) for group in (0, 1)] == pytest.approx([0.0125, 0.0875])


def test_state_of_parameters_in_another_order_is_refused() -> None:
    a, b = param(), param()
    stored = MultiOptim([OptimSched(SGD([a, b], lr=0.1))]).state_dict({id(a): "a", id(b): "b"})
    with pytest.raises(ValueError, match="expected 'b', found 'a'"):
        MultiOptim([OptimSched(SGD([b, a], lr=0.1))]).load_state_dict(stored, {id(a): "a", id(b): "b"})


def test_state_of_another_number_of_optimizers_is_refused() -> None:
    with pytest.raises(ValueError, match="expected the state of 1 optimizers, found 0"):
        MultiOptim([OptimSched(SGD([param()], lr=0.1))]).load_state_dict([], {})


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("when", [0, 1, 4, 10, 20])
def test_a_scaled_rate_is_scaled_for_the_rest_of_the_schedule(name: str, when: int) -> None:
    expected = walk(scheduled(SCHEDULES[name], param()))
    multi = scheduled(SCHEDULES[name], param())
    seen = walk(multi, 0, when)
    multi.scale_lr(0.25)
    assert seen + walk(multi, when) == pytest.approx(
        [rate * (0.25 if step >= when else 1.0) for step, rate in enumerate(expected)], rel=1e-12
    )


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_scaled_rate_is_part_of_the_state(name: str) -> None:
    weight = param()
    names = {id(weight): "weight"}
    first, second = scheduled(SCHEDULES[name], weight), scheduled(SCHEDULES[name], weight)
    walk(first, 0, 4)
    first.scale_lr(0.5)
    second.load_state_dict(first.state_dict(names), names)
    rates = walk(first, 4)
    assert walk(second, 4) == rates
    assert max(rates) <= 0.2


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_batch_that_is_left_out_keeps_its_place_in_the_schedule(name: str) -> None:
    expected = walk(scheduled(SCHEDULES[name], param()))
    weight = param()
    multi = scheduled(SCHEDULES[name], weight)
    seen = []
    for step in range(EPOCHS * STEPS):  # also with none but such batches, about which torch would warn
        seen.append(multi.get_lr())
        multi.skip()
        if step % STEPS == STEPS - 1:
            multi.epoch()
    assert seen == expected
    assert torch.equal(weight, param())
