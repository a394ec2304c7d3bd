"""Tests of ``src/gradnas/supergraph/model.py``."""

import copy
import io
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from gradnas.arch import PUBLISHED, EdgeDesc, ModelDesc, NodeDesc
from gradnas.ops import OPS, ArchParams, AuxTower, CompositeFactory, DropPath_, OpRegistry
from gradnas.ops.arch_params import ArchParam
from gradnas.ops.registry import OpFactory
from gradnas.spaces import DartsSpace, ModelDescBuilder
from gradnas.supergraph import Cell, MixedOp, Model, Softmax
from gradnas.supergraph.mixing import entry

IMAGENET_STEMS = ("stem_conv3x3_s4", "stem_conv3x3_s4s2")
FOUR = ("skip_connect", "max_pool_3x3", "sep_conv_3x3", "none")
SPACE = DartsSpace(channels=4, cells=5, nodes=2, reductions=2, image_size=8, primitives=FOUR)


def random(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def search_model(desc: ModelDesc | None = None) -> Model:
    torch.manual_seed(0)
    return Model(SPACE.build() if desc is None else desc, affine=False)


def discrete_desc(**changes: object) -> ModelDesc:
    settings: dict[str, object] = {"channels": 4, "cells": 5, "image_size": 8, **changes}
    return DartsSpace().from_genotype(PUBLISHED["DARTS_V2"], **settings)


def on_meta(desc: ModelDesc, affine: bool = True) -> Model:
    with torch.device("meta"):
        return Model(desc, affine=affine)


def count(model: Model) -> int:
    """Weights outside the auxiliary tower."""
    towers = {id(p) for p in model.aux_towers.parameters()}
    return sum(p.numel() for p in model.weights() if id(p) not in towers)


def with_separate_stems(desc: ModelDesc) -> ModelDesc:
    conf = desc.conf_model_desc
    conf = replace(conf, model_stems=replace(conf.model_stems, shared=False))
    return ModelDescBuilder().build(conf, template=desc)


@contextmanager
def float64() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


# -------------------------------------------------------------------------------------------------- published counts


@pytest.fixture(scope="module")
def darts_search() -> Model:
    """The search network of the paper, without numbers."""
    return on_meta(DartsSpace().build(), affine=False)


def test_weights_of_the_darts_search_network(darts_search: Model) -> None:
    assert count(darts_search) == 1_930_618


def test_convolutions_inside_the_cells_of_the_darts_search_network(darts_search: Model) -> None:
    assert sum(isinstance(m, nn.Conv2d) for m in darts_search.cells.modules()) == 1_394


def test_alphas_of_the_darts_search_network(darts_search: Model) -> None:
    alphas = darts_search.all_owned()
    assert [tuple(a.shape) for a in alphas.param_by_kind()] == [(8,)] * 28
    assert Counter(name.split(".")[1] for name in alphas) == {"0": 14, "2": 14}


def test_stem_norm_has_weights_though_those_of_the_cells_have_none(darts_search: Model) -> None:
    assert {m.affine for m in darts_search.model_stems.modules() if isinstance(m, nn.BatchNorm2d)} == {True}
    assert {m.affine for m in darts_search.cells.modules() if isinstance(m, nn.BatchNorm2d)} == {False}


@pytest.mark.parametrize(("name", "expected"), [("DARTS_V1", 3_169_414), ("DARTS_V2", 3_349_342)])
def test_published_count_on_cifar(name: str, expected: int) -> None:
    assert count(on_meta(DartsSpace().from_genotype(PUBLISHED[name], channels=36, cells=20))) == expected


def imagenet(name: str = "DARTS_V2", **changes: object) -> ModelDesc:
    space = DartsSpace(3, 224, 1000, stems=IMAGENET_STEMS, stem_multiplier=1, pool="pool_avg2d7x7")
    return space.from_genotype(PUBLISHED[name], channels=48, cells=14, **changes)


def test_published_count_on_imagenet() -> None:
    assert count(on_meta(imagenet())) == 4_718_752


def test_the_auxiliary_tower_adds_what_it_has() -> None:
    model = on_meta(DartsSpace().from_genotype(PUBLISHED["DARTS_V2"], channels=36, cells=20, aux_weight=0.4))
    assert sum(p.numel() for p in model.aux_towers.parameters()) == 476_426
    assert sum(p.numel() for p in model.weights()) == 3_349_342 + 476_426


def test_separate_cifar_stems_add_weights() -> None:
    desc = DartsSpace().from_genotype(PUBLISHED["DARTS_V2"], channels=36, cells=20)
    assert count(on_meta(with_separate_stems(desc))) == 3_349_342 + 3_132 == 3_352_474


def test_separate_imagenet_stems_add_weights() -> None:
    assert count(on_meta(with_separate_stems(imagenet()))) == 4_718_752 + 11_160


def test_separate_stems_of_the_search_network_add_weights() -> None:
    desc = DartsSpace(cells=1, reductions=0, primitives=("skip_connect", "none")).build()
    difference = count(on_meta(with_separate_stems(desc), affine=False)) - count(on_meta(desc, affine=False))
    assert 1_930_618 + difference == 1_932_010


# --------------------------------------------------------------------------------------------------------------- calls


def test_a_pass_calls_896_candidates_less_none() -> None:
    model = search_model(DartsSpace(channels=2, image_size=4).build())
    calls: Counter[str] = Counter()
    per_cell: Counter[int] = Counter()

    def watch(cell: int) -> Callable[..., None]:
        def note(module: nn.Module, *_: object) -> None:
            calls[module.desc.name] += 1  # type: ignore[union-attr,index]  # an Op
            per_cell[cell] += 1

        return note

    for cell in model.typed_cells():
        for op in cell.mixed_ops():
            for candidate in op.candidates:
                candidate.register_forward_hook(watch(cell.desc.id))
    model(random(2, 3, 4, 4))
    assert sum(len(op.candidates) for op in model.mixed_ops()) == 896
    assert set(per_cell.values()) == {112 - 14}
    assert len(per_cell) == 8
    assert "none" not in calls
    assert set(calls.values()) == {112}


def test_the_rule_is_evaluated_once_per_cell_type_and_pass() -> None:
    shapes: list[tuple[int, ...]] = []

    class Counting(Softmax):
        def weights(self, alphas_EN: Tensor) -> Tensor:
            shapes.append(tuple(alphas_EN.shape))
            return super().weights(alphas_EN)

    model = search_model()
    model.set_mixing_rule(Counting())
    model(random(2, 3, 8, 8))
    assert shapes == [(5, 4), (5, 4)]


def test_setting_a_rule_reaches_every_mixed_op() -> None:
    model, rule = search_model(), Softmax()
    model.set_mixing_rule(rule)
    assert {id(op.rule) for op in model.mixed_ops()} == {id(rule)}


def test_cells_of_a_type_share_what_a_new_rule_learns() -> None:
    class Other(Softmax):
        entries = ("betas",)

        def initial(self, n_candidates: int, device: torch.device | None = None) -> list[tuple[str, ArchParam]]:
            return [("betas", nn.Buffer(torch.zeros(n_candidates)))]

        def table(self, edges: Sequence[ArchParams]) -> Tensor:
            return torch.stack([entry(edge, "betas") for edge in edges])

    model = search_model()
    model.set_mixing_rule(Other())
    cells = model.typed_cells()
    for first, other in zip(cells[0].mixed_ops(), cells[4].mixed_ops(), strict=True):
        assert first.arch_params()["betas"] is other.arch_params()["betas"]
    assert not list(model.all_owned().param_by_kind())
    assert len([name for name in model.state_dict() if "betas" in name]) == 10  # five edges of each type, once
    assert len(model.all_owned()) == 10
    weights = {id(p) for p in model.weights()}
    assert weights == {id(p) for p in model.parameters()}


def test_given_mixing_weights_are_used_instead_of_the_rule() -> None:
    model, x = search_model(), random(2, 3, 8, 8)
    own = model.mixing_weights()
    torch.testing.assert_close(model(x, own)[0], model(x)[0])
    other = [None if table is None else table.flip(1) for table in own]
    assert not torch.allclose(model(x, other)[0], model(x)[0])
    per_example = [None if table is None else table[:, None].repeat(1, 2, 1) for table in own]
    torch.testing.assert_close(model(x, per_example)[0], model(x)[0])


def test_mixing_weights_of_another_number_of_cells_are_refused() -> None:
    model = search_model()
    with pytest.raises(ValueError, match=r"mixing weights for 5 cells, one entry each, got 4"):
        model(random(2, 3, 8, 8), model.mixing_weights()[:4])


def test_mixing_weights_have_the_precision_of_the_network() -> None:
    class Exact(Softmax):
        def weights(self, alphas_EN: Tensor) -> Tensor:
            return super().weights(alphas_EN.double())

    model = search_model()
    model.set_mixing_rule(Exact())
    assert {table.dtype for table in model.mixing_weights() if table is not None} == {torch.float32}


# --------------------------------------------------------------------------------------------------------------- stems


def test_equal_stems_are_one_module_called_once_and_feeding_both_states() -> None:
    model = search_model()
    assert len(model.model_stems) == 1
    calls: list[Tensor] = []
    model.model_stems[0].register_forward_hook(lambda _m, _i, out: calls.append(out))
    states: list[tuple[Tensor, Tensor]] = []
    model.cells[0].register_forward_pre_hook(lambda _, inputs: states.append(inputs[:2]))
    model(random(2, 3, 8, 8))
    assert len(calls) == 1
    assert states[0][0] is states[0][1] is calls[0]


@pytest.mark.parametrize("shared", [True, False])
def test_the_second_imagenet_stem_reads_the_first_one_when_shared_else_the_image(shared: bool) -> None:
    desc = discrete_desc(image_size=32, stems=IMAGENET_STEMS)
    model = Model(desc if shared else with_separate_stems(desc))
    outs, ins = [], []
    model.model_stems[0].register_forward_hook(lambda _m, _i, out: outs.append(out))
    model.model_stems[1].register_forward_pre_hook(lambda _, inputs: ins.append(inputs[0]))
    x = random(2, 3, 32, 32)
    model(x)
    assert ins[0] is (outs[0] if shared else x)


def test_separate_equal_stems_both_read_the_image() -> None:
    model = Model(with_separate_stems(discrete_desc()))
    ins: list[Tensor] = []
    for stem in model.model_stems:
        stem.register_forward_pre_hook(lambda _, inputs: ins.append(inputs[0]))
    x = random(2, 3, 8, 8)
    model(x)
    assert [i is x for i in ins] == [True, True]


def test_cells_are_chained_by_the_last_two_outputs() -> None:
    model = search_model()
    outs: list[Tensor] = []
    ins: list[tuple[Tensor, Tensor]] = []
    model.model_stems[0].register_forward_hook(lambda _m, _i, out: outs.extend([out, out]))
    for cell in model.cells:
        cell.register_forward_pre_hook(lambda _, inputs: ins.append(inputs[:2]))
        cell.register_forward_hook(lambda _m, _i, out: outs.append(out))
    model(random(2, 3, 8, 8))
    for i, (s0, s1) in enumerate(ins):
        assert s0 is outs[i]
        assert s1 is outs[i + 1]


# ------------------------------------------------------------------------------------------------------------- sharing


def save_and_load(model: Model) -> Model:
    other = search_model()
    other.load_state_dict(model.state_dict())
    return other


def through_a_file(model: Model) -> Model:
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    loaded: Model = torch.load(file, weights_only=False)
    return loaded


def after_steps(model: Model) -> Model:
    optimizer = torch.optim.Adam(model.all_owned().param_by_kind(), 0.1)
    for _ in range(2):
        model(random(2, 3, 8, 8))[0].square().sum().backward()
        optimizer.step()
    return model


@pytest.mark.parametrize(
    "change",
    [lambda m: m, copy.deepcopy, lambda m: m.double(), save_and_load, through_a_file, after_steps],
    ids=["built", "deepcopy", "double", "state_dict", "file", "steps"],
)
def test_cells_of_a_type_use_the_same_alphas(change: Callable[[Model], Model]) -> None:
    original = search_model()
    values = [a.detach().double() for a in original.all_owned().param_by_kind()]
    model = change(original)
    registered = {id(p) for p in model.parameters()}
    owners = {cell.desc.id: cell for cell in model.owner_cells()}
    assert list(owners) == [0, 1]
    for cell in model.typed_cells():
        expected = owners[cell.desc.trainables_from].mixed_ops()
        assert [id(op.alphas) for op in cell.mixed_ops()] == [id(op.alphas) for op in expected]
        assert {id(op.alphas) for op in cell.mixed_ops()} <= registered
    if change is not after_steps:
        found = [a.detach().double() for a in model.all_owned().param_by_kind()]
        assert all(torch.equal(a, b) for a, b in zip(found, values, strict=True))


def test_a_copy_has_alphas_of_its_own() -> None:
    model = search_model()
    other = copy.deepcopy(model)
    assert not {id(p) for p in model.parameters()} & {id(p) for p in other.parameters()}
    assert {id(op.alphas) for op in other.mixed_ops()} == {id(a) for a in other.all_owned().param_by_kind()}


def test_state_dict_holds_each_alpha_once() -> None:
    keys = [key for key in search_model().state_dict() if "alphas" in key]
    assert len(keys) == len(set(keys)) == 2 * 5
    assert {key.split(".")[1] for key in keys} == {"0", "1"}


def test_regular_and_reduction_cells_do_not_share() -> None:
    regular, reduction = search_model().owner_cells()
    assert not {id(op.alphas) for op in regular.mixed_ops()} & {id(op.alphas) for op in reduction.mixed_ops()}


def test_weights_are_never_shared() -> None:
    model = search_model()
    ids = Counter(id(p) for cell in model.cells for p in cell.parameters())
    assert set(ids.values()) == {1}


def test_gradient_of_a_shared_alpha_is_the_sum_over_the_cells() -> None:
    model, x = search_model().double(), random(2, 3, 8, 8, dtype=torch.float64)
    target = random(2, 10, dtype=torch.float64, seed=1)
    (model(x)[0] * target).sum().backward()

    s0 = s1 = model.model_stems[0](x)
    leaves: dict[int, Tensor] = {}
    for cell in model.typed_cells():
        weights = cell.mixing_weights()
        assert weights is not None
        leaves[cell.desc.id] = weights.detach().requires_grad_()
        s0, s1 = s1, cell(s0, s1, leaves[cell.desc.id])
    loss = (model.logits_op(model.pool_op(s1)) * target).sum()
    told = dict(zip(leaves, torch.autograd.grad(loss, list(leaves.values())), strict=True))

    for owner in model.owner_cells():
        users = [cell.desc.id for cell in model.typed_cells() if cell.desc.trainables_from == owner.desc.id]
        assert len(users) > 1
        summed = torch.stack([told[i] for i in users]).sum(0)
        weights = leaves[owner.desc.id].detach()
        expected = weights * (summed - (weights * summed).sum(1, keepdim=True))
        torch.testing.assert_close(torch.stack([op.alphas.grad for op in owner.mixed_ops()]), expected)


def test_every_alpha_gets_a_gradient() -> None:
    model = search_model()
    model(random(4, 3, 8, 8))[0].square().sum().backward()
    for alpha in model.all_owned().param_by_kind():
        assert alpha.grad is not None
        assert (alpha.grad != 0).all()


def test_two_models_of_one_description_are_equal_in_structure_and_independent() -> None:
    desc = SPACE.build()
    first, second = Model(desc, affine=False), Model(desc, affine=False)
    assert {k: v.shape for k, v in first.state_dict().items()} == {k: v.shape for k, v in second.state_dict().items()}
    assert not {p.data_ptr() for p in first.parameters()} & {p.data_ptr() for p in second.parameters()}


@pytest.mark.parametrize("settings", [{}, {"image_size": 24, "aux_weight": 0.4}], ids=["plain", "tower"])
def test_weights_and_alphas_partition_the_parameters(settings: dict[str, object]) -> None:
    model = search_model(DartsSpace(channels=2, cells=5, nodes=2, primitives=FOUR, **settings).build())
    weights = [id(p) for p in model.weights()]
    alphas = [id(p) for p in model.all_owned().param_by_kind()]
    assert len(set(weights)) == len(weights)
    assert len(set(alphas)) == len(alphas) == 10
    assert not set(weights) & set(alphas)
    assert {*weights, *alphas} == {id(p) for p in model.parameters()}


# --------------------------------------------------------------------------------------------- the discretized network


def one_hot(model: Model, seed: int = 0) -> dict[int, list[list[int]]]:
    """Make alphas one-hot: two edges per node on some candidate, the others on ``none``. Returns the edges kept."""
    generator = torch.Generator().manual_seed(seed)
    kept: dict[int, list[list[int]]] = {}
    for owner in model.owner_cells():
        kept[owner.desc.id] = []
        for node in owner.nodes:
            edges = list(node)  # type: ignore[call-overload]  # a ModuleList
            chosen = sorted(torch.randperm(len(edges), generator=generator)[:2].tolist())
            kept[owner.desc.id].append(chosen)
            for e, edge in enumerate(edges):
                op = edge.op
                real = int(torch.randint(len(op.computed), (1,), generator=generator))
                best = op.computed[real] if e in chosen else op.names.index("none")
                with torch.no_grad():
                    op.alphas.fill_(-1e4)[best] = 1e4
    return kept


def child_desc(model: Model, kept: dict[int, list[list[int]]]) -> ModelDesc:
    """The discrete description, put together by hand."""
    cells = []
    for cell in model.typed_cells():
        nodes = []
        for node, chosen, described in zip(cell.nodes, kept[cell.desc.trainables_from], cell.desc.nodes(), strict=True):
            edges = [node[e] for e in chosen]  # type: ignore[index]  # a ModuleList
            found = tuple(EdgeDesc(edge.op.finalize()[0], edge.input_ids) for edge in edges)
            nodes.append(NodeDesc(found, described.conv_params))
        discrete = cell.desc.reset_nodes(nodes, cell.desc.node_shapes, cell.post_op.finalize()[0], cell.desc.out_shape)
        cells.append(replace(discrete, stems=tuple(stem.finalize()[0] for stem in cell.stems)))
    stems = [stem.finalize()[0] for stem in model.model_stems]  # type: ignore[operator]  # ops
    return ModelDesc(
        conf_model_desc=model.desc.conf_model_desc,
        model_stems=(stems[0], model.desc.model_stems[1] if len(stems) == 1 else stems[1]),
        pool_op=model.pool_op.finalize()[0],
        cell_descs=tuple(cells),
        aux_tower_descs=model.desc.aux_tower_descs,
        logits_op=model.logits_op.finalize()[0],
    )


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(
    "settings", [{}, {"stems": IMAGENET_STEMS, "merge": "proj_channels"}], ids=["cifar", "imagenet"]
)
def test_one_hot_alphas_give_the_logits_of_the_child(seed: int, training: bool, settings: dict[str, object]) -> None:
    space = DartsSpace(channels=4, cells=3, nodes=3, reductions=1, image_size=16, **settings)
    with float64():
        model = search_model(space.build())
        for k in range(3):
            model(random(4, 3, 16, 16, seed=k, dtype=torch.float64))  # moves the running statistics
        kept = one_hot(model, seed)
        child = Model(child_desc(model, kept), affine=False)
        x = random(4, 3, 16, 16, seed=9, dtype=torch.float64)
        expected, found = model.train(training)(x)[0], child.train(training)(x)[0]
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)


