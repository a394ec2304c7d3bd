"""Searches with the remedies of ``StabilizeConf`` through the real ``ArchTrainer``."""

import copy
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from gradnas.data import DataLoaders
from gradnas.finalizers import Finalizers
from gradnas.foundation.seeds import derive_seed, generator, seeded_initialization
from gradnas.pipeline import ArchTrainer
from gradnas.spaces import DartsSpace
from gradnas.strategies import (
    Darts,
    DiDarts,
    DrNas,
    FairDarts,
    Gdas,
    MetaOptimizer,
    PcDarts,
    Snas,
    StabilizeConf,
    Xnas,
)
from gradnas.strategies.perturbation import radius_at, randomly_perturbed
from gradnas.supergraph import Model, untouched_statistics
from gradnas.training import TrainConf, create_checkpoint

Log = list[dict[str, Any]]

FAST: dict[str, Callable[[], MetaOptimizer]] = {
    "darts": lambda: Darts(lr=0.3),
    "darts 2": lambda: Darts(2, lr=0.3),
    "didarts": lambda: DiDarts(lr=0.3),
    "snas": lambda: Snas(lr=0.3),
    "gdas": lambda: Gdas(lr=0.3),
    "drnas": lambda: DrNas(lr=0.3),
    "pcdarts": lambda: PcDarts(partial=2, lr=0.3),
    "fairdarts": lambda: FairDarts(lr=0.3),
    "xnas": lambda: Xnas(bound=0.01),
}


def supergraph(tools: Any, strategy: MetaOptimizer, nodes: int = 2) -> Model:
    space = DartsSpace(1, 8, 5, channels=2, cells=3, nodes=nodes, reductions=1, primitives=tools.primitives)
    with seeded_initialization(0, "test"):
        return Model(strategy.supergraph(space.build()), droppath=False, affine=False, fused=True)


def data(tools: Any, **changes: Any) -> DataLoaders:
    loaders: DataLoaders = tools.context().loaders(tools.search_conf(**changes), "search", test=False)
    return loaders


def owned(model: Model) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in model.all_owned().items() if isinstance(value, Tensor)}


