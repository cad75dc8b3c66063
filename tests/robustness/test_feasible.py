"""Limits of raw columns, and what lies within them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from robustness.applicants import (
    BOXES,
    COLUMNS,
    ENCODER,
    REFERENCE,
    batch_of,
    encoding_of,
    inputs_of,
    raw_rows,
    region,
)

from qtool.config.evaluation import Box, Robustness
from qtool.data.encoding import Encoder
from qtool.data.nested import Channels, TensorEncoding
from qtool.data.tabular import NumericEncoding
from qtool.errors import ConfigError
from qtool.robustness.feasible import decoded, movable, region_of

INCOME, AGE, INQUIRIES, RATIO = range(4)


def test_limits_by_hand():
    """A column without log, offset 45 and spread 15: ages within 20 and 70, moved by 6 at most."""
    boxes = [Box(columns=["age"], range=6, unit="raw", integer=True, low=20, high=70)]
    batch = batch_of(3)
    batch.columns["age"][:] = [22, 50, 75]
    found = region(batch, boxes)
    np.testing.assert_array_equal(found.low[:, 0], [20, 44, 75])
    np.testing.assert_array_equal(found.high[:, 0], [28, 56, 75])


def test_deviations_are_those_of_the_encoded_column():
    batch = batch_of(50)
    found = region(batch, [Box(columns=["ratio"], range=0.25, low=-9, high=9)])
    spread = REFERENCE["numbers"][:, RATIO].std()
    low, high = (bound[:, RATIO] for bound in found.bounds)
    x = batch.inputs["numbers"][:, RATIO]
    inside = np.abs(x) < 2.7  # the encoder clips at 3
    np.testing.assert_allclose((high - x)[inside], 0.25 * spread, rtol=1e-4)
    np.testing.assert_allclose((x - low)[inside], 0.25 * spread, rtol=1e-4)


def test_bounds_left_out_are_those_of_the_calibration_split():
    columns = movable([Box(columns=["age"], integer=True)], ENCODER, REFERENCE, "mutable")
    raw = raw_rows(4000, seed=9)[:, AGE]
    assert (columns["numbers"].low[0], columns["numbers"].high[0]) == (raw.min(), raw.max())


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**31), st.sampled_from([0.0, 0.2]), st.floats(0.05, 1))
def test_settled_rows_are_raw_rows_within_the_limits(seed, missing, share):
    random = np.random.default_rng(seed)
    batch = batch_of(40, seed % 1000, missing)
    found = region(batch, share=share)
    low, high = found.bounds
    moved = low + random.random(low.shape).astype(np.float32) * (high - low)
    moved = np.where(random.random(low.shape) < 0.2, low, np.clip(moved, low, high))
    settled = found.settle(moved)

    raw = np.stack([batch.columns[name].astype(np.float32) for name in COLUMNS], axis=1)
    before = raw.copy()
    raw[:, found.movable.positions] = found.raw_of(moved)
    np.testing.assert_array_equal(settled, inputs_of(raw)["numbers"])

    same = (raw == before) | np.isnan(before)
    assert same[:, AGE].all()
    assert (same[:, INCOME] | (raw[:, INCOME] > before[:, INCOME])).all()
    inquiries, steps = raw[:, INQUIRIES], raw[:, INQUIRIES] - before[:, INQUIRIES]
    assert (same[:, INQUIRIES] | (inquiries == np.rint(inquiries))).all()
    assert (same[:, INQUIRIES] | ((inquiries >= 0) & (np.abs(steps) <= 2))).all()
    assert np.array_equal(np.isnan(raw), np.isnan(before))
    reach = np.zeros(4)
    reach[[INCOME, RATIO]] = found.movable.reach[[0, 2]] * share
    moves = np.abs(settled - batch.inputs["numbers"])[:, [INCOME, AGE, RATIO]]
    assert (moves <= reach[[INCOME, AGE, RATIO]] + 1e-5).all()


def test_a_value_out_of_bounds_or_not_whole_stays():
    batch = batch_of(3)
    batch.columns["inquiries"][:] = [2.5, 3, 30]
    encoding = ENCODER.inputs["numbers"]
    raw = np.stack([batch.columns[name] for name in COLUMNS], axis=1)
    batch.inputs["numbers"][:] = encoding.apply(raw.astype(np.float32))
    found = region(batch, [Box(columns=["inquiries"], unit="raw", range=5, high=20, integer=True)])
    assert (found.low[:, 0] == found.high[:, 0]).tolist() == [True, False, True]


def test_decoding_undoes_encoding():
    encoding = encoding_of(clip=None)
    raw = raw_rows(500).astype(np.float32)
    np.testing.assert_allclose(decoded(encoding, encoding.apply(raw)), raw, rtol=2e-6, atol=1e-6)


def test_without_raw_columns_they_are_decoded():
    batch = batch_of(200)
    columns = movable(BOXES, ENCODER, REFERENCE, "mutable")["numbers"]
    given, guessed = region(batch), region_of(columns, batch.inputs["numbers"])
    np.testing.assert_array_equal(guessed.low[:, 1], given.low[:, 1])
    np.testing.assert_array_equal(guessed.high[:, 1], given.high[:, 1])
    np.testing.assert_array_equal(guessed.settle(guessed.encoded), guessed.encoded)


@pytest.mark.parametrize(
    ("boxes", "message"),
    [
        ([], "no mutable columns"),
        ([Box(columns=["region"])], r"'region' is read by codes \(CategoricalEncoding\)"),
        ([Box(columns=["salary"])], "'salary' is read by no model input"),
        ([Box(columns=["age", "age"])], "'age' is named twice"),
        ([Box(columns=["age"], low=200)], "outside of low and high"),
    ],
)
def test_columns_that_cannot_be_moved_are_refused(boxes, message):
    with pytest.raises(ConfigError, match=message):
        movable(boxes, ENCODER, REFERENCE, "mutable")


def test_columns_of_lists_of_two_inputs_and_constants_are_refused():
    part = NumericEncoding(
        ("path",), (2,), None, np.zeros(2, bool), np.zeros(2, "f4"), np.ones(2, "f4"), None
    )
    ages = encoding_of()
    tensor = TensorEncoding(("age",), Channels("float32", None), (1,))
    constant = {"numbers": np.zeros((5, 4), np.float32)}
    for inputs, box, message in [
        ({"series": part}, Box(columns=["path"]), "holds lists of numbers"),
        ({"numbers": ages, "tensor": tensor}, Box(columns=["age"]), "is read by numbers"),
        ({"numbers": ages}, Box(columns=["age"]), "constant in the calibration split"),
    ]:
        with pytest.raises(ConfigError, match=message):
            movable([box], Encoder(inputs), constant, "mutable")


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"attacks": ["pgd"]}, "attacks need mutable columns"),
        ({}, "no attack, noise or missing values"),
        ({"mutable": [{"columns": ["a"], "low": 2, "high": 1}]}, "low 2 is above high 1"),
    ],
)
def test_sections_without_sense_are_refused(section, message):
    with pytest.raises(ValidationError, match=message):
        Robustness.model_validate(section)


def test_gradients_are_needed_by_some_attacks_only():
    boxes = [Box(columns=["age"])]
    assert Robustness(mutable=boxes).needs_gradients
    assert not Robustness(mutable=boxes, attacks=["black_box"]).needs_gradients
    assert not Robustness(noise=[0.1]).needs_gradients
