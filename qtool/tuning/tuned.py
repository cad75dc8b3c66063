"""What every tuning is given."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from numpy.typing import NDArray

Inputs = Mapping[str, NDArray[Any]]
Rows = Callable[[int], Iterator[Inputs]]
"""(number of rows) → batches of the first of the calibration rows, the same at every call."""
