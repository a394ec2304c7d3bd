"""Tests of ``darts_optimizer.py``, and of ``adapted_graph.py``, ``torch_names.py``, ``random_state.py`` beside it."""

import copy
import inspect
import logging
import math
import subprocess
import sys
from argparse import Namespace
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import SGD, Adam, AdamW
from torch.optim.lr_scheduler import CosineAnnealingLR

from gradnas.arch import AuxTowerDesc
from gradnas.finalizers import Finalizers
from gradnas.ops import ArchParams, DropPath_
from gradnas.pipeline import DARTSOptimizer
from gradnas.pipeline.adapted_graph import AdaptedGraph
from gradnas.pipeline.torch_names import LOSSES, OPTIMIZERS
from gradnas.spaces import DartsSpace, ModelDescBuilder
from gradnas.strategies import Batch, FairDarts, Gdas, PcDarts, Xnas
from gradnas.strategies.darts import hypergradient
from gradnas.supergraph import MixedOp, Model, Softmax
from gradnas.supergraph.edge_data import GraphEdge

F64 = torch.float64
OPS = ("avg_pool_3x3", "skip_connect", "sep_conv_3x3", "none")
# Cells: normal, reduction, normal; 2 edges each. The third cell is the second copy of its type and lies in stage 2.
SPACE = DartsSpace(1, 8, 4, channels=2, cells=3, nodes=1, reductions=1, primitives=OPS)
SETTINGS: dict[str, Any] = {"learning_rate": 0.1, "arch_learning_rate": 0.01}


def batch(seed: int, n: int = 6, dtype: torch.dtype = torch.float32) -> Batch:
    numbers = torch.Generator().manual_seed(seed)
    return torch.randn(n, 1, 8, 8, generator=numbers, dtype=dtype), torch.randint(4, (n,), generator=numbers)


TRAIN, VAL = batch(1), batch(2)
TRAIN64, VAL64 = batch(1, dtype=F64), batch(2, dtype=F64)


def adapted(
    space: ModelDescBuilder | Model = SPACE, scope: Any = None, *, fused: bool | None = None, **settings: Any
) -> DARTSOptimizer:
    torch.manual_seed(0)
    optimizer = DARTSOptimizer(**{**SETTINGS, **settings})
    optimizer.device = torch.device("cpu")
    optimizer.adapt_search_space(space, "digits", scope, **({} if fused is None else {"fused": fused}))
    return optimizer


def in_double(**settings: Any) -> DARTSOptimizer:
    optimizer = adapted(**settings)
    optimizer.graph.double()
    return optimizer


def model(space: ModelDescBuilder = SPACE, **options: Any) -> Model:
    torch.manual_seed(3)
    return Model(space.build(), **{"affine": False, **options})


def flat(tensors: Any) -> Tensor:
    return torch.cat([tensor.detach().flatten() for tensor in tensors])


def alphas(optimizer: DARTSOptimizer) -> Tensor:
    return flat(optimizer.architectural_weights)


def held(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]


def state(module: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in module.state_dict().items()}


def same(one: Any, other: Any) -> bool:
    """Equal bit for bit, NaNs where NaNs are."""
    if isinstance(one, Tensor):
        return one.dtype == other.dtype and torch.equal(torch.nan_to_num(one), torch.nan_to_num(other))
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)


# ------------------------------------------------------------------------------------------------------------- settings


def test_signature_is_that_of_the_interface() -> None:
    parameters = inspect.signature(DARTSOptimizer).parameters
    assert {name: p.default for name, p in parameters.items() if name != "kwargs"} == {
        "learning_rate": 0.025,
        "momentum": 0.9,
        "weight_decay": 0.0003,
        "grad_clip": 5,
        "unrolled": False,
        "arch_learning_rate": 0.0003,
        "arch_weight_decay": 0.001,
        "op_optimizer": "SGD",
        "arch_optimizer": "Adam",
        "loss_criteria": "CrossEntropyLoss",
    }
    assert parameters["kwargs"].kind is inspect.Parameter.VAR_KEYWORD
    adapt = inspect.signature(DARTSOptimizer.adapt_search_space).parameters
    assert list(adapt) == ["self", "search_space", "dataset", "scope", "kwargs"]
    assert adapt["scope"].default is None


def test_defaults_arrive_at_the_live_optimizers() -> None:
    torch.manual_seed(0)
    optimizer = DARTSOptimizer()
    optimizer.adapt_search_space(SPACE, None)
    (weights,), (archs,) = optimizer.op_optimizer.param_groups, optimizer.arch_optimizer.param_groups
    assert type(optimizer.op_optimizer) is SGD
    assert (weights["lr"], weights["momentum"], weights["weight_decay"]) == (0.025, 0.9, 0.0003)
    assert (weights["nesterov"], weights["dampening"]) == (False, 0)
    assert type(optimizer.arch_optimizer) is Adam
    assert (archs["lr"], archs["betas"], archs["weight_decay"]) == (0.0003, (0.5, 0.999), 0.001)
    assert type(optimizer.loss) is nn.CrossEntropyLoss
    assert (optimizer.grad_clip, optimizer.unrolled) == (5, False)


def test_settings_arrive_and_are_attributes() -> None:
    given: dict[str, Any] = {
        "learning_rate": 0.1,
        "momentum": 0.5,
        "weight_decay": 0.01,
        "grad_clip": 3.0,
        "unrolled": True,
        "arch_learning_rate": 0.2,
        "arch_weight_decay": 0.02,
    }
    optimizer = adapted(**given, arch_optimizer="AdamW", loss_criteria="MultiMarginLoss")
    assert {name: getattr(optimizer, name) for name in given} == given
    (weights,), (archs,) = optimizer.op_optimizer.param_groups, optimizer.arch_optimizer.param_groups
    assert (weights["lr"], weights["momentum"], weights["weight_decay"]) == (0.1, 0.5, 0.01)
    assert (archs["lr"], archs["betas"], archs["weight_decay"]) == (0.2, (0.5, 0.999), 0.02)
    assert type(optimizer.arch_optimizer) is AdamW
    assert type(optimizer.loss) is nn.MultiMarginLoss


@pytest.mark.parametrize("name", sorted(OPTIMIZERS))
def test_every_optimizer_of_the_list_takes_a_step_for_weights_and_alphas(name: str) -> None:
    optimizer = adapted(op_optimizer=name, arch_optimizer=name)
    before = alphas(optimizer), flat(optimizer.op_optimizer.param_groups[0]["params"])
    optimizer.step(TRAIN, VAL)
    assert type(optimizer.op_optimizer) is type(optimizer.arch_optimizer) is getattr(torch.optim, name)
    assert optimizer.get_op_optimizer() is getattr(torch.optim, name)
    assert not torch.equal(before[0], alphas(optimizer))
    assert not torch.equal(before[1], flat(optimizer.op_optimizer.param_groups[0]["params"]))
    if "betas" in inspect.signature(getattr(torch.optim, name)).parameters:
        assert optimizer.arch_optimizer.param_groups[0]["betas"] == (0.5, 0.999)
        assert (
            optimizer.op_optimizer.param_groups[0]["betas"] == getattr(torch.optim, name)(held_one()).defaults["betas"]
        )


