"""Tests of ``src/gradnas/arch/model_desc.py``."""

import copy
import json
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import gradnas
from gradnas.arch import (
    AuxTowerDesc,
    CellConf,
    CellDesc,
    CellType,
    ConvMacroParams,
    DatasetConf,
    EdgeDesc,
    ModelDesc,
    ModelDescConf,
    NodeDesc,
    OpDesc,
    Params,
    StemsConf,
)
from gradnas.arch.limits import MAX_CELLS, MAX_INTEGER, MAX_NODES, MAX_SIDE

MakeModel = Callable[..., ModelDesc]
MakeCell = Callable[..., CellDesc]

# Of the model in conftest.py. It changes only when the meaning of a description does, together with SCHEMA_VERSION.
KNOWN_HASH = "d63b8dd2971be31f85c59f611b2cc8abce674814948947b20b93d5241037697a"


def with_weights(desc: ModelDesc) -> ModelDesc:
    return desc.map_ops(lambda place, op: replace(op, trainables={"name": op.name, "sd": {"w": place}}))


# ---------------------------------------------------------------------------------------------- random descriptions

counts = st.integers(1, MAX_SIDE)  # the smallest of the limits
convs = st.builds(ConvMacroParams, counts, counts)
names = st.text(min_size=1, max_size=6)
integers = st.integers(-MAX_INTEGER, MAX_INTEGER)
leaves = st.none() | st.booleans() | integers | st.floats(allow_nan=False, allow_infinity=False) | names | convs
values = st.recursive(leaves, lambda inner: st.lists(inner, max_size=3).map(tuple), max_leaves=4)


@st.composite
def ops(draw: st.DrawFn, in_len: int | None = None, depth: int = 1) -> OpDesc:
    n_inputs = in_len if in_len is not None else draw(st.integers(1, 3))
    params = draw(st.dictionaries(names.filter(lambda name: name not in ("stride", "conv")), values, max_size=2))
    if draw(st.booleans()):
        params["stride"] = draw(st.sampled_from([1, 2]))
    children = draw(st.none() | st.lists(ops(depth=depth - 1), max_size=2)) if depth else None
    ins = None if children is None else tuple(draw(st.integers(0, n_inputs - 1)) for _ in children)
    name = draw(names)
    weights = draw(st.sampled_from([None, {"name": name, "sd": {"w": object()}}]))
    return OpDesc(name, Params(params), n_inputs, weights, None if children is None else tuple(children), ins)


@st.composite
def edges(draw: st.DrawFn, n_states: int) -> EdgeDesc:
    ids = draw(st.lists(st.integers(0, n_states - 1), min_size=1, max_size=min(3, n_states), unique=True))
    return EdgeDesc(draw(ops(in_len=len(ids))), tuple(ids))


@st.composite
def shapes(draw: st.DrawFn, height_width: tuple[int, int] | None = None) -> tuple[int, int, int]:
    height, width = height_width or (draw(counts), draw(counts))
    return draw(counts), height, width


@st.composite
def cells(draw: st.DrawFn, id: int, owners: dict[CellType, int]) -> CellDesc:
    cell_type = draw(st.sampled_from(CellType))
    n_nodes = draw(st.integers(0, 2))
    height_width = (draw(counts), draw(counts))
    return CellDesc(
        id=id,
        cell_type=cell_type,
        conf_cell=CellConf(n_nodes=draw(st.integers(1, MAX_NODES)), cell_post_op=draw(names)),
        stems=(draw(ops()), draw(ops())),
        stem_shapes=(draw(shapes()), draw(shapes())),
        node_descs=tuple(NodeDesc(draw(st.lists(edges(n + 2), max_size=2)), draw(convs)) for n in range(n_nodes)),
        node_shapes=tuple(draw(shapes(height_width)) for _ in range(n_nodes)),
        post_op=draw(ops()),
        out_shape=draw(shapes()),
        trainables_from=owners.setdefault(cell_type, id),
    )


