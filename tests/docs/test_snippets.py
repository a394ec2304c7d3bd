"""Executes the documentation: every ``python`` and ``console`` block of README.md and docs/, page by page.

The blocks of one page share a namespace and a temporary working folder and run in order. Warnings are errors, as in
every other test. Of a ``console`` block the lines beginning with ``$ gradnas`` run, inside this process. A block that
must not run says why: ``<!-- not run: reason -->`` directly above it, and ``no-run`` after ``python``.
"""

import glob
import importlib
import re
import shlex
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import pytest
import torch

ROOT = Path(__file__).parents[2]
PAGES = [
    page
    for page in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
    if page.exists()
]

FENCE = re.compile(r"^(?P<indent>\s*)(?P<marks>`{3,}|~{3,})(?P<info>.*)$")
REASON = re.compile(r"^\s*<!--\s*not run:(?P<reason>.*?)-->\s*$")
ESCAPES = {"py": "python", "python3": "python", "pycon": "python", "ipython": "python"} | dict.fromkeys(
    ["bash", "sh", "shell", "shell-session"], "console"
)


@dataclass(frozen=True)
class Block:
    """A fenced block: ``line`` is the page line of its fence, counted from 1; ``reason`` why it is not run."""

    line: int
    info: str
    code: str
    reason: str | None


def blocks(text: str) -> Iterator[Block]:
    """The fenced blocks of a page, in order."""
    lines = text.splitlines()
    at = 0
    while at < len(lines):
        opening = FENCE.match(lines[at])
        if opening is None:
            at += 1
            continue
        closing = re.compile(rf"^\s*{re.escape(opening['marks'])}{opening['marks'][0]}*\s*$")
        end = next((n for n in range(at + 1, len(lines)) if closing.match(lines[n])), None)
        if end is None:
            raise ValueError(f"line {at + 1}: the fenced block is never closed")
        comment = REASON.match(lines[at - 1]) if at else None
        indent = len(opening["indent"])
        code = "".join(line[min(indent, len(line) - len(line.lstrip())) :] + "\n" for line in lines[at + 1 : end])
        yield Block(at + 1, opening["info"].strip(), code, comment["reason"].strip() if comment else None)
        at = end + 1


def runs(block: Block) -> bool:
    """Whether a block is to be executed; a block that escapes execution without saying why is an error."""
    language, *options = block.info.split() or [""]
    if language in ESCAPES and block.reason is None:
        raise ValueError(f"line {block.line}: call the block {ESCAPES[language]!r}, so that it is executed")
    if language == "python" and options not in ([], ["no-run"]):
        raise ValueError(f"line {block.line}: unknown option {' '.join(options)!r}; the only one is no-run")
    if block.reason == "":
        raise ValueError(f"line {block.line}: the comment above the block gives no reason")
    if language == "python" and (block.reason is not None) != bool(options):
        raise ValueError(
            f"line {block.line}: a block that is not run is headed ```python no-run and has the comment "
            "<!-- not run: reason --> directly above it; one of the two is missing"
        )
    return language in ("python", "console") and block.reason is None


def commands(block: Block) -> Iterator[tuple[int, list[str]]]:
    """Page line and arguments of every ``$ gradnas`` command; a backslash continues a line, ``*`` matches files."""
    first, command = 0, ""
    for number, text in enumerate(block.code.splitlines(), start=block.line + 1):
        if not command and not text.startswith("$ gradnas"):
            continue
        first = first if command else number
        command += text.removeprefix("$ ") if not command else " " + text.removeprefix(">").strip()
        if command.endswith("\\"):
            command = command[:-1]
            continue
        words = list(shlex.shlex(command, posix=True, punctuation_chars=True))
        if set(words) & {"|", "||", "&", "&&", ";", "<", ">", ">>"}:
            raise ValueError(f"line {first}: only plain commands are executed, no pipes or redirections: {command}")
        yield first, [match for word in shlex.split(command, comments=True)[1:] for match in expanded(word)]
        command = ""
    if command:
        raise ValueError(f"line {first}: the command is continued but the block ends")


def expanded(word: str) -> list[str]:
    """What a shell makes of a word with wildcards: the files that match, or the word where none does."""
    return (sorted(glob.glob(word)) or [word]) if glob.has_magic(word) else [word]


def execute(page: Path, namespace: dict[str, object]) -> None:
    """Run the blocks of one page; a failure names the page and the line."""
    for block in blocks(page.read_text(encoding="utf-8")):
        if not runs(block):
            continue
        if block.info == "python":
            # Leading empty lines make the line numbers of the traceback those of the page.
            exec(compile("\n" * block.line + block.code, str(page), "exec"), namespace)
            continue
        for line, arguments in commands(block):
            try:
                status = importlib.import_module("gradnas.cli").main(arguments)
            except SystemExit as leaving:
                status = leaving.code
            except Exception as error:
                error.add_note(f"{page}:{line}: gradnas {shlex.join(arguments)}")
                raise
            if status not in (None, 0):
                raise RuntimeError(f"{page}:{line}: gradnas {shlex.join(arguments)}: exit status {status}")


@pytest.fixture
def namespace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, object]]:
    """An importable module's namespace in an empty working folder; the global random state is put back."""
    module = ModuleType("page")
    monkeypatch.setitem(sys.modules, "page", module)  # dataclasses and pickling look their module up
    monkeypatch.setenv("MPLBACKEND", "Agg")
    monkeypatch.chdir(tmp_path)
    with torch.random.fork_rng(devices=[]):
        yield vars(module)


