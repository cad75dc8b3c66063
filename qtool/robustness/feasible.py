"""Where the values of a row may be moved to: limits of raw columns, seen through the encoder.

A person changes raw values (an income, a number of open accounts); attacks move what the model
reads. Encodings are monotone column by column, so limits of a raw column are limits of its encoded
values. Only whole numbers need more: ``Region.settle`` decodes, rounds, and encodes again with the
deployed encoder. What it returns is therefore, to the bit, what the encoder makes of a raw row
within the limits.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qtool.config.evaluation import Box
from qtool.data.encoding import Encoder
from qtool.data.tabular import NumericEncoding
from qtool.errors import ConfigError
from qtool.numerics.affine import Array

Bools = NDArray[np.bool_]
Float64 = NDArray[np.float64]

LARGEST = float(np.finfo(np.float32).max)
WHOLE = 1e-5
"""A decoded value this close to a whole number, relative to its size, is that number: the rounding
of scale and logarithm in float32."""


@dataclass(frozen=True, eq=False)
class Movable:
    """The m columns of one numeric input that may be moved, and how far.

    Attributes:
        encoding: of these columns only.
        positions: where they lie in the input, int64 (m,).
        reach: largest move, encoded or raw, float64 (m,).
        raw_reach: whether ``reach`` is in the unit of the column, bool (m,).
        low: smallest raw value, float32 (m,).
        high: largest raw value, float32 (m,).
        down: whether a value may get smaller, bool (m,).
        up: whether it may get larger, bool (m,).
        whole: whole numbers only, bool (m,).
    """

    encoding: NumericEncoding
    positions: NDArray[np.int64]
    reach: Float64
    raw_reach: Bools
    low: Array
    high: Array
    down: Bools
    up: Bools
    whole: Bools


def movable(
    boxes: Sequence[Box], encoder: Encoder, reference: Mapping[str, NDArray[Any]], where: str
) -> dict[str, Movable]:
    """Returns what may be moved of every numeric input that has mutable columns.

    Args:
        boxes: the mutable columns.
        encoder: of the model.
        reference: encoded inputs of the calibration split, which give spread and bounds.
        where: the section, for messages.

    Raises:
        ConfigError: a column is no number of exactly one numeric input, is named twice, or has no
            value within its bounds.
    """
    if not boxes:
        raise ConfigError(where, "no mutable columns", "those that can be changed")
    found: dict[str, list[_Column]] = {}
    seen: set[str] = set()
    for box in boxes:
        for column in box.columns:
            if column in seen:
                raise ConfigError(where, f"column {column!r} is named twice", "one range for it")
            seen.add(column)
            name, encoding = _input_of(column, encoder, where)
            place = sum(encoding.widths[: encoding.columns.index(column)])
            values = np.asarray(reference[name][:, place], np.float64)
            found.setdefault(name, []).append(_column(box, column, encoding, place, values, where))
    return {name: _joined(encoder.inputs[name], parts) for name, parts in found.items()}


def region_of(
    movable: Movable, encoded: Array, raw: Array | None = None, share: float = 1.0
) -> Region:
    """Returns where given rows may be moved to.

    Args:
        movable: the columns.
        encoded: the input, float32 (rows, k).
        raw: values of the columns, float32 (rows, m), NaN where missing; decoded from ``encoded``
            when left out, where a missing value is what it is filled with.
        share: of every reach.
    """
    start = np.ascontiguousarray(encoded[:, movable.positions])
    if raw is None:
        raw = decoded(movable.encoding, start)
        near = np.rint(raw)
        whole = movable.whole & (np.abs(raw - near) <= WHOLE * np.maximum(1, np.abs(raw)))
        raw = np.where(whole, near, raw)
    low, high = _limits(movable, start, raw, share)
    return Region(movable, encoded, raw, low, high)


def raw_columns(movable: Movable, columns: Mapping[str, NDArray[Any]]) -> Array:
    """Returns raw columns of the source side by side, as the encoder reads them.

    Args:
        movable: the columns.
        columns: float64 (rows,), NaN where missing, by name.
    """
    return np.stack([columns[name].astype(np.float32) for name in movable.encoding.columns], axis=1)


def decoded(encoding: NumericEncoding, x: Array | Float64) -> Array:
    """Returns the raw values whose encoding is ``x``, float32 (rows, k): the inverse of ``apply``.

    What the encoder has clipped becomes the value at which it begins to.
    """
    y = x.astype(np.float64) / encoding.multiplier + encoding.offset
    with np.errstate(over="ignore"):
        raw = np.where(encoding.log, np.sign(y) * np.expm1(np.abs(y)), y)
    return np.clip(raw, -LARGEST, LARGEST).astype(np.float32)


@dataclass(frozen=True, eq=False)
class Region:
    """Where the rows of one input may be moved to.

    Attributes:
        movable: the columns.
        encoded: the input before any move, float32 (rows, k).
        raw: values of the columns, float32 (rows, m), NaN where missing.
        low: smallest raw values, float32 (rows, m), not above ``raw``.
        high: largest raw values, not below ``raw``.
    """

    movable: Movable
    encoded: Array
    raw: Array
    low: Array
    high: Array

    @cached_property
    def bounds(self) -> tuple[Array, Array]:
        """The smallest and the largest encoded input, each float32 (rows, k)."""
        return self._with(self.low, np.minimum), self._with(self.high, np.maximum)

    def settle(self, moved: Array) -> Array:
        """Returns the encoding of the raw rows within the limits that are nearest to ``moved``.

        Args:
            moved: the input, float32 (rows, k), within ``bounds``; other columns are as they were.
        """
        positions = self.movable.positions
        settled = moved.copy()
        same = moved[:, positions] == self.encoded[:, positions]
        encoded = self.movable.encoding.apply(self.raw_of(moved))
        settled[:, positions] = np.where(same, moved[:, positions], encoded)
        return settled

    def raw_of(self, moved: Array) -> Array:
        """Returns those raw values, float32 (rows, m); NaN where they are missing."""
        part = moved[:, self.movable.positions]
        raw = decoded(self.movable.encoding, part)
        raw = np.where(self.movable.whole, np.rint(raw), raw)
        same = part == self.encoded[:, self.movable.positions]
        return np.where(same, self.raw, np.clip(raw, self.low, self.high))

    def _with(self, raw: Array, outer: Callable[[Array, Array], Array]) -> Array:
        """Returns the input with these raw values; a value that stays keeps its own encoding."""
        whole, positions = self.encoded.copy(), self.movable.positions
        start = whole[:, positions]
        moves = ~np.isnan(self.raw) & (raw != self.raw)
        edge = outer(self.movable.encoding.apply(raw), start)
        whole[:, positions] = np.where(moves, edge, start)
        return whole


@dataclass(frozen=True)
class _Column:
    """One mutable column: its place in the input, its box with both bounds, its reach."""

    name: str
    place: int
    box: Box
    reach: float
    low: float
    high: float


def _input_of(column: str, encoder: Encoder, where: str) -> tuple[str, NumericEncoding]:
    readers = {name: part for name, part in encoder.inputs.items() if column in part.columns}
    numeric = {n: part for n, part in readers.items() if isinstance(part, NumericEncoding)}
    if len(readers) != 1 or len(numeric) != 1:
        kinds = ", ".join(f"{n} ({type(part).__name__})" for n, part in readers.items())
        found = f"column {column!r} is read by {kinds or 'no model input'}"
        raise ConfigError(where, found, "a column of one numeric input")
    name, part = numeric.popitem()
    if part.widths[part.columns.index(column)] != 1:
        found = f"column {column!r} holds lists of numbers"
        raise ConfigError(where, found, "a column of one number")
    return name, part


def _column(
    box: Box, column: str, encoding: NumericEncoding, place: int, values: Float64, where: str
) -> _Column:
    ends = np.array([[values.min()], [values.max()]])
    first, last = decoded(_part(encoding, [column], [place]), ends)[:, 0].tolist()
    if box.integer:
        first, last = round(first), round(last)
    low = first if box.low is None else box.low
    high = last if box.high is None else box.high
    if low > high:
        found = f"column {column!r} lies within {first:g} to {last:g} in the calibration split"
        raise ConfigError(
            where, f"{found}, outside of low and high", "bounds that it has values in"
        )
    reach = box.range if box.unit == "raw" else box.range * float(values.std())
    if reach == 0:
        found = f"column {column!r} is constant in the calibration split, so its range is 0"
        raise ConfigError(where, found, "a column that varies", "Set unit: raw.")
    return _Column(column, place, box, reach, low, high)


def _joined(encoding: object, parts: Sequence[_Column]) -> Movable:
    assert isinstance(encoding, NumericEncoding)
    boxes = [part.box for part in parts]
    places = [part.place for part in parts]
    return Movable(
        encoding=_part(encoding, [part.name for part in parts], places),
        positions=np.array(places, np.int64),
        reach=np.array([part.reach for part in parts]),
        raw_reach=np.array([box.unit == "raw" for box in boxes]),
        low=np.array([part.low for part in parts], np.float32),
        high=np.array([part.high for part in parts], np.float32),
        down=np.array([box.direction != "up" for box in boxes]),
        up=np.array([box.direction != "down" for box in boxes]),
        whole=np.array([box.integer for box in boxes]),
    )


def _part(encoding: NumericEncoding, columns: list[str], places: list[int]) -> NumericEncoding:
    return dataclasses.replace(
        encoding,
        columns=tuple(columns),
        widths=(1,) * len(columns),
        fill=None if encoding.fill is None else encoding.fill[places],
        log=encoding.log[places],
        offset=encoding.offset[places],
        multiplier=encoding.multiplier[places],
    )


def _limits(movable: Movable, start: Array, raw: Array, share: float) -> tuple[Array, Array]:
    """Returns the smallest and the largest raw values, float32 (rows, m), around ``raw``."""
    reach = movable.reach * share

    def end(allowed: Bools, sign: int, bound: Array) -> Array:
        far = decoded(movable.encoding, start.astype(np.float64) + sign * reach)
        far = np.where(movable.raw_reach, (raw + sign * reach).astype(np.float32), far)
        inner = np.minimum if sign > 0 else np.maximum
        far = inner(far, bound)
        far = np.where(movable.whole, np.floor(far) if sign > 0 else np.ceil(far), far)
        outer = np.maximum if sign > 0 else np.minimum
        return np.where(allowed & moves, outer(far, raw), raw).astype(np.float32, copy=False)

    # Comparisons with a missing value are false.
    moves = (raw >= movable.low) & (raw <= movable.high)
    moves &= ~movable.whole | (raw == np.rint(raw))
    return end(movable.down, -1, movable.low), end(movable.up, +1, movable.high)
