"""What was searched and with which settings, as a reader wants it: a few rows, defaults that do nothing left out."""

from collections.abc import Mapping

from gradnas.report.records.plain_text import listed
from gradnas.report.records.plain_values import member, names, number, numbers, words
from gradnas.report.records.run_folder import RunFolder
from gradnas.training.settings import SGD_MOMENTUM

Row = tuple[str, str]
"""What it is about, and the settings."""

_MOST_CLASSES = 12

_EXTRAS = (
    ("val_ratio", "{:.0%} of the training images held out for validation"),
    ("channels", "{:g} channels"),
    ("cells", "{:g} cells"),
    ("grad_clip", "gradients clipped to norm {:g}"),
    ("label_smoothing", "label smoothing {:g}"),
    ("aux_weight", "auxiliary loss with weight {:g}"),
    ("drop_path", "drop path up to {:g}"),
    ("cutout", "cutout of {:g} pixels"),
    ("l1_alphas", "L1 penalty {:g} on the architecture parameters"),
    ("mixup", "mixup with alpha {:g}"),
    ("cutmix", "CutMix with alpha {:g}"),
    ("ema", "moving average of the weights with decay {:g}"),
    ("batch_chunks", "batches in {:g} parts"),
    ("max_steps_per_epoch", "at most {:g} steps per epoch"),
)
"""Numbers of a training and their words; shown when they are neither 0 nor missing."""

_NEUTRAL = {"batch_chunks": 1.0}


_OF_FOUND_NETWORKS = ("channels", "cells")


def settings_rows(run: RunFolder) -> tuple[Row, ...]:
    """Data, space, strategy, search, retraining, baseline, or data, model and training.

    A row of which nothing is known is left out.
    """
    settings, search = run.settings, member(run.settings, "search")
    samples = number(member(member(settings, "baseline"), "samples"))
    retraining = _training(member(settings, "retrain"))
    seed, device = number(member(settings, "seed")), words(member(settings, "device"))
    rows: tuple[Row, ...] = (
        ("Space", _space(run)),
        ("Sizes", _sizes(member(settings, "grid"))),
        ("Strategy", _component(member(settings, "strategy"))),
        ("Search", _training(search)),
        ("Against collapse", _remedies(member(search, "stabilize"))),
        ("Retraining", retraining if retraining or not settings else "none"),
        ("Random baseline", f"{samples:g} random architecture{'' if samples == 1 else 's'}" if samples else ""),
    )
    if run.arch is not None:
        rows = (("Space", _space(run)), ("Architecture", run.arch), ("Retraining", retraining))
    if run.model is not None:
        trained = {key: value for key, value in _mapping(settings, "retrain").items() if key not in _OF_FOUND_NETWORKS}
        rows = (("Model", _component(member(settings, "model"))), ("Training", _training(trained)))
    origin = f"{seed:g}{f', device {device}' if device else ''}" if seed is not None else ""
    return tuple((name, text) for name, text in (("Data", _data(run)), *rows, ("Seed", origin)) if text)


def _mapping(settings: Mapping[str, object], part: str) -> Mapping[str, object]:
    found = settings.get(part)
    return found if isinstance(found, Mapping) else {}


def _data(run: RunFolder) -> str:
    data, summary = member(run.settings, "data"), run.summary
    parts = [words(summary.get("dataset")) or words(member(data, "source")) or "data given in Python"]
    classes = names(summary.get("classes"))
    if classes:
        listed = ", ".join(classes[:_MOST_CLASSES]) + (", …" if len(classes) > _MOST_CLASSES else "")
        parts.append(f"{len(classes)} classes ({listed})")
    counts = [
        f"{count:,.0f} {name}"
        for key, name in (("n_train", "training images"), ("n_test", "test images"))
        if (count := number(summary.get(key))) is not None
    ]
    parts += [" and ".join(counts)] if counts else []
    shape = numbers(summary.get("image_shape"))
    if run.found is not None or (shape is not None and len(shape) == 3):
        channels, height, width = run.found.conf_model_desc.dataset.image_shape if run.found else map(int, shape or ())
        parts.append(f"{height}×{width} pixels, {channels} channel{'' if channels == 1 else 's'}")
    if number(member(data, "crop_padding")):
        parts.append(f"random crops after padding by {member(data, 'crop_padding')}")
    if member(data, "flip") is True:
        parts.append("mirrored at random")
    normalization = summary.get("normalization")
    mean, std = (_short_numbers(member(normalization, name)) for name in ("mean", "std"))
    if mean and std:
        parts.append(f"normalized by mean {mean} and deviation {std}")
    return "; ".join(parts) if len(parts) > 1 or run.settings else ""


