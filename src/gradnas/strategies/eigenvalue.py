"""The dominant eigenvalue of the Hessian of a loss in the architecture parameters.

Source: Zela et al., Understanding and Robustifying DARTS (RobustDARTS, ICLR 2020), section 3: it rises before a search
collapses. Hessian-vector products come from one double-backward graph; Lanczos iteration with full
reorthogonalization (Golub and Van Loan, section 10.3) turns them into the largest *algebraic* eigenvalue, also where a
negative one is larger in magnitude. It needs fewer products than power iteration and the same memory.
Reference test: ``tests/strategies/test_eigenvalue.py`` (the exact Hessian of a small model).
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import Parameter

from gradnas.foundation.seeds import generator


def largest_eigenvalue(
    loss: Tensor, parameters: Sequence[Parameter], *, products: int = 20, tolerance: float = 0.01
) -> float:
    """The largest algebraic eigenvalue of the Hessian of ``loss`` in all ``parameters`` together.

    Args:
        loss: 0-dim, with its graph; every parameter is differentiated twice, so other weights should be fixed.
        parameters: What the Hessian is of.
        products: Most Hessian-vector products.
        tolerance: Stop when the value changes by less than this share of it.

    Raises:
        ValueError: For a number of products below 1.
    """
    if products < 1:
        raise ValueError(f"products must be at least 1, got {products}.")
    inputs = list(parameters)
    gradients = torch.autograd.grad(loss, inputs, create_graph=True, allow_unused=True, materialize_grads=True)
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    if not flat.requires_grad:
        return 0.0  # linear in the parameters

    def times(vector: Tensor) -> Tensor:
        parts = torch.autograd.grad(
            flat, inputs, grad_outputs=vector, retain_graph=True, allow_unused=True, materialize_grads=True
        )
        return torch.cat([part.flatten() for part in parts])

    return lanczos(times, len(flat), products=products, tolerance=tolerance, like=flat.detach())


def lanczos(times: Callable[[Tensor], Tensor], size: int, *, products: int, tolerance: float, like: Tensor) -> float:
    """The largest eigenvalue of a symmetric matrix of this size, given its products with vectors (size,).

    The first vector is random, a function of the size alone.
    """
    start = torch.randn(size, generator=generator(0, "lanczos", size), dtype=torch.float64)
    vector = (start / start.norm()).to(like)
    basis: list[Tensor] = []
    table = torch.zeros(min(products, size), min(products, size), dtype=torch.float64)
    value = 0.0
    for k in range(len(table)):
        basis.append(vector)
        product = times(vector)
        matrix = torch.stack(basis)
        coefficients = matrix @ product
        rest = product - matrix.T @ coefficients
        rest = rest - matrix.T @ (matrix @ rest)  # a second time, for what rounding has left
        length = float(rest.norm())
        table[k, k] = float(coefficients[-1])
        previous, value = value, float(torch.linalg.eigvalsh(table[: k + 1, : k + 1])[-1])
        settled = k > 0 and abs(value - previous) <= tolerance * abs(value)
        if settled or k + 1 == len(table) or length <= torch.finfo(like.dtype).eps * max(abs(value), 1e-30):
            break
        table[k, k + 1] = table[k + 1, k] = length
        vector = rest / length
    return value