def test_a_finalized_one_hot_edge_is_that_candidate_with_certainty() -> None:
    model = search_model()
    kept = one_hot(model)
    for owner in model.owner_cells():
        for node, chosen in zip(owner.nodes, kept[owner.desc.id], strict=True):
            for e in chosen:
                op = node[e].op  # type: ignore[index]  # a ModuleList
                desc, rank = op.finalize()
                assert rank == 1.0
                assert desc.name == op.names[int(op.alphas.argmax())]


# ------------------------------------------------------------------------------------------------------ auxiliary tower


@pytest.fixture
def towered() -> Model:
    torch.manual_seed(0)
    return Model(discrete_desc(image_size=24, aux_weight=0.4, channels=2))


def test_auxiliary_logits_come_in_training_only(towered: Model) -> None:
    x = random(2, 3, 24, 24)
    logits, aux = towered(x)
    assert aux is not None
    assert logits.shape == aux.shape == (2, 10)
    assert towered.eval()(x)[1] is None


def test_without_tower_there_are_no_auxiliary_logits() -> None:
    assert search_model()(random(2, 3, 8, 8))[1] is None


def test_the_tower_reads_the_output_of_its_cell(towered: Model) -> None:
    seen: list[Tensor] = []
    assert list(towered.aux_towers) == ["3"]
    towered.cells[3].register_forward_hook(lambda _m, _i, out: seen.append(out))
    tower = towered.aux_towers["3"]
    assert isinstance(tower, AuxTower)
    tower.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    towered(random(2, 3, 24, 24))
    assert seen[0] is seen[1]


