"""DARTS behind the interface of NASLib's optimizers: the caller owns the loop, and calls ``step`` on its own batches.

Implements: Liu et al., DARTS (ICLR 2019), algorithm 1. Per step:

1. alpha <- Adam(alpha, grad_alpha L_val(w', alpha)), w' = w, or the weights after one real SGD step (``unrolled``);
2. w <- SGD(w, grad_w L_train(w, alpha)) with the new alpha, the gradient of w clipped.

The step itself is in ``adapted_graph.py``. Reference test: ``tests/pipeline/test_darts_optimizer.py``.
"""

import copy
import inspect
import logging
import math
from collections.abc import Iterator, Sequence
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from torch.nn import Parameter, ParameterList
from torch.optim import SGD, Optimizer

from gradnas.config import RetrainConf
from gradnas.finalizers import Finalizers
from gradnas.foundation.names import did_you_mean
from gradnas.pipeline.adapted_graph import AdaptedGraph, Origin
from gradnas.pipeline.experiment import resolve_device
from gradnas.pipeline.random_state import RandomState
from gradnas.pipeline.torch_names import loss_class, make_optimizer, optimizer_class, refuse_unused
from gradnas.spaces import ModelDescBuilder
from gradnas.strategies import Batch
from gradnas.supergraph import MixedOp, Model, Softmax
from gradnas.supergraph.edge_data import GraphEdge, Scope
from gradnas.supergraph.mixing import INITIAL_SCALE

BETAS = (0.5, 0.999)  # of the architecture optimizer, where it takes betas
_log = logging.getLogger(__name__)


@runtime_checkable
class Queryable(Protocol):
    """A supergraph that a table may know: it looks up the architecture that its own alphas imply."""

    QUERYABLE: bool

    def query(self, metric: str, dataset: object) -> float:
        """A metric, such as ``test_accuracy``, on a data set."""
        ...


