"""Tests of ``src/gradnas/ops/arch_module.py``."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import Parameter, ParameterList

from gradnas.ops import ArchModule, ArchParams


def make_model() -> nn.ModuleList:
    """Two cells; the second uses what the first one owns. Each has a weight of its own."""
    owner, user = ArchModule(), ArchModule()
    owner.create_arch_params([("alphas", Parameter(torch.zeros(3))), ("betas", ParameterList([torch.ones(2)]))])
    user.set_arch_params(owner.arch_params())
    for cell in (owner, user):
        cell.weight = Parameter(torch.zeros(1))
    model = ArchModule()
    model.cells = nn.ModuleList([owner, user])
    return model


def test_owner_uses_what_it_registered() -> None:
    owner, _ = make_model().cells
    assert list(owner.arch_params()) == ["alphas", "betas"]
    assert list(owner.arch_params(only_owned=True)) == ["alphas", "betas"]


def test_user_uses_the_same_objects_and_registers_nothing() -> None:
    owner, user = make_model().cells
    assert user.arch_params()["alphas"] is owner.arch_params()["alphas"]
    assert dict(user.arch_params(only_owned=True)) == {}
    assert [name for name, _ in user.named_parameters()] == ["weight"]


def test_module_without_any_uses_none() -> None:
    assert dict(make_model().arch_params()) == {}


def test_everything_registered_in_the_subtree_comes_once() -> None:
    model = make_model()
    assert list(model.arch_params(recurse=True, only_owned=True)) == ["cells.0.alphas", "cells.0.betas"]
    assert list(model.all_owned()) == ["cells.0.alphas", "cells.0.betas"]


def test_everything_in_use_in_the_subtree_comes_once_under_the_name_of_its_first_use() -> None:
    model = make_model()
    model.cells = nn.ModuleList([model.cells[1], model.cells[0]])
    assert list(model.arch_params(recurse=True)) == ["cells.0.alphas", "cells.0.betas"]
    assert list(model.all_owned()) == ["cells.1.alphas", "cells.1.betas"]


def test_parameters_of_an_owner_outside_the_subtree_are_in_use() -> None:
    _, user = make_model().cells
    assert list(user.arch_params(recurse=True)) == ["alphas", "betas"]


def test_ordinary_parameters_are_the_rest() -> None:
    model = make_model()
    assert [p is cell.weight for p, cell in zip(model.nonarch_params(True), model.cells, strict=True)] == [True, True]
    assert list(model.nonarch_params(False)) == []


def test_state_dict_holds_each_parameter_once() -> None:
    keys = {"cells.0.weight", "cells.0.alphas_arch_param", "cells.0.betas_arch_param.0", "cells.1.weight"}
    assert set(make_model().state_dict()) == keys


@pytest.mark.parametrize("first", ["create", "set"])
@pytest.mark.parametrize("second", ["create", "set"])
def test_second_set_is_refused(first: str, second: str) -> None:
    module = ArchModule()

    def give(how: str) -> None:
        entries = [("alphas", Parameter(torch.zeros(1)))]
        if how == "create":
            module.create_arch_params(entries)
        else:
            module.set_arch_params(ArchParams(entries))

    give(first)
    with pytest.raises(RuntimeError, match=r"ArchModule already has the parameters ArchParams\(alphas\)"):
        give(second)


def assert_shared(model: nn.Module) -> None:
    owner, user = model.cells  # type: ignore[misc]
    with torch.no_grad():
        owner.alphas_arch_param.fill_(7.0)
        owner.betas_arch_param[0].fill_(8.0)
    assert user.arch_params()["alphas"].tolist() == [7.0] * 3
    assert user.arch_params()["betas"][0].tolist() == [8.0] * 2


def test_deep_copy_keeps_sharing_and_leaves_the_original_alone() -> None:
    model = make_model()
    assert_shared(copy.deepcopy(model))
    assert model.cells[0].alphas_arch_param.tolist() == [0.0] * 3


def test_loading_a_state_keeps_sharing() -> None:
    model, other = make_model(), make_model()
    with torch.no_grad():
        other.cells[0].alphas_arch_param.fill_(3.0)
    model.load_state_dict(other.state_dict())
    assert model.cells[1].arch_params()["alphas"].tolist() == [3.0] * 3
    assert_shared(model)


def test_change_of_dtype_keeps_sharing() -> None:
    model = make_model().double()
    assert model.cells[1].arch_params()["alphas"].dtype is torch.float64
    assert_shared(model)
