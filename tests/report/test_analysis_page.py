from __future__ import annotations

import math
import re
from xml.etree import ElementTree

import pytest

from qtool.report.analysis import layers_table, to_analysis_html, treatments_table
from qtool.report.text import times
from qtool.search.analysis import Analysis, LayerAnalysis, Option, Spread


def layer(name, unit, *, error=1e-4, measured=2e-4):
    options = (
        Option("static", 8, error, measured, {1: 3.0, 32: 20.0}, timed=True),
        Option("weight_only", 4, 1e-2, math.nan, {1: 2.0, 32: 70.0}, timed=False),
        Option("float", 32, 0.0, 0.0, {1: 11.0, 32: 80.0}, timed=True),
    )
    return LayerAnalysis(
        name, "Gemm", "dense", 1024, options, {"dynamic": "why not"}, 1.5, 40.0, 0.01, unit
    )


def analysis(*layers, **changes):
    values = {
        "target": "x86_amx",
        "batch_sizes": (1, 32),
        "threads": 1,
        "rows": 256,
        "fp32_us": {1: 30.0, 32: 200.0},
        "layers": layers,
        "advice": "quantize these",
        "reason": "With 1 of 2 layers.",
        "advised": {"first": ("static", 8)},
        "advised_us": {1: 22.0, 32: 140.0},
        "advised_error": 2e-4,
        "correlation": 0.97,
        "spreads": (Spread("x", "first", (-9.0, -3.0, -0.5, 0.0, 0.5, 3.0, 8.0)),),
        "notes": ("beware",),
    }
    return Analysis(**{**values, **changes})


@pytest.fixture(scope="module")
def page():
    return to_analysis_html("credit", analysis(layer("first", 0), layer("second", 1)))


def test_the_page_is_self_contained(page):
    assert not re.search(r"https?:|//[a-z]|@import|url\((?!#)", page)
    assert "<script" not in page
    pictures = re.findall(r"<svg.*?</svg>", page, re.DOTALL)
    assert len(pictures) == page.count('role="img" aria-label="') == 4
    for picture in pictures:
        ElementTree.fromstring(picture)
    assert re.search(r'class="verdict pass".*QUANTIZE THESE', page)
    assert "beware" in page
    assert "nan" not in re.sub(r"<svg.*?</svg>", "", page, flags=re.DOTALL)


def test_the_page_is_deterministic(page):
    assert page == to_analysis_html("credit", analysis(layer("first", 0), layer("second", 1)))


def test_names_are_escaped():
    hostile = "<b>$\\frac{$"
    page = to_analysis_html(hostile, analysis(layer(hostile, 0), advised={}))
    assert "<b>$" not in page
    assert "&lt;b&gt;" in page


def test_a_model_without_layers_has_a_page():
    empty = analysis(
        advice="keep FP32", advised={}, advised_us={1: 30.0, 32: 200.0}, advised_error=0.0,
        correlation=math.nan, spreads=(), notes=(),
    )  # fmt: skip
    page = to_analysis_html("empty", empty)
    assert "<svg" not in page
    assert 'class="verdict open"' in page


def test_what_is_advised_is_told_with_its_gain_and_error():
    first, second = layers_table(analysis(layer("first", 0), layer("second", 1))).rows
    # 11 / 3 and 80 / 20: their geometric mean is 3.83.
    assert first[3:8] == ("static", "38.3 %", times(3.83), "37.0 dB", "40.0 dB")
    assert second[3:8] == ("float", "38.3 %", "", "", "")
    assert first[8:] == (times(1.5), times(40), "1.00 %")


def test_every_treatment_says_whether_it_was_measured_or_why_not():
    rows = treatments_table(analysis(layer("first", 0))).rows
    assert [row[1] for row in rows] == ["static", "weight_only, 4 bits", "float", "dynamic"]
    assert [row[-1] for row in rows] == ["measured", "cost table", "measured", "why not"]
    assert rows[1][2:4] == ("not measured", "20.0 dB")
