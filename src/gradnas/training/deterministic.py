"""torch's deterministic algorithms, for the time of a run."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch

_WORKSPACE = "CUBLAS_WORKSPACE_CONFIG"  # cuBLAS is deterministic with a workspace of fixed size only
_WORKSPACE_OF_8_BUFFERS = ":4096:8"


@contextmanager
def deterministic_algorithms(enabled: bool) -> Iterator[None]:
    """Allow deterministic algorithms alone until the end of the block; then everything is as before.

    An operation that has none raises RuntimeError, naming itself. cuDNN's choice of the fastest kernel, which may fall
    differently each time, is off.

    Args:
        enabled: Nothing is changed where this is false.
    """
    if not enabled:
        yield
        return
    algorithms = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    cudnn, workspace = (torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark), os.environ.get(_WORKSPACE)
    os.environ.setdefault(_WORKSPACE, _WORKSPACE_OF_8_BUFFERS)
    torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = True, False
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(algorithms, warn_only=warn_only)
        torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = cudnn
        if workspace is None:
            os.environ.pop(_WORKSPACE, None)
