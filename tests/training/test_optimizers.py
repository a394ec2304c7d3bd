"""Tests of ``src/gradnas/training/optimizers.py``."""

from typing import Any

import pytest
import torch
from torch.nn import Parameter
from torch.optim import SGD, Adam, AdamW, RMSprop

from gradnas.training import OptimConf, create_optimizer

HERE = __name__


def param(value: float = 1.0) -> Parameter:
    parameter = Parameter(torch.full((2,), value))
    parameter.grad = torch.ones(2)
    return parameter


class Own(SGD):
    """One of a user's own."""


class Open(SGD):
    """Hands on what it is given."""

    def __init__(self, params: object, **more: Any) -> None:
        super().__init__(params, **more)  # type: ignore[arg-type]  # what torch takes


class Rateless(torch.optim.Optimizer):
    def __init__(self, params: object, weight_decay: float) -> None:
        super().__init__(params, {"weight_decay": weight_decay})  # type: ignore[arg-type]  # what torch takes


class Picky(SGD):
    """Fails in a way of its own, and has an annotation that leads nowhere."""

    def __init__(self, params: object, lr: float, weight_decay: float, depth: "Nowhere" = 1) -> None:  # type: ignore[name-defined]  # noqa: F821
        super().__init__(params, lr, weight_decay=weight_decay)  # type: ignore[arg-type]  # what torch takes
        self.param_groups[0]["depth"] = depth
        if depth > 1:
            raise KeyError


called: list[object] = []


def no_class(*args: object, **more: object) -> None:
    called.append(args)


class Stranger:
    def __init__(self, *args: object, **more: object) -> None:
        called.append(args)


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


def test_sgd_has_momentum_unless_told_otherwise() -> None:
    assert create_optimizer(OptimConf(), [param()]).param_groups[0]["momentum"] == 0.9
    assert create_optimizer(OptimConf(momentum=0.0), [param()]).param_groups[0]["momentum"] == 0.0


def test_options_reach_an_optimizer_by_name() -> None:
    conf = OptimConf(name="adamw", options={"betas": [0.8, 0.9], "eps": 1e-6})
    group = create_optimizer(conf, [param()]).param_groups[0]
    assert (group["betas"], group["eps"]) == ((0.8, 0.9), 1e-6)


@pytest.mark.parametrize(
    ("name", "kind"), [("torch.optim.RMSprop", RMSprop), (f"{HERE}.Own", Own), (f"{HERE}.Open", Open)]
)
def test_optimizers_go_by_class_path(name: str, kind: type) -> None:
    conf = OptimConf(name=name, lr=0.3, weight_decay=0.02, options={"momentum": 0.7})
    optimizer = create_optimizer(conf, [param()])
    assert type(optimizer) is kind
    assert [optimizer.param_groups[0][key] for key in ("lr", "weight_decay", "momentum")] == [0.3, 0.02, 0.7]


