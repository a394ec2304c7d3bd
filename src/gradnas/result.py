"""What a run left."""

import os
import warnings
from functools import cached_property
from pathlib import Path
from typing import Any

from torch import nn

from gradnas.arch import DatasetConf, ModelDesc, Shape
from gradnas.config import RunConf, build_model, build_space
from gradnas.data import DataSource
from gradnas.export import Exported, GivenNetwork, NetworkFacts, Samples, check_format, export
from gradnas.foundation.seeds import seeded_initialization
from gradnas.pipeline import MODEL_FACTS, RunFolder, load_source, load_weights
from gradnas.report import result_card
from gradnas.report.records.plain_values import number
from gradnas.supergraph import Model
from gradnas.training import Metrics


class Result:
    """What a run left, read from its folder.

    Args:
        folder: The run folder.
        data: The data set, where it is at hand; otherwise it is loaded again by name when needed.

    Raises:
        FileNotFoundError: When the folder is not a run folder, or nothing was found in it yet.
    """

    def __init__(self, folder: str | os.PathLike[str], *, data: DataSource | None = None) -> None:
        self._run = RunFolder.open(folder)
        self._data = data
        if not (self._run / "arch.json").is_file() and not self.retrained:
            what = "search" if self.config.model.name is None else "training"
            raise FileNotFoundError(
                f"the {what} in {self._run.path} is not finished. Continue it with `gradnas resume {self._run.path}`."
            )

    def __repr__(self) -> str:
        accuracy = number(self.summary.get("test_accuracy"))
        untested = "retrained, not tested" if self.retrained else "not retrained"
        score = untested if accuracy is None else f"test accuracy {accuracy:.2f} %"
        what = self._model_name or self.summary.get("genotype") or self.arch.hash()[:12]
        return f"Result({str(self.folder)!r}, {score}, {what})"

    def _repr_html_(self) -> str:
        """The card that notebooks show: numbers and drawings."""
        return result_card(self.folder)

    @property
    def folder(self) -> Path:
        """The run folder."""
        return self._run.path

    @cached_property
    def arch(self) -> ModelDesc:
        """The found architecture at the size of the search: ``.to_json()``, ``.genotype()``, ``.hash()``.

        ValueError for a run that has trained a given model: nothing was found.
        """
        if self._model_name is not None:
            raise ValueError(
                f"{self.folder} has trained the model {self._model_name!r} as it is: nothing was searched, so there is "
                "no architecture. The network itself is result.model."
            )
        return self._run.read_desc()

    @cached_property
    def config(self) -> RunConf:
        """The resolved configuration."""
        return self._run.read_config()

    @property
    def summary(self) -> dict[str, Any]:
        """The numbers of the run; accuracies in percent, times in seconds, 1 MAC = 2 FLOPs."""
        return self._run.read_json("summary.json") or {}

    def metrics(self, phase: str = "search") -> Metrics:
        """Losses and accuracies per epoch of ``search``, ``retrain``, ``baseline_retrain``, …."""
        return Metrics(self._run.metrics(phase))

    @property
    def input_shape(self) -> Shape:
        """(channels, height, width) of an image that :attr:`model` reads."""
        return self._images.image_shape

    @property
    def _model_name(self) -> str | None:
        """Of a run that has trained a given model; None for one that has searched."""
        return self.config.model.name

    @cached_property
    def _images(self) -> DatasetConf:
        """Shape of the images and number of classes of :attr:`model`."""
        return self._network.conf_model_desc.dataset if self._model_name is None else self._run.read_model_facts()

    @cached_property
    def _network(self) -> ModelDesc:
        """Of :attr:`model`: the retrained network may be for other images than the search was."""
        return self._run.read_desc("full_arch.json") if self.retrained else self.arch

    @property
    def retrained(self) -> bool:
        """Whether the run has a trained network."""
        network = "full_arch.json" if self._model_name is None else MODEL_FACTS
        return (self._run / network).is_file() and (self._run / "weights.safetensors").is_file()

    @cached_property
    def model(self) -> nn.Module:
        """The retrained network on the CPU in evaluation mode: ``model(x)`` gives (logits, None).

        A given model gives what it gives; its factory is imported and called, as the configuration names it.

        Of a run that has none yet (:attr:`retrained`), the found network at the size of the search, with initial
        weights that follow from the seed, and a warning that it is not trained.
        """
        if self._model_name is not None:
            given = build_model(self.config.model, self._images)
            load_weights(given, self._run / "weights.safetensors", self.config.model.identity)
            return given.eval()
        desc = self._network
        registry = build_space(self.config.space, desc.conf_model_desc.dataset).registry
        with seeded_initialization(self.config.seed, "found.weights"):
            model = Model(desc, droppath=True, affine=True, registry=registry)
        if self.retrained:
            load_weights(model, self._run / "weights.safetensors")
        else:
            warnings.warn(
                f"{self.folder} is not retrained: this is the found network with fresh weights. Train it with "
                f"gradnas.retrain(result) or `gradnas retrain {self.folder}`.",
                stacklevel=3,
            )
        return model.eval()

    def data(self) -> DataSource:
        """The data set of the run. ValueError when it was an object that only Python can give again."""
        if self._data is None:
            self._data = load_source(self.config)
        return self._data

    def export(self, format: str = "source", folder: str | os.PathLike[str] | None = None) -> Exported:
        """Write the network as files that need no gradnas; see :func:`gradnas.export.export`.

        Args:
            format: ``source``, ``model.py`` that imports torch only; ``torch``, a ``torch.export`` program; ``onnx``.
            folder: Where to write; None is the run folder, whose ``weights.safetensors`` then stands beside
                ``model.py``.

        Returns:
            What was written, after it was compared with :attr:`model` on images of the run, or on noise where these
            are not at hand. ``source`` of a run that is not retrained is the found network without weights.

        Raises:
            FileExistsError: When a file that no export wrote stands in the way.
            ImportError: When the format needs a package that is not installed.
            ValueError: For an unknown format, one that holds weights when the run is not retrained, or ``source`` of a
                given model.
        """
        check_format(format)
        if self._model_name is not None and format == "source":
            raise ValueError(
                f"{self.folder} has trained the model {self._model_name!r}, whose source is not written by gradnas. "
                "Export it in the format 'torch' or 'onnx', which hold any network."
            )
        if not self.retrained and format != "source":
            raise ValueError(
                f"{self.folder} is not retrained, so that there are no weights for the format {format!r}. Train the "
                f"network with `gradnas retrain {self.folder}`, or export it in the format 'source', without weights."
            )
        facts = NetworkFacts.of_run(self.folder.resolve().name, self.summary)
        try:
            data = self._data if self._data is not None else load_source(self.config, download=False)
            samples, facts = Samples.of(data, self.input_shape), facts.with_data(data)
        except (ValueError, OSError, ImportError) as error:
            samples = Samples.noise(self.input_shape, str(error))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that it is not retrained, the export says itself
            model = self.model
        if self._model_name is None:
            assert isinstance(model, Model)
            network: Model | GivenNetwork = model
        else:
            network = GivenNetwork(
                model=model,
                name=self._model_name,
                options=self.config.model.options,
                image_shape=self.input_shape,
                n_classes=self._images.n_classes,
            )
        return export(
            network,
            format,
            folder if folder is not None else self.folder,
            samples=samples,
            facts=facts,
            trained=self.retrained,
        )
