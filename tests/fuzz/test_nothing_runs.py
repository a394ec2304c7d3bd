"""Reading a run folder imports nothing that its configuration names."""

import sys
from pathlib import Path

import gradnas as gn
from gradnas.config import from_yaml, to_stored
from gradnas.report import write_report


def test_a_class_path_is_imported_by_a_run_alone(write_run, tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "trap.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    folder = write_run("a")
    conf = from_yaml("space: {name: trap.Space}\nstrategy: {name: trap.Strategy}\n")
    assert conf.space.name == "trap.Space"
    (folder / "config.yaml").write_text(to_stored(conf))
    write_report(folder)
    gn.compare([folder])
    assert gn.load(folder).config == conf
    assert "trap" not in sys.modules
