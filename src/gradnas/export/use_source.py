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
        "Size": None if network.trained else "that of the description; `gradnas retrain` builds another",
        "Parameters": f"{network.params:,}",
        "Multiply-adds": f"{network.macs:,} per image (convolutions and linear layers)",
        "Search space": facts.space,
        "Strategy": facts.strategy,
        "Seed": facts.seed,
    }
    origin = "found by neural architecture search" if facts.name is not None else "written from its description"
    text = [f"An image classifier {origin}, as plain PyTorch.", ""]
    text += [f"{f'{key}:':15}{words(value)}" for key, value in known.items() if value is not None]
    images = "images" if facts.normalization is None else "prepare(images)"
    text += ["", f"Use: logits = {'load' if network.trained else 'build'}()({images})"]
    return "\n".join([f'"""{text[0]}', *text[1:], *_genotype(network.desc), '"""'])


def _accuracy(network: Described) -> str | None:
    if not network.trained:
        return "none, the network has not been trained"
    if network.facts.test_accuracy is None:
        return None if network.facts.name is None else "none, there was no test set"
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
    """The parts behind the network: constants, ``prepare``, ``build``, ``checksum``, ``load``, and an example."""
    parts = [_constants(network), _prepare(network), _BUILD, _CHECKSUM, _load(network), _example(network)]
    return ["\n".join(part) for part in parts if part]


def _constants(network: Described) -> list[str]:
    facts = network.facts
    text = [
        "# The architecture: its weights carry the same in their metadata.",
        f'ARCH = "{network.desc.hash()}"',
    ]
    text += [] if facts.classes is None else lines(tupled(facts.classes), 0, "CLASSES = ")
    if facts.normalization is not None:
        text += lines(tupled(facts.normalization.mean), 0, "MEAN = ")
        text += lines(tupled(facts.normalization.std), 0, "STD = ")
    return text


def _prepare(network: Described) -> list[str]:
    if network.facts.normalization is None:
        return []
    shape = sizes(network.desc.conf_model_desc.dataset.image_shape, ", ")
    if network.facts.pixel_scale == 255:
        wanted, kind, scaled = "bytes, 0 to 255", "images.dtype != torch.uint8", "images / 255"
    else:
        wanted, kind, scaled = "float numbers", "not images.is_floating_point()", "images.float()"
    return [
        "def prepare(images: Tensor) -> Tensor:",
        '    """Normalize images as in training.',
        "",
        f"    Pixels are {wanted}; the shape is (batch, {shape}).",
        '    """',
        f"    if {kind}:",
        f'        raise TypeError(f"pixels must be {wanted}, got {{images.dtype}}")',
        f"    if images.shape[1:] != ({shape}):",
        f'        raise ValueError(f"images must be (batch, {shape}), got {{tuple(images.shape)}}")',
        "    mean = torch.tensor(MEAN, device=images.device).view(-1, 1, 1)",
        "    std = torch.tensor(STD, device=images.device).view(-1, 1, 1)",
        f"    return ({scaled} - mean) / std",
    ]


_BUILD = [
    "def build() -> Network:",
    '    """The network with fresh weights, to be trained."""',
    "    return Network()",
]


_CHECKSUM = [
    "def checksum(path: Path) -> str:",
    '    """Of everything in a safetensors file but the checksum itself."""',
    "    data = path.read_bytes()",
    '    begin = 8 + int.from_bytes(data[:8], "little")  # of the tensors',
    "    header = json.loads(data[8:begin])",
    '    header["__metadata__"].pop("checksum")',
    "    named = json.dumps(header, sort_keys=True).encode()",
    "    return hashlib.blake2b(named + data[begin:], digest_size=16).hexdigest()",
]


def _load(network: Described) -> list[str]:
    what = "trained network, ready to classify" if network.trained else "network with weights that were trained later"
    tower = [
        "        # The auxiliary tower is left out: it only helped to train the cells before it.",
        f'        names = [name for name in names if not name.startswith("{AUX_TOWERS}")]',
    ]
    if network.trained and not network.desc.has_aux_tower():
        tower = []  # a network that is still to be trained may get one
    text = [
        "def load(path: str | Path | None = None) -> Network:",
        f'    """The {what} (needs the package safetensors).',
        "",
        f"    The weights are those in {WEIGHTS} beside this file, or at the path.",
        '    """',
        "    try:",
        "        from safetensors import safe_open",
        "    except ImportError as error:",
        '        missing = "load() needs the package safetensors: pip install safetensors"',
        "        raise ImportError(missing) from error",
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
    return [
        *text,
        '    with safe_open(path, "pt") as stored:',
        "        said = stored.metadata() or {}",
        "        names = sorted(stored.keys())",
        *tower,
        "        weights = {name: stored.get_tensor(name) for name in names}",
        '    if "checksum" in said and said["checksum"] != checksum(path):',
        "        raise ValueError(",
        '            f"{path} was changed or damaged since it was written: export it again"',
        "        )",
        '    if not said.get("arch", ARCH).startswith(ARCH):',
        "        raise ValueError(",
        '            f"{path} has the weights of another architecture: export that one again"',
        "        )",
        "    network = build()",
        "    network.load_state_dict(weights)",
        "    return network.eval()",
    ]


def _example(network: Described) -> list[str]:
    shape, facts = sizes((1, *network.desc.conf_model_desc.dataset.image_shape), ", "), network.facts
    pixels = f"torch.zeros({shape}{', dtype=torch.uint8' if facts.pixel_scale == 255 else ''})"
    images = f"prepare({pixels})" if facts.normalization is not None else f"torch.zeros({shape})"
    shown = "CLASSES[int(probabilities[0].argmax())], " if facts.classes is not None else ""
    use = (
        [
            "    network = load()",
            f"    images = {images}  # your images here",
            "    with torch.no_grad():",
            "        probabilities = network(images).softmax(dim=1)",
            f"    print({shown}probabilities)",
        ]
        if network.trained
        else [
            "    network = build().eval()",
            f"    logits = network({images})",
            '    print(f"not trained yet; logits of shape {tuple(logits.shape)}")',
        ]
    )
    return ['if __name__ == "__main__":', *use]
