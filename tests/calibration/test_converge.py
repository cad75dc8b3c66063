from __future__ import annotations

import numpy as np
import pytest
from support.graphs import mlp

from qtool.calibration.converge import FIRST_ROWS, TOLERANCE, change, sample_sizes, until_stable
from qtool.config.quantization import StaticQuantization
from qtool.graph.parameters import Range
from qtool.graph.planner import make_plan
from qtool.graph.prepare.pipeline import prepare
from qtool.graph.targets import TARGETS
from qtool.numerics.observers import min_max
from qtool.numerics.tensor_statistics import statistics_of


@pytest.fixture(scope="module")
def plan():
    section = StaticQuantization(method="static")
    return make_plan(prepare(mlp()), "sha", section, TARGETS["x86_amx"])


def shards(plan, highs, taken):
    """Shards of 10 rows whose tensors all reach from 0 to the number given."""
    for high in highs:
        taken.append(high)
        yield (
            10,
            {
                name: statistics_of(np.array([[0], [high]], np.float32), columns=True)
                for name in plan.calibrated
            },
        )


def test_it_stops_when_no_range_moves(plan):
    taken = []
    found, checks = until_stable(plan, shards(plan, [1, 2, 2.01, 50], taken), min_max)
    assert taken == [1, 2, 2.01]
    assert [check.rows for check in checks] == [10, 20, 30]
    assert [check.largest_change for check in checks] == [
        None,
        0.5,
        pytest.approx(0.01 / 2.01, rel=1e-5),
    ]
    assert checks[0].tensor == ""
    assert checks[1].tensor in plan.calibrated
    assert all(seen.histogram.high.max() == np.float32(2.01) for seen in found.values())


def test_it_takes_all_there_is_when_ranges_keep_moving(plan):
    highs = [1.5**power for power in range(6)]
    _, checks = until_stable(plan, shards(plan, highs, []), min_max)
    assert len(checks) == 6
    assert checks[-1].largest_change > TOLERANCE


def test_one_shard_is_one_check(plan):
    _, checks = until_stable(plan, shards(plan, [3], []), min_max)
    assert [(check.rows, check.largest_change) for check in checks] == [(10, None)]


@pytest.mark.parametrize(
    ("available", "expected"),
    [
        (1, [1]),
        (FIRST_ROWS, [FIRST_ROWS]),
        (2000, [512, 1024, 2000]),
        (2048, [512, 1024, 2048]),
    ],
)
def test_sizes_double_up_to_what_there_is(available, expected):
    assert sample_sizes(available) == expected


def span(low, high):
    return Range(np.array(low, np.float32), np.array(high, np.float32), np.zeros(len(low)))


@pytest.mark.parametrize(
    ("before", "now", "expected"),
    [
        (([-1], [3]), ([-1], [3]), 0),
        (([-1], [3]), ([-1], [4]), 0.2),
        (([-1], [3]), ([-0.5], [3]), 0.125),  # MSE ranges may shrink
        (([0], [0]), ([0], [0]), 0),
        (([0], [0]), ([0], [2]), 1),
        (([0, 0], [1, 100]), ([0, 0], [2, 100]), 0.5),
    ],
)
def test_change_by_hand(before, now, expected):
    assert change(span(*before), span(*now)) == pytest.approx(expected)
