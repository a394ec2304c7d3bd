"""Tests of ``src/gradnas/export/model_source.py``, with its cells and blocks: is it the same network?"""

import importlib.util
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import nn

from gradnas.arch import CELL_OPS, ModelDesc, OpDesc
from gradnas.data import Normalization
from gradnas.export import NetworkFacts, export
from gradnas.export.model_source import MARK, model_source
from gradnas.export.use_source import Described
from gradnas.ops import OPS
from gradnas.supergraph import Model

GOLDEN = Path(__file__).parents[1] / "golden" / "exported_model.txt"
FULL = NetworkFacts(
    name="digits-3",
    dataset="digits",
    classes=("zero", "one", "two"),
    normalization=Normalization(mean=(0.25,), std=(0.5,)),
    pixel_scale=255,
    test_accuracy=98.765,
    n_test=360,
    space="darts",
    strategy="xnas",
    seed=0,
)


def text_of(desc: ModelDesc, facts: NetworkFacts | None = None, *, trained: bool = True) -> str:
    facts = facts if facts is not None else NetworkFacts()
    return model_source(Described(desc=desc, facts=facts, params=1234, macs=56789, trained=trained, version="1.2.3"))


def imported(text: str, folder: Path) -> ModuleType:
    path = folder / "model.py"
    path.write_text(text, encoding="utf-8")
    spec = importlib.util.spec_from_file_location("its_own_name", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def kept(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value for name, value in model.state_dict().items() if not name.startswith("aux_towers.")}


def check_same(model: Model, folder: Path, images: torch.Tensor) -> nn.Module:
    """The network of the text has the names, shapes, order and logits of the model."""
    network: nn.Module = imported(text_of(model.desc), folder).build()
    shapes = {name: value.shape for name, value in network.state_dict().items()}
    assert shapes == {name: value.shape for name, value in kept(model).items()}
    network.load_state_dict(kept(model))
    with torch.no_grad():
        expected, got = model(images)[0], network.eval()(images)
    assert (got - expected).abs().max() <= 1e-5 * expected.abs().max()
    assert (expected - expected[0]).abs().max() > 1e-3 * expected.abs().max()  # or equal logits would prove nothing
    return network


@pytest.mark.parametrize("seed", [0, 1])
def test_names_and_logits_are_those_of_the_model(desc: ModelDesc, seed: int, nets: Any, tmp_path: Path) -> None:
    check_same(nets.lively(desc, seed), tmp_path, nets.images_for(desc))


EDGES = st.lists(st.tuples(st.sampled_from(CELL_OPS), st.integers(0, 9)), min_size=1, max_size=3)


@st.composite
def descriptions(draw: st.DrawFn, nets: Any) -> ModelDesc:
    def wiring(reduction: bool) -> list[list[tuple[str, int]]]:
        nodes = []
        for n in range(count):
            edges = draw(EDGES if reduction else st.one_of(st.just([]), EDGES))
            pairs = [(op, state % (n + 2)) for op, state in edges]
            nodes.append([("none" if op == "identity" and reduction and s < 2 else op, s) for op, s in pairs])
        return nodes

    count = draw(st.integers(1, 3))
    stems = st.sampled_from(["stem_conv3x3", "stem_conv3x3Relu"])
    desc: ModelDesc = nets.wired(
        wiring(False),
        wiring(True),
        image=(draw(st.integers(1, 3)), draw(st.integers(5, 9)), draw(st.integers(5, 9))),
        classes=draw(st.integers(2, 4)),
        channels=draw(st.sampled_from([2, 4, 6])),
        cells=draw(st.integers(3, 5)),
        merge=draw(st.sampled_from(["concate_channels", "proj_channels"])),
        pool=draw(st.sampled_from(["pool_adaptive_avg2d", "pool_mean_tensor"])),
        stems=(draw(stems), draw(stems)),
        shared=draw(st.booleans()),
    )
    return desc


@given(data=st.data(), seed=st.integers(0, 2**16))
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
def test_any_description_becomes_the_same_network(data: st.DataObject, seed: int, nets: Any, tmp_path: Path) -> None:
    model = nets.lively(data.draw(descriptions(nets)), seed)
    network: nn.Module = imported(text_of(model.desc), tmp_path).build()
    network.load_state_dict(kept(model))
    images = nets.images_for(model.desc, seed=seed)
    with torch.no_grad():
        torch.testing.assert_close(network.eval()(images), model(images)[0], rtol=0, atol=1e-5)


def test_gradients_are_those_of_the_model_and_steps_train_it(nets: Any, tmp_path: Path) -> None:
    model = nets.lively(nets.small(), 0)
    network: nn.Module = imported(text_of(model.desc), tmp_path).build()
    network.load_state_dict(kept(model))
    images, labels = nets.images_for(model.desc, 6), torch.tensor([0, 1, 2, 0, 1, 2])
    nn.functional.cross_entropy(model.train()(images)[0], labels).backward()
    first = nn.functional.cross_entropy(network.train()(images), labels)
    first.backward()
    for (name, theirs), ours in zip(model.named_parameters(), network.parameters(), strict=True):
        assert theirs.grad is not None, name
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-3, atol=1e-5, msg=name)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01)
    for _ in range(3):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(network(images), labels)
        loss.backward()
        optimizer.step()
    assert loss.item() < first.item()


