"""Tests of ``src/gradnas/supergraph/passes.py``."""

from collections.abc import Callable
from contextlib import AbstractContextManager

import pytest
import torch
from torch import Tensor, nn

from gradnas.arch import PUBLISHED
from gradnas.spaces import DartsSpace
from gradnas.supergraph import Model, fixed, same_random_draws, untouched_statistics

SPACE = DartsSpace(
    channels=4, cells=3, nodes=2, reductions=1, image_size=8, primitives=("avg_pool_3x3", "dil_conv_3x3", "none")
)


@pytest.fixture
def model() -> Model:
    torch.manual_seed(0)
    return Model(SPACE.build(), affine=False)


@pytest.fixture
def x() -> Tensor:
    return torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(1))


def buffers(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in model.named_buffers()}


def fails_inside(context: AbstractContextManager[None], action: Callable[[], object] = lambda: None) -> None:
    def run() -> None:
        with context:
            action()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run()


# --------------------------------------------------------------------------------------------------------------- fixed


def test_fixed_parameters_get_no_gradient(model: Model, x: Tensor) -> None:
    with fixed(model.weights()):
        model(x)[0].sum().backward()
    assert all(p.grad is None for p in model.weights())


def test_the_other_parameters_get_the_gradient_they_would_get(model: Model, x: Tensor) -> None:
    alphas = list(model.all_owned().param_by_kind())
    model(x)[0].square().sum().backward()
    expected = [p.grad for p in alphas]
    model.zero_grad()
    with fixed(model.weights()):
        model(x)[0].square().sum().backward()
    assert all(grad is not None for grad in expected)
    torch.testing.assert_close([p.grad for p in alphas], expected)


def test_fixed_alphas_get_no_gradient_and_weights_do(model: Model, x: Tensor) -> None:
    with fixed(model.all_owned().param_by_kind()):
        model(x)[0].sum().backward()
    assert all(p.grad is None for p in model.all_owned().param_by_kind())
    assert any(p.grad is not None for p in model.weights())


def test_fixed_parameters_do_not_change_the_output(model: Model, x: Tensor) -> None:
    expected = model(x)[0]
    with fixed(model.parameters()):
        out = model(x)[0]
    assert torch.equal(out, expected)
    assert not out.requires_grad


def test_fixed_parameters_are_free_again_afterwards(model: Model) -> None:
    with fixed(model.parameters()):
        assert not any(p.requires_grad for p in model.parameters())
    assert all(p.requires_grad for p in model.parameters())


def test_fixed_parameters_are_free_again_after_an_exception(model: Model) -> None:
    fails_inside(fixed(model.parameters()))
    assert all(p.requires_grad for p in model.parameters())


def test_a_parameter_that_was_frozen_before_stays_frozen(model: Model) -> None:
    frozen, *others = model.parameters()
    frozen.requires_grad_(False)
    with fixed([frozen, *others]):
        pass
    assert not frozen.requires_grad
    assert all(p.requires_grad for p in others)


def test_fixed_can_be_nested(model: Model) -> None:
    with fixed(model.parameters()):
        with fixed(model.weights()):
            pass
        assert not any(p.requires_grad for p in model.parameters())
    assert all(p.requires_grad for p in model.parameters())


# ------------------------------------------------------------------------------------------------ untouched_statistics


def test_statistics_and_their_counters_stay_bit_equal(model: Model, x: Tensor) -> None:
    model(x)  # away from the initial values
    before = buffers(model)
    assert any(name.endswith("num_batches_tracked") for name in before)
    with untouched_statistics(model):
        model(2 * x)[0].sum().backward()
    assert all(torch.equal(value, before[name]) for name, value in model.named_buffers())


def test_output_is_that_of_a_normal_training_forward(model: Model, x: Tensor) -> None:
    with untouched_statistics(model):
        out = model(x)[0]
    assert torch.equal(out, model(x)[0])


def test_output_is_not_that_of_evaluation(model: Model, x: Tensor) -> None:
    with untouched_statistics(model):
        out = model(x)[0]
    assert not torch.allclose(out, model.eval()(x)[0])


def test_statistics_move_again_afterwards(model: Model, x: Tensor) -> None:
    with untouched_statistics(model):
        model(x)
    before = buffers(model)
    model(x)
    assert not any(torch.equal(value, before[name]) for name, value in model.named_buffers())


def test_statistics_move_again_after_an_exception(model: Model, x: Tensor) -> None:
    before = buffers(model)
    fails_inside(untouched_statistics(model), lambda: model(x))
    assert all(torch.equal(value, before[name]) for name, value in model.named_buffers())
    model(x)
    assert not any(torch.equal(value, before[name]) for name, value in model.named_buffers())


def test_a_model_in_evaluation_mode_uses_its_statistics(model: Model, x: Tensor) -> None:
    model(x)
    expected = model.eval()(x)[0]
    with untouched_statistics(model):
        assert torch.equal(model(x)[0], expected)


def test_a_norm_that_tracked_nothing_before_does_not_afterwards() -> None:
    norm = nn.BatchNorm2d(2, track_running_stats=False)
    with untouched_statistics(norm):
        pass
    assert not norm.track_running_stats


def test_untouched_statistics_can_be_nested(model: Model, x: Tensor) -> None:
    before = buffers(model)
    with untouched_statistics(model):
        with untouched_statistics(model):
            pass
        model(x)
    assert all(torch.equal(value, before[name]) for name, value in model.named_buffers())


def test_the_architecture_pass_leaves_weights_gradients_and_statistics(model: Model, x: Tensor) -> None:
    model(x)[0].sum().backward()
    weights = [p.clone() for p in model.weights()]
    grads = [None if p.grad is None else p.grad.clone() for p in model.weights()]
    before = buffers(model)
    with fixed(model.weights()), untouched_statistics(model):
        model(3 * x)[0].sum().backward()
    assert all(torch.equal(p, q) for p, q in zip(model.weights(), weights, strict=True))
    assert all(torch.equal(value, before[name]) for name, value in model.named_buffers())
    for p, grad in zip(model.weights(), grads, strict=True):
        assert (p.grad is None) == (grad is None)
        assert p.grad is None or grad is None or torch.equal(p.grad, grad)


# --------------------------------------------------------------------------------------------------- same_random_draws


@pytest.fixture
def dropping() -> Model:
    torch.manual_seed(0)
    model = Model(SPACE.from_genotype(PUBLISHED["DARTS_V2"], nodes=4), droppath=True)
    model.drop_path_prob(0.5)
    return model


@pytest.mark.parametrize("seed", [None, 7])
def test_repeated_passes_draw_the_same(dropping: Model, x: Tensor, seed: int | None) -> None:
    dropping.drop_path_generator(None if seed is None else torch.Generator().manual_seed(seed))
    with same_random_draws(dropping):
        first = dropping(x)[0]
    assert torch.equal(dropping(x)[0], first)
    assert not torch.equal(dropping(x)[0], first)


@pytest.mark.parametrize("seed", [None, 7])
def test_draws_are_put_back_after_an_exception(dropping: Model, x: Tensor, seed: int | None) -> None:
    generator = torch.default_generator if seed is None else torch.Generator().manual_seed(seed)
    dropping.drop_path_generator(None if seed is None else generator)
    before = generator.get_state()
    fails_inside(same_random_draws(dropping), lambda: dropping(x))
    assert torch.equal(generator.get_state(), before)
