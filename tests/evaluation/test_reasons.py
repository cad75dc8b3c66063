from __future__ import annotations

import math
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.special import expit
from support.blocks import block_of, encoder_of

from qtool.config.evaluation import ReasonCodes
from qtool.data.encoding import Encoder
from qtool.errors import ConfigError
from qtool.evaluation.reasons import METHOD, NOISE, reason_stability

COLUMNS = ("a", "b", "c", "d")
ENCODER = encoder_of(*COLUMNS)
TYPICAL = block_of({name: [0.0, 0.0, 5.0] for name in COLUMNS})


def linear(*weights: float, bias: float = 0.0):
    """A model whose parts are the weights times the values, where the typical value is 0."""
    return lambda x: expit(x.astype(np.float64) @ np.array(weights) + bias).astype(np.float32)


def judged(rows, fp32, int8, top: int = 2, encoder: Encoder = ENCODER, reference=TYPICAL):
    block = block_of(dict(zip(COLUMNS, np.array(rows, np.float64).T, strict=True)))

    def score(inputs):
        return fp32(inputs["x"]), int8(inputs["x"])

    return reason_stability(block, reference, encoder, score, ReasonCodes(top=top), 0.95, 0)


def test_by_hand() -> None:
    # Parts of FP32: row 0: 3 2 1 -4, row 1: 0 1 2 3. INT8 has c worth half and d twice as much.
    fp32, int8 = linear(1, 1, 1, 1), linear(1, 1, 0.4, 2)
    found = judged([[3, 2, 1, -4], [0, 1, 2, 3]], fp32, int8)
    # FP32 names a b, d c; INT8 names a b, d b (1 against 0.8).
    assert (found.rows, found.top, found.overlap, found.same_first) == (2, 2, 0.75, 1.0)
    assert found.columns == {"a": (1, 1), "b": (1, 2), "c": (1, 0), "d": (1, 1)}
    assert found.method == METHOD
    assert 0 <= found.low < 0.75 < found.high <= 1


def test_equal_models_agree_whatever_they_are() -> None:
    rows = np.random.default_rng(0).normal(size=(200, 4))
    found = judged(rows, linear(1, -2, 0.5, 3), linear(1, -2, 0.5, 3), top=3)
    assert (found.overlap, found.same_first, found.high) == (1, 1, 1)
    # Clopper-Pearson: 0.025 ** (1 / rows).
    assert found.low == pytest.approx(0.025 ** (1 / found.rows), abs=2e-3)
    assert all(fp32 == int8 for fp32, int8 in found.columns.values())


def test_a_column_that_pushes_the_other_way_is_no_reason() -> None:
    found = judged([[1, -1, -1, -1]], linear(1, 1, 1, 1), linear(1, 1, -1, 1), top=4)
    # FP32 names a only; INT8 names a and c: one of two.
    assert found.overlap == 0.5
    assert found.columns == {"a": (1, 1), "b": (0, 0), "c": (0, 1), "d": (0, 0)}


def test_rows_without_any_reason_are_not_counted() -> None:
    found = judged([[-1, -1, -1, -1], [1, 0, 0, 0]], linear(1, 1, 1, 1), linear(1, 1, 1, 1))
    assert (found.rows, found.overlap) == (1, 1)
    none = judged([[-1, -1, -1, -1]], linear(1, 1, 1, 1), linear(1, 1, 1, 1))
    assert none.rows == 0
    assert math.isnan(none.overlap)
    assert math.isnan(none.same_first)
    assert (none.low, none.high) == (0, 1)


def test_ties_are_broken_alike() -> None:
    # INT8 cannot tell b from c; FP32 prefers c. Both are first in one model each.
    fp32, int8 = linear(3, 1, 2, 0), linear(3, 1, 1, 0)
    found = judged([[1, 1, 1, 1]], fp32, int8)
    assert found.overlap == 1
    assert found.columns == {"a": (1, 1), "b": (0, 0), "c": (1, 1), "d": (0, 0)}
    assert found.method == f"{METHOD}; rows in which a tie was broken: 1"
    first = judged([[1, 1, 1, 1]], linear(0, 1, 2, 0), linear(0, 1, 1, 0), top=1)
    assert (first.overlap, first.same_first) == (1, 1)


def test_a_tie_of_sure_reasons_does_not_matter() -> None:
    found = judged([[1, 1, 1, 1]], linear(2, 2, 1, 0), linear(2, 2, 1, 0))
    assert found.method == METHOD


