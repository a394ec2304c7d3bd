"""Tests of ``src/gradnas/ops/arch_params.py``."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import Buffer, Parameter, ParameterDict, ParameterList

from gradnas.ops import ArchModule, ArchParams


def param(value: float = 0.0) -> Parameter:
    return Parameter(torch.full((2,), value))


class Tree(nn.Module):
    """A Parameter, a ParameterList and a ParameterDict of architecture, beside ordinary ones of each sort."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = param()
        self.arch = ArchParams([("alphas", param(1.0))], registrar=self)
        self.layer = nn.Linear(2, 2)
        self.cell = nn.Module()
        self.cell.plain = ParameterList([param(), param()])
        ArchParams(
            [("alphas", ParameterList([param(2.0), param(3.0)])), ("betas", ParameterDict({"x": param(4.0)}))],
            self.cell,
        )
        self.cell.edge = nn.Module()
        ArchParams([("gammas", param(5.0))], self.cell.edge)


def values(params: object) -> list[float]:
    return [p[0].item() for p in params]  # type: ignore[attr-defined]


def test_is_a_mapping_in_order_of_insertion() -> None:
    a, b = param(), param()
    arch = ArchParams([("z", a), ("a", b)])
    assert len(arch) == 2
    assert list(arch) == ["z", "a"]
    assert arch["a"] is b
    assert "z" in arch
    assert "alphas" not in arch


def test_empty_has_no_entries() -> None:
    assert dict(ArchParams.empty()) == {}


def test_registrar_gets_each_entry_under_the_suffix() -> None:
    owner = nn.Module()
    alphas, betas = param(), ParameterList([param()])
    ArchParams([("alphas", alphas), ("betas", betas)], registrar=owner)
    assert list(owner.state_dict()) == ["alphas_arch_param", "betas_arch_param.0"]
    assert owner.alphas_arch_param is alphas


def test_view_registers_nothing() -> None:
    module = nn.Module()
    module.view = ArchParams([("alphas", param())])
    assert list(module.parameters()) == []


def test_kind_is_the_last_part_of_the_dotted_name() -> None:
    arch = ArchParams([("cells.0.alphas", param(1.0)), ("alphas", param(2.0)), ("alphas.betas", param(3.0))])
    assert values(arch.param_by_kind("alphas")) == [1.0, 2.0]
    assert [arch.has_kind(kind) for kind in ("alphas", "betas", "cells", "0")] == [True, True, False, False]


def test_leaves_of_a_kind_come_from_lists_and_dicts_too() -> None:
    arch = ArchParams.from_module(Tree(), recurse=True)
    assert values(arch.param_by_kind("alphas")) == [1.0, 2.0, 3.0]
    assert values(arch.param_by_kind("betas")) == [4.0]
    assert values(arch.param_by_kind()) == [1.0, 2.0, 3.0, 4.0, 5.0]
    assert values(arch.param_by_kind("deltas")) == []


def test_containers_of_a_kind() -> None:
    module = Tree()
    arch = ArchParams.from_module(module, recurse=True)
    plist, pdict = module.cell.alphas_arch_param, module.cell.betas_arch_param
    assert [x is plist for x in arch.paramlist_by_kind("alphas")] == [True]
    assert [x is pdict for x in arch.paramdict_by_kind("betas")] == [True]
    assert [x is plist for x in arch.paramlist_by_kind()] == [True]
    assert list(arch.paramlist_by_kind("betas")) == list(arch.paramdict_by_kind("alphas")) == []


def test_from_module_names_descendants_by_path_and_containers_as_one() -> None:
    module = Tree()
    assert list(ArchParams.from_module(module, recurse=True)) == [
        "alphas",
        "cell.alphas",
        "cell.betas",
        "cell.edge.gammas",
    ]
    assert ArchParams.from_module(module, recurse=True)["cell.alphas"] is module.cell.alphas_arch_param


def test_from_module_takes_the_module_alone_by_default() -> None:
    assert list(ArchParams.from_module(Tree())) == ["alphas"]
    assert list(ArchParams.from_module(Tree().cell)) == ["alphas", "betas"]


def test_arch_and_other_parameters_are_all_and_disjoint() -> None:
    module = Tree()
    arch = list(ArchParams.from_module(module, recurse=True).param_by_kind())
    other = list(ArchParams.nonarch_from_module(module, recurse=True))
    ids = [id(p) for p in arch + other]
    assert len(ids) == len(set(ids)) == 5 + 5
    assert set(ids) == {id(p) for p in module.parameters()}


def test_other_parameters_of_the_module_alone() -> None:
    module = Tree()
    (only,) = ArchParams.nonarch_from_module(module, recurse=False)
    assert only is module.weight


def test_object_registered_twice_comes_once_under_its_first_name() -> None:
    root, shared = nn.Module(), param()
    root.a, root.b = nn.Module(), nn.Module()
    ArchParams([("alphas", shared)], root.a)
    ArchParams([("alphas", shared)], root.b)
    assert list(ArchParams.from_module(root, recurse=True)) == ["a.alphas"]


