"""Tests of ``src/gradnas/ops/base.py``."""

import copy
import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import Parameter, ParameterDict, ParameterList

from gradnas.arch import ConvMacroParams, OpDesc, Params
from gradnas.ops import Op, OpRegistry

SKIP = OpDesc("skip_connect", Params(conv=ConvMacroParams(4, 4), stride=2))


class WithArch(Op):
    """An op with architecture parameters of each sort beside a weight."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = Parameter(torch.ones(2))
        self.create_arch_params(
            [
                ("alphas", Parameter(torch.zeros(2))),
                ("betas", ParameterList([torch.zeros(1)])),
                ("gammas", ParameterDict({"x": torch.zeros(1)})),
            ]
        )

    def forward(self, x: Tensor) -> Tensor:
        return x


def make_with_arch() -> Op:
    registry = OpRegistry()
    registry.register_op("with_arch", lambda desc, affine, arch_params: WithArch())
    return Op.create(OpDesc("with_arch"), True, registry=registry)


def make_skip(affine: bool = True) -> Op:
    return Op.create(SKIP, affine)


def changed(trainables: dict[str, Any], drop: str = "", **more: Tensor) -> dict[str, Any]:
    return {"name": trainables["name"], "sd": {k: v for k, v in trainables["sd"].items() if k != drop} | more}


def test_create_keeps_the_description() -> None:
    assert make_skip().desc is SKIP


def test_create_of_an_unknown_name_suggests_the_nearest() -> None:
    with pytest.raises(KeyError, match=r"no operation 'skip_conect'\. Did you mean 'skip_connect'\?"):
        Op.create(OpDesc("skip_conect"), True)


def test_create_loads_the_weights_of_the_description() -> None:
    source = make_skip()
    desc, _ = source.finalize()
    copied = Op.create(desc, affine=True)
    assert all(torch.equal(a, b) for a, b in zip(source.parameters(), copied.parameters(), strict=True))


def test_two_ops_of_one_description_have_weights_of_their_own() -> None:
    desc, _ = make_skip().finalize()
    one, two = Op.create(desc, True), Op.create(desc, True)
    with torch.no_grad():
        one.op.bn.weight.fill_(5.0)
    assert two.op.bn.weight.tolist() == desc.trainables["sd"]["op.bn.weight"].tolist() == [1.0] * 4


def test_trainables_are_name_weights_and_statistics() -> None:
    trainables = make_skip().get_trainables()
    assert trainables["name"] == "skip_connect"
    norm = [f"op.bn.{key}" for key in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")]
    assert list(trainables["sd"]) == ["op.conv_1.weight", "op.conv_2.weight", *norm]


def test_trainables_are_detached_copies_on_the_cpu() -> None:
    op = make_skip()
    sd = op.get_trainables()["sd"]
    with torch.no_grad():
        for parameter in op.parameters():
            parameter.fill_(9.0)
    assert not any(value.requires_grad or (value == 9.0).any() for value in sd.values())
    assert all(value.device.type == "cpu" for value in sd.values())


def test_trainables_do_not_contain_architecture_parameters() -> None:
    assert list(make_with_arch().get_trainables()["sd"]) == ["weight"]


def test_loading_leaves_architecture_parameters_alone() -> None:
    op = make_with_arch()
    op.set_trainables({"name": "with_arch", "sd": {"weight": torch.full((2,), 3.0)}})
    assert op.weight.tolist() == [3.0, 3.0]
    assert op.alphas_arch_param.tolist() == [0.0, 0.0]


def test_loading_none_does_nothing() -> None:
    op = make_skip()
    before = copy.deepcopy(op.state_dict())
    op.set_trainables(None)
    assert all(torch.equal(value, before[key]) for key, value in op.state_dict().items())


def test_weights_of_another_op_are_refused() -> None:
    with pytest.raises(RuntimeError, match="weights of op 'none' were given to op 'skip_connect'"):
        make_skip().set_trainables({"name": "none", "sd": {}})


@pytest.mark.parametrize("key", ["op.bn.weight", "op.bn.bias"])
def test_weight_and_bias_of_a_norm_may_be_missing(key: str) -> None:
    source = make_skip()
    make_skip().set_trainables(changed(source.get_trainables(), drop=key))


@pytest.mark.parametrize("key", ["op.conv_1.weight", "op.bn.running_mean"])
def test_any_other_missing_weight_is_refused_by_name(key: str) -> None:
    trainables = changed(make_skip().get_trainables(), drop=key)
    with pytest.raises(RuntimeError, match=rf"do not fit op 'skip_connect': missing \['{key}'\], unexpected \[\]"):
        make_skip().set_trainables(trainables)


def test_missing_bias_of_a_layer_that_is_no_norm_is_refused() -> None:
    desc = OpDesc("linear", Params(n_ch=2, n_classes=2))
    trainables = changed(Op.create(desc, True).get_trainables(), drop="linear.bias")
    with pytest.raises(RuntimeError, match=r"missing \['linear.bias'\], unexpected \[\]"):
        Op.create(desc, True).set_trainables(trainables)


def test_unexpected_weight_is_refused_by_name() -> None:
    trainables = changed(make_skip().get_trainables(), extra=torch.zeros(1))
    with pytest.raises(RuntimeError, match=r"do not fit op 'skip_connect': missing \[\], unexpected \['extra'\]"):
        make_skip().set_trainables(trainables)


def test_weights_with_norm_do_not_fit_a_search_network() -> None:
    with pytest.raises(RuntimeError, match=r"unexpected \['op.bn.weight', 'op.bn.bias'\]"):
        make_skip(affine=False).set_trainables(make_skip().get_trainables())


def test_weights_of_another_shape_are_refused() -> None:
    wider = Op.create(OpDesc("skip_connect", Params(conv=ConvMacroParams(8, 8), stride=2)), True)
    with pytest.raises(RuntimeError, match="size mismatch"):
        make_skip().set_trainables(wider.get_trainables())


def test_finalize_gives_the_own_description_with_weights_and_no_rank() -> None:
    op = make_skip()
    desc, rank = op.finalize()
    assert desc == SKIP
    assert rank is None
    assert desc.trainables is not None
    assert set(desc.trainables["sd"]) == set(op.state_dict())


def test_finalize_does_not_change_the_description() -> None:
    op = make_skip()
    op.finalize()
    assert op.desc.trainables is None


def test_ops_of_an_op_without_choice_are_itself() -> None:
    op = make_skip()
    ((only, weight),) = op.ops()
    assert only is op
    assert math.isnan(weight)


def test_drop_path_applies_unless_an_op_says_otherwise() -> None:
    assert make_with_arch().can_drop_path()


def test_ops_are_modules() -> None:
    assert isinstance(make_skip(), nn.Module)
