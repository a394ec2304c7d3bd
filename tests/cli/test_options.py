"""Options: what reaches the library, and how wrong ones are refused."""

from pathlib import Path
from typing import Any

import pytest

from gradnas import api
from gradnas.config import RunConf, from_stored, load_preset, preset_names, to_stored


class Captured(Exception):  # noqa: N818 - a signal of these tests
    def __init__(self, conf: RunConf) -> None:
        self.conf = conf


@pytest.fixture(autouse=True)
def nothing_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    """A command line that should have been refused must not train for hours."""

    def stop(conf: RunConf, **_: object) -> None:
        raise Captured(conf)

    monkeypatch.setattr(api, "run", stop)


@pytest.fixture
def resolve(gradnas: Any) -> Any:
    """The configuration that a command line hands to gradnas.run, which is not started."""

    def call(*argv: object) -> RunConf:
        with pytest.raises(Captured) as caught:
            gradnas(*argv)
        return caught.value.conf

    return call


# ---------------------------------------------------------------------------------------------------------- precedence


def test_a_preset_alone_is_the_preset(resolve: Any) -> None:
    assert resolve("run", "--preset", "demo") == load_preset("demo")


@pytest.mark.parametrize("order", [("--config", "my.yaml", "--seed", "7"), ("--seed", "7", "--config", "my.yaml")])
def test_options_win_over_the_file_and_the_file_over_the_preset(
    resolve: Any, tmp_path: Path, order: tuple[str, ...]
) -> None:
    (tmp_path / "my.yaml").write_text("seed: 5\nsearch: {epochs: 3}\n")
    conf = resolve("run", "--preset", "demo", *order)
    assert (conf.seed, conf.search.epochs) == (7, 3)
    assert conf.search.optimizer == load_preset("demo").search.optimizer
    assert conf.retrain == load_preset("demo").retrain


def test_a_file_alone_starts_from_the_defaults(resolve: Any, tmp_path: Path) -> None:
    (tmp_path / "my.yaml").write_text("search: {optimizer: {lr: 1e-1}}\n")
    conf = resolve("run", "--config", "my.yaml")
    assert conf.search.optimizer.lr == 0.1
    assert conf.data == RunConf().data
    assert conf.retrain == RunConf().retrain


def test_search_without_anything_takes_the_defaults(resolve: Any) -> None:
    assert resolve("search") == RunConf()


def test_search_leaves_out_retraining_and_baseline_of_a_preset(resolve: Any) -> None:
    demo, conf = load_preset("demo"), resolve("search", "--preset", "demo")
    assert demo.retrain.epochs > 0
    assert demo.baseline.samples > 0
    assert (conf.retrain.epochs, conf.baseline.samples) == (0, 0)
    assert conf.search == demo.search


def test_nested_keys_reach_their_place(resolve: Any) -> None:
    conf = resolve(
        *("run", "--preset", "demo", "--search.epochs", "5", "--search.optimizer.lr", "1e-1", "--retrain.cutout=4"),
        *("--device", "cpu", "--search.max_steps_per_epoch", "null", "--search.precision", "bfloat16"),
    )
    assert (conf.search.epochs, conf.search.optimizer.lr, conf.retrain.cutout) == (5, 0.1, 4)
    assert (conf.device, conf.search.max_steps_per_epoch, conf.search.precision) == ("cpu", None, "bfloat16")


# ------------------------------------------------------------------------------------------------------- short forms


def test_short_forms_of_run(resolve: Any) -> None:
    conf = resolve("run", "--preset", "demo", "--data", "my set.zip", "--max-steps", "2", "--strategy=random")
    assert conf.data.source == "my set.zip"
    assert (conf.search.max_steps_per_epoch, conf.retrain.max_steps_per_epoch) == (2, 2)
    assert conf.strategy.name == "random"


def test_short_forms_of_search(resolve: Any) -> None:
    conf = resolve(
        *("search", "--space", "darts", "--strategy", "darts", "--data", "set.npz", "--epochs", "9", "--max-steps=3")
    )
    assert (conf.space.name, conf.strategy.name, conf.data.source) == ("darts", "darts", "set.npz")
    assert (conf.search.epochs, conf.search.max_steps_per_epoch) == (9, 3)


@pytest.mark.parametrize("option", ["--max-time", "--max_time"])
@pytest.mark.parametrize(("text", "limit"), [("90m", "90m"), ("1h30m", "1h30m"), ("3600", 3600), ("2.5", 2.5)])
def test_a_limit_of_time_is_a_duration_or_seconds(resolve: Any, option: str, text: str, limit: str | float) -> None:
    conf = resolve("search", option, text)
    assert conf.max_time in (limit, str(limit))
    assert from_stored(to_stored(conf), "config.yaml") == conf


