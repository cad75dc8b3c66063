from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.stats import binomtest
from sklearn.metrics import roc_auc_score

from qtool.errors import ConfigError
from qtool.evaluation.results import MetricChange
from qtool.evaluation.sample import Sample
from qtool.evaluation.segments import NO_VALUE, OTHER, groups_of, segments


def sample_of(columns, labels=None, fp32=None, int8=None) -> Sample:
    rows = len(next(iter(columns.values())))
    zeros = np.zeros(rows, np.float32)
    return Sample(
        np.arange(rows),
        np.zeros(rows, np.int8) if labels is None else labels,
        zeros if fp32 is None else fp32,
        zeros if int8 is None else int8,
        columns,
    )


def auc(sample: Sample) -> MetricChange:
    both = math.nan, math.nan
    if len(np.unique(sample.labels)) == 2:
        both = (
            roc_auc_score(sample.labels, sample.fp32),
            roc_auc_score(sample.labels, sample.int8),
        )
    return MetricChange("auc", "AUC", "higher", *both, *[math.nan] * 3, 0.95, "none", len(sample))


def texts(**counts: int) -> np.ndarray:
    values = [text for text, count in counts.items() for _ in range(count)]
    return np.random.default_rng(0).permutation(np.array(values, object))


def grouped(values, smallest: int = 30) -> dict[str, int]:
    groups = groups_of(values, smallest, "here")
    counts = {name: int((groups.codes == place).sum()) for place, name in enumerate(groups.names)}
    rest = {"other": int((groups.codes == OTHER).sum())}
    missing = {"missing": int((groups.codes == NO_VALUE).sum())}
    return counts | {name: count for name, count in (rest | missing).items() if count}


def test_texts_by_value_and_the_rare_ones_together() -> None:
    values = texts(PL=40, DE=100, AT=29, FR=30, IT=7, missing=11)
    assert grouped(values) == {"DE": 100, "FR": 30, "PL": 40, "other": 36, "missing": 11}


def test_names_are_one_short_line() -> None:
    values = texts(**{"": 30, "a\nb": 30, "\x00": 30, "x" * 99: 30})
    assert set(grouped(values)) == {"(empty)", "a b", "\ufffd", "x" * 59 + "…"}


@pytest.mark.parametrize(
    "values",
    [[f"card {row}" for row in range(200)], ["missing"] * 200, [math.nan] * 200],
)
def test_a_column_that_tells_no_rows_apart_has_no_segments(values) -> None:
    array = np.array(values, object if isinstance(values[0], str) else float)
    assert segments(sample_of({"c": array}), ["c"], auc, None, 0.95) == ()


def test_of_many_texts_the_most_frequent_ones() -> None:
    values = texts(**{f"code{place:02}": 40 + place for place in range(25)})
    found = grouped(values)
    assert list(found) == [*(f"code{place:02}" for place in range(5, 25)), "other"]
    assert found["other"] == 40 + 41 + 42 + 43 + 44


def test_numbers_with_few_values_by_value() -> None:
    values = np.repeat([2.0, -1.0, 0.5, np.nan], [50, 60, 30, 5])
    assert grouped(values) == {"-1": 60, "0.5": 30, "2": 50, "missing": 5}


def test_other_numbers_by_quartile_by_hand() -> None:
    values = np.append(np.arange(1.0, 201.0), [np.nan] * 3)
    assert grouped(values) == {
        "up to 50": 50,
        "above 50, up to 100": 50,
        "above 100, up to 150": 50,
        "above 150": 50,
        "missing": 3,
    }


@pytest.mark.parametrize(
    ("frequent", "rest", "expected"),
    [
        (0.0, np.arange(1, 101), {"up to 0": 900, "above 0": 100}),
        (500.0, np.arange(1, 101), {"up to 100": 100, "above 100": 900}),
    ],
)
def test_one_value_of_most_rows_is_a_range_of_its_own(frequent, rest, expected) -> None:
    assert grouped(np.concatenate([[frequent] * 900, rest])) == expected