def test_drop_path_leaves_edges_out_in_training_alone_and_keeps_the_mean(nets: Any, tmp_path: Path) -> None:
    module = imported(text_of(nets.small()), tmp_path)
    network = module.build()
    network.drop_path(0.25)
    edges = [m for m in network.modules() if isinstance(m, module.Edge)]
    assert {edge.drop_probability for edge in edges} == {0.25}
    pool = next(edge for edge in edges if isinstance(edge.op, nn.MaxPool2d))
    identity = next(edge for edge in edges if isinstance(edge.op, nn.Identity))
    x = torch.ones(4000, 1, 2, 2)
    torch.manual_seed(0)
    out = pool.train()(x)
    assert out[:, 0, 0, 0].unique().tolist() == [0.0, pytest.approx(4 / 3)]
    assert torch.equal(out.amin((1, 2, 3)), out.amax((1, 2, 3)))  # whole images
    assert abs(float(out.mean()) - 1) < 0.05
    assert torch.equal(identity.train()(x), x)
    assert torch.equal(pool.eval()(x), x)
    network.drop_path(0.0)
    assert torch.equal(pool.train()(x), x)
    for probability in (1.0, -0.1, float("nan")):
        with pytest.raises(ValueError, match="expected 0 <= probability < 1, got"):
            network.drop_path(probability)


def test_weights_of_a_network_that_differs_in_its_pools_alone_are_refused(nets: Any, tmp_path: Path) -> None:
    for name, op in (("avg", "avg_pool_3x3"), ("max", "max_pool_3x3")):
        desc = nets.wired([[(op, 0)]], [[(op, 0)]], cells=3)
        export(nets.lively(desc, 0), "source", tmp_path / name)
    module = imported((tmp_path / "avg" / "model.py").read_text(), tmp_path)
    module.load(tmp_path / "avg" / "weights.safetensors")
    with pytest.raises(ValueError, match=r"weights\.safetensors has the weights of another architecture"):
        module.load(tmp_path / "max" / "weights.safetensors")


def test_damaged_weights_are_refused_and_those_without_a_checksum_are_not(nets: Any, tmp_path: Path) -> None:
    export(nets.lively(nets.small(), 0), "source", tmp_path)
    module = imported((tmp_path / "model.py").read_text(), tmp_path)
    weights = tmp_path / "weights.safetensors"
    whole = weights.read_bytes()
    state = module.load(weights).state_dict()
    weights.write_bytes(whole[:-2] + bytes([whole[-2] ^ 1]) + whole[-1:])
    with pytest.raises(ValueError, match=r"weights\.safetensors was changed or damaged since it was written: export"):
        module.load(weights)
    save_file(state, weights)
    assert all(torch.equal(value, state[name]) for name, value in module.load(weights).state_dict().items())


