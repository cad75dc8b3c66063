"""Noise, and values that go missing."""

from __future__ import annotations

import numpy as np
import pytest
from robustness.applicants import ENCODER, REFERENCE, batch_of, encoding_of

from qtool.data.encoding import Encoder
from qtool.data.tabular import CategoricalEncoding
from qtool.errors import ConfigError
from qtool.robustness.stress import noisy, spreads, with_missing, without_missing

INPUTS = batch_of(4000).inputs


def random():
    return np.random.default_rng(0)


def test_noise_has_the_share_of_each_columns_deviation():
    wide = Encoder({"numbers": encoding_of(clip=None)})
    spread = spreads(wide, REFERENCE)
    changed = noisy(INPUTS, wide, spread, 0.2, random())
    moves = changed["numbers"] - INPUTS["numbers"]
    np.testing.assert_allclose(moves.std(axis=0), 0.2 * spread["numbers"], rtol=0.05)
    assert changed["codes"] is INPUTS["codes"]
    assert changed["numbers"].dtype == np.float32


def test_noise_stays_within_the_clip_of_the_encoder():
    changed = noisy(INPUTS, ENCODER, spreads(ENCODER, REFERENCE), 5.0, random())
    assert np.abs(changed["numbers"]).max() == 3


def test_a_share_of_the_values_goes_missing():
    changed = with_missing(INPUTS, ENCODER, 0.25, random())
    fill = ENCODER.inputs["numbers"].apply(np.full((1, 4), np.nan, np.float32))
    lost = changed["numbers"] != INPUTS["numbers"]
    np.testing.assert_allclose(lost.mean(axis=0), 0.25, atol=0.03)
    np.testing.assert_array_equal(changed["numbers"][lost], np.broadcast_to(fill, lost.shape)[lost])
    assert (changed["codes"] == 0).mean() == pytest.approx(0.25, abs=0.03)
    assert changed["codes"].dtype == np.int64


def test_columns_that_must_have_a_value_are_left_alone_and_named():
    encoder = Encoder({"numbers": encoding_of(fill=False), "codes": ENCODER.inputs["codes"]})
    assert without_missing(encoder) == ("income", "age", "inquiries", "ratio")
    assert without_missing(ENCODER) == ()
    assert with_missing(INPUTS, encoder, 0.5, random())["numbers"] is INPUTS["numbers"]


def test_inputs_that_cannot_be_stressed_are_refused():
    codes = Encoder({"codes": CategoricalEncoding(("region",), None)})
    with pytest.raises(ConfigError, match="needs all of its values"):
        without_missing(codes)
    with pytest.raises(ConfigError, match="no numeric input"):
        spreads(codes, REFERENCE)
