from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from html.parser import HTMLParser
from typing import get_args
from xml.etree import ElementTree

import pytest

from qtool.evaluation.results import Evaluation, NodeCoverage, Scores
from qtool.graph.plan import Treatment
from qtool.report.html import to_html
from qtool.report.pictures import make_pictures
from qtool.report.svg import COLORS

MakeScores = Callable[..., Scores]
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


def test_page_is_self_contained_and_well_formed(
    evaluation: Evaluation, make_scores: MakeScores
) -> None:
    page = to_html(evaluation, make_scores())
    tree = parse(page)
    assert not re.search(r"https?:|//[a-z]|@import|url\((?!#)", page)
    assert not {"script", "link", "img", "iframe"} & set(tree.tags)
    assert len(tree.ids) == len(set(tree.ids))
    assert tree.tags.count("svg") == 6
    assert page.count('role="img" aria-label="') == 6
    assert len(re.findall(r"<th\b", page)) == len(re.findall(r'<th scope="(?:col|row)"', page))


def test_page_escapes_names(evaluation: Evaluation, make_scores: MakeScores) -> None:
    hostile = "<script>alert(1)</script>"
    node = NodeCoverage(hostile, hostile, "float", hostile, hostile)
    worst = dataclasses.replace(
        evaluation, name=hostile, coverage=(node,), provenance={hostile: hostile}, notes=(hostile,)
    )
    page = to_html(worst, make_scores())
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert "script" not in parse(page).tags


def test_an_operator_may_have_any_name(evaluation: Evaluation, make_scores: MakeScores) -> None:
    names = ("$\\frac{$", "_" * 5000, "]]>&", "\u540d")
    nodes = tuple(NodeCoverage("n", name, "float", "", "") for name in names)
    page = to_html(dataclasses.replace(evaluation, coverage=nodes), make_scores())
    assert page.count("$\\frac{$") >= 2  # in the picture and in the tables
    parse(page)


def test_every_treatment_has_a_colour() -> None:
    assert set(get_args(Treatment)) <= set(COLORS)


def test_page_without_anything_optional(bare: Evaluation, make_scores: MakeScores) -> None:
    page = to_html(bare, make_scores(noise=0))
    assert parse(page).tags.count("svg") == 4
    assert "No decision changed" in page
    assert 'class="verdict fail"' in page
    assert "nan" not in page


def test_many_nodes_start_folded(evaluation: Evaluation, make_scores: MakeScores) -> None:
    scores = make_scores()
    many = dataclasses.replace(evaluation, coverage=evaluation.coverage * 134)
    page = to_html(many, scores)
    assert "<details><summary>Every node (402)" in page
    assert page.count("no integer kernel") == 134
    assert "<details open>" in to_html(evaluation, scores)


def test_one_batch_size(evaluation: Evaluation, make_scores: MakeScores) -> None:
    one = dataclasses.replace(evaluation, latency=evaluation.latency[:1])
    page = to_html(one, make_scores())
    assert "batch 1<" in page
    assert "batch 256<" not in page


def test_page_is_deterministic(evaluation: Evaluation, make_scores: MakeScores) -> None:
    assert to_html(evaluation, make_scores()) == to_html(evaluation, make_scores())


def test_pictures_stay_small_for_many_rows_that_disagree(
    evaluation: Evaluation, make_scores: MakeScores
) -> None:
    for picture in make_pictures(evaluation, make_scores(rows=200_000, noise=4.0)):
        assert len(picture.svg.encode()) < 150_000, picture.title
        ElementTree.fromstring(picture.svg)


def test_pictures_take_their_colours_from_the_page(
    evaluation: Evaluation, make_scores: MakeScores
) -> None:
    for picture in make_pictures(evaluation, make_scores()):
        outside = re.sub(r"var\(--\w+, #\w+\)", "", picture.svg)
        assert not re.findall(r"(?:fill|stroke): #\w+", outside), picture.title


@pytest.mark.parametrize("score", [0.0, 0.5, 1.0])
def test_constant_scores_and_a_threshold_at_the_end_can_be_drawn(
    evaluation: Evaluation, make_scores: MakeScores, score: float
) -> None:
    scores = make_scores()
    constant = scores.fp32 * 0 + type(scores.fp32[0])(score)
    decisions = dataclasses.replace(evaluation.decisions, threshold=score)
    same = dataclasses.replace(scores, fp32=constant, int8=constant)
    pictures = make_pictures(dataclasses.replace(evaluation, decisions=decisions), same)
    assert len(pictures) == 6
