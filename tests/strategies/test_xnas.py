"""Tests of ``src/gradnas/strategies/xnas.py``; the update alone is tested in ``test_expert_advice.py``.

Tests named ``departure_NN`` fail when the departure of that number, found in other implementations, is introduced.
"""

import copy
import gc
import itertools
import math
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import SGD

from gradnas.config import build_strategy, load_preset
from gradnas.data import Augmentation, load_data
from gradnas.finalizers import Finalizers
from gradnas.pipeline import ArchTrainer, RunContext
from gradnas.spaces import DartsSpace
from gradnas.strategies import Batch, Darts, SearchSchedule, Xnas
from gradnas.strategies.expert_advice import learning_rate
from gradnas.strategies.expert_weights import ExpertWeights
from gradnas.supergraph import Model, Softmax
from gradnas.supergraph.mixing import entry
from gradnas.training import OptimConf, ScoreSums, TrainConf

F64 = torch.float64
NAMES = ("max_pool_3x3", "skip_connect", "sep_conv_3x3", "dil_conv_3x3", "none")
NONE = NAMES.index("none")
SPACE = DartsSpace(1, 8, 4, channels=2, cells=3, nodes=2, reductions=1, primitives=NAMES)
"""Two regular cells and a reduction cell between them, five edges each."""
LONG = SearchSchedule(epochs=10, steps_per_epoch=10, val_samples=600)


class Loss:
    """Mean cross entropy of a model, times a factor."""

    def __init__(self, model: Model, factor: float = 1.0) -> None:
        self.model, self.factor = model, factor

    def __call__(
        self, batch: Batch, *, full_precision: bool = False, mixing: Sequence[Tensor | None] | None = None
    ) -> Tensor:
        return self.factor * F.cross_entropy(self.model(batch[0], mixing)[0], batch[1])


def batch(n: int = 6, seed: int = 1) -> Batch:
    numbers = torch.Generator().manual_seed(seed)
    x = torch.randn(n, 1, 8, 8, generator=numbers, dtype=F64)
    return x, torch.randint(4, (n,), generator=numbers)


TRAIN, VAL = batch(seed=1), batch(seed=2)


def uncoupled(model: nn.Module) -> None:
    """Replace batch norm by a norm of each example alone."""
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, nn.BatchNorm2d):
                setattr(module, name, nn.GroupNorm(1, child.num_features, affine=False))


def supergraph(space: DartsSpace = SPACE, *, seed: int = 0, batch_norm: bool = True) -> Model:
    torch.manual_seed(seed)
    model = Model(space.build(), affine=False, registry=space.registry)
    if not batch_norm:
        uncoupled(model)
    return model.double()


def prepared(model: Model, xnas: Xnas | None = None, *, loss: Any = None, **settings: Any) -> Xnas:
    xnas = xnas if xnas is not None else Xnas()
    model.set_mixing_rule(xnas.mixing_rule)
    settings = {"schedule": LONG, **settings}
    xnas.prepare(model, loss if loss is not None else Loss(model), sgd(model), **settings)
    return xnas


def sgd(model: Model) -> SGD:
    return SGD(model.weights(), lr=0.1, momentum=0.9, weight_decay=0.01)


def spread_out(model: Model, seed: int = 5) -> None:
    """Give the experts different weights."""
    numbers = torch.Generator().manual_seed(seed)
    for log_weights in states(model, "log_weights"):
        log_weights.copy_(torch.randn(len(log_weights), generator=numbers, dtype=F64))


def states(model: Model, name: str) -> list[Tensor]:
    return [entry(op.arch_params(), name) for cell in model.owner_cells() for op in cell.mixed_ops()]


def table(model: Model, name: str = "log_weights") -> Tensor:
    return torch.stack(states(model, name)).clone()


def kill(model: Model, xnas: Xnas, experts: Sequence[int], edges: Sequence[int] | None = None) -> None:
    """Wipe experts out on all edges, or on these of each type."""
    for cell in model.owner_cells():
        for e, op in enumerate(cell.mixed_ops()):
            if edges is None or e in edges:
                entry(op.arch_params(), "survivors")[list(experts)] = False
    xnas.load_state_dict(xnas.state_dict())  # the way of a resumed search: masks are in the model


def snapshot(module: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in module.state_dict().items()}


def different(a: dict[str, Tensor], b: dict[str, Tensor]) -> list[str]:
    assert list(a) == list(b)
    return [name for name in a if not torch.equal(a[name], b[name])]


def trained(model: Model, xnas: Xnas | Darts) -> ArchTrainer:
    """A trainer that is ready for single steps."""
    trainer = ArchTrainer(TrainConf(epochs=10, optimizer=OptimConf(lr=0.1)), model, strategy=xnas)
    trainer.multi_optim = trainer.create_multi_optim(trainer.ordinary_params())
    xnas.prepare(model, trainer._batch_loss, trainer.multi_optim[0].optimizer, schedule=LONG)
    return trainer


def weight_step(trainer: ArchTrainer, batch: Batch) -> None:
    trainer._weight_step(*batch, ScoreSums("cpu"))


