"""Links in the documentation lead somewhere, and no file ties the project to one machine or one package registry."""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [
    page
    for page in [
        *(ROOT / f"{name}.md" for name in ("README", "CONTRIBUTING", "CHANGELOG")),
        *(ROOT / "docs").rglob("*.md"),
    ]
    if page.exists()
]
CODE = re.compile(r"^(\s*)(```+|~~~+).*?^\s*\2[`~]*\s*$|`[^`\n]*`", re.DOTALL | re.MULTILINE)
LINK = re.compile(
    r"\]\(<?(?P<inline>[^)\s>]+)>?(?:\s+[\"'][^)]*)?\)"  # [text](target "title"), ![image](target)
    r"|^\s*\[[^\]]+\]:\s*<?(?P<reference>[^\s>]+)"  # [name]: target
    r"|\b(?:src|href|srcset)=[\"'](?P<html>[^\"']+)[\"']",
    re.MULTILINE,
)
EXTERNAL = re.compile(r"^(?:[a-z][a-z0-9+.-]*:|//|#)", re.IGNORECASE)

# Split so that this file does not name what it forbids.
HOSTS = ["pypi" + ".org", "pythonhosted" + ".org", "anaconda" + ".org", "download.pytorch" + ".org"]
REGISTRY = re.compile("|".join(map(re.escape, HOSTS)))
MACHINE_PATH = re.compile(r"(?<![\w./:~$}>-])/(?:work|root|home|Users|opt|tmp|mnt|scratch)/\w")


def targets(text: str) -> list[str]:
    """The relative targets that a page links to, without their fragments."""
    found = [match["inline"] or match["reference"] or match["html"] for match in LINK.finditer(CODE.sub("", text))]
    return [target.split("#")[0].split("?")[0] for target in found if not EXTERNAL.match(target)]


def own_files() -> list[Path]:
    """The files that belong to the project: tracked ones, and new ones that git does not ignore."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    try:
        listed = subprocess.run(command, cwd=ROOT, capture_output=True, check=True, text=True).stdout
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("not a git checkout, so what belongs to the project is unknown")
    return [ROOT / name for name in listed.split("\0") if name and (ROOT / name).is_file()]


def offences(text: str) -> list[str]:
    """Every registry host and machine path in a text, with its line number."""
    return [
        f"{number}: {found[0]!r} in {line.strip()[:100]!r}"
        for number, line in enumerate(text.splitlines(), start=1)
        for pattern in (REGISTRY, MACHINE_PATH)
        if (found := pattern.search(line))
    ]


@pytest.mark.parametrize("page", [pytest.param(page, id=page.relative_to(ROOT).as_posix()) for page in PAGES])
def test_relative_links_lead_to_files(page: Path) -> None:
    missing = [target for target in targets(page.read_text(encoding="utf-8")) if not (page.parent / target).exists()]
    assert not missing, f"{page.relative_to(ROOT)} links to files that do not exist: {missing}"


def test_no_file_names_a_registry_or_a_machine_path() -> None:
    found = []
    for file in own_files():
        try:
            text = file.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue  # an image or a tensor file
        found += [f"{file.relative_to(ROOT)}:{offence}" for offence in offences(text)]
    assert not found, "\n".join(found)


def test_every_kind_of_link_is_found() -> None:
    text = """
[a](docs/a.md) ![b](b.svg "title") [c](c.md#part) [d](https://example.com/d) [e](#here) <img src="f.png">
[g]: g.md
`[h](h.md)`

```text
[i](i.md)
```
[j](j.md)
"""
    assert targets(text) == ["docs/a.md", "b.svg", "c.md", "f.png", "g.md", "j.md"]


@pytest.mark.parametrize(
    "text", [*(f"see https://{host}/x" for host in HOSTS), 'open("/hom' + 'e/me/x")', "/wor" + "k/a"]
)
def test_registries_and_machine_paths_are_offences(text: str) -> None:
    assert len(offences(text)) == 1


@pytest.mark.parametrize(
    "text", ["example.com/home/me", "docs/work/x", "$ROOT/tmp/x", "/usr/bin/env", "#!/usr/bin/env bash"]
)
def test_ordinary_text_is_no_offence(text: str) -> None:
    assert offences(text) == []
