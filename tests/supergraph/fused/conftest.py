"""Supergraphs in both executions, from one state."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from gradnas.arch import ModelDesc
from gradnas.ops import OPS, OpRegistry
from gradnas.supergraph import Model

Pair = tuple[Model, Model]


@pytest.fixture(autouse=True)
def float64() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.fixture
def both() -> Callable[..., Pair]:
    """Makes the plain and the fused model of a description, equal in every weight."""

    def make(desc: ModelDesc, *, affine: bool = False, registry: OpRegistry = OPS, seed: int = 0) -> Pair:
        torch.manual_seed(seed)
        plain = Model(desc, affine=affine, registry=registry)
        fused = Model(desc, affine=affine, fused=True, registry=registry)
        with torch.no_grad():
            for name, p in plain.named_parameters():
                if p.dim() == 1 or "arch_param" in name:  # alphas, and the weights of norms, which all start equal
                    p.normal_()
        fused.load_state_dict(plain.state_dict())
        return plain, fused

    return make


@pytest.fixture
def batch() -> Callable[..., tuple[Tensor, Tensor]]:
    """Makes random images and targets for a description."""

    def make(desc: ModelDesc, examples: int = 4, seed: int = 0) -> tuple[Tensor, Tensor]:
        g = torch.Generator().manual_seed(seed)
        dataset = desc.conf_model_desc.dataset
        x = torch.randn(examples, *dataset.image_shape, generator=g)
        return x, torch.randint(dataset.n_classes, (examples,), generator=g)

    return make


@pytest.fixture
def assert_same_step() -> Callable[..., None]:
    """Checks logits, all gradients and all statistics of one training pass against each other."""

    def check(pair: Pair, x: Tensor, y: Tensor, tolerance: float = 1e-10) -> None:
        outs = []
        for model in pair:
            model.zero_grad()
            logits = model(x)[0]
            F.cross_entropy(logits, y).backward()
            outs.append(logits.detach())
        assert_close(outs, tolerance, "logits")
        names = [name for name, _ in pair[0].named_parameters()]
        gradients = [[p.grad for p in model.parameters()] for model in pair]
        largest = max(float(g.abs().max()) for g in gradients[0] if g is not None)
        for name, a, b in zip(names, *gradients, strict=True):
            assert (a is None) == (b is None), f"only one execution gives {name} a gradient"
            if a is not None and b is not None:
                # Gradients that cancel have no digits of their own to agree in.
                assert_close((a, b), tolerance, name, floor=1e-4 * largest)
        for (name, a), b in zip(pair[0].named_buffers(), pair[1].buffers(), strict=True):
            assert_close((a, b), tolerance, name, floor=1e-3)  # the mean of a normalized tensor is 0 but for rounding

    return check


def assert_close(tensors: Sequence[Tensor], tolerance: float, what: str, floor: float = 0.0) -> None:
    a, b = (t.detach().double() for t in tensors)
    assert a.shape == b.shape, what
    scale = max(float(a.abs().max()), floor)
    assert float((a - b).abs().max()) <= tolerance * scale, what


@pytest.fixture(name="assert_close")
def assert_close_fixture() -> Callable[..., None]:
    return assert_close


class Calls(TorchDispatchMode):
    """Counts operators."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.counts[func.__name__.split(".")[0]] += 1
        return func(*args, **(kwargs or {}))


@pytest.fixture
def calls() -> Calls:
    return Calls()
