"""Description of a whole model, its JSON form and its content hash."""

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gradnas.arch.cell_desc import AuxTowerDesc, CellDesc, CellType
from gradnas.arch.codec import decode, encode
from gradnas.arch.op_desc import OpDesc
from gradnas.arch.settings import ModelDescConf
from gradnas.foundation.checksums import CHECKSUM, damaged, seal, unseal
from gradnas.foundation.files import write_atomic
from gradnas.foundation.strict_json import MAX_CHARACTERS, read_json

if TYPE_CHECKING:
    from gradnas.arch.genotype import Genotype

SCHEMA = "gradnas.model_desc"
SCHEMA_VERSION = 1


@dataclass(frozen=True)
class ModelDesc:
    """A whole network as plain data: two stems, cells, auxiliary towers, global pool and classifier.

    Equality and hash are those of the architecture; settings and weights do not count.

    Args:
        conf_model_desc: The settings it was built from.
        model_stems: The two stems. A second stem with ``shared=True`` in its params reads the first one.
        pool_op: Global pooling.
        cell_descs: Cells with ids 0 … n-1 in order.
        aux_tower_descs: One entry per cell, None where there is no tower.
        logits_op: The classifier.

    Raises:
        ValueError: When the parts contradict each other.
    """

    conf_model_desc: ModelDescConf = field(compare=False)
    model_stems: tuple[OpDesc, OpDesc]
    pool_op: OpDesc
    cell_descs: tuple[CellDesc, ...]
    aux_tower_descs: tuple[AuxTowerDesc | None, ...]
    logits_op: OpDesc

    def __post_init__(self) -> None:
        object.__setattr__(self, "model_stems", tuple(self.model_stems))
        if len(self.model_stems) != 2:
            raise ValueError(f"a model has two stems, got {len(self.model_stems)}.")
        self._set_cells(self.cell_descs, self.aux_tower_descs)

    def _set_cells(self, cells: Sequence[CellDesc], towers: Sequence[AuxTowerDesc | None]) -> None:
        if len(cells) != len(towers):
            raise ValueError(f"{len(cells)} cells need as many entries for auxiliary towers, got {len(towers)}.")
        if [cell.id for cell in cells] != list(range(len(cells))):
            raise ValueError(f"cell ids must be 0 … {len(cells) - 1} in order, got {[cell.id for cell in cells]}.")
        for cell in cells:
            owner = cells[cell.trainables_from]
            if owner.cell_type is not cell.cell_type or owner.trainables_from != owner.id:
                raise ValueError(
                    f"cells[{cell.id}] ({cell.cell_type.value}) takes its architecture parameters from "
                    f"cells[{owner.id}] ({owner.cell_type.value}), which is not the first of its type."
                )
        object.__setattr__(self, "cell_descs", tuple(cells))
        object.__setattr__(self, "aux_tower_descs", tuple(towers))

    @cached_property
    def _content_hash(self) -> str:
        content = {name: part for name, part in encode(self).items() if name != "conf_model_desc"}
        for cell in content["cell_descs"]:
            del cell["conf_cell"]
        text = json.dumps([SCHEMA_VERSION, content], sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()

    def hash(self) -> str:
        """SHA-256 (hexadecimal) of the architecture: the same in every process and on every machine."""
        return self._content_hash

    def __hash__(self) -> int:
        return int(self._content_hash[:15], 16)

    def reset_cells(self, cell_descs: Sequence[CellDesc], aux_tower_descs: Sequence[AuxTowerDesc | None]) -> None:
        """Replace the cells after the same checks: the only mutator.

        Raises:
            ValueError: As for the constructor.
            RuntimeError: Once the description was hashed or saved, when others may rely on it.
        """
        if "_content_hash" in self.__dict__:
            raise RuntimeError("this description was hashed or saved and cannot change; change a clone() of it.")
        self._set_cells(cell_descs, aux_tower_descs)

    def clone(self) -> "ModelDesc":
        """An equal, independent description that may be changed."""
        return replace(self)

    @property
    def max_final_edges(self) -> int:
        """Edges a node keeps when the network is made discrete."""
        return self.conf_model_desc.max_final_edges

    def cell_type_count(self, cell_type: CellType) -> int:
        """How many cells are of this type."""
        return sum(cell.cell_type is cell_type for cell in self.cell_descs)

    def first_cell(self, cell_type: CellType) -> CellDesc | None:
        """The first cell of a type: the template from which deeper networks are built. None when there is none."""
        return next((cell for cell in self.cell_descs if cell.cell_type is cell_type), None)

    def has_aux_tower(self) -> bool:
        """True when a cell has an auxiliary tower."""
        return any(tower is not None for tower in self.aux_tower_descs)

    def all_empty(self) -> bool:
        """True when no node of any cell has an edge."""
        return all(cell.all_empty() for cell in self.cell_descs)

    def all_full(self) -> bool:
        """True when every node of every cell has an edge."""
        return all(cell.all_full() for cell in self.cell_descs)

    def top_ops(self) -> Iterator[tuple[str, OpDesc]]:
        """Every op with its dotted place, children left inside their parents."""
        for i, stem in enumerate(self.model_stems):
            yield f"model_stems.{i}", stem
        for cell in self.cell_descs:
            for place, op in cell.top_ops():
                yield f"cells.{cell.id}.{place}", op
        yield "pool_op", self.pool_op
        yield "logits_op", self.logits_op

    def map_ops(self, change: Callable[[str, OpDesc], OpDesc]) -> "ModelDesc":
        """A copy in which each op of :meth:`top_ops` is what ``change(place, op)`` returns."""

        def change_cell(cell: CellDesc) -> CellDesc:
            return cell.map_ops(lambda place, op: change(f"cells.{cell.id}.{place}", op))

        return replace(
            self,
            model_stems=(change("model_stems.0", self.model_stems[0]), change("model_stems.1", self.model_stems[1])),
            cell_descs=tuple(change_cell(cell) for cell in self.cell_descs),
            pool_op=change("pool_op", self.pool_op),
            logits_op=change("logits_op", self.logits_op),
        )

    def has_trainables(self) -> bool:
        """Whether every op has its weights, be they none; a copy that :meth:`load` read has those that there are."""
        return all(op.trainables is not None for _, op in self.top_ops())

    def clear_trainables(self) -> "ModelDesc":
        """A copy without weights."""
        return self.map_ops(lambda _, op: op.clear_trainables())

    def genotype(self) -> "Genotype":
        """The cells in the tuple format of the literature.

        Raises:
            ValueError: When cells of one type differ, or a node has not exactly two edges with one source each.
        """
        from gradnas.arch.convert import to_genotype  # genotypes know descriptions, not the other way round

        return to_genotype(self)

    def to_json(self) -> str:
        """Versioned JSON, indented, without weights."""
        return _text(self._document())

    def _document(self) -> dict[str, Any]:
        return {"schema": SCHEMA, "version": SCHEMA_VERSION, "model": encode(self)}

    @staticmethod
    def from_json(text: str) -> "ModelDesc":
        """Read what :meth:`to_json` wrote, or the text of a file of :meth:`save`.

        Raises:
            ValueError: For other content, an unknown field, a name that comes twice, a size beyond the limits of
                :mod:`gradnas.arch.limits`, a description of a newer version, or one that was changed since it was
                saved.
        """
        from gradnas.arch.convert import concat_ids  # genotypes know descriptions, not the other way round

        try:
            document = read_json(text)
        except ValueError as error:
            raise ValueError(f"not a model description: the text is not JSON as gradnas reads it: {error}.") from error
        if not isinstance(document, dict) or document.get("schema") != SCHEMA:
            raise ValueError(f'not a model description: expected an object with "schema": "{SCHEMA}".')
        version = document.get("version")
        if type(version) is not int or version != SCHEMA_VERSION:  # 1.0 and True are no versions
            newer = isinstance(version, int) and version > SCHEMA_VERSION
            advice = "it was written by a newer gradnas; upgrade gradnas to read it" if newer else "it cannot be read"
            raise ValueError(
                f"model description of version {version!r}, this gradnas reads {SCHEMA_VERSION}: {advice}."
            )
        if set(document) - {CHECKSUM} != {"schema", "version", "model"}:
            raise ValueError(
                f"a model description has the fields 'schema', 'version' and 'model', got {sorted(document)}."
            )
        try:
            unseal(document)
        except ValueError as error:
            raise damaged("the description", f"If the change is meant, delete the field {CHECKSUM!r}.") from error
        desc = decode(ModelDesc, document["model"], "model")
        for cell in desc.cell_descs:
            concat_ids(cell)  # what is drawn and printed of a cell
        return desc

    def save(self, filename: str | os.PathLike[str], save_trainables: bool = False) -> None:
        """Write JSON in one step; with ``save_trainables`` the weights go beside it as ``<stem>.safetensors``.

        The file is :meth:`to_json` with a checksum of its values as last field. An empty filename saves nothing.

        Raises:
            OSError: When the file cannot be written; what was there before is unchanged.
            ValueError: When the weights would get the same name as the description.
        """
        if not os.fspath(filename):
            return
        if save_trainables and Path(filename).suffix == ".safetensors":
            raise ValueError(f"{filename} is the name the weights get; save the description as .json.")
        self.hash()
        if save_trainables:
            from gradnas.arch.weights import save_trainables as write_weights  # tensors only when asked for

            write_weights(self, Path(filename).with_suffix(".safetensors"))
        write_atomic(filename, _text(seal(self._document())))

    @staticmethod
    def load(filename: str | os.PathLike[str], load_trainables: bool = False) -> "ModelDesc":
        """Read what :meth:`save` wrote. Nothing in the file is executed.

        Raises:
            FileNotFoundError: When the file, or a requested weights file, is missing.
            ValueError: As for :meth:`from_json`; the message names the file.
        """
        path = Path(filename)
        if not path.is_file():
            raise FileNotFoundError(f"no model description at {path}.")
        try:
            if path.stat().st_size > 4 * MAX_CHARACTERS:
                raise ValueError(f"it has {path.stat().st_size:,} bytes, at most {4 * MAX_CHARACTERS:,} are read")
            desc = ModelDesc.from_json(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error
        if not load_trainables:
            return desc
        from gradnas.arch.weights import load_trainables as read_weights  # tensors only when asked for

        return read_weights(desc, path.with_suffix(".safetensors"))

    def draw(self, path: str | os.PathLike[str]) -> Path:
        """Draw the cells and the network into a file that ends in ``.svg``, ``.png``, ``.mmd`` or ``.dot``.

        Returns:
            The path.

        Raises:
            ValueError: For another ending.
            OSError: When the file cannot be written; what was there before is unchanged.
        """
        from gradnas.report import draw  # the one look upwards: a convenience, reached only when it is called

        return draw(self, path)

    def __str__(self) -> str:
        """A screen of text: stems, each distinct cell, the column of cells with their shapes."""
        from gradnas.arch.text import describe  # presentation, kept out of the data

        return describe(self)


def _text(document: dict[str, Any]) -> str:
    return json.dumps(document, indent=1, allow_nan=False) + "\n"
