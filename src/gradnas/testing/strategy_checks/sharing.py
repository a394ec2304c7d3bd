"""Checks of a strategy: sharing between cells, order of candidates, and the mixture itself."""

import copy
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from gradnas.finalizers import Finalizers
from gradnas.supergraph import NONE, MixedOp, Model
from gradnas.testing.probe import is_architecture, probe, same, searched, state_of
from gradnas.testing.problem import PRIMITIVES, Problem
from gradnas.testing.reference import naive_logits
from gradnas.testing.strategy_checks.base import StrategySuite

ORDER = (2, 3, 0, 1)
"""Candidate k of the permuted list is candidate ORDER[k] of :data:`PRIMITIVES`."""


class SharingChecks(StrategySuite):
    """One architecture per cell type, whatever is done to the model; and no candidate is special but by its name."""

    def test_cells_of_a_type_share_the_architecture(self) -> None:
        """All cells of a type use the same tensors: after steps, in copies, moved, and loaded from a state."""
        problem = Problem()
        trainer = searched(problem, self.strategy(), fused=True)
        model = trainer.supergraph
        _assert_shared(model, "after some steps")
        _assert_shared(copy.deepcopy(model), "in a deep copy")
        state = state_of(model)
        loaded = probe(problem, self.strategy(), fused=True).supergraph
        loaded.load_state_dict(state)
        _assert_shared(loaded, "loaded from a state dict")
        assert same(state, state_of(loaded)), "a state dict does not come back as it was"
        _assert_shared(copy.deepcopy(model).to(torch.float64), "after to()")
        once = [key for key in state if is_architecture(key)]
        assert len(once) == len(list(model.all_owned())), f"the state dict holds a parameter twice: {once}"

    def test_order_of_the_candidates_does_not_matter(self) -> None:
        """Candidates in another order give the same search in that order, in float64."""
        if not self.deterministic:
            pytest.skip("draws one number per position")
        problem = Problem()
        permuted = Problem(primitives=tuple(PRIMITIVES[k] for k in ORDER))
        ours = probe(problem, self.strategy(), fused=True, double=True)
        theirs = probe(permuted, self.strategy(), fused=True, double=True)
        theirs.model.load_state_dict(_permuted(ours.supergraph))
        ours.fit(problem.loaders())
        theirs.fit(permuted.loaders())
        expected, found = _permuted(ours.supergraph), theirs.model.state_dict()
        wrong = [
            name
            for name in expected
            if is_architecture(name) and not torch.allclose(expected[name], found[name], rtol=1e-6, atol=1e-8)
        ]
        assert not wrong, f"other architecture parameters for the same candidates in another order: {wrong}"
        genotypes = [
            str(Finalizers().finalize_model(trainer.supergraph).clear_trainables().genotype())
            for trainer in (ours, theirs)
        ]
        assert genotypes[0] == genotypes[1]

    def test_mixing_weights_are_weights(self) -> None:
        """Mixing weights are finite, not negative, of the promised sum, and exactly 0 for what is not computed."""
        trainer = searched(Problem(), self.strategy(), fused=True)
        model = trainer.supergraph
        for training in (True, False):
            model.train(training)
            for cell, table in zip(model.typed_cells(), model.mixing_weights(), strict=True):
                assert table is not None
                ops = cell.mixed_ops()
                assert table.shape == (len(ops), ops[0].row_length)
                assert table.isfinite().all(), f"not finite: {table}"
                assert (table >= 0).all(), f"negative: {table}"
                for op, row in zip(ops, table.tolist(), strict=True):
                    dead = [k for k, name in enumerate(op.names) if name != NONE and k not in op.computed]
                    assert all(row[k] == 0.0 for k in dead), f"{op.names} weigh {row}, computed: {op.computed}"
                    if self.row_sum is not None:
                        assert sum(row[: len(op.names)]) == pytest.approx(self.row_sum, abs=1e-5), f"weights {row}"

    def test_edges_are_sums_of_their_candidates(self, fused: bool) -> None:
        """The learnt network is the one with every edge Σ W_i f_i, in float64, values and all gradients."""
        trainer = searched(Problem(nodes=2), self.strategy(), fused=fused, double=True)
        model = trainer.supergraph.train()
        x = torch.randn(4, *model.desc.conf_model_desc.dataset.image_shape, generator=_draws(), dtype=torch.float64)
        upstream = torch.randn(4, 4, generator=_draws(), dtype=torch.float64)
        with torch.no_grad():
            tables = model.mixing_weights()
        leaves = [None if table is None else table.detach().clone().requires_grad_() for table in tables]
        inputs = [leaf for leaf in leaves if leaf is not None] + list(model.weights())
        outcomes = []
        for logits in (model(x, leaves)[0], naive_logits(model, x, leaves)):
            gradients = torch.autograd.grad((logits * upstream).sum(), inputs, materialize_grads=True)
            outcomes.append((logits.detach(), gradients))
        (ours, our_gradients), (naive, gradients) = outcomes
        assert torch.allclose(ours, naive, rtol=1e-10, atol=1e-10), "the logits differ from the naive ones"
        for value, our, expected in zip(inputs, our_gradients, gradients, strict=True):
            # What is not computed has no gradient; the naive network computes everything.
            judged = value != 0 if any(value is leaf for leaf in leaves) else torch.ones_like(value, dtype=torch.bool)
            assert torch.allclose(our[judged], expected[judged], rtol=1e-8, atol=1e-9), "a gradient differs"

    def test_fused_search_equals_plain_search(self) -> None:
        """Both executions give the same search, in float64, to rounding."""
        plain, fused = (searched(Problem(nodes=2), self.strategy(), fused=f, double=True) for f in (False, True))
        ours, theirs = state_of(plain.model), state_of(fused.model)
        for name, value in ours.items():
            if value.is_floating_point():
                assert torch.allclose(value, theirs[name], rtol=1e-7, atol=1e-8), f"{name} differs"
            else:
                assert torch.equal(value, theirs[name]), f"{name} differs"


def _draws() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def _assert_shared(model: Model, when: str) -> None:
    for cell in model.typed_cells():
        owner = model.typed_cells()[cell.desc.trainables_from]
        for op, owned in zip(cell.mixed_ops(), owner.mixed_ops(), strict=True):
            _assert_same_objects(op, owned, f"cells[{cell.desc.id}] {when}")
        a, b = cell.mixing_weights(), owner.mixing_weights()
        assert a is not None
        assert b is not None
        assert a.shape == b.shape


def _assert_same_objects(op: MixedOp, owned: MixedOp, where: str) -> None:
    ours, theirs = op.arch_params(), owned.arch_params()
    assert list(ours) == list(theirs), f"{where} learns {list(ours)}, the first of its type {list(theirs)}"
    for name in ours:
        assert ours[name] is theirs[name], f"{where} has {name} of its own"


def _permuted(model: Model) -> dict[str, Tensor]:
    """The state of a model as that of one with its candidates in the other order."""
    positions = {old: new for new, old in enumerate(ORDER)}
    state = {}
    for name, value in state_of(model).items():
        if is_architecture(name):
            state[name] = value[..., list(ORDER)] if value.dim() and value.shape[-1] == len(ORDER) else value
        else:
            state[_renamed(name.split("."), positions)] = value
    return state


def _renamed(parts: Sequence[str], positions: dict[int, int]) -> str:
    kept = list(parts)
    for i, part in enumerate(parts[:-1]):
        if part == "candidates":
            kept[i + 1] = str(positions[int(parts[i + 1])])
    return ".".join(kept)
