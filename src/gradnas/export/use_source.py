"""What stands around the network in ``model.py``: what it is, names of classes, normalization, ways to get it."""

from collections.abc import Sequence
from dataclasses import dataclass

from gradnas.arch import ModelDesc
from gradnas.export.facts import NetworkFacts
from gradnas.export.layout import lines, tupled, words

WEIGHTS = "weights.safetensors"
"""Name of the weights beside it."""

AUX_TOWERS = "aux_towers."
"""How names of weights begin that belong to auxiliary towers."""


@dataclass(frozen=True, kw_only=True)
class Described:
    """A network as far as ``model.py`` speaks of it.

    Args:
        desc: Its description.
        facts: Where it comes from.
        params: Number of weights, without auxiliary towers.
        macs: Multiply-adds of one image.
        trained: Whether there are weights to load.
        version: Of gradnas.
    """

    desc: ModelDesc
    facts: NetworkFacts
    params: int
    macs: int
    trained: bool
    version: str


def sizes(numbers: Sequence[int], by: str = " x ") -> str:
    """``3 x 32 x 32``."""
    return by.join(map(str, numbers))


def about(network: Described) -> str:
    """The docstring of the file."""
    data, facts = network.desc.conf_model_desc.dataset, network.facts
    known = {
        "Run": facts.name,
        "Data set": facts.dataset,
        "Images": f"{sizes(data.image_shape)} (channels x height x width)",
        "Classes": data.n_classes,
        "Test accuracy": _accuracy(network),
        "Parameters": f"{network.params:,}",
        "Multiply-adds": f"{network.macs:,} per image (convolutions and linear layers)",
        "Search space": facts.space,
        "Strategy": facts.strategy,
        "Seed": facts.seed,
    }
    text = ["An image classifier found by neural architecture search, as plain PyTorch.", ""]
    text += [f"{f'{key}:':15}{words(value)}" for key, value in known.items() if value is not None]
    images = "images" if facts.normalization is None else "prepare(images)"
    text += ["", f"Use: logits = {'load' if network.trained else 'build'}()({images})"]
    return "\n".join([f'"""{text[0]}', *text[1:], *_genotype(network.desc), '"""'])


def _accuracy(network: Described) -> str | None:
    if not network.trained:
        return "none, the network has not been trained"
    if network.facts.test_accuracy is None:
        return None
    on = "" if network.facts.n_test is None else f" on {network.facts.n_test:,} images"
    return f"{network.facts.test_accuracy:.2f} %{on}"


def _genotype(desc: ModelDesc) -> list[str]:
    """The cells in the notation of the literature, a node on each line; nothing where that has no words for them."""
    try:
        genotype = desc.genotype()
    except ValueError:
        return []
    text = ["", "Genotype("]
    for name, nodes in (("normal", genotype.normal_nodes), ("reduce", genotype.reduce_nodes)):
        pairs = [f"        {', '.join(map(str, node))}," for node in nodes]
        text += [f"    {name}=[", *pairs, "    ],"] if pairs else [f"    {name}=[],"]
        text += [f"    {name}_concat={list(getattr(genotype, f'{name}_concat'))},"]
    return [*text, ")"]


def use(network: Described) -> list[str]:
    """The parts behind the network: constants, ``prepare``, ``build``, ``load``, and an example."""
    parts = [_constants(network.facts), _prepare(network), _BUILD, _load(network), _example(network)]
    return ["\n".join(part) for part in parts if part]


def _constants(facts: NetworkFacts) -> list[str]:
    text = [] if facts.classes is None else lines(tupled(facts.classes), 0, "CLASSES = ")
    if facts.normalization is not None:
        text += lines(tupled(facts.normalization.mean), 0, "MEAN = ")
        text += lines(tupled(facts.normalization.std), 0, "STD = ")
    return text


def _prepare(network: Described) -> list[str]:
    if network.facts.normalization is None:
        return []
    shape = f"(batch, {sizes(network.desc.conf_model_desc.dataset.image_shape, ', ')})"
    if network.facts.pixel_scale == 255:
        wanted, kind, scaled = "bytes, 0 to 255", "images.dtype != torch.uint8", "images / 255"
    else:
        wanted, kind, scaled = "float numbers", "not images.is_floating_point()", "images"
    return [
        "def prepare(images: Tensor) -> Tensor:",
        '    """Normalize images as in training.',
        "",
        f"    Pixels are {wanted}; the shape is {shape}.",
        '    """',
        f"    if {kind}:",
        f'        raise TypeError(f"pixels must be {wanted}, got {{images.dtype}}")',
        "    mean = torch.tensor(MEAN, device=images.device).view(-1, 1, 1)",
        "    std = torch.tensor(STD, device=images.device).view(-1, 1, 1)",
        f"    return ({scaled} - mean) / std",
    ]


_BUILD = [
    "def build() -> Network:",
    '    """The network with fresh weights, to be trained."""',
    "    return Network()",
]


def _load(network: Described) -> list[str]:
    text = [
        "def load(path: str | Path | None = None) -> Network:",
        '    """The trained network, ready to classify (needs the package safetensors).',
        "",
        f"    The weights are those in {WEIGHTS} beside this file, or at the path.",
        '    """',
        "    from safetensors.torch import load_file",
        "",
        f'    path = Path(path or Path(__file__).with_name("{WEIGHTS}"))',
        "    if not path.is_file():",
    ]
    if network.trained:
        text += ['        raise FileNotFoundError(f"there are no weights at {path}")']
    else:
        text += [
            "        raise FileNotFoundError(",
            '            f"there are no weights at {path}: the network has not been trained. Train "',
            '            "build() and store its state_dict there by safetensors.torch.save_file, or "',
            '            "retrain the run with gradnas and export it again"',
            "        )",
        ]
    text += ["    weights = load_file(path)"]
    if network.desc.has_aux_tower():
        text += [
            "    # The auxiliary tower is left out: it only helped to train the cells before it.",
            f'    for name in [name for name in weights if name.startswith("{AUX_TOWERS}")]:',
            "        del weights[name]",
        ]
    return [*text, "    network = build()", "    network.load_state_dict(weights)", "    return network.eval()"]


def _example(network: Described) -> list[str]:
    shape, facts = sizes((1, *network.desc.conf_model_desc.dataset.image_shape), ", "), network.facts
    pixels = f"torch.zeros({shape}{', dtype=torch.uint8' if facts.pixel_scale == 255 else ''})"
    known = facts.normalization is not None
    return [
        'if __name__ == "__main__":',
        f"    network = {'load()' if network.trained else 'build().eval()'}",
        f"    images = {f'prepare({pixels})' if known else f'torch.zeros({shape})'}  # your images here",
        "    with torch.no_grad():",
        "        probabilities = network(images).softmax(dim=1)",
        f"    print({'CLASSES[int(probabilities[0].argmax())], ' if facts.classes is not None else ''}probabilities)",
    ]