def held_one() -> list[nn.Parameter]:
    return [nn.Parameter(torch.zeros(1))]


def test_lists_of_names_hold_the_usual_ones_and_none_that_cannot_work() -> None:
    assert {"SGD", "Adam", "AdamW", "RMSprop", "Adagrad"} <= set(OPTIMIZERS)
    assert not {"Optimizer", "LBFGS", "SparseAdam", "lr_scheduler"} & set(OPTIMIZERS)
    assert {"CrossEntropyLoss", "NLLLoss", "MultiMarginLoss"} <= set(LOSSES)
    assert not {"CTCLoss", "TripletMarginLoss", "CosineEmbeddingLoss", "Linear"} & set(LOSSES)


@pytest.mark.parametrize(
    ("settings", "error", "match"),
    [
        ({"learn_rate": 0.1}, TypeError, r"unknown argument 'learn_rate'. Did you mean 'learning_rate'\?"),
        ({"config": 1}, TypeError, r"unknown argument 'config'.*Known: learning_rate, .*loss_criteria\."),
        ({"kwargs": 1}, TypeError, "unknown argument 'kwargs'"),
        ({"learning_rate": Namespace(lr=1)}, TypeError, "learning_rate must be a number, got Namespace"),
        ({"learning_rate": True}, TypeError, "learning_rate must be a number, got bool"),
        ({"momentum": "0.9"}, TypeError, "momentum must be a number, got str"),
        ({"arch_learning_rate": None}, TypeError, "arch_learning_rate must be a number, got NoneType"),
        ({"learning_rate": -0.1}, ValueError, "learning_rate must be at least 0 and finite, got -0.1"),
        ({"momentum": -1}, ValueError, "momentum must be at least 0"),
        ({"weight_decay": math.nan}, ValueError, "weight_decay must be at least 0 and finite, got nan"),
        ({"arch_learning_rate": math.inf}, ValueError, "arch_learning_rate must be at least 0 and finite"),
        ({"arch_weight_decay": -1.0}, ValueError, "arch_weight_decay must be at least 0"),
        ({"grad_clip": -1}, ValueError, "grad_clip must be at least 0"),
        ({"unrolled": 1}, TypeError, "unrolled must be True or False, got 1"),
        ({"op_optimizer": "SGDW"}, ValueError, r"op_optimizer .*got 'SGDW'. Did you mean 'SGD'\? Known: .*Adam"),
        ({"op_optimizer": "LBFGS"}, ValueError, r"op_optimizer must be one of the names of torch.optim, got 'LBFGS'"),
        ({"op_optimizer": SGD}, TypeError, "op_optimizer must be the name of a class of torch.optim"),
        ({"arch_optimizer": "adam"}, ValueError, r"arch_optimizer must be .*Did you mean 'Adam'\?"),
        ({"loss_criteria": "CrossEntropy"}, ValueError, r"loss_criteria must be .*Did you mean 'CrossEntropyLoss'\?"),
        ({"loss_criteria": F.cross_entropy}, TypeError, "loss_criteria must be the name of a class of torch.nn"),
        ({"op_optimizer": "Adam", "momentum": 0.5}, ValueError, "momentum=0.5 has no effect: Adam takes no momentum"),
        ({"op_optimizer": "Rprop", "weight_decay": 0.1}, ValueError, "weight_decay=0.1 has no effect: Rprop"),
        (
            {"arch_optimizer": "Rprop", "arch_weight_decay": 0.1},
            ValueError,
            "arch_weight_decay=0.1 has no effect: Rprop",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else None,  # else an address would be in a name
)
def test_bad_setting_is_refused_at_construction(settings: dict[str, Any], error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match):
        DARTSOptimizer(**settings)


def test_a_whole_configuration_is_not_taken_for_the_learning_rate() -> None:
    with pytest.raises(TypeError, match="learning_rate must be a number, got Namespace"):
        DARTSOptimizer(Namespace(learning_rate=0.1))  # type: ignore[arg-type]


def test_zero_says_that_an_absent_setting_is_known_to_have_no_effect() -> None:
    DARTSOptimizer(op_optimizer="Adam", momentum=0)
    DARTSOptimizer(op_optimizer="Rprop", weight_decay=0, arch_optimizer="Rprop", arch_weight_decay=0)


# ----------------------------------------------------------------------------------------------------------- adaptation


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("step", (TRAIN, VAL)),
        ("before_training", ()),
        ("new_epoch", (0,)),
        ("get_final_architecture", ()),
        ("get_model_size", ()),
        ("get_model_size_bytes", ()),
        ("test_statistics", ()),
        ("get_checkpointables", ()),
    ],
)
def test_nothing_works_before_adaptation(name: str, arguments: tuple[Any, ...]) -> None:
    with pytest.raises(RuntimeError, match=r"call adapt_search_space\(search_space, dataset\) first"):
        getattr(DARTSOptimizer(), name)(*arguments)


@pytest.mark.parametrize(
    "name",
    ["graph", "scope", "dataset", "search_space", "op_optimizer", "arch_optimizer", "loss", "architectural_weights"],
)
def test_attributes_of_the_graph_say_what_is_missing_before_adaptation(name: str) -> None:
    with pytest.raises(RuntimeError, match="call adapt_search_space"):
        getattr(DARTSOptimizer(), name)


def test_class_of_the_weight_optimizer_is_known_before_and_after() -> None:
    assert DARTSOptimizer(op_optimizer="Adam").get_op_optimizer() is Adam
    assert adapted().get_op_optimizer() is SGD


def test_attributes_after_adaptation() -> None:
    data = object()
    optimizer = DARTSOptimizer()
    optimizer.adapt_search_space(SPACE, data, scope=["normal", "stage-1"])
    assert optimizer.search_space is SPACE
    assert optimizer.dataset is data
    assert optimizer.scope == ["normal", "stage-1"]
    assert isinstance(optimizer.device, torch.device)
    assert isinstance(optimizer.architectural_weights, nn.ParameterList)
    assert optimizer.graph.training
    assert adapted().scope == "all"
    assert adapted().dataset == "digits"


@pytest.mark.parametrize("fused", [None, True, False])
def test_space_becomes_a_search_graph_fused_unless_said_otherwise(fused: bool | None) -> None:
    graph = adapted(fused=fused).graph
    assert graph.fused is (fused is not False)
    assert graph.desc == SPACE.build()
    assert not any(isinstance(m, nn.BatchNorm2d) and m.affine for cell in graph.cells for m in cell.modules())


def test_fused_and_plain_take_the_same_step() -> None:
    results = []
    for fused in (True, False):
        optimizer = in_double(fused=fused, unrolled=True)
        results.append((*optimizer.step(TRAIN64, VAL64), alphas(optimizer), flat(optimizer.graph.parameters())))
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("fused", [True, False])
def test_model_is_copied_and_stays_untouched(fused: bool) -> None:
    given = model(fused=fused)
    given.eval()
    before, rules = state(given), [op.rule for op in given.mixed_ops()]
    optimizer = adapted(given)
    for _ in range(2):
        optimizer.step(TRAIN, VAL)
    assert optimizer.graph is not given
    assert optimizer.graph.fused is fused
    assert optimizer.search_space is given
    assert same(state(given), before)
    assert all(op.rule is rule for op, rule in zip(given.mixed_ops(), rules, strict=True))
    assert not given.training
    assert all(p.grad is None for p in given.parameters())
    assert not {id(p) for p in given.parameters()} & {id(p) for p in optimizer.graph.parameters()}


