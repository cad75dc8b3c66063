from __future__ import annotations

import numpy as np
import pytest
from support.blocks import block_of, encoder_of

from qtool.config.evaluation import Monotonicity
from qtool.errors import ConfigError
from qtool.evaluation.monotonicity import monotonicity

ENCODER = encoder_of("income", "age", overdue=(0, 1, 2, 3))
CALIBRATION = block_of(
    {"income": [10.0, 20.0, 30.0], "age": [20.0, 40.0, 60.0], "overdue": [0, 3, 1]}
)
ROWS = block_of({"income": [15.0, 25.0], "age": [30.0, None], "overdue": [0, None]})


def section(points: int = 9, **columns: str) -> Monotonicity:
    return Monotonicity.model_validate({"columns": columns, "points": points})


def judged(fp32, int8, *, points: int = 9, **columns: str):
    def score(inputs):
        x, z = inputs["x"].astype(np.float64), inputs["z"]
        return fp32(x, z), int8(x, z)

    return monotonicity(ROWS, CALIBRATION, ENCODER, score, section(points, **columns))


def falling(x, z):
    return (0.9 - x[:, 0] / 100).astype(np.float32)


def test_by_hand() -> None:
    # Income 10, 20, 30 gives FP32 0.8, 0.7, 0.6 and INT8 0.8, 0.7, 0.75 in both rows.
    def int8(x, z):
        return np.where(x[:, 0] == 30, 0.75, falling(x, z)).astype(np.float32)

    (found,) = judged(falling, int8, income="decreasing")
    assert (found.column, found.direction, found.steps) == ("income", "decreasing", 4)
    assert (found.fp32, found.int8) == (0, 2)
    assert found.largest_fp32 == 0
    assert found.largest_int8 == pytest.approx(0.05, abs=1e-6)


def test_the_other_direction_is_violated_everywhere() -> None:
    (found,) = judged(falling, falling, income="increasing")
    assert (found.fp32, found.int8, found.steps) == (4, 4, 4)
    assert found.largest_fp32 == pytest.approx(0.1, abs=1e-6)


def test_other_columns_keep_the_values_of_the_row() -> None:
    seen = []

    def spy(x, z):
        seen.append((x.tolist(), z.tolist()))
        return np.zeros(len(x), np.float32)

    judged(spy, spy, points=2, age="increasing")
    # age 20, then 60; a missing category has the code 0.
    assert seen[::2] == [
        ([[15, 20], [25, 20]], [[1], [0]]),
        ([[15, 60], [25, 60]], [[1], [0]]),
    ]


def test_integer_categories_are_varied_in_their_order() -> None:
    # Codes of overdue 0, 1, 3 are 1, 2, 4: one output per row may have a last axis.
    found = judged(
        lambda x, z: z / 10, lambda x, z: -z / 10, overdue="increasing", income="increasing"
    )
    assert [(each.steps, each.fp32, each.int8) for each in found] == [(4, 0, 4), (4, 0, 0)]
    assert found[0].largest_int8 == pytest.approx(0.2)


@pytest.mark.parametrize("size", [1.0, 1e-4, 1e4])
def test_float_noise_is_no_move(size: float) -> None:
    def noisy(x, z):
        return size * (0.8 - 5e-9 * x[:, 0])

    def wrong(x, z):
        return size * (0.8 - 5e-6 * x[:, 0])

    (found,) = judged(noisy, wrong, income="increasing")
    assert (found.fp32, found.int8) == (0, 4)


def test_a_column_of_no_input_is_a_config_error() -> None:
    with pytest.raises(
        ConfigError, match=r"evaluation\.monotonicity\.columns\.debt: column 'debt'"
    ):
        judged(falling, falling, debt="increasing")
