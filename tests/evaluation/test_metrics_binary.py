from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from scipy.stats import ks_2samp, mannwhitneyu
from sklearn import metrics as sklearn_metrics

from qtool.errors import DataError, ModelError
from qtool.evaluation.metrics.binary import (
    METRICS,
    SMALLEST_PROBABILITY,
    check_labels,
    check_scores,
    equal_mass_edges,
    recall_metrics,
    roc_points,
)
from qtool.evaluation.sample import Sample

LABELS = np.array([0, 0, 1, 0, 1], np.int8)
SCORES = np.array([0.1, 0.2, 0.3, 0.4, 0.8], np.float32)
NAMED = {
    m.name: m for m in (*METRICS, *recall_metrics(["recall_at_fpr_0.25", "recall_at_fpr_0.3"]))
}

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


def value(name: str, labels: NDArray, scores: NDArray) -> float:
    sample = Sample(np.arange(len(labels)), labels, scores, scores)
    return NAMED[name].build(sample, scores)(None)


@pytest.fixture
def fraud() -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    rng = np.random.default_rng(5)
    labels = (rng.random(3000) < 0.1).astype(np.int8)
    logits = rng.normal(-2, 1, 3000) + 1.5 * labels
    return labels, np.round(1 / (1 + np.exp(-logits)), 2).astype(np.float32)  # rounded: ties


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("auc", 5 / 6),  # positives 0.3 and 0.8 beat 2 and 3 of the 3 negatives
        ("gini", 2 / 3),
        ("ks", 2 / 3),  # at 0.3: TPR 1, FPR 1/3
        ("pr_auc", 0.5 * 1 + 0.5 * 2 / 3),
        ("brier", (0.1**2 + 0.2**2 + 0.7**2 + 0.4**2 + 0.2**2) / 5),
        ("log_loss", -np.log([0.9, 0.8, 0.3, 0.6, 0.8]).mean()),
        ("ece", (0.1 + 0.2 + 0.7 + 0.4 + 0.2) / 5),  # 5 rows: each is a bin of its own
        ("recall_at_fpr_0.25", 1 / 2),  # above 0.4, the highest negative
        ("recall_at_fpr_0.3", 1 / 2),
    ],
)
def test_worked_example(name: str, expected: float) -> None:
    assert value(name, LABELS, SCORES) == pytest.approx(expected, abs=1e-7)


@pytest.mark.parametrize(
    ("name", "reference"),
    [
        ("auc", sklearn_metrics.roc_auc_score),
        ("gini", lambda labels, scores: 2 * sklearn_metrics.roc_auc_score(labels, scores) - 1),
        ("pr_auc", sklearn_metrics.average_precision_score),
        ("brier", sklearn_metrics.brier_score_loss),
        ("log_loss", sklearn_metrics.log_loss),
    ],
)
def test_equals_scikit_learn(fraud, name: str, reference) -> None:
    labels, scores = fraud
    expected = reference(labels, scores.astype(np.float64))
    assert value(name, labels, scores) == pytest.approx(expected, rel=1e-12)


def test_log_loss_of_sure_scores_is_that_of_scikit_learn_in_float32() -> None:
    labels, scores = np.array([0, 1, 1], np.int8), np.array([0, 1, 0], np.float32)
    kept = scores.astype(np.float64).clip(SMALLEST_PROBABILITY, 1 - SMALLEST_PROBABILITY)
    found = value("log_loss", labels, scores)
    assert found == pytest.approx(sklearn_metrics.log_loss(labels, kept), rel=1e-12)
    assert found == pytest.approx(sklearn_metrics.log_loss(labels, scores), rel=1e-6)


@pytest.mark.parametrize("rate", ["0.001", "0.01", "0.05", "1e-1", ".5"])
def test_recall_at_fpr_is_the_highest_point_of_the_roc_there(fraud, rate: str) -> None:
    labels, scores = fraud
    fpr, tpr, _ = sklearn_metrics.roc_curve(labels, scores, drop_intermediate=False)
    (metric,) = recall_metrics([f"recall_at_fpr_{rate}"])
    sample = Sample(np.arange(len(labels)), labels, scores, scores)
    expected = tpr[fpr <= float(rate)].max()
    assert metric.build(sample, scores)(None) == pytest.approx(expected, rel=1e-12)


def test_recall_metrics_are_named_as_written() -> None:
    names = ["recall_at_fpr_0.0010", "auc", "recall_at_fpr_1", "recall_at_fpr_0", "recall_at_fpr_"]
    (metric,) = recall_metrics(names)
    assert (metric.name, metric.title) == ("recall_at_fpr_0.0010", "Recall at 0.1 % FPR")