@settings(max_examples=30, deadline=None)
@given(hnp.arrays(np.float64, st.integers(1, 300), elements=st.integers(-40, 40).map(float)))
def test_every_row_is_in_one_group_and_order_does_not_matter(values: np.ndarray) -> None:
    groups = groups_of(values, 30, "here")
    assert ((groups.codes >= OTHER) & (groups.codes < len(groups.names))).all()
    reverse = groups_of(values[::-1], 30, "here")
    assert reverse.names == groups.names
    assert (reverse.codes[::-1] == groups.codes).all()
    # Groups are ranges: their order is that of the values.
    inside = groups.codes >= 0
    order = np.argsort(values[inside], kind="stable")
    assert (np.diff(groups.codes[inside][order]) >= 0).all()


def test_the_metric_and_the_flips_of_each_segment() -> None:
    rng = np.random.default_rng(1)
    country = texts(DE=300, FR=200, IT=10)
    labels = (rng.random(510) < 0.4).astype(np.int8)
    labels[country == "FR"] = 1
    fp32 = rng.random(510).astype(np.float32)
    int8 = np.where(country == "DE", rng.random(510), fp32).astype(np.float32)
    flips = country == "FR"
    flips &= np.cumsum(flips) <= 3
    sample = sample_of({"country": country}, labels, fp32, int8)
    german, french = segments(sample, ["country"], auc, flips, 0.95)
    assert (german.column, german.value, german.rows, german.flips) == ("country", "DE", 300, 0)
    inside = country == "DE"
    assert german.metric.fp32 == roc_auc_score(labels[inside], fp32[inside])
    assert german.metric.int8 == roc_auc_score(labels[inside], int8[inside])
    assert (french.value, french.rows, french.flips) == ("FR", 200, 3)
    assert math.isnan(french.metric.drop)  # one class only
    # Two segments: each bound at 97.5 %, the upper end of a two-sided interval of 95 %.
    for segment in (german, french):
        interval = binomtest(segment.flips, segment.rows).proportion_ci(0.95, "exact")
        assert segment.flip_share_upper == pytest.approx(interval.high)


def test_the_bounds_hold_together() -> None:
    # 20 segments of 100 rows that all flip 2 %: at 95 % each, some bound would fail in 2 of 3 runs.
    rng = np.random.default_rng(2)
    values = np.repeat(np.arange(20.0), 100)
    sample = sample_of({"code": values})
    wrong = 0
    for _ in range(200):
        flips = rng.random(2000) < 0.02
        found = segments(sample, ["code"], auc, flips, 0.95)
        wrong += any(segment.flip_share_upper < 0.02 for segment in found)
    assert wrong <= 200 * 0.05 + 2 * math.sqrt(200 * 0.05 * 0.95)


def test_without_decisions_there_are_no_flips() -> None:
    sample = sample_of({"a": texts(x=30, y=50), "b": np.repeat([0.0, 1.0], 40)})
    found = segments(sample, ["b", "a"], auc, None, 0.95)
    assert [(each.column, each.value) for each in found] == [
        ("b", "0"),
        ("b", "1"),
        ("a", "x"),
        ("a", "y"),
    ]
    assert all(each.flips is None and math.isnan(each.flip_share_upper) for each in found)


def test_no_segment_is_judged_with_fewer_rows() -> None:
    assert segments(sample_of({"a": texts(x=29, missing=29)}), ["a"], auc, None, 0.95) == ()
    together = segments(sample_of({"a": texts(x=29, y=29, missing=30)}), ["a"], auc, None, 0.95)
    assert [(each.value, each.rows) for each in together] == [("other", 58), ("missing", 30)]


def test_a_column_of_lists_is_a_config_error() -> None:
    lists = np.empty(2, object)
    lists[:] = [np.zeros(1, np.float32), np.zeros(2, np.float32)]
    with pytest.raises(ConfigError, match=r"evaluation\.segments, 'a': a column of lists"):
        segments(sample_of({"a": lists}), ["a"], auc, None, 0.95)


def test_flips_of_one_customer_are_worth_fewer() -> None:
    job = np.repeat(np.array(["a", "b"], object), 100)
    flips = np.arange(200) < 10
    apart, together = (
        segments(sample_of({"job": job}), ["job"], auc, flips, 0.95, clusters)
        for clusters in (None, np.arange(200) // 10)
    )
    assert [one.flips for one in together] == [one.flips for one in apart] == [10, 0]
    assert together[0].flip_share_upper > apart[0].flip_share_upper
    # Ten customers of whom none flips, at 1 - 0.05 / 2.
    assert together[1].flip_share_upper == pytest.approx(1 - 0.025 ** (1 / 10))
