"""What a metric is, and how most are computed: a figure of sums over the rows.

``Metric.build`` does the sorting and all work per row once, so that the figure of one draw of the
bootstrap costs a few passes over the rows. A row with the weight 3 counts as three equal rows, one
with the weight 0 is left out. A figure that the rows leave undefined is NaN. All is computed in
float64; the order of the rows matters only to rounding, and to trading.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from qtool.errors import DataError
from qtool.evaluation.results import Better
from qtool.evaluation.sample import Predictions, Sample, Statistic, Weights

Found = TypeVar("Found")
Floats = NDArray[np.float64]
Build = Callable[[Sample, Predictions], Statistic]
"""(sample, its fp32 or its int8) → the figure of that model by the weights of the rows.

It raises DataError or ModelError where labels, columns or predictions do not fit the metric.
"""


@dataclass(frozen=True)
class Metric:
    """One figure that says how good a model is.

    Attributes:
        name: as in the config, such as ``recall_at_fpr_0.001``.
        title: as the field writes it, such as ``Recall at 0.1 % FPR``.
        better: which of two values is the better one.
        build: what computes it.
        span: how far it can change at most: of a metric from 0 to 1 by 1; None where it has no
            limit.
    """

    name: str
    title: str
    better: Better
    build: Build
    span: float | None = None


def ratio(part: float, whole: float) -> float:
    """Returns ``part`` / ``whole``, NaN where ``whole`` is 0."""
    return float(part / whole) if whole else float("nan")


def summed(weights: Floats, terms: Floats) -> float:
    """Returns the sum of the products, (rows,) each.

    Not ``@``: BLAS divides a product of 10,000 rows among threads, which wait for each other at
    every draw. Where other processes want the cores too that took 40 ms instead of 0.1.
    """
    return float(np.einsum("i,i", weights, terms))


def of_sums(figure: Callable[..., float], *terms: Floats) -> Statistic:
    """Returns the statistic ``figure(sum of the first terms, sum of the second, …)``.

    Args:
        figure: takes one float for every term (rows,), one array (k,) for every term (rows, k).
        terms: float64, one value, or k, per row.
    """
    once = [term.sum(axis=0) for term in terms]
    columns = [np.ascontiguousarray(term.T) for term in terms]

    def statistic(weights: Weights | None) -> float:
        if weights is None:
            return figure(*once)
        # As in ``summed``; one column after the other, each contiguous.
        return figure(*(np.einsum("...i,i", column, weights) for column in columns))

    return statistic


def mean_of(terms: Floats) -> Statistic:
    """Returns the statistic mean of ``terms``, float64 (rows,)."""
    once = ratio(float(terms.sum()), len(terms))

    def statistic(weights: Weights | None) -> float:
        return once if weights is None else ratio(summed(weights, terms), weights.sum())

    return statistic


def mean_where(terms: Floats, counted: NDArray[np.bool_]) -> Statistic:
    """Returns the statistic mean of ``terms``, float64 (rows,), over the rows that are ``counted``.

    Terms of other rows may have any value.
    """
    return of_sums(ratio, np.where(counted, terms, 0.0), counted.astype(np.float64))


def numbers_of(sample: Sample, column: str, key: str) -> Floats:
    """Returns the values of a column, float64 (rows,).

    Args:
        sample: with that column.
        column: of the source.
        key: the config key that names it, for errors.

    Raises:
        DataError: it holds texts or lists, or a number is missing.
    """
    values = sample.columns[column]
    if values.dtype != np.float64:
        raise DataError(f"{key} {column!r}", "texts or lists", "a column of numbers")
    missing = np.flatnonzero(~np.isfinite(values))
    if missing.size:
        found = f"{values[missing[0]]} at row {sample.rows[missing[0]]}"
        raise DataError(f"{key} {column!r}", found, "a number in every row")
    return values


def shared(
    function: Callable[[Sample, Predictions], Found],
) -> Callable[[Sample, Predictions], Found]:
    """Returns the function, which keeps what it found last of two predictions.

    So metrics that read the same of a model do not compute it again.
    """
    kept: list[tuple[Sample, Predictions, Found]] = []

    def find(sample: Sample, predictions: Predictions) -> Found:
        for seen, of, found in kept:
            if seen is sample and of is predictions:
                return found
        found = function(sample, predictions)
        kept[:] = [*kept[-1:], (sample, predictions, found)]
        return found

    return find
