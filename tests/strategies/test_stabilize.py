"""Tests of ``src/gradnas/strategies/stabilize.py``, and of its settings in files and on the command line."""

import dataclasses
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gradnas import api
from gradnas.cli import main
from gradnas.config import RunConf, SearchConf, from_yaml, to_yaml
from gradnas.strategies import StabilizeConf


def test_everything_is_off_by_default() -> None:
    conf = StabilizeConf()
    assert (conf.warmup_epochs, conf.skip_dropout, conf.perturb) == (None, 0.0, "none")
    assert (conf.eigenvalue, conf.skip_limit, conf.noisy) == ("none", "none", False)
    assert SearchConf().stabilize == conf


def test_defaults_are_those_of_the_papers() -> None:
    conf = StabilizeConf()
    assert (conf.perturb_radius, conf.perturb_steps) == (0.3, 7)
    assert (conf.eigenvalue_ratio, conf.eigenvalue_window, conf.eigenvalue_lag) == (0.75, 5, 5)
    assert (conf.max_skips, conf.skip_limit_from) == (1, 10)


@pytest.mark.parametrize(
    ("changes", "noisy"),
    [
        ({"skip_dropout": 0.1}, True),
        ({"perturb": "random"}, True),
        ({"perturb": "adversarial"}, True),
        ({"warmup_epochs": 3, "eigenvalue": "stop", "skip_limit": "stop", "max_skips": 9}, False),
    ],
)
def test_noise_is_what_changes_the_weights_of_a_pass(changes: dict[str, Any], noisy: bool) -> None:
    assert StabilizeConf(**changes).noisy is noisy


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"warmup_epochs": -1}, "warmup_epochs of the architecture must be at least 0, got -1"),
        ({"skip_dropout": -0.1}, "skip_dropout must be at least 0 and below 1, got -0.1"),
        ({"skip_dropout": 1.0}, "skip_dropout must be at least 0 and below 1, got 1.0"),
        ({"skip_dropout": float("nan")}, "skip_dropout must be at least 0 and below 1, got nan"),
        ({"perturb": "off"}, "unknown perturb 'off'"),
        ({"eigenvalue": "off"}, "unknown eigenvalue 'off'"),
        ({"skip_limit": "off"}, "unknown skip_limit 'off'"),
        ({"perturb": "rondom"}, r"unknown perturb 'rondom'. Did you mean 'random'\?"),
        ({"eigenvalue": "stopp"}, r"unknown eigenvalue 'stopp'. Did you mean 'stop'\?"),
        ({"skip_limit": "warm"}, r"unknown skip_limit 'warm'. Did you mean 'warn'\?"),
        ({"perturb_radius": 0.0}, "perturb_radius must be above 0 and at most 1, got 0.0"),
        ({"perturb_radius": 1.5}, "perturb_radius must be above 0 and at most 1, got 1.5"),
        ({"perturb_radius": float("nan")}, "perturb_radius must be above 0 and at most 1, got nan"),
        ({"perturb_radius": float("inf")}, "perturb_radius must be above 0 and at most 1, got inf"),
        ({"eigenvalue_ratio": 0.0}, "eigenvalue_ratio must be between 0 and 1, got 0.0"),
        ({"eigenvalue_ratio": 1.0}, "eigenvalue_ratio must be between 0 and 1, got 1.0"),
        ({"perturb": "adversarial", "perturb_steps": 0}, "perturb_steps must be at least 1, got 0"),
        ({"eigenvalue": "warn", "eigenvalue_window": 0}, "eigenvalue_window must be at least 1, got 0"),
        ({"eigenvalue": "stop", "eigenvalue_lag": 0}, "eigenvalue_lag must be at least 1, got 0"),
        ({"skip_limit": "warn", "max_skips": -1}, "max_skips must be at least 0, got -1"),
        ({"skip_limit": "stop", "skip_limit_from": 0}, "skip_limit_from must be at least 1, got 0"),
    ],
)
def test_values_out_of_range_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        StabilizeConf(**changes)


@pytest.mark.parametrize(
    "changes",
    [
        {"warmup_epochs": 0, "skip_dropout": 0.0, "skip_limit": "warn", "max_skips": 0},
        {"skip_dropout": 0.999, "perturb": "random", "perturb_radius": 1.0},
        {"eigenvalue": "warn", "eigenvalue_ratio": 0.999},
        {"perturb": "random", "perturb_radius": 1e-6, "eigenvalue": "stop", "eigenvalue_ratio": 1e-6},
        {"perturb": "adversarial", "perturb_steps": 1, "skip_limit": "stop", "skip_limit_from": 1},
        {"eigenvalue": "stop", "eigenvalue_window": 1, "eigenvalue_lag": 1},
    ],
)
def test_ends_of_the_ranges_are_allowed(changes: dict[str, Any]) -> None:
    assert dataclasses.asdict(StabilizeConf(**changes)).items() >= changes.items()


ON: dict[str, Any] = {"perturb": "adversarial", "eigenvalue": "warn", "skip_limit": "warn"}


@pytest.mark.parametrize(
    "name",
    ["warmup_epochs", "perturb_steps", "eigenvalue_window", "eigenvalue_lag", "max_skips", "skip_limit_from"],
)
def test_counts_are_whole_numbers(name: str) -> None:
    with pytest.raises(TypeError, match=r"must be a whole number, got 1\.5"):
        StabilizeConf(**ON, **{name: 1.5})


DEPENDENT = [
    ("perturb", "perturb_radius", 0.2),
    ("perturb", "perturb_steps", 3),
    ("eigenvalue", "eigenvalue_ratio", 0.5),
    ("eigenvalue", "eigenvalue_window", 3),
    ("eigenvalue", "eigenvalue_lag", 2),
    ("skip_limit", "max_skips", 2),
    ("skip_limit", "skip_limit_from", 4),
]


