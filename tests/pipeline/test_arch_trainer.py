"""Tests of ``src/gradnas/pipeline/arch_trainer.py``."""

import copy
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, nn
from torch.nn import Parameter, ParameterList
from torch.utils._python_dispatch import TorchDispatchMode

from gradnas.data import DataLoaders
from gradnas.foundation.seeds import seeded_initialization
from gradnas.ops import ArchParams
from gradnas.pipeline import ArchTrainer
from gradnas.pipeline.search_plan import check_graph
from gradnas.strategies import Batch, Darts, MetaOptimizer
from gradnas.supergraph import Model
from gradnas.training import CheckPoint, OptimConf, ScoreSums, TrainConf, create_checkpoint


class Nothing(MetaOptimizer):
    """Leaves the architecture alone."""

    bilevel: ClassVar[bool] = False

    def forward_equivalents(self, n_candidates: int) -> float:
        return 3.0

    def prepare(self, *args: Any, **kwargs: Any) -> None:
        pass

    def step(self, train_batch: Batch, val_batch: Batch | None) -> None:
        assert val_batch is None

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        pass

    def __repr__(self) -> str:
        return "Nothing()"


def supergraph(tools: Any) -> Model:
    with seeded_initialization(0, "test"):
        return Model(tools.space.build(), droppath=False, affine=False)


def snapshot(module: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in module.state_dict().items()}