@st.composite
def confs(draw: st.DrawFn) -> ModelDescConf:
    return ModelDescConf(
        dataset=DatasetConf(channels=draw(counts), image_size=(draw(counts), draw(counts)), n_classes=7),
        n_cells=draw(st.integers(1, MAX_CELLS)),
        model_stems=StemsConf(ops=(draw(names), draw(names)), shared=draw(st.booleans())),
        aux_weight=draw(st.floats(0, 10)),
        aux_tower_stride=draw(st.none() | counts),
        params=Params(draw(st.dictionaries(names, values, max_size=2))),
    )


@st.composite
def models(draw: st.DrawFn) -> ModelDesc:
    owners: dict[CellType, int] = {}
    cell_descs = tuple(draw(cells(id, owners)) for id in range(draw(st.integers(0, 2))))
    towers = st.none() | st.builds(AuxTowerDesc, counts, counts, counts)
    return ModelDesc(
        conf_model_desc=draw(confs()),
        model_stems=(draw(ops()), draw(ops())),
        pool_op=draw(ops()),
        cell_descs=cell_descs,
        aux_tower_descs=tuple(draw(towers) for _ in cell_descs),
        logits_op=draw(ops()),
    )


@given(desc=models())
@settings(max_examples=20, deadline=None)
def test_any_description_survives_json(desc: ModelDesc) -> None:
    again = ModelDesc.from_json(desc.to_json())
    assert again == desc
    assert again.conf_model_desc == desc.conf_model_desc
    assert (hash(again), again.hash(), again.to_json()) == (hash(desc), desc.hash(), desc.to_json())
    assert all(op.trainables is None for _, top in again.top_ops() for _, op in top.all_ops())


ALIKE = (
    0,
    0.0,
    -0.0,
    False,
    None,
    "",
    "0",
    (),
    (0,),
    (False,),
    ((),),
    1,
    1.0,
    True,
    "1",
    ConvMacroParams(1, 1),
    (1, 1),
)


def test_descriptions_are_equal_exactly_when_their_hashes_are() -> None:
    conf = ModelDescConf(dataset=DatasetConf(channels=1, image_size=(1, 1), n_classes=2))
    op = OpDesc("a")
    descs = [ModelDesc(conf, (op, op), OpDesc("pool", Params(x=value)), (), (), op) for value in ALIKE]
    for i, one in enumerate(descs):
        for j, two in enumerate(descs):
            assert (one == two) == (one.hash() == two.hash()) == (i == j), (ALIKE[i], ALIKE[j])


# -------------------------------------------------------------------------------------------------- identity and hash


def test_hash_is_the_committed_one(make_model: MakeModel) -> None:
    assert make_model().hash() == KNOWN_HASH