def test_the_tower_does_not_change_what_the_next_cell_reads(towered: Model) -> None:
    kept: list[Tensor] = []
    towered.aux_towers["3"].register_forward_pre_hook(lambda _, inputs: kept.append(inputs[0].clone()))
    towered.cells[4].register_forward_pre_hook(lambda _, inputs: kept.append(inputs[1]))
    towered(random(2, 3, 24, 24))
    assert (kept[0] < 0).any()
    assert torch.equal(kept[0], kept[1])


def test_the_auxiliary_loss_reaches_the_cells_before_the_tower_only(towered: Model) -> None:
    towered(random(2, 3, 24, 24))[1].sum().backward()
    reached = [any(p.grad is not None for p in cell.parameters()) for cell in towered.cells]
    assert reached == [True, True, True, True, False]


# ------------------------------------------------------------------------------------------------------------ drop path


def drop_paths(model: Model) -> list[DropPath_]:
    return [m for m in model.modules() if isinstance(m, DropPath_)]


@pytest.fixture
def dropping() -> Model:
    torch.manual_seed(0)
    return Model(discrete_desc(), droppath=True)


def test_every_edge_but_identities_has_drop_path(dropping: Model) -> None:
    edges = [edge for cell in dropping.typed_cells() for edge in cell.edges()]
    free = [edge for edge in edges if edge.drop_path is None]
    assert {(edge.op.desc.name, edge.op.desc.stride) for edge in free} == {("skip_connect", 1)}
    assert len(drop_paths(dropping)) + len(free) == 5 * 8
    # DARTS_V2 has two skips in a normal cell and three in a reduction cell, none of them of stride 2
    assert len(free) == 3 * 2 + 2 * 3


