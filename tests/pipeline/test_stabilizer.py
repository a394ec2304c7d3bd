"""Tests of ``src/gradnas/pipeline/stabilizer.py``: the parts alone, and one noisy step of a search made by hand."""

import copy
import math
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F
from torch.nn.utils import clip_grad_norm_

from gradnas.arch import ModelDesc, OpDesc
from gradnas.data import DataLoaders
from gradnas.foundation.seeds import derive_seed, generator, seeded_initialization
from gradnas.pipeline import ArchTrainer
from gradnas.pipeline.stabilizer import EarlyStop, MixingNoise, Verdict, put_back
from gradnas.spaces import DartsSpace
from gradnas.strategies import Darts, Gdas, PcDarts, Snas, StabilizeConf, Xnas
from gradnas.strategies.early_stop import eigenvalue_rise
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


def skips_of(rows: str) -> Tensor:
    """The skip of each edge with a 1, of four candidates."""
    table = torch.zeros(len(rows), 4, dtype=torch.bool)
    table[:, SKIP] = torch.tensor([row == "1" for row in rows])
    return table


# Cells of two nodes: each reads the two inputs of the cell, the second the first too. A reduction halves the inputs.
PLACES = [skips_of("11111"), skips_of("00001"), skips_of("11111")]


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


def noise(
    model: Model, *, epochs: int = 4, warmup: int = 0, epoch: int = 0, step: int = 0, **changes: Any
) -> MixingNoise:
    made = MixingNoise(StabilizeConf(**changes), model, SEED, epochs, warmup)
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
    found = noise(model, perturb="random", perturb_radius=0.2, epoch=2, step=17).for_weights(never)
    expected = randomly_perturbed(model.mixing_weights(), 0.03 + 0.17 * 2 / 3, generator(SEED, "perturbation", 17))
    assert equal(found, expected)
    assert len(distinct(found or [])) == 2
    other = noise(model, perturb="random", perturb_radius=0.2, epoch=2, step=18).for_weights(never)
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
    expected = adversarially_perturbed(model.mixing_weights(), 0.03 + 0.27 * 2 / 3, draws, loss, steps=5)
    assert equal(made, expected)


@pytest.mark.parametrize(
    ("warmup", "epoch", "rate"),
    [
        (0, 1, 0.9 * math.exp(-5 / 4)),
        (0, 3, 0.9 * math.exp(-15 / 4)),
        (2, 0, 0.9 * 3 / 4),
        (2, 1, 0.9 * 2 / 4),
        (2, 2, 0.9),
        (2, 3, 0.9 * math.exp(-5 / 4)),
    ],
)
def test_skips_are_dropped_at_the_rate_of_the_epoch_after_the_perturbation(
    tools: Any, warmup: int, epoch: int, rate: float
) -> None:
    """The rate falls while the architecture waits, and starts anew when it learns."""
    model = supergraph(tools)
    changes = {"perturb": "random", "skip_dropout": 0.9, "warmup": warmup, "epoch": epoch, "step": 2}
    found = noise(model, **changes).for_weights(never)
    perturbed = noise(model, **changes | {"skip_dropout": 0.0}).for_weights(never)
    assert perturbed is not None
    assert equal(found, skips_dropped(perturbed, PLACES, rate, generator(SEED, "skips.weights", 2)))


def test_passes_for_other_purposes_and_steps_drop_other_skips(tools: Any) -> None:
    model = supergraph(tools)
    given = model.mixing_weights()
    one = noise(model, skip_dropout=0.5).without_skips(given, "weights")
    assert equal(one, noise(model, skip_dropout=0.5).without_skips(None, "weights"))
    assert not equal(one, noise(model, skip_dropout=0.5).without_skips(given, "architecture"))
    assert not equal(one, noise(model, skip_dropout=0.5, step=1).without_skips(given, "weights"))


def droppable(model: Model) -> list[set[tuple[int, int]]]:
    """What (edge, candidate) of each cell changes in some of 40 steps: the factor is now 0, now 1 / (1 - rate)."""
    plain = tables(model.mixing_weights())
    seen: list[dict[tuple[int, int], set[float]]] = [{} for _ in plain]
    for step in range(40):
        dropped = tables(noise(model, skip_dropout=0.5, step=step).without_skips(None, "weights"))
        for before, after, of_cell in zip(plain, dropped, seen, strict=True):
            for (row, column), factor in np.ndenumerate((after / before).detach().numpy()):
                of_cell.setdefault((row, column), set()).add(float(factor))
    moved = [{place: factors for place, factors in of_cell.items() if factors != {1.0}} for of_cell in seen]
    assert all(factors == {0.0, 2.0} for of_cell in moved for factors in of_cell.values())
    return [set(of_cell) for of_cell in moved]