def run_without_torch(code: str, hash_seed: str) -> str:
    """Run code in a new process in which ``gradnas`` has no ``__init__``, so that its rooms come one by one."""
    package = Path(gradnas.__file__).parent
    stub = f"import sys, types; m = types.ModuleType('gradnas'); m.__path__ = [{str(package)!r}]; "
    command = [sys.executable, "-S", "-c", f"{stub}sys.modules['gradnas'] = m\n{code}"]
    env = {**os.environ, "PYTHONHASHSEED": hash_seed}
    return subprocess.run(command, env=env, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize("hash_seed", ["0", "12345"])
def test_hash_is_the_same_in_every_process(make_model: MakeModel, tmp_path: Path, hash_seed: str) -> None:
    make_model().save(tmp_path / "m.json")
    path = str(tmp_path / "m.json")
    code = f"from gradnas.arch import ModelDesc; d = ModelDesc.load({path!r}); print(d.hash(), hash(d))"
    assert run_without_torch(code, hash_seed).split() == [make_model().hash(), str(hash(make_model()))]


def test_descriptions_need_the_standard_library_only() -> None:
    # -S leaves the installed packages out, so any import of one would have failed
    assert run_without_torch("import gradnas.arch; print('torch' in sys.modules)", "0").strip() == "False"


def test_settings_and_weights_are_not_part_of_the_identity(make_model: MakeModel) -> None:
    conf = ModelDescConf(dataset=DatasetConf(channels=3, image_size=8, n_classes=10), aux_weight=0.4)  # type: ignore[arg-type]
    other = with_weights(make_model(conf_model_desc=conf))
    cells = [replace(cell, conf_cell=CellConf(n_nodes=9)) for cell in other.cell_descs]
    other.reset_cells(cells, other.aux_tower_descs)
    assert other == make_model()
    assert (hash(other), other.hash()) == (hash(make_model()), KNOWN_HASH)


@pytest.mark.parametrize(
    "changes",
    [
        {"pool_op": OpDesc("pool_mean_tensor")},
        {"logits_op": OpDesc("linear", Params(n_ch=8, n_classes=11))},
        {"aux_tower_descs": (None, None, None)},
        {"aux_tower_descs": (None, AuxTowerDesc(8, 10, 3), None)},
        {"cell_descs": (), "aux_tower_descs": ()},
    ],
)
def test_every_other_part_is_the_identity(make_model: MakeModel, changes: dict[str, Any]) -> None:
    other = make_model(**changes)
    assert other != make_model()
    assert other.hash() != make_model().hash()


def test_copies_are_equal(make_model: MakeModel) -> None:
    desc = make_model()
    for again in (copy.deepcopy(desc), desc.clone(), pickle.loads(pickle.dumps(desc))):  # noqa: S301 - our own bytes
        assert again == desc
        assert again.hash() == desc.hash()


# ------------------------------------------------------------------------------------------------------------- checks


def test_a_model_has_two_stems(make_model: MakeModel) -> None:
    with pytest.raises(ValueError, match="a model has two stems, got 1"):
        make_model(model_stems=(OpDesc("a"),))


def test_each_cell_needs_an_entry_for_its_tower(make_model: MakeModel) -> None:
    with pytest.raises(ValueError, match="3 cells need as many entries for auxiliary towers, got 2"):
        make_model(aux_tower_descs=(None, None))


def test_cells_are_numbered_in_order(make_model: MakeModel) -> None:
    cells = make_model().cell_descs
    with pytest.raises(ValueError, match=r"cell ids must be 0 … 2 in order, got \[0, 0, 2\]"):
        make_model(cell_descs=(cells[0], cells[0], cells[2]))


def test_cell_takes_parameters_from_a_cell_of_its_type(make_model: MakeModel, make_cell: MakeCell) -> None:
    cells = make_model().cell_descs
    message = r"cells\[2\] \(regular\) takes its architecture parameters from cells\[1\] \(reduction\), which is not"
    with pytest.raises(ValueError, match=message):
        make_model(cell_descs=(*cells[:2], make_cell(2, trainables_from=1)))


def test_cell_takes_parameters_from_a_cell_that_owns_them(make_cell: MakeCell, make_model: MakeModel) -> None:
    cells = (make_cell(0), make_cell(1, trainables_from=0), make_cell(2, trainables_from=1))
    with pytest.raises(ValueError, match=r"cells\[2\] .* from cells\[1\] \(regular\), which is not the first"):
        make_model(cell_descs=cells)


# -------------------------------------------------------------------------------------------------------- reset_cells


def test_reset_cells_replaces_both_lists(make_model: MakeModel) -> None:
    desc = make_model()
    desc.reset_cells(list(desc.cell_descs[:2]), [None, None])
    assert desc == make_model(cell_descs=make_model().cell_descs[:2], aux_tower_descs=(None, None))


def test_reset_cells_checks_before_it_changes_anything(make_model: MakeModel) -> None:
    desc = make_model()
    with pytest.raises(ValueError, match="3 cells need as many entries"):
        desc.reset_cells(desc.cell_descs, ())
    with pytest.raises(ValueError, match="cell ids must be 0 … 1 in order"):
        desc.reset_cells(desc.cell_descs[1:], (None, None))
    assert desc == make_model()


@pytest.mark.parametrize("use", [hash, ModelDesc.hash])
def test_reset_cells_is_refused_after_a_hash(make_model: MakeModel, use: Callable[[ModelDesc], object]) -> None:
    desc = make_model()
    use(desc)
    with pytest.raises(RuntimeError, match=r"was hashed or saved and cannot change; change a clone\(\)"):
        desc.reset_cells(desc.cell_descs, desc.aux_tower_descs)


def test_reset_cells_is_refused_after_a_save(make_model: MakeModel, tmp_path: Path) -> None:
    desc = make_model()
    desc.save(tmp_path / "m.json")
    with pytest.raises(RuntimeError, match="was hashed or saved"):
        desc.reset_cells(desc.cell_descs, desc.aux_tower_descs)


def test_clone_of_a_hashed_description_may_change(make_model: MakeModel) -> None:
    desc = make_model()
    before = desc.hash()
    clone = desc.clone()
    clone.reset_cells((), ())
    assert clone.hash() != before
    assert desc == make_model()


def test_comparing_does_not_freeze(make_model: MakeModel) -> None:
    desc = make_model()
    assert desc == make_model()
    desc.reset_cells((), ())


# -------------------------------------------------------------------------------------------------------------- views


def test_cells_are_counted_by_type(make_model: MakeModel) -> None:
    desc = make_model()
    assert [desc.cell_type_count(t) for t in (CellType.Regular, CellType.Reduction)] == [2, 1]


def test_first_cell_of_a_type(make_model: MakeModel) -> None:
    desc = make_model()
    assert desc.first_cell(CellType.Reduction) is desc.cell_descs[1]
    assert make_model(cell_descs=(), aux_tower_descs=()).first_cell(CellType.Regular) is None


def test_towers_are_noticed(make_model: MakeModel) -> None:
    assert make_model().has_aux_tower()
    assert not make_model(aux_tower_descs=(None, None, None)).has_aux_tower()


def test_empty_and_full_models(make_model: MakeModel) -> None:
    def emptied(cell: CellDesc) -> CellDesc:
        return replace(cell, node_descs=tuple(replace(node, edges=()) for node in cell.nodes()))

    full = make_model()
    first, *others = full.cell_descs
    half = make_model(cell_descs=(emptied(first), *others))
    empty = make_model(cell_descs=tuple(map(emptied, full.cell_descs)))
    assert [(d.all_empty(), d.all_full()) for d in (full, half, empty)] == [
        (False, True),
        (False, False),
        (True, False),
    ]


def test_edges_kept_come_from_the_settings(make_model: MakeModel) -> None:
    assert make_model().max_final_edges == 2


def test_ops_come_in_order_with_their_places(make_model: MakeModel) -> None:
    places = [place for place, _ in make_model().top_ops()]
    assert places[:5] == [
        "model_stems.0",
        "model_stems.1",
        "cells.0.stems.0",
        "cells.0.stems.1",
        "cells.0.nodes.0.edges.0",
    ]
    assert places[-3:] == ["cells.2.post_op", "pool_op", "logits_op"]
    assert len(places) == len(set(places)) == 2 + 3 * 7 + 2


def test_map_ops_gives_the_places_of_top_ops_and_changes_a_copy(make_model: MakeModel) -> None:
    desc = make_model()
    renamed = desc.map_ops(lambda place, op: OpDesc(place, in_len=op.in_len))
    assert [op.name for _, op in renamed.top_ops()] == [place for place, _ in desc.top_ops()]
    assert desc == make_model()


def test_clear_trainables_clears_stems_pool_logits_and_cells(make_model: MakeModel) -> None:
    trained = with_weights(make_model())
    assert all(op.trainables is None for _, op in trained.clear_trainables().top_ops())
    assert all(op.trainables is not None for _, op in trained.top_ops())


# --------------------------------------------------------------------------------------------------------------- JSON


def document(desc: ModelDesc) -> dict[str, Any]:
    return json.loads(desc.to_json())


def test_json_names_its_schema_and_version_first(make_model: MakeModel) -> None:
    assert list(document(make_model())) == ["schema", "version", "model"]
    assert make_model().to_json().startswith('{\n "schema": "gradnas.model_desc",\n "version": 1,\n')


def test_json_does_not_contain_weights(make_model: MakeModel) -> None:
    assert with_weights(make_model()).to_json() == make_model().to_json()


@pytest.mark.parametrize("text", ["", "{", "Genotype(normal=[])", "[" * 100_000])
def test_text_that_is_no_json_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not a model description: the text is not JSON"):
        ModelDesc.from_json(text)


@pytest.mark.parametrize("text", ["[]", "3", "{}", '{"schema": "other", "version": 1}'])
def test_other_json_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r'expected an object with "schema": "gradnas\.model_desc"'):
        ModelDesc.from_json(text)


