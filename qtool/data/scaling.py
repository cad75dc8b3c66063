"""From the statistics of the training split to the scaling of an input's columns."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from qtool.config.data import Scaled
from qtool.data.statistics import Float64, NumericStatistics, observe, signed_log, with_filled
from qtool.data.tabular import NumericEncoding
from qtool.data.values import Float32
from qtool.errors import DataError


def no_value(source: str, column: str) -> DataError:
    """Returns the error for a column from which nothing can be learned."""
    return DataError(
        f"{source}, column {column!r}",
        "no value on the training split",
        "at least one",
        "Remove the column from the inputs.",
    )


def log_flags(part: Scaled, widths: tuple[int, ...]) -> NDArray[np.bool_]:
    """Returns which of the k numbers get the log, bool (k,)."""
    return np.repeat([column in part.log for column in part.columns], widths)


def nothing(log: NDArray[np.bool_]) -> NumericStatistics:
    """Returns the statistics of no rows."""
    return observe(np.empty((0, len(log)), np.float32), log)


def scaled(
    part: Scaled, widths: tuple[int, ...], statistics: NumericStatistics, source: str
) -> NumericEncoding:
    """Returns the encoding of columns with these statistics.

    Args:
        part: which scaling.
        widths: numbers of each column; k is their sum.
        statistics: of the training split, after the log.
        source: name, for messages.

    Raises:
        DataError: a column has no value.
    """
    for column, count in zip(np.repeat(part.columns, widths), statistics.count, strict=True):
        if count == 0:
            raise no_value(source, str(column))
    log = log_flags(part, widths)
    fill = _fill(part, statistics)
    if fill is not None:
        statistics = with_filled(statistics, signed_log(fill[None, :], log)[0])
    offset, multiplier = _offset_and_multiplier(part.scale, statistics)
    return NumericEncoding(
        columns=tuple(part.columns),
        widths=widths,
        fill=fill,
        log=log,
        offset=offset,
        multiplier=multiplier,
        clip=part.clip,
    )


def _fill(part: Scaled, statistics: NumericStatistics) -> Float32 | None:
    if part.missing == "error":
        return None
    if part.missing == "zero":
        return np.zeros(len(statistics.count), np.float32)
    return statistics.raw_mean.astype(np.float32)


def _offset_and_multiplier(scale: str, statistics: NumericStatistics) -> tuple[Float32, Float32]:
    """Returns offset and multiplier; a constant column gets multiplier 1.

    Source: StandardScaler (population variance) and MinMaxScaler of scikit-learn 1.4.
    """
    spread: Float64
    if scale == "none":
        offset, spread = np.zeros_like(statistics.mean), np.ones_like(statistics.mean)
    elif scale == "standard":
        offset, spread = statistics.mean, np.sqrt(statistics.squares / statistics.count)
    else:
        offset, spread = statistics.low, statistics.high - statistics.low
    # Constant by its bounds: the rounding of the mean may leave a tiny variance. A spread below
    # float32's normal numbers has no finite reciprocal there.
    constant = (statistics.low == statistics.high) | (spread < np.finfo(np.float32).tiny * 4)
    multiplier = 1 / np.where(constant, 1.0, spread)
    return offset.astype(np.float32), multiplier.astype(np.float32)