@pytest.mark.parametrize(
    ("text", "limit"), [("3600", 3600), ("'3600'", "3600"), ("1h30m", "1h30m"), ("1.5e-5", 1.5e-5), ("1e16", 1e16)]
)
def test_a_limit_of_time_in_a_file(resolve: Any, tmp_path: Path, text: str, limit: str | float) -> None:
    (tmp_path / "mine.yaml").write_text(f"max_time: {text}\n")
    conf = resolve("search", "--config", tmp_path / "mine.yaml")
    assert conf.max_time == limit
    assert from_stored(to_stored(conf), "config.yaml") == conf


def test_a_value_may_hold_an_equals_sign_and_look_like_a_number(resolve: Any) -> None:
    assert resolve("search", "--data=a=b").data.source == "a=b"
    assert resolve("search", "--data", "123").data.source == "123"


# ----------------------------------------------------------------------------------------------------------- options


def test_options_of_a_space_join_those_of_the_preset(resolve: Any) -> None:
    conf = resolve("run", "--preset", "demo", "--space.options.channels", "4", "--strategy.options.lr", "1e-4")
    demo = load_preset("demo")
    assert len(demo.space.options) > 1
    assert conf.space.options == {**demo.space.options, "channels": 4}
    assert conf.strategy.options == {**demo.strategy.options, "lr": 1e-4}


def test_options_of_another_strategy_do_not_stay(resolve: Any) -> None:
    conf = resolve("run", "--preset", "demo", "--strategy", "random", "--strategy.options.samples", "2")
    assert conf.strategy.options == {"samples": 2}
    assert conf.space.options == load_preset("demo").space.options


def test_naming_the_same_strategy_keeps_its_options(resolve: Any) -> None:
    assert resolve("run", "--preset", "demo", "--strategy", "darts") == load_preset("demo")


def test_a_list_is_an_option_too(resolve: Any) -> None:
    conf = resolve("search", "--strategy.options.betas", "[0.5, 0.9]", "--space.options", "{nodes: 2}")
    assert conf.strategy.options == {"betas": [0.5, 0.9]}
    assert conf.space.options == {"nodes": 2}


def test_an_optimizer_by_class_path_takes_its_own_options(resolve: Any) -> None:
    given = ("--optimizer.name", "torch.optim.RMSprop", "--optimizer.options.alpha", "0.9")
    conf = resolve("run", "--preset", "demo", *(word.replace("--", "--retrain.") for word in given))
    assert (conf.retrain.optimizer.name, conf.retrain.optimizer.options) == ("torch.optim.RMSprop", {"alpha": 0.9})
    assert load_preset("demo").retrain.optimizer.nesterov
    assert not conf.retrain.optimizer.nesterov  # a setting of the optimizer below
    assert conf.retrain.optimizer.lr == load_preset("demo").retrain.optimizer.lr


