"""Tests of ``src/gradnas/pipeline/stabilizer.py``: the parts alone, and one noisy step of a search made by hand."""

import copy
from collections.abc import Sequence
from typing import Any, ClassVar

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F
from torch.nn.utils import clip_grad_norm_

from gradnas.data import DataLoaders
from gradnas.foundation.seeds import derive_seed, generator, seeded_initialization
from gradnas.pipeline import ArchTrainer
from gradnas.pipeline.stabilizer import EarlyStop, MixingNoise, Verdict, put_back
from gradnas.spaces import DartsSpace
from gradnas.strategies import Darts, Gdas, PcDarts, Snas, StabilizeConf, Xnas
from gradnas.strategies.early_stop import eigenvalue_rise, too_many_skips
from gradnas.strategies.perturbation import (
    Tables,
    adversarially_perturbed,
    distinct,
    randomly_perturbed,
    skips_dropped,
)
from gradnas.supergraph import Model, Softmax, untouched_statistics
from gradnas.training import create_optimizer

SEED = 3
SKIP = 1  # its position among the candidates


def supergraph(tools: Any, desc: Any = None) -> Model:
    with seeded_initialization(0, "test"):
        return Model(tools.space.build() if desc is None else desc, droppath=False, affine=False).double()


def tables(mixing: Tables | None) -> list[Tensor]:
    assert mixing is not None
    return [table for table in mixing if table is not None]


def equal(a: Tables | None, b: Tables | None) -> bool:
    return all(torch.equal(x, y) for x, y in zip(tables(a), tables(b), strict=True))


def never(mixing: Tables) -> Tensor:
    raise AssertionError("no adversary here")


# ---------------------------------------------------------------------------------------------------------- MixingNoise


def noise(model: Model, *, epochs: int = 4, epoch: int = 0, step: int = 0, **changes: Any) -> MixingNoise:
    made = MixingNoise(StabilizeConf(**changes), model, SEED, epochs)
    made.at(epoch, step)
    return made


def test_without_noise_the_rules_own_weights_are_used(tools: Any) -> None:
    model = supergraph(tools)
    quiet, mixing = noise(model, eigenvalue="stop"), model.mixing_weights()
    assert quiet.for_weights(never) is None
    assert quiet.without_skips(None, "architecture") is None
    assert quiet.without_skips(mixing, "architecture") is mixing


def test_random_weights_are_those_of_the_schedule_seed_and_step(tools: Any) -> None:
    model = supergraph(tools)
    found = noise(model, perturb="random", perturb_radius=0.2, epoch=3, step=17).for_weights(never)
    expected = randomly_perturbed(model.mixing_weights(), 0.03 + 0.17 * 0.75, generator(SEED, "perturbation", 17))
    assert equal(found, expected)
    assert len(distinct(found or [])) == 2
    other = noise(model, perturb="random", perturb_radius=0.2, epoch=3, step=18).for_weights(never)
    assert not equal(found, other)


def test_adversary_has_the_loss_the_radius_and_the_steps_of_the_settings(tools: Any) -> None:
    model = supergraph(tools)
    calls: list[Tables] = []

    def loss(mixing: Tables) -> Tensor:
        calls.append(mixing)
        return torch.stack([table.square().sum() for table in tables(mixing)]).sum()

    made = noise(model, perturb="adversarial", perturb_steps=5, epoch=2, step=9).for_weights(loss)
    assert len(calls) == 5
    draws = generator(SEED, "perturbation", 9)
    expected = adversarially_perturbed(model.mixing_weights(), 0.03 + 0.27 * 0.5, draws, loss, steps=5)
    assert equal(made, expected)


def test_skips_are_dropped_at_the_rate_of_the_epoch_after_the_perturbation(tools: Any) -> None:
    model = supergraph(tools)
    changes = {"perturb": "random", "skip_dropout": 0.9, "epoch": 1, "step": 2}
    found = noise(model, **changes).for_weights(never)
    perturbed = noise(model, **changes | {"skip_dropout": 0.0}).for_weights(never)
    rate = 0.9 * torch.exp(torch.tensor(-5.0 / 4, dtype=torch.float64)).item()
    assert perturbed is not None
    assert equal(found, skips_dropped(perturbed, [SKIP] * 3, rate, generator(SEED, "skips.weights", 2)))


