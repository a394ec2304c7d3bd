"""Tests of ``src/gradnas/strategies/xnas.py``; the update alone is tested in ``test_expert_advice.py``.

Tests named ``departure_NN`` fail when the departure of that number, found in other implementations, is introduced.
"""

import copy
import itertools
import math
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import SGD
from torch.utils._python_dispatch import TorchDispatchMode

from gradnas.arch import ConvMacroParams, OpDesc, Params
from gradnas.config import load_preset
from gradnas.finalizers import Finalizers
from gradnas.ops import OPS, ArchParams, Op, OpRegistry
from gradnas.pipeline import ArchTrainer
from gradnas.spaces import DartsSpace
from gradnas.strategies import Batch, Darts, SearchSchedule, Xnas, XnasOp
from gradnas.strategies.expert_advice import learning_rate
from gradnas.strategies.xnas import ExpertWeights
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


def test_mixing_weights_are_the_normalized_weights_of_the_survivors() -> None:
    rule = ExpertWeights()
    v = torch.tensor([3.0, 1.0, 4.0, 2.0], dtype=F64)
    edge = ArchParams.view([("log_weights", v.log() + 7), ("survivors", torch.tensor([True, True, False, True]))])
    expected = torch.tensor([[0.5, 1 / 6, 0.0, 1 / 3]], dtype=F64)
    torch.testing.assert_close(rule.weights(rule.table([edge])), expected)


# ---------------------------------------------------------------------------------------------------- the 15 departures


def test_departure_01_weights_are_updated_in_place_shared_and_saved() -> None:
    model = supergraph()
    xnas = prepared(model)
    before = [id(t) for t in states(model, "log_weights")]
    xnas.step(TRAIN, VAL)
    xnas.step(TRAIN, VAL)
    assert [id(t) for t in states(model, "log_weights")] == before
    cells = model.typed_cells()
    for first, other in zip(cells[0].mixed_ops(), cells[2].mixed_ops(), strict=True):
        assert first.arch_params()["log_weights"] is other.arch_params()["log_weights"]
    saved = [name for name in model.state_dict() if "log_weights" in name]
    assert len(saved) == 10  # five edges of each type, once
    assert all(torch.equal(model.state_dict()[n], t) for n, t in zip(saved, states(model, "log_weights"), strict=True))


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


class Constant(Op):
    """Puts out a number everywhere."""

    def __init__(self, desc: OpDesc, value: float) -> None:
        super().__init__()
        self.desc, self.value, self.calls = desc, value, 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return torch.full_like(x, self.value)


def constants(*values: float) -> tuple[XnasOp, OpRegistry]:
    """An op whose expert k puts out ``values[k]``; ``none`` comes last."""
    registry = OpRegistry(parent=OPS)
    for k, value in enumerate(values):
        registry.register_op(f"constant_{k}", lambda desc, affine, _, v=value: Constant(desc, v))
    names = (*(f"constant_{k}" for k in range(len(values))), "none")
    desc = OpDesc("xnas_op", Params(conv=ConvMacroParams(1, 1), stride=1, primitives=names))
    return XnasOp(desc, None, False, registry=registry), registry


ONES = torch.ones(2, 1, 2, 2, dtype=F64)


def test_departure_04_the_reward_itself_is_bounded_not_the_gradient() -> None:
    op, _ = constants(1e4, 1.0)
    with op.reward_pass():
        (1e-2 * op(ONES)).sum().backward()  # a small gradient at the output, a huge inner product with expert 0
    op.update_alphas(0.1, 2, 1000, 1.0)
    expected = 0.1 * torch.tensor([-2.0, -0.08, 0.0], dtype=F64)  # two examples: 2 · min(1, 4e2), 2 · 0.04, 0
    torch.testing.assert_close(op.log_weights, expected)


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


