"""Rules of shapes, keywords and places, and logistic regression on a window of words."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix, hstack
from sklearn.linear_model import LogisticRegression

from qtool.config.experiment import Experiment
from qtool.config.task import IGNORED
from qtool.data.batch import Batch, labels_of
from qtool.data.generators.document_words import ENDS, SHAPES, WORDS, numbers
from qtool.data.generators.receipts import FIELDS
from sample_models.baselines.found import Arrays, Found

SHAPE = 3
"""Which of a word's numbers is that of its shape."""
DATES = ("25/12/2018", "25-12-2018", "25-12-18", "25/12/18", "5/12/2018", "2018-12-25")
AMOUNTS = ("9.00", "19.00", "319.00", "4319.00", "4,319.00")
TOWN = "81100"
"""A word of the shape of a postcode."""
HEADER_ROWS = 8
"""In which an address ends."""
WINDOW = (-3, -2, -1, 0, 1, 2, 3)


def baselines(experiment: Experiment, training: Batch, evaluation: Batch) -> Found:
    """Yields the tag of every word, (rows, steps)."""
    yield (
        "rules",
        np.array([rules(*row) for row in zip(*_arrays(evaluation), strict=True)], np.float32),
    )
    real = labels_of(training) != IGNORED
    model = LogisticRegression(C=3, max_iter=60)
    model.fit(_features(training, real), labels_of(training)[real])
    asked = labels_of(evaluation) != IGNORED
    tags = np.zeros(asked.shape, np.float32)
    tags[asked] = model.predict(_features(evaluation, asked))
    yield "logistic regression, window", tags


def rules(tokens: Arrays, boxes: Arrays, mask: Arrays) -> NDArray[np.int64]:
    """Returns the tags that a few rules give to the words of one receipt, (steps,).

    The company is the first row, the address what follows up to the row of the first postcode, the
    date the first word that looks like one, and the total the last amount of the last row that says
    total and has an amount.

    Args:
        tokens: numbers of the words, (steps, 4).
        boxes: where they stand, (steps, 6).
        mask: 1 at words, (steps,).
    """
    words = int(mask.sum())
    # A word that is the first of its row begins it.
    row = np.cumsum(boxes[:words, 4] == 0) - 1
    shapes = tokens[:words, SHAPE]
    tags = np.zeros(len(mask), np.int64)
    _mark(tags, np.flatnonzero(row == 0), "company")
    towns = np.flatnonzero((shapes == numbers(TOWN)[SHAPE]) & (row > 0) & (row <= HEADER_ROWS))
    if towns.size:
        _mark(tags, np.flatnonzero((row > 0) & (row <= row[towns[0]])), "address")
    dates = np.flatnonzero(np.isin(shapes, [numbers(date)[SHAPE] for date in DATES]))
    _mark(tags, dates[:1], "date")
    amounts = np.flatnonzero(np.isin(shapes, [numbers(amount)[SHAPE] for amount in AMOUNTS]))
    named = amounts[np.isin(row[amounts], row[tokens[:words, 0] == numbers("total")[0]])]
    _mark(tags, named[-1:], "total")
    return tags


def _mark(tags: NDArray[np.int64], places: NDArray[np.int64], field: str) -> None:
    tags[places] = 1 + FIELDS.index(field)


def _features(batch: Batch, wanted: NDArray[np.bool_]) -> csr_matrix:
    """Returns indicators of the numbers of the words around each wanted one, and its box."""
    tokens, boxes, _ = _arrays(batch)
    row, step = np.nonzero(wanted)
    sizes = (WORDS, ENDS, ENDS, SHAPES)
    columns, first = [], 0
    for shift in WINDOW:
        at = step + shift
        inside = (at >= 0) & (at < tokens.shape[1])
        near = np.where(inside[:, None], tokens[row, np.clip(at, 0, tokens.shape[1] - 1)], 0)
        for number, size in enumerate(sizes):
            columns.append(first + near[:, number])
            first += size
    indices = np.stack(columns, axis=1)
    ends = np.arange(len(row) + 1) * indices.shape[1]
    ones = np.ones(indices.size, np.float32)
    return hstack([csr_matrix((ones, indices.ravel(), ends), (len(row), first)), boxes[row, step]])


def _arrays(batch: Batch) -> tuple[Arrays, Arrays, Arrays]:
    inputs = batch.inputs
    return inputs["tokens"], inputs["boxes"], inputs["mask"]
