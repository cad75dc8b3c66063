from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qtool.data.batch import Batch, join
from qtool.data.dataset import Dataset
from qtool.data.fitting import fit
from qtool.data.sampling import calibration_rows, choose_rows, class_quotas
from qtool.progress import SilentProgress


def batches(rows: np.ndarray, positive: np.ndarray | None, size: int) -> Iterator[Batch]:
    labels = None if positive is None else positive.astype(np.int8)
    whole = Batch(rows, labels, {})
    return (whole.take(slice(start, start + size)) for start in range(0, len(rows), size))


def test_quotas_by_hand() -> None:
    assert class_quotas([900, 100], 100, 0.0) == [90, 10]  # the natural proportion
    assert class_quotas([990, 10], 100, 0.05) == [95, 5]  # raised to the minimum
    assert class_quotas([997, 3], 100, 0.05) == [97, 3]  # all there are
    assert class_quotas([3, 997], 100, 0.05) == [3, 97]
    assert class_quotas([60, 39], 100, 0.1) == [60, 39]  # fewer rows than samples
    assert class_quotas([1000, 1000], 7, 0.5) == [3, 4]
    assert class_quotas([600, 300, 100], 50, 0.0) == [30, 15, 5]
    # 2 rows, then a minimum of 10; the other two share 88 as 600 to 300.
    assert class_quotas([600, 300, 20, 2], 100, 0.1) == [59, 29, 10, 2]
    assert class_quotas([10, 10, 10], 4, 0.5) == [1, 2, 1]  # a fourth row is left over
    assert class_quotas([], 4, 0.5) == []


COUNTS = st.lists(st.integers(0, 300), min_size=1, max_size=6)
SHARES = st.floats(0, 0.5, exclude_max=True)


