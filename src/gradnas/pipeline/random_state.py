"""The random generators that a pass through a graph may draw from, as something that can be saved."""

from collections.abc import Mapping
from typing import Any

import torch

from gradnas.ops import DropPath_
from gradnas.supergraph import Model


class RandomState:
    """The state of torch's default generators that a graph may draw from, and of its own for drop path.

    Args:
        graph: The graph, wherever it is when the state is asked for.
    """

    def __init__(self, graph: Model) -> None:
        self._graph = graph

    def state_dict(self) -> dict[str, Any]:
        """The states, as tensors."""
        device = next(self._graph.parameters()).device
        on_gpu = [torch.cuda.get_rng_state(device)] if device.type == "cuda" else []
        return {"cpu": torch.get_rng_state(), "cuda": on_gpu, "drop_path": [own.get_state() for own in self._own()]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore :meth:`state_dict`. ValueError when the graph has another number of generators."""
        device, own = next(self._graph.parameters()).device, self._own()
        if len(state["drop_path"]) != len(own):
            raise ValueError(
                f"the state is of {len(state['drop_path'])} generators of drop path, the graph has {len(own)}."
            )
        torch.set_rng_state(state["cpu"].cpu())
        if device.type == "cuda":
            for stored in state["cuda"]:
                torch.cuda.set_rng_state(stored.cpu(), device)
        for generator, stored in zip(own, state["drop_path"], strict=True):
            generator.set_state(stored.cpu())

    def _own(self) -> list[torch.Generator]:
        paths = [module for module in self._graph.modules() if isinstance(module, DropPath_)]
        return list({id(path.generator): path.generator for path in paths if path.generator is not None}.values())
