"""Monotonicity: does the score follow a column in the direction that the business knows?

Of each row one column is set to a series of increasing values and everything else is kept. A step
between neighbouring values that moves the score against the direction is a violation; what FP32
does wrong itself tells what is INT8's own.
"""

from __future__ import annotations

import numpy as np

from qtool.config.evaluation import Monotonicity
from qtool.data.blocks import Block
from qtool.data.encoding import Encoder
from qtool.evaluation.perturb import Score, replaced, scores_of, spread_rows
from qtool.evaluation.results import MonotonicityResult

NOISE = 2.0**-20
"""Of the largest score: what float32 arithmetic alone may move it (8 units in the last place)."""


def monotonicity(
    block: Block, reference: Block, encoder: Encoder, score: Score, section: Monotonicity
) -> tuple[MonotonicityResult, ...]:
    """Returns, for each named column, the steps of both models against its direction.

    A move of at most ``NOISE`` of the largest score that the model gave is none.

    Args:
        block: rows whose columns are varied, ``section.rows`` of them; at least one.
        reference: rows of the calibration split, for the values (``perturb.spread_rows``).
        encoder: makes the model inputs.
        score: both models.
        section: ``evaluation.monotonicity``.

    Raises:
        ConfigError: a column is read by no model input, or holds lists or texts; the model has
            several outputs per row.
        DataError: a column has one value in all reference rows.
    """
    return tuple(
        _along(column, direction, block, reference, encoder, score, section.points)
        for column, direction in section.columns.items()
    )


def _along(
    column: str,
    direction: str,
    block: Block,
    reference: Block,
    encoder: Encoder,
    score: Score,
    points: int,
) -> MonotonicityResult:
    where = f"evaluation.monotonicity.columns.{column}"
    curves = np.stack(
        [
            scores_of(score, encoder.encode(replaced(block, column, reference, row)), where)
            for row in spread_rows(reference, encoder, column, points, where).tolist()
        ]
    )  # (points, models, rows)
    moves = np.diff(curves, axis=0)
    against = -moves if direction == "increasing" else moves
    noise = NOISE * np.abs(curves).max(axis=(0, 2), keepdims=True)
    wrong = against > noise
    fp32, int8 = wrong.sum(axis=(0, 2)).tolist()
    largest_fp32, largest_int8 = np.where(wrong, against, 0.0).max(axis=(0, 2)).tolist()
    steps = moves.shape[0] * moves.shape[2]
    return MonotonicityResult(column, direction, steps, fp32, int8, largest_fp32, largest_int8)
