from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.stats import permutation_test
from scipy.stats import t as student

from qtool.statistics.clusters import clustered_mcnemar, effective_rows, effective_units, sums_of
from qtool.statistics.noninferiority import decide_share
from qtool.statistics.proportions import mcnemar, share_upper


def test_sums_of_clusters() -> None:
    assert sums_of(np.array([1, 2, 4]), np.array([7, 3, 7])).tolist() == [2, 5]


def test_effective_units_by_hand() -> None:
    # Hits of 4 clusters of 2: 2 1 0 0, share 3 / 8; residuals 5 / 4, 1 / 4, -3 / 4, -3 / 4.
    variance = (25 + 1 + 9 + 9) / 16 / 64
    students = student.ppf(0.95, 7) / student.ppf(0.95, 2)  # two clusters have hits
    found = effective_units(np.array([2.0, 1, 0, 0]), np.full(4, 2.0), 15 / 64, 0.95)
    assert found == pytest.approx(15 / 64 / variance * students**2)
    # Turned round: what is rare are the rows that are not hit.
    turned = effective_units(np.array([0.0, 1, 2, 2]), np.full(4, 2.0), 15 / 64, 0.95)
    assert turned == pytest.approx(found)


def test_rows_by_themselves_and_clusters_that_do_not_differ() -> None:
    values = np.arange(6) < 2
    assert effective_rows(values, None, 0.95) == 6
    assert effective_rows(values, np.arange(6), 0.95) == 6
    assert effective_rows(np.zeros(6, bool), np.arange(6) // 2, 0.95) == 3
    assert effective_rows(np.zeros(0, bool), np.zeros(0, int), 0.95) == 0


@given(hnp.arrays(bool, 40), st.integers(1, 8))
@settings(max_examples=30, deadline=None)
def test_dependent_rows_never_say_more_than_independent_ones(values, size) -> None:
    clusters = np.arange(40) // size
    found = effective_rows(values, clusters, 0.95)
    assert 0 < found <= 40
    order = np.random.default_rng(size).permutation(40)
    assert effective_rows(values[order], clusters[order], 0.95) == pytest.approx(found)


@pytest.mark.parametrize("correlation", [0.0, 0.2, 0.5, 1.0])
def test_a_model_at_the_margin_passes_at_most_as_often_as_stated(correlation) -> None:
    random = np.random.default_rng(1)
    share, clusters, size = 0.01, 300, 10
    passed = naive = 0
    for _ in range(200):
        if correlation in (0, 1):
            shares = np.full(clusters, share)
            if correlation:
                shares = (random.random(clusters) < share).astype(float)
        else:
            rest = 1 / correlation - 1
            shares = random.beta(share * rest, (1 - share) * rest, clusters)
        flips = (random.random((clusters, size)) < shares[:, None]).ravel()
        effective = effective_rows(flips, np.repeat(np.arange(clusters), size), 0.95)
        hits = int(flips.sum())
        passed += decide_share(hits, flips.size, share, 0.95, effective).verdict == "pass"
        naive += decide_share(hits, flips.size, share, 0.95).verdict == "pass"
    assert passed <= 0.05 * 200 + 2.5 * np.sqrt(0.05 * 200)
    assert correlation < 0.5 or naive > 0.15 * 200


def test_the_rows_that_a_share_of_clusters_needs() -> None:
    found = decide_share(0, 1000, 0.001, 0.95, 100.0)
    assert found.verdict == "undecided"
    assert found.bound == share_upper(0, 100, 0.95)
    # 2,995 independent rows would decide, and a row is worth a tenth of one.
    assert found.rows_needed == 30_000


@given(hnp.arrays(np.int8, st.integers(1, 9), elements=st.integers(-3, 3)))
@settings(max_examples=30, deadline=None)
def test_clustered_mcnemar_equals_scipys_change_of_signs(surplus) -> None:
    found = clustered_mcnemar(surplus.astype(np.float64))
    if surplus.size > 1:
        reference = permutation_test(
            (surplus.astype(np.float64),),
            np.sum,
            permutation_type="samples",
            n_resamples=np.inf,
            alternative="two-sided",
        )
        assert found == pytest.approx(reference.pvalue, abs=1e-12)
    assert clustered_mcnemar(-surplus.astype(np.float64)) == pytest.approx(found)


@given(st.integers(0, 60), st.integers(0, 60))
@settings(max_examples=30, deadline=None)
def test_clusters_of_one_row_have_mcnemars_test(first, second) -> None:
    surplus = np.repeat([-1.0, 1.0, 0.0], [first, second, 5])
    assert clustered_mcnemar(surplus) == pytest.approx(mcnemar(first, second), abs=1e-12)
