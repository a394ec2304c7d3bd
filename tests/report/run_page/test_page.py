"""Tests of ``page.py`` and the sections of the report."""

import base64
import hashlib
import json
import math
import random
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from gradnas.arch import PUBLISHED, Genotype
from gradnas.report import write_report
from gradnas.report.drawing.palette import COLORS
from gradnas.spaces import DartsSpace

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
        "0.63 points above random",
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


def make_given(run: Path, found: Genotype = PUBLISHED["DARTS_V2"]) -> None:
    """Turn a sample run into the retraining of an architecture that was given."""
    (run / "config.yaml").write_text("arch: DARTS_V2\ndata: {source: cifar10}\nretrain: {epochs: 48}\n")
    (run / "alphas.jsonl").unlink()
    shutil.rmtree(run / "baseline")
    lines = (run / "metrics.jsonl").read_text().splitlines(keepends=True)
    (run / "metrics.jsonl").write_text("".join(line for line in lines if '"phase": "retrain"' in line))
    summary = json.loads((run / "summary.json").read_text())
    kept = {key: value for key, value in summary.items() if not key.startswith(("search_", "random_", "strategy"))}
    (run / "summary.json").write_text(json.dumps(kept))
    DartsSpace(channels=16, cells=8).from_genotype(found).save(run / "arch.json")


def test_report_of_a_given_architecture_speaks_of_no_search(run: Path) -> None:
    make_given(run)
    page = page_of(run)
    assert "search" not in page.ids
    assert page.words.count("Retraining of DARTS_V2") >= 2
    assert "Given architecture" in page.words
    said = page.words.lower().replace("search:", "")
    for words in ("search", "alphas.jsonl", "found"):
        assert words not in said, words


def test_report_of_a_given_architecture_before_its_retraining(run: Path) -> None:
    make_given(run)
    for name in ("full_arch.json", "metrics.jsonl", "summary.json"):
        (run / name).unlink()
    page = page_of(run)
    assert "The network at the size of its space; it has not been grown for retraining." in page.words
    assert "The given architecture has not been retrained yet" in page.words
    (run / "arch.json").unlink()
    assert "There is no readable arch.json." in page_of(run).words


def test_given_cells_without_weights_are_no_failure_of_a_search(run: Path) -> None:
    pairs = tuple(("skip_connect", source) for node in range(4) for source in (0, 1))
    skips = Genotype(normal=pairs, normal_concat=(2, 3, 4, 5), reduce=pairs, reduce_concat=(2, 3, 4, 5))
    make_given(run, skips)
    assert "warning" not in page_of(run).ids
    (run / "config.yaml").write_text("data: {source: cifar10}\nretrain: {epochs: 48}\n")
    assert "known failure of searching by gradient" in page_of(run).words


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
        *(f"Short training of random architecture {k}" for k in (0, 9, 10)),
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
    assert "problems" in page.ids
    assert name in page.words


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


def test_weights_of_the_end_are_tables_that_say_what_is_kept(run: Path) -> None:
    page = page_of(run)
    tables = re.findall(r'<table class="dense weights">.*?</table>', page.source, re.DOTALL)
    cells = json.loads((run / "alphas.jsonl").read_text().splitlines()[-1])["cells"]
    assert len(tables) == len(cells) == 2
    for table, cell in zip(tables, cells.values(), strict=True):
        rows = [re.findall(r"<td[^>]*>(?:<strong>)?([\d.]+)", row) for row in table.split("<tr>")[2:]]
        assert rows == [[f"{weight:.2f}" for weight in row] for row in cell["weights"]]
        assert table.count('<th scope="col"') == 1 + len(cell["ops"])
        assert re.findall(r'<th scope="row">([^<]*)', table)[:3] == ["s0 → n0", "s1 → n0", "s0 → n1"]
        assert table.count(" kept</span>") == table.count('"number kept"') == 8


def test_every_header_says_what_it_heads_and_every_scrolling_box_can_be_reached(run: Path) -> None:
    page = page_of(run)
    headers = re.findall(r"<th\b[^>]*>", page.source)
    assert headers
    assert all('scope="' in header for header in headers)
    boxes = re.findall(r'<(?:div|figure) class="scroll"([^>]*)>', page.source)
    assert len(boxes) > 8
    for box in boxes:
        assert ' role="region" tabindex="0" aria-label="' in box
        assert 'aria-label=""' not in box
    for name in ("regular cell", "Weights of the reduction cell", "Results of each class", "Environment"):
        assert f'aria-label="{name}"' in page.source