def test_skips_that_halve_the_map_are_kept(tools: Any) -> None:
    everywhere = {(row, SKIP) for row in range(5)}
    assert droppable(supergraph(tools)) == [everywhere, {(4, SKIP)}, everywhere]


def on_edges(desc: ModelDesc, names: Callable[[str, int], list[str] | None]) -> ModelDesc:
    """Other candidates, by the end of the place and the stride; None leaves them."""

    def other(place: str, op: OpDesc) -> OpDesc:
        listed = names(place, op.stride) if "primitives" in op.params else None
        return op if listed is None else OpDesc(op.name, op.params.replace(primitives=tuple(listed)))

    return desc.map_ops(other)


def test_position_of_the_skip_is_that_of_each_edge(tools: Any) -> None:
    """Candidates stand in another order on two edges of every cell."""
    orders = {
        "nodes.0.edges.1": ["skip_connect", "none", "sep_conv_3x3", "max_pool_3x3"],
        "nodes.1.edges.2": ["sep_conv_3x3", "max_pool_3x3", "none", "skip_connect"],
    }
    desc = on_edges(tools.space.build(), lambda place, _: orders.get(place.split(".", 2)[2]))
    regular = {(0, 1), (1, 0), (2, 1), (3, 1), (4, 3)}
    assert droppable(supergraph(tools, desc)) == [regular, {(4, 3)}, regular]


def test_edge_without_a_skip_is_untouched(tools: Any) -> None:
    others = ["avg_pool_3x3", "dil_conv_3x3", "sep_conv_3x3", "none"]
    desc = on_edges(tools.space.build(), lambda place, _: others if place.endswith("nodes.1.edges.0") else None)
    regular = {(row, SKIP) for row in (0, 1, 3, 4)}
    assert droppable(supergraph(tools, desc)) == [regular, {(4, SKIP)}, regular]


def test_dropout_in_a_space_without_a_skip_is_refused(tools: Any) -> None:
    names = ["max_pool_3x3", "sep_conv_3x3"]
    model = supergraph(tools, DartsSpace(1, 8, 5, channels=2, cells=3, nodes=2, reductions=1, primitives=names).build())
    with pytest.raises(ValueError, match="no edge that keeps the map has the candidate 'skip_connect': skip_dropout"):
        noise(model, skip_dropout=0.1)
    assert noise(model, perturb="random").for_weights(never) is not None


def test_dropout_where_all_skips_halve_the_map_is_refused(tools: Any) -> None:
    others = ["avg_pool_3x3", "dil_conv_3x3", "sep_conv_3x3", "none"]
    desc = on_edges(tools.space.build(), lambda _, stride: others if stride == 1 else None)
    model = supergraph(tools, desc)
    assert any("skip_connect" in op.names for op in model.mixed_ops())
    with pytest.raises(ValueError, match="no edge that keeps the map has the candidate 'skip_connect': skip_dropout"):
        noise(model, skip_dropout=0.1)
    assert noise(model).without_skips(None, "weights") is None


# --------------------------------------------------------------------------------- factors of edges, and what passes by


def weighed(tools: Any, partial: int) -> tuple[Model, list[Tensor], list[Tensor]]:
    """A model of PC-DARTS with parameters far from 0, and by hand the softmax and the factor of each edge."""
    strategy = PcDarts(partial=partial)
    model = supergraph(tools, strategy.supergraph(tools.space.build()))
    model.set_mixing_rule(strategy.mixing_rule)
    model.double()
    draws = torch.Generator().manual_seed(7)
    for p in model.all_owned().param_by_kind():
        p.data = torch.randn(p.shape, generator=draws, dtype=torch.float64)
    softmax, factors = [], []
    for cell in model.typed_cells():
        ops = cell.mixed_ops()
        softmax.append(torch.stack([op.alphas.detach().exp() / op.alphas.detach().exp().sum() for op in ops]))
        betas = [math.exp(float(op.arch_params()["betas"].detach())) for op in ops]  # type: ignore[union-attr,arg-type]
        nodes = [betas[:2], betas[2:]]
        factors.append(torch.tensor([b / sum(node) for node in nodes for b in node], dtype=torch.float64))
    return model, softmax, factors


def ascended(mixing: Tables) -> Tensor:
    """A linear loss: up for the first two candidates and for what passes by, down for the other two."""
    slopes = torch.tensor([2.0, 1.0, -1.0, -3.0, 50.0], dtype=torch.float64)
    return torch.stack([(table * slopes[: table.shape[-1]]).sum() for table in tables(mixing)]).sum()


