"""A network leaves the library: written beside its place, read back, compared, and only then put there."""

import copy
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from types import MappingProxyType

import torch
from torch import Tensor, nn

from gradnas.arch import Shape
from gradnas.costs import count_macs, count_params
from gradnas.export.comparison import compared
from gradnas.export.facts import NetworkFacts
from gradnas.export.form import Exportable, Form, GivenNetwork, LogitsOnly
from gradnas.export.onnx_graph import OnnxForm
from gradnas.export.place import check_neighbors, folder_for, strangers_in
from gradnas.export.samples import Samples
from gradnas.export.source import SourceForm
from gradnas.export.torch_program import TorchForm
from gradnas.export.use_source import Described
from gradnas.foundation.files import move_durably
from gradnas.foundation.names import did_you_mean
from gradnas.supergraph import Model

_FORMS: Mapping[str, Form] = MappingProxyType({form.name: form for form in (SourceForm(), TorchForm(), OnnxForm())})

FORMATS: tuple[str, ...] = tuple(_FORMS)
"""What :func:`export` can write."""


@dataclass(frozen=True, kw_only=True)
class Exported:
    """What was written, and how it was checked.

    Args:
        format: One of :data:`FORMATS`.
        files: The files; the last one is the network itself.
        max_difference: Largest difference of a logit from that of the original network.
        tolerance: How large it might have been: 1e-5 of the largest absolute logit of all samples, or four times what
            rounding to float32 moves a logit of the original, where that is more.
        samples: On what the logits were compared.
        trained: Whether the network has weights; without them, both had the same random ones.
        note: What makes the comparison worth less; empty if nothing does.
    """

    format: str
    files: tuple[Path, ...]
    max_difference: float
    tolerance: float
    samples: str
    trained: bool
    note: str = ""

    def __str__(self) -> str:
        weights = "" if self.trained else " without weights, as the network is not trained"
        note = f"; note: {self.note}" if self.note else ""
        return (
            f"{' and '.join(map(str, reversed(self.files)))}{weights}; read back, its logits differ by at most "
            f"{self.max_difference:.2g} ({self.tolerance:.2g} allowed) on {self.samples}{note}"
        )


def export(
    model: Model | GivenNetwork,
    format: str,
    folder: str | os.PathLike[str],
    *,
    samples: Samples | None = None,
    facts: NetworkFacts | None = None,
    trained: bool = True,
) -> Exported:
    """Write a discrete network as files that need no gradnas.

    Args:
        model: The network; it is not changed. Its auxiliary tower stays behind: it only helps to train.
        format: ``source``, readable ``model.py`` for torch alone with ``weights.safetensors`` beside it, of found
            networks; ``torch``, a ``torch.export`` program ``model.pt2``; ``onnx``, ``model.onnx`` (needs the extra
            ``onnx``).
        folder: Where to write; made if it is not there. Files of an earlier export are replaced.
        samples: Images on which the written network is compared with the model; noise by default.
        facts: What the network says about itself.
        trained: Whether its weights are worth anything. Without, ``source`` writes no weights, and the other formats
            are refused.

    Returns:
        What was written, after it was read back and its logits were compared with the model's, in float32 and
        evaluation mode, on all samples at a time, on two and on one.

    Raises:
        FileExistsError: When a file that no export wrote stands in the way; it is unchanged.
        ImportError: When the format needs a package that is not installed.
        OSError: When the folder cannot be written.
        ValueError: For an unknown format, a network that still holds a choice, an op that the format cannot express,
            facts or samples of another network, or logits that differ too much. Nothing is left.
    """
    if not isinstance(model, Model | GivenNetwork):
        raise TypeError(
            f"export takes a gradnas.supergraph.Model, or a gradnas.export.GivenNetwork, got {type(model).__name__}."
        )
    form = _form(format)
    if not trained and format != SourceForm.name:
        raise ValueError(
            f"the network is not trained, and the format {format!r} holds weights. Train it first, or export in the "
            "format 'source', which can do without."
        )
    facts = facts or NetworkFacts()
    network = _given(model, facts, trained) if isinstance(model, GivenNetwork) else _found(model, facts, trained)
    shape = network.image_shape
    images = samples if samples is not None else Samples.noise(shape, "no images were given")
    if tuple(images.images.shape[1:]) != shape:
        raise ValueError(f"the network takes images of {shape}, the samples are of {tuple(images.images.shape[1:])}.")
    if not trained:
        _enliven(network.model, images.images)
    with (
        folder_for(Path(folder).expanduser()) as target,
        tempfile.TemporaryDirectory(prefix=".export-", dir=target) as place,
    ):
        strangers = strangers_in(form, target)
        written = form.write(network, Path(place))
        check_neighbors(form, strangers, written, Path(place), target)
        original, copied = LogitsOnly(network.model).eval(), form.read(Path(place), network)
        same = compared(original, copied, images.images)
        for name in written:
            if name not in strangers:
                move_durably(Path(place) / name, target / name)
    return Exported(
        format=format,
        files=tuple(target / name for name in written),
        max_difference=same.max_difference,
        tolerance=same.tolerance,
        samples=images.what,
        trained=trained,
        note=same.note,
    )


