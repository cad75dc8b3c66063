"""FP32 against INT8 on the same rows: which interval, and that it is that of the statistics."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

from qtool.commands.scoring import joined
from qtool.config.evaluation import Resampling
from qtool.evaluation.compare import Pairing, compare, compare_part
from qtool.evaluation.metrics import binary, multiclass
from qtool.evaluation.metrics.regression import point_metrics
from qtool.evaluation.sample import Sample
from qtool.statistics import bootstrap
from qtool.statistics.delong import delong
from qtool.statistics.ks import ks_change
from qtool.statistics.proportions import paired_shares

AUC, GINI, KS, PR_AUC, BRIER, *_ = binary.METRICS
ACCURACY = multiclass.METRICS[0]


def scores(rows=400, noise=0.05, seed=0):
    random = np.random.default_rng(seed)
    labels = (random.random(rows) < 0.3).astype(np.int8)
    fp32 = np.clip(random.normal(0.4 + 0.2 * labels, 0.15), 0, 1).astype(np.float32)
    int8 = np.clip(fp32 + noise * random.normal(size=rows), 0, 1).astype(np.float32)
    customers = np.repeat(np.arange(rows // 4), 4).astype(float)
    return Sample(np.arange(rows), labels, fp32, int8, {"customer": customers})


def pairing(task="binary_classification", by_time=False, **section):
    return Pairing(Resampling(resamples=200, **section), task, by_time, seed=1)


def test_auc_and_gini_have_the_interval_of_delong():
    sample = scores()
    auc, gini = compare(sample, (AUC, GINI), pairing())
    expected = delong(sample.labels, sample.fp32, sample.int8)
    assert (auc.fp32, auc.int8) == (expected.first, expected.second)
    assert (auc.low, auc.high) == (expected.interval(0.95).low, expected.interval(0.95).high)
    assert (gini.low, gini.high) == pytest.approx((2 * auc.low, 2 * auc.high))
    assert gini.change == pytest.approx(2 * auc.change)
    assert auc.interval == "DeLong"


def test_accuracy_has_the_interval_of_two_shares_of_the_same_rows():
    random = np.random.default_rng(0)
    fp32, int8 = (random.dirichlet([1, 1, 1], 300).astype(np.float32) for _ in range(2))
    labels = random.integers(0, 3, 300)
    (found,) = compare(
        Sample(np.arange(300), labels, fp32, int8),
        (ACCURACY,),
        pairing("multiclass_classification"),
    )
    right = fp32.argmax(1) == labels, int8.argmax(1) == labels
    only = int((right[0] & ~right[1]).sum()), int((right[1] & ~right[0]).sum())
    expected = paired_shares(*only, 300, 0.95)
    assert (found.low, found.high) == (expected.low, expected.high)
    assert found.change == pytest.approx(expected.estimate)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({}, "paired bootstrap within classes"),
        ({"by_time": True}, "paired bootstrap of blocks of 7 rows"),
        ({"block": 5}, "paired bootstrap of blocks of 5 rows"),
        ({"by_time": True, "block": 1}, "paired bootstrap within classes"),
        ({"cluster": "customer"}, "paired bootstrap of clusters"),
        ({"cluster": "customer", "by_time": True}, "paired bootstrap of clusters"),
    ],
)
def test_rows_that_depend_on_each_other_are_drawn_together(given, words):
    auc, brier = compare(scores(), (AUC, BRIER), pairing(**given))
    assert brier.interval == words
    assert (auc.interval == "DeLong") == (words == "paired bootstrap within classes")
    for change in (auc, brier):
        assert change.low < change.change < change.high


def test_equal_rows_drawn_together_give_a_wider_interval():
    """Every row four times is no more evidence than once."""
    once = scores(200)
    again = Sample(
        np.arange(800),
        *(np.repeat(part, 4) for part in (once.labels, once.fp32, once.int8)),
        {"customer": np.repeat(np.arange(200.0), 4)},
    )
    widths = [
        (found := compare(sample, (BRIER,), pairing(**given))[0]).high - found.low
        for sample, given in ((again, {}), (again, {"cluster": "customer"}), (once, {}))
    ]
    assert widths[1] == pytest.approx(2 * widths[0], rel=0.2)
    assert widths[1] == pytest.approx(widths[2], rel=0.2)


def test_many_rows_are_resampled_on_some_of_them(monkeypatch):
    sample = scores(4000)
    (full,) = compare(sample, (BRIER,), pairing())
    monkeypatch.setattr(bootstrap.subset, "__defaults__", (1000,))
    (some,) = compare(sample, (BRIER,), pairing())
    assert (some.fp32, some.int8) == (full.fp32, full.int8)
    assert some.error == pytest.approx(full.error, rel=0.25)


def test_one_class_has_no_change():
    sample = scores()
    part = sample.take(sample.labels == 1)
    assert math.isnan(compare_part(part, KS, pairing()).change)
    assert compare_part(sample, KS, pairing()) == compare(sample, (KS,), pairing())[0]


@pytest.mark.parametrize("shards", [2, 7])
def test_shards_in_any_order_give_the_same_figures(shards):
    sample = scores()
    parts = [sample.take(rows) for rows in np.array_split(np.arange(len(sample)), shards)]
    together = joined(parts)
    backwards = joined(parts[::-1])
    in_order = backwards.take(np.argsort(backwards.rows))
    expected = compare(sample, binary.METRICS, pairing())
    assert compare(together, binary.METRICS, pairing()) == expected
    assert compare(in_order, binary.METRICS, pairing()) == expected


def test_few_rows_without_a_change_of_rank_prove_little():
    """0 of 20 rows: up to 14 % of all may change."""
    labels = np.repeat(np.array([0, 1], np.int8), 20)
    same = np.linspace(0, 1, 40, dtype=np.float32)
    (auc,) = compare(Sample(np.arange(40), labels, same, same), (AUC,), pairing())
    assert auc.change == 0
    assert auc.bound_high == pytest.approx(1 - 0.05 ** (1 / 20))
    assert auc.high == pytest.approx(1 - 0.025 ** (1 / 20))


def test_draws_of_nothing_but_zeros_prove_little():
    """Scores that move without a change of rank leave KS as it is in every draw."""
    sample = scores(100)
    moved = dataclasses.replace(sample, int8=np.sqrt(sample.fp32).astype(np.float32))
    ks, brier = compare(moved, (KS, BRIER), pairing())
    scarce = min(sample.labels.sum(), (1 - sample.labels).sum())
    assert ks.change == 0
    assert ks.bound_high == pytest.approx(1 - 0.05 ** (1 / scarce))
    assert brier.low < brier.change < brier.high < 0 or 0 < brier.low < brier.change < brier.high


def test_ks_has_the_interval_of_the_thresholds_near_it():
    sample = scores(2000)
    (ks,) = compare(sample, (KS,), pairing())
    expected = ks_change(sample.labels, sample.fp32, sample.int8)
    assert (ks.fp32, ks.int8) == (expected.first, expected.second)
    interval = expected.interval(0.95)
    assert (ks.low, ks.high) == (interval.low, interval.high)
    # Verdicts have ends of 97.5 % each, which never lie inside of what is printed.
    assert (ks.bound_low, ks.bound_high) == (interval.low, interval.high)
    assert ks.interval == "thresholds near the largest distance"


def test_ks_of_few_thresholds_is_resampled():
    sample = scores(2000)
    coarse = dataclasses.replace(sample, int8=np.round(sample.int8 * 5) / 5)
    (ks,) = compare(coarse, (KS,), pairing())
    assert ks.interval == "paired bootstrap within classes"
    assert ks.low < ks.change < ks.high


def test_pr_auc_counts_pairs_once():
    sample = scores(noise=0.002)
    (found,) = compare(sample, (PR_AUC,), pairing())
    draws = pairing().draws(sample)
    pair = PR_AUC.build(sample, sample.fp32), PR_AUC.build(sample, sample.int8)
    drawn = bootstrap.paired_bootstrap({"pr_auc": pair}, draws)["pr_auc"]
    assert found.interval == "paired bootstrap within classes, pairs of rows counted once"
    assert found.error < drawn.std()
    bounds = bootstrap.bootstrap_bounds(found.change, drawn, 0.95, units=draws.smallest())
    assert (found.bound_low, found.bound_high) == (bounds.low, bounds.high)
    (clustered,) = compare(sample, (PR_AUC,), pairing(cluster="customer"))
    assert clustered.interval == "paired bootstrap of clusters"


@pytest.mark.parametrize("metric", [*binary.METRICS, *binary.recall_metrics(["recall_at_fpr_0.1"])])
@pytest.mark.parametrize("given", [{}, {"cluster": "customer"}])
def test_equal_predictions_leave_a_doubt(metric, given):
    """It falls with the rows, or clusters, as far as the metric can change by one of them."""
    sample = scores()
    same = dataclasses.replace(sample, int8=sample.fp32.copy())
    (found,) = compare(same, (metric,), pairing(**given))
    span = found.fp32 if metric.span is None else metric.span
    units = 100 if given else min(sample.labels.sum(), (1 - sample.labels).sum())
    assert found.change == 0
    assert found.bound_high == pytest.approx(span * (1 - 0.05 ** (1 / units)))
    assert found.bound_low == -found.bound_high


def test_a_change_that_is_the_same_in_every_draw_is_as_doubtful():
    rows = np.arange(50)
    labels = np.zeros(50, np.float32)
    regression = Sample(rows, labels, np.full((50, 1), 2.0), np.full((50, 1), 3.0))
    (mae, *_) = compare(regression, point_metrics(None)[:1], pairing("regression"))
    assert mae.change == 1
    assert mae.bound_high - 1 == pytest.approx(2 * (1 - 0.05 ** (1 / 50)))


def test_units_are_clusters_or_blocks_or_none():
    sample = scores(8)
    assert pairing().units(sample) is None
    assert pairing(cluster="customer").units(sample).tolist() == [0] * 4 + [1] * 4
    assert pairing(by_time=True).units(sample).tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert pairing(block=3).units(sample).tolist() == [0, 0, 0, 1, 1, 1, 2, 2]
