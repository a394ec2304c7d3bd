"""Every built-in space under the public suite, and the suite on spaces that are broken."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor

from gradnas.arch import EdgeDesc, ModelDesc, ModelDescConf, NodeDesc, OpDesc, Shape
from gradnas.ops import OPS, ArchParams, Op, SepConv
from gradnas.spaces import DartsSpace, ModelDescBuilder
from gradnas.testing import SpaceTests


class TestDartsSpace(SpaceTests):
    bad_settings: ClassVar[tuple[dict[str, object], ...]] = (
        *SpaceTests.bad_settings,
        {"nodes": 0},
        {"image_size": 1},
        {"merge": "add"},
        {"stems": ("linear", "linear")},
        {"pool": "pool_avg2d7x7"},
    )

    def space(self) -> ModelDescBuilder:
        return DartsSpace(1, 8, 4, channels=4, cells=3, nodes=2, reductions=1)


class TestDartsSpaceOfOddMaps(SpaceTests):
    def space(self) -> ModelDescBuilder:
        return DartsSpace(3, (7, 9), 3, channels=2, cells=5, nodes=1, reductions=2, merge="proj_channels")


# ------------------------------------------------------------------------------- the suite on spaces that are broken


class _Small(DartsSpace):
    def __init__(self, **settings: Any) -> None:
        defaults: dict[str, Any] = {"channels": 4, "cells": 3, "nodes": 1, "reductions": 1}
        super().__init__(1, 8, 4, primitives=("skip_connect", "sep_conv_3x3", "none"), **(defaults | settings))


def under_test(make: Callable[[], ModelDescBuilder]) -> SpaceTests:
    class Suite(SpaceTests):
        bad_settings: ClassVar[tuple[dict[str, object], ...]] = ({"nodes": 2},)

        def space(self) -> ModelDescBuilder:
            return make()

    return Suite()


def _plain(op_desc: OpDesc, affine: bool, arch_params: ArchParams | None) -> Op:
    return SepConv(op_desc, 3, 1, affine)


class _RegistersForEveryone(_Small):
    def pre_build(self, conf_model_desc: ModelDescConf) -> None:
        OPS.register_op("mine", _plain)


def test_space_that_registers_for_everyone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(OPS, "_factories", dict(OPS._factories))
    with pytest.raises(AssertionError, match="mine"):
        under_test(_RegistersForEveryone).test_building_changes_nothing_global()


class _Seeds(_Small):
    def pre_build(self, conf_model_desc: ModelDescConf) -> None:
        torch.manual_seed(0)


def test_space_that_seeds_the_global_generator() -> None:
    with torch.random.fork_rng(devices=[]), pytest.raises(AssertionError, match="torch's global generator"):
        under_test(_Seeds).test_building_changes_nothing_global()


class _OtherCandidates(_Small):
    """Gives the last cell other candidates than the first of its type."""

    def build_nodes(self, *args: Any, **kwargs: Any) -> tuple[list[Shape], list[NodeDesc]]:
        shapes, nodes = super().build_nodes(*args, **kwargs)
        return (shapes, nodes) if args[2] != 2 else (shapes, [_renamed(node) for node in nodes])


def _renamed(node: NodeDesc) -> NodeDesc:
    edges = [EdgeDesc(e.op_desc.with_params(primitives=("skip_connect", "identity")), e.input_ids) for e in node.edges]
    return NodeDesc(tuple(edges), node.conv_params)


def test_cells_of_a_type_that_differ() -> None:
    with pytest.raises(AssertionError, match=r"cells\[2\] is not like cells\[0\]"):
        under_test(_OtherCandidates).test_cells_of_a_type_are_equal()


class _WrongHeight(_Small):
    def build_nodes(self, *args: Any, **kwargs: Any) -> tuple[list[Shape], list[NodeDesc]]:
        shapes, nodes = super().build_nodes(*args, **kwargs)
        return [(c, h + (args[2] == 2), w) for c, h, w in shapes], nodes


def test_shape_that_is_described_wrong() -> None:
    with pytest.raises(AssertionError, match=r"cells\[2\].* described \(8, 5, 4\)"):
        under_test(_WrongHeight).test_described_shapes_are_the_real_ones()


class _NoChoice(_Small):
    def build_nodes(self, *args: Any, **kwargs: Any) -> tuple[list[Shape], list[NodeDesc]]:
        return self.dense_nodes(OpDesc("sep_conv_3x3"), *args[3:])


def test_space_without_a_choice() -> None:
    with pytest.raises(AssertionError, match="nothing to search"):
        under_test(_NoChoice).test_builds_a_supergraph_with_a_choice()


class _Moody(_Small):
    """Builds something else each time."""

    built = 0

    def build(self, *args: Any, **kwargs: Any) -> ModelDesc:
        desc = super().build(*args, **kwargs)
        type(self).built += 1
        return desc if self.built % 2 else replace(desc, pool_op=desc.pool_op.with_params(built=self.built))


def test_space_that_builds_something_else_each_time() -> None:
    with pytest.raises(AssertionError, match="different descriptions"):
        under_test(_Moody).test_same_settings_same_description()


class _ForgetsItsOptions(_Small):
    def __init__(self, *, depth: int = 3) -> None:
        super().__init__(cells=depth)


def test_space_that_cannot_be_repeated() -> None:
    with pytest.raises(TypeError, match="'depth'"):
        under_test(_ForgetsItsOptions).test_run_folder_can_repeat_the_run()


class _Pixel(Op):
    """One pixel per channel, which broadcasting hides."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mean((2, 3), keepdim=True)


class _Broadcasts(DartsSpace):
    def __init__(self) -> None:
        super().__init__(1, 8, 4, channels=4, cells=3, nodes=1, reductions=1, primitives=("skip_connect", "pixel"))

    def pre_build(self, conf_model_desc: ModelDescConf) -> None:
        self.registry.register_op("pixel", _pixel)


def _pixel(op_desc: OpDesc, affine: bool, arch_params: ArchParams | None) -> Op:
    return _Pixel()


def test_candidates_of_different_shapes() -> None:
    with pytest.raises(AssertionError, match="candidates of one edge give"):
        under_test(_Broadcasts).test_candidates_agree_on_the_shape()


def test_settings_that_should_be_refused() -> None:
    with pytest.raises(AssertionError, match="was not refused"):
        under_test(_Small).test_bad_settings_are_refused()