def check_format(format: str) -> None:
    """ValueError for an unknown format, naming the nearest; ImportError for one whose packages are not installed."""
    _form(format)


def _form(format: str) -> Form:
    if format not in _FORMS:
        raise ValueError(f"unknown format {format!r}. {did_you_mean(format, FORMATS)}")
    _FORMS[format].require()
    return _FORMS[format]


def _found(model: Model, facts: NetworkFacts, trained: bool) -> Exportable:
    choice = next(model.mixed_ops(), None)
    if choice is not None:
        raise ValueError(
            f"the network still holds a choice ({choice.desc.name!r}): it is that of a search. Build a model of the "
            "found description, or export a run folder."
        )
    if model.fused:
        raise ValueError(
            "the network was built with fused=True, for a fast search. Build it with fused=False and load its "
            "state_dict: names and values are the same."
        )
    data = model.desc.conf_model_desc.dataset
    network = _exportable(model, data.image_shape, data.n_classes, facts, {"arch_hash": model.desc.hash()})
    described = Described(
        desc=model.desc,
        facts=facts,
        params=network.params,
        macs=network.macs,
        trained=trained,
        version=network.version,
    )
    return replace(network, described=described)


def _given(network: GivenNetwork, facts: NetworkFacts, trained: bool) -> Exportable:
    if not trained:
        raise ValueError("a network that was designed by hand is exported with its weights: train it first.")
    identity = {"model": network.name, "model_options": dict(network.options)}
    return _exportable(network.model, network.image_shape, network.n_classes, facts, identity)


def _exportable(
    model: nn.Module, image_shape: Shape, n_classes: int, facts: NetworkFacts, identity: Mapping[str, object]
) -> Exportable:
    """A copy in float32 on the CPU, counted."""
    facts.check_fits(image_shape[0], n_classes)
    twin = copy.deepcopy(model).to(device="cpu", dtype=torch.float32)
    for tensor in (*twin.parameters(), *twin.buffers()):
        tensor.data = tensor.data.contiguous()  # and not channels_last, which the files would keep
    return Exportable(
        model=twin.eval(),
        image_shape=image_shape,
        n_classes=n_classes,
        facts=facts,
        identity=identity,
        params=count_params(twin),
        macs=count_macs(twin, image_shape),
        version=metadata.version("gradnas"),
        described=None,
    )


def _enliven(model: nn.Module, images: Tensor) -> None:
    """Give the norms of a fresh network the statistics of these images.

    With those they are born with, the logits of a deep network hardly depend on the image, and prove nothing.
    """
    assert isinstance(model, Model)  # given networks come with their weights
    model.drop_path_prob(0.0)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
    with torch.no_grad():
        LogitsOnly(model).train()(images)
    model.eval()
