"""Rows of a loan application, their encoder, and a linear model of them."""

from __future__ import annotations

import numpy as np

from qtool.config.evaluation import Box
from qtool.data.batch import Batch
from qtool.data.encoding import Encoder
from qtool.data.tabular import CategoricalEncoding, NumericEncoding
from qtool.robustness.feasible import movable, raw_columns, region_of

COLUMNS = ("income", "age", "inquiries", "ratio")
WEIGHTS = np.array([-1.2, 0.4, 0.9, 0.0])
BOXES = [
    Box(columns=["income"], range=0.5, direction="up"),
    Box(columns=["inquiries"], range=2, unit="raw", integer=True, low=0),
    Box(columns=["ratio"], range=0.4),
]


def encoding_of(fill=True, clip=3.0):
    return NumericEncoding(
        columns=COLUMNS,
        widths=(1, 1, 1, 1),
        fill=np.array([2000, 40, 2.5, 0.5], np.float32) if fill else None,
        log=np.array([True, False, True, False]),
        offset=np.array([7.6, 45, 1.3, 0.5], np.float32),
        multiplier=np.array([1 / 0.6, 1 / 15, 1 / 0.7, 1 / 0.3], np.float32),
        clip=clip,
    )


ENCODER = Encoder(
    {"numbers": encoding_of(), "codes": CategoricalEncoding(("region",), (("A", "B"),))}
)


def raw_rows(rows, seed=0, missing=0.0):
    random = np.random.default_rng(seed)
    raw = np.column_stack(
        [
            np.exp(random.normal(7.6, 0.7, rows)),
            random.integers(18, 80, rows),
            random.poisson(3, rows),
            random.normal(0.5, 0.4, rows),
        ]
    )
    raw[random.random(raw.shape) < missing] = np.nan
    return raw


def inputs_of(raw, encoding=None):
    encoding = encoding or ENCODER.inputs["numbers"]
    codes = np.ones((len(raw), 1), np.int64)
    return {"numbers": encoding.apply(raw.astype(np.float32)), "codes": codes}


def batch_of(rows, seed=0, missing=0.0):
    raw = raw_rows(rows, seed, missing)
    inputs = inputs_of(raw)
    noise = np.random.default_rng(seed + 1).normal(0, 0.5, rows)
    labels = (inputs["numbers"] @ WEIGHTS + noise > 0).astype(np.int8)
    columns = {name: raw[:, index] for index, name in enumerate(COLUMNS)}
    return Batch(np.arange(rows), labels, inputs, columns)


REFERENCE = inputs_of(raw_rows(4000, seed=9))


def region(batch, boxes=BOXES, share=1.0):
    columns = movable(boxes, ENCODER, REFERENCE, "mutable")["numbers"]
    return region_of(columns, batch.inputs["numbers"], raw_columns(columns, batch.columns), share)


def scores(inputs, weights=WEIGHTS, coarse=0.0):
    """The probabilities of the linear model; ``coarse`` rounds its logits as INT8 would."""
    logits = inputs["numbers"].astype(np.float64) @ weights
    if coarse:
        logits = np.round(logits / coarse) * coarse
    return (1 / (1 + np.exp(-logits))).astype(np.float32)