def test_newer_version_asks_for_an_upgrade(make_model: MakeModel) -> None:
    text = json.dumps({**document(make_model()), "version": 2})
    with pytest.raises(
        ValueError, match="of version 2, this gradnas reads 1: it was written by a newer gradnas; upgrade"
    ):
        ModelDesc.from_json(text)


@pytest.mark.parametrize("version", [0, None, "1"])
def test_unknown_version_is_refused(make_model: MakeModel, version: object) -> None:
    text = json.dumps({**document(make_model()), "version": version})
    with pytest.raises(ValueError, match=f"of version {version!r}, this gradnas reads 1: it cannot be read"):
        ModelDesc.from_json(text)


def test_unknown_field_beside_the_model_is_refused(make_model: MakeModel) -> None:
    text = json.dumps({**document(make_model()), "extra": 1})
    with pytest.raises(ValueError, match=r"has the fields 'schema', 'version' and 'model', got \['extra', 'model'"):
        ModelDesc.from_json(text)


def test_missing_model_is_refused() -> None:
    with pytest.raises(ValueError, match=r"'version' and 'model', got \['schema', 'version'\]"):
        ModelDesc.from_json('{"schema": "gradnas.model_desc", "version": 1}')


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        (("pool",), {}, r"^model: unknown field 'pool'\. Did you mean 'pool_op'\?"),
        (("cell_descs", 1, "colour"), 1, r"^model\.cell_descs\[1\]: unknown field 'colour'"),
        (("cell_descs", 1, "cell_type"), "x", r"^model\.cell_descs\[1\]\.cell_type: expected one of \['regular'"),
        (("cell_descs", 0, "out_shape"), [8, 8, -1], r"^model\.cell_descs\[0\]: cells\[0\]\.out_shape, W must be at"),
        (
            ("cell_descs", 0, "out_shape"),
            [8, 8, 0.5],
            r"^model\.cell_descs\[0\]\.out_shape\[2\]: expected int, got 0\.5",
        ),
        (
            ("cell_descs", 0, "node_descs", 1, "edges", 1, "input_ids"),
            [0],
            r"^model\.cell_descs\[0\]\.node_descs\[1\]\.edges\[1\]: op 'multi_op' reads 2 inputs",
        ),
        (("logits_op", "trainables"), {"name": "linear"}, r"^model\.logits_op: unknown field 'trainables'"),
        (
            ("logits_op", "params", "n_ch"),
            {"!module": "os"},
            r"^model\.logits_op\.params\.n_ch: unknown field '!module'",
        ),
        (("conf_model_desc", "n_cells"), True, r"^model\.conf_model_desc\.n_cells: expected int, got True"),
        (("model_stems",), [], r"^model\.model_stems: expected 2 entries, got 0"),
        (("aux_tower_descs",), [], r"^model: 3 cells need as many entries"),
    ],
)
def test_wrong_content_is_refused_with_its_place(
    make_model: MakeModel, place: tuple[str | int, ...], value: object, message: str
) -> None:
    content = document(make_model())
    part: Any = content["model"]
    for step in place[:-1]:
        part = part[step]
    part[place[-1]] = value
    with pytest.raises(ValueError, match=message):
        ModelDesc.from_json(json.dumps(content))