@pytest.mark.parametrize(("switch", "name", "value"), DEPENDENT)
def test_a_setting_without_effect_is_refused(switch: str, name: str, value: float) -> None:
    others = {key: word for key, word in ON.items() if key != switch}
    for changes in ({name: value}, {switch: "none", name: value}, {**others, name: value}):
        with pytest.raises(ValueError, match=rf"^{name} has no effect while {switch} is 'none'\. Set {switch}, or"):
            StabilizeConf(**changes)
    default = getattr(StabilizeConf(), name)
    assert StabilizeConf(**{name: default}) == StabilizeConf()  # the default changes nothing, and is allowed
    found = StabilizeConf(**{switch: ON[switch], name: value})
    assert (getattr(found, switch), getattr(found, name)) == (ON[switch], value)


def test_every_setting_but_the_switches_is_free_or_depends_on_one() -> None:
    names = {field.name for field in dataclasses.fields(StabilizeConf)}
    assert names - set(ON) - {name for _, name, _ in DEPENDENT} == {"warmup_epochs", "skip_dropout"}


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError, match="perturb"):
        StabilizeConf().perturb = "random"  # type: ignore[misc]  # what the test is about


# ------------------------------------------------------------------------------------------------------ files and flags


@st.composite
def stabilized(draw: st.DrawFn, /, **given: st.SearchStrategy[Any]) -> StabilizeConf:
    """Settings of switches that are off are left out."""
    values = {name: draw(strategy) for name, strategy in given.items()}
    idle = {name for switch, name, _ in DEPENDENT if values[switch] == "none"}
    return StabilizeConf(**{name: value for name, value in values.items() if name not in idle})


SETTINGS = stabilized(
    warmup_epochs=st.none() | st.integers(0, 9),
    skip_dropout=st.floats(0, 0.99),
    perturb=st.sampled_from(["none", "random", "adversarial"]),
    perturb_radius=st.floats(1e-6, 1.0),
    perturb_steps=st.integers(1, 20),
    eigenvalue=st.sampled_from(["none", "warn", "stop"]),
    eigenvalue_ratio=st.floats(0.01, 0.99),
    eigenvalue_window=st.integers(1, 9),
    eigenvalue_lag=st.integers(1, 9),
    skip_limit=st.sampled_from(["none", "warn", "stop"]),
    max_skips=st.integers(0, 9),
    skip_limit_from=st.integers(1, 50),
)


@given(stabilize=SETTINGS)
@settings(max_examples=15, deadline=None, derandomize=True)
def test_yaml_round_trip(stabilize: StabilizeConf) -> None:
    conf = RunConf(search=SearchConf(stabilize=stabilize))
    assert from_yaml(to_yaml(conf)) == conf


def test_a_part_in_yaml_leaves_the_rest_as_it_is() -> None:
    conf = from_yaml("search: {stabilize: {skip_limit: stop}}")
    assert conf == RunConf(search=SearchConf(stabilize=StabilizeConf(skip_limit="stop")))
    assert from_yaml("search: {stabilize: {eigenvalue: none, skip_limit: none}}") == RunConf()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("search: {stabilize: {skip_dropuot: 0.1}}", r"unknown key 'search.stabilize.skip_dropuot'.*'skip_dropout'"),
        ("search: {stabilise: {skip_dropout: 0.1}}", r"unknown key 'search.stabilise'.*'stabilize'"),
        ("search: {stabilize: 3}", "search.stabilize must be a mapping of settings, got 3"),
        ("search: {stabilize: {perturb: maybe}}", r"search.stabilize.perturb must be one of 'none', ?'random'"),
        ("search: {stabilize: {warmup_epochs: soon}}", "search.stabilize.warmup_epochs must be a whole number"),
        ("search: {stabilize: {skip_limit: warn, max_skips: -1}}", "max_skips must be at least 0, got -1"),
        ("search: {stabilize: {max_skips: 2}}", "max_skips has no effect while skip_limit is 'none'"),
        ("search: {stabilize: {perturb: none, perturb_steps: 2}}", "perturb_steps has no effect while perturb is"),
        ("retrain: {stabilize: {max_skips: 1}}", "unknown key 'retrain.stabilize'"),
    ],
)
def test_wrong_settings_in_a_file_are_named(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        from_yaml(text)


class Captured(Exception):  # noqa: N818 - a signal of these tests
    def __init__(self, conf: RunConf) -> None:
        self.conf = conf


@pytest.fixture
def nothing_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(conf: RunConf, **_: object) -> None:
        raise Captured(conf)

    monkeypatch.setattr(api, "run", stop)


def test_flags_reach_the_settings(nothing_starts: None) -> None:
    flags = {"skip_dropout": "0.25", "perturb": "adversarial", "eigenvalue": "none", "skip_limit": "warn"}
    flags |= {"warmup_epochs": "2", "max_skips": "0"}
    with pytest.raises(Captured) as caught:
        main(["run", "--preset", "demo", *(part for k, v in flags.items() for part in (f"--search.stabilize.{k}", v))])
    expected = StabilizeConf(skip_dropout=0.25, perturb="adversarial", skip_limit="warn", warmup_epochs=2, max_skips=0)
    assert caught.value.conf.search.stabilize == expected


def test_unknown_flag_names_the_nearest(nothing_starts: None, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "--preset", "demo", "--search.stabilize.skip_limmit", "warn"]) != 0
    assert "search.stabilize.skip_limit" in capsys.readouterr().err