def test_setting_the_probability_reaches_every_drop_path(dropping: Model) -> None:
    dropping.drop_path_prob(0.3)
    assert {m.p for m in drop_paths(dropping)} == {0.3}


@pytest.mark.parametrize("p", [-0.1, 1.0, 1.5, float("nan")])
def test_a_probability_out_of_range_is_refused(dropping: Model, p: float) -> None:
    with pytest.raises(ValueError, match="drop-path probability must be at least 0 and below 1, got"):
        dropping.drop_path_prob(p)
    assert {m.p for m in drop_paths(dropping)} == {0.0}


def test_a_model_without_drop_path_ignores_the_probability() -> None:
    model, x = Model(discrete_desc()), random(2, 3, 8, 8)
    expected = model(x)[0]
    model.drop_path_prob(0.9)
    assert drop_paths(model) == []
    assert torch.equal(model(x)[0], expected)


def test_evaluation_with_drop_path_is_deterministic(dropping: Model) -> None:
    x = random(2, 3, 8, 8)
    dropping.eval()
    expected = dropping(x)[0]
    dropping.drop_path_prob(0.9)
    assert torch.equal(dropping(x)[0], expected)


def test_training_with_drop_path_draws(dropping: Model) -> None:
    x = random(4, 3, 8, 8)
    dropping.drop_path_prob(0.5)
    assert not torch.equal(dropping(x)[0], dropping(x)[0])