def test_passes_for_other_purposes_and_steps_drop_other_skips(tools: Any) -> None:
    model = supergraph(tools)
    given = model.mixing_weights()
    one = noise(model, skip_dropout=0.5).without_skips(given, "weights")
    assert equal(one, noise(model, skip_dropout=0.5).without_skips(None, "weights"))
    assert not equal(one, noise(model, skip_dropout=0.5).without_skips(given, "architecture"))
    assert not equal(one, noise(model, skip_dropout=0.5, step=1).without_skips(given, "weights"))


def test_position_of_the_skip_is_looked_up(tools: Any) -> None:
    names = ["skip_connect", "max_pool_3x3", "sep_conv_3x3"]
    model = supergraph(tools, DartsSpace(1, 8, 5, channels=2, cells=3, nodes=2, reductions=1, primitives=names).build())
    plain, dropped = model.mixing_weights(), noise(model, skip_dropout=0.5).without_skips(None, "weights")
    for before, after in zip(tables(plain), tables(dropped), strict=True):
        assert torch.equal(before[:, 1:], after[:, 1:])
        assert not torch.equal(before[:, 0], after[:, 0])


def test_space_without_a_skip_is_untouched(tools: Any) -> None:
    names = ["max_pool_3x3", "sep_conv_3x3"]
    model = supergraph(tools, DartsSpace(1, 8, 5, channels=2, cells=3, nodes=2, reductions=1, primitives=names).build())
    assert equal(noise(model, skip_dropout=0.9).without_skips(None, "weights"), model.mixing_weights())


# ------------------------------------------------------------------------------------------------------------ EarlyStop


def learnt(value: float) -> dict[str, Tensor]:
    return {"a": torch.full((2,), value), "b": torch.tensor(value)}


def watch(values: Sequence[float | None], skips: Sequence[int], *, warmup: int = 0, **changes: Any) -> Any:
    stop = EarlyStop(StabilizeConf(**changes), warmup)
    return stop, [
        stop.after(e, value, n, learnt(float(e))) for e, (value, n) in enumerate(zip(values, skips, strict=True))
    ]


EIGENVALUE = {"eigenvalue_window": 2, "eigenvalue_lag": 1}


def test_eigenvalue_that_rises_stops_and_gives_the_parameters_of_the_lag_before() -> None:
    stop, said = watch([1.0, 1.0, 2.0], [0] * 3, eigenvalue="stop", **EIGENVALUE)
    assert said[:2] == [[], []]
    (verdict,) = said[2]
    assert (verdict.back_to, verdict.stop) == (1, True)
    assert verdict.reason == (
        "the dominant Hessian eigenvalue of the validation loss has risen to 2, its mean by more than a factor 1.33 in "
        "1 epochs"
    )
    assert torch.equal(stop.snapshot(1)["a"], torch.full((2,), 1.0))


def test_too_many_skips_stop_and_give_the_parameters_of_the_last_epoch_within_the_limit() -> None:
    stop, said = watch([None] * 6, [1, 0, 3, 3, 1, 2], skip_limit="stop", skip_limit_from=6)
    assert said == [[]] * 5 + [[Verdict("the regular cell has 2 skip connections, more than 1", 4, True)]]
    assert float(stop.snapshot(4)["b"]) == 4.0


def test_epochs_of_the_warm_up_are_not_recorded_and_epochs_are_still_those_of_the_search() -> None:
    stop, said = watch([9.0, None, 1.0, 1.0, 2.0], [0] * 5, warmup=2, eigenvalue="stop", **EIGENVALUE)
    assert [len(verdicts) for verdicts in said] == [0, 0, 0, 0, 1]
    assert said[4][0].back_to == 3
    assert float(stop.snapshot(3)["b"]) == 3.0
    _, said = watch([None] * 5, [0, 0, 0, 0, 5], warmup=2, skip_limit="stop", skip_limit_from=3)
    assert said[4][0].back_to == 3
    _, said = watch([None] * 5, [0, 0, 0, 0, 5], warmup=2, skip_limit="stop", skip_limit_from=4)
    assert said[4] == []


