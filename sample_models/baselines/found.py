"""What a baseline gives back."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from numpy.typing import NDArray

Arrays = NDArray[Any]
Found = Iterator[tuple[str, Arrays]]
"""Name of a baseline, and its predictions of the evaluation rows."""