def test_drop_path_draws_from_the_given_generator_alone(dropping: Model) -> None:
    x = random(4, 3, 8, 8)
    dropping.drop_path_prob(0.5)
    before = torch.get_rng_state()
    outs = []
    for _ in range(2):
        dropping.drop_path_generator(torch.Generator().manual_seed(3))
        outs.append(dropping(x)[0])
    assert torch.equal(outs[0], outs[1])
    assert torch.equal(torch.get_rng_state(), before)


def test_a_supergraph_has_no_drop_path() -> None:
    assert drop_paths(Model(SPACE.build(), droppath=True, affine=False)) == []


# ------------------------------------------------------------------------------------------------------------- the rest


@pytest.mark.parametrize("shape", [(2, 1, 8, 8), (2, 3, 8, 9), (2, 3, 9, 8), (3, 8, 8), (2, 3, 8), (2, 3, 8, 8, 1)])
def test_images_of_another_shape_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"takes images of shape \(batch, 3, 8, 8\), got \(") as caught:
        search_model()(torch.zeros(shape))
    assert str(shape) in str(caught.value)


def test_ops_come_in_cell_node_edge_order() -> None:
    model = Model(discrete_desc())
    expected = [edge.op_desc for cell in model.desc.cell_descs for node in cell.nodes() for edge in node.edges]
    assert [op.desc for op in model.ops()] == expected