def _space(run: RunFolder) -> str:
    parts = [_component(member(run.settings, "space"))]
    cells = run.mixtures[-1].cells if run.mixtures else {}
    counts = [
        f"{len(cell.edges)} edges with {len(cell.ops)} candidates each in the {kind} cell"
        for kind, cell in cells.items()
    ]
    parts += [", ".join(counts)] if counts else []
    ops = dict.fromkeys(op for cell in cells.values() for row in cell.edge_ops for op in row)
    parts += [", ".join(ops)] if ops else []
    return "; ".join(part for part in parts if part)


def _sizes(grid: object) -> str:
    """The grid of sizes, of a run that has one."""
    largest = [
        f"{count:g} {name if count != 1 else name.removesuffix('s')}"
        for name in ("reductions", "cells", "nodes")
        if (count := number(member(grid, f"max_{name}"))) is not None
    ]
    if not largest:
        return ""
    epochs = number(member(grid, "epochs"))
    trained = "" if epochs is None else f"; brief trainings of {epochs:g} epoch{'' if epochs == 1 else 's'}"
    return f"from that of the space up to {listed(largest)}{trained}"


def _component(value: object) -> str:
    name, options = words(member(value, "name")), member(value, "options")
    if name is None:
        return ""
    listed = _listed(options) if isinstance(options, Mapping) else ""
    return f"{name}: {listed}" if listed else name


def _listed(options: Mapping[str, object]) -> str:
    return ", ".join(
        f"{str(key).replace('_', ' ')} {', '.join(map(str, value)) if isinstance(value, list) else value}"
        for key, value in options.items()
        if value is not None and key != "primitives"  # the candidates are named with the space
    )


def _training(part: object) -> str:
    epochs = number(member(part, "epochs"))
    if not epochs:
        return ""
    parts = [f"{epochs:g} epoch{'' if epochs == 1 else 's'}"]
    batch = number(member(part, "batch_size"))
    parts += [f"batches of {batch:g}"] if batch else []
    parts += [_optimizer(member(part, "optimizer"))]
    for key, text in _EXTRAS:
        value = number(member(part, key))
        if value and value != _NEUTRAL.get(key):
            parts.append(text.format(value))
    policy, precision = words(member(part, "policy")), words(member(part, "precision"))
    parts += [policy] if policy and policy != "none" else []
    parts += ["stems for ImageNet"] if words(member(part, "stems")) == "imagenet" else []
    parts += [precision] if precision else []
    return ", ".join(text for text in parts if text)


def _optimizer(optimizer: object) -> str:
    name, rate = words(member(optimizer, "name")), number(member(optimizer, "lr"))
    if name is None or rate is None:
        return ""
    schedule, low = words(member(optimizer, "schedule")), number(member(optimizer, "lr_min"))
    words_ = f"{name.upper() if name == 'sgd' else name} with learning rate {rate:g}"
    words_ += {
        "cosine": f" falling to {low or 0:g} by a cosine",
        "exponential": " falling by a factor in each epoch",
        "multistep": " falling in steps",
        "onecycle": " as the peak of one cycle",
    }.get(schedule or "", "")
    warmup = number(member(optimizer, "warmup_epochs"))
    words_ += f" after {warmup:g} epochs of warm-up" if warmup else ""
    momentum, decay = number(member(optimizer, "momentum")), number(member(optimizer, "weight_decay"))
    if name == "sgd" and (momentum := SGD_MOMENTUM if momentum is None else momentum):
        words_ += f", {'Nesterov ' if member(optimizer, 'nesterov') is True else ''}momentum {momentum:g}"
    options = member(optimizer, "options")
    words_ += f", {_listed(options)}" if isinstance(options, Mapping) and options else ""
    return words_ + (f", weight decay {decay:g}" if decay else "")


def _remedies(stabilize: object) -> str:
    """The remedies that are switched on."""
    said = []
    warmup, dropout = number(member(stabilize, "warmup_epochs")), number(member(stabilize, "skip_dropout"))
    said += [f"only weights learn in the first {warmup:g} epochs"] if warmup else []
    said += [f"skips dropped with probability {dropout:g}"] if dropout else []
    for key, text in (
        ("perturb", "weights trained at mixtures with {} noise"),
        ("eigenvalue", "Hessian eigenvalue watched: {}"),
        ("skip_limit", f"skips limited{_skip_limit(stabilize)}: {{}}"),
    ):
        value = words(member(stabilize, key))
        said += [text.format(value)] if value and value != "none" else []
    return ", ".join(said)


def _skip_limit(stabilize: object) -> str:
    """How many skips may be, and from when on, as far as that is known."""
    most, earliest = number(member(stabilize, "max_skips")), number(member(stabilize, "skip_limit_from"))
    text = f" to {most:g} in the regular cell" if most is not None else ""
    if earliest is not None:
        text += f" once the architecture has learnt for {earliest:g} epoch{'' if earliest == 1 else 's'}"
    return text


def _short_numbers(value: object) -> str:
    read = value if isinstance(value, list) else []
    known = [item for item in map(number, read) if item is not None]
    return ", ".join(f"{item:.3g}" for item in known) if known and len(known) == len(read) else ""
