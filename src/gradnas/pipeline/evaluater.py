"""The retraining phase: the found architecture as a deep network, trained from scratch and tested once."""

import os
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor, nn

from gradnas.arch import ModelDesc
from gradnas.config import RetrainConf
from gradnas.data import DataLoaders
from gradnas.foundation.files import write_atomic
from gradnas.pipeline.context import RunContext
from gradnas.spaces import ModelDescBuilder
from gradnas.supergraph import Model
from gradnas.training import CheckPoint, Metrics, Trainer, first_unknown_epoch


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
        metrics = self.train_model(conf_eval, model, self.context.checkpoint(self.phase))
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
        start = first_unknown_epoch(checkpoint)
        listener = self.context.log_to(self.phase, start)
        trainer = Trainer(conf_train, model, checkpoint, phase=self.phase, seed=self.context.seed, listener=listener)
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


def save_weights(model: Model, path: Path) -> None:
    """Write the state of a network as safetensors, in one step; its metadata has the hash of the architecture."""
    from safetensors.torch import save

    state = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    write_atomic(path, save(state, metadata={"arch": model.desc.hash()}))


def load_weights(model: Model, path: Path) -> None:
    """Load :func:`save_weights` into a network of the same description.

    Raises:
        FileNotFoundError: When there is no such file.
        ValueError: When the file is damaged or of another network.
    """
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise FileNotFoundError(f"no weights at {path}; the run has not been retrained.")
    try:
        with safe_open(path, "pt") as stored:
            arch = (stored.metadata() or {}).get("arch", model.desc.hash())
            weights = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118 - not a mapping
        if arch != model.desc.hash():  # networks that differ in their pools alone have the same weights
            raise RuntimeError(f"they are of the architecture {arch[:12]}, not {model.desc.hash()[:12]}")
        model.load_state_dict(weights)
    except (SafetensorError, RuntimeError) as error:
        raise ValueError(f"{path} does not hold the weights of this network: {error}") from error