def state(model: Model) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def same(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> bool:
    return list(a) == list(b) and all(torch.equal(a[name], b[name]) for name in a)


class Watched(ArchTrainer):
    """Remembers the architecture parameters after each step, and the validation batches drawn by then."""

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.steps: list[tuple[int, dict[str, Tensor], int]] = []
        self.initial: dict[str, Tensor] = {}

    def pre_epoch(self, data_loaders: DataLoaders) -> None:
        self.initial = self.initial or owned(self.supergraph)
        super().pre_epoch(data_loaders)

    def post_step(self, x: Tensor, y: Tensor) -> None:
        super().post_step(x, y)
        drawn = 0 if self._alpha_batches is None else self._alpha_batches.drawn
        self.steps.append((self.epoch, owned(self.supergraph), drawn))


def search(
    tools: Any,
    strategy: MetaOptimizer,
    log: Log | None = None,
    *,
    checkpoint: Any = None,
    listener: Any = None,
    stabilize: Mapping[str, Any] | None = None,
    nodes: int = 2,
    **conf: Any,
) -> Watched:
    trainer = Watched(
        tools.search_conf(**conf),
        supergraph(tools, strategy, nodes),
        checkpoint,
        strategy=strategy,
        alpha_log=None if log is None else log.append,
        listener=listener,
        stabilize=StabilizeConf(**(stabilize or {})),
    )
    trainer.fit(data(tools, **conf))
    return trainer


# -------------------------------------------------------------------------------------------------------------- warm-up


def learns_from(trainer: Watched) -> int:
    """The first epoch in which the architecture moved; it moves in every step from there on."""
    moved, before = [], trainer.initial
    for epoch, after, _ in trainer.steps:
        if not same(before, after):
            moved.append(epoch)
        before = after
    expected = [epoch for epoch, *_ in trainer.steps if epoch >= moved[0]]
    assert moved == expected
    return moved[0]


@pytest.mark.parametrize("name", ["darts", "didarts", "snas", "pcdarts", "xnas"])
def test_architecture_waits_and_then_learns(tools: Any, name: str) -> None:
    strategy = FAST[name]()
    states: list[dict[str, Any]] = []

    class Waiting(Watched):
        def post_step(self, x: Tensor, y: Tensor) -> None:
            super().post_step(x, y)
            states.append(copy.deepcopy(self.strategy.state_dict()))

    stabilize = StabilizeConf(warmup_epochs=2)
    trainer = Waiting(tools.search_conf(epochs=4), supergraph(tools, strategy), strategy=strategy, stabilize=stabilize)
    trainer.fit(data(tools))
    assert learns_from(trainer) == 2
    assert [drawn for *_, drawn in trainer.steps] == ([0, 0, 0, 0, 1, 2, 3, 4] if strategy.bilevel else [0] * 8)
    assert [s["steps"] for s in states] == [0, 0, 0, 0, 1, 2, 3, 4]
    if "optimizer" in states[0]:
        held = [bool(s["optimizer"]["state"]["state"]) for s in states]
        assert held == [False] * 4 + [True] * 4


def test_weights_of_the_warm_up_are_those_of_a_search_that_never_learns(tools: Any) -> None:
    waiting = search(tools, Darts(lr=0.3), epochs=3, max_steps_per_epoch=1, stabilize={"warmup_epochs": 2})
    frozen = search(tools, Darts(lr=0.0, weight_decay=0.0), epochs=3, max_steps_per_epoch=1)
    for epoch in range(2):
        ours, theirs = waiting.metrics.records[epoch], frozen.metrics.records[epoch]
        assert (ours.train, ours.val) == (theirs.train, theirs.val)
    assert not same(state(waiting.supergraph), state(frozen.supergraph))


@pytest.mark.parametrize(
    ("strategy", "setting", "epochs", "first"),
    [
        (PcDarts(partial=1, lr=0.3), None, 10, 3),
        (PcDarts(partial=1, lr=0.3), 0, 10, 0),
        (PcDarts(partial=1, lr=0.3), 5, 7, 5),
        (DrNas(lr=0.3), None, 5, 2),
        (DrNas(lr=0.3), 1, 5, 1),
        (Darts(lr=0.3), None, 2, 0),
    ],
    ids=str,
)
def test_learning_starts_when_paper_or_setting_say(
    tools: Any, strategy: MetaOptimizer, setting: int | None, epochs: int, first: int
) -> None:
    trainer = search(tools, strategy, epochs=epochs, max_steps_per_epoch=1, stabilize={"warmup_epochs": setting})
    assert len(trainer.metrics) == epochs
    assert learns_from(trainer) == first


@pytest.mark.parametrize("waits", [0, 1, 2])
def test_experts_play_exactly_the_rounds_of_their_horizon(tools: Any, waits: int) -> None:
    """40 validation examples in batches of 16."""
    strategy = Xnas()
    conf = {"epochs": 3, "batch_size": 16, "max_steps_per_epoch": None}
    trainer = search(tools, strategy, stabilize={"warmup_epochs": waits}, **conf)
    loaders = data(tools, **conf)
    assert loaders.alpha is not None
    batches, passes = len(loaders.alpha), (3 - waits) * len(loaders.train)
    drawn = sum(len(loaders.alpha.batch(i // batches, i % batches)[1]) for i in range(passes))
    assert strategy.examples == drawn
    assert strategy.describe()["rounds"] == {"regular": [2 * drawn, 2 * drawn], "reduction": [drawn, drawn]}
    assert learns_from(trainer) == waits


# -------------------------------------------------------------------------------------------------------------- monitor


def exact(model: Model, x: Tensor, y: Tensor) -> float:
    """The largest eigenvalue of the whole Hessian, in float64."""
    twin = copy.deepcopy(model).double().train()
    alphas = list(twin.all_owned().param_by_kind())
    with untouched_statistics(twin):
        loss = F.cross_entropy(twin(x.double(), twin.probabilities())[0], y)
    gradient = torch.cat([g.flatten() for g in torch.autograd.grad(loss, alphas, create_graph=True)])
    rows = [torch.autograd.grad(entry, alphas, retain_graph=True, materialize_grads=True) for entry in gradient]
    hessian = torch.stack([torch.cat([part.flatten() for part in row]) for row in rows])
    return float(torch.linalg.eigvalsh((hessian + hessian.T) / 2)[-1])


@pytest.mark.parametrize("name", ["darts", "pcdarts", "gdas"])
def test_recorded_eigenvalue_is_that_of_the_first_validation_batch_and_nothing_is_touched(
    tools: Any, name: str
) -> None:
    touched: list[str] = []
    compared: list[int] = []

    class Checked(ArchTrainer):
        def _eigenvalue(self, data_loaders: DataLoaders) -> float | None:
            for p in self.model.parameters():
                p.grad = torch.full_like(p, 0.25)
            before, generator = state(self.supergraph), torch.get_rng_state()
            modes = [module.training for module in self.model.modules()]
            found = super()._eigenvalue(data_loaders)
            after = state(self.supergraph)
            touched.extend(key for key in before if not torch.equal(before[key], after[key]))
            assert all(p.grad is not None and bool((p.grad == 0.25).all()) for p in self.model.parameters())
            assert modes == [module.training for module in self.model.modules()]
            assert torch.equal(generator, torch.get_rng_state())
            assert all(p.requires_grad for p in self.model.parameters())
            assert data_loaders.alpha is not None
            if self.epoch == 1:
                assert found == pytest.approx(exact(self.supergraph, *data_loaders.alpha.batch(0, 0)), rel=0.03)
                compared.append(self.epoch)
            return found

    log: Log = []
    strategy, stabilize = FAST[name](), StabilizeConf(eigenvalue="warn", warmup_epochs=0)
    model = supergraph(tools, strategy, nodes=1)
    trainer = Checked(tools.search_conf(), model, strategy=strategy, alpha_log=log.append, stabilize=stabilize)
    trainer.fit(data(tools))
    assert touched == []
    assert compared == [1]
    assert all(isinstance(line["eigenvalue"], float) for line in log)


def test_eigenvalue_is_recorded_after_the_warm_up_only(tools: Any) -> None:
    log: Log = []
    search(tools, Darts(lr=0.3), log, epochs=3, stabilize={"eigenvalue": "warn", "warmup_epochs": 2})
    assert [line["eigenvalue"] is None for line in log] == [True, True, False]
    log.clear()
    search(tools, Darts(lr=0.3), log)
    assert [line["eigenvalue"] for line in log] == [None, None]


# ---------------------------------------------------------------------------------------------------------------- noise


def test_noise_is_that_of_the_epoch_and_step(tools: Any) -> None:
    """Its own test is ``test_stabilizer.py``; here the counters of a real search."""
    seen: list[Any] = []

    class Recording(ArchTrainer):
        def train_mixing(self, x: Tensor, y: Tensor) -> Any:
            seen.append(super().train_mixing(x, y))
            return seen[-1]

    still = Darts(lr=0.0, weight_decay=0.0)
    model = supergraph(tools, still, nodes=1)
    Recording(tools.search_conf(), model, strategy=still, stabilize=StabilizeConf(perturb="random")).fit(data(tools))
    assert len(seen) == 4
    for step, mixing in enumerate(seen):
        draws = generator(derive_seed(0, "search.noise"), "perturbation", step)
        expected = randomly_perturbed(model.mixing_weights(), radius_at(0.3, step // 2, 2), draws)
        assert all(torch.equal(ours, theirs) for ours, theirs in zip(mixing, expected, strict=True))  # type: ignore[arg-type]


def test_dropout_of_a_search_starts_anew_when_the_architecture_learns(tools: Any) -> None:
    """Rates of four epochs, two of them without learning: 2/4 · 0.8 in the second, then 0.8 · exp(-5 · 0/4), …"""
    factors: list[set[float]] = [set() for _ in range(4)]

    class Recording(ArchTrainer):
        def train_mixing(self, x: Tensor, y: Tensor) -> Any:
            mixing = super().train_mixing(x, y)
            assert mixing is not None
            for table, plain in zip(mixing, self.supergraph.mixing_weights(), strict=True):
                assert table is not None
                assert plain is not None
                factors[self.epoch] |= {round(f, 3) for f in (table / plain).detach().flatten().tolist()}
            return mixing

    still = Darts(lr=0.0, weight_decay=0.0)
    conf = tools.search_conf(epochs=4, max_steps_per_epoch=5)
    stabilize = StabilizeConf(skip_dropout=0.8, warmup_epochs=2)
    Recording(conf, supergraph(tools, still), strategy=still, stabilize=stabilize).fit(data(tools))
    rates = [0.8 * 3 / 4, 0.8 * 2 / 4, 0.8, 0.8 * math.exp(-5 / 4)]
    assert factors == [{0.0, 1.0, round(1 / (1 - rate), 3)} for rate in rates]


# ------------------------------------------------------------------------------------------------- where settings are


def test_remedies_are_those_of_the_search_settings_unless_others_are_given(tools: Any) -> None:
    theirs, ours = StabilizeConf(skip_dropout=0.5, warmup_epochs=1), StabilizeConf(perturb="random")
    conf = tools.search_conf(stabilize=theirs)
    assert ArchTrainer(conf, supergraph(tools, Darts())).stabilize == theirs
    assert ArchTrainer(conf, supergraph(tools, Darts()), stabilize=ours).stabilize == ours
    assert ArchTrainer(conf, supergraph(tools, Darts()), stabilize=StabilizeConf()).stabilize == StabilizeConf()
    assert ArchTrainer(TrainConf(epochs=2), supergraph(tools, Darts())).stabilize == StabilizeConf()
    assert ArchTrainer(TrainConf(epochs=2), supergraph(tools, Darts()), stabilize=ours).stabilize == ours


def test_remedies_of_the_search_settings_act(tools: Any) -> None:
    """The same search, bit for bit, as with the argument."""
    settings = {"skip_dropout": 0.5, "perturb": "random", "warmup_epochs": 1}
    given = search(tools, Darts(lr=0.3), stabilize=settings)
    strategy = Darts(lr=0.3)
    conf = tools.search_conf(stabilize=StabilizeConf(**settings))
    trainer = ArchTrainer(conf, supergraph(tools, strategy), strategy=strategy)
    trainer.fit(data(tools))
    assert same(state(trainer.supergraph), state(given.supergraph))
    assert not same(state(trainer.supergraph), state(search(tools, Darts(lr=0.3)).supergraph))


def test_dropout_without_a_skip_is_refused_by_the_trainer(tools: Any) -> None:
    names = ["max_pool_3x3", "sep_conv_3x3", "none"]
    space = DartsSpace(1, 8, 5, channels=2, cells=3, nodes=1, reductions=1, primitives=names)
    with pytest.raises(ValueError, match="no edge that keeps the map has the candidate 'skip_connect'"):
        ArchTrainer(tools.search_conf(), Model(space.build()), stabilize=StabilizeConf(skip_dropout=0.5))


# --------------------------------------------------------------------------------------------- every strategy, together


@pytest.mark.parametrize("perturb", ["random", "adversarial"])
@pytest.mark.parametrize("name", FAST)
def test_remedies_go_with_every_strategy_and_repeat_bit_for_bit(
    tools: Any, name: str, perturb: str, without_seconds: Any
) -> None:
    settings = {
        "skip_dropout": 0.4,
        "perturb": perturb,
        "perturb_steps": 2,
        "eigenvalue": "none" if name == "xnas" else "warn",
        "skip_limit": "warn",
        "skip_limit_from": 1,
    }
    logs: list[Log] = [[], []]
    first, second = (search(tools, FAST[name](), log, nodes=1, stabilize=settings) for log in logs)
    assert logs[0] == logs[1]
    assert same(state(first.supergraph), state(second.supergraph))
    assert without_seconds(first.metrics.to_list()) == without_seconds(second.metrics.to_list())
    assert all(bool(value.isfinite().all()) for value in state(first.supergraph).values())
    assert not same(first.steps[0][1], first.steps[-1][1])
    assert Finalizers().finalize_model(first.supergraph).genotype() is not None


@pytest.mark.parametrize("name", ["darts 2", "snas", "gdas", "xnas"])
def test_noisy_search_that_was_interrupted_continues_bit_for_bit(tools: Any, tmp_path: Path, name: str) -> None:
    settings = {"skip_dropout": 0.4, "perturb": "random", "skip_limit": "warn", "skip_limit_from": 1}
    whole = search(tools, FAST[name](), nodes=1, stabilize=settings)
    checkpoint, killer = create_checkpoint(tmp_path / "a.pt", False), tools.kill_after("search", 1)
    with pytest.raises(tools.killed):
        search(tools, FAST[name](), nodes=1, stabilize=settings, checkpoint=checkpoint, listener=killer)
    resumed = search(
        tools, FAST[name](), nodes=1, stabilize=settings, checkpoint=create_checkpoint(tmp_path / "a.pt", True)
    )
    assert same(state(resumed.supergraph), state(whole.supergraph))
