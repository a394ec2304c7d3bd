"""Tests of ``page.py`` and the sections of the report."""

import base64
import hashlib
import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import pytest

from gradnas.report import write_report

FILES = (
    "config.yaml",
    "environment.json",
    "metrics.jsonl",
    "alphas.jsonl",
    "arch.json",
    "full_arch.json",
    "baseline/arch.json",
    "summary.json",
)
VOID = {"meta", "br", "hr", "img", "link", "input"}


class Page(HTMLParser):
    """Elements, attributes and text of a page; complains when elements are not closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.source = text
        self.open: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.ids: list[str] = []
        self.words = ""
        self.scripts: list[str] = []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        self.ids += [value or "" for name, value in attrs if name == "id"]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open[-1:] == ["script"]:
            self.scripts.append(data)
        elif "style" not in self.open[-1:]:
            self.words += data


def page_of(folder: Path) -> Page:
    return Page(write_report(folder).read_text(encoding="utf-8"))


def change_summary(folder: Path, **changes: object) -> None:
    path = folder / "summary.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_finished_run_has_every_section_and_its_numbers(run: Path) -> None:
    page = page_of(run)
    sections = {"result", "architecture", "search", "curves", "classes", "baseline", "reproduce"}
    assert sections <= set(page.ids)
    assert "problems" not in page.ids
    for words in (
        "97.21 %",
        "95 % interval 96.87–97.52; 10,000 test images",
        "96.58 %",
        "+0.63 points",
        "3.35 M",
        "530 M",
        "1 MAC = 2 FLOPs; convolutions and linear layers of one image",
        "2 h 15 min",
        "gradnas run --preset darts-cifar10 --seed 0 --out runs/darts",
        "name: darts",
        "most often taken for",
    ):
        assert words in page.words, words


def test_page_loads_nothing_and_its_policy_allows_its_own_script_only(run: Path) -> None:
    page = page_of(run)
    assert not {"link", "img", "iframe", "object", "embed", "base", "image", "use"} & set(page.tags)
    assert not [n for n, _ in page.attributes if n.startswith("on") or n in ("src", "href", "xlink:href", "srcset")]
    assert "http" not in page.source.replace('xmlns="http://www.w3.org/2000/svg"', "").replace("http-equiv", "")
    assert "url(" not in page.source
    assert "@import" not in page.source
    (script,) = page.scripts
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
    assert ("content", policy) in page.attributes
    assert "its one script moves the slider" in page.words


def test_without_a_search_to_show_there_is_no_script(run: Path) -> None:
    (run / "alphas.jsonl").unlink()
    page = page_of(run)
    assert "script" not in page.tags
    assert ("content", "default-src 'none'; style-src 'unsafe-inline'; script-src 'none'") in page.attributes
    assert "The page loads nothing and runs nothing." in page.words


def test_phases_come_in_the_order_in_which_they_run(run: Path) -> None:
    path = run / "metrics.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    extra = json.dumps({"phase": "warm-up <b>", "epoch": 0, "train": {"loss": 1.0}, "val": None}) + "\n"
    path.write_text(extra + "".join(reversed(lines)))
    page = page_of(run)
    titles = ["Search", "Retraining of the found network", "Retraining of the random baseline", "warm-up <b>"]
    curves = page.words[page.words.index("Curves") :]
    places = [curves.index(f"\n{title}\n") for title in titles]
    assert places == sorted(places)


def test_curves_of_the_baseline_are_folded_and_named(run: Path) -> None:
    path = run / "metrics.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    more = [line | {"phase": f"baseline_search_{k}"} for k in (10, 9, 0) for line in lines if line["phase"] == "search"]
    path.write_text("".join(json.dumps(line) + "\n" for line in [*more, *lines]))
    page = page_of(run)
    folds = [
        fold.strip() for fold in re.findall(r'<details class="secondary"><summary>\n(.*?)</summary>', page.source, re.S)
    ]
    assert folds == [
        *(f"Short training of random architecture {k}" for k in (1, 10, 11)),
        "Retraining of the random baseline",
    ]
    assert page.words.index("Retraining of the found network") < page.words.index(folds[0])


def test_curve_has_one_point_per_epoch_and_gaps_where_the_loss_is_not_a_number(run: Path) -> None:
    records = [
        {"phase": "search", "epoch": e, "train": {"loss": float("nan") if e == 2 else 1.0 + e, "top1": 10.0 * e}}
        for e in range(5)
    ]
    records.append({"phase": "search", "epoch": 4, "train": {"loss": 9.0, "top1": 50.0}})  # resumed: counts once
    (run / "metrics.jsonl").write_text("".join(json.dumps(r) + "\n" for r in records))
    page = page_of(run)
    assert re.findall(r'class="curve" data-name="train" data-points="(\d+)"', page.source) == ["4", "5"]
    assert "train 9" in page.words
    assert "5 epochs. 1 epoch" in page.words
    assert "1 epoch has a training loss that is not a finite number" in page.words


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_a_missing_section_and_no_error(run: Path, name: str) -> None:
    (run / name).unlink()
    page = page_of(run)
    assert "problems" not in page.ids
    said = {
        "config.yaml": "There is no config.yaml",
        "environment.json": "no readable environment.json",
        "metrics.jsonl": "no readable metrics.jsonl",
        "alphas.jsonl": "no readable alphas.jsonl",
        "arch.json": "no readable arch.json",
        "full_arch.json": "has not been grown for retraining",
        "summary.json": "there is no test accuracy yet",
    }
    if name in said:
        assert said[name] in page.words
    else:
        assert "baseline" not in page.ids


@pytest.mark.parametrize("name", FILES)
def test_a_damaged_file_is_named_and_the_rest_shown(run: Path, name: str) -> None:
    (run / name).write_bytes(b"\x00\xff{")
    page = page_of(run)
    assert ("problems" in page.ids) is (name != "config.yaml")  # any text is a configuration worth showing
    assert name == "config.yaml" or name in page.words


@pytest.mark.parametrize("content", [b"", b"[1, 2", b"[[]]", b"null\n", b'{"a": 1}\n', b"[" * 100_000])
def test_no_damage_stops_the_report(run: Path, content: bytes) -> None:
    for name in FILES:
        (run / name).write_bytes(content)
    page = page_of(run)
    damaged = [name for name in FILES if name.endswith(("jsonl", "arch.json"))] if content.strip() else []
    assert all(name in page.words for name in damaged)
    assert "This run has no result yet." in page.words


def test_damaged_lines_are_named_and_the_others_used(run: Path) -> None:
    path = run / "metrics.jsonl"
    lines = path.read_text().splitlines()
    lines[3] = lines[3][:20]
    path.write_text("\n".join(lines) + '\n{"phase": "retr')
    page = page_of(run)
    assert "metrics.jsonl, line 4 is not JSON; the line is left out here." in page.words
    assert f"metrics.jsonl, line {len(lines) + 1} is incomplete; the run was interrupted while writing it" in page.words
    assert "11 epochs" in page.words  # of the search, which had twelve


def test_wrong_kinds_inside_good_json_are_ignored(run: Path) -> None:
    change_summary(
        run,
        test_accuracy="97",
        random_baseline_accuracy=True,
        params=None,
        macs=10**400,
        n_test=-1,
        test_accuracy_ci95=[1],
        confusion=[[1, 2], [3]],
        classes=7,
        dataset=["x"],
        genotype=3,
    )
    (run / "environment.json").write_text('{"command": null, "gpus": [1], "n": 3}')
    page = page_of(run)
    assert "confusion matrix of summary.json is not a square table" in page.words
    assert "classes" not in page.ids


def test_a_folder_without_any_file_of_a_run_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("not a run")
    with pytest.raises(FileNotFoundError, match=r"is not a run folder: it has none of config\.yaml, environment\.json"):
        write_report(tmp_path)
    assert not (tmp_path / "report.html").exists()


@pytest.mark.parametrize("name", FILES)
def test_a_single_file_of_a_run_gives_a_page(run: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / "single" / name).parent.mkdir(parents=True)
    shutil.copy(run / name, tmp_path / "single" / name)
    assert "Architecture search" in page_of(tmp_path / "single").words


def test_a_search_that_was_not_retrained_claims_no_accuracy(search_only: Path) -> None:
    page = page_of(search_only)
    assert "has not been retrained yet, so there is no test accuracy" in page.words
    assert "Test accuracy" not in page.words
    assert "classes" not in page.ids


def test_markup_in_any_text_is_shown_and_not_obeyed(run: Path) -> None:
    evil = "<script>alert(1)</script><img src=x onerror=alert(2)>'\"&"
    classes = [evil, *(f"c{i}" for i in range(9))]
    change_summary(
        run, dataset=evil, strategy=evil, space=evil, classes=classes, genotype=evil, arch_hash=evil, seed=evil
    )
    (run / "environment.json").write_text(json.dumps({"command": evil, evil: evil}))
    (run / "config.yaml").write_text(evil)
    (run / "metrics.jsonl").write_text(json.dumps({"phase": evil, "epoch": 0, "train": {"loss": 1.0}}) + "\n")
    path = run / "arch.json"
    path.write_text(path.read_text().replace('"sep_conv_3x3"', json.dumps(evil)))
    alphas = [json.loads(line) for line in (run / "alphas.jsonl").read_text().splitlines()]
    for record in alphas:
        for cell in record["cells"].values():
            cell["ops"][0] = evil
        record["cells"][evil] = record["cells"]["regular"]
        record["would_be"]["regular"]["nodes"][0][0][0] = evil + str(record["epoch"])
    (run / "alphas.jsonl").write_text("".join(json.dumps(record) + "\n" for record in alphas))
    page = page_of(run)
    assert "img" not in page.tags
    assert page.tags.count("script") == len(page.scripts) == 1
    assert "alert(1)" not in page.scripts[0]
    assert "onerror" not in {name for name, _ in page.attributes}
    assert page.words.count("<script>alert(1)</script>") > 8


def test_same_folder_gives_the_same_bytes(run: Path) -> None:
    first = write_report(run).read_bytes()
    assert write_report(run).read_bytes() == first


def test_search_is_told_in_plain_words(run: Path) -> None:
    words = page_of(run).words
    assert re.search(
        r"In 12 epochs the mean entropy of the mixing weights fell from 2\.08 to 1\.\d\d of at most 2\.08", words
    )
    assert "2 of 4 nodes of the regular cell read a skip connection (n2, n3); the longest path passes 2 nodes." in words


@pytest.mark.parametrize(("share", "warned"), [(0.75, False), (0.8, True)])
def test_mostly_parameter_free_cells_are_warned_about(run: Path, share: float, warned: bool) -> None:
    path = run / "alphas.jsonl"
    path.write_text(path.read_text().replace('"parameter_free": 0.6', f'"parameter_free": {share}'))
    page = page_of(run)
    assert ("warning" in page.ids) is warned
    assert ("80% of the chosen operations have no weights" in page.words) is warned


def test_kept_operations_are_framed_in_the_weight_maps(run: Path) -> None:
    page = page_of(run)
    maps = re.findall(r"<svg.*?</svg>", page.source, re.DOTALL)
    maps = [drawing for drawing in maps if "weight of each candidate</title>" in drawing]
    assert [drawing.count('class="stroke-mark"') for drawing in maps] == [8, 8]


@pytest.mark.parametrize(
    ("baseline", "sentence"),
    [
        (97.0, "does not show that the search found more than chance would"),
        (98.0, "this search did not pay"),
        (None, "cannot say what the search itself is worth"),
    ],
)
def test_result_is_judged_against_the_baseline(run: Path, baseline: float | None, sentence: str) -> None:
    assert sentence not in page_of(run).words
    change_summary(run, random_baseline_accuracy=baseline)
    assert sentence in page_of(run).words


def test_interval_is_computed_from_the_test_images_when_it_is_not_stored(run: Path) -> None:
    change_summary(run, test_accuracy=50.0, n_test=100, test_accuracy_ci95=None)
    assert "95 % interval 40.38–59.62; 100 test images" in page_of(run).words  # Wilson's interval of 50 in 100


def test_class_table_has_recall_and_precision_hardest_first(run: Path) -> None:
    change_summary(run, confusion=[[8, 2], [1, 3]], classes=["cat", "dog"])
    words = " ".join(page_of(run).words.split())
    table = words[words.index("most often taken for") :]
    assert table.startswith("most often taken for dog475.00 %60.00 %cat (1) cat1080.00 %88.89 %dog (2)")


def test_many_classes_keep_the_page_small(run: Path) -> None:
    n = 300
    change_summary(run, confusion=[[50 if i == j else 0 for j in range(n)] for i in range(n)], classes=None)
    page = page_of(run)
    assert "The matrix of 300 classes is too large to draw" in page.words
    assert len(page.source) < 1_000_000


def test_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no run folder at .*nowhere"):
        write_report(tmp_path / "nowhere")
