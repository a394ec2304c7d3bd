"""The retraining phase: the found architecture as a deep network, trained from scratch and tested once."""

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from gradnas.arch import ModelDesc, ModelDescConf
from gradnas.config import RetrainConf
from gradnas.data import DataLoaders
from gradnas.pipeline.context import RunContext
from gradnas.pipeline.run_folder import MODEL_FACTS
from gradnas.pipeline.weights import save_weights
from gradnas.spaces import ModelDescBuilder
from gradnas.supergraph import Model
from gradnas.training import CheckPoint, Metrics, TestReport, Trainer


@dataclass(frozen=True)
class EvalResult:
    """What a retraining leaves.

    Args:
        train_metrics: Metrics of the training, test included.
        model: The trained network, with the moving average of its weights where there is one.
        test_report: All about the test; None without a test set.
    """

    train_metrics: Metrics
    model: nn.Module
    test_report: TestReport | None

    @property
    def confusion(self) -> Tensor | None:
        """Confusion matrix of the test set, rows the true class; None without a test set."""
        return None if self.test_report is None else torch.tensor(self.test_report.confusion)


class Evaluater:
    """Builds, trains and tests the evaluation network.

    Args:
        context: Data, seed, device, folder, listener.
        phase: Name of the phase in metrics and checkpoints.
        subfolder: Where in the run folder the files of this phase lie; "" is the folder itself.
    """

    def __init__(self, context: RunContext, *, phase: str = "retrain", subfolder: str = "") -> None:
        self.context, self.phase, self.subfolder = context, phase, subfolder
        self._test_report: TestReport | None = None

    def evaluate(self, conf_eval: RetrainConf, model_desc_builder: ModelDescBuilder) -> EvalResult:
        """Create the network, train it (or go on), test it once, and save its weights.

        Raises:
            FileNotFoundError: When there is no found description.
        """
        return self._evaluated(conf_eval, self.create_model(conf_eval, model_desc_builder), None)

    def evaluate_network(self, conf_eval: RetrainConf, build: Callable[[], nn.Module], identity: str) -> EvalResult:
        """As :meth:`evaluate`, for a network that was not found by a search.

        What images it reads is written as ``model.json``.

        Args:
            conf_eval: How it is trained.
            build: Makes it; what it draws follows from the seed.
            identity: What tells it from other networks; its weights carry it.
        """
        if self.context.folder is not None:
            facts = {"model": identity, "image_shape": list(self.context.data.train.shape)}
            self.context.folder.write_json(MODEL_FACTS, {**facts, "n_classes": self.context.data.train.n_classes})
        return self._evaluated(conf_eval, self.context.model(build, f"{self.phase}.weights"), identity)

    def _evaluated(self, conf_eval: RetrainConf, model: nn.Module, identity: str | None) -> EvalResult:
        metrics = self.train_model(conf_eval, model, self.context.checkpoint(self.phase, conf_eval))
        if self.context.folder is not None:
            save_weights(model, self._file("weights.safetensors"), identity)
        return EvalResult(metrics, model, self._test_report)

    def create_model(
        self,
        conf_eval: RetrainConf,
        builder: ModelDescBuilder,
        final_desc_filename: str | os.PathLike[str] | None = None,
        full_desc_filename: str | os.PathLike[str] | None = None,
    ) -> Model:
        """The evaluation network of the found description, with fresh weights unless it is to inherit those found.

        Args:
            conf_eval: Its depth, width and auxiliary weight.
            builder: The space that the description is of.
            final_desc_filename: The found description; None is ``arch.json`` of the run folder.
            full_desc_filename: Where to save the full description; None is ``full_arch.json`` beside it.

        Raises:
            FileNotFoundError: When there is no found description, saying which run should have made it; or none of the
                weights that it is to inherit.
            ValueError: When it is to inherit weights and is not as large as the network that was searched.
        """
        found_path = Path(final_desc_filename) if final_desc_filename is not None else self._file("arch.json")
        if not found_path.is_file():
            raise FileNotFoundError(f"no found architecture at {found_path}; the search of this run should make it.")
        found = ModelDesc.load(found_path)
        desc = retrained_desc(builder, found, conf_eval)
        if conf_eval.inherit_weights:
            check_inheritance(builder, found_path, conf_eval)
            desc = _with_weights(desc, ModelDesc.load(found_path, load_trainables=True))
        desc.save(full_desc_filename if full_desc_filename is not None else self._file("full_arch.json"))
        return self.context.model(
            lambda: Model(desc, droppath=True, affine=True, registry=builder.registry), f"{self.phase}.weights"
        )

    def train_model(self, conf_train: RetrainConf, model: nn.Module, checkpoint: CheckPoint | None) -> Metrics:
        """Train to the end and test once; a finished checkpoint gives its stored metrics, test included."""
        trainer = Trainer(
            conf_train,
            model,
            checkpoint,
            phase=self.phase,
            seed=self.context.seed,
            listener=self.context.log_to(self.phase),
            stop=self.context.stop,
        )
        metrics = trainer.fit(self.get_data(conf_train))
        self._test_report = trainer.test_report
        return metrics

    def get_data(self, conf_loader: RetrainConf) -> DataLoaders:
        """Loaders, the test set among them. Validation only where ``val_ratio`` asks for it."""
        return self.context.loaders(conf_loader, self.phase, test=True)

    def _file(self, name: str) -> Path:
        folder = self.context.folder
        if folder is None:
            raise ValueError("the evaluater reads and writes files; give the run a folder.")
        (folder / self.subfolder).mkdir(exist_ok=True)
        return folder / self.subfolder / name


