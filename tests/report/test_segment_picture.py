from __future__ import annotations

import math

import pytest

from qtool.report.change_pictures import FARTHEST, Worsening, _reach


def test_one_wide_interval_does_not_stretch_the_axis() -> None:
    usual = [Worsening(-0.001, 0.0, 0.002)] * 5
    low, high = _reach([*usual, Worsening(-0.6, 0.0, 0.6)], [])
    assert (low, high) == pytest.approx((-FARTHEST * 0.002, FARTHEST * 0.002))
    assert _reach(usual, []) == (-0.001, 0.002)


def test_estimates_and_the_limit_are_always_shown() -> None:
    usual = [Worsening(-0.001, 0.0, 0.001)] * 5
    assert _reach([*usual, Worsening(0.2, 0.3, 0.4)], [0.01])[1] == 0.3
    assert _reach(usual, [0.01]) == (-0.001, 0.01)
    assert _reach([Worsening(math.nan, 0.0, math.nan)], []) == (0, 0)