def test_an_optimizer_without_weight_decay_needs_it_to_be_off() -> None:
    with pytest.raises(ValueError, match=r"weight_decay=0.0003 would have no effect.*Set optimizer.weight_decay to 0"):
        create_optimizer(OptimConf(name="torch.optim.Rprop"), [param()])
    assert create_optimizer(OptimConf(name="torch.optim.Rprop", weight_decay=0.0), [param()]).param_groups[0]["lr"]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("torch.optim.LBFGS", "wants a closure"),
        ("torch.optim.SparseAdam", "cannot step by a dense gradient"),
        ("torch.optim.RMSprob", "cannot be imported: .*RMSprob"),
        ("torch.nope.RMSprop", "cannot be imported: No module named 'torch.nope'"),
        ("torch.optim.", "cannot be imported"),
        (".Adam", "cannot be imported"),
        ("..Adam", "cannot be imported"),
        (f"{HERE}.no_class", "no class of optimizers"),
        (f"{HERE}.Stranger", "no class of optimizers"),
        (f"{HERE}.Rateless", "takes no learning rate lr"),
        ("torch.optim.Optimizer", "Optimizer"),
    ],
)
def test_what_is_no_optimizer_for_a_training_is_refused_uncalled(name: str, message: str) -> None:
    called.clear()
    with pytest.raises(ValueError, match=message):
        create_optimizer(OptimConf(name=name, weight_decay=0.0), [param()])
    assert called == []


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("adam", {"beta": 1}, r"'adam' has no option 'beta'. Did you mean 'betas'"),
        ("torch.optim.RMSprop", {"alfa": 1}, r"has no option 'alfa'. Did you mean 'alpha'"),
        ("sgd", {"lr": 1}, r"'lr' is no option of the optimizer. Set it as optimizer.lr"),
        ("sgd", {"momentum": 0.5}, r"Set it as optimizer.momentum"),
        ("sgd", {"nesterov": True}, r"Set it as optimizer.nesterov"),
        ("adam", {"weight_decay": 0.5}, r"Set it as optimizer.weight_decay"),
        ("adam", {"params": []}, r"has no option 'params'"),
        ("adam", {"betas": 3}, r"optimizer 'adam' with .*betas=3.*: "),
        ("torch.optim.RMSprop", {"alpha": -1.0}, r"Invalid alpha value: -1.0"),
        (
            "adam",
            {"betas": [0.9]},
            r"'betas' of optimizer 'adam' must be 2 values, such as \[0.9, 0.999\], got \[0.9\]",
        ),
        ("adam", {"betas": [0.9, 0.95, 0.99]}, r"must be 2 values, .*got \[0.9, 0.95, 0.99\]"),
        ("adam", {"betas": [float("nan"), 0.9]}, r"'betas' of optimizer 'adam' must be finite, got \[nan, 0.9\]"),
        ("adamw", {"eps": float("inf")}, r"'eps' of optimizer 'adamw' must be finite, got inf"),
        ("sgd", {"dampening": float("nan")}, r"'dampening' of optimizer 'sgd' must be finite, got nan"),
        ("sgd", {"dampening": True}, r"'dampening' of optimizer 'sgd' must be a number, such as 0, got True"),
        ("sgd", {"dampening": "x"}, r"'sgd' with .*dampening='x'.* cannot step"),
        ("adam", {"fused": "x"}, r"'fused' of optimizer 'adam' must be True or False, got 'x'"),
        ("adam", {"amsgrad": None}, r"'amsgrad' of optimizer 'adam' must be True or False, got None"),
        ("adam", {"fused": True, "foreach": True}, r"cannot be `True` together"),
        (f"{HERE}.Picky", {"depth": 3}, r"Picky' with .*depth=3.*: KeyError"),
    ],
)
def test_option_that_does_not_fit_is_refused(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        create_optimizer(OptimConf(name=name, options=options), [param()])


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("adam", {"betas": [0.9, 0.95], "foreach": None}),
        ("adam", {"capturable": True}),  # which steps on a GPU alone
        ("torch.optim.Adafactor", {"eps": [None, 1e-3]}),
        (f"{HERE}.Picky", {"depth": 0}),
        (f"{HERE}.Open", {"maximize": True}),
    ],
)
def test_option_that_fits_is_taken(name: str, options: dict[str, Any]) -> None:
    group = create_optimizer(OptimConf(name=name, options=options), [param()]).param_groups[0]
    for option, value in options.items():
        assert group[option] == (tuple(value) if isinstance(value, list) else value)


def test_trying_an_optimizer_out_leaves_the_weights_and_random_numbers_alone() -> None:
    weight, state = param(), torch.default_generator.get_state()
    create_optimizer(OptimConf(name="torch.optim.RMSprop"), [weight])
    assert torch.equal(weight, param())
    assert torch.equal(torch.default_generator.get_state(), state)


def test_an_optimizer_by_class_path_steps_as_torch_does() -> None:
    ours, theirs = param(), param()
    create_optimizer(OptimConf(name="torch.optim.RMSprop", lr=0.01), [ours]).step()
    RMSprop([theirs], lr=0.01, weight_decay=3e-4).step()
    assert torch.equal(ours, theirs)