def test_frozen_parameter_counts_as_architecture() -> None:
    owner = nn.Module()
    log_weights = Parameter(torch.zeros(3), requires_grad=False)
    ArchParams([("alphas", log_weights)], owner)
    assert list(owner.state_dict()) == ["alphas_arch_param"]
    assert list(ArchParams.from_module(owner)) == ["alphas"]
    assert list(ArchParams.nonarch_from_module(owner)) == []


def test_assignment_and_deletion_are_refused() -> None:
    arch = ArchParams([("alphas", param())])
    with pytest.raises(RuntimeError, match="immutable; change the values of 'alphas' in place"):
        arch["alphas"] = param()
    with pytest.raises(RuntimeError, match="immutable; 'alphas' cannot be deleted"):
        del arch["alphas"]


def test_duplicate_name_is_refused() -> None:
    with pytest.raises(ValueError, match="'alphas' is given twice"):
        ArchParams([("alphas", param()), ("alphas", param())])


def test_empty_name_is_refused() -> None:
    with pytest.raises(ValueError, match="name '' must not be empty"):
        ArchParams([("", param())])


def test_dotted_name_is_for_views_only() -> None:
    assert list(ArchParams([("a.b", param())])) == ["a.b"]
    with pytest.raises(ValueError, match=r"name 'a\.b' must not be empty, nor have a dot when owned"):
        ArchParams([("a.b", param())], registrar=nn.Module())


@pytest.mark.parametrize("value", [torch.zeros(2), 1.0, None, [Parameter(torch.zeros(1))], nn.Linear(1, 1)])
def test_value_that_is_no_parameter_is_refused(value: object) -> None:
    with pytest.raises(TypeError, match=f"'alphas' must be a Parameter, .* got {type(value).__name__}"):
        ArchParams([("alphas", value)])  # type: ignore[list-item]


def with_attribute(sort: str) -> nn.Module:
    module = nn.Module()
    if sort == "buffer":
        module.register_buffer("alphas_arch_param", torch.zeros(1))
    else:
        module.alphas_arch_param = {"parameter": param(), "module": nn.Linear(1, 1), "plain": 3}[sort]
    return module


@pytest.mark.parametrize("sort", ["parameter", "module", "plain", "buffer"])
def test_attribute_that_exists_is_not_overwritten(sort: str) -> None:
    module = with_attribute(sort)
    before = module.alphas_arch_param
    with pytest.raises(RuntimeError, match="Module already has an attribute 'alphas_arch_param'"):
        ArchParams([("betas", param()), ("alphas", param())], registrar=module)
    assert module.alphas_arch_param is before


def test_refused_set_leaves_nothing_behind() -> None:
    module = with_attribute("plain")
    with pytest.raises(RuntimeError, match="already has an attribute"):
        ArchParams([("betas", param()), ("alphas", param())], registrar=module)
    assert list(module.parameters()) == []


def test_print_shows_the_names() -> None:
    assert repr(ArchParams([("a.alphas", param()), ("betas", param())])) == "ArchParams(a.alphas, betas)"


# ------------------------------------------------------------------------------------------------------------- buffers


class Counts(ArchModule):
    """Learns by itself, without gradients: a buffer; beside it an ordinary buffer and a parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.create_arch_params([("counts", Buffer(torch.zeros(3, dtype=torch.float64))), ("alphas", param())])
        self.register_buffer("mean", torch.zeros(1))


def test_a_buffer_is_an_architecture_parameter_that_no_optimizer_can_hold() -> None:
    module = Counts()
    assert list(module.arch_params()) == ["counts", "alphas"]
    assert sorted(module.state_dict()) == ["alphas_arch_param", "counts_arch_param", "mean"]
    assert [name for name, _ in module.named_parameters()] == ["alphas_arch_param"]
    assert list(module.all_owned().param_by_kind()) == [module.alphas_arch_param]
    assert list(ArchParams.from_module(module)) == ["alphas", "counts"]
    assert list(module.nonarch_params(True)) == []


def test_a_shared_buffer_follows_moves_copies_and_loading() -> None:
    tree = nn.ModuleList([Counts(), ArchModule()])
    tree[1].set_arch_params(tree[0].arch_params())
    for changed in (copy.deepcopy(tree), tree.float(), tree.to("cpu")):
        changed[0].get_buffer("counts_arch_param").fill_(4.0)
        assert changed[1].arch_params()["counts"].tolist() == [4.0] * 3
        assert list(changed[0].arch_params(recurse=True)) == ["counts", "alphas"]
    state = {name: torch.full_like(value, 5.0) for name, value in tree.state_dict().items()}
    tree.load_state_dict(state)
    assert tree[1].arch_params()["counts"].tolist() == [5.0] * 3


def test_released_parameters_make_room_for_others() -> None:
    module = Counts()
    module.release_arch_params()
    assert list(module.state_dict()) == ["mean"]
    module.create_arch_params([("betas", param())])
    assert list(module.arch_params()) == ["betas"]
    user = ArchModule()
    user.set_arch_params(module.arch_params())
    user.release_arch_params()
    assert list(module.state_dict()) == ["betas_arch_param", "mean"]  # what belongs to another stays


def test_a_plain_tensor_is_refused() -> None:
    with pytest.raises(TypeError, match=r"must be a Parameter, Buffer, ParameterDict or ParameterList, got Tensor"):
        ArchParams([("counts", torch.zeros(2))])