def test_auc_equals_mann_whitney(fraud) -> None:
    labels, scores = fraud
    positives, negatives = scores[labels == 1], scores[labels == 0]
    u = mannwhitneyu(positives, negatives).statistic
    assert value("auc", labels, scores) == pytest.approx(u / positives.size / negatives.size)


def test_ks_equals_scipy(fraud) -> None:
    labels, scores = fraud
    expected = ks_2samp(scores[labels == 1], scores[labels == 0], method="asymp").statistic
    assert value("ks", labels, scores) == pytest.approx(expected, rel=1e-12)
    assert value("ks", labels, 1 - scores) == pytest.approx(expected, rel=1e-12)


def test_ece_equals_a_loop_over_bins(fraud) -> None:
    labels, scores = fraud
    limits = [-np.inf, *equal_mass_edges(scores, 15), np.inf]
    expected = 0.0
    for low, high in pairwise(limits):
        inside = (scores >= low) & (scores < high)
        if inside.any():
            gap = labels[inside].mean() - scores[inside].mean(dtype=np.float64)
            expected += inside.mean() * abs(gap)
    assert value("ece", labels, scores) == pytest.approx(expected)


def test_ece_is_small_for_calibrated_and_large_for_shifted_scores() -> None:
    rng = np.random.default_rng(1)
    scores = rng.random(200_000).astype(np.float32) * 0.5
    labels = (rng.random(scores.size) < scores).astype(np.int8)
    assert value("ece", labels, scores) < 0.005
    assert value("ece", labels, scores + np.float32(0.25)) == pytest.approx(0.25, abs=0.005)


def test_edges_never_divide_ties() -> None:
    scores = np.array([0.5] * 90 + [0.6] * 10, np.float32)
    assert equal_mass_edges(scores, 10).tolist() == pytest.approx([0.5, 0.6])


@given(grids)
def test_rank_metrics_ignore_monotone_transforms(grid: tuple[NDArray, NDArray]) -> None:
    labels, scores = two_classes(grid)
    squeezed = scores / 2 + np.float32(0.25)
    for name in ("auc", "gini", "ks", "pr_auc", "recall_at_fpr_0.25"):
        assert value(name, labels, squeezed) == pytest.approx(value(name, labels, scores))


@given(grids, st.randoms(use_true_random=False))
def test_metrics_are_bounded_and_ignore_row_order(
    grid: tuple[NDArray, NDArray], random: object
) -> None:
    labels, scores = two_classes(grid)
    order = np.array(random.sample(range(labels.size), labels.size))
    for name in NAMED:
        found = value(name, labels, scores)
        assert (-1 if name == "gini" else 0) <= found <= (16 if name == "log_loss" else 1)
        assert value(name, labels[order], scores[order]) == pytest.approx(found)


@given(grids)
def test_reversed_scores_mirror_auc(grid: tuple[NDArray, NDArray]) -> None:
    labels, scores = two_classes(grid)
    assert value("auc", labels, 1 - scores) == pytest.approx(1 - value("auc", labels, scores))


def test_one_class_leaves_the_rank_metrics_undefined() -> None:
    weights = np.array([1.0, 1, 0, 1, 0])
    sample = Sample(np.arange(5), LABELS, SCORES, SCORES)
    undefined = {
        name for name, metric in NAMED.items() if np.isnan(metric.build(sample, SCORES)(weights))
    }
    assert undefined == {"auc", "gini", "ks", "pr_auc", "recall_at_fpr_0.25", "recall_at_fpr_0.3"}


def test_roc_runs_from_corner_to_corner() -> None:
    fpr, tpr = roc_points(LABELS, SCORES)
    assert (fpr[0], tpr[0], fpr[-1], tpr[-1]) == (0, 0, 1, 1)


@pytest.mark.parametrize("bad", [np.nan, -0.1, 1.5, np.inf])
def test_a_score_that_is_no_probability_is_a_model_error(make_scores, bad: float) -> None:
    int8 = SCORES.copy()
    int8[3] = bad
    with pytest.raises(ModelError, match=r"INT8 model: 1 of 5 scores .* at row 103"):
        check_scores(make_scores(LABELS, SCORES, int8))


@pytest.mark.parametrize("labels", [[0, 0, 0, 0, 0], [0, 1, 2, 0, 1]])
def test_labels_must_be_both_classes(labels: list[int]) -> None:
    with pytest.raises(DataError, match="both 0 and 1"):
        check_labels(np.array(labels, np.int8))
