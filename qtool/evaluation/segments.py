"""Segments: the metric and the decisions in the rows that share a value of a column.

What a model loses in a small group does not show in the total. Rows are told apart by any column:
texts and numbers with few values by value, other numbers by the ranges between their quartiles.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qtool.data.judging_columns import MISSING
from qtool.errors import ConfigError
from qtool.evaluation.results import MetricChange, SegmentChange
from qtool.evaluation.sample import Sample
from qtool.statistics.clusters import Codes, effective_rows
from qtool.statistics.proportions import share_upper

SMALLEST = 30
"""Rows; fewer tell nothing of a metric."""
MOST_VALUES = 20
"""Values of a column that are told apart."""
LONGEST = 60
"""Characters of the name of a group."""
OTHER, NO_VALUE = -1, -2


@dataclass(frozen=True, eq=False)
class Groups:
    """Which rows belong together.

    Attributes:
        names: of the groups: a value in one line, of at most ``LONGEST`` characters, or a range in
            words.
        codes: int8 (rows,), position in ``names``; ``NO_VALUE`` where the column has none,
            ``OTHER`` for rows of no group.
    """

    names: tuple[str, ...]
    codes: NDArray[np.int8]


def segments(
    sample: Sample,
    columns: Sequence[str],
    compare: Callable[[Sample], MetricChange],
    flips: NDArray[np.bool_] | None,
    confidence: float,
    clusters: Codes | None = None,
) -> tuple[SegmentChange, ...]:
    """Returns the metric's change and the flips of every segment with ``SMALLEST`` rows or more.

    Rows of values that are rarer, or beyond the ``MOST_VALUES`` most frequent ones, are together
    the segment "other"; those without a value the segment "missing"; a column that tells no rows
    apart has no segments. With the given confidence *no* segment of any column flips more than its
    bound says: each has a Clopper-Pearson bound at 1 - (1 - confidence) / segments (Bonferroni).
    Intervals of the metric are of each segment alone.

    Args:
        sample: rows; has the columns.
        columns: to tell rows apart by.
        compare: the metric on the rows of one segment; NaN where they leave it undefined, as those
            of one class do.
        flips: bool (rows,), decisions or classes that differ; None where there are none.
        confidence: of all bounds together.
        clusters: equal for rows that depend on each other, (rows,); None: each stands by itself.

    Raises:
        ConfigError: a column holds lists.
    """
    found = []
    for column in columns:
        groups = groups_of(sample.columns[column], SMALLEST, f"evaluation.segments, {column!r}")
        for name, mask in _parts(groups):
            change = compare(sample.take(mask))
            found.append((column, name, mask, change))
    each = 1 - (1 - confidence) / max(len(found), 1)

    def of_flips(mask: NDArray[np.bool_]) -> tuple[int | None, float]:
        """Returns how many flip in a segment, and the bound of their share."""
        if flips is None:
            return None, math.nan
        inside = flips[mask]
        effective = effective_rows(inside, None if clusters is None else clusters[mask], each)
        hits = int(inside.sum())
        return hits, share_upper(hits * (effective / len(inside)), effective, each)

    return tuple(
        SegmentChange(column, name, int(mask.sum()), change, *of_flips(mask))
        for column, name, mask, change in found
    )


def groups_of(values: NDArray[Any], smallest: int, where: str) -> Groups:
    """Returns the groups of at least ``smallest`` rows, in the order of their values.

    Of texts, and of numbers with at most ``MOST_VALUES`` different values, the most frequent
    values; of other numbers the four ranges between the quartiles, each with its upper end.

    Args:
        values: as ``data.judging_columns`` reads a column, (rows,).
        smallest: rows of a group.
        where: key of the config that names the column, for messages.

    Raises:
        ConfigError: the column holds lists.
    """
    if values.dtype != object:
        names, codes = _of_numbers(values)
    elif len(values) and isinstance(values[0], np.ndarray):
        raise ConfigError(where, "a column of lists", "a column of numbers or texts")
    else:
        names, codes = _of_texts(values)
    counts = np.bincount(codes[codes >= 0], minlength=len(names))
    kept = np.flatnonzero(counts >= smallest)
    # The last two places are those of NO_VALUE and OTHER, which count from the end.
    renamed = np.full(len(names) + 2, OTHER, np.int8)
    renamed[kept] = np.arange(len(kept))
    renamed[NO_VALUE] = NO_VALUE
    return Groups(tuple(_line(names[index]) for index in kept), renamed[codes])


def _line(text: str) -> str:
    """Returns a value as reports can show it: texts may be endless, empty, or hold line breaks."""
    plain = " ".join(text.split())
    printable = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in plain)
    shown = printable if len(printable) <= LONGEST else f"{printable[: LONGEST - 1]}…"
    return shown or "(empty)"


def _parts(groups: Groups) -> list[tuple[str, NDArray[np.bool_]]]:
    """Returns each segment with its rows; none where "other" or "missing" alone would be one."""
    named = [*enumerate(groups.names), (OTHER, "other"), (NO_VALUE, MISSING)]
    masks = [(name, groups.codes == code) for code, name in named]
    found = [(name, mask) for name, mask in masks if mask.sum() >= SMALLEST]
    return found if groups.names or len(found) > 1 else []


def _of_texts(values: NDArray[Any]) -> tuple[list[str], NDArray[np.int8]]:
    counts = Counter(values.tolist())
    counts.pop(MISSING, None)
    # Ties by name, so that the order of the rows does not matter.
    frequent = sorted(counts, key=lambda text: (-counts[text], text))[:MOST_VALUES]
    names = sorted(frequent)
    places = {name: place for place, name in enumerate(names)} | {MISSING: NO_VALUE}
    codes = np.fromiter((places.get(text, OTHER) for text in values), np.int8, len(values))
    return names, codes


def _of_numbers(values: NDArray[np.float64]) -> tuple[list[str], NDArray[np.int8]]:
    missing = np.isnan(values)
    present = values[~missing]
    different = np.unique(present)
    if len(different) <= MOST_VALUES:
        ends, names = different, [_text(value) for value in different]
    else:
        ends = np.unique(np.quantile(present, [0.25, 0.5, 0.75, 1], method="inverted_cdf"))
        if len(ends) == 1:  # most rows have the largest value
            ends = different[-2:]
        between = [f"above {_text(a)}, up to {_text(b)}" for a, b in pairwise(ends[:-1])]
        names = [f"up to {_text(ends[0])}", *between, f"above {_text(ends[-2])}"]
    codes = np.searchsorted(ends, values).astype(np.int8)  # NaN lies beyond all
    codes[missing] = NO_VALUE
    return names, codes


def _text(value: float) -> str:
    return f"{value:.0f}" if float(value).is_integer() else f"{value:.6g}"