def test_without_safetensors_loading_says_what_to_install(
    nets: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = imported(text_of(nets.small()), tmp_path)
    monkeypatch.setitem(sys.modules, "safetensors", None)
    with pytest.raises(ImportError, match=r"load\(\) needs the package safetensors: pip install safetensors"):
        module.load()


def test_float_images_of_any_precision_are_prepared(nets: Any, tmp_path: Path) -> None:
    facts = replace(FULL, pixel_scale=1.0)
    module = imported(text_of(nets.small(), facts), tmp_path)
    images = torch.rand(2, 1, 8, 8, dtype=torch.float64)
    prepared = module.prepare(images)
    assert prepared.dtype == torch.float32
    torch.testing.assert_close(prepared, (images.float() - 0.25) / 0.5)
    with pytest.raises(TypeError, match=r"pixels must be float numbers, got torch\.uint8"):
        module.prepare(images.byte())


def test_the_text_of_one_network_is_this(nets: Any) -> None:
    assert text_of(nets.small(), FULL) == GOLDEN.read_text(encoding="utf-8")


def test_the_same_network_has_the_same_text(nets: Any) -> None:
    assert text_of(nets.published("XNAS"), FULL) == text_of(nets.published("XNAS"), FULL)


RUFF = (sys.executable, "-m", "ruff")


def test_the_text_is_formatted_and_without_faults(nets: Any, tmp_path: Path) -> None:
    texts = {name: text_of(make()) for name, make in nets.CASES.items()}
    texts |= {"deep": text_of(nets.published("NASNet_A", channels=36, cells=20)), "known": text_of(nets.small(), FULL)}
    texts |= {"fresh": text_of(nets.small(), FULL, trained=False), "strange": text_of(nets.small(), STRANGE)}
    wide = replace(FULL, classes=tuple(f"class number {i}" for i in range(3)), pixel_scale=1.0)
    texts |= {"wide": text_of(nets.small(), wide)}
    for i, text in enumerate(texts.values()):
        (tmp_path / f"model_{i}.py").write_text(text, encoding="utf-8")
    for arguments in (["format", "--isolated", "--diff"], ["check", "--isolated"]):
        done = subprocess.run([*RUFF, *arguments, tmp_path], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    assert len(list(tmp_path.glob("model_*.py"))) == len(texts)


STRANGE = NetworkFacts(
    name='"""\nimport os; os.abort()\n"""',
    dataset="back\\slash \\",
    classes=("'", '"quoted"', 'a\n"""; raise SystemExit(1) #\u202e\ud800日本語 {x} %s\\'),
    strategy='ends with a quote"',
    space="{curly} %s \\N{DASH}\r\t\x00\u2028",
)


def test_strange_names_stay_names(nets: Any, tmp_path: Path) -> None:
    module = imported(text_of(nets.small(), STRANGE), tmp_path)
    assert STRANGE.classes == module.CLASSES
    assert module.__doc__ is not None
    assert 'ends with a quote"' in module.__doc__
    assert "import os; os.abort()" in module.__doc__
    assert not hasattr(module, "os")
    assert {"\u202e", "\u2028", "\x00"}.isdisjoint(text_of(nets.small(), STRANGE))


@given(names=st.lists(st.text(), min_size=3, max_size=3), other=st.text())
@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
def test_any_name_comes_back_as_it_was(names: list[str], other: str, nets: Any, tmp_path: Path) -> None:
    facts = NetworkFacts(name=other, dataset=other, space=other, strategy=other, classes=tuple(names))
    module = imported(text_of(nets.small(), facts), tmp_path)
    assert tuple(names) == module.CLASSES
    assert callable(module.load)


def test_only_what_occurs_is_written(nets: Any) -> None:
    text = text_of(nets.small())
    assert "class SepConv" in text
    assert "class DilConv" in text
    for unused in ("FacConv", "ConvBNReLU(", "MultiOp", "PoolBN", "Zero", "Projection", "aux", "QuarterStem"):
        assert unused not in text
    skips = nets.wired([[("skip_connect", 0)]], [[("max_pool_3x3", 0)]], cells=3)
    assert "functional as F" in text_of(skips)  # the cell behind the reduction halves what it reads
    assert "functional as F" not in text_of(nets.published("DARTS_V2", reductions=0, cells=2))


def test_a_network_without_edges_has_nothing_to_drop(nets: Any, tmp_path: Path) -> None:
    desc = nets.wired([[], []], [[("none", 0)], [("none", 0)]])
    first = desc.cell_descs[0]
    logits_op = desc.logits_op.with_params(n_ch=first.out_shape[0])
    alone = replace(desc, cell_descs=(first,), aux_tower_descs=(None,), logits_op=logits_op)
    check_same(nets.lively(alone, 0), tmp_path, nets.images_for(alone))
    for unused in ("Edge", "self.nodes", "drop_path", "ch: int"):
        assert unused not in text_of(alone)


def test_cells_of_one_type_that_differ_have_a_class_each(nets: Any) -> None:
    text = text_of(nets.differing())
    assert "class RegularCell1(nn.Module)" in text
    assert "class RegularCell2(nn.Module)" in text
    assert "class ReductionCell(nn.Module)" in text
    assert text_of(nets.published("DARTS_V2", cells=8)).count("class RegularCell") == 1


def test_channels_are_written_in_terms_of_those_of_the_cell(nets: Any) -> None:
    text = text_of(nets.varying())
    assert "ConvBNReLU(ch, 3 * ch // 2, 3)" in text
    assert "ConvBNReLU(3 * ch // 2, 7 * ch // 4, 1)" in text  # 4 + 3
    assert "ConvBNReLU(12, 11, 1)" in text or "ConvBNReLU(3 * ch // 2, 11, 1)" in text  # 8 + 3


def test_every_operation_of_the_library_has_a_source_form(nets: Any) -> None:
    searching = {"mixed_op"}
    from gradnas.export.op_sources import SOURCES

    assert set(SOURCES) == {name for name in OPS.names() if name not in searching}


@pytest.mark.parametrize("name", ["my_op", "sep_conv_9x9"])
def test_an_operation_of_ones_own_is_named_with_what_works(nets: Any, name: str) -> None:
    desc = nets.with_ops(nets.small(), lambda op: replace(op, name=name) if op.name == "dil_conv_5x5" else op)
    with pytest.raises(ValueError, match=rf"cells\.0\.nodes\.1\.edges\.0: .*'{name}'.*'torch' and 'onnx' hold"):
        text_of(desc)


def test_a_search_network_has_no_source(nets: Any) -> None:
    from gradnas.spaces import DartsSpace

    with pytest.raises(ValueError, match="'mixed_op' still holds a choice"):
        text_of(DartsSpace(3, 8, 4, channels=4, cells=3, nodes=1, reductions=1).build())


def test_the_first_line_says_who_wrote_it(nets: Any) -> None:
    assert text_of(nets.small()).startswith(MARK + "1.2.3")


@pytest.mark.parametrize(("scale", "dtype"), [(255.0, torch.uint8), (1.0, torch.float32)])
def test_prepare_normalizes_as_the_run_did(nets: Any, tmp_path: Path, scale: float, dtype: torch.dtype) -> None:
    module = imported(text_of(nets.small(), replace(FULL, pixel_scale=scale)), tmp_path)
    images = torch.arange(128).view(2, 1, 8, 8).to(dtype)
    factor, shift = Normalization(mean=(0.25,), std=(0.5,)).scale_and_shift(dtype)
    torch.testing.assert_close(module.prepare(images), images.float() * factor + shift)
    wrong = images.float() if dtype == torch.uint8 else images.to(torch.uint8)
    with pytest.raises(TypeError, match="pixels must be"):
        module.prepare(wrong)


def test_the_genotype_in_the_docstring_can_be_read_back(nets: Any, tmp_path: Path) -> None:
    from gradnas.arch import PUBLISHED, Genotype

    for name in ("DARTS_V2", "NASNet_A"):
        doc = imported(text_of(nets.published(name)), tmp_path).__doc__
        assert doc is not None
        assert Genotype.from_string(doc[doc.index("Genotype(") :]) == PUBLISHED[name]
    assert "Genotype" not in text_of(nets.petridish())


def test_op_names_of_a_search_are_not_taken_for_the_users(nets: Any) -> None:
    op = OpDesc("xnas_op", nets.small().cell_descs[0].nodes()[0].edges[0].op_desc.params.replace(primitives=("none",)))
    desc = nets.with_ops(nets.small(), lambda old: op if old.name == "dil_conv_5x5" else old)
    with pytest.raises(ValueError, match="'xnas_op' still holds a choice"):
        text_of(desc)