def test_the_page_says_how_epochs_are_counted(run: Path, tmp_path: Path) -> None:
    assert page_of(run).words.count("Epochs are counted from 0.") == 2
    (tmp_path / "bare").mkdir()
    shutil.copy(run / "summary.json", tmp_path / "bare")
    assert "Epochs are counted" not in page_of(tmp_path / "bare").words


def test_drawings_of_the_page_leave_their_colors_to_its_style_sheet(run: Path) -> None:
    page = write_report(run).read_text()
    drawings = re.findall(r"<svg.*?</svg>", page, re.DOTALL)
    assert not [drawing for drawing in drawings if "#" in drawing or "<style" in drawing or "font-family" in drawing]
    used = {
        name
        for drawing in drawings
        for name in re.findall(r"(?:fill|stroke)-(?!opacity|width|linecap|dash)[a-z-]+", drawing)
    }
    assert used
    assert not [name for name in re.findall(r"class=\"([^\"]*)\"", "".join(drawings)) if "  " in name]
    style = page[: page.index("</style>")]
    kinds = {f"{kind}-{role}" for role in COLORS for kind in ("fill", "stroke")}
    for name in kinds:
        assert style.count(f".{name} {{") == 2, name  # bright and dark
    assert (used & kinds) >= {"fill-paper", "stroke-wire", "stroke-heat"}


@pytest.mark.parametrize(("nodes", "epochs", "most"), [(4, 50, 1_300_000), (7, 50, 2_200_000), (2, 1000, 2_500_000)])
def test_a_long_search_of_a_large_space_stays_a_small_page(run: Path, nodes: int, epochs: int, most: int) -> None:
    """The weights of every epoch are drawn at random and so are the would-be cells, but of long searches fewer."""
    chance = random.Random(0)
    lines: list[dict[str, Any]] = []
    edges = [[node, source] for node in range(nodes) for source in range(node + 2)]
    ops = [f"sep_conv_{k}x{k}" for k in range(8)]
    shapes = [[16, 32, 32]] * (nodes + 3)
    for epoch in range(epochs):
        cells: dict[str, Any] = {}
        would_be: dict[str, Any] = {}
        for kind in ("regular", "reduction"):
            draws = [[chance.random() ** 2 for _ in ops] for _ in edges]
            weights = [[value / sum(row) for value in row] for row in draws]
            cells[kind] = {"edges": edges, "ops": ops, "weights": weights, "alphas": weights}
            wires = [
                [[chance.choice(ops), [source]] for source in chance.sample(range(node + 2), 2)]
                for node in range(nodes)
            ]
            merged = list(range(2, nodes + 2))
            would_be[kind] = {"nodes": wires, "stems": ["a", "b"], "merge": "c", "merged": merged, "shapes": shapes}
        if epoch >= 100:
            would_be = lines[epoch % 100]["would_be"]
        lines.append({"epoch": epoch, "cells": cells, "would_be": would_be, "entropy": 1.0})
    (run / "alphas.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    page = write_report(run).read_bytes()
    assert page.count(b'<div class="frame"') == 2 * min(epochs, 100)
    assert len(page) < most


@pytest.mark.parametrize(
    ("entropy", "judgment"),
    [
        (0.40, "the edges are nearly decided"),  # e to the 0.40 is 1.49
        (0.41, "the edges lean to a few candidates"),
        (1.56, "the edges lean to a few candidates"),
        (1.58, "the edges are far from decided"),  # e to the 1.57 is 0.6 of 8
    ],
)
def test_the_entropy_is_judged_by_the_candidates_that_it_stands_for(run: Path, entropy: float, judgment: str) -> None:
    lines = [json.loads(line) for line in (run / "alphas.jsonl").read_text().splitlines()]
    lines[-1]["entropy"] = entropy
    (run / "alphas.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    words = page_of(run).words
    assert f"to {entropy:.2f} of at most 2.08 nats; after epoch 11 it is as if {math.exp(entropy):.1f} of 8" in words
    assert judgment in words


@pytest.mark.parametrize(
    ("baseline", "sentence"),
    [
        (97.0, "is not shown to differ from the random baseline"),
        (98.0, "this search did not pay"),
        (None, "it is not known what the search itself is worth"),
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
