from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import binomtest

from qtool.config.evaluation import Evaluation, Resampling, Retrieval, Segmentation, Trading
from qtool.errors import DataError
from qtool.evaluation.agreements import agreements, clustered_interval
from qtool.evaluation.results import Agreement
from qtool.evaluation.sample import Sample

ANGLES = np.radians(np.arange(0, 130, 10))
CIRCLE = np.stack([np.cos(ANGLES), np.sin(ANGLES)], axis=1).astype(np.float32)


def of_representation(fp32: NDArray, int8: NDArray, **section: object) -> dict[str, Agreement]:
    sample = Sample(
        np.arange(len(fp32)),
        np.empty((len(fp32), 0)),
        fp32,
        int8,
        {"asks": (np.arange(len(fp32)) == 0).astype(np.float64)},
    )
    found = agreements(sample, "representation", Evaluation(**section))
    return {agreement.name: agreement for agreement in found}


@pytest.mark.parametrize("hits", [0, 3, 40])
def test_clusters_of_one_are_clopper_and_pearson(hits: int) -> None:
    values = np.arange(40) < hits
    found = clustered_interval(values.astype(np.float64), np.ones(40), 0.9)
    exact = binomtest(hits, 40).proportion_ci(0.9, method="exact")
    assert found == pytest.approx((hits / 40, exact.low, exact.high), abs=1e-12)


def test_equal_clusters_count_as_units() -> None:
    # 300 rows of 20 tokens, all or none right: what 6,000 tokens say is worth 300.
    right = 20.0 * (np.arange(300) < 210)
    share, low, high = clustered_interval(right, np.full(300, 20.0), 0.95)
    exact = binomtest(210, 300).proportion_ci(0.95, method="exact")
    assert share == pytest.approx(0.7)
    assert (low, high) == pytest.approx((exact.low, exact.high), abs=0.01)
    # None differs: as many rows, not tokens, without a difference.
    exact = binomtest(30, 30).proportion_ci(0.95, method="exact")
    found = clustered_interval(np.full(30, 20.0), np.full(30, 20.0), 0.95)
    assert found == pytest.approx((1, exact.low, 1))


def test_clustered_interval_covers() -> None:
    generator = np.random.default_rng(0)
    covered = 0
    for _ in range(1000):
        counts = generator.integers(5, 60, 40).astype(np.float64)
        shares = generator.beta(9, 1, 40)
        hits = generator.binomial(counts.astype(int), shares).astype(np.float64)
        _, low, high = clustered_interval(hits, counts, 0.95)
        covered += low <= 0.9 <= high
    assert 0.93 <= covered / 1000 <= 0.985


def test_classes_and_trades() -> None:
    fp32 = np.eye(3, dtype=np.float32)[[0, 1, 2, 2]]
    int8 = np.eye(3, dtype=np.float32)[[0, 2, 2, 1]]
    sample = Sample(np.arange(4), np.zeros(4, np.int64), fp32, int8)
    section = Evaluation(
        trading=Trading(returns="next", positions=[-1, 0, 0]),
        resampling=Resampling(confidence=0.8),
    )
    classes, trades = agreements(sample, "multiclass_classification", section)
    exact = binomtest(2, 4).proportion_ci(0.8, method="exact")
    assert (classes.name, classes.units, classes.count) == ("class_agreement", "rows", 4)
    assert (classes.share, classes.low, classes.high) == pytest.approx((0.5, *exact))
    assert (trades.name, trades.share, trades.high) == ("trade_agreement", 1, 1)
    assert len(agreements(sample, "multiclass_classification", Evaluation())) == 1


@pytest.mark.parametrize("task", ["binary_classification", "regression"])
def test_numbers_have_no_agreement(task) -> None:
    scores = np.zeros(3, np.float32)
    assert agreements(Sample(np.arange(3), scores, scores, scores), task, Evaluation()) == ()


def test_overlap_of_the_nearest() -> None:
    # Row 0 asks: 10 of the 12 others are near. INT8 turns the nearest away.
    int8 = CIRCLE.copy()
    int8[1] = -CIRCLE[0]
    asked = Retrieval(query="asks")
    found = of_representation(CIRCLE, int8, retrieval=asked)["top_10_overlap"]
    assert (found.share, found.count, found.units) == (0.9, 10, "nearest rows")
    assert of_representation(CIRCLE, CIRCLE)["top_10_overlap"].share == 1
    few = of_representation(CIRCLE[:4], CIRCLE[:4])["top_10_overlap"]
    assert (few.share, few.count) == (1, 4 * 3)


def test_overlap_does_not_depend_on_how_ties_are_ordered() -> None:
    # All 12 answers are equally near to INT8: 10 of the 12 are those of FP32.
    found = of_representation(CIRCLE, np.ones_like(CIRCLE), retrieval=Retrieval(query="asks"))
    assert found["top_10_overlap"].share == pytest.approx(10 / 12)


def test_assignments_to_clusters() -> None:
    groups = np.array([[0], [1], [2], [100], [101]], np.float32)
    moved = groups.copy()
    moved[0] = 99
    found = of_representation(groups, moved, segmentation=Segmentation(clusters=2))
    assert found["assignment_agreement"].share == pytest.approx(4 / 5)


def test_tokens() -> None:
    predictions = np.array([[1.0, 4], [1.0, 6], [0.0, 0]])
    sample = Sample(
        np.arange(3),
        np.empty((3, 0)),
        predictions,
        predictions,
        agreeing=np.array([4, 5, 0]),
    )
    (found,) = agreements(sample, "language_model", Evaluation())
    assert (found.name, found.share, found.count) == ("token_agreement", 0.9, 10)
    assert found.low < 0.9 < found.high <= 1
    with pytest.raises(DataError, match="without a token to compare"):
        agreements(sample.take(np.array([2])), "language_model", Evaluation())


def test_rows_of_one_customer_are_worth_fewer() -> None:
    fp32 = np.eye(2, dtype=np.float32)[np.zeros(200, int)]
    int8 = np.eye(2, dtype=np.float32)[np.repeat(np.arange(20) == 3, 10).astype(int)]
    sample = Sample(np.arange(200), np.zeros(200, np.int64), fp32, int8)
    task, customers = "multiclass_classification", np.repeat(np.arange(20), 10)
    (apart,) = agreements(sample, task, Evaluation())
    (together,) = agreements(sample, task, Evaluation(), customers)
    assert (together.share, together.count) == (apart.share, 200) == (0.95, 200)
    assert together.low < binomtest(19, 20).proportion_ci(0.95, method="exact").low < apart.low


def test_rows_that_ask_are_those_of_their_customer() -> None:
    # Only row 0 asks: its customer stands alone, whatever the others are.
    asked, customers = Retrieval(query="asks"), np.arange(len(CIRCLE)) // 5
    sample = Sample(
        np.arange(len(CIRCLE)), np.empty((len(CIRCLE), 0)), CIRCLE, CIRCLE,
        {"asks": (np.arange(len(CIRCLE)) == 0).astype(np.float64)},
    )  # fmt: skip
    (found,) = agreements(sample, "representation", Evaluation(retrieval=asked), customers)
    assert found.low == pytest.approx(0.025)