def test_weights_of_a_given_model_are_those_of_the_graph_but_alphas_are_fresh() -> None:
    given = model()
    optimizer = adapted(given)
    arch = set(ArchParams.from_module(given, recurse=True))
    for name, value in given.state_dict().items():
        is_alpha = name.removesuffix("_arch_param") in arch
        assert torch.equal(value, optimizer.graph.state_dict()[name]) != is_alpha


def test_space_stays_untouched() -> None:
    space = DartsSpace(1, 8, 4, channels=2, cells=3, nodes=1, reductions=1, primitives=OPS)
    before = {key: value for key, value in vars(space).items() if key != "registry"}
    before = copy.deepcopy(before)
    optimizer = adapted(space)
    optimizer.get_final_architecture(channels=2, cells=5)
    assert {key: value for key, value in vars(space).items() if key != "registry"} == before
    assert space.build() == SPACE.build()


def test_adapting_again_starts_afresh() -> None:
    torch.manual_seed(0)
    optimizer = DARTSOptimizer(**SETTINGS)
    optimizer.adapt_search_space(SPACE, "one")
    first, start = optimizer.graph, state(optimizer.graph)
    optimizer.step(TRAIN, VAL)
    torch.manual_seed(0)
    optimizer.adapt_search_space(SPACE, "two")
    assert optimizer.graph is not first
    assert same(state(optimizer.graph), start)
    assert not optimizer.op_optimizer.state
    assert not optimizer.arch_optimizer.state
    optimizer.adapt_search_space(model(), "three", "normal")
    assert (optimizer.dataset, optimizer.scope, len(optimizer.architectural_weights)) == ("three", "normal", 2)
    assert not set(map(id, held(optimizer.op_optimizer))) & {id(p) for p in first.parameters()}


def test_alphas_are_the_parameters_that_the_graph_owns_one_per_edge_of_a_type_in_order() -> None:
    graph = adapted().graph
    optimizer = adapted(graph)
    owned = [op.alphas for cell in optimizer.graph.owner_cells() for op in cell.mixed_ops()]
    assert len(owned) == 4
    assert all(a is b for a, b in zip(optimizer.architectural_weights, owned, strict=True))
    assert [id(a) for a in optimizer.architectural_weights] == [id(a) for a in optimizer.graph.all_owned().values()]
    stored = {value.data_ptr() for value in optimizer.graph.state_dict().values()}
    assert all(a.data_ptr() in stored for a in optimizer.architectural_weights)
    assert all(a.requires_grad and a.shape == (4,) for a in optimizer.architectural_weights)


def test_each_parameter_is_in_exactly_one_optimizer() -> None:
    optimizer = adapted()
    weights, archs = held(optimizer.op_optimizer), held(optimizer.arch_optimizer)
    assert [id(p) for p in archs] == [id(p) for p in optimizer.architectural_weights]
    assert len({id(p) for p in weights + archs}) == len(weights) + len(archs)
    assert {id(p) for p in weights + archs} == {id(p) for p in optimizer.graph.parameters()}


def test_scope_of_a_later_copy_learns_the_alphas_of_its_type_once() -> None:
    optimizer = adapted(scope="stage-2")
    assert len(optimizer.architectural_weights) == 4
    owned = {id(op.alphas) for cell in optimizer.graph.owner_cells() for op in cell.mixed_ops()}
    assert {id(a) for a in optimizer.architectural_weights} == owned
    before = alphas(optimizer)
    optimizer.step(TRAIN, VAL)
    assert bool((alphas(optimizer) != before).any())


@pytest.mark.parametrize("unrolled", [False, True])
@pytest.mark.parametrize(("scope", "outside"), [("normal", 1), ("reduction", 0), ("stage-1", 1)])
def test_alphas_outside_the_scope_stay_and_belong_to_no_optimizer(scope: str, outside: int, unrolled: bool) -> None:
    given = model()
    optimizer = adapted(given, scope, unrolled=unrolled)
    left = [op.alphas for op in optimizer.graph.owner_cells()[outside].mixed_ops()]
    learnt = [op.alphas for op in optimizer.graph.owner_cells()[1 - outside].mixed_ops()]
    assert [id(a) for a in optimizer.architectural_weights] == [id(a) for a in learnt]
    assert not {id(a) for a in left} & {
        id(p) for o in (optimizer.op_optimizer, optimizer.arch_optimizer) for p in held(o)
    }
    before = alphas(optimizer)
    for _ in range(2):
        optimizer.step(TRAIN, VAL)
    assert torch.equal(flat(left), flat(op.alphas for op in given.owner_cells()[outside].mixed_ops()))
    assert all(a.grad is None and a.requires_grad for a in left)
    assert bool((alphas(optimizer) != before).any())


def test_alphas_of_finalized_edges_are_not_learnt() -> None:
    given = model()
    given.update_edges(lambda edge: edge.data.finalize() if edge.head == 1 else None, "normal", private_edge_data=True)
    optimizer = adapted(given)
    assert len(optimizer.architectural_weights) == 3
    optimizer.step(TRAIN, VAL)
    kept, original = optimizer.graph.owner_cells()[0].mixed_ops()[1], given.owner_cells()[0].mixed_ops()[1]
    assert torch.equal(kept.alphas, original.alphas)
    assert id(kept.alphas) not in set(map(id, optimizer.architectural_weights))


@pytest.mark.parametrize("strategy", [Xnas(), PcDarts(), FairDarts(), Gdas()], ids=lambda s: type(s).__name__)
def test_a_model_of_another_strategy_learns_by_the_softmax_within_the_scope_alone(strategy: Any) -> None:
    given = model(DartsSpace(1, 8, 4, channels=4, cells=3, nodes=1, reductions=1, primitives=OPS))
    given.set_mixing_rule(strategy.mixing_rule)
    optimizer = adapted(given, "normal")
    for cell in optimizer.graph.typed_cells():
        kinds = {type(op.rule) for op in cell.mixed_ops()}
        assert kinds == ({Softmax} if cell.desc.id in (0, 2) else {type(strategy.mixing_rule)})
    optimizer.step(TRAIN, VAL)
    table = torch.stack([a.detach().softmax(0) for a in optimizer.architectural_weights])
    torch.testing.assert_close(optimizer.graph.mixing_weights()[2], table)