@pytest.mark.parametrize("partial", [1, 2])
@pytest.mark.parametrize("skip_dropout", [0.0, 0.6])
@pytest.mark.parametrize("kind", ["none", "random", "adversarial"])
def test_factors_of_edges_and_what_passes_by_stay_as_they_are(
    tools: Any, kind: str, skip_dropout: float, partial: int
) -> None:
    model, softmax, factors = weighed(tools, partial)
    settings: Any = {"perturb": kind, "skip_dropout": skip_dropout}
    if kind != "none":
        settings["perturb_radius"] = 0.25
    losses: list[Tables] = []

    def loss(mixing: Tables) -> Tensor:
        losses.append(mixing)
        return ascended(mixing)

    made = noise(model, warmup=3, epoch=3, step=5, **settings)
    changed = made.for_weights(loss)
    if kind == "none" and skip_dropout == 0:
        assert changed is None
        return
    dropped = []
    plain, exactly = tables(model.mixing_weights()), 1e-12 if skip_dropout == 0 else 1e-6  # its factors are float32
    for found, before, p, gamma, places in zip(tables(changed), plain, softmax, factors, PLACES, strict=True):
        assert found.shape == before.shape == (5, 4 if partial == 1 else 5)
        own = found[:, :4].detach() / gamma.unsqueeze(1)
        if partial > 1:
            assert torch.equal(found[:, 4], before[:, 4])
            torch.testing.assert_close(found[:, 4].detach(), gamma, rtol=1e-12, atol=0.0)
        if skip_dropout:
            left = own[places]
            own[places] = torch.where(left == 0, p[places], left * (1 - 0.6))  # those dropped tell nothing
            dropped += (left == 0).tolist()
        if kind == "none":
            torch.testing.assert_close(own, p, rtol=exactly, atol=0.0)
        else:
            assert bool((own >= 0).all())
            assert bool((own <= 1 + exactly).all())
            assert 0.1 < float((own - p).abs().max()) <= 0.25 + exactly
        if kind == "adversarial" and not skip_dropout:
            up = torch.tensor([1.0, 1.0, -1.0, -1.0], dtype=torch.float64)
            torch.testing.assert_close(own, (p + 0.25 * up).clamp(0, 1), rtol=1e-10, atol=1e-12)
    assert set(dropped) == ({False, True} if skip_dropout else set())
    assert len(losses) == (7 if kind == "adversarial" else 0)
    for mixing in losses:  # the adversary plays with the same network
        for table, gamma in zip(tables(mixing), factors, strict=True):
            assert partial == 1 or torch.allclose(table[:, 4].detach(), gamma, rtol=1e-12, atol=0.0)
            assert float((table[:, :4].detach() / gamma.unsqueeze(1)).max()) <= 1 + 1e-12


def test_tables_of_a_pass_have_the_gradients_of_factors_and_candidates(tools: Any) -> None:
    """A single-level method learns from a moved mixture: by the gradient at the present one."""
    model, _, _ = weighed(tools, 2)
    parameters = list(model.all_owned().param_by_kind())
    gradients = [
        torch.autograd.grad(ascended(mixing), parameters)
        for mixing in (model.mixing_weights(), noise(model, perturb="random").for_weights(never) or [])
    ]
    kinds = {"alphas": 0, "betas": 0}
    for plain, moved, p in zip(*gradients, parameters, strict=True):
        kinds["alphas" if p.dim() else "betas"] += 1
        assert bool(moved.abs().max() > 0)
        if p.dim():
            torch.testing.assert_close(moved, plain, rtol=1e-10, atol=1e-12)
    assert kinds == {"alphas": 10, "betas": 10}


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
    stop, said = watch([1.0, 1.0, 9.0], [0, 0, 9])
    assert said == [[]] * 3
    assert stop.state_dict() == {"eigenvalues": [], "skips": [], "epochs": [], "snapshots": []}


def rules(eigenvalue: str, skip_limit: str, **skips: int) -> dict[str, Any]:
    """Settings of the rules that are on."""
    settings: dict[str, Any] = {"eigenvalue": eigenvalue, "skip_limit": skip_limit}
    return settings | (EIGENVALUE if eigenvalue != "none" else {}) | (skips if skip_limit != "none" else {})


@pytest.mark.parametrize("eigenvalue", ["none", "warn", "stop"])
@pytest.mark.parametrize("skip_limit", ["none", "warn", "stop"])
def test_each_rule_says_what_its_setting_allows(eigenvalue: str, skip_limit: str) -> None:
    _, said = watch([1.0, 1.0, 9.0], [0, 2, 2], **rules(eigenvalue, skip_limit, skip_limit_from=3))
    expected = []
    if eigenvalue != "none":
        expected.append((0 if skip_limit == "stop" else 1, eigenvalue == "stop"))  # epoch 1 is over that limit
    if skip_limit != "none":
        expected.append((0, skip_limit == "stop"))
    assert [(verdict.back_to, verdict.stop) for verdict in said[2]] == expected


