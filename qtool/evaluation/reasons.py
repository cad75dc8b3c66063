"""Reason codes: do FP32 and INT8 name the same columns as the reasons of a decision?

A lender tells an applicant the principal reasons of a refusal (Regulation B, 12 CFR 1002.9(b)(2);
its official interpretation asks for four at most). Both models are asked in the same way, as black
boxes: a column's part is by how much the log-odds fall when it gets its typical value (Robnik-
Šikonja and Kononenko 2008, "Explaining classifications for individual instances", IEEE TKDE 20(5),
weight of evidence; a column is replaced and not averaged out, so that one row is scored once per
column).
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy.special import logit

from qtool.config.evaluation import ReasonCodes
from qtool.data.blocks import Block
from qtool.data.encoding import Encoder
from qtool.evaluation.perturb import Score, raw_columns, replaced, scores_of, typical_row
from qtool.evaluation.results import ReasonStability
from qtool.statistics.bounded import mean_interval
from qtool.statistics.clusters import Codes, effective_rows

Float64 = NDArray[np.float64]
Bool = NDArray[np.bool_]
METHOD = (
    "fall of the log-odds when the column gets its typical value "
    "(median, most frequent) of the calibration split"
)
NOISE = 1e-5
"""Log-odds: what float32 arithmetic alone may move a logit of a few units."""
ROUNDING = 2.0**-24
"""Largest error of a float32 score in [0, 1]; scores nearer to 1 cannot be told from it."""
WHERE = "evaluation.reason_codes"


def reason_stability(
    block: Block,
    reference: Block,
    encoder: Encoder,
    score: Score,
    section: ReasonCodes,
    confidence: float,
    seed: int,
    clusters: Codes | None = None,
) -> ReasonStability:
    """Returns how far FP32 and INT8 agree on the reasons of the rows.

    Each model names, per row, the ``section.top`` columns with the largest parts of those that push
    towards flagged; rows for which neither has any are not counted. The overlap of a row is the
    number of columns that both name over the larger number that one names (feature agreement,
    Krishna et al. 2022, arXiv 2202.01602); all shares are NaN when no row is counted.

    Parts that differ by no more than float noise are tied. Of tied columns that compete for the
    last places those are taken that the other model names too: neither model prefers one of them,
    so a difference would come from neither. In the same way the first columns are the same when one
    column is first, or tied for it, in both. ``method`` says in how many rows a tie was broken.

    Args:
        block: rows that FP32 flags, ``section.rows`` of them; at least one.
        reference: rows of the calibration split, for the typical values; at least one.
        encoder: makes the model inputs; every column it reads is a possible reason.
        score: both models' probabilities.
        section: ``evaluation.reason_codes``.
        confidence: of the interval of the overlap, two-sided.
        seed: of the interval's draws.
        clusters: equal for rows that depend on each other, (rows,); None: each stands by itself.

    Raises:
        ConfigError: an input has columns of lists; the model has several outputs per row.
    """
    columns = raw_columns(encoder)
    typical = [typical_row(reference, encoder, column, WHERE) for column in columns]
    scores = np.stack(scores_of(score, encoder.encode(block), WHERE))  # (models, rows)
    parts = np.empty((*scores.shape, len(columns)))
    for place, (column, row) in enumerate(zip(columns, typical, strict=True)):
        without = scores_of(score, encoder.encode(replaced(block, column, reference, row)), WHERE)
        parts[:, :, place] = _log_odds(scores) - _log_odds(np.stack(without))
    # Both log-odds of a part err; what is subtracted of a positive part is nearer to 0.
    noise = NOISE + 2 * ROUNDING / np.maximum(1 - scores, ROUNDING)
    named, broken = _named(parts, noise[..., None], section.top)
    counts = named.sum(axis=2)
    told = counts.max(axis=0) > 0
    overlap = (named[0] & named[1]).sum(axis=1)[told] / counts.max(axis=0)[told]
    first = _first(parts, noise[..., None])
    same_first = (first[0] & first[1]).any(axis=1)[told]
    together = None if clusters is None else clusters[told]
    independent = effective_rows(overlap, together, (1 + confidence) / 2)
    interval = mean_interval(overlap, confidence, seed, independent)
    ties = int(broken[told].sum())
    return ReasonStability(
        rows=len(overlap),
        top=section.top,
        overlap=interval.estimate,
        low=interval.low,
        high=interval.high,
        same_first=float(same_first.mean()) if same_first.size else math.nan,
        method=METHOD + (f"; rows in which a tie was broken: {ties:,}" if ties else ""),
        columns={
            column: (int(fp32), int(int8))
            for column, (fp32, int8) in zip(columns, named.sum(axis=1).T, strict=True)
        },
    )


def nothing_explained(section: ReasonCodes) -> ReasonStability:
    """Returns the result of no row: NaN shares."""
    undefined = (math.nan,) * 4
    return ReasonStability(0, section.top, *undefined, method=METHOD, columns={})


def _log_odds(scores: Float64) -> Float64:
    smallest = float(np.finfo(np.float32).tiny)
    return np.asarray(logit(np.clip(scores, smallest, 1 - ROUNDING)))


def _named(parts: Float64, noise: Float64, top: int) -> tuple[Bool, Bool]:
    """Returns which columns each model names, and in which rows a tie had to be broken.

    Args:
        parts: (2 models, rows, columns).
        noise: (2, rows, 1), difference up to which parts are tied.
        top: columns to name at most.

    Returns:
        bool (2, rows, columns) and bool (rows,).
    """
    positive = parts > noise
    count = np.minimum(top, positive.sum(axis=2, keepdims=True))
    falling = -np.sort(-parts, axis=2)
    last = np.take_along_axis(falling, np.maximum(count - 1, 0), axis=2)
    surely = positive & (parts > last + noise)
    tied = positive & ~surely & (parts >= last - noise)
    rank = np.select(
        [surely, tied & surely[::-1], tied & tied[::-1], tied], [0, 1, 2, 3], default=4
    )
    order = np.argsort(rank, axis=2, kind="stable")
    named = np.argsort(order, axis=2) < count
    return named, ((surely | tied).sum(axis=2) > count[..., 0]).any(axis=0)


def _first(parts: Float64, noise: Float64) -> Bool:
    return np.asarray((parts > noise) & (parts >= parts.max(axis=2, keepdims=True) - noise))