def test_missing_field_is_refused(make_model: MakeModel) -> None:
    content = document(make_model())
    del content["model"]["pool_op"]
    with pytest.raises(ValueError, match="model: field 'pool_op' is missing"):
        ModelDesc.from_json(json.dumps(content))


def test_ops_nested_without_end_are_refused(make_model: MakeModel) -> None:
    op = '{"name": "a", "params": {}, "in_len": 1, "children": %s, "children_ins": %s}'
    text = "null"
    for _ in range(300):  # json reads that deep
        text = op % ((text, "null") if text == "null" else (f"[{text}]", "[0]"))
    content = document(make_model())
    content["model"]["pool_op"] = "HERE"
    with pytest.raises(ValueError, match=r"not a model description: .* nested more than 64 levels deep"):
        ModelDesc.from_json(json.dumps(content).replace('"HERE"', text))


# -------------------------------------------------------------------------------------------------------------- files


def test_saved_description_is_loaded_equal(make_model: MakeModel, tmp_path: Path) -> None:
    make_model().save(str(tmp_path / "m.json"))
    assert ModelDesc.load(str(tmp_path / "m.json")) == make_model()


def test_saving_without_weights_writes_one_file(make_model: MakeModel, tmp_path: Path) -> None:
    make_model().save(tmp_path / "m.json")
    assert os.listdir(tmp_path) == ["m.json"]


