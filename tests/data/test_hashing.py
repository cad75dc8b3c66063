from __future__ import annotations

import hashlib

import numpy as np

from qtool.data.hashing import hash_texts, splitmix64, unit_interval


def test_splitmix64_published_sequence() -> None:
    # splitmix64.c seeded with 1234567 prints these; its state grows by the golden gamma.
    gamma = 0x9E3779B97F4A7C15
    states = np.array([(1234567 + n * gamma) % 2**64 for n in range(3)], np.uint64)
    assert splitmix64(states).tolist() == [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
    ]


def test_hash_texts_is_blake2b() -> None:
    digest = hashlib.blake2b("Köln".encode(), digest_size=8).digest()
    assert hash_texts(["a", "Köln"])[1] == int.from_bytes(digest, "little")


def test_unit_interval_is_uniform_and_below_one() -> None:
    assert unit_interval(np.array([0, 2**64 - 1], np.uint64)).tolist() == [0.0, 1 - 2.0**-53]
    values = unit_interval(splitmix64(np.arange(100_000, dtype=np.uint64)))
    counts = np.histogram(values, 10, (0, 1))[0]
    assert abs(counts - 10_000).max() < 4 * np.sqrt(10_000)