def test_rules_that_are_off_record_nothing() -> None:
    stop, said = watch([1.0, 1.0, 9.0], [0, 0, 9], **EIGENVALUE, skip_limit_from=1)
    assert said == [[]] * 3
    assert stop.state_dict() == {"eigenvalues": [], "skips": [], "epochs": [], "snapshots": []}


@pytest.mark.parametrize("eigenvalue", ["none", "warn", "stop"])
@pytest.mark.parametrize("skip_limit", ["none", "warn", "stop"])
def test_each_rule_says_what_its_setting_allows(eigenvalue: str, skip_limit: str) -> None:
    _, said = watch(
        [1.0, 1.0, 9.0], [0, 2, 2], eigenvalue=eigenvalue, skip_limit=skip_limit, **EIGENVALUE, skip_limit_from=3
    )
    expected = []
    if eigenvalue != "none":
        expected.append((1, eigenvalue == "stop"))
    if skip_limit != "none":
        expected.append((0, skip_limit == "stop"))
    assert [(verdict.back_to, verdict.stop) for verdict in said[2]] == expected


def test_snapshots_are_copies() -> None:
    stop, values = EarlyStop(StabilizeConf(skip_limit="stop"), 0), learnt(1.0)
    stop.after(0, None, 0, values)
    values["a"].fill_(7.0)
    assert torch.equal(stop.snapshot(0)["a"], torch.ones(2))


@given(
    record=st.lists(st.tuples(st.none() | st.integers(-1, 9).map(float), st.integers(0, 3)), max_size=14),
    warmup=st.integers(0, 3),
    window=st.integers(1, 3),
    lag=st.integers(1, 3),
    eigenvalue=st.sampled_from(["none", "stop"]),
    skip_limit=st.sampled_from(["none", "stop"]),
    saved=st.booleans(),
)
@settings(max_examples=200, deadline=None, derandomize=True)
def test_every_verdict_is_that_of_the_whole_record_and_has_its_snapshot(
    record: list[tuple[float | None, int]],
    warmup: int,
    window: int,
    lag: int,
    eigenvalue: Any,
    skip_limit: Any,
    saved: bool,
) -> None:
    """Also when the state goes through a checkpoint between any two epochs."""
    conf = StabilizeConf(
        eigenvalue=eigenvalue,
        skip_limit=skip_limit,
        eigenvalue_window=window,
        eigenvalue_lag=lag,
        skip_limit_from=2,
    )
    stop = EarlyStop(conf, warmup)
    for epoch, (value, skips) in enumerate(record):
        said = stop.after(epoch, value, skips, learnt(float(epoch)))
        values, counts = [v for v, _ in record[warmup : epoch + 1]], [n for _, n in record[warmup : epoch + 1]]
        expected = []
        if eigenvalue == "stop":
            expected.append(eigenvalue_rise(values, window=window, lag=lag))
        if skip_limit == "stop":
            expected.append(too_many_skips(counts, earliest=2))
        assert [v.back_to for v in said] == [warmup + e for e in expected if e is not None]
        assert all(float(stop.snapshot(v.back_to)["b"]) == v.back_to for v in said)
        assert len(stop.state_dict()["epochs"]) <= lag + 2  # what nobody needs is not kept
        if saved:
            state = copy.deepcopy(stop.state_dict())
            stop = EarlyStop(conf, warmup)
            stop.load_state_dict(state)


