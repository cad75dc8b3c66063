"""Hashes that give every row its place: the same on every machine, in every version."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

_GAMMA = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)


def splitmix64(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Returns 64 well-mixed bits per value; a bijection, so distinct values never collide.

    Args:
        values: uint64, any shape.

    Source: ``next()`` of S. Vigna's splitmix64.c with state ``values`` (Steele, Lea and Flood 2014,
    "Fast splittable pseudorandom number generators").
    """
    mixed = values + _GAMMA
    mixed = (mixed ^ (mixed >> np.uint64(30))) * _MIX_1
    mixed = (mixed ^ (mixed >> np.uint64(27))) * _MIX_2
    return mixed ^ (mixed >> np.uint64(31))


def hash_texts(texts: Sequence[str]) -> NDArray[np.uint64]:
    """Returns the 8-byte BLAKE2b digest of each text (UTF-8), read as little-endian uint64."""
    digests = b"".join(hashlib.blake2b(text.encode(), digest_size=8).digest() for text in texts)
    return np.frombuffer(digests, "<u8").astype(np.uint64)


def unit_interval(bits: NDArray[np.uint64]) -> NDArray[np.float64]:
    """Returns the upper 53 bits as a number in [0, 1)."""
    return (bits >> np.uint64(11)).astype(np.float64) * 2.0**-53
