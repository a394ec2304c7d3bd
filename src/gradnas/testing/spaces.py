"""The conformance suite of search spaces."""

import json
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import ClassVar

import pytest
import torch
from torch import Tensor, nn

from gradnas.arch import ModelDesc, Shape
from gradnas.config import build_space, describe_space
from gradnas.finalizers import Finalizers, RandomFinalizers
from gradnas.foundation.seeds import seeded_initialization
from gradnas.ops import OPS
from gradnas.spaces import ModelDescBuilder, with_changes
from gradnas.supergraph import NONE, MixedOp, Model
from gradnas.testing.probe import state_of, untouched_globals
from gradnas.testing.reference import assert_legal, assert_runs, choices


class SpaceTests(ABC):
    """Everything that must be true of a search space.

    Derive in a pytest file, and give :meth:`space`: one as small as the space allows, so that the suite is quick.
    """

    bad_settings: ClassVar[tuple[dict[str, object], ...]] = ({"n_classes": 1}, {"channels": 0}, {"cells": 0})
    """Settings by the names of :func:`gradnas.spaces.with_changes` that the space must refuse; add its own."""

    @abstractmethod
    def space(self) -> ModelDescBuilder:
        """A fresh space."""

    def _model(self, desc: ModelDesc, space: ModelDescBuilder, *, fused: bool = False, affine: bool = False) -> Model:
        with seeded_initialization(0, "testing.space"):
            return Model(desc, droppath=False, affine=affine, fused=fused, registry=space.registry)

    def _members(self, space: ModelDescBuilder, count: int = 3) -> list[ModelDesc]:
        supergraph = self._model(space.build(), space)
        return [RandomFinalizers(seed).finalize_model(supergraph).clear_trainables() for seed in range(count)]

    def test_builds_a_supergraph_with_a_choice(self) -> None:
        """The description builds and runs, and some edge has a choice."""
        space = self.space()
        desc = space.build()
        assert_runs(desc, registry=space.registry)
        assert list(self._model(desc, space).mixed_ops()), "no edge has a choice: there is nothing to search"

    def test_described_shapes_are_the_real_ones(self) -> None:
        """Every cell, cell stem and node gives tensors of the shape that the description says."""
        space = self.space()
        for desc in (space.build(), *self._members(space, 1)):
            model = self._model(desc, space)
            seen: list[tuple[str, Shape, tuple[int, ...]]] = []
            for cell in model.typed_cells():
                place = f"cells[{cell.desc.id}]"
                for i, stem in enumerate(cell.stems):
                    _note(stem, f"{place}.stems[{i}]", cell.desc.stem_shapes[i], seen)
                for n, edges in enumerate(cell.node_edges()):
                    for e, edge in enumerate(edges):
                        _note(edge, f"{place}.nodes[{n}].edges[{e}]", cell.desc.node_shapes[n], seen)
                _note(cell, place, cell.desc.out_shape, seen)
            model(_images(desc))
            assert seen
            wrong = [f"{place} is {real}, described {told}" for place, told, real in seen if tuple(told) != real]
            assert not wrong, "; ".join(wrong)

    def test_same_settings_same_description(self) -> None:
        """Building is a function of the settings, and the description survives JSON with its hash."""
        first, again = self.space().build(), self.space()
        descs = [first, again.build(), again.build(), ModelDesc.from_json(first.to_json())]
        assert all(desc == first for desc in descs), "the same settings gave different descriptions"
        assert {desc.hash() for desc in descs} == {first.hash()}
        assert len({desc.to_json() for desc in descs}) == 1

    def test_building_changes_nothing_global(self) -> None:
        """Building touches neither the package-wide registry nor any global state."""
        names = OPS.names()
        with untouched_globals("building"):
            self.space().build()
        assert OPS.names() == names, f"registered for everyone: {sorted(set(OPS.names()) - set(names))}"

    def test_cells_of_a_type_are_equal(self) -> None:
        """All cells of a type have the edges and candidates of the first one."""
        desc = self.space().build()
        for cell in desc.cell_descs:
            first = desc.cell_descs[cell.trainables_from]
            assert choices(cell) == choices(first), f"cells[{cell.id}] is not like cells[{first.id}], of one type"

    def test_choices_are_choices(self) -> None:
        """An edge has at least two different candidates, one of them other than none, all known to the registry."""
        space = self.space()
        for op in self._model(space.build(), space).mixed_ops():
            assert len(set(op.names)) == len(op.names) >= 2, f"candidates {op.names}"
            assert set(op.names) != {NONE}
            for name in op.names:
                space.registry.lookup(name)

    def test_candidates_agree_on_the_shape(self) -> None:
        """All candidates of an edge turn one input into outputs of one shape."""
        space = self.space()
        model = self._model(space.build(), space)

        def compare(op: nn.Module, args: tuple[Tensor]) -> None:
            assert isinstance(op, MixedOp)
            seen = args[0][:, : args[0].shape[1] // op.partial]
            shapes = {name: tuple(c(seen).shape) for name, c in zip(op.names, op.candidates, strict=True)}
            assert len(set(shapes.values())) == 1, f"candidates of one edge give {shapes}"

        for op in model.mixed_ops():
            op.register_forward_pre_hook(compare)
        model(_images(model.desc))

    def test_random_members_are_legal_and_train(self) -> None:
        """Random members are legal, equal their JSON, and a step of training lowers the loss on the batch."""
        space = self.space()
        supergraph = self._model(space.build(), space)
        members = self._members(space)
        for member in members:
            assert_legal(member, supergraph, registry=space.registry)
            assert ModelDesc.from_json(member.to_json()) == member
        model = self._model(members[0], space, affine=True)
        assert not list(model.all_owned()), "a discrete network has architecture parameters"
        x, y = _images(members[0], 8), torch.arange(8) % members[0].conf_model_desc.dataset.n_classes
        optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
        losses = []
        for _ in range(2):
            loss = nn.functional.cross_entropy(model(x)[0], y)
            losses.append(float(loss.detach()))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        assert losses[1] < losses[0], f"loss before and after a step: {losses}"

    def test_members_grow(self) -> None:
        """A found architecture is the template of a network with other depth and width, cell for cell."""
        space = self.space()
        conf = space.settings
        wide = {"channels": 2 * conf.model_stems.init_node_ch, "cells": conf.n_cells + 2}
        for member in self._members(space):
            grown = space.grow(member, **wide)
            assert_runs(grown, registry=space.registry)
            assert len(grown.cell_descs) == conf.n_cells + 2
            for cell in grown.cell_descs:
                template = member.first_cell(cell.cell_type)
                assert template is not None
                assert choices(cell) == choices(template), f"cells[{cell.id}] is not like its template"

    def test_genotype_of_a_member_builds_it_again(self) -> None:
        """Where the format of the literature can hold a member, it gives that member back."""
        space = self.space()
        for member in self._members(space):
            try:
                genotype = member.genotype()
            except ValueError as error:
                pytest.skip(f"no genotype holds a member of this space: {error}")
            built = space.from_genotype(genotype)
            assert [choices(cell) for cell in built.cell_descs] == [choices(cell) for cell in member.cell_descs]
            assert built.genotype() == genotype

    def test_every_choice_can_learn(self) -> None:
        """The architecture parameters of every cell type get a gradient from the loss."""
        space = self.space()
        model = self._model(space.build(), space)
        logits, _ = model(_images(model.desc, 8))
        y = torch.arange(8) % logits.shape[1]
        alphas = list(model.all_owned().param_by_kind())
        gradients = torch.autograd.grad(nn.functional.cross_entropy(logits, y), alphas, materialize_grads=True)
        dead = [name for name, g in zip(model.all_owned(), gradients, strict=True) if not g.any()]
        assert not dead, f"no gradient reaches {dead}"

    def test_fused_equals_plain(self) -> None:
        """Both executions of the supergraph give the same logits and gradients, in float64."""
        space = self.space()
        desc = space.build()
        outcomes: list[list[Tensor]] = []
        state = state_of(self._model(desc, space))
        for fused in (False, True):
            model = self._model(desc, space, fused=fused)
            model.load_state_dict(state)
            model.double()
            logits, _ = model(_images(desc).double())
            inputs = list(model.parameters())
            gradients = torch.autograd.grad(logits.square().sum(), inputs, materialize_grads=True)
            outcomes.append([logits.detach(), *gradients])
        for plain, quick in zip(*outcomes, strict=True):
            assert torch.allclose(plain, quick, rtol=1e-8, atol=1e-10), "the fused execution computes something else"

    def test_bad_settings_are_refused(self) -> None:
        """Settings that contradict each other are refused when the description is built, with a message."""
        space = self.space()
        conf = space.settings
        too_many: dict[str, object] = {"reductions": conf.n_cells, "cells": conf.n_cells}
        for changes in (*self.bad_settings, too_many):
            assert _refusal(space, changes), f"{changes} was not refused, or without saying why"
        with pytest.raises(TypeError, match="unknown setting"):
            with_changes(conf, chanels=4)
        assert space.build() == self.space().build(), "a refused build left something behind"

    def test_finalized_supergraph_is_a_member(self) -> None:
        """The strongest choices of a fresh supergraph are a legal member."""
        space = self.space()
        supergraph = self._model(space.build(), space)
        assert_legal(Finalizers().finalize_model(supergraph), supergraph, registry=space.registry)

    def test_run_folder_can_repeat_the_run(self) -> None:
        """The options of the space are plain values from which an equal one is built for the same data."""
        space = self.space()
        described = describe_space(space)
        json.dumps(described.options)
        again = build_space(described, space.settings.dataset)
        assert type(again) is type(space)
        assert again.build() == space.build()


def _refusal(space: ModelDescBuilder, changes: dict[str, object]) -> str:
    """What is said against a change; nothing where it is built."""
    try:
        space.build(with_changes(space.settings, **changes))
    except (ValueError, TypeError, KeyError) as error:
        return str(error)
    return ""


def _images(desc: ModelDesc, n: int = 2) -> Tensor:
    return torch.randn(n, *desc.conf_model_desc.dataset.image_shape, generator=torch.Generator().manual_seed(0))


def _note(module: nn.Module, place: str, told: Shape, seen: list[tuple[str, Shape, tuple[int, ...]]]) -> None:
    def hook(_: object, args: object, output: Tensor) -> None:
        seen.append((place, told, tuple(output.shape[1:])))

    note: Callable[..., None] = hook
    module.register_forward_hook(note)
