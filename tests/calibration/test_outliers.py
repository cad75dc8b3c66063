from __future__ import annotations

import numpy as np
import pytest

from qtool.calibration.outliers import outer_half_share, outliers
from qtool.numerics.histogram import Histogram
from qtool.numerics.tensor_statistics import statistics_of


def usual(rows=1000, channels=8):
    return np.random.default_rng(0).uniform(-1, 1, (rows, channels)).astype(np.float32)


def found_in(x, **options):
    return outliers({"t": statistics_of(x, **{"channel_axis": -1, **options})})


def test_usual_values_give_no_warning():
    (found,) = found_in(usual())
    assert found.warnings == ()
    assert (found.tensor, found.values, found.channels) == ("t", 8000, 8)
    assert found.channel_ratio == pytest.approx(1, abs=0.05)
    assert found.outer_half_share == pytest.approx(0.5, abs=0.03)


def test_a_planted_outlier_channel_is_named():
    x = usual()
    x[:, 5] *= 50
    (found,) = found_in(x)
    assert found.largest_channel == 5
    assert found.channel_ratio == pytest.approx(50, rel=0.05)
    assert found.warnings == ("channel 5 is 50 times the median channel",)


def test_a_planted_outlier_value_sets_the_range():
    x = usual(10_000)
    x[77, 3] = -9
    (found,) = found_in(x, channel_axis=None)
    # Beyond -4.5 is that value only; the upper end stays as it was.
    upper = (x > x.max() / 2).mean()
    assert found.outer_half_share == pytest.approx(upper + 1 / x.size, abs=0.01)
    (found,) = found_in(np.abs(x), channel_axis=None)
    assert found.outer_half_share == 1 / x.size
    assert found.warnings == ("half of the range is for 1e-05 of the values",)


def test_channels_that_are_always_zero_do_not_count():
    x = usual()
    x[:, :5] = 0
    assert found_in(x)[0].channel_ratio == pytest.approx(1, abs=0.05)
    assert found_in(np.zeros((3, 4), np.float32))[0].warnings == ()


def test_columns_with_scales_of_their_own_are_left_out():
    assert found_in(usual(), columns=True) == []


def test_the_worst_come_first():
    wild = usual()
    wild[:, 0] *= 99
    named = {"fine": usual(), "wild": wild}
    seen = {name: statistics_of(x, channel_axis=-1) for name, x in named.items()}
    assert [item.tensor for item in outliers(seen)] == ["wild", "fine"]


@pytest.mark.parametrize(("x", "expected"), [([4, 1, 1, 1], 0.25), ([-4, 3, 3, 0], 0.75)])
def test_outer_half_by_hand(x, expected):
    assert outer_half_share(Histogram.of(np.array(x, np.float32))) == expected
