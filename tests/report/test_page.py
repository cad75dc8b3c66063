from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from html.parser import HTMLParser
from typing import get_args
from xml.etree import ElementTree

import pytest

from qtool.evaluation.results import Evaluation, NodeCoverage
from qtool.evaluation.sample import Sample
from qtool.graph.plan import Treatment
from qtool.report.html import to_html
from qtool.report.pictures import Picture, chapters
from qtool.report.svg import COLORS

MakeSample = Callable[..., Sample]
DRAWN = [
    "Every metric",
    "Score agreement",
    "Near the threshold",
    "Ranking",
    "Precision",
    "Calibration",
    "Latency",
    "Speed against quality",
    "Size",
    "Coverage",
]
VOID = {"meta", "br", "img", "link", "hr", "input"}


class Tree(HTMLParser):
    """Holds every tag and id, and checks that tags are closed in order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.ids: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.ids += [str(value) for name, value in attrs if name == "id"]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def parse(page: str) -> Tree:
    tree = Tree()
    tree.feed(page)
    tree.close()
    assert tree.open == []
    return tree


def pictures(evaluation: Evaluation, sample: Sample) -> list[Picture]:
    return [picture for chapter in chapters(evaluation, sample) for picture in chapter.pictures]


def test_page_is_self_contained_and_well_formed(plain_page: str) -> None:
    page = plain_page
    tree = parse(page)
    assert not re.search(r"https?:|//[a-z]|@import|url\((?!#)", page)
    assert not {"script", "link", "img", "iframe"} & set(tree.tags)
    assert len(tree.ids) == len(set(tree.ids))
    assert tree.tags.count("svg") == len(DRAWN)
    assert page.count('role="img" aria-label="') == len(DRAWN)
    assert """content="default-src 'none'; style-src 'unsafe-inline'; img-src data:">""" in page
    assert len(re.findall(r"<th\b", page)) == len(re.findall(r'<th scope="(?:col|row)"', page))


def test_page_escapes_names(evaluation: Evaluation, make_sample: MakeSample) -> None:
    hostile = "<script>alert(1)</script>"
    node = NodeCoverage(hostile, hostile, "float", hostile, hostile)
    worst = dataclasses.replace(
        evaluation, name=hostile, coverage=(node,), provenance={hostile: hostile}, notes=(hostile,)
    )
    page = to_html(worst, make_sample())
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert "script" not in parse(page).tags


def test_an_operator_may_have_any_name(evaluation: Evaluation, make_sample: MakeSample) -> None:
    names = ("$\\frac{$", "_" * 5000, "]]>&", "\u540d")
    nodes = tuple(NodeCoverage("n", name, "float", "", "") for name in names)
    page = to_html(dataclasses.replace(evaluation, coverage=nodes), make_sample())
    assert page.count("$\\frac{$") >= 2  # in the picture and in the tables
    parse(page)


def test_every_treatment_has_a_colour() -> None:
    assert set(get_args(Treatment)) <= set(COLORS)


def test_page_without_anything_optional(bare: Evaluation, make_sample: MakeSample) -> None:
    page = to_html(bare, make_sample(noise=0))
    assert parse(page).tags.count("svg") == 7
    assert "No decision changed" in page
    assert 'class="verdict fail"' in page
    assert "nan" not in page


def test_many_nodes_start_folded(
    evaluation: Evaluation, make_sample: MakeSample, plain_page: str
) -> None:
    many = dataclasses.replace(evaluation, coverage=evaluation.coverage * 134)
    page = to_html(many, make_sample())
    assert "<details><summary>Every node (402)" in page
    assert page.count("no integer kernel") == 134
    assert "<details open>" in plain_page


def test_one_batch_size(evaluation: Evaluation, make_sample: MakeSample) -> None:
    one = dataclasses.replace(evaluation, latency=evaluation.latency[:1])
    page = to_html(one, make_sample())
    assert "batch 1<" in page
    assert "batch 256<" not in page


def test_page_is_deterministic(full: Evaluation, make_sample: MakeSample, full_page: str) -> None:
    assert to_html(full, make_sample()) == full_page


def test_pictures_stay_small_for_many_rows_that_disagree(
    evaluation: Evaluation, make_sample: MakeSample
) -> None:
    for picture in pictures(evaluation, make_sample(rows=200_000, noise=4.0)):
        assert len(picture.svg.encode()) < 150_000, picture.title
        ElementTree.fromstring(picture.svg)


def test_pictures_take_their_colours_from_the_page(full_page: str) -> None:
    for svg in re.findall(r"<svg.*?</svg>", full_page, flags=re.DOTALL):
        outside = re.sub(r"var\(--\w+, #\w+\)", "", svg)
        assert not re.findall(r"(?:fill|stroke): #\w+", outside)


@pytest.mark.parametrize("score", [0.0, 0.5, 1.0])
def test_constant_scores_and_a_threshold_at_the_end_can_be_drawn(
    evaluation: Evaluation, make_sample: MakeSample, score: float
) -> None:
    scores = make_sample()
    constant = scores.fp32 * 0 + type(scores.fp32[0])(score)
    decisions = dataclasses.replace(evaluation.decisions, threshold=score)
    same = dataclasses.replace(scores, fp32=constant, int8=constant)
    drawn = pictures(dataclasses.replace(evaluation, decisions=decisions), same)
    assert [picture.title for picture in drawn] == DRAWN


def test_everything_that_was_measured_is_on_the_page(full_page: str) -> None:
    page = full_page
    parse(page)
    assert "<script" not in page
    assert not re.search(r"\bnan\b", page)
    assert len(page.encode()) < 1_500_000
    titles = re.findall(r"<h3>(.*?)</h3>", page)
    for title in ("By segment", "Adverse impact", "Reasons", "Changed rows", "Throughput",
                  "Start of a process", "Training"):  # fmt: skip
        assert title in titles
    for title in (
        "Tests",
        "Monotonicity",
        "Cost of a million rows at the median latency, 0.04 per core and hour",
    ):
        assert f"<h2>{title}</h2>" in page


def test_a_half_picture_without_a_neighbour_fills_the_row(plain_page: str) -> None:
    assert plain_page.count('"card alone"') == 1  # speed against quality


def test_every_link_leads_somewhere(full_page: str) -> None:
    wanted = set(re.findall(r'<a href="#([\w-]+)"', full_page))
    assert wanted
    assert wanted <= set(parse(full_page).ids)


@pytest.mark.parametrize(
    ("fixture", "outcome", "word"),
    [("evaluation", "pass", "PASSED"), ("undecided", "undecided", "UNDECIDED")],
)
def test_the_verdict_comes_first(
    request: pytest.FixtureRequest, make_sample: MakeSample, fixture: str, outcome: str, word: str
) -> None:
    page = to_html(request.getfixturevalue(fixture), make_sample())
    assert f'class="verdict {outcome}" role="status"><strong>{word}</strong>' in page
    assert page.index("verdict ") < page.index('class="facts"') < page.index("<svg")
    assert page.rindex("<svg") < page.index("<table")