def different(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> list[str]:
    assert list(a) == list(b)
    return [name for name in a if not torch.equal(a[name], b[name])]


def data(tools: Any, **changes: Any) -> DataLoaders:
    return tools.context().loaders(tools.search_conf(**changes), "search", test=False)


def train(tools: Any, model: Model, strategy: MetaOptimizer, **settings: Any) -> ArchTrainer:
    trainer = ArchTrainer(tools.search_conf(**settings), model, strategy=strategy)
    trainer.fit(data(tools))
    return trainer


@pytest.mark.parametrize("l1", [0.0, 0.5])
def test_weight_step_never_changes_the_architecture(tools: Any, l1: float) -> None:
    model = supergraph(tools)
    before = snapshot(model)
    train(tools, model, Nothing(), l1_alphas=l1)
    changed = different(before, snapshot(model))
    assert [name for name in changed if "alphas" in name] == []
    assert any("weight" in name for name in changed)
    assert all(p.grad is None for p in model.all_owned().param_by_kind())


@pytest.mark.parametrize("order", [1, 2])
def test_architecture_step_changes_the_alphas_and_nothing_else(tools: Any, order: int) -> None:
    seen: list[tuple[list[str], bool]] = []

    class Watching(ArchTrainer):
        def pre_step(self, x: Tensor, y: Tensor) -> None:
            weights = self.ordinary_params()
            for p in weights:
                p.grad = torch.full_like(p, 0.25)
            optimizer = self.multi_optim[0].optimizer
            before, state = snapshot(self.model), copy.deepcopy(optimizer.state_dict())
            super().pre_step(x, y)
            after = optimizer.state_dict()
            assert all(torch.equal(p.grad, torch.full_like(p, 0.25)) for p in weights)  # type: ignore[arg-type]
            assert state["param_groups"] == after["param_groups"]
            buffers = [(s["momentum_buffer"], after["state"][i]["momentum_buffer"]) for i, s in state["state"].items()]
            seen.append((different(before, snapshot(self.model)), all(torch.equal(*pair) for pair in buffers)))
            assert all(p.requires_grad for p in self.model.parameters())

    model = supergraph(tools)
    Watching(tools.search_conf(epochs=1), model, strategy=Darts(order)).fit(data(tools))
    assert len(seen) == 2
    for changed, same_state in seen:
        assert changed
        assert all("alphas" in name for name in changed)
        assert same_state


@pytest.mark.parametrize("order", [1, 2])
def test_weights_are_bit_equal_with_and_without_an_architecture_pass(tools: Any, order: int) -> None:
    with_pass, without = supergraph(tools), supergraph(tools)
    train(tools, with_pass, Darts(order, lr=0.0, weight_decay=0.0))
    train(tools, without, Nothing())
    assert different(snapshot(with_pass), snapshot(without)) == []


def test_running_statistics_after_a_step_are_those_of_one_training_forward(tools: Any) -> None:
    model, twin = supergraph(tools), supergraph(tools)
    train(tools, model, Darts(), epochs=1, max_steps_per_epoch=1)
    x, _ = next(data(tools).train.batches(0))
    # The architecture moved a little before the weight step saw it.
    twin.load_state_dict({name: value for name, value in snapshot(model).items() if "alphas" in name}, strict=False)
    twin.train()(x)
    ours, theirs = snapshot(model), snapshot(twin)
    statistics = [name for name in ours if "running" in name or "num_batches" in name]
    assert len(statistics) > 20
    assert [name for name in statistics if not torch.equal(ours[name], theirs[name])] == []


def test_architecture_batches_come_from_one_persistent_shuffled_pass(tools: Any) -> None:
    batches: list[Batch] = []

    class Collecting(Nothing):
        bilevel: ClassVar[bool] = True

        def step(self, train_batch: Batch, val_batch: Batch | None) -> None:
            assert val_batch is not None
            batches.append(val_batch)

    model = supergraph(tools)
    ArchTrainer(tools.search_conf(epochs=4), model, strategy=Collecting()).fit(data(tools))
    alpha = data(tools).alpha
    assert alpha is not None
    assert len(alpha) == 5
    expected = [alpha.batch(i // 5, i % 5) for i in range(8)]
    assert all(torch.equal(ours[0], theirs[0]) for ours, theirs in zip(batches, expected, strict=True))


def test_strategy_sees_the_batch_of_the_weight_step(tools: Any) -> None:
    seen: list[Tensor] = []

    class Collecting(Nothing):
        def step(self, train_batch: Batch, val_batch: Batch | None) -> None:
            seen.append(train_batch[0])

    train(tools, supergraph(tools), Collecting(), epochs=1)
    assert torch.equal(seen[1], data(tools).train.batch(0, 1)[0])


def test_bilevel_strategy_without_validation_is_refused(tools: Any) -> None:
    trainer = ArchTrainer(tools.search_conf(val_ratio=0.0), supergraph(tools), strategy=Darts())
    with pytest.raises(ValueError, match=r"Darts learns the architecture on held-out data.*Set val_ratio above 0"):
        trainer.fit(data(tools, val_ratio=0.0))


@pytest.mark.parametrize("name", ["ema", "mixup", "cutmix"])
def test_what_belongs_to_trainings_after_a_search_is_refused(tools: Any, name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} is a setting of trainings after a search"):
        ArchTrainer(TrainConf(epochs=1, **{name: 0.5}), supergraph(tools))


def test_single_level_strategy_needs_no_validation(tools: Any) -> None:
    trainer = ArchTrainer(tools.search_conf(val_ratio=0.0), supergraph(tools), strategy=Nothing())
    assert len(trainer.fit(data(tools, val_ratio=0.0))) == 2


def test_first_order_darts_is_the_default(tools: Any) -> None:
    strategy = ArchTrainer(tools.search_conf(), supergraph(tools)).strategy
    assert isinstance(strategy, Darts)
    assert strategy.order == 1


# ------------------------------------------------------------------------------------------------------ compute_loss


def test_loss_is_main_plus_weighted_auxiliary(tools: Any) -> None:
    trainer = ArchTrainer(tools.search_conf(), supergraph(tools))
    y, logits, aux = torch.tensor([0, 1]), torch.zeros(2, 5), torch.tensor([[1.0, 0, 0, 0, 0]] * 2)
    main = math.log(5)
    other = (math.log(math.e + 4) - 1 + math.log(math.e + 4)) / 2
    loss = nn.CrossEntropyLoss()
    assert trainer.compute_loss(loss, y, logits, 0.4, aux).item() == pytest.approx(main + 0.4 * other)
    assert trainer.compute_loss(loss, y, logits, 0.0, aux).item() == pytest.approx(main)
    assert trainer.compute_loss(loss, y, logits, 0.4, None).item() == pytest.approx(main)


def test_penalty_counts_every_shared_architecture_parameter_once(tools: Any) -> None:
    model = supergraph(tools)
    owned = [p for name, p in model.named_parameters() if "alphas" in name]
    assert len(owned) == 10  # two cell types with two nodes: 2 + 3 edges each; cells 0 and 2 share
    trainer = ArchTrainer(tools.search_conf(l1_alphas=0.5), model)
    y, logits = torch.tensor([0]), torch.zeros(1, 5)
    loss = trainer.compute_loss(nn.CrossEntropyLoss(), y, logits, 0.0, None)
    expected = math.log(5) + 0.5 * sum(abs(v) for p in owned for v in p.flatten().tolist())
    assert loss.item() == pytest.approx(expected, rel=1e-5)


def test_penalty_reaches_a_member_of_a_list_with_the_sign_as_gradient(tools: Any) -> None:
    model = supergraph(tools)
    members = ParameterList([Parameter(torch.tensor([2.0, -3.0])), Parameter(torch.tensor([-1.0]))])
    ArchParams([("alphas", members)], registrar=model)
    trainer = ArchTrainer(tools.search_conf(l1_alphas=2.0), model)
    loss = trainer.compute_loss(nn.CrossEntropyLoss(), torch.tensor([0]), torch.zeros(1, 5), 0.0, None)
    loss.backward()
    assert torch.equal(members[0].grad, torch.tensor([2.0, -2.0]))
    assert torch.equal(members[1].grad, torch.tensor([-2.0]))


def test_penalty_shrinks_the_architecture_parameters(tools: Any) -> None:
    def size(l1: float) -> float:
        model = supergraph(tools)
        train(tools, model, Darts(lr=1e-4, weight_decay=0.0), l1_alphas=l1)
        return sum(float(p.detach().abs().sum()) for p in model.all_owned().param_by_kind())

    assert size(100.0) < size(0.0)


# ------------------------------------------------------------------------------------------------------ checkpoints


@pytest.mark.parametrize(
    ("strategy", "steps"), [(Darts(1, lr=0.1), 2), (Darts(2, lr=0.1), 1)], ids=["order 1", "order 2"]
)
def test_interrupted_search_continues_bit_for_bit(
    tools: Any, tmp_path: Path, strategy: Darts, steps: int, without_seconds: Any
) -> None:
    conf = tools.search_conf(
        epochs=3, optimizer=OptimConf(lr=0.1, warmup_epochs=1), max_steps_per_epoch=steps, checkpoint_every_epochs=2
    )

    def run(path: Path, log: list[dict[str, Any]], *, resume: bool, **more: Any) -> ArchTrainer:
        checkpoint = create_checkpoint(path, resume)
        trainer = ArchTrainer(
            conf, supergraph(tools), checkpoint, strategy=copy.deepcopy(strategy), alpha_log=log.append, **more
        )
        trainer.fit(data(tools))
        return trainer

    whole_log: list[dict[str, Any]] = []
    parts_log: list[dict[str, Any]] = []
    whole = run(tmp_path / "whole.pt", whole_log, resume=False)
    with pytest.raises(tools.killed):
        run(tmp_path / "parts.pt", parts_log, resume=False, listener=tools.kill_after("search", 2))
    resumed = run(tmp_path / "parts.pt", parts_log, resume=True)
    assert different(snapshot(whole.model), snapshot(resumed.model)) == []
    assert without_seconds(whole.metrics.to_list()) == without_seconds(resumed.metrics.to_list())
    assert whole_log == parts_log
    ours, theirs = whole.strategy.state_dict(), resumed.strategy.state_dict()
    assert ours["steps"] == theirs["steps"] == 3 * steps
    for i, state in ours["optimizer"]["state"]["state"].items():
        assert torch.equal(state["exp_avg"], theirs["optimizer"]["state"]["state"][i]["exp_avg"])


def test_checkpoint_of_another_strategy_is_refused_naming_both(tools: Any, tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    ArchTrainer(tools.search_conf(), supergraph(tools), CheckPoint(path), strategy=Darts()).fit(data(tools))
    other = ArchTrainer(
        tools.search_conf(), supergraph(tools), create_checkpoint(path, resume=True), strategy=Darts(lr=0.5)
    )
    with pytest.raises(ValueError, match=r"strategy: .*'lr': 0\.0003.*now .*'lr': 0\.5"):
        other.fit(data(tools))


def test_checkpoint_holds_the_architecture_parameters(tools: Any, tmp_path: Path) -> None:
    model = supergraph(tools)
    trainer = ArchTrainer(tools.search_conf(), model, CheckPoint(tmp_path / "a.pt"))
    trainer.fit(data(tools))
    stored = CheckPoint(tmp_path / "a.pt")
    stored.load_existing()
    for name, parameter in model.named_parameters():
        assert torch.equal(stored["model"][name], parameter)
    assert sum("alphas" in name for name in stored["model"]) == 10


def test_divergence_of_the_architecture_is_reported(tools: Any) -> None:
    class Diverged(Nothing):
        def check(self) -> None:
            raise FloatingPointError("the architecture gradient was not finite at step 0")

    with pytest.raises(FloatingPointError, match="step 0"):
        train(tools, supergraph(tools), Diverged())


# ------------------------------------------------------------------------------------------------------ fused, on a GPU


class HostReads(TorchDispatchMode):
    """Counts what would make the host wait for a device."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.__name__.split(".")[0] in {"_local_scalar_dense", "item", "is_nonzero", "nonzero", "equal", "unique"}:
            self.found.append(func.__name__)
        return func(*args, **(kwargs or {}))


def test_a_whole_search_step_reads_nothing_from_the_device(tools: Any) -> None:
    found: list[str] = []

    class Watching(ArchTrainer):
        def train_step(self, x: Tensor, y: Tensor, sums: ScoreSums) -> None:
            if self.global_step == 0:  # optimizers make their state
                return super().train_step(x, y, sums)
            with HostReads() as reads:
                super().train_step(x, y, sums)
            found.extend(reads.found)
            return None

    model = Model(tools.space.build(), affine=False, fused=True)
    trainer = Watching(tools.search_conf(epochs=1), model, strategy=Darts(order=1))
    trainer.finite._at_once = False  # as on a GPU
    trainer.fit(data(tools))
    assert trainer.global_step > 1
    # Adam on a CPU keeps a counter for each parameter in memory and reads it; on a GPU it counts on the device.
    assert found == ["_local_scalar_dense.default"] * (len(trainer.alphas) * (trainer.global_step - 1))


def test_recording_is_refused_where_it_cannot_be_done(tools: Any) -> None:
    with pytest.raises(ValueError, match=r"needs an NVIDIA GPU, .*'cpu'"):
        ArchTrainer(tools.search_conf(), supergraph(tools), cuda_graph=True)
    with pytest.raises(ValueError, match=r"no CUDA graph .* Darts\(order=2"):
        check_graph(Darts(order=2), "cuda")
    check_graph(Darts(order=1), "cuda")
    with pytest.raises(ValueError, match=r"needs search\.fused=true"):
        tools.search_conf(cuda_graph=True, fused=False)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
def test_recorded_search_equals_an_eager_one(tools: Any) -> None:
    found = []
    for cuda_graph in (False, True):
        torch.manual_seed(0)
        model = Model(tools.space.build(), affine=False, fused=True).cuda()
        loaders = tools.context(device=torch.device("cuda")).loaders(tools.search_conf(), "search", test=False)
        ArchTrainer(tools.search_conf(epochs=2), model, strategy=Darts(), cuda_graph=cuda_graph).fit(loaders)
        found.append(model.state_dict())
    for key, value in found[0].items():
        torch.testing.assert_close(found[1][key], value, msg=key)