def test_mixed_ops_are_the_ops_that_hold_a_choice() -> None:
    assert list(Model(discrete_desc()).mixed_ops()) == []
    model = search_model()
    assert list(model.mixed_ops()) == list(model.ops())
    assert len(list(model.mixed_ops())) == 25
    assert all(isinstance(op, MixedOp) for op in model.mixed_ops())


def test_cells_in_order_and_first_of_each_type() -> None:
    model = search_model()
    assert [cell.desc.id for cell in model.typed_cells()] == [0, 1, 2, 3, 4]
    assert [cell.desc.id for cell in model.owner_cells()] == [0, 1]
    assert all(isinstance(cell, Cell) for cell in model.cells)


def test_the_description_is_not_modified() -> None:
    desc = SPACE.build()
    text = desc.to_json()
    model = after_steps(Model(desc, affine=False))
    assert model.desc is desc
    assert desc.to_json() == text
    assert all(op.trainables is None for _, op in desc.top_ops())


def test_weights_of_the_description_are_loaded() -> None:
    model, x = Model(discrete_desc()), random(2, 3, 8, 8)
    model(x)
    described = model.desc.map_ops(lambda place, op: replace(op, trainables=trainables(model, place)))
    assert torch.equal(Model(described).eval()(x)[0], model.eval()(x)[0])