def test_empty_filename_saves_nothing(make_model: MakeModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    desc = make_model()
    desc.save("", save_trainables=True)
    assert os.listdir(tmp_path) == []
    desc.reset_cells((), ())  # nobody relies on it yet


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no model description at .*m\.json"):
        ModelDesc.load(tmp_path / "m.json")


def test_damaged_file_is_named(make_model: MakeModel, tmp_path: Path) -> None:
    (tmp_path / "m.json").write_text(make_model().to_json()[:-20])
    with pytest.raises(ValueError, match=r"m\.json: not a model description: the text is not JSON"):
        ModelDesc.load(tmp_path / "m.json")


def test_changed_file_is_refused_until_its_checksum_is_deleted(make_model: MakeModel, tmp_path: Path) -> None:
    path, desc = tmp_path / "m.json", make_model()
    desc.save(path)
    document = json.loads(path.read_text())
    assert list(document) == ["schema", "version", "model", "checksum"]
    path.write_text(json.dumps(document, sort_keys=True))
    assert ModelDesc.load(path) == desc
    document["model"]["logits_op"]["name"] = "other"
    path.write_text(json.dumps(document))
    with pytest.raises(ValueError, match=r"m\.json: the description was changed or damaged.* delete the field 'checks"):
        ModelDesc.load(path)
    del document["checksum"]
    path.write_text(json.dumps(document))
    assert ModelDesc.load(path).logits_op.name == "other"


def test_binary_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "m.json").write_bytes(b"\x80\x04\xff")
    with pytest.raises(ValueError, match=r"m\.json: .*utf-8"):
        ModelDesc.load(tmp_path / "m.json")


def test_full_disk_leaves_the_saved_description(
    make_model: MakeModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fsync(handle: int) -> None:
        raise OSError(28, "No space left on device")

    make_model().save(tmp_path / "m.json")
    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(OSError, match=r"cannot write .*m\.json .*unchanged"):
        make_model(pool_op=OpDesc("other")).save(tmp_path / "m.json")
    assert ModelDesc.load(tmp_path / "m.json") == make_model()


def test_weights_may_not_overwrite_the_description(make_model: MakeModel, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"m\.safetensors is the name the weights get; save .* as \.json"):
        make_model().save(tmp_path / "m.safetensors", save_trainables=True)
    assert os.listdir(tmp_path) == []


def test_print_shows_the_description(make_model: MakeModel) -> None:
    assert str(make_model()).startswith("image 3×8×8, 10 classes\n")