# ------------------------------------------------------------------------------------------------------- wrong usage


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ("run --preset demo --search.epoch 5", "unknown option --search.epoch. Did you mean --search.epochs?"),
        ("run --preset demo --search.ep 5", "unknown option --search.ep."),  # no abbreviations
        ("run --preset demo --batch-size 5", "Did you mean --search.batch_size or --retrain.batch_size?"),
        ("run --preset demo --search.batch-size=5", "Did you mean --search.batch_size?"),
        ("run --preset demo --space.option.cells 5", "Did you mean --space.options?"),
        ("run --preset demo --sed 5", "unknown option --sed. Did you mean --seed?"),
        ("run --preset demo --search.optimizer 5", "unknown option --search.optimizer."),
        ("run --preset demo --xqzvw 5", "unknown option --xqzvw. See `gradnas run --help`."),
        ("run --preset demo -o x", "unknown option -o."),
        ("search --retrain.epochs 5", "unknown option --retrain.epochs."),
        ("retrain x --batchsize 5", "unknown option --batchsize. Did you mean --batch_size?"),
        ("retrain x --search.epochs 5", "unknown option --search.epochs. Did you mean --epochs?"),
        ("resume x --epochs 5", "unknown option --epochs. See `gradnas resume --help`."),
        ("run --preset dmo", "unknown preset 'dmo'. Did you mean 'demo'?"),
        ("run", f"gradnas run needs --preset NAME ({', '.join(preset_names())}) or --config FILE."),
        ("run --preset", "option --preset needs a value."),
        ("run --data", "option --data needs a value."),
        ("run --data --preset demo", "option --data needs a value."),
        ("run --preset demo --search.epochs five", "option --search.epochs must be a whole number, got 'five'."),
        ("run --preset demo --search.epochs 1.5", "option --search.epochs must be a whole number, got '1.5'."),
        ("run --preset demo --data.image_size big", "--data.image_size must be a whole number or null, got 'big'."),
        ("search --max-steps x", "option --search.max_steps_per_epoch must be a whole number or null, got 'x'."),
        ("search --search.precision half", "--search.precision must be one of 'float32', 'bfloat16', got 'half'."),
        ("search --space.options 3", "option --space.options must be"),
        ("search darts", "unexpected argument 'darts'. See `gradnas search --help`."),
        ("retrain", "gradnas retrain needs FOLDER. Usage: gradnas retrain FOLDER"),
        ("resume a b", "unexpected argument 'b'."),
        ("list", "gradnas list needs KIND. Usage: gradnas list spaces|strategies|models|datasets|presets|ops"),
    ],
)
def test_a_wrong_command_line_ends_with_code_2_and_one_line(gradnas: Any, argv: str, message: str) -> None:
    outcome = gradnas(*argv.split(" "))
    assert outcome.code == 2
    assert outcome.out == ""
    assert message in outcome.err
    assert outcome.err.startswith("gradnas: error: ")
    assert outcome.err.count("\n") == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("search: {epoch: 3}", "my.yaml: unknown key 'search.epoch'. Did you mean 'epochs'?"),
        ("serch: {epochs: 3}", "my.yaml: unknown key 'serch'. Did you mean 'search'?"),
        ("search: {epochs: x}", "my.yaml: search.epochs must be a whole number, got 'x'."),
        ("search: {epochs: 0}", "my.yaml: search: epochs of the search must be at least 1, got 0."),
        ("search: [", "my.yaml is not YAML: "),
        ("3", "my.yaml must be a mapping of settings, got int."),
    ],
)
def test_a_wrong_file_ends_with_code_1_and_one_line(gradnas: Any, tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "my.yaml").write_text(text)
    outcome = gradnas("run", "--config", "my.yaml")
    assert (outcome.code, outcome.out) == (1, "")
    assert outcome.err.startswith(f"gradnas: error: {message}")
    assert outcome.err.count("\n") == 1


def test_a_missing_file_is_named(gradnas: Any) -> None:
    outcome = gradnas("run", "--config", "no.yaml")
    assert (outcome.code, outcome.err) == (1, "gradnas: error: no configuration at no.yaml.\n")


def test_a_value_out_of_range_says_where_it_came_from(gradnas: Any) -> None:
    outcome = gradnas("run", "--preset", "demo", "--search.epochs", "-3")
    assert outcome.code == 1
    assert outcome.err == "gradnas: error: preset demo + options: search: epochs must be at least 0, got -3.\n"


# --------------------------------------------------------------------------------------------------------------- help


def test_help_of_run_shows_defaults_and_the_text_of_the_settings(gradnas: Any) -> None:
    outcome = gradnas("run", "--help")
    text = " ".join(outcome.out.split())
    assert outcome.code == 0
    assert "--search.epochs EPOCHS Passes over the training set" in text
    assert "(type: float, default: 0.001)" in text
    assert "--search.optimizer.lr_min LR_MIN Where cosine and OneCycle end" in text
    assert "--retrain.channels CHANNELS Channels of a node in its first cells. (type: int, default: 36)" in text
    assert "--data SOURCE Short for --data.source." in text
    assert "--space NAME Short for --space.name." in text
    listed = text.replace("- ", "-")  # a line may break after a hyphen
    assert ", ".join(preset_names()) in listed
    assert "--search CONFIG" not in text
    assert "``" not in text


def test_help_of_search_has_no_options_of_retraining(gradnas: Any) -> None:
    text = gradnas("search", "--help").out
    assert "--epochs N" in text
    assert "--search.val_ratio" in text
    assert "--retrain" not in text
    assert "--baseline" not in text


def test_help_of_retrain_shows_its_defaults(gradnas: Any) -> None:
    text = " ".join(gradnas("retrain", "-h").out.split())
    assert "(type: int, default: 600)" in text
    assert "--optimizer.lr LR Learning rate at its highest. (type: float, default: 0.025)" in text


@pytest.mark.parametrize("command", ["resume", "report", "draw", "list"])
def test_help_of_a_small_command_says_its_usage(gradnas: Any, command: str) -> None:
    outcome = gradnas(command, "--help")
    assert outcome.code == 0
    assert outcome.out.startswith(f"usage: gradnas {command} ")