@pytest.mark.parametrize("page", [pytest.param(page, id=page.relative_to(ROOT).as_posix()) for page in PAGES])
def test_page(page: Path, namespace: dict[str, object]) -> None:
    execute(page, namespace)


# The rest tests the runner itself, on pages written here.


@pytest.fixture
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("pages") / "page.md"


def fenced(info: str, *lines: str) -> str:
    return "\n".join([f"```{info}", *lines, "```", ""])


@pytest.fixture
def called(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The argument lists that a stand-in for the command line receives; ``fail`` makes it fail."""
    calls: list[list[str]] = []

    def main(arguments: list[str]) -> int:
        calls.append(arguments)
        return 2 if "fail" in arguments else 0

    cli = ModuleType("gradnas.cli")
    cli.main = main
    monkeypatch.setitem(sys.modules, "gradnas.cli", cli)
    return calls


def test_blocks_share_a_namespace_and_run_in_order(page: Path, namespace: dict[str, object]) -> None:
    page.write_text(fenced("python", "x = 1") + "\nText.\n" + fenced("python", "x += 1"))
    execute(page, namespace)
    assert namespace["x"] == 2


def test_a_block_in_a_list_is_dedented(page: Path, namespace: dict[str, object]) -> None:
    page.write_text("1. Step:\n\n   ```python\n   if True:\n       x = 5\n   ```\n")
    execute(page, namespace)
    assert namespace["x"] == 5


def test_a_block_shown_inside_a_longer_fence_is_text(page: Path, namespace: dict[str, object]) -> None:
    page.write_text("````text\n```python\nraise ValueError\n```\n````\n")
    execute(page, namespace)


def test_a_failure_names_page_and_line(page: Path, namespace: dict[str, object]) -> None:
    page.write_text("Title\n\n" + fenced("python", "x = 1", "x / 0"))
    with pytest.raises(ZeroDivisionError) as caught:
        execute(page, namespace)
    assert (caught.traceback[-1].path, caught.traceback[-1].lineno + 1) == (page, 5)


def test_a_warning_is_a_failure(page: Path, namespace: dict[str, object]) -> None:
    page.write_text(fenced("python", "import warnings", "warnings.warn('old', DeprecationWarning)"))
    with pytest.raises(DeprecationWarning, match="old"):
        execute(page, namespace)


def test_dataclasses_work_in_a_page(page: Path, namespace: dict[str, object]) -> None:
    page.write_text(fenced("python", "from dataclasses import dataclass", "@dataclass", "class A:", "    x: 'int' = 3"))
    execute(page, namespace)


def test_no_run_with_a_reason_is_not_run(page: Path, namespace: dict[str, object]) -> None:
    page.write_text("<!-- not run: takes a day -->\n" + fenced("python no-run", "raise ValueError"))
    execute(page, namespace)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (fenced("python no-run", "1"), r"line 1: .*one of the two is missing"),
        ("<!-- not run: slow -->\n" + fenced("python", "1"), r"line 2: .*one of the two is missing"),
        ("<!-- not run: -->\n" + fenced("python no-run", "1"), r"line 2: .*gives no reason"),
        ("<!-- not run: -->\n" + fenced("console", "$ gradnas list"), r"line 2: .*gives no reason"),
        (fenced("python norun", "1"), r"unknown option 'norun'"),
        (fenced("py", "1"), r"line 1: call the block 'python'"),
        (fenced("bash", "gradnas list"), r"line 1: call the block 'console'"),
        ("```python\nx = 1\n", r"line 1: .*never closed"),
        (fenced("console", "$ gradnas list | head"), r"line 2: only plain commands"),
        (fenced("console", "$ gradnas list \\"), r"line 2: the command is continued"),
    ],
)
def test_escaping_execution_silently_is_an_error(
    page: Path, namespace: dict[str, object], called: list[list[str]], text: str, message: str
) -> None:
    page.write_text(text)
    with pytest.raises(ValueError, match=message):
        execute(page, namespace)
    assert called == []


def test_commands_run_with_their_arguments(page: Path, namespace: dict[str, object], called: list[list[str]]) -> None:
    Path("runs").mkdir()
    Path("runs/b").touch()
    Path("runs/a").touch()
    page.write_text(
        fenced(
            "console", "$ pip install x", "$ gradnas run --out 'a b'  # comment", "output", "$ gradnas compare runs/*"
        )
        + fenced("console", "$ gradnas search \\", "    --seed 1")
    )
    execute(page, namespace)
    assert called == [["run", "--out", "a b"], ["compare", "runs/a", "runs/b"], ["search", "--seed", "1"]]


def test_a_failing_command_names_page_and_line(
    page: Path, namespace: dict[str, object], called: list[list[str]]
) -> None:
    page.write_text(fenced("console", "$ gradnas list", "$ gradnas fail"))
    with pytest.raises(RuntimeError, match=r"page\.md:3: gradnas fail: exit status 2"):
        execute(page, namespace)
    assert called == [["list"], ["fail"]]


def test_a_command_with_a_reason_is_not_run(page: Path, namespace: dict[str, object], called: list[list[str]]) -> None:
    page.write_text("<!-- not run: needs a GPU -->\n" + fenced("console", "$ gradnas run"))
    execute(page, namespace)
    assert called == []