@pytest.mark.parametrize("mode", ["warn", "stop"])
def test_too_many_skips_from_the_start_are_a_warning_in_each_epoch_and_never_a_stop(mode: str) -> None:
    stop, said = watch([None] * 4, [3, 2, 4, 2], skip_limit=mode, skip_limit_from=2)
    nowhere = ", as in every epoch before: there is no architecture within the limit to go back to"
    assert said[0] == []
    assert said[1:] == [
        [Verdict(f"the regular cell has {n} skip connections, more than 1{nowhere}", None, False)] for n in (2, 4, 2)
    ]
    assert len(stop.state_dict()["epochs"]) <= 1


def test_epochs_of_the_warm_up_are_none_to_go_back_to() -> None:
    """Their few skips are those of an architecture that nothing has learnt."""
    _, said = watch([None] * 4, [0, 0, 2, 3], warmup=2, skip_limit="stop", skip_limit_from=1)
    assert [[(v.back_to, v.stop) for v in verdicts] for verdicts in said] == [[], [], [(None, False)], [(None, False)]]


def test_search_that_comes_below_the_limit_can_be_stopped_again() -> None:
    _, said = watch([None] * 4, [3, 3, 1, 3], skip_limit="stop", skip_limit_from=1)
    assert [[(v.back_to, v.stop) for v in verdicts] for verdicts in said] == [
        [(None, False)],
        [(None, False)],
        [],
        [(2, True)],
    ]


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
    most=st.integers(0, 2),
    eigenvalue=st.sampled_from(["none", "warn", "stop"]),
    skip_limit=st.sampled_from(["none", "warn", "stop"]),
    saved=st.booleans(),
)
@settings(max_examples=300, deadline=None, derandomize=True)
def test_every_verdict_is_that_of_the_whole_record_and_has_its_snapshot(
    record: list[tuple[float | None, int]],
    warmup: int,
    window: int,
    lag: int,
    most: int,
    eigenvalue: Any,
    skip_limit: Any,
    saved: bool,
) -> None:
    """Also when the state goes through a checkpoint between any two epochs."""
    monitor: Any = {} if eigenvalue == "none" else {"eigenvalue_window": window, "eigenvalue_lag": lag}
    limit: Any = {} if skip_limit == "none" else {"max_skips": most, "skip_limit_from": 2}
    conf = StabilizeConf(eigenvalue=eigenvalue, skip_limit=skip_limit, **monitor, **limit)
    stop = EarlyStop(conf, warmup)
    for epoch, (value, skips) in enumerate(record):
        said = stop.after(epoch, value, skips, learnt(float(epoch)))
        values, counts = [v for v, _ in record[warmup : epoch + 1]], [n for _, n in record[warmup : epoch + 1]]
        expected: list[tuple[int | None, bool]] = []
        risen = eigenvalue_rise(values, window=window, lag=lag)
        if eigenvalue != "none" and risen is not None:
            expected.append((warmup + risen, eigenvalue == "stop"))
        if skip_limit != "none" and len(counts) >= 2 and counts[-1] > most:
            within = [warmup + e for e, n in enumerate(counts) if n <= most]
            expected.append((within[-1], skip_limit == "stop") if within else (None, False))
        assert [(v.back_to, v.stop) for v in said] == expected
        assert all(float(stop.snapshot(v.back_to)["b"]) == v.back_to for v in said if v.back_to is not None)
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
    steps: Any = {} if kind == "none" else {"perturb_steps": 3}
    trainer, twin = first_step(tools, perturb=kind, skip_dropout=skip_dropout, **steps)
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
        mixing = skips_dropped(mixing, PLACES, 0.7, generator(Recording.noise_seed, "skips.weights", 0))
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
    loss = loss_at(twin, x.double(), y, skips_dropped(twin.mixing_weights(), PLACES, 0.7, draws))
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


def test_an_eigenvalue_alone_returns_no_cell_over_a_limit_that_stops() -> None:
    conf = StabilizeConf(
        eigenvalue="stop", eigenvalue_window=1, eigenvalue_lag=1, skip_limit="stop", max_skips=1, skip_limit_from=1
    )
    early = EarlyStop(conf, 0)
    assert [v.stop for v in early.after(0, 1.0, 3, {"alphas": torch.zeros(2)})] == [False]
    (verdict,) = early.after(1, 9.0, 1, {"alphas": torch.ones(2)})
    assert (verdict.back_to, verdict.stop) == (1, True)
    assert torch.equal(early.snapshot(1)["alphas"], torch.ones(2))