def test_a_tie_cannot_take_the_place_of_a_sure_reason() -> None:
    # FP32 names a and b. INT8 is sure of d, and a, b, c compete for one place: one of two.
    found = judged([[1, 1, 1, 1]], linear(3, 2, 1, 0.5), linear(1, 1, 1, 4))
    assert found.overlap == 0.5
    assert found.columns == {"a": (1, 1), "b": (1, 0), "c": (0, 0), "d": (0, 1)}


def test_float_noise_is_a_tie_and_more_is_none() -> None:
    fp32 = linear(1, 1 + NOISE / 10, 0.5, 0)
    assert judged([[1, 1, 1, 1]], fp32, linear(1, 1, 0.5, 0), top=1).overlap == 1
    fp32 = linear(1, 1 + 100 * NOISE, 0.5, 0)
    assert judged([[1, 1, 1, 1]], fp32, linear(1 + 100 * NOISE, 1, 0.5, 0), top=1).overlap == 0


def test_scores_at_one_cannot_be_told_apart() -> None:
    # log-odds of 20: every float32 score is 1, with or without a column.
    found = judged([[1, 1, 1, 1]], linear(1, 2, 3, 1, bias=40), linear(3, 2, 1, 1, bias=40))
    assert found.rows == 0


def best_overlap(parts: np.ndarray, top: int) -> float:
    """The largest overlap that any way to break the ties gives: by trying all of them."""
    ways = []
    for part in parts:
        positive = np.flatnonzero(part > 0)
        count = min(top, len(positive))
        total = np.sort(part[positive])[::-1][:count].sum()
        ways.append([set(c) for c in combinations(positive, count) if part[list(c)].sum() == total])
    longest = max(len(ways[0][0]), len(ways[1][0]))
    return max(len(a & b) for a in ways[0] for b in ways[1]) / longest if longest else math.nan


@settings(max_examples=60, deadline=None)
@given(hnp.arrays(np.int64, (2, 4), elements=st.integers(-1, 3)), st.integers(1, 4))
def test_ties_are_broken_in_the_best_way(parts: np.ndarray, top: int) -> None:
    found = judged([[1, 1, 1, 1]], linear(*parts[0]), linear(*parts[1]), top=top)
    assert found.overlap == pytest.approx(best_overlap(parts, top), nan_ok=True)


def test_the_typical_value_is_of_the_calibration_rows() -> None:
    # With the median 10 instead of 0, a pushes down and is no reason.
    reference = block_of({"a": [10.0, 10.0, 1.0], **{name: [0.0] * 3 for name in "bcd"}})
    found = judged([[5, 1, 0, 0]], linear(1, 1, 1, 1), linear(1, 1, 1, 1), reference=reference)
    assert found.columns == {"a": (0, 0), "b": (1, 1), "c": (0, 0), "d": (0, 0)}


def test_categories_are_reasons_too() -> None:
    encoder = encoder_of("a", country=("DE", "FR"))
    reference = block_of({"a": [0.0, 0.0], "country": ["DE", "DE"]})
    block = block_of({"a": [1.0, 1.0], "country": ["FR", "DE"]})

    def score(inputs):
        scores = expit(inputs["x"][:, 0] + 3.0 * (inputs["z"][:, 0] == 2)).astype(np.float32)
        return scores, scores

    found = reason_stability(block, reference, encoder, score, ReasonCodes(top=1), 0.95, 0)
    assert found.columns == {"a": (1, 1), "country": (1, 1)}


def test_several_outputs_per_row_are_a_config_error() -> None:
    def three(x):
        return np.full((len(x), 3), 1 / 3, np.float32)

    with pytest.raises(ConfigError, match=r"evaluation\.reason_codes: a model with 3 outputs"):
        judged([[1, 1, 1, 1]], three, three)


def test_rows_of_one_person_are_worth_fewer() -> None:
    rows = np.abs(np.random.default_rng(0).normal(size=(100, 4)))
    block = block_of(dict(zip(COLUMNS, rows.T, strict=True)))
    model = linear(1, 2, 0.5, 3)

    def score(inputs):
        return model(inputs["x"]), model(inputs["x"])

    apart, together = (
        reason_stability(block, TYPICAL, ENCODER, score, ReasonCodes(top=2), 0.95, 0, clusters)
        for clusters in (None, np.arange(100) // 5)
    )
    assert apart.low == pytest.approx(0.025 ** (1 / 100), abs=2e-3)
    assert together.low == pytest.approx(0.025 ** (1 / 20), abs=5e-3)
