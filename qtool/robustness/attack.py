"""What an attack is, to those who need no torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from numpy.typing import NDArray

from qtool.data.signature import Arrays
from qtool.robustness.feasible import Region

Attack = Callable[[Arrays, NDArray[Any], Mapping[str, Region], int], Arrays]
"""(inputs, labels, where inputs may be moved to, steps) → inputs, moved within their regions."""
Predict = Callable[[Arrays], NDArray[Any]]
"""Encoded inputs of any number of rows → predictions, in the form of ``evaluation.sample``."""