def test_departure_09_edges_rank_by_normalized_weight() -> None:
    ranks = []
    for scale in (0.0, 3.0, -50.0):  # ln of a common factor
        op, _ = constants(1.0, 2.0)
        op.log_weights.copy_(torch.tensor([1.0, 2.0, 0.5], dtype=F64) + scale)
        ranks.append(op.finalize()[1])
    assert ranks[0] == pytest.approx(ranks[1], rel=1e-12)
    assert ranks[0] == pytest.approx(ranks[2], rel=1e-12)
    assert ranks[0] == pytest.approx(math.e**2 / (math.e + math.e**2 + math.e**0.5))


def test_departure_10_none_earns_exactly_nothing_and_cannot_be_chosen() -> None:
    model = supergraph()
    xnas = prepared(model)
    assert all(bool((reward[:, NONE] == 0).all()) for reward in xnas._rewards(*VAL)[0])
    op, _ = constants(1.0, 2.0)
    op.log_weights.copy_(torch.tensor([1.0, 2.0, 9.0], dtype=F64))
    desc, rank = op.finalize()
    assert desc.name == "xnas_op" or desc.name.startswith("constant")
    assert rank == pytest.approx(math.e**2 / (math.e + math.e**2 + math.e**9))  # the share of none counts


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
    trainer._alpha_batches = type("Once", (), {"next": lambda self: VAL})()
    trainer.pre_step(*TRAIN)
    weight_step(trainer, TRAIN)
    assert events == ["experts", "weights"]
    assert load_preset("xnas-cifar10").search.augment_val_batches is False  # rewards are of images as they are


