from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qtool.data.batch import Batch
from qtool.data.sampling import calibration_sample, class_quotas


def batches(rows: np.ndarray, positive: np.ndarray, size: int) -> list[Batch]:
    values = {"x": rows[:, None].astype(np.float32)}
    whole = Batch(rows, positive.astype(np.int8), values)
    return [whole.take(slice(start, start + size)) for start in range(0, len(rows), size)]


def test_quotas_by_hand() -> None:
    assert class_quotas(900, 100, 100, 0.0) == (90, 10)  # the natural proportion
    assert class_quotas(990, 10, 100, 0.05) == (95, 5)  # raised to the minimum
    assert class_quotas(997, 3, 100, 0.05) == (97, 3)  # all there are
    assert class_quotas(3, 997, 100, 0.05) == (3, 97)
    assert class_quotas(60, 39, 100, 0.1) == (60, 39)  # fewer rows than samples
    assert class_quotas(1000, 1000, 7, 0.5) == (3, 4)


@given(
    st.integers(0, 300),
    st.integers(0, 300),
    st.integers(1, 200),
    st.floats(0, 0.5, exclude_max=True),
)
def test_quotas_keep_their_promises(
    negatives: int, positives: int, samples: int, share: float
) -> None:
    quotas = class_quotas(negatives, positives, samples, share)
    assert sum(quotas) == min(samples, negatives + positives)
    for quota, rows in zip(quotas, (negatives, positives), strict=True):
        assert 0 <= quota <= rows
        assert quota >= min(rows, int(samples * share), samples // 2)


@given(st.integers(1, 90), st.permutations(range(60)), st.integers(1, 70))
def test_batch_size_and_order_do_not_matter(size: int, order: list[int], samples: int) -> None:
    rows = np.arange(1000, 1060)
    positive = rows % 7 == 0
    expected = calibration_sample(batches(rows, positive, 60), samples, 0.2, 3)
    shuffled = rows[order]
    result = calibration_sample(batches(shuffled, shuffled % 7 == 0, size), samples, 0.2, 3)
    np.testing.assert_array_equal(result.rows, expected.rows)
    np.testing.assert_array_equal(result.inputs["x"][:, 0], expected.rows)
    np.testing.assert_array_equal(result.labels, expected.rows % 7 == 0)
    assert (np.diff(result.rows) > 0).all()


def test_sample_is_uniform_within_a_class_over_seeds() -> None:
    rows = np.arange(200)
    parts = batches(rows, rows < 20, 64)
    drawn = np.zeros(200)
    for seed in range(400):
        drawn[calibration_sample(parts, 50, 0.2, seed).rows] += 1
    # 10 of 20 positives and 40 of 180 negatives each time.
    np.testing.assert_allclose(drawn[:20] / 400, 0.5, atol=0.11)
    np.testing.assert_allclose(drawn[20:] / 400, 40 / 180, atol=0.1)


def test_few_rows_are_all_taken() -> None:
    rows = np.arange(5)
    assert calibration_sample(batches(rows, rows > 3, 2), 9, 0.1, 0).rows.tolist() == [
        0,
        1,
        2,
        3,
        4,
    ]


def test_no_batches() -> None:
    with pytest.raises(ValueError, match="no batches"):
        calibration_sample([], 9, 0.1, 0)
