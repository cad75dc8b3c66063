from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from qtool.numerics.saturation import may_saturate, saturating_sums


def by_hand(codes, weight):
    if codes.shape[1] % 2:
        codes = np.pad(codes, ((0, 0), (0, 1)))
        weight = np.pad(weight, ((0, 1), (0, 0)))
    products = codes[:, :, None].astype(np.int64) * weight[None].astype(np.int64)
    sums = products[:, 0::2] + products[:, 1::2]
    return ((sums > 32767) | (sums < -32768)).sum(axis=(0, 1))


def test_one_pair_by_hand():
    # 255 * 127 + 255 * 2 = 32,895 saturates; 255 * 127 + 255 * 1 = 32,640 does not.
    codes = np.array([[255, 255]], np.uint8)
    assert saturating_sums(codes, np.array([[127], [2]], np.int8)) == 1
    assert saturating_sums(codes, np.array([[127], [1]], np.int8)) == 0
    assert saturating_sums(codes, np.array([[-127], [-2]], np.int8)) == 1
    # Large weights of different sign cancel, and small codes do not get there.
    assert saturating_sums(codes, np.array([[127], [-127]], np.int8)) == 0
    assert saturating_sums(np.array([[100, 100]], np.uint8), np.full((2, 1), 127, np.int8)) == 0


@given(st.integers(0, 2**32 - 1), st.integers(1, 9), st.integers(1, 9), st.integers(1, 5))
def test_equals_the_sums_computed_one_by_one(seed, rows, inputs, outputs):
    generator = np.random.default_rng(seed)
    codes = generator.choice([0, 90, 255], (rows, inputs)).astype(np.uint8)
    weight = generator.choice([-127, -64, 0, 64, 127], (inputs, outputs)).astype(np.int8)
    assert (saturating_sums(codes, weight) == by_hand(codes, weight)).all()


@given(st.integers(0, 2**32 - 1))
def test_seven_bits_never_saturate(seed):
    generator = np.random.default_rng(seed)
    codes = generator.integers(0, 256, (8, 16)).astype(np.uint8)
    weight = generator.integers(-63, 64, (16, 8)).astype(np.int8)
    assert not saturating_sums(codes, weight).any()


def test_a_convolution_pairs_channels_at_one_tap():
    largest = np.array([255, 255], np.uint8)
    apart = np.array([[[127, 0], [0, 127]]], np.int8)  # the large weights are at different taps
    together = np.array([[[127, 0], [127, 0]]], np.int8)
    assert may_saturate(largest, np.concatenate([apart, together])).tolist() == [False, True]