def check_inheritance(builder: ModelDescBuilder, found_path: Path, conf: RetrainConf) -> None:
    """Refuse to inherit weights that are not there or do not fit.

    Args:
        builder: The space that the found description is of.
        found_path: The found description, beside which its weights lie.
        conf: Settings of the retraining.

    Raises:
        FileNotFoundError: When the search has left none.
        ValueError: When the network is not as large as the one that was searched.
    """
    weights = found_path.with_suffix(".safetensors")
    if not weights.is_file():
        raise FileNotFoundError(
            f"retrain.inherit_weights=true, but there are no weights at {weights}: only a search that trains whole "
            "candidates leaves some, not random search, a grid, or PC-DARTS. Begin afresh."
        )
    found = ModelDesc.load(found_path)
    desc = retrained_desc(builder, found, conf)
    if _weighted(desc) != _weighted(found):
        raise ValueError(other_size(desc.conf_model_desc, found.conf_model_desc))


def other_size(retrained: ModelDescConf, searched: ModelDescConf) -> str:
    """What keeps a network from inheriting weights, and what to do."""
    sizes = [f"{conf.n_cells} cells of {conf.model_stems.init_node_ch} channels" for conf in (searched, retrained)]
    return (
        f"retrain.inherit_weights=true needs the network of the search, {sizes[0]} with the stems of the space, got "
        f"{sizes[1]}. Set retrain.cells, retrain.channels and retrain.stems to those, or begin afresh."
    )


def _with_weights(desc: ModelDesc, found: ModelDesc) -> ModelDesc:
    """The network that is retrained with the weights of the found one; its auxiliary tower begins afresh."""
    return replace(desc, **_weighted(found))


def _weighted(desc: ModelDesc) -> dict[str, Any]:
    """The parts of a description that may hold weights."""
    return {name: getattr(desc, name) for name in ("model_stems", "cell_descs", "pool_op", "logits_op")}


def retrained_desc(builder: ModelDescBuilder, found: ModelDesc, conf: RetrainConf) -> ModelDesc:
    """The network that is retrained: the found one with its nodes and reductions, at the size of the settings.

    Args:
        builder: The space that the found description is of.
        found: The found description.
        conf: Settings of the retraining.
    """
    kept = {"nodes": len(found.cell_descs[0].nodes()), "reductions": found.conf_model_desc.n_reductions}
    return builder.grow(found, **kept, **conf.network())