@pytest.mark.parametrize("strategy", [Darts(), PcDarts(partial=1), Xnas(horizon=10)], ids=repr)
def test_parameters_are_put_back_for_all_cells_of_a_type(tools: Any, strategy: Any) -> None:
    model = supergraph(tools)
    model.set_mixing_rule(strategy.mixing_rule)
    before = {name: value.detach().clone() for name, value in model.all_owned().items()}  # type: ignore[union-attr]
    weights = [p.detach().clone() for p in model.weights()]
    identities = [id(value) for value in model.all_owned().values()]
    with torch.no_grad():
        for value in model.all_owned().values():
            assert isinstance(value, Tensor)
            value.copy_(torch.zeros_like(value))
    put_back(model, before)
    assert all(torch.equal(value, before[name]) for name, value in model.all_owned().items())  # type: ignore[arg-type]
    assert [id(value) for value in model.all_owned().values()] == identities
    assert all(torch.equal(p, w) for p, w in zip(model.weights(), weights, strict=True))
    first, _, last = model.typed_cells()
    assert torch.equal(first.mixing_weights(), last.mixing_weights())  # type: ignore[arg-type]


# ------------------------------------------------------------------------------------------------- one step of a search


class Recording(ArchTrainer):
    """Keeps the mixing weights of its weight steps, and the architecture parameters after its architecture steps."""

    noise_seed: ClassVar[int] = derive_seed(0, "search.noise")

    def train_mixing(self, x: Tensor, y: Tensor) -> Tables | None:
        self.seen.append(super().train_mixing(x, y))
        return self.seen[-1]

    def pre_step(self, x: Tensor, y: Tensor) -> None:
        super().pre_step(x, y)
        self.learnt = {name: value.detach().clone() for name, value in self.supergraph.all_owned().items()}  # type: ignore[union-attr]

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.seen: list[Tables | None] = []


def data(tools: Any, **changes: Any) -> DataLoaders:
    loaders: DataLoaders = tools.context().loaders(tools.search_conf(**changes), "search", test=False)
    return loaders


def first_step(tools: Any, strategy: Any = None, *, chunks: int = 1, **stabilize: Any) -> tuple[Recording, Model]:
    """A trainer after one step in float64, and its model with the alphas moved but the weights as they were."""
    strategy = Darts(lr=0.1) if strategy is None else strategy
    model = supergraph(tools, strategy.supergraph(tools.space.build()))
    conf = tools.search_conf(epochs=1, max_steps_per_epoch=1, batch_chunks=chunks)
    twin = copy.deepcopy(model)
    trainer = Recording(conf, model, strategy=strategy, stabilize=StabilizeConf(**stabilize))
    in_precision_of_model(trainer)
    trainer.fit(data(tools))
    twin.set_mixing_rule(Softmax())
    put_back(twin, trainer.learnt)
    return trainer, twin.train()


def in_precision_of_model(trainer: ArchTrainer) -> None:
    """The images come in float32."""
    plain = trainer.model.forward
    trainer.model.forward = lambda x, *rest: plain(x.double(), *rest)  # type: ignore[method-assign]


def loss_at(model: Model, x: Tensor, y: Tensor, mixing: Tables) -> Tensor:
    with untouched_statistics(model):
        return F.cross_entropy(model(x, list(mixing))[0], y)


@pytest.mark.parametrize("kind", ["none", "random", "adversarial"])
@pytest.mark.parametrize("skip_dropout", [0.0, 0.7])
def test_weight_step_is_one_by_hand_at_the_perturbed_weights(tools: Any, kind: str, skip_dropout: float) -> None:
    trainer, twin = first_step(tools, perturb=kind, skip_dropout=skip_dropout, perturb_steps=3)
    x, y = data(tools).train.batch(0, 0)
    x = x.double()
    draws = generator(Recording.noise_seed, "perturbation", 0)
    mixing: Tables = [None if table is None else table.detach() for table in twin.mixing_weights()]
    mixing = [mixing[0], mixing[1], mixing[0]]  # the first and the last cell are of one type
    if kind == "random":
        mixing = randomly_perturbed(mixing, 0.03, draws)
    elif kind == "adversarial":
        mixing = adversarially_perturbed(mixing, 0.03, draws, lambda m: loss_at(twin, x, y, m), steps=3)
    if skip_dropout:
        mixing = skips_dropped(mixing, [SKIP] * 3, 0.7, generator(Recording.noise_seed, "skips.weights", 0))
    weights = list(twin.weights())
    optimizer = create_optimizer(trainer.conf.optimizer, weights)
    F.cross_entropy(twin(x, list(mixing))[0], y).backward()
    clip_grad_norm_(weights, trainer.conf.grad_clip)
    optimizer.step()
    ours, theirs = trainer.model.state_dict(), twin.state_dict()
    assert [name for name in ours if not torch.equal(ours[name], theirs[name])] == []
    if kind != "none" or skip_dropout:
        assert equal(trainer.seen[0], mixing)
    else:
        assert trainer.seen == [None]


