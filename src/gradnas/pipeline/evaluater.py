"""The retraining phase: the found architecture as a deep network, trained from scratch and tested once."""

import os
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor, nn

from gradnas.arch import ModelDesc
from gradnas.config import RetrainConf
from gradnas.data import DataLoaders
from gradnas.pipeline.context import RunContext
from gradnas.pipeline.weights import save_weights
from gradnas.spaces import ModelDescBuilder
from gradnas.supergraph import Model
from gradnas.training import CheckPoint, Metrics, Trainer


@dataclass(frozen=True)
class EvalResult:
    """Metrics of the training, the trained network, and the confusion matrix of the test set (rows the true class)."""

    train_metrics: Metrics
    model: nn.Module
    confusion: Tensor | None


class Evaluater:
    """Builds, trains and tests the evaluation network.

    Args:
        context: Data, seed, device, folder, listener.
        phase: Name of the phase in metrics and checkpoints.
        subfolder: Where in the run folder the files of this phase lie; "" is the folder itself.
    """

    def __init__(self, context: RunContext, *, phase: str = "retrain", subfolder: str = "") -> None:
        self.context, self.phase, self.subfolder = context, phase, subfolder
        self._confusion: Tensor | None = None

    def evaluate(self, conf_eval: RetrainConf, model_desc_builder: ModelDescBuilder) -> EvalResult:
        """Create the network, train it (or go on), test it once, and save its weights.

        Raises:
            FileNotFoundError: When there is no found description.
        """
        model = self.create_model(conf_eval, model_desc_builder)
        metrics = self.train_model(conf_eval, model, self.context.checkpoint(self.phase, conf_eval))
        if self.context.folder is not None:
            save_weights(model, self._file("weights.safetensors"))
        return EvalResult(metrics, model, self._confusion)

    def create_model(
        self,
        conf_eval: RetrainConf,
        builder: ModelDescBuilder,
        final_desc_filename: str | os.PathLike[str] | None = None,
        full_desc_filename: str | os.PathLike[str] | None = None,
    ) -> Model:
        """The evaluation network of the found description, with fresh weights.

        Args:
            conf_eval: Its depth, width and auxiliary weight.
            builder: The space that the description is of.
            final_desc_filename: The found description; None is ``arch.json`` of the run folder.
            full_desc_filename: Where to save the full description; None is ``full_arch.json`` beside it.

        Raises:
            FileNotFoundError: When there is no found description, saying which run should have made it.
        """
        found_path = Path(final_desc_filename) if final_desc_filename is not None else self._file("arch.json")
        if not found_path.is_file():
            raise FileNotFoundError(f"no found architecture at {found_path}; the search of this run should make it.")
        found = ModelDesc.load(found_path)
        desc = builder.grow(
            found,
            channels=conf_eval.channels,
            cells=conf_eval.cells,
            nodes=len(found.cell_descs[0].nodes()),
            aux_weight=conf_eval.aux_weight,
        )
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
        self._confusion = trainer.confusion
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
