"""Splits: which rows train, which calibrate, which evaluate.

A row's split depends on its own key or time and, for a time split, on two cut points; never on the
batch it is read in. So a row keeps its split when files are cut in another way, and with a hash
split also when rows are added.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.types as pat
from numpy.typing import NDArray

from qtool.config.data import HashSplit, TimeSplit
from qtool.data.blocks import Block, read_blocks
from qtool.data.hashing import splitmix64, unit_interval
from qtool.data.source import Source
from qtool.data.values import bad_value, categories, refuse_missing, text_hashes

SplitName = Literal["training", "calibration", "evaluation"]
SPLITS: tuple[SplitName, ...] = ("training", "calibration", "evaluation")
TRAINING, CALIBRATION, EVALUATION = range(3)
CUT_BLOCK_ROWS = 65_536


@dataclass(frozen=True)
class TimeCuts:
    """A time split with its cut points, in the integer or float storage of the column.

    Rows from ``evaluation_from`` on evaluate, rows before it and from ``calibration_from`` on
    calibrate, earlier rows train.
    """

    column: str
    calibration_from: int | float
    evaluation_from: int | float


ResolvedSplit = HashSplit | TimeCuts


def resolve_split(source: Source, section: HashSplit | TimeSplit) -> ResolvedSplit:
    """Returns the split with everything it needs to know from the data.

    A time split takes one pass over its column and holds that column in memory (8 bytes per row).
    Equal times stay together: the evaluation rows are at least the share asked for, and so are
    evaluation and calibration rows together.

    Raises:
        DataError: a time is missing.
    """
    if isinstance(section, HashSplit):
        return section
    times = np.sort(
        np.concatenate(
            [
                _times(block, section.column)
                for block in read_blocks(source, [section.column], CUT_BLOCK_ROWS)
            ]
        )
    )
    rows = len(times)
    evaluation = round(rows * section.evaluation)
    later = round(rows * (section.evaluation + section.calibration))
    # A share that rounds to no row still gets the last one: an empty split is of no use.
    cuts = times[np.minimum([rows - later, rows - evaluation], rows - 1)]
    return TimeCuts(section.column, cuts[0].item(), cuts[1].item())


def assign(block: Block, split: ResolvedSplit) -> NDArray[np.int8]:
    """Returns the split of each row as an index into ``SPLITS``, int8 of shape (rows,).

    Raises:
        DataError: a key or a time is missing or has no exact value.
    """
    if isinstance(split, TimeCuts):
        times = _times(block, split.column)
        evaluation = times >= split.evaluation_from
        calibration = times >= split.calibration_from
    else:
        position = unit_interval(_hashes(block, split.key))
        evaluation = position < split.evaluation
        calibration = position < split.evaluation + split.calibration
    codes = np.full(len(block.rows), TRAINING, np.int8)
    codes[calibration] = CALIBRATION
    codes[evaluation] = EVALUATION
    return codes


def _hashes(block: Block, key: str | None) -> NDArray[np.uint64]:
    if key is None:
        return splitmix64(block.rows.view(np.uint64))
    values = categories(block, key)
    refuse_missing(
        block, key, values, "a key in every row, since data.split.key keeps rows together by it"
    )
    if values.type == pa.string():
        return text_hashes(values)
    integers: NDArray[np.int64] = values.to_numpy()
    return splitmix64(integers.view(np.uint64))


def _times(block: Block, column: str) -> NDArray[np.int64] | NDArray[np.float64]:
    values = block.columns.column(column)
    refuse_missing(block, column, values, "a time in every row")
    if pat.is_floating(values.type):
        floats: NDArray[np.float64] = values.cast(pa.float64()).to_numpy()
        if np.isnan(floats).any():
            raise bad_value(block, column, int(np.isnan(floats).argmax()), "a time in every row")
        return floats
    if pat.is_date32(values.type):
        values = values.cast(pa.int32())
    integers: NDArray[np.int64] = values.cast(pa.int64()).to_numpy()
    return integers