@pytest.mark.parametrize("kind", ["random", "adversarial"])
def test_architecture_step_is_not_perturbed(tools: Any, kind: str) -> None:
    noisy, quiet = first_step(tools, perturb=kind)[0].learnt, first_step(tools)[0].learnt
    assert all(torch.equal(value, quiet[name]) for name, value in noisy.items())


def test_skips_are_dropped_in_the_architecture_step_too(tools: Any) -> None:
    trainer, twin = first_step(tools, skip_dropout=0.7)
    before = supergraph(tools)
    put_back(twin, {name: value.detach() for name, value in before.all_owned().items()})  # type: ignore[union-attr]
    loaders = data(tools)
    assert loaders.alpha is not None
    x, y = loaders.alpha.batch(0, 0)
    draws = generator(Recording.noise_seed, "skips.architecture", 0)
    loss = loss_at(twin, x.double(), y, skips_dropped(twin.mixing_weights(), [SKIP] * 3, 0.7, draws))
    alphas = list(twin.all_owned().param_by_kind())
    optimizer = Darts(lr=0.1).create_optimizer(alphas)
    for alpha, gradient in zip(alphas, torch.autograd.grad(loss, alphas), strict=True):
        alpha.grad = gradient
    optimizer.step()
    for name, value in twin.all_owned().items():
        torch.testing.assert_close(value, trainer.learnt[name], rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("kind", ["random", "adversarial"])
def test_parts_of_a_batch_start_from_the_same_noise(tools: Any, kind: str) -> None:
    seen = first_step(tools, chunks=2, perturb=kind, skip_dropout=0.5)[0].seen
    assert len(seen) == 2
    assert equal(*seen) is (kind == "random")
    zeros = [[(table == 0).nonzero().tolist() for table in tables(mixing)] for mixing in seen]
    assert zeros[0] == zeros[1]


@pytest.mark.parametrize("strategy", [Darts(lr=0.0, weight_decay=0.0), Gdas(lr=0.0, weight_decay=0.0), Snas(lr=0.0)])
@pytest.mark.parametrize("kind", ["random", "adversarial"])
def test_nothing_of_the_model_but_its_weights_is_changed(tools: Any, kind: str, strategy: Any) -> None:
    model = supergraph(tools).float()
    before = {name: value.detach().clone() for name, value in model.all_owned().items()}  # type: ignore[union-attr]
    computed = [op.computed for op in model.mixed_ops()]
    state = torch.get_rng_state()
    conf = StabilizeConf(perturb=kind, skip_dropout=0.5, perturb_steps=2)  # type: ignore[arg-type]
    trainer = ArchTrainer(tools.search_conf(), model, strategy=strategy, stabilize=conf)
    trainer.fit(data(tools))
    assert all(torch.equal(value, before[name]) for name, value in model.all_owned().items())  # type: ignore[arg-type]
    assert all(op.rule is strategy.mixing_rule for op in model.mixed_ops())
    assert [op.computed for op in model.mixed_ops()] == computed
    assert all(p.requires_grad for p in model.parameters())
    assert all(p.grad is None for p in model.all_owned().param_by_kind())
    assert torch.equal(torch.get_rng_state(), state)
