from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qtool.report.text import (
    TRAINING_TITLES,
    between,
    file_size,
    gate_value,
    interval,
    microseconds,
    number,
    points_interval,
    share,
    signed,
    signed_points,
)
from qtool.training.metrics import ACCURACY, AUC, RMSE, TOKEN_ACCURACY


def test_every_training_metric_has_a_title() -> None:
    trained = AUC, ACCURACY, RMSE, TOKEN_ACCURACY
    assert set(TRAINING_TITLES) == {metric.name for metric in trained}


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (0.5, "0.50000"),
        (3e-6, "3.0e\u221206"),
        (12.5, "12.5000"),
        (1234.5678, "1,234.57"),
        (-1234567.8, "\u22121,234,568"),
        (float("inf"), "infinite"),
        (float("nan"), "not measured"),
    ],
)
def test_number(value: float, text: str) -> None:
    assert number(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0"), (-0.0, "0"), (0.00012, "+0.00012"), (-0.00012, "\u22120.00012"),
     (-4e-6, "\u22124.0e\u221206"), (float("nan"), "not measured")],
)  # fmt: skip
def test_signed(value: float, text: str) -> None:
    assert signed(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0 %"), (1, "100 %"), (0.5, "50.0 %"), (0.00033, "0.0330 %"), (0.999998, "99.999800 %"),
     (1.25, "125 %"), (-0.0125, "\u22121.25 %"), (float("nan"), "not measured")],
)  # fmt: skip
def test_share(value: float, text: str) -> None:
    assert share(value) == text


@given(st.floats(1e-8, 1 - 1e-8))
def test_share_never_rounds_to_none_or_all(value: float) -> None:
    shown = float(share(value).removesuffix(" %"))
    assert 0 < shown < 100
    assert shown == pytest.approx(100 * value, rel=0.01)


@given(st.floats(-1, 1).filter(bool))
def test_a_change_is_never_shown_as_zero(value: float) -> None:
    text = signed(value)
    shown = float(text.replace("\u2212", "-"))
    assert shown != 0 or abs(value) < 1e-300
    assert text[0] == ("+" if value > 0 else "\u2212")


@pytest.mark.parametrize(
    ("low", "high", "text"),
    [(-0.00038, 0.000096, "\u22120.00038 to +0.00010"), (0.0, 0.004, "0.0000 to +0.0040"),
     (-0.0000001, 0.012, "0.000 to +0.012"), (0.5, 0.5, "+0.50000 to +0.50000"),
     (-120.0, 1300.0, "\u2212120 to +1,300"), (float("nan"), 1.0, "")],
)  # fmt: skip
def test_an_interval_has_two_digits_of_its_width(low: float, high: float, text: str) -> None:
    assert interval(low, high) == text


def test_intervals_of_shares() -> None:
    assert points_interval(-0.004, 0.0012) == "\u22120.40 pp to +0.12 pp"
    assert between(0.9862, 0.99881) == "98.62 % to 99.881 %"
    assert between(float("nan"), 1.0) == ""
    assert signed_points(0.0012) == "+0.120 pp"


@pytest.mark.parametrize(("value", "text"), [(1.234, "1.23"), (12.34, "12.3"), (1234.5, "1,234")])
def test_microseconds(value: float, text: str) -> None:
    assert microseconds(value) == text


@pytest.mark.parametrize(
    ("size", "text"), [(999, "999 bytes"), (1500, "1.50 kB"), (4_321_000, "4.32 MB")]
)
def test_file_size(size: int, text: str) -> None:
    assert file_size(size) == text


def test_a_gate_value_has_the_unit_of_its_gate() -> None:
    assert gate_value("decision_flips", 0.002) == "0.200 %"
    assert gate_value("speedup", 1.5) == "1.50\u00d7"
    assert gate_value("auc_drop", 0.002) == "0.00200"
    assert gate_value("p99_ms", 1.23456) == "1.235 ms"
    assert gate_value("class_agreement", 0.998) == "99.800 %"
    assert gate_value("speedup", float("nan")) == "not measured"