def trainables(model: Model, place: str) -> dict[str, object] | None:
    if place == "model_stems.1":
        return None  # the shared stem is one module
    parts = place.split(".")
    if "edges" in parts:
        parts = [part for part in parts if part != "edges"] + ["op"]
    return model.get_submodule(".".join(parts)).get_trainables()  # type: ignore[operator]  # an Op


def test_an_unknown_op_is_named_by_place() -> None:
    desc = SPACE.build().map_ops(lambda _, op: replace(op, name="mixedop") if op.name == "mixed_op" else op)
    with pytest.raises(KeyError, match=r"cells\[0\]\.nodes\[0\]\.edges\[0\]: no operation 'mixedop'.*'mixed_op'"):
        Model(desc)


def test_names_are_looked_up_in_the_given_registry_everywhere() -> None:
    asked: list[str] = []

    class Watching(OpRegistry):
        def lookup(self, name: str) -> OpFactory | CompositeFactory:
            asked.append(name)
            return super().lookup(name)

    model = Model(discrete_desc(), registry=Watching(parent=OPS))
    assert sorted(asked) == sorted(op.name for place, op in model.desc.top_ops() if place != "model_stems.1")


def test_device_type() -> None:
    assert search_model().device_type() == "cpu"
    assert on_meta(discrete_desc()).device_type() == "meta"


def test_output_follows_the_dtype_of_model_and_images() -> None:
    assert search_model().double()(random(2, 3, 8, 8, dtype=torch.float64))[0].dtype is torch.float64


def test_runs_under_autocast() -> None:
    model = search_model()
    with torch.autocast("cpu", torch.bfloat16):
        logits, _ = model(random(4, 3, 8, 8))
    logits.float().square().sum().backward()
    assert all(a.grad is not None and a.grad.isfinite().all() for a in model.all_owned().param_by_kind())


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_constant_images_give_finite_logits_and_gradients(value: float) -> None:
    model = search_model()
    logits, _ = model(torch.full((2, 3, 8, 8), value))
    logits.sum().backward()
    assert logits.isfinite().all()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


def test_cells_of_a_type_follow_when_torch_replaces_the_parameters_of_their_owner() -> None:
    model = Model(DartsSpace(1, 8, 4, channels=2, cells=3, nodes=1, reductions=1).build(), affine=False)
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    model.load_state_dict(state, assign=True)
    owner, _, last = model.typed_cells()
    assert last.mixed_ops()[0].alphas is owner.mixed_ops()[0].alphas
    assert owner.mixed_ops()[0].alphas is dict(model.named_parameters())["cells.0.nodes.0.0.op.alphas_arch_param"]


def test_a_functional_call_replaces_architecture_parameters_in_every_cell() -> None:
    model = Model(DartsSpace(1, 8, 4, channels=2, cells=3, nodes=1, reductions=1).build(), affine=False).double().eval()
    x = torch.randn(2, 1, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    changed = {name: p + 1.0 * torch.arange(len(p)) for name, p in model.named_parameters() if "arch_param" in name}
    called, _ = torch.func.functional_call(model, changed, (x,))
    with torch.no_grad():
        for name, p in model.named_parameters():
            if name in changed:
                p.copy_(changed[name])
    torch.testing.assert_close(called, model(x)[0], rtol=0, atol=0)