class Reads(TorchDispatchMode):
    """Counts the numbers that are read from the device."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += "_local_scalar_dense" in str(func)
        return func(*args, **(kwargs or {}))


def test_departure_13_a_step_reads_one_number_whatever_the_edges_and_opens_no_file(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    counts = []
    for nodes in (1, 3):
        space = DartsSpace(1, 8, 4, channels=2, cells=3, nodes=nodes, reductions=1, primitives=NAMES)
        model = supergraph(space)
        xnas = prepared(model)

        def refuse(*args: Any, **kwargs: Any) -> None:
            raise AssertionError("a step opened a file")

        with monkeypatch.context() as patch, Reads() as reads:
            patch.setattr("builtins.open", refuse)
            xnas.step(TRAIN, VAL)
        counts.append(reads.count)
    assert counts == [1, 1]


def test_departure_14_a_weight_step_keeps_what_that_of_darts_keeps() -> None:
    kept = []
    for strategy in (Xnas(), Darts()):
        model = supergraph()
        trainer = trained(model, strategy)
        strategy.step(TRAIN, VAL)
        stored: dict[int, int] = {}

        def pack(t: Tensor, stored: dict[int, int] = stored) -> Tensor:
            stored[t.untyped_storage().data_ptr()] = t.untyped_storage().nbytes()
            return t

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
            weight_step(trainer, TRAIN)
        kept.append(sum(stored.values()))
        assert not any(m._forward_hooks or m._backward_hooks for m in model.modules())
    assert kept[0] <= kept[1]


def test_departure_15_the_presets_train_the_weights_as_published() -> None:
    search = load_preset("xnas-cifar10").search
    assert (search.epochs, search.batch_size, search.val_ratio) == (50, 96, 0.5)
    optimizer = search.optimizer
    assert (optimizer.name, optimizer.lr, optimizer.momentum, optimizer.weight_decay) == ("sgd", 0.025, 0.9, 3e-4)
    assert (optimizer.schedule, search.grad_clip) == ("cosine", 5.0)
    assert load_preset("xnas-cifar10").strategy.options == {"bound": 1.0, "wipe_out": True}


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


def test_equal_final_weights_are_ranked_by_the_share_among_all_experts() -> None:
    ranks = []
    for others in ([-9.0, -9.0], [-0.1, -9.0], [-0.1, -0.2]):
        op, _ = constants(1.0, 2.0)
        op.log_weights.copy_(torch.tensor([0.0, *others], dtype=F64))
        op.survivors.copy_(torch.tensor([True, False, False]))
        ranks.append(op.finalize()[1])
    assert ranks == sorted(ranks, reverse=True)  # type: ignore[type-var]  # numbers
    assert len(set(ranks)) == 3
    assert all(rank == pytest.approx(1.0, abs=1e-8) for rank in ranks)


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


def play(op: XnasOp, rounds: int = 400) -> str:
    """Let an op predict a constant: the loss is the squared distance to 1. Returns the name of what it chooses."""
    eta = learning_rate(len(op.names), rounds, 1.0)
    for t in range(rounds):
        if not op.computed:
            break  # nothing is left that could earn
        with op.reward_pass():
            ((op(ONES[:1]) - 1.0) ** 2).mean().backward()
        op.update_alphas(eta, t + 1, rounds, 1.0)
    return op.names[int(op.log_weights.argmax())]


def test_the_best_expert_of_a_planted_game_wins_and_a_dominated_one_changes_nothing() -> None:
    game, _ = constants(0.2, 0.9)
    assert play(game) == "constant_1"
    assert game.survivors.tolist() == [False, True, False]
    game, _ = constants(0.2, 0.9, -1.0)  # always worse than both
    assert play(game) == "constant_1"


def test_none_never_wins_an_edge() -> None:
    game, _ = constants(-0.3, -0.1)  # every expert hurts, so none leads
    assert play(game) == "none"
    desc, rank = game.finalize()
    assert rank == 0.0
    assert isinstance(game.rule, ExpertWeights)
    assert game.rule.choose(game.arch_params(), [0, 1])[0] == 1  # the lesser evil
    assert desc.name != "none"


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
    with pytest.raises(ValueError, match=r"search of 700 validation examples, this one has 600"):
        ours.load_state_dict(theirs.state_dict())


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
    assert torch.equal(table(prompt), table(late))
    assert not table(prompt, "survivors").all()
    assert [op.computed for op in prompt.mixed_ops()] == [op.computed for op in late.mixed_ops()]


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
    with pytest.raises(ValueError, match=r"horizon must be at least 1 validation example"):
        Xnas(horizon=horizon)


def test_a_model_without_a_choice_or_with_another_rule_is_refused() -> None:
    model = supergraph()
    found = Model(Finalizers().finalize_model(model).clear_trainables())
    with pytest.raises(ValueError, match="nothing to search"):
        Xnas().prepare(found, Loss(found), sgd(found), schedule=LONG)
    with pytest.raises(ValueError, match=r"mixes by Softmax, not by expert weights; call model.set_mixing_rule"):
        Xnas().prepare(model, Loss(model), sgd(model), schedule=LONG)


def test_log_weights_of_low_precision_are_refused() -> None:
    model = supergraph()
    model.set_mixing_rule(ExpertWeights())
    with pytest.raises(ValueError, match=r"log-weights are torch.bfloat16, .* before its mixing rule is set"):
        prepared(model.bfloat16())


def test_a_penalty_on_alphas_is_refused() -> None:
    with pytest.raises(ValueError, match="l1_alphas acts on parameters that Xnas does not have"):
        ArchTrainer(TrainConf(epochs=1, l1_alphas=0.1), supergraph(), strategy=Xnas())


# -------------------------------------------------------------------------------------------------------- the single op


def test_the_op_starts_with_equal_weights_and_all_alive() -> None:
    op, _ = constants(1.0, 2.0)
    assert op.log_weights.tolist() == [0.0, 0.0, 0.0]
    assert op.log_weights.dtype == F64
    assert op.survivors.tolist() == [True, True, True]
    assert list(op.parameters()) == []
    assert sorted(op.state_dict()) == ["log_weights_arch_param", "survivors_arch_param"]
    assert not op.can_drop_path()
    assert [round(weight, 6) for _, weight in op.ops()] == [0.333333] * 3


def test_the_op_has_the_primitives_of_the_literature() -> None:
    op = XnasOp(OpDesc("xnas_op", Params(conv=ConvMacroParams(2, 2), stride=1)), None, False)
    assert len(op.names) == 8
    assert op.names[-1] == "none"
    assert op.names == XnasOp.PRIMITIVES


def test_the_op_shares_its_state() -> None:
    op, registry = constants(1.0, 2.0)
    other = XnasOp(op.desc, op.arch_params(), False, registry=registry)
    assert other.log_weights is op.log_weights
    assert list(other.state_dict()) == []
    short = XnasOp(
        OpDesc("xnas_op", op.desc.params.replace(primitives=("constant_0", "none"))), None, False, registry=registry
    )
    with pytest.raises(ValueError, match=r"shared log_weights have shape \(2,\), but the edge has 3 candidates"):
        XnasOp(op.desc, short.arch_params(), False, registry=registry)


def test_the_op_adds_the_rewards_of_the_other_cells_before_the_wipe_out() -> None:
    op, registry = constants(1.0, 2.0)
    other = XnasOp(op.desc, op.arch_params(), False, registry=registry)
    for each, factor in ((op, -0.1), (other, 0.03)):
        with each.reward_pass():
            (factor * each(ONES)).sum().backward()
    op.update_alphas(0.5, 4, 100, 1.0, others=[other])
    gained = 0.5 * 8 * 0.07 * torch.tensor([1.0, 2.0, 0.0], dtype=F64)  # 2 examples of 4 pixels
    torch.testing.assert_close(op.log_weights, gained - gained.max())


def test_the_op_does_not_compute_the_fallen() -> None:
    op, _ = constants(0.5, 1.0)
    play(op)
    calls = [candidate.calls for candidate in op.candidates if isinstance(candidate, Constant)]
    assert torch.equal(op(ONES), ONES)
    assert [c.calls for c in op.candidates if isinstance(c, Constant)] == [calls[0], calls[1] + 1]
    assert [weight for _, weight in op.ops()] == [0.0, 1.0, 0.0]


def test_the_op_refuses_an_update_without_rewards_and_bad_numbers() -> None:
    op, _ = constants(1.0, 2.0)
    with pytest.raises(RuntimeError, match=r"no rewards were gathered: .* inside reward_pass"):
        op.update_alphas(0.1, 1, 10, 1.0)
    with op.reward_pass():
        op(ONES).sum().backward()
    for arguments, message in (
        ((0.1, 11, 10, 1.0), r"round 11 is outside the horizon of 10 rounds"),
        ((0.0, 2, 10, 1.0), r"eta must be positive"),
        ((0.1, 2, 10, 0.0), r"grad_clip bounds the rewards and must be positive"),
    ):
        with pytest.raises(ValueError, match=message):
            op.update_alphas(*arguments)
        assert op.log_weights.tolist() == [0.0, 0.0, 0.0]
    op.update_alphas(0.1, 2, 10, 1.0)
    with pytest.raises(RuntimeError, match="no rewards were gathered"):
        op.update_alphas(0.1, 2, 10, 1.0)


def test_the_op_refuses_rewards_that_are_not_finite() -> None:
    op, _ = constants(1.0, 2.0)
    with op.reward_pass():
        (op(ONES) * math.inf).sum().backward()
    with pytest.raises(ValueError, match="not finite; the update is refused"):
        op.update_alphas(0.1, 2, 10, 1.0)
    assert op.log_weights.tolist() == [0.0, 0.0, 0.0]


def test_the_op_refuses_another_rule() -> None:
    op, _ = constants(1.0, 2.0)
    with pytest.raises(ValueError, match=r"xnas_op learns by expert advice and cannot mix by Softmax"):
        op.use_rule(Softmax())


def test_the_rule_replaces_alphas_and_gives_them_back_afresh() -> None:
    model = supergraph()
    moved: Callable[[], list[str]] = lambda: [n for n in model.state_dict() if "arch_param" in n]  # noqa: E731
    assert all(name.endswith("alphas_arch_param") for name in moved())
    model.set_mixing_rule(ExpertWeights())
    assert not list(model.all_owned().param_by_kind())
    assert sorted({name.rpartition(".")[2] for name in moved()}) == ["log_weights_arch_param", "survivors_arch_param"]
    again = copy.deepcopy(model)
    assert (
        again.typed_cells()[2].mixed_ops()[0].arch_params()["survivors"]
        is (again.typed_cells()[0].mixed_ops()[0].arch_params()["survivors"])
    )
    model.set_mixing_rule(Softmax())
    assert len(list(model.all_owned().param_by_kind("alphas"))) == 10