class DARTSOptimizer:
    """First- or second-order DARTS on a supergraph, driven by the caller.

    ``adapt_search_space``, ``before_training``, then per epoch ``new_epoch`` and per batch ``step``, and
    ``get_final_architecture`` at the end. A schedule of the learning rate is the caller's, on ``op_optimizer``.

    Args:
        learning_rate: Of the weights.
        momentum: Of the weights, where their optimizer takes one; of SGD plain, not Nesterov's.
        weight_decay: L2 factor of the weights, where their optimizer takes one.
        grad_clip: Largest global norm of the gradient of the weights; 0 or None does not clip.
        unrolled: Second order.
        arch_learning_rate: Of the architecture parameters.
        arch_weight_decay: Their L2 factor, where their optimizer takes one.
        op_optimizer: Class of ``torch.optim`` for the weights.
        arch_optimizer: Class of ``torch.optim`` for the architecture parameters.
        loss_criteria: Class of ``torch.nn``, the mean loss of (logits, targets).
        kwargs: Nothing else.

    Raises:
        TypeError: For another setting, naming the nearest, or a value that is no number or name.
        ValueError: For a number outside its range, an unknown name, or a setting that the optimizer would ignore.
    """

    def __init__(
        self,
        learning_rate: float = 0.025,
        momentum: float = 0.9,
        weight_decay: float = 0.0003,
        grad_clip: float | None = 5,
        unrolled: bool = False,
        arch_learning_rate: float = 0.0003,
        arch_weight_decay: float = 0.001,
        op_optimizer: str = "SGD",
        arch_optimizer: str = "Adam",
        loss_criteria: str = "CrossEntropyLoss",
        **kwargs: object,
    ) -> None:
        known = inspect.signature(DARTSOptimizer).parameters
        _refuse_unknown(kwargs, [name for name in known if name != "kwargs"])
        self.learning_rate = _rate("learning_rate", learning_rate)
        self.momentum = _rate("momentum", momentum)
        self.weight_decay = _rate("weight_decay", weight_decay)
        self.grad_clip = None if grad_clip is None else _rate("grad_clip", grad_clip)
        self.arch_learning_rate = _rate("arch_learning_rate", arch_learning_rate)
        self.arch_weight_decay = _rate("arch_weight_decay", arch_weight_decay)
        if not isinstance(unrolled, bool):
            raise TypeError(f"unrolled must be True or False, got {unrolled!r}.")
        self.unrolled = unrolled
        self._op_class = optimizer_class("op_optimizer", op_optimizer)
        self._arch_class = optimizer_class("arch_optimizer", arch_optimizer)
        self._loss_class = loss_class("loss_criteria", loss_criteria)
        for kind, setting in [
            (self._op_class, "momentum"),
            (self._op_class, "weight_decay"),
            (self._arch_class, "arch_weight_decay"),
        ]:
            argument = setting.removeprefix("arch_")
            refuse_unused(kind, argument, setting, getattr(self, setting), known[setting].default)
        self.device = resolve_device("auto")
        self._live: AdaptedGraph | None = None

    def adapt_search_space(
        self, search_space: ModelDescBuilder | Model, dataset: object, scope: Scope = None, **kwargs: Any
    ) -> None:
        """Make what is learnt, afresh at each call: the graph, its alphas, the two optimizers, the loss.

        Args:
            search_space: A space, of which a supergraph is built, or a supergraph. It stays as it is.
            dataset: Kept as it is, for :meth:`test_statistics`.
            scope: Which cells choose, see :meth:`gradnas.supergraph.Model.scopes`; None means all. Architecture
                parameters of cell types without a cell in scope, and of finalized edges, stay what they are.
            kwargs: ``fused``, whether the graph of a space computes by the fast execution, which it does by default.

        Raises:
            TypeError: For what is neither a space nor a model, or another argument.
            ValueError: For an unknown scope, one without a choice, or a space without any; for ``unrolled`` with
                another optimizer than SGD.
        """
        _refuse_unknown(kwargs, ["search_space", "dataset", "scope", "fused"])
        if self.unrolled and not issubclass(self._op_class, SGD):
            raise ValueError(
                "unrolled=True unrolls an SGD step of the weights, but op_optimizer is "
                f"{self._op_class.__name__!r}. Use op_optimizer='SGD' or unrolled=False."
            )
        space, graph = _copied(search_space, kwargs.get("fused"))
        edges = self._choices(graph, scope)
        alphas = list({id(edge.data.alpha): edge.data.alpha for edge in edges}.values())
        weights = [weight for weight in graph.weights() if weight.requires_grad]
        self._live = AdaptedGraph(
            Origin(search_space=search_space, space=space, dataset=dataset, scope="all" if scope is None else scope),
            graph.train(),
            edges,
            alphas,
            weights,
            make_optimizer(
                self._op_class, weights, lr=self.learning_rate, momentum=self.momentum, weight_decay=self.weight_decay
            ),
            make_optimizer(
                self._arch_class, alphas, lr=self.arch_learning_rate, betas=BETAS, weight_decay=self.arch_weight_decay
            ),
            self._loss_class(),
        )

    def _choices(self, graph: Model, scope: Scope) -> list[GraphEdge]:
        """The edges that learn, one of each type, with their alphas."""
        if not any(True for _ in graph.mixed_ops()):
            raise ValueError("the search space has no edge with a choice between candidates: nothing to search.")
        graph.update_edges(self.add_alphas, scope, private_edge_data=False)
        graph.update_edges(self.update_ops, scope, private_edge_data=True)
        edges = _with_choice(graph, scope)
        if not edges:
            counts = ", ".join(f"{tag} {len(_with_choice(graph, tag))}" for tag in graph.scopes())
            raise ValueError(
                f"scope {scope!r} has no edge with a choice that is not finalized. Such edges by scope, each cell type "
                f"once: {counts}."
            )
        return edges

    @staticmethod
    def add_alphas(edge: GraphEdge) -> None:
        """Give an edge fresh shared alphas, 1e-3 · N(0, 1), one per candidate; nothing where there are fewer than two.

        They are drawn on the CPU from torch's default generator, and lie where those before them did.
        """
        op = edge.data.op
        if not isinstance(op, MixedOp):
            return
        like = edge.data.alpha if edge.data.has("alpha") else op.table().detach().float()
        drawn = INITIAL_SCALE * torch.randn(len(op.names), dtype=like.dtype)
        edge.data.set("alpha", Parameter(drawn.to(like.device)), shared=True)

    @staticmethod
    def update_ops(edge: GraphEdge) -> None:
        """Let the op of an edge mix its candidates by the softmax of the alphas.

        Raises:
            ValueError: When there are candidates but no alphas.
        """
        if not isinstance(edge.data.op, MixedOp):
            return
        if not edge.data.has("alpha"):
            raise ValueError(f"{edge} has candidates but no alpha; call update_edges(add_alphas, …) first.")
        edge.data.set("rule", Softmax(), shared=True)

    def before_training(self) -> None:
        """Move the graph to :attr:`device`, in place: the alphas stay the objects that their optimizer holds."""
        live = self._adapted()
        live.move(self.device)
        live.graph.train()

    def new_epoch(self, epoch: int) -> None:
        """Log the alphas of each edge, their softmax and the best candidate. Changes nothing.

        Raises:
            FloatingPointError: When a gradient of the alphas was not finite, naming the step.
        """
        live = self._adapted()
        live.learner.check()
        for edge in live.edges if _log.isEnabledFor(logging.INFO) else ():
            alpha = edge.data.alpha.detach().cpu()
            best = int(alpha.argmax())
            _log.info(
                "epoch %d, %s: alpha %s, softmax %s, argmax %d (%s)",
                *(epoch, edge, _short(alpha), _short(alpha.softmax(0)), best, edge.data.op.names[best]),
            )

    def step(self, data_train: Batch, data_val: Batch) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Learn from a training batch and a validation batch: first the alphas, then, with the new ones, the weights.

        Args:
            data_train: Images (B, C, H, W) and targets (B,).
            data_val: The same, of held-out data.

        Returns:
            Logits (B, n_classes) of both batches and both losses (0-dim), detached: those of the validation batch as
            the alphas were moved by, before they moved (``unrolled``: after the virtual step of the weights).

        Raises:
            RuntimeError: Before :meth:`adapt_search_space`, or when the graph is in evaluation mode.
            TypeError: For what is not a pair of tensors.
        """
        live, given = self._adapted(), {"data_train": data_train, "data_val": data_val}
        if not live.graph.training:
            raise RuntimeError("the graph is in evaluation mode; call graph.train() before the next step.")
        train, val = (_batch(name, data, live.device) for name, data in given.items())
        logits_train, logits_val, loss_train, loss_val = live.step(
            train, val, unrolled=self.unrolled, grad_clip=self.grad_clip
        )
        return logits_train, logits_val, loss_train, loss_val

    def get_final_architecture(self, **changes: object) -> Model:
        """The discrete evaluation network of the present alphas, with fresh weights, where the graph is.

        The graph, its alphas, the optimizers and the random state stay as they are.

        Args:
            changes: Its size and the like as for :meth:`ModelDescBuilder.grow`: ``channels``, ``cells``,
                ``aux_weight``, …. Of a space the network is as deep and wide as :class:`RetrainConf` says otherwise;
                of a model as that model.

        Raises:
            FloatingPointError: When the alphas have diverged.
        """
        live = self._adapted()
        live.learner.check()
        found = Finalizers().finalize_model(live.graph, to_cpu=False).clear_trainables()
        if live.origin.space is not None:
            retrain = RetrainConf()
            size = {"channels": retrain.channels, "cells": retrain.cells, "aux_weight": retrain.aux_weight}
            space, desc = live.origin.space, live.origin.space.grow(found, **{**size, **changes})
        else:
            space = ModelDescBuilder(found.conf_model_desc)
            desc = space.grow(found, **changes) if changes else found
        with torch.random.fork_rng(devices=[]):
            model = Model(desc, droppath=True, affine=True, registry=space.registry)
        return model.to(live.device)

    def get_op_optimizer(self) -> type[Optimizer]:
        """The class of the optimizer of the weights."""
        return self._op_class

    def get_model_size(self) -> float:
        """Parameters of the graph in millions, without auxiliary towers. The literature calls this number "MB"."""
        return sum(parameter.numel() for parameter in self._main_parameters()) / 1e6

    def get_model_size_bytes(self) -> int:
        """What the same parameters take, in bytes."""
        return sum(parameter.numel() * parameter.element_size() for parameter in self._main_parameters())

    def _main_parameters(self) -> Iterator[Parameter]:
        named = self.graph.named_parameters()
        return (value for name, value in named if "auxiliary" not in name and not name.startswith("aux_towers."))

    def test_statistics(self) -> float | None:
        """Test accuracy of the present architecture from a table; None when the graph is not :class:`Queryable`."""
        graph: object = self.graph
        return graph.query("test_accuracy", self.dataset) if isinstance(graph, Queryable) and graph.QUERYABLE else None

    def get_checkpointables(self) -> dict[str, Any]:
        """Objects with ``state_dict`` and ``load_state_dict``: all that the next step depends on.

        Load them after :meth:`adapt_search_space` with the same arguments. The order of batches is the caller's, and
        so is a schedule.
        """
        live = self._adapted()
        return {
            "model": live.graph,
            "op_optimizer": live.op_optimizer,
            "arch_optimizer": live.learner.optimizer,
            "arch_weights": live.architectural_weights,
            "arch_steps": live.learner,
            "random_state": RandomState(live.graph),
        }

    def _adapted(self) -> AdaptedGraph:
        if self._live is None:
            raise RuntimeError("there is no graph yet; call adapt_search_space(search_space, dataset) first.")
        return self._live

    @property
    def search_space(self) -> ModelDescBuilder | Model:
        """What :meth:`adapt_search_space` was given, untouched."""
        return self._adapted().origin.search_space

    @property
    def graph(self) -> Model:
        """The supergraph that learns."""
        return self._adapted().graph

    @property
    def scope(self) -> Scope:
        """Which cells choose."""
        return self._adapted().origin.scope

    @property
    def dataset(self) -> object:
        """What :meth:`adapt_search_space` was given."""
        return self._adapted().origin.dataset

    @property
    def architectural_weights(self) -> ParameterList:
        """The alphas that learn, each of shape (N,), in the order of cells, nodes and edges."""
        return self._adapted().architectural_weights

    @property
    def op_optimizer(self) -> Optimizer:
        """The live optimizer of the weights."""
        return self._adapted().op_optimizer

    @property
    def arch_optimizer(self) -> Optimizer:
        """The live optimizer of the alphas."""
        return self._adapted().learner.optimizer

    @property
    def loss(self) -> nn.Module:
        """The live loss."""
        return self._adapted().loss


def _copied(search_space: ModelDescBuilder | Model, fused: bool | None) -> tuple[ModelDescBuilder | None, Model]:
    """A copy of the space, if it is one, and a supergraph of its own."""
    if fused is not None and not isinstance(fused, bool):
        raise TypeError(f"fused must be True or False, got {fused!r}.")
    if isinstance(search_space, Model):
        if fused is not None and fused != search_space.fused:
            raise ValueError(
                f"fused={fused}, but the model was built with fused={search_space.fused}; build it as it shall compute."
            )
        return None, copy.deepcopy(search_space)
    if not isinstance(search_space, ModelDescBuilder):
        raise TypeError(
            "search_space must be a space, such as gradnas.spaces.DartsSpace(), or a gradnas.supergraph.Model, got "
            f"{type(search_space).__name__}."
        )
    space = copy.deepcopy(search_space)
    fused = True if fused is None else fused
    return space, Model(space.build(), droppath=False, affine=False, fused=fused, registry=space.registry)


def _batch(name: str, data: Batch, device: torch.device) -> Batch:
    if not (isinstance(data, (tuple, list)) and len(data) == 2 and all(isinstance(part, Tensor) for part in data)):
        raise TypeError(f"{name} must be a pair of tensors, images and targets, got {type(data).__name__}.")
    return data[0].to(device), data[1].to(device)


def _with_choice(graph: Model, scope: Scope) -> list[GraphEdge]:
    found: list[GraphEdge] = []
    graph.update_edges(lambda edge: found.append(edge) if isinstance(edge.data.op, MixedOp) else None, scope)
    return found


def _refuse_unknown(given: dict[str, Any], known: Sequence[str]) -> None:
    for name in given:
        if name not in known:
            raise TypeError(f"unknown argument {name!r}. {did_you_mean(name, known)}")


def _rate(name: str, value: float) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{name} must be a number, got {type(value).__name__}. Pass settings by name.")
    if not (math.isfinite(value) and value >= 0):
        raise ValueError(f"{name} must be at least 0 and finite, got {value}.")
    return value


def _short(values_N: Tensor) -> str:
    return "[" + ", ".join(f"{value:.4g}" for value in values_N.tolist()) + "]"