@given(COUNTS, st.integers(1, 200), SHARES)
def test_quotas_keep_their_promises(counts: list[int], samples: int, share: float) -> None:
    quotas = class_quotas(counts, samples, share)
    assert sum(quotas) == min(samples, sum(counts))
    floor = min(int(samples * share), samples // len(counts))
    for quota, rows in zip(quotas, counts, strict=True):
        assert 0 <= quota <= rows
        assert quota >= min(rows, floor)
    free = [(rows, quota) for rows, quota in zip(counts, quotas, strict=True) if quota > floor + 1]
    for rows, quota in free:  # above the minimum, quotas are proportional up to rounding
        assert all(abs(quota * r - q * rows) <= 2 * max(rows, r) for r, q in free)


@given(st.integers(0, 300), st.integers(0, 300), st.integers(1, 200), SHARES)
def test_two_classes_have_a_closed_form(
    negatives: int, positives: int, samples: int, share: float
) -> None:
    if negatives + positives <= samples:
        samples = negatives + positives
    minimum = min(math.ceil(samples * share), samples // 2)
    natural = round(samples * positives / max(negatives + positives, 1))
    wanted = min(max(natural, minimum), samples - minimum)
    chosen = min(max(wanted, samples - negatives), positives)
    assert class_quotas([negatives, positives], samples, share) == [samples - chosen, chosen]


@given(
    st.integers(1, 90), st.permutations(range(60)), st.integers(1, 70), st.booleans(), st.booleans()
)
def test_batch_size_and_order_do_not_matter(
    size: int, order: list[int], samples: int, labelled: bool, few: bool
) -> None:
    rows = np.arange(1000, 1060)
    shuffled = rows[order]
    samples = min(samples, 5) if few else samples
    expected = choose_rows(batches(rows, rows % 7 == 0 if labelled else None, 60), samples, 0.2, 3)
    found = choose_rows(
        batches(shuffled, shuffled % 7 == 0 if labelled else None, size), samples, 0.2, 3
    )
    np.testing.assert_array_equal(found, expected)
    assert (np.diff(found) > 0).all()
    assert len(found) == min(samples, 60)


def test_a_larger_sample_contains_the_smaller() -> None:
    rows = np.arange(5_000)
    sizes = (10, 100, 1_000)
    nested = [set(choose_rows(batches(rows, rows % 9 == 0, 512), n, 0.1, 1)) for n in sizes]
    assert nested[0] < nested[1] < nested[2]


def test_sample_is_uniform_within_a_class_over_seeds() -> None:
    rows = np.arange(200)
    drawn = np.zeros(200)
    for seed in range(400):
        drawn[choose_rows(batches(rows, rows < 20, 64), 50, 0.2, seed)] += 1
    # 10 of 20 positives and 40 of 180 negatives each time.
    np.testing.assert_allclose(drawn[:20] / 400, 0.5, atol=0.11)
    np.testing.assert_allclose(drawn[20:] / 400, 40 / 180, atol=0.1)


def test_no_rows() -> None:
    assert choose_rows([], 9, 0.1, 0).tolist() == []


@pytest.fixture
def dataset(credit, credit_inputs, make_source, make_data) -> Dataset:
    columns = {name: credit[name].combine_chunks() for name in credit.column_names}
    source, data = make_source(columns, (97, 31)), make_data(credit_inputs, batch_rows=300)
    return Dataset(source, data, fit(source, data, SilentProgress()))


@pytest.mark.parametrize("batch_rows", [1, 7, 64, 10_000])
def test_streamed_rows_are_those_of_the_split(dataset: Dataset, batch_rows: int) -> None:
    whole = join(list(dataset.batches("calibration")))
    found = list(calibration_rows(dataset, 60, 0.3, 5, batch_rows))
    assert all(len(batch) == batch_rows for batch in found[:-1])
    sample = join(found)
    positives = whole.labels.sum()
    assert len(sample) == 60
    assert sample.labels.sum() == max(18, round(60 * positives / len(whole)))
    again = whole.take(np.isin(whole.rows, sample.rows))
    np.testing.assert_array_equal(sample.rows, again.rows)
    for name, values in again.inputs.items():
        assert sample.inputs[name].tobytes() == values.tobytes()


@pytest.mark.parametrize("samples", [None, 100_000])
def test_all_rows(dataset: Dataset, samples: int | None) -> None:
    found = join(list(calibration_rows(dataset, samples, 0.1, 0, 50)))
    whole = join(list(dataset.batches("calibration")))
    np.testing.assert_array_equal(found.rows, whole.rows)


def test_rows_are_chosen_without_their_inputs(dataset: Dataset, monkeypatch) -> None:
    read = []
    original = type(dataset.source).batches

    def spied(self, columns, batch_rows):
        read.append(list(columns))
        return original(self, columns, batch_rows)

    monkeypatch.setattr(type(dataset.source), "batches", spied)
    list(calibration_rows(dataset, 10, 0.1, 0, 50))
    assert read == [["y"], ["y", "income", "balance", "mcc", "country"]]


def test_every_class_of_many_is_in_the_sample() -> None:
    rows = np.arange(10_000)
    classes = np.minimum(rows % 200, 4)  # 49 of 50 rows are of class 4
    sample = choose_rows([Batch(rows, classes, {})], 100, 0.1, 0)
    assert np.bincount(classes[sample]).tolist() == [10, 10, 10, 10, 60]


def test_numbers_that_are_no_classes_are_not_read(credit, make_source, make_data) -> None:
    columns = {name: credit[name].combine_chunks() for name in credit.column_names}
    source = make_source(columns)
    data = make_data({"x": {"columns": ["mcc"]}}, label="balance", split={"by": "hash"})
    dataset = Dataset(source, data, fit(source, data, SilentProgress(), "regression"), "regression")
    assert all(batch.labels is None for batch in dataset.row_numbers("calibration"))
    sample = join(list(calibration_rows(dataset, 40, 0.1, 0, 16)))
    expected = credit["balance"].to_numpy()[sample.rows].astype(np.float32)
    np.testing.assert_array_equal(sample.labels, expected)


def test_without_labels(credit, credit_inputs, make_source, make_data) -> None:
    columns = {name: credit[name].combine_chunks() for name in credit.column_names}
    source, data = make_source(columns), make_data(credit_inputs, label=None)
    dataset = Dataset(source, data, fit(source, data, SilentProgress()))
    assert dataset.fitted.counts.positives == {}
    sample = join(list(calibration_rows(dataset, 40, 0.5, 0, 16)))
    assert sample.labels is None
    assert len(sample) == 40
    assert len(next(dataset.raw_batches("evaluation", 10))) == 10
