"""What is known of every layer before anything is quantized: what treatments cost and gain."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from qtool.graph.layers import Kind
from qtool.graph.plan import Treatment

Advice = Literal["quantize", "quantize these", "keep FP32"]
Choice = tuple[Treatment, int]
"""Treatment and bits of the weights."""


@dataclass(frozen=True)
class Option:
    """One treatment of one layer.

    Attributes:
        method: the treatment.
        bits: of its weights; 32 where they stay float.
        error: mean squared change of the model's outputs that it causes, as a share of their
            variance, to first order (gradients); NaN where no gradient reaches the layer.
        measured_error: the same, measured with only this layer treated so; NaN where it was not.
        us: batch size → microseconds per call.
        timed: whether ``us`` was measured on this CPU; otherwise it is of the cost table.
    """

    method: Treatment
    bits: int
    error: float
    measured_error: float
    us: Mapping[int, float]
    timed: bool


@dataclass(frozen=True)
class LayerAnalysis:
    """One layer.

    Attributes:
        name: of its node.
        op_type: of its node.
        kind: which kind of layer.
        weights: how many numbers it has.
        options: treatments that it can have, ``float`` always among them.
        refused: treatment → why the layer cannot have it.
        outlier: largest magnitude of the input over its 99.9th percentile; NaN for tables.
        channel_outlier: largest magnitude of a channel over the median channel's; NaN without
            channels.
        saturating: share of the int16 pair sums that would saturate on the target; 0 where its
            kernels have none.
        unit: layers of one unit are treated alike, since codes pass between them.
    """

    name: str
    op_type: str
    kind: Kind
    weights: int
    options: tuple[Option, ...]
    refused: Mapping[Treatment, str]
    outlier: float
    channel_outlier: float
    saturating: float
    unit: int

    def option(self, method: Treatment, bits: int = 8) -> Option:
        """Returns the option of a treatment that the layer can have.

        Raises:
            KeyError: it cannot.
        """
        for option in self.options:
            if option.method == method and option.bits in (bits, 32):
                return option
        raise KeyError(method)


@dataclass(frozen=True)
class Spread:
    """How the values of an activation lie.

    Attributes:
        tensor: its name.
        layer: the first layer that reads it.
        quantiles: at ``LEVELS``; within a thousandth of the largest magnitude.
    """

    tensor: str
    layer: str
    quantiles: tuple[float, ...]


LEVELS = (0.0, 0.001, 0.25, 0.5, 0.75, 0.999, 1.0)
"""Minimum, a thousandth, the quartiles, all but a thousandth, maximum."""


@dataclass(frozen=True)
class Analysis:
    """All layers of one model, and what follows.

    Attributes:
        target: profile that the times are of.
        batch_sizes: rows per call.
        threads: of a session.
        rows: rows that errors and outliers are of.
        fp32_us: batch size → microseconds of the whole FP32 model per call.
        layers: in graph order.
        advice: whether to quantize.
        reason: why, with the numbers.
        advised: layers to quantize, and how.
        advised_us: batch size → predicted microseconds of the model with these.
        advised_error: sum of their errors, measured ones where they are.
        correlation: Spearman's, of predicted and measured errors; NaN of fewer than 3.
        spreads: of the activations that integer layers would read.
        notes: what is missing, and why.
    """

    target: str
    batch_sizes: tuple[int, ...]
    threads: int
    rows: int
    fp32_us: Mapping[int, float]
    layers: tuple[LayerAnalysis, ...]
    advice: Advice
    reason: str
    advised: Mapping[str, Choice]
    advised_us: Mapping[int, float] = field(default_factory=dict)
    advised_error: float = 0.0
    correlation: float = math.nan
    spreads: tuple[Spread, ...] = ()
    notes: tuple[str, ...] = ()