def test_frozen_weights_stay_and_are_in_no_optimizer() -> None:
    given = model()
    given.model_stems.requires_grad_(False)
    optimizer = adapted(given, unrolled=True)
    before = state(optimizer.graph.model_stems)
    frozen = {id(p) for p in optimizer.graph.model_stems.parameters()}
    assert not frozen & {id(p) for p in held(optimizer.op_optimizer)}
    optimizer.step(TRAIN, VAL)
    weights = {name: value for name, value in state(optimizer.graph.model_stems).items() if "running" not in name}
    assert all(torch.equal(value, before[name]) for name, value in weights.items() if "tracked" not in name)
    assert not any(p.requires_grad for p in optimizer.graph.model_stems.parameters())


@pytest.mark.parametrize(
    ("space", "arguments", "error", "match"),
    [
        (
            SPACE,
            {"scope": "stage-3"},
            ValueError,
            "unknown scope 'stage-3'.*Known: all, normal, reduction, stage-1, stage-2",
        ),
        (SPACE, {"scope": []}, ValueError, r"unknown scope \[\].*Known: all"),
        ("darts", {}, TypeError, r"search_space must be a space.* or a gradnas.supergraph.Model, got str"),
        (SPACE.build(), {}, TypeError, "got ModelDesc"),
        (ModelDescBuilder(replace(SPACE.settings, n_reductions=0)), {}, ValueError, "no edge with a choice"),
        (SPACE, {"fusd": True}, TypeError, r"unknown argument 'fusd'. Did you mean 'fused'\?"),
        (SPACE, {"fused": "yes"}, TypeError, "fused must be True or False, got 'yes'"),
        (model(), {"fused": True}, ValueError, "fused=True, but the model was built with fused=False"),
        (Model(Finalizers().finalize_model(model())), {}, ValueError, "no edge with a choice"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_bad_search_space_is_refused(space: Any, arguments: dict[str, Any], error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match):
        DARTSOptimizer().adapt_search_space(space, None, **arguments)


def test_scope_without_a_choice_names_those_that_have_one() -> None:
    given = model()
    given.update_edges(lambda edge: edge.data.set("op", edge.data.op.candidates[1]), "reduction", True)
    with pytest.raises(
        ValueError, match=r"'reduction' has no edge with a choice.*all 2, normal 2, reduction 0, stage-1 2"
    ):
        adapted(given, "reduction")
    assert len(adapted(given).architectural_weights) == 2


def test_unrolled_needs_sgd() -> None:
    with pytest.raises(ValueError, match=r"op_optimizer is 'Adam'. Use op_optimizer='SGD' or unrolled=False"):
        adapted(unrolled=True, op_optimizer="Adam")


def test_failed_adaptation_leaves_the_former_one() -> None:
    optimizer = adapted()
    graph = optimizer.graph
    with pytest.raises(ValueError, match="unknown scope"):
        optimizer.adapt_search_space(SPACE, None, "here")
    assert optimizer.graph is graph


# ----------------------------------------------------------------------------------------------- add_alphas, update_ops


def test_alphas_are_drawn_from_a_thousandth_of_the_normal_distribution() -> None:
    space = DartsSpace(1, 8, 4, channels=2, cells=3, nodes=4, reductions=1)
    for wanted in (torch.float32, F64):
        graph = model(space).to(wanted)
        torch.manual_seed(5)
        assert graph.update_edges(DARTSOptimizer.add_alphas) == 28
        drawn: list[Tensor] = []
        graph.update_edges(lambda edge, drawn=drawn: drawn.append(edge.data.alpha))
        assert {a.dtype for a in drawn} == {wanted}
        torch.manual_seed(5)
        expected = torch.cat([1e-3 * torch.randn(8, dtype=wanted) for _ in range(28)])
        assert torch.equal(flat(drawn), expected)
        assert 0.8e-3 < float(flat(drawn).std()) < 1.2e-3


def test_edges_without_a_choice_are_skipped() -> None:
    graph = Model(Finalizers().finalize_model(model()))
    before = state(graph)
    graph.update_edges(DARTSOptimizer.add_alphas)
    graph.update_edges(DARTSOptimizer.update_ops, private_edge_data=True)
    assert same(state(graph), before)
    assert not graph.all_owned()


def test_update_ops_makes_the_op_mix_by_the_softmax_of_the_alphas() -> None:
    graph = model()
    graph.set_mixing_rule(Xnas().mixing_rule)
    found: list[GraphEdge] = []
    graph.update_edges(found.append, "normal", private_edge_data=True)
    edge = found[-1]
    with pytest.raises(ValueError, match=r"cells\[2\] 1 -> 2 has candidates but no alpha; call update_edges"):
        DARTSOptimizer.update_ops(edge)
    DARTSOptimizer.add_alphas(edge)
    DARTSOptimizer.update_ops(edge)
    op, x = edge.data.op, torch.randn(2, 4, 4, 4, generator=torch.Generator().manual_seed(0))
    shares = edge.data.alpha.detach().softmax(0)
    expected = sum(share * candidate(x) for share, candidate in zip(shares, op.candidates, strict=True))
    torch.testing.assert_close(op(x), expected)
    assert isinstance(op, MixedOp)


def test_update_ops_replaces_a_rule_that_learns_alphas_another_way() -> None:
    class Doubled(Softmax):
        pass

    graph = model()
    graph.set_mixing_rule(Doubled())
    held_before = [op.alphas for op in graph.mixed_ops()]
    graph.update_edges(DARTSOptimizer.update_ops, "stage-2", private_edge_data=True)
    assert {type(op.rule) for op in graph.mixed_ops()} == {Softmax}
    assert all(a is op.alphas for a, op in zip(held_before, graph.mixed_ops(), strict=True))


# ----------------------------------------------------------------------------------------------------------------- step


def gradient_of_step(optimizer: DARTSOptimizer, train: Batch, val: Batch) -> Tensor:
    """What the alphas moved by, under plain SGD with rate 1 and without decay."""
    before = alphas(optimizer)
    optimizer.step(train, val)
    return before - alphas(optimizer)


def plain(**settings: Any) -> DARTSOptimizer:
    return in_double(arch_optimizer="SGD", arch_learning_rate=1.0, arch_weight_decay=0.0, **settings)


@pytest.mark.parametrize("fused", [True, False])
def test_first_order_gradient_is_that_of_the_validation_loss(fused: bool) -> None:
    optimizer = plain(fused=fused)
    twin = copy.deepcopy(optimizer.graph)
    loss = F.cross_entropy(twin(VAL64[0])[0], VAL64[1])
    expected = flat(torch.autograd.grad(loss, list(twin.all_owned().param_by_kind())))
    torch.testing.assert_close(gradient_of_step(optimizer, TRAIN64, VAL64), expected, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_unrolled_gradient_is_the_hypergradient_of_the_strategy(momentum: float, fused: bool) -> None:
    optimizer = plain(unrolled=True, momentum=momentum, weight_decay=0.01, fused=fused)
    for seed in (5, 6):  # momentum buffers, and weights away from the start
        optimizer.step(batch(seed, dtype=F64), batch(seed + 10, dtype=F64))
    optimizer.op_optimizer.param_groups[0]["lr"] = 0.07  # as a schedule would
    twin = copy.deepcopy(optimizer.graph)
    weights = held(optimizer.op_optimizer)
    expected = hypergradient(
        twin,
        F.cross_entropy,
        TRAIN64,
        VAL64,
        lr=0.07,
        momentum=momentum,
        weight_decay=0.01,
        momentum_buffers=[optimizer.op_optimizer.state[w].get("momentum_buffer") for w in weights],
    )
    found = gradient_of_step(optimizer, TRAIN64, VAL64)
    torch.testing.assert_close(found, flat(expected), rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_unrolled_gradient_is_the_slope_of_the_loss_after_a_real_step(momentum: float) -> None:
    # Few enough ReLUs that the perturbation of the weights crosses none of their kinks.
    space = DartsSpace(
        1, 8, 4, channels=2, cells=1, nodes=1, reductions=0, primitives=("avg_pool_3x3", "identity", "none")
    )
    optimizer = plain(space=space, unrolled=True, momentum=momentum, weight_decay=0.01, grad_clip=None)
    train, val = batch(1, n=16, dtype=F64), batch(2, n=16, dtype=F64)
    optimizer.step(batch(5, n=16, dtype=F64), batch(6, n=16, dtype=F64))

    def outer(changed: int, by: float) -> float:
        twin = copy.deepcopy(optimizer.graph)
        sgd = SGD(twin.weights(), lr=0.1, momentum=momentum, weight_decay=0.01)
        sgd.load_state_dict(copy.deepcopy(optimizer.op_optimizer.state_dict()))
        owned = list(twin.all_owned().param_by_kind())
        with torch.no_grad():
            owned[changed // 3][changed % 3] += by
        F.cross_entropy(twin(train[0])[0], train[1]).backward()
        sgd.step()
        return F.cross_entropy(twin(val[0])[0], val[1]).item()

    h = 1e-5
    slopes = torch.tensor([(outer(k, h) - outer(k, -h)) / (2 * h) for k in range(6)], dtype=F64)
    twin = copy.deepcopy(optimizer.graph)
    loss = F.cross_entropy(twin(val[0])[0], val[1])
    first_order = flat(torch.autograd.grad(loss, list(twin.all_owned().param_by_kind())))
    found = gradient_of_step(optimizer, train, val)
    assert float((found - slopes).norm() / slopes.norm()) < 2e-3
    assert float((first_order - slopes).norm() / slopes.norm()) > 0.1


def test_unrolled_learns_something_else_than_first_order() -> None:
    one, two = (gradient_of_step(plain(unrolled=unrolled), TRAIN64, VAL64) for unrolled in (False, True))
    assert float((one - two).norm() / one.norm()) > 0.01


@pytest.mark.parametrize("unrolled", [False, True])
@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("grad_clip", [0.05, 0, None, 1e9])
def test_weight_step_is_that_of_a_plain_loop_with_the_new_alphas(
    grad_clip: float | None, fused: bool, unrolled: bool
) -> None:
    optimizer = adapted(grad_clip=grad_clip, fused=fused, unrolled=unrolled)
    twin = copy.deepcopy(optimizer.graph)
    weights = list(twin.weights())
    sgd = SGD(weights, lr=0.1, momentum=0.9, weight_decay=3e-4)
    for seed in (5, 6, 7):
        train = batch(seed)
        logits, _, loss, _ = optimizer.step(train, batch(seed + 10))
        for mine, new in zip(twin.all_owned().param_by_kind(), optimizer.architectural_weights, strict=True):
            mine.data.copy_(new)
        sgd.zero_grad()
        expected = twin(train[0])[0]
        value = F.cross_entropy(expected, train[1])
        value.backward()
        if grad_clip:
            norm = nn.utils.clip_grad_norm_(weights, grad_clip)
            assert bool(norm > grad_clip) == (grad_clip < 1)
        sgd.step()
        assert torch.equal(logits, expected)
        assert torch.equal(loss, value)
        # Everything: weights, running statistics moved once, by the training batch alone.
        assert same(state(optimizer.graph), state(twin))


@pytest.mark.parametrize("unrolled", [False, True])
def test_alphas_do_not_move_at_rate_0(unrolled: bool) -> None:
    optimizer = adapted(arch_learning_rate=0.0, unrolled=unrolled)
    before, weights = alphas(optimizer), flat(held(optimizer.op_optimizer))
    for seed in (5, 6):
        optimizer.step(batch(seed), batch(seed + 10))
    assert torch.equal(alphas(optimizer), before)
    assert not torch.equal(flat(held(optimizer.op_optimizer)), weights)


@pytest.mark.parametrize("unrolled", [False, True])
def test_step_gives_detached_logits_and_losses_of_both_batches(unrolled: bool) -> None:
    optimizer = adapted(unrolled=unrolled)
    twin = copy.deepcopy(optimizer.graph)
    val = batch(2, n=5)
    logits_train, logits_val, loss_train, loss_val = optimizer.step(TRAIN, val)
    assert logits_train.shape == (6, 4)
    assert logits_val.shape == (5, 4)
    assert loss_train.shape == loss_val.shape == ()
    assert not any(t.requires_grad for t in (logits_train, logits_val, loss_train, loss_val))
    assert torch.equal(loss_train, F.cross_entropy(logits_train, TRAIN[1]))
    assert torch.equal(loss_val, F.cross_entropy(logits_val, val[1]))
    if unrolled:  # after the virtual step
        F.cross_entropy(twin(TRAIN[0])[0], TRAIN[1]).backward()
        SGD(twin.weights(), lr=0.1, momentum=0.9, weight_decay=3e-4).step()
        torch.testing.assert_close(logits_val, twin(val[0])[0])
    else:
        assert torch.equal(logits_val, twin(val[0])[0])


@pytest.mark.parametrize("unrolled", [False, True])
def test_nothing_is_left_of_the_architecture_step_but_the_alphas(unrolled: bool) -> None:
    optimizer = adapted(unrolled=unrolled, learning_rate=0.0, weight_decay=0.0, momentum=0.0)
    for parameter in optimizer.graph.parameters():
        parameter.grad = torch.full_like(parameter, 1e6)  # somebody's leftovers
    before = {name: value for name, value in state(optimizer.graph).items() if "arch_param" not in name}
    optimizer.step(TRAIN, VAL)
    after = {name: value for name, value in state(optimizer.graph).items() if name in before}
    weights = {name for name, _ in optimizer.graph.named_parameters()} & set(before)
    assert all(torch.equal(before[name], after[name]) for name in weights)
    assert all(a.grad is None for a in optimizer.architectural_weights)
    assert all(p.requires_grad for p in optimizer.graph.parameters())
    assert float(flat(p.grad for p in held(optimizer.op_optimizer) if p.grad is not None).abs().max()) < 1e3


@pytest.mark.parametrize("scope", [None, "reduction"])
def test_each_pass_differentiates_by_what_moves_in_it_alone(scope: str | None) -> None:
    optimizer = adapted(scope=scope)
    seen: list[set[str]] = []

    def look(*_: Any) -> None:
        seen.append({name for name, p in optimizer.graph.named_parameters() if p.requires_grad})

    optimizer.graph.model_stems.get_submodule("0").register_forward_pre_hook(look)
    optimizer.step(TRAIN, VAL)
    names = {id(p): name for name, p in optimizer.graph.named_parameters()}
    assert seen == [{names[id(p)] for p in held(part)} for part in (optimizer.arch_optimizer, optimizer.op_optimizer)]


def test_unrolled_passes_draw_the_same_masks() -> None:
    optimizer = drawing(True, arch_optimizer="SGD", arch_learning_rate=1.0, arch_weight_decay=0.0)
    optimizer.graph.double()
    twin = copy.deepcopy(optimizer.graph)
    torch.manual_seed(6)
    settings = {"lr": 0.1, "momentum": 0.9, "weight_decay": 3e-4}
    expected = flat(hypergradient(twin, F.cross_entropy, TRAIN64, VAL64, **settings))
    torch.manual_seed(6)
    torch.testing.assert_close(gradient_of_step(optimizer, TRAIN64, VAL64), expected, rtol=1e-10, atol=1e-13)


def test_alphas_learn_by_the_optimizer_and_decay_of_their_own() -> None:
    optimizer = in_double(arch_weight_decay=0.5)
    twin = copy.deepcopy(optimizer.graph)
    owned = list(twin.all_owned().param_by_kind())
    adam = Adam(owned, lr=0.01, betas=(0.5, 0.999), weight_decay=0.5)
    F.cross_entropy(twin(VAL64[0])[0], VAL64[1]).backward()
    adam.step()
    optimizer.step(TRAIN64, VAL64)
    torch.testing.assert_close(alphas(optimizer), flat(owned), rtol=1e-12, atol=1e-15)


def test_step_in_evaluation_mode_is_refused() -> None:
    optimizer = adapted()
    optimizer.graph.eval()
    with pytest.raises(RuntimeError, match=r"evaluation mode; call graph.train\(\)"):
        optimizer.step(TRAIN, VAL)


@pytest.mark.parametrize(
    "bad", [None, TRAIN[0], (*TRAIN, 3), (TRAIN[0], [1, 2]), {"x": 1, "y": 2}], ids=lambda b: type(b).__name__
)
def test_step_wants_two_pairs_of_tensors_and_changes_nothing_otherwise(bad: Any) -> None:
    optimizer = adapted()
    before = state(optimizer.graph)
    with pytest.raises(TypeError, match="data_train must be a pair of tensors, images and targets"):
        optimizer.step(bad, VAL)
    with pytest.raises(TypeError, match="data_val must be a pair of tensors"):
        optimizer.step(TRAIN, bad)
    assert same(state(optimizer.graph), before)


def test_step_takes_lists_as_a_loader_gives_them() -> None:
    one, other = adapted(), adapted()
    assert same(one.step(list(TRAIN), list(VAL)), other.step(TRAIN, VAL))  # type: ignore[arg-type]


def test_unrolled_passes_run_in_full_precision_under_autocast() -> None:
    results = []
    for enabled in (False, True):
        optimizer = adapted(unrolled=True, arch_optimizer="SGD", arch_learning_rate=1.0)
        before = alphas(optimizer)
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            optimizer.step(TRAIN, VAL)
        results.append(alphas(optimizer) - before)
    assert torch.equal(*results)


def test_it_finds_the_candidate_that_helps() -> None:
    space = DartsSpace(1, 8, 2, channels=2, cells=1, nodes=1, reductions=0, primitives=("none", "identity"))
    optimizer = adapted(space, arch_learning_rate=0.1)
    numbers = torch.Generator().manual_seed(1)

    def draw() -> Batch:
        y = torch.randint(2, (16,), generator=numbers)
        return torch.randn(16, 1, 8, 8, generator=numbers) + 2.0 * (2 * y - 1)[:, None, None, None], y

    losses = [float(optimizer.step(draw(), draw())[2]) for _ in range(20)]
    assert losses[-1] < 0.5 * losses[0]
    assert all(a[1] > a[0] for a in optimizer.architectural_weights)


# ---------------------------------------------------------------------------------------------- before_training, epochs


def test_before_training_keeps_the_objects_and_returns_to_training_mode() -> None:
    optimizer = adapted()
    optimizer.step(TRAIN, VAL)
    optimizer.graph.eval()
    objects = list(optimizer.graph.parameters())
    optimizer.before_training()
    assert optimizer.graph.training
    assert all(p is q for p, q in zip(optimizer.graph.parameters(), objects, strict=True))


def test_a_move_takes_the_optimizers_along_and_changes_no_step(monkeypatch: pytest.MonkeyPatch) -> None:
    optimizer, twin = adapted(), adapted()
    for part in (optimizer, twin):
        part.step(TRAIN, VAL)
    devices = iter([torch.device("cpu"), torch.device("cuda")])
    learner = optimizer.get_checkpointables()["arch_steps"]
    with monkeypatch.context() as patch:
        patch.setattr(AdaptedGraph, "device", property(lambda _: next(devices)))
        optimizer.before_training()
    assert optimizer.get_checkpointables()["arch_steps"] is not learner  # its counters lay where the alphas were
    assert same(next_step(optimizer), next_step(twin))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("unrolled", [False, True])
def test_before_training_moves_graph_and_states_in_place(unrolled: bool) -> None:
    optimizer = adapted(unrolled=unrolled)
    optimizer.step(TRAIN, VAL)
    objects = list(optimizer.graph.parameters())
    optimizer.device = torch.device("cuda")
    optimizer.before_training()
    assert all(p is q for p, q in zip(optimizer.graph.parameters(), objects, strict=True))
    assert all(p.device.type == "cuda" for p in objects)
    optimizer.step(TRAIN, VAL)
    optimizer.new_epoch(0)
    assert optimizer.get_final_architecture(channels=2, cells=5).device_type() == "cuda"


def test_moving_keeps_the_count_of_steps() -> None:
    optimizer = adapted()
    optimizer.step(TRAIN, VAL)
    learner = optimizer.get_checkpointables()["arch_steps"]
    optimizer.before_training()
    assert optimizer.get_checkpointables()["arch_steps"] is learner
    optimizer.step(TRAIN, (VAL[0] * math.nan, VAL[1]))
    optimizer.before_training()  # nothing to move, nothing to forget
    with pytest.raises(FloatingPointError, match="at architecture step 1"):
        optimizer.new_epoch(0)


def test_new_epoch_logs_every_alpha_and_changes_nothing(caplog: pytest.LogCaptureFixture) -> None:
    optimizer = adapted()
    with torch.no_grad():
        optimizer.architectural_weights[0].copy_(torch.tensor([0.0, math.log(2.0), math.log(5.0), 0.0]))
    before = copy.deepcopy([optimizer.graph.state_dict(), torch.get_rng_state()])
    with caplog.at_level(logging.INFO, "gradnas.pipeline.darts_optimizer"):
        optimizer.new_epoch(3)
    lines = [record.getMessage() for record in caplog.records]
    assert lines[0] == (
        "epoch 3, cells[0] 0 -> 2: alpha [0, 0.6931, 1.609, 0], softmax [0.1111, 0.2222, 0.5556, 0.1111], "
        "argmax 2 (sep_conv_3x3)"
    )
    assert [line.split(":")[0] for line in lines] == [
        f"epoch 3, cells[{cell}] {head} -> 2" for cell in (0, 1) for head in (0, 1)
    ]
    assert same([optimizer.graph.state_dict(), torch.get_rng_state()], before)


def test_new_epoch_says_nothing_where_nobody_listens(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "gradnas.pipeline.darts_optimizer"):
        adapted().new_epoch(0)
    assert not caplog.records


def test_new_epoch_logs_the_edges_in_scope(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "gradnas.pipeline.darts_optimizer"):
        adapted(scope="stage-2").new_epoch(0)
    assert [record.getMessage().split(":")[0] for record in caplog.records] == [
        f"epoch 0, cells[{cell}] {head} -> 2" for cell in (1, 2) for head in (0, 1)
    ]


@pytest.mark.parametrize("unrolled", [False, True])
def test_gradient_that_is_not_finite_is_reported_with_its_step(unrolled: bool) -> None:
    optimizer = adapted(unrolled=unrolled)
    optimizer.step(TRAIN, VAL)
    optimizer.new_epoch(0)
    optimizer.step(TRAIN, (VAL[0] * math.nan, VAL[1]))
    for call in (lambda: optimizer.new_epoch(1), optimizer.get_final_architecture):
        with pytest.raises(FloatingPointError, match="not finite at architecture step 1 of this search"):
            call()


# --------------------------------------------------------------------------------------------------- final architecture


def with_choice(optimizer: DARTSOptimizer, best: int) -> None:
    with torch.no_grad():
        for alpha in optimizer.architectural_weights:
            alpha.zero_()[best] = 3.0


def test_final_architecture_of_a_space_is_the_deep_network_of_the_best_candidates() -> None:
    optimizer = adapted()
    with_choice(optimizer, 2)
    found = optimizer.get_final_architecture()
    assert isinstance(found, Model)
    assert len(found.cells) == 20
    assert found.desc.conf_model_desc.model_stems.init_node_ch == 36
    assert found.desc == SPACE.grow(Finalizers().finalize_model(optimizer.graph), channels=36, cells=20)
    assert {op.desc.name for op in found.ops()} == {"sep_conv_3x3"}
    assert not found.all_owned()


def test_final_architecture_is_an_evaluation_network() -> None:
    optimizer = adapted()
    with_choice(optimizer, 2)
    found = optimizer.get_final_architecture(channels=4, cells=5)
    assert len(found.cells) == 5
    assert found.desc.conf_model_desc.model_stems.init_node_ch == 4
    assert all(m.affine for m in found.modules() if isinstance(m, nn.BatchNorm2d))
    assert any(isinstance(m, DropPath_) for m in found.modules())
    assert found(TRAIN[0])[0].shape == (6, 4)
    with pytest.raises(TypeError, match=r"unknown setting 'chanels'. Did you mean 'channels'\?"):
        optimizer.get_final_architecture(chanels=4)


def test_none_is_never_the_final_choice() -> None:
    optimizer = adapted()
    with_choice(optimizer, 3)
    with torch.no_grad():
        for alpha in optimizer.architectural_weights:
            alpha[1] = 1.0
    assert {op.desc.name for op in optimizer.get_final_architecture(channels=2, cells=5).ops()} == {"skip_connect"}


def test_final_architecture_leaves_graph_alphas_optimizers_and_random_state() -> None:
    optimizer, other = adapted(), adapted()
    results = []
    for live in (optimizer, other):
        torch.manual_seed(7)
        live.step(TRAIN, VAL)
        if live is optimizer:
            objects = list(live.graph.parameters())
            before = copy.deepcopy([part.state_dict() for part in live.get_checkpointables().values()])
            one = live.get_final_architecture(channels=2, cells=5)
            two = live.get_final_architecture(channels=2, cells=5)
            assert same([part.state_dict() for part in live.get_checkpointables().values()], before)
            assert all(p is q for p, q in zip(live.graph.parameters(), objects, strict=True))
            assert same(one.state_dict(), two.state_dict())
            assert not {p.data_ptr() for p in one.parameters()} & {p.data_ptr() for p in objects}
        results.append([*live.step(TRAIN, VAL), torch.rand(3), state(live.graph)])
    assert same(*results)


def test_final_architecture_has_fresh_weights() -> None:
    optimizer = adapted(model())
    torch.manual_seed(1)
    one = optimizer.get_final_architecture()
    torch.manual_seed(2)
    two = optimizer.get_final_architecture()
    assert not torch.equal(flat(one.parameters()), flat(two.parameters()))
    searched = {value.flatten()[0].item() for value in optimizer.graph.parameters() if value.dim() == 4}
    assert not searched & {value.flatten()[0].item() for value in one.parameters() if value.dim() == 4}


def test_final_architecture_of_a_model_has_its_size_unless_told_otherwise() -> None:
    optimizer = adapted(model())
    with_choice(optimizer, 2)
    found = optimizer.get_final_architecture()
    assert found.desc == Finalizers().finalize_model(optimizer.graph)
    assert all(m.affine for m in found.modules() if isinstance(m, nn.BatchNorm2d))
    deep = optimizer.get_final_architecture(cells=7, channels=4)
    assert deep.desc == SPACE.grow(found.desc, cells=7, channels=4)


def test_ops_of_the_spaces_own_registry_are_known_to_graph_and_final_architecture() -> None:
    class Space(DartsSpace):
        def pre_build(self, conf_model_desc: Any) -> None:
            self.registry.register_op("mine", self.registry.lookup("identity"))

    space = Space(1, 8, 4, channels=2, cells=3, nodes=1, reductions=0, primitives=("none", "mine"))
    found = adapted(space).get_final_architecture(channels=2, cells=3)
    assert {op.desc.name for op in found.ops()} == {"mine"}


# -------------------------------------------------------------------------------------------------------- size, queries


def test_model_size_counts_millions_of_parameters_and_bytes_apart() -> None:
    optimizer = adapted()
    count = sum(p.numel() for p in optimizer.graph.parameters())
    assert optimizer.get_model_size() == count / 1e6
    assert optimizer.get_model_size_bytes() == 4 * count
    optimizer.graph.double()
    assert optimizer.get_model_size() == count / 1e6
    assert optimizer.get_model_size_bytes() == 8 * count


def test_model_size_leaves_auxiliary_towers_out() -> None:
    space = DartsSpace(1, 32, 4, channels=2, cells=5, nodes=1, reductions=2, primitives=OPS)
    desc = space.build()
    towers = [None] * 4 + [AuxTowerDesc(desc.cell_descs[4].out_shape[0], 4, 3)]
    torch.manual_seed(0)
    optimizer = adapted(Model(replace(desc, aux_tower_descs=tuple(towers)), affine=False))
    all_of_it = sum(p.numel() for p in optimizer.graph.parameters())
    tower = sum(p.numel() for p in optimizer.graph.aux_towers.parameters())
    assert tower > 0
    assert optimizer.get_model_size() == (all_of_it - tower) / 1e6
    optimizer.graph.register_parameter("auxiliary_scale", nn.Parameter(torch.zeros(7)))
    assert optimizer.get_model_size() == (all_of_it - tower) / 1e6


class Tabular(Model):
    QUERYABLE = True
    failing = False

    def query(self, metric: str, dataset: object) -> float:
        if self.failing:
            raise KeyError(f"no {metric}")
        return {("test_accuracy", "digits"): 93.5}[metric, str(dataset)]


def test_statistics_come_from_a_graph_that_can_be_queried_only() -> None:
    assert adapted().test_statistics() is None
    optimizer = adapted(Tabular(SPACE.build(), affine=False))
    assert optimizer.test_statistics() == 93.5
    optimizer.graph.QUERYABLE = False  # type: ignore[assignment]
    assert optimizer.test_statistics() is None


def test_statistics_do_not_hide_an_error() -> None:
    optimizer = adapted(Tabular(SPACE.build(), affine=False))
    optimizer.graph.failing = True  # type: ignore[assignment]
    with pytest.raises(KeyError, match="no test_accuracy"):
        optimizer.test_statistics()


# ---------------------------------------------------------------------------------------------------------- checkpoints

SCRIPT = """
import sys, torch
sys.path.insert(0, sys.argv[1])
import test_darts_optimizer as t
torch.set_num_threads(1)
stored = torch.load(sys.argv[2], weights_only=True)
after = {}
for name, search in t.SEARCHES.items():
    torch.rand(len(name))
    optimizer = search()
    torch.manual_seed(99)
    optimizer.before_training()
    for key, part in optimizer.get_checkpointables().items():
        part.load_state_dict(stored[name][key])
    after[name] = t.next_step(optimizer)
torch.save(after, sys.argv[3])
"""


def drawing(unrolled: bool = False, **settings: Any) -> DARTSOptimizer:
    """A search whose graph draws drop-path masks, of torch's default generator, and of one of its own."""
    desc = SPACE.build()
    places: list[str] = []

    def fix(place: str, op: Any) -> Any:
        if op.name != "mixed_op" or ".edges.0" not in place:
            return op
        places.append(place)
        return replace(op, name="sep_conv_3x3")

    graph = Model(desc.map_ops(fix), droppath=True, affine=False)
    assert places
    graph.drop_path_prob(0.5)
    optimizer = adapted(graph, unrolled=unrolled, **settings)
    paths = [module for module in optimizer.graph.modules() if isinstance(module, DropPath_)]
    assert len(paths) == 3
    paths[0].generator = paths[1].generator = torch.Generator().manual_seed(4)
    return optimizer


SEARCHES = {
    "plain": lambda: adapted(fused=False),
    "fused, unrolled": lambda: adapted(unrolled=True),
    "unrolled, no momentum": lambda: adapted(unrolled=True, momentum=0.0),
    "scope": lambda: adapted(scope="reduction"),
    "drawing": drawing,
    "drawing, unrolled": lambda: drawing(True),
    "RMSprop": lambda: adapted(op_optimizer="RMSprop", arch_optimizer="NAdam"),
}


def next_step(optimizer: DARTSOptimizer) -> list[Any]:
    out = optimizer.step(TRAIN, VAL)
    states = {name: part.state_dict() for name, part in optimizer.get_checkpointables().items()}
    return [*out, *optimizer.step(batch(8), batch(9)), states]


@pytest.fixture(scope="module")
def here_and_there(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], dict[str, Any]]:
    """The next steps of each search in this process, and in a new one that loads what was stored before them."""
    folder = tmp_path_factory.mktemp("processes")
    stored, here = {}, {}
    for name, search in SEARCHES.items():
        optimizer = search()
        optimizer.before_training()
        for seed in (5, 6, 7):
            optimizer.step(batch(seed), batch(seed + 10))
        parts = optimizer.get_checkpointables()
        stored[name] = copy.deepcopy({key: part.state_dict() for key, part in parts.items()})
        here[name] = next_step(optimizer)
    torch.save(stored, folder / "stored.pt")
    files = [str(Path(__file__).parent), str(folder / "stored.pt"), str(folder / "next.pt")]
    subprocess.run([sys.executable, "-c", SCRIPT, *files], check=True, timeout=300)
    return here, torch.load(folder / "next.pt", weights_only=True)


@pytest.mark.parametrize("name", SEARCHES)
def test_a_new_process_takes_the_same_next_step_bit_for_bit(
    name: str, here_and_there: tuple[dict[str, Any], dict[str, Any]]
) -> None:
    here, there = here_and_there
    assert same(there[name], here[name])


def test_checkpointables_are_the_live_objects() -> None:
    optimizer = adapted()
    parts = optimizer.get_checkpointables()
    assert set(parts) == {"model", "op_optimizer", "arch_optimizer", "arch_weights", "arch_steps", "random_state"}
    assert parts["model"] is optimizer.graph
    assert parts["op_optimizer"] is optimizer.op_optimizer
    assert parts["arch_optimizer"] is optimizer.arch_optimizer
    assert parts["arch_weights"] is optimizer.architectural_weights


@pytest.mark.parametrize("left_out", ["model", "op_optimizer", "random_state"])
def test_each_part_of_a_checkpoint_is_needed(left_out: str) -> None:
    optimizer, other = drawing(True), drawing(True)
    for seed in (5, 6):
        optimizer.step(batch(seed), batch(seed + 10))
    stored = {key: copy.deepcopy(part.state_dict()) for key, part in optimizer.get_checkpointables().items()}
    expected = next_step(optimizer)
    torch.manual_seed(1)
    for key, part in other.get_checkpointables().items():
        if key != left_out:
            part.load_state_dict(stored[key])
    assert not same(next_step(other), expected)


def test_steps_are_counted_on_after_loading() -> None:
    optimizer, other = adapted(), adapted()
    for _ in range(3):
        optimizer.step(TRAIN, VAL)
    for key, part in other.get_checkpointables().items():
        part.load_state_dict(copy.deepcopy(optimizer.get_checkpointables()[key].state_dict()))
    other.step(TRAIN, (VAL[0] * math.nan, VAL[1]))
    with pytest.raises(FloatingPointError, match="at architecture step 3"):
        other.new_epoch(0)


def test_random_state_of_another_graph_is_refused() -> None:
    stored = drawing().get_checkpointables()["random_state"].state_dict()
    with pytest.raises(ValueError, match="of 1 generators of drop path, the graph has 0"):
        adapted().get_checkpointables()["random_state"].load_state_dict(stored)


def test_a_schedule_of_the_callers_is_followed_by_both_steps() -> None:
    optimizer, twin = (in_double(unrolled=True, arch_optimizer="SGD") for _ in range(2))
    schedule = CosineAnnealingLR(optimizer.op_optimizer, T_max=4)
    for part in (optimizer, twin):
        part.step(batch(5, dtype=F64), batch(6, dtype=F64))
    schedule.step()
    twin.op_optimizer.param_groups[0]["lr"] = optimizer.op_optimizer.param_groups[0]["lr"]
    assert optimizer.op_optimizer.param_groups[0]["lr"] < 0.1
    assert same(optimizer.step(TRAIN64, VAL64), twin.step(TRAIN64, VAL64))
    assert torch.equal(alphas(optimizer), alphas(twin))
