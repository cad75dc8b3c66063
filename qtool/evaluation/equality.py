"""Proof on data that two forms of one float model have the same outputs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from qtool.errors import ModelError
from qtool.runtime.sessions import Session

Arrays = Mapping[str, NDArray[Any]]
TOLERANCE = 1e-4
"""Largest relative change of a float output: float32 rounding in another order."""

SMALLEST_SIZE = 1e-3
"""Outputs below it are judged by it: what cancels to zero keeps the rounding of its parts."""


@dataclass
class _Seen:
    """Of one float output so far: its largest value and its largest change."""

    size: float = SMALLEST_SIZE
    change: float = 0.0


def check_equal(model: ir.Model, prepared: ir.Model, batches: Iterable[Arrays]) -> None:
    """Checks every output of ``prepared`` against the same output of ``model``.

    Floats may differ by ``TOLERANCE`` of the largest value of their output (at least
    ``SMALLEST_SIZE``), NaN and infinity must be where they were; outputs of other types must be
    equal. Outputs are compared batch by batch and may have any shape.

    Raises:
        ModelError: an output differs or is no tensor, or the runtime fails on the data.
    """
    first, second = Session(model, "the FP32 model"), Session(prepared, "the prepared model")
    seen: dict[str, _Seen] = {}
    rows = 0
    for batch in batches:
        before, after = first.run(batch), second.run(batch)
        rows += len(next(iter(batch.values())))
        for name in before:
            _check_tensor(name, before[name])
            _compare(name, before[name], after[name], seen.setdefault(name, _Seen()))
    for name, output in seen.items():
        difference = output.change / output.size
        if not difference <= TOLERANCE:
            raise _changed(name, f"by up to {difference:.3g} of its size on {rows} rows")


def _check_tensor(name: str, value: object) -> None:
    if not isinstance(value, np.ndarray):
        raise ModelError(
            f"the FP32 model, output '{name}'",
            f"a {type(value).__name__}",
            "a tensor",
            "Export the model without ZipMap or other sequences.",
        )


def _compare(name: str, before: NDArray[Any], after: NDArray[Any], seen: _Seen) -> None:
    if before.shape != after.shape or before.dtype != after.dtype:
        raise _changed(name, f"from {before.dtype} {before.shape} to {after.dtype} {after.shape}")
    if not np.issubdtype(before.dtype, np.floating):
        different = int((before != after).sum())
        if different:
            raise _changed(name, f"in {different} of {before.size} values that are no floats")
        return
    finite = np.isfinite(before)
    if not np.array_equal(before[~finite], after[~finite], equal_nan=True):
        raise _changed(name, "where it is NaN or infinite")
    values, others = before[finite].astype(np.float64), after[finite].astype(np.float64)
    # A value that is finite only before gives an infinite or NaN change, which is kept.
    seen.change = float(np.max(np.abs(values - others), initial=seen.change))
    seen.size = float(np.abs(values).max(initial=seen.size))


def _changed(name: str, how: str) -> ModelError:
    return ModelError(
        "prepare",
        f"output '{name}' changed {how}",
        f"at most {TOLERANCE:g} of its size",
        "The graph uses something that qtool's rewriting does not keep; please report it.",
    )
