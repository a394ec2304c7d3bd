"""Tests of ``src/gradnas/pipeline/refusals.py``: what the space or the candidates cannot do is refused before a folder.

What contradicts the strategy or the schedule is in ``test_search_plan.py``.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import gradnas as gn
from gradnas.arch import ModelDesc, ModelDescConf, OpDesc, Params
from gradnas.pipeline import prepare, refuse_early
from gradnas.spaces import DartsSpace
from gradnas.strategies import Darts, FairDarts, PcDarts, StabilizeConf, Xnas
from gradnas.training import OptimConf

WITHOUT_SKIP = ["max_pool_3x3", "sep_conv_3x3", "none"]


class Changed(DartsSpace):
    """A space whose edges with a choice are others."""

    change: Callable[[str, OpDesc], OpDesc]

    def build(self, conf_model_desc: ModelDescConf | None = None, template: ModelDesc | None = None) -> ModelDesc:
        desc, change = super().build(conf_model_desc, template), type(self).change
        return desc.map_ops(lambda place, op: change(place, op) if "primitives" in op.params else op)


def changed(change: Callable[[str, OpDesc], OpDesc]) -> DartsSpace:
    """An object of a class of its own: a run folder would name its class."""
    made: type[Changed] = type("Other", (Changed,), {"change": staticmethod(change)})
    return made(1, 8, 5, channels=2, cells=3, nodes=2, reductions=1)


def fixed(_: str, op: OpDesc) -> OpDesc:
    return OpDesc("sep_conv_3x3", Params({key: value for key, value in op.params.items() if key != "primitives"}))


def some_without_skip(place: str, op: OpDesc) -> OpDesc:
    """Only the last edge of each cell has the skip."""
    if place.endswith("nodes.1.edges.2"):
        return op
    return OpDesc(op.name, op.params.replace(primitives=("avg_pool_3x3", "dil_conv_3x3", "sep_conv_3x3", "none")))


def unnamed(_: str, op: OpDesc) -> OpDesc:
    """Without a list of its own a mixed op has the eight candidates of DARTS."""
    return OpDesc(op.name, Params({key: value for key, value in op.params.items() if key != "primitives"}))


def plain(**options: Any) -> DartsSpace:
    return DartsSpace(1, 8, 5, channels=2, cells=3, nodes=2, reductions=1, **options)


def refused(tools: Any, out: Path, space: DartsSpace, message: str, *, strategy: Any = "darts", **search: Any) -> None:
    """By the check alone, and by a search that would write to a folder."""
    conf = tools.conf(search=tools.search_conf(**search))
    chosen = Darts() if strategy == "darts" else strategy
    with pytest.raises(ValueError, match=message):
        refuse_early(prepare(conf, tools.context(), space, chosen))
    with pytest.raises(ValueError, match=message):
        gn.search(
            space,
            tools.source,
            strategy=strategy,
            epochs=2,
            batch_size=8,
            out=out,
            device="cpu",
            **search,
        )
    assert not out.exists()


def accepted(tools: Any, space: DartsSpace, strategy: Any = None, **search: Any) -> None:
    conf = tools.conf(search=tools.search_conf(**search))
    refuse_early(prepare(conf, tools.context(), space, Darts() if strategy is None else strategy))


def test_space_without_a_choice_is_refused(tools: Any, tmp_path: Path) -> None:
    message = "the space has no edge with a choice between candidates: there is nothing to search"
    refused(tools, tmp_path / "run", changed(fixed), message)
    accepted(tools, changed(lambda place, op: fixed(place, op) if "nodes.0" in place else op))


REMEDIES = [
    ({"skip_dropout": 0.2}, "no edge that keeps the map has the candidate 'skip_connect': skip_dropout has no effect"),
    ({"skip_limit": "warn"}, "no candidate of the space is 'skip_connect': skip_limit has no effect. Set it to 'none'"),
    ({"skip_limit": "stop"}, "no candidate of the space is 'skip_connect': skip_limit has no effect. Set it to 'none'"),
]


@pytest.mark.parametrize(("remedy", "message"), REMEDIES, ids=["dropout", "warn", "stop"])
@pytest.mark.parametrize("strategy", [Darts(), FairDarts(), Xnas()], ids=lambda s: type(s).__name__)
def test_remedy_against_skips_that_are_no_candidates_is_refused(
    tools: Any, tmp_path: Path, remedy: Any, message: str, strategy: Any
) -> None:
    stabilize = StabilizeConf(**remedy)
    space = plain(primitives=WITHOUT_SKIP)
    refused(tools, tmp_path / "run", space, message, strategy=strategy, stabilize=stabilize)


@pytest.mark.parametrize("remedy", [remedy for remedy, _ in REMEDIES], ids=["dropout", "warn", "stop"])
def test_remedy_against_skips_that_some_edge_has_is_accepted(tools: Any, remedy: Any) -> None:
    for space in (tools.space, changed(some_without_skip), changed(unnamed)):
        accepted(tools, space, stabilize=StabilizeConf(**remedy))


def test_space_without_skips_needs_no_remedy(tools: Any) -> None:
    space = plain(primitives=WITHOUT_SKIP)
    accepted(tools, space)
    accepted(tools, space, stabilize=StabilizeConf(perturb="random", eigenvalue="warn", warmup_epochs=1))


@pytest.mark.parametrize("partial", [4, 3])
def test_parts_that_do_not_divide_the_channels_are_refused(tools: Any, tmp_path: Path, partial: int) -> None:
    message = f"the candidates cannot see one of {partial} equal parts of the channels: the edge has 2 input"
    refused(tools, tmp_path / "run", tools.space, message, strategy=PcDarts(partial=partial))
    for fitting in (1, 2):
        accepted(tools, tools.space, PcDarts(partial=fitting))


def test_second_order_needs_sgd(tools: Any, tmp_path: Path) -> None:
    adam = OptimConf(name="adam")
    refused(tools, tmp_path / "run", tools.space, "SGD", strategy=Darts(2), optimizer=adam)
    accepted(tools, tools.space, Darts(1), optimizer=adam)
    accepted(tools, tools.space, Darts(2))


def test_retraining_alone_asks_nothing_of_the_search(tools: Any) -> None:
    """A run folder may hold settings that no search could have."""
    conf = tools.conf(search=tools.search_conf(stabilize=StabilizeConf(skip_dropout=0.2)))
    experiment = prepare(conf, tools.context(), plain(primitives=WITHOUT_SKIP), Darts())
    refuse_early(experiment, search=False)
    with pytest.raises(ValueError, match="skip_dropout has no effect"):
        refuse_early(experiment)
    refuse_early(replace(experiment, space=tools.space))