# -------------------------------------------------------------------------------------------------------------- rewards


def reward_by_definition(model: Model, x: Tensor, y: Tensor, bound: float) -> Tensor:
    """-<d loss / d p, f_i> of one example: p and f_i are caught inside the edges. Shape (cells, edges, experts)."""
    caught: list[tuple[Tensor, list[Tensor]]] = []
    hooks = []
    for op in model.mixed_ops():
        outputs = [torch.zeros(0)] * len(op.names)

        def keep(_: nn.Module, __: Any, out: Tensor, outputs: list[Tensor], k: int) -> None:
            outputs[k] = out.detach()

        def output(_: nn.Module, __: Any, out: Tensor, outputs: list[Tensor]) -> Tensor:
            p = out.detach().requires_grad_()
            caught.append((p, outputs))
            return out + p - p.detach()  # the value of out; p catches the gradient

        for k, candidate in enumerate(op.candidates):
            hooks.append(candidate.register_forward_hook(lambda m, i, o, s=outputs, k=k: keep(m, i, o, s, k)))
        hooks.append(op.register_forward_hook(lambda m, i, o, s=outputs: output(m, i, o, s)))
    loss = F.cross_entropy(model(x)[0], y, reduction="sum")
    gradients = torch.autograd.grad(loss, [p for p, _ in caught])
    for hook in hooks:
        hook.remove()
    rewards = [
        [-(gradient * f).sum() if len(f) else torch.zeros((), dtype=F64) for f in outputs]
        for gradient, (_, outputs) in zip(gradients, caught, strict=True)
    ]
    return torch.tensor(rewards, dtype=F64).clamp(-bound, bound).view(3, 5, len(NAMES))


