"""The conformance suite of finalizers."""

import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import ClassVar

import pytest
import torch

from gradnas.arch import CellType, EdgeDesc, ModelDesc, OpDesc
from gradnas.finalizers import Finalizers
from gradnas.foundation.seeds import seeded_initialization
from gradnas.spaces import with_changes
from gradnas.supergraph import NONE, Model, batch_norms
from gradnas.testing.probe import same, state_of, untouched_globals
from gradnas.testing.problem import PRIMITIVES, tiny_space
from gradnas.testing.reference import assert_legal, choices

SPREAD = 2.0  # of the architecture parameters of a test network


class FinalizerTests(ABC):
    """Everything that must be true of a finalizer.

    Derive in a pytest file, and give :meth:`finalizers`.
    """

    ranks_edges: ClassVar[bool] = True
    """Whether the strongest edges and candidates are kept, by what they learnt."""

    distinct_inputs: ClassVar[bool] = True
    """Whether a node keeps one candidate of an edge at most."""

    @abstractmethod
    def finalizers(self) -> Finalizers:
        """A fresh finalizer."""

    def _model(self, *, seed: int = 0, max_final_edges: int = 2, desc: ModelDesc | None = None) -> Model:
        """A supergraph that has learnt something: architecture parameters drawn from N(0, 4), weights fresh."""
        space = tiny_space(nodes=3)
        if desc is None:
            desc = space.build(with_changes(space.settings, max_final_edges=max_final_edges))
        with seeded_initialization(seed, "testing.finalizer"):
            model = Model(desc, droppath=False, affine=False, registry=space.registry)
        draws = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for alpha in model.all_owned().param_by_kind():
                alpha.copy_(SPREAD * torch.randn(alpha.shape, generator=draws))
        return model

    def _find(self, model: Model, finalizers: Finalizers | None = None) -> ModelDesc:
        return (finalizers if finalizers is not None else self.finalizers()).finalize_model(model).clear_trainables()

    def test_result_is_legal(self) -> None:
        """What is kept is a discrete member of the supergraph that builds and runs."""
        for seed in range(3):
            model = self._model(seed=seed)
            found = self.finalizers().finalize_model(model)
            assert_legal(found, model, distinct_inputs=self.distinct_inputs)
            assert ModelDesc.from_json(found.to_json()) == found

    def test_model_is_left_as_it_was(self) -> None:
        """Finalizing changes no tensor, mode, flag or device of the model, and no global generator."""
        for to_cpu in (True, False):
            model = self._model()
            batch_norms(model)[0].eval()
            facts = self._facts(model)
            state = state_of(model)
            with untouched_globals("finalizing"):
                self.finalizers().finalize_model(model, to_cpu=to_cpu)
            assert same(state, state_of(model)), "finalizing changed a tensor of the model"
            assert facts == self._facts(model), "finalizing changed a mode, a flag or an attribute of the model"

    def _facts(self, model: Model) -> list[object]:
        modules = [(name, m.training) for name, m in model.named_modules()]
        flags = [(id(p), p.requires_grad, p.grad is None, str(p.device)) for p in model.parameters()]
        computed = [(op.computed, id(op.rule)) for op in model.mixed_ops()]
        return [modules, flags, computed, model.desc.to_json()]

    def test_model_returns_to_its_device(self) -> None:
        """A model that was moved to the CPU is back on its device afterwards, also after an error."""
        if not torch.cuda.is_available():
            pytest.skip("no GPU")
        model = self._model().to("cuda")
        self.finalizers().finalize_model(model)
        assert model.device_type() == "cuda"

    def test_twice_is_the_same(self) -> None:
        """The same finalizer again, a fresh one, and a copy of the model give equal results."""
        model, finalizers = self._model(), self.finalizers()
        found = [self._find(model, finalizers), self._find(model, finalizers), self._find(model)]
        again = self._model()
        again.load_state_dict(state_of(model))
        found.append(self._find(again))
        assert all(desc == found[0] for desc in found), "finalizing again gave another architecture"
        assert len({desc.hash() for desc in found}) == 1

    def test_cells_of_a_type_are_equal(self) -> None:
        """All cells of a type keep the same, so that the first can be the template."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the finalizer's own warning about it
            found = self._find(self._model())
        for cell in found.cell_descs:
            first = found.cell_descs[cell.trainables_from]
            assert choices(cell) == choices(first), f"cells[{cell.id}] is not like cells[{first.id}], of one type"

    @pytest.mark.parametrize("limit", [0, 1, 2, 100])
    def test_limit_is_kept(self, limit: int) -> None:
        """A node keeps ``max_final_edges`` of its choices, or all where there are not so many."""
        model = self._model(max_final_edges=limit)
        for cell in self.finalizers().finalize_cells(model):
            for n, node in enumerate(cell.nodes()):
                offered = len(cell_edges(model, cell.id, n)) * (1 if self.distinct_inputs else len(PRIMITIVES) - 1)
                assert len(node.edges) == min(limit, offered), f"limit {limit}, {len(node.edges)} kept of {offered}"

    def test_none_is_never_kept(self) -> None:
        """Not even where it has learnt to be the strongest on every edge."""
        model = self._model()
        with torch.no_grad():
            for alpha in model.all_owned().param_by_kind():
                alpha[PRIMITIVES.index(NONE)] = 20.0
        names = {e.op_desc.name for c in self._find(model).cell_descs for node in c.nodes() for e in node.edges}
        assert names
        assert NONE not in names

    def test_weights_are_copies_of_the_models(self) -> None:
        """Each kept op comes with the weights it had in the model, copied to the CPU."""
        model = self._model()
        found = self.finalizers().finalize_model(model)
        state = {name: value.clone() for name, value in state_of(model).items()}
        kept = {key for cell in found.cell_descs for key in _stored(cell.top_ops())}
        pool = {_fingerprint(value) for value in state.values() if value.dim() > 1}
        assert kept
        assert kept <= pool, "a kept op has weights that are not those of the model"
        with torch.no_grad():
            for p in model.parameters():
                p.zero_()
        assert kept == {key for cell in found.cell_descs for key in _stored(cell.top_ops())}, "weights are not copies"

    def test_strongest_are_kept(self) -> None:
        """Per edge the strongest candidate but none, per node the strongest edges, with none in the normalization."""
        if not self.ranks_edges:
            pytest.skip("does not look at what was learnt")
        for seed in range(3):
            model = self._model(seed=seed)
            found = self._find(model)
            for cell in model.owner_cells():
                strengths = cell.probabilities()
                assert strengths is not None
                self._assert_strongest(strengths.detach(), found, cell.desc.id)

    def _assert_strongest(self, strengths: torch.Tensor, found: ModelDesc, cell: int) -> None:
        row = 0
        for n, node in enumerate(found.cell_descs[cell].nodes()):
            rows = strengths[row : row + n + 2].tolist()
            row += n + 2
            best = [max((w, -k) for k, w in enumerate(r) if PRIMITIVES[k] != NONE) for r in rows]
            order = sorted(range(len(best)), key=lambda e: (-best[e][0], e))[: found.max_final_edges]
            expected = {(e, PRIMITIVES[-best[e][1]]) for e in order}
            kept = {(edge.input_ids[0], edge.op_desc.name) for edge in node.edges}
            assert kept == expected, f"cells[{cell}].nodes[{n}] keeps {kept}, the strongest are {expected}"

    def test_ties_go_to_the_first(self) -> None:
        """Of equal edges the one that reads the lower state is kept, of equal candidates the earlier."""
        if not self.ranks_edges:
            pytest.skip("does not look at what was learnt")
        model = self._model()
        with torch.no_grad():
            for alpha in model.all_owned().param_by_kind():
                alpha.zero_()
        for cell in self._find(model).cell_descs:
            for node in cell.nodes():
                kept = [(edge.op_desc.name, edge.input_ids) for edge in node.edges]
                assert kept == [(PRIMITIVES[0], (0,)), (PRIMITIVES[0], (1,))], f"all equal, but kept {kept}"

    def test_what_is_no_number_is_refused(self) -> None:
        """A strength that is NaN is refused by name of the node, and the model stays in its mode."""
        if not self.ranks_edges:
            pytest.skip("does not look at what was learnt")
        model = self._model()
        with torch.no_grad():
            next(iter(model.all_owned().param_by_kind()))[0] = torch.nan
        with pytest.raises(ValueError, match=r"nodes\[0\]"):
            self.finalizers().finalize_model(model)
        assert model.training

    def test_edges_without_a_choice_are_kept(self) -> None:
        """An edge that is no choice stays and does not count against the limit."""
        desc = tiny_space(nodes=3).build()
        place = "nodes.2.edges.3"

        def fix(where: str, op: OpDesc) -> OpDesc:
            if not where.endswith(place):
                return op
            return OpDesc("skip_connect", op.params.replace(primitives=None))

        model = self._model(desc=desc.map_ops(fix))
        for cell in self._find(model).cell_descs:
            required = cell.nodes()[2].edges
            names = [(edge.op_desc.name, edge.input_ids) for edge in required]
            assert ("skip_connect", (3,)) in names, f"cells[{cell.id}] lost an edge that is no choice: {names}"
            assert len(names) == 3, f"two choices and one edge that is none, but {names}"

    def test_both_cell_types_are_finalized(self) -> None:
        """Regular and reduction cells keep edges of their own."""
        found = self._find(self._model())
        assert {cell.cell_type for cell in found.cell_descs} == set(CellType)
        assert found.all_full(), "a node lost all its edges"


def cell_edges(model: Model, cell: int, node: int) -> list[EdgeDesc]:
    """The edges of a node of the supergraph."""
    return list(model.desc.cell_descs[cell].nodes()[node].edges)


def _fingerprint(value: torch.Tensor) -> bytes:
    return value.detach().cpu().contiguous().numpy().tobytes()


def _stored(ops: Iterable[tuple[str, OpDesc]]) -> list[bytes]:
    found: list[bytes] = []
    for _, op in ops:
        weights = {} if op.trainables is None else op.trainables["sd"]
        found += [_fingerprint(value) for value in weights.values() if value.dim() > 1]
    return found
