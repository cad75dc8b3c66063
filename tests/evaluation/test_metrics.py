from __future__ import annotations

from itertools import pairwise
from typing import get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from scipy.stats import ks_2samp, mannwhitneyu

from qtool.config.evaluation import Metric
from qtool.errors import DataError, ModelError
from qtool.evaluation.metrics import METRICS, compare, ece, equal_mass_edges, roc_points

LABELS = np.array([0, 0, 1, 0, 1], np.int8)
SCORES = np.array([0.1, 0.2, 0.3, 0.4, 0.8], np.float32)

# Multiples of 1/64, so that ties happen and every sum is exact.
grids = st.integers(4, 60).flatmap(
    lambda rows: st.tuples(
        hnp.arrays(np.int8, rows, elements=st.integers(0, 1)),
        hnp.arrays(np.int8, rows, elements=st.integers(0, 64)),
    )
)


def two_classes(grid: tuple[NDArray[np.int8], NDArray[np.int8]]) -> tuple[NDArray, NDArray]:
    labels, codes = grid[0].copy(), grid[1]
    labels[:2] = (0, 1)
    return labels, (codes / 64).astype(np.float32)


@pytest.fixture
def fraud() -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    rng = np.random.default_rng(5)
    labels = (rng.random(3000) < 0.1).astype(np.int8)
    logits = rng.normal(-2, 1, 3000) + 1.5 * labels
    return labels, np.round(1 / (1 + np.exp(-logits)), 2).astype(np.float32)  # rounded: ties


def test_every_configured_metric_has_a_function() -> None:
    assert set(METRICS) == set(get_args(Metric))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("auc", 5 / 6),  # positives 0.3 and 0.8 beat 2 and 3 of the 3 negatives
        ("gini", 2 / 3),
        ("ks", 2 / 3),  # at 0.3: TPR 1, FPR 1/3
        ("pr_auc", 0.5 * 1 + 0.5 * 2 / 3),
        ("brier", (0.1**2 + 0.2**2 + 0.7**2 + 0.4**2 + 0.2**2) / 5),
        ("ece", (0.1 + 0.2 + 0.7 + 0.4 + 0.2) / 5),  # 5 rows: each is a bin of its own
    ],
)
def test_worked_example(name: Metric, expected: float) -> None:
    assert METRICS[name](LABELS, SCORES) == pytest.approx(expected, abs=1e-7)


def test_auc_equals_mann_whitney(fraud: tuple[NDArray[np.int8], NDArray[np.float32]]) -> None:
    labels, scores = fraud
    positives, negatives = scores[labels == 1], scores[labels == 0]
    u = mannwhitneyu(positives, negatives).statistic
    assert METRICS["auc"](labels, scores) == pytest.approx(u / positives.size / negatives.size)


def test_ks_equals_scipy(fraud: tuple[NDArray[np.int8], NDArray[np.float32]]) -> None:
    labels, scores = fraud
    expected = ks_2samp(scores[labels == 1], scores[labels == 0], method="asymp").statistic
    assert METRICS["ks"](labels, scores) == pytest.approx(expected)
    assert METRICS["ks"](labels, 1 - scores) == pytest.approx(expected)


def test_ece_equals_a_loop_over_bins(
    fraud: tuple[NDArray[np.int8], NDArray[np.float32]],
) -> None:
    labels, scores = fraud
    limits = [-np.inf, *equal_mass_edges(scores, 15), np.inf]
    expected = 0.0
    for low, high in pairwise(limits):
        inside = (scores >= low) & (scores < high)
        if inside.any():
            gap = labels[inside].mean() - scores[inside].mean(dtype=np.float64)
            expected += inside.mean() * abs(gap)
    assert ece(labels, scores) == pytest.approx(expected)


def test_ece_is_small_for_calibrated_and_large_for_shifted_scores() -> None:
    rng = np.random.default_rng(1)
    scores = rng.random(200_000).astype(np.float32) * 0.5
    labels = (rng.random(scores.size) < scores).astype(np.int8)
    assert ece(labels, scores) < 0.005
    assert ece(labels, scores + np.float32(0.25)) == pytest.approx(0.25, abs=0.005)


def test_edges_never_divide_ties() -> None:
    scores = np.array([0.5] * 90 + [0.6] * 10, np.float32)
    assert equal_mass_edges(scores, 10).tolist() == pytest.approx([0.5, 0.6])


@given(grids)
def test_rank_metrics_ignore_monotone_transforms(grid: tuple[NDArray, NDArray]) -> None:
    labels, scores = two_classes(grid)
    squeezed = scores / 2 + np.float32(0.25)
    for name in ("auc", "gini", "ks", "pr_auc"):
        assert METRICS[name](labels, squeezed) == pytest.approx(METRICS[name](labels, scores))


@given(grids, st.randoms(use_true_random=False))
def test_metrics_are_bounded_and_ignore_row_order(
    grid: tuple[NDArray, NDArray], random: object
) -> None:
    labels, scores = two_classes(grid)
    order = np.array(random.sample(range(labels.size), labels.size))
    for name, metric in METRICS.items():
        value = metric(labels, scores)
        assert (-1 if name == "gini" else 0) <= value <= 1
        assert metric(labels[order], scores[order]) == pytest.approx(value)


@given(grids)
def test_reversed_scores_mirror_auc(grid: tuple[NDArray, NDArray]) -> None:
    labels, scores = two_classes(grid)
    assert METRICS["auc"](labels, 1 - scores) == pytest.approx(1 - METRICS["auc"](labels, scores))


def test_roc_runs_from_corner_to_corner() -> None:
    fpr, tpr = roc_points(LABELS, SCORES)
    assert (fpr[0], tpr[0], fpr[-1], tpr[-1]) == (0, 0, 1, 1)


def test_compare_keeps_the_order_of_the_names(make_scores) -> None:
    changes = compare(make_scores(LABELS, SCORES, SCORES[::-1]), ["ks", "auc"])
    assert [change.name for change in changes] == ["ks", "auc"]
    assert changes[1].fp32 == pytest.approx(5 / 6)
    assert changes[1].change == pytest.approx(1 / 6 - 5 / 6)


@pytest.mark.parametrize("bad", [np.nan, -0.1, 1.5, np.inf])
def test_a_score_that_is_no_probability_is_a_model_error(make_scores, bad: float) -> None:
    int8 = SCORES.copy()
    int8[3] = bad
    with pytest.raises(ModelError, match=r"INT8 model: 1 of 5 scores .* at row 103"):
        compare(make_scores(LABELS, SCORES, int8), ["auc"])


@pytest.mark.parametrize("labels", [[0, 0, 0, 0, 0], [0, 1, 2, 0, 1]])
def test_labels_must_be_both_classes(make_scores, labels: list[int]) -> None:
    with pytest.raises(DataError, match="both 0 and 1"):
        compare(make_scores(labels, SCORES), ["auc"])