@pytest.mark.parametrize(("bound", "chunks"), [(100.0, 1), (0.02, 1), (0.02, 3)])
def test_batched_rewards_equal_a_loop_over_single_examples_by_the_definition(bound: float, chunks: int) -> None:
    model = supergraph(batch_norm=False)
    xnas = prepared(model, Xnas(bound=bound), chunks=chunks)
    spread_out(model)
    regular, reduction = xnas._rewards(*VAL)[0]
    single = sum(reward_by_definition(model, x[None], y[None], bound) for x, y in zip(*VAL, strict=True))
    assert isinstance(single, Tensor)
    torch.testing.assert_close(regular, single[0] + single[2], rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(reduction, single[1], rtol=1e-10, atol=1e-12)
    if bound < 1:
        assert (xnas._rewards(*VAL)[2][:, 0] > 0).all()  # the bound was reached, or this would be no test of it


def test_batched_rewards_equal_the_strategy_on_single_examples() -> None:
    model = supergraph(batch_norm=False)
    xnas = prepared(model, Xnas(bound=0.05))
    spread_out(model)
    batched = xnas._rewards(*VAL)[0]
    for together, alone in zip(
        batched, zip(*(xnas._rewards(x[None], y[None])[0] for x, y in zip(*VAL, strict=True)), strict=True), strict=True
    ):
        torch.testing.assert_close(together, sum(alone), rtol=1e-10, atol=1e-12)


def test_with_batch_norm_a_reward_is_the_slope_of_the_loss_of_the_whole_batch() -> None:
    model = supergraph()
    xnas = prepared(model)
    spread_out(model)
    gradients = xnas._gradients(*VAL)[0]  # regular cells: (C, E, N, B)
    tables = model.mixing_weights()
    cell, edge, expert, example, h = 1, 3, 2, 4, 1e-6

    @torch.no_grad()
    def loss(change: float) -> float:
        mixing = [t[:, None, :].repeat(1, len(VAL[1]), 1) for t in tables if t is not None]
        mixing[2][edge, example, expert] += change  # cell 2 is the second regular one
        model.train()
        return float(F.cross_entropy(model(VAL[0], mixing)[0], VAL[1], reduction="sum"))

    slope = (loss(h) - loss(-h)) / (2 * h)
    torch.testing.assert_close(float(gradients[cell, edge, expert, example]), slope, rtol=1e-5, atol=1e-8)


def test_log_weights_grow_by_eta_times_the_reward() -> None:
    model = supergraph(batch_norm=False)
    xnas = prepared(model)
    rewards = xnas._rewards(*VAL)[0]
    xnas.step(TRAIN, VAL)
    for owner, kind, reward in zip(model.owner_cells(), xnas._types, rewards, strict=True):
        expected = learning_rate(5, 600 * len(kind.cells), 1.0) * reward
        found = torch.stack([entry(op.arch_params(), "log_weights") for op in owner.mixed_ops()])
        torch.testing.assert_close(found, expected - expected.amax(1, keepdim=True))


# ---------------------------------------------------------------------------------------------------- the 15 departures


def test_departure_01_weights_are_updated_in_place_shared_and_saved() -> None:
    model = supergraph()
    xnas = prepared(model)
    held = states(model, "log_weights")
    mixed = model.mixing_weights()
    xnas.step(TRAIN, VAL)
    xnas.step(TRAIN, VAL)
    assert all(now is then for now, then in zip(states(model, "log_weights"), held, strict=True))
    assert all(t.any() for t in held)  # they have learnt, in place
    for now, then in zip(model.mixing_weights(), mixed, strict=True):
        assert now is not None
        assert then is not None
        assert not torch.allclose(now, then)
    cells = model.typed_cells()
    for first, other in zip(cells[0].mixed_ops(), cells[2].mixed_ops(), strict=True):
        assert first.arch_params()["log_weights"] is other.arch_params()["log_weights"]
    saved = [name for name in model.state_dict() if "log_weights" in name]
    assert len(saved) == 10  # five edges of each type, once
    assert all(torch.equal(model.state_dict()[name], t) for name, t in zip(saved, held, strict=True))


def test_departure_01_the_horizon_of_a_type_counts_its_own_cells() -> None:
    xnas = prepared(supergraph())
    assert [kind.horizon for kind in xnas._types] == [1200, 600]
    assert [kind.eta for kind in xnas._types] == [learning_rate(5, 1200, 1.0), learning_rate(5, 600, 1.0)]


def test_departure_02_all_cells_of_a_type_finalize_equal() -> None:
    model = supergraph()
    xnas = prepared(model)
    for seed in range(3):
        xnas.step(TRAIN, batch(seed=seed))
    cells = Finalizers().finalize_model(model).cell_descs
    chosen = [[(e.op_desc.name, e.input_ids) for n in cell.nodes() for e in n.edges] for cell in cells]
    assert chosen[0] == chosen[2]
    assert chosen[0] != chosen[1]  # the reduction cell has learnt something else: equality above says something


def test_departure_03_a_huge_gradient_earns_no_more_than_the_bound() -> None:
    model = supergraph()
    xnas = prepared(model, Xnas(bound=0.5, wipe_out=False), loss=Loss(model, factor=1e6))
    gradients, (rewards, _, cut) = xnas._gradients(*VAL), xnas._rewards(*VAL)
    for gradient, reward in zip(gradients, rewards, strict=True):
        assert gradient[:, :, :NONE].abs().min() > 0.5
        assert torch.equal(reward, -0.5 * gradient.sign().sum(dim=(0, 3)))  # every round earns the bound, up or down
    assert cut[:, 0].tolist() == cut[:, 1].tolist() == [2 * 5 * 4 * 6, 5 * 4 * 6]


def test_departure_05_validation_gradients_never_reach_the_weights() -> None:
    ours, theirs = supergraph(), supergraph()
    with_pass, without = trained(ours, Xnas()), trained(theirs, Xnas())
    for seed in range(3):
        with_pass.strategy.step(TRAIN, batch(seed=10 + seed))
        for mine, yours in zip(states(ours, "log_weights"), states(theirs, "log_weights"), strict=True):
            yours.copy_(mine)  # the same mixture, without a reward pass
        weight_step(with_pass, TRAIN)
        weight_step(without, TRAIN)
    assert different(snapshot(ours), snapshot(theirs)) == []


def test_departure_05_a_step_leaves_weights_gradients_and_statistics_alone() -> None:
    model = supergraph()
    trainer = trained(model, Xnas())
    weight_step(trainer, TRAIN)
    before, gradients = snapshot(model), {n: p.grad for n, p in model.named_parameters()}
    kept = {n: None if g is None else g.clone() for n, g in gradients.items()}
    optimizer = copy.deepcopy(trainer.multi_optim[0].optimizer.state_dict())
    trainer.strategy.step(TRAIN, VAL)
    assert all("log_weights" in name for name in different(before, snapshot(model)))
    for name, parameter in model.named_parameters():
        assert parameter.grad is gradients[name]
        assert parameter.requires_grad
        if kept[name] is not None:
            assert torch.equal(parameter.grad, kept[name])  # type: ignore[arg-type]  # both are tensors
    after = trainer.multi_optim[0].optimizer.state_dict()
    assert all(
        torch.equal(optimizer["state"][i]["momentum_buffer"], s["momentum_buffer"]) for i, s in after["state"].items()
    )


# Departure 6, the horizon of the real schedule, is tested in tests/pipeline/test_xnas.py with real loaders.


def test_departure_07_fallen_experts_are_not_called_and_their_weights_rest() -> None:
    model = supergraph()
    trainer = trained(model, Xnas())
    assert isinstance(trainer.strategy, Xnas)
    weight_step(trainer, TRAIN)  # momentum exists
    kill(model, trainer.strategy, [2, 3])
    calls: Counter[str] = Counter()
    for op in model.mixed_ops():
        for name, candidate in zip(op.names, op.candidates, strict=True):
            candidate.register_forward_hook(lambda m, i, o, name=name: calls.update([name]))
    before = snapshot(model)
    trainer.strategy.step(TRAIN, VAL)
    weight_step(trainer, TRAIN)
    model.eval()
    model(TRAIN[0])
    assert calls == {"max_pool_3x3": 3 * 15, "skip_connect": 3 * 15}
    changed = different(before, snapshot(model))
    fallen = [f".candidates.{k}." for k in (2, 3)]
    assert not [name for name in changed if any(part in name for part in fallen)]
    assert any("stems" in name for name in changed)
    assert all(p.grad is None for n, p in model.named_parameters() if any(part in n for part in fallen))


def test_departure_07_an_expert_stops_being_called_at_its_wipe_out() -> None:
    model = supergraph()
    trainer = trained(model, Xnas())
    assert isinstance(trainer.strategy, Xnas)
    for log_weights in states(model, "log_weights"):
        log_weights[2] = -1e6  # falls in the next step
    called: list[int] = []
    for op in model.mixed_ops():
        op.candidates[2].register_forward_hook(lambda m, i, o: called.append(1))
    trainer.strategy.step(TRAIN, VAL)
    assert len(called) == 15
    assert not table(model, "survivors")[:, 2].any()
    weight_step(trainer, TRAIN)
    trainer.strategy.step(TRAIN, VAL)
    assert len(called) == 15


def test_departure_08_weights_far_apart_neither_overflow_nor_vanish() -> None:
    model = supergraph()
    xnas = prepared(model, Xnas(wipe_out=False))
    for log_weights in states(model, "log_weights"):
        log_weights.copy_(torch.tensor([1e6, -1e6, 5e3, -800.0, 0.0], dtype=F64))
    xnas.step(TRAIN, VAL)
    assert table(model).isfinite().all()
    assert torch.equal(table(model).amax(1), torch.zeros(10, dtype=F64))
    for weights in model.mixing_weights():
        assert weights is not None
        torch.testing.assert_close(weights.sum(1), torch.ones(5, dtype=F64))


def test_departure_10_none_earns_exactly_nothing_and_cannot_be_chosen() -> None:
    model = supergraph()
    xnas = prepared(model)
    assert all(bool((reward[:, NONE] == 0).all()) for reward in xnas._rewards(*VAL)[0])
    for log_weights in states(model, "log_weights"):
        log_weights.copy_(torch.tensor([1.0, 2.0, 0.0, 0.0, 9.0], dtype=F64))
    desc, rank = model.typed_cells()[0].mixed_ops()[0].finalize()
    assert desc.name == "skip_connect"
    total = math.e + math.e**2 + 2 + math.e**9
    assert rank == pytest.approx(math.e**2 / total, rel=1e-6)  # the share of none counts


def test_departure_10_an_edge_where_only_none_survived_ranks_last_with_its_best_candidate() -> None:
    model = supergraph()
    xnas = prepared(model)
    for log_weights in states(model, "log_weights"):
        log_weights.copy_(torch.tensor([-3.0, -2.0, -1.0, -5.0, 0.0], dtype=F64))
    kill(model, xnas, range(4), edges=[0])  # the first edge of node 0 keeps none alone
    op = model.typed_cells()[0].mixed_ops()[0]
    desc, rank = op.finalize()
    assert desc.name == "sep_conv_3x3"
    assert rank == 0.0
    assert model.typed_cells()[0].mixed_ops()[1].finalize()[1] > 0.0  # type: ignore[operator]  # a number
    assert torch.equal(op(torch.ones(2, 2, 8, 8, dtype=F64)), torch.zeros(2, 2, 8, 8, dtype=F64))
    xnas.step(TRAIN, VAL)  # and the search goes on
    reduction = model.typed_cells()[1].mixed_ops()[0]
    assert reduction(torch.ones(2, 4, 8, 8, dtype=F64)).shape == (2, 4, 4, 4)


def test_departure_11_rewards_come_from_one_pass_of_the_whole_batch() -> None:
    model = supergraph()
    xnas = prepared(model)
    sizes: list[int] = []
    model.register_forward_pre_hook(lambda m, args: sizes.append(len(args[0])))
    before = snapshot(model)
    xnas.step(TRAIN, VAL)
    assert sizes == [6]
    assert all("log_weights" in name for name in different(before, snapshot(model)))  # running statistics rest


def test_departure_12_the_weight_step_uses_the_mixture_of_the_update_before_it() -> None:
    model = supergraph()
    trainer = trained(model, Xnas())
    events: list[str] = []
    step, weight = trainer.strategy.step, trainer.multi_optim.step
    trainer.strategy.step = lambda *batches: (events.append("experts"), step(*batches))[1]  # type: ignore[method-assign,func-returns-value]  # to watch
    trainer.multi_optim.step = lambda: (events.append("weights"), weight())[1]  # type: ignore[method-assign,func-returns-value]  # to watch
    mixtures: list[Tensor] = []
    model.register_forward_pre_hook(lambda m, args: mixtures.append(table(model)))
    trainer._alpha_batches = type("Once", (), {"next": lambda self: VAL})()
    trainer.pre_step(*TRAIN)
    weight_step(trainer, TRAIN)
    assert events == ["experts", "weights"]
    assert not mixtures[0].any()
    assert torch.equal(mixtures[1], table(model))


def test_departure_12_rewards_are_of_images_as_they_are() -> None:
    data = load_data("digits")
    augmented = replace(data, augmentation=Augmentation(crop_padding=2))
    conf = load_preset("xnas-demo").search
    alpha = RunContext(data=augmented).loaders(conf, "search", test=False).alpha
    plain = RunContext(data=replace(data, augmentation=Augmentation())).loaders(conf, "search", test=False).alpha
    wanted = RunContext(data=augmented).loaders(replace(conf, augment_val_batches=True), "search", test=False).alpha
    assert alpha is not None
    assert plain is not None
    assert wanted is not None
    assert torch.equal(alpha.batch(0, 0)[0], plain.batch(0, 0)[0])
    assert not torch.equal(wanted.batch(0, 0)[0], plain.batch(0, 0)[0])  # there is something to switch off
    assert not load_preset("xnas-cifar10").search.augment_val_batches


def test_departure_13_what_a_step_reads_does_not_grow_with_edges_and_it_opens_no_file(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    opened: list[object] = []
    watching = [False]
    sys.addaudithook(lambda event, args: opened.append(args) if event == "open" and watching[0] else None)
    reads: Counter[int] = Counter()
    for nodes in (1, 3):  # two edges per type, and nine
        space = DartsSpace(1, 8, 4, channels=2, cells=3, nodes=nodes, reductions=1, primitives=NAMES)
        model = supergraph(space)
        xnas = prepared(model)
        xnas.step(TRAIN, VAL)  # whatever torch loads at first use
        with monkeypatch.context() as patch:
            for name in ("item", "tolist", "numpy", "cpu", "__bool__", "__float__", "__int__"):
                read = getattr(Tensor, name)

                def count(self: Tensor, *args: Any, read: Any = read, nodes: int = nodes, **kwargs: Any) -> Any:
                    reads[nodes] += 1
                    return read(self, *args, **kwargs)

                patch.setattr(Tensor, name, count)
            watching[0] = True
            xnas.step(TRAIN, VAL)
            watching[0] = False
    assert opened == []
    assert reads[1] == reads[3] == 3  # whether all was finite, and the masks of two types
    assert not torch.cuda.is_initialized()


def alive_after(action: Callable[[], object]) -> int:
    """Bytes of the tensors that exist now and did not before; weights' gradients and momenta among them."""
    gc.collect()
    before = {id(o) for o in gc.get_objects() if type(o) in (Tensor, nn.Parameter)}
    result = action()
    gc.collect()
    new = [o for o in gc.get_objects() if type(o) in (Tensor, nn.Parameter) and id(o) not in before]
    del result
    return sum(t.untyped_storage().nbytes() for t in new)


def test_departure_14_a_weight_step_keeps_what_that_of_darts_keeps(monkeypatch: pytest.MonkeyPatch) -> None:
    saved, left, hooked = [], [], []
    register = Tensor.register_hook
    monkeypatch.setattr(Tensor, "register_hook", lambda self, hook: (hooked.append(hook), register(self, hook))[1])
    for strategy in (Xnas(), Darts()):
        model = supergraph()
        trainer = trained(model, strategy)
        strategy.step(TRAIN, VAL)
        weight_step(trainer, TRAIN)  # momenta exist
        trainer.multi_optim.zero_grad()
        stored: dict[int, int] = {}

        def pack(t: Tensor, stored: dict[int, int] = stored) -> Tensor:
            stored[t.untyped_storage().data_ptr()] = t.untyped_storage().nbytes()
            return t

        def step(trainer: ArchTrainer = trainer, pack: Any = pack) -> None:
            with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
                weight_step(trainer, TRAIN)

        left.append(alive_after(step))
        saved.append(sum(stored.values()))
        assert not any(m._forward_hooks or m._backward_hooks for m in model.modules())
    assert saved[0] <= saved[1]
    assert left[0] <= left[1]
    assert hooked == []


@pytest.mark.parametrize("name", ["xnas-cifar10", "xnas-cifar10-eval"])
def test_departure_15_the_presets_train_the_weights_as_published(name: str) -> None:
    conf = load_preset(name)
    assert (conf.search.epochs, conf.search.batch_size, conf.search.val_ratio) == (50, 96, 0.5)
    assert conf.search.grad_clip == 5.0
    model = supergraph()
    trainer = ArchTrainer(conf.search, model, strategy=Xnas())
    (part,) = trainer.create_multi_optim(trainer.ordinary_params())
    (group,) = part.optimizer.param_groups
    assert isinstance(part.optimizer, SGD)
    assert (group["lr"], group["momentum"], group["weight_decay"], group["nesterov"]) == (0.025, 0.9, 3e-4, False)
    assert {id(p) for p in group["params"]} == {id(p) for p in model.weights()}
    assert isinstance(part.scheduler, torch.optim.lr_scheduler.CosineAnnealingLR)
    assert (part.scheduler.T_max, part.scheduler.eta_min) == (50, 0.001)
    assert build_strategy(conf.strategy).__repr__() == "Xnas(bound=1.0, horizon=None, wipe_out=True)"


# ------------------------------------------------------------------------------------------------------------ wipe-out


def test_at_the_end_one_expert_is_left_on_each_edge_and_it_leads() -> None:
    model = supergraph()
    xnas = prepared(model, schedule=SearchSchedule(epochs=1, steps_per_epoch=5, val_samples=30))
    alive = []
    for seed in range(5):
        xnas.step(TRAIN, batch(seed=seed))
        alive.append(int(table(model, "survivors").sum()))
    assert alive[-1] == 10
    assert all(later <= earlier for earlier, later in itertools.pairwise(alive))
    assert torch.equal(table(model).argmax(1), table(model, "survivors").int().argmax(1))


def test_without_wipe_out_all_experts_live() -> None:
    model = supergraph()
    xnas = prepared(model, Xnas(wipe_out=False), schedule=SearchSchedule(epochs=1, steps_per_epoch=5, val_samples=30))
    for seed in range(5):
        xnas.step(TRAIN, batch(seed=seed))
    assert table(model, "survivors").all()


def test_a_fallen_expert_keeps_its_distance_to_the_leader_of_its_time() -> None:
    model = supergraph()
    xnas = prepared(model)
    spread_out(model)
    kill(model, xnas, [0])
    before, rewards = table(model), torch.cat(xnas._rewards(*VAL)[0])
    xnas.step(TRAIN, VAL)
    after = table(model)
    assert bool((rewards[:, 0] == 0).all())
    eta = torch.tensor([kind.eta for kind in xnas._types], dtype=F64).repeat_interleave(5)
    leader = (before + eta[:, None] * rewards)[:, 1:].amax(1)
    torch.testing.assert_close(after[:, 0], before[:, 0] - leader)


# ------------------------------------------------------------------------------------------------- order of candidates


def permuted(order: Sequence[int]) -> Model:
    """:func:`supergraph` with candidates in another order and the weights that belong to them."""
    space = DartsSpace(1, 8, 4, channels=2, cells=3, nodes=2, reductions=1, primitives=[NAMES[k] for k in order])
    model, source = supergraph(space), supergraph()
    ours, theirs = dict(model.named_modules()), dict(source.named_modules())
    for name, module in ours.items():
        parts = name.split(".")
        if "candidates" in parts:
            at = parts.index("candidates") + 1
            if at == len(parts):
                continue
            parts[at] = str(order[int(parts[at])])
        twin = theirs[".".join(parts)]
        for kind in ("_parameters", "_buffers"):
            for key, value in getattr(module, kind).items():
                if value is not None and "arch_param" not in key:
                    value.data.copy_(getattr(twin, kind)[key])
    return model


def test_permuted_primitives_permute_the_result() -> None:
    order = [3, 4, 0, 2, 1]
    schedule = SearchSchedule(epochs=1, steps_per_epoch=4, val_samples=24)
    models = supergraph(), permuted(order)
    trainers = []
    for model in models:
        trainers.append(trained(model, Xnas(bound=0.05)))
        trainers[-1].strategy.prepare(model, trainers[-1]._batch_loss, sgd(model), schedule=schedule)
    for seed in range(4):
        for trainer in trainers:
            trainer.strategy.step(TRAIN, batch(seed=seed))
            weight_step(trainer, TRAIN)
    torch.testing.assert_close(table(models[1]), table(models[0])[:, order], rtol=1e-6, atol=1e-9)
    assert torch.equal(table(models[1], "survivors"), table(models[0], "survivors")[:, order])
    found = [Finalizers().finalize_model(model) for model in models]
    assert found[0].clear_trainables().hash() == found[1].clear_trainables().hash()


# --------------------------------------------------------------------------------------------------------------- state


def test_a_resumed_search_takes_the_same_next_step() -> None:
    def start() -> tuple[Model, ArchTrainer]:
        model = supergraph()
        return model, trained(model, Xnas(bound=0.02))

    def steps(trainer: ArchTrainer, seeds: Sequence[int]) -> None:
        for seed in seeds:
            trainer.strategy.step(TRAIN, batch(seed=seed))
            weight_step(trainer, TRAIN)

    whole, trainer = start()
    steps(trainer, range(3))
    saved = copy.deepcopy((whole.state_dict(), trainer.strategy.state_dict()))
    momentum = copy.deepcopy(trainer.multi_optim[0].optimizer.state_dict())
    steps(trainer, [3, 4])
    again, resumed = start()
    again.load_state_dict(saved[0])
    resumed.strategy.load_state_dict(saved[1])
    resumed.multi_optim[0].optimizer.load_state_dict(momentum)
    steps(resumed, [3, 4])
    assert different(snapshot(whole), snapshot(again)) == []
    assert trainer.strategy.describe() == resumed.strategy.describe()


def test_the_state_of_another_horizon_is_refused() -> None:
    ours, theirs = prepared(supergraph()), prepared(supergraph(), Xnas(horizon=700))
    with pytest.raises(ValueError, match=r"search of 700 validation examples with bound 1.0; this one has 600 and 1.0"):
        ours.load_state_dict(theirs.state_dict())
    with pytest.raises(ValueError, match=r"of 600 validation examples with bound 0.5; this one has 600 and 1.0"):
        ours.load_state_dict(prepared(supergraph(), Xnas(bound=0.5)).state_dict())


def test_another_rule_or_another_state_computes_all_candidates_again() -> None:
    model = supergraph()
    xnas = prepared(model)
    early = copy.deepcopy(model.state_dict())
    expected = supergraph()
    expected.set_mixing_rule(ExpertWeights())
    expected.load_state_dict(early)
    kill(model, xnas, [0, 1])
    model.load_state_dict(early)
    torch.testing.assert_close(model(VAL[0])[0], expected(VAL[0])[0])
    kill(model, xnas, [0, 1])
    model.set_mixing_rule(Softmax())
    assert all(op.computed == (0, 1, 2, 3) for op in model.mixed_ops())


def test_what_a_lost_step_left_to_be_read_does_not_reach_a_restored_search() -> None:
    model = supergraph()
    xnas = prepared(model)
    saved = copy.deepcopy((model.state_dict(), xnas.state_dict()))
    xnas._readout.lags = True
    for log_weights in states(model, "log_weights"):
        log_weights[2] = -1e6  # falls in the step that is lost
    xnas.step(TRAIN, VAL)
    model.load_state_dict(saved[0])
    xnas.load_state_dict(saved[1])
    xnas.check()
    assert all(op.computed == (0, 1, 2, 3) for op in model.mixed_ops())


def test_prepare_starts_afresh() -> None:
    model = supergraph()
    xnas = prepared(model)
    xnas.step(TRAIN, VAL)
    kill(model, xnas, [0])
    xnas.prepare(model, Loss(model), sgd(model), schedule=LONG)
    assert not table(model).any()
    assert table(model, "survivors").all()
    assert xnas.examples == 0
    assert all(op.computed == (0, 1, 2, 3) for op in model.mixed_ops())


def test_the_log_says_rounds_rates_and_the_share_of_cut_rewards() -> None:
    model = supergraph()
    xnas = prepared(model, Xnas(bound=0.02))
    cut = [int((g.abs() > 0.02).sum()) for g in xnas._gradients(*VAL)]
    xnas.step(TRAIN, VAL)
    said = xnas.describe()
    assert said["rounds"] == {"regular": [12, 1200], "reduction": [6, 600]}
    assert said["bound_hits"] == {
        "regular": cut[0] / (2 * 5 * 4 * 6),
        "reduction": cut[1] / (1 * 5 * 4 * 6),
    }
    assert said["eta"] == {"regular": learning_rate(5, 1200, 0.02), "reduction": learning_rate(5, 600, 0.02)}


def test_reading_one_step_late_changes_nothing_that_is_learnt() -> None:
    prompt, late = supergraph(), supergraph()
    trainers = [trained(prompt, Xnas(bound=0.05)), trained(late, Xnas(bound=0.05))]
    schedule = SearchSchedule(epochs=1, steps_per_epoch=4, val_samples=24)
    for trainer, model in zip(trainers, (prompt, late), strict=True):
        trainer.strategy.prepare(model, trainer._batch_loss, sgd(model), schedule=schedule)
    assert isinstance(trainers[1].strategy, Xnas)
    trainers[1].strategy._readout.lags = True  # as on a GPU
    for seed in range(4):
        for trainer in trainers:
            trainer.strategy.step(TRAIN, batch(seed=seed))
            weight_step(trainer, TRAIN)
    for trainer in trainers:
        trainer.strategy.check()
    assert not table(prompt, "survivors").all()
    assert [op.computed for op in prompt.mixed_ops()] == [op.computed for op in late.mixed_ops()]
    # The fallen took part in one more weight step, with weight 0: only what is theirs may differ.
    fallen = {
        f"cells.{c}.nodes.{n}.{e}.op.candidates.{k}."
        for c, cell in enumerate(prompt.typed_cells())
        for n, node in enumerate(cell.node_edges())
        for e, edge in enumerate(node)
        for k in range(len(NAMES))
        if not entry(edge.op.arch_params(), "survivors")[k]  # type: ignore[union-attr,operator,index]  # a mixed op
    }
    for name in different(snapshot(prompt), snapshot(late)):
        assert any(name.startswith(part) for part in fallen), name


# ----------------------------------------------------------------------------------------------------------- bad inputs


@pytest.mark.parametrize("lags", [False, True])
@pytest.mark.parametrize("factor", [math.nan, math.inf])
def test_a_reward_that_is_not_finite_is_refused_and_named(lags: bool, factor: float) -> None:
    model = supergraph()
    loss = Loss(model)
    xnas = prepared(model, loss=loss)
    xnas._readout.lags = lags
    xnas.step(TRAIN, VAL)
    xnas.check()
    before, said = snapshot(model), xnas.describe()
    loss.factor = factor

    def refused() -> None:
        xnas.step(TRAIN, VAL)
        xnas.check()

    with pytest.raises(FloatingPointError, match=r"not finite at step 1 of this search .* the step is refused"):
        refused()
    assert different(before, snapshot(model)) == []
    assert xnas.describe() == said
    assert xnas.examples == 6
    loss.factor = 1.0
    xnas.step(TRAIN, VAL)  # and it can go on


def test_a_horizon_shorter_than_the_search_is_refused_at_the_start() -> None:
    with pytest.raises(ValueError, match=r"horizon=599 is shorter than the search, which will draw 600 .* 10 epochs"):
        prepared(supergraph(), Xnas(horizon=599))


def test_a_longer_horizon_keeps_room() -> None:
    xnas = prepared(supergraph(), Xnas(horizon=1000))
    assert [kind.horizon for kind in xnas._types] == [2000, 1000]


def test_more_examples_than_announced_are_refused_before_anything_changes() -> None:
    model = supergraph()
    xnas = prepared(model, schedule=SearchSchedule(epochs=1, steps_per_epoch=2, val_samples=11))
    xnas.step(TRAIN, VAL)
    before = snapshot(model)
    with pytest.raises(ValueError, match=r"example 12 of 11: the search is longer than it was announced"):
        xnas.step(TRAIN, VAL)
    assert different(before, snapshot(model)) == []


def test_a_search_of_unknown_length_needs_a_horizon() -> None:
    model = supergraph()
    with pytest.raises(ValueError, match=r"must know how many validation examples .* set horizon"):
        prepared(model, schedule=None)
    assert prepared(model, Xnas(horizon=50), schedule=None)._total == 50


def test_a_search_without_validation_examples_is_refused() -> None:
    with pytest.raises(ValueError, match="needs validation examples"):
        prepared(supergraph(), schedule=SearchSchedule(epochs=1, steps_per_epoch=2, val_samples=0))
    with pytest.raises(ValueError, match="each step needs a validation batch"):
        prepared(supergraph()).step(TRAIN, None)


@pytest.mark.parametrize("bound", [0.0, -1.0, math.nan, math.inf])
def test_a_bound_that_is_not_positive_is_refused(bound: float) -> None:
    with pytest.raises(ValueError, match=r"bound must be positive and finite, got"):
        Xnas(bound=bound)


@pytest.mark.parametrize("horizon", [0, -5])
def test_a_horizon_below_one_is_refused(horizon: int) -> None:
    with pytest.raises(ValueError, match=r"horizon in validation examples must be at least 1"):
        Xnas(horizon=horizon)


@pytest.mark.parametrize("horizon", [1.5, True, "1e6"])
def test_a_horizon_that_is_no_whole_number_is_refused(horizon: Any) -> None:
    with pytest.raises(TypeError, match=r"horizon in validation examples must be a whole number, got"):
        Xnas(horizon=horizon)


def test_a_model_without_a_choice_is_refused() -> None:
    found = Model(Finalizers().finalize_model(supergraph()).clear_trainables())
    with pytest.raises(ValueError, match="nothing to search"):
        Xnas().prepare(found, Loss(found), sgd(found), schedule=LONG)


def test_log_weights_are_exact_whatever_the_precision_of_the_network() -> None:
    model = supergraph()
    model.set_mixing_rule(ExpertWeights())
    model.half().float()
    prepared(model)
    assert {t.dtype for t in states(model, "log_weights")} == {F64}
    assert {t.dtype for t in model.mixing_weights() if t is not None} == {torch.float32}


def test_log_weights_that_lost_their_precision_during_the_search_are_refused() -> None:
    model = supergraph()
    xnas = prepared(model)
    xnas.step(TRAIN, VAL)
    model.bfloat16()
    with pytest.raises(ValueError, match=r"log-weights became torch.bfloat16, .* use precision='bfloat16'"):
        xnas.step(TRAIN, VAL)


def test_a_kept_state_does_not_move_with_the_search() -> None:
    xnas = prepared(supergraph())
    kept = xnas.state_dict()
    before = copy.deepcopy(kept)
    xnas.step(TRAIN, VAL)
    assert torch.equal(kept["cut"], before["cut"])


def test_a_refused_penalty_leaves_the_model_as_it_was() -> None:
    model = supergraph()
    before = list(model.state_dict())
    with pytest.raises(ValueError, match="l1_alphas"):
        ArchTrainer(TrainConf(epochs=1, l1_alphas=0.1), model, strategy=Xnas())
    assert list(model.state_dict()) == before


def test_under_autocast_the_rewarded_network_computes_in_the_precision_of_the_trained_one() -> None:
    model = supergraph().float()
    xnas = prepared(model)
    seen: list[list[torch.dtype]] = []
    for op in model.mixed_ops():
        op.register_forward_hook(lambda m, i, out: seen[-1].append(out.dtype))
    x, y = VAL[0].float(), VAL[1]
    with torch.autocast("cpu", torch.bfloat16):
        seen.append([])
        model(x)
        seen.append([])
        gradients = xnas._gradients(x, y)
    assert seen[0] == seen[1]
    assert set(seen[0]) == {torch.bfloat16}
    assert all(gradient.isfinite().all() for gradient in gradients)


def test_a_penalty_on_alphas_is_refused() -> None:
    with pytest.raises(ValueError, match="l1_alphas acts on parameters that Xnas does not have"):
        ArchTrainer(TrainConf(epochs=1, l1_alphas=0.1), supergraph(), strategy=Xnas())
