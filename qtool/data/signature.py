"""What an encoding makes: named arrays, and their dtype and shape."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

Arrays = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class Tensor:
    """One model input: NumPy dtype, shape of one row."""

    dtype: str
    shape: tuple[int, ...]
