"""What quantizing each layer would cost and gain, before anything is quantized.

Every treatment of every layer gets two errors and a time:

* predicted: the change that the treatment makes where it is made (``regions``), times the gradients
  of the outputs there (``torchgraph.sensitivity``), in one pass for all layers;
* measured: the INT8 model in which only this unit is treated, on the same rows; of many layers the
  promising treatments. The error of a unit of several layers is shared out as it was predicted, so
  that errors add up;
* the time of its kernels in models in which all layers are treated alike (``runtime.profile``); of
  another target than this CPU by the cost table (``graph.costs``).

One calibration pass serves all plans.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import onnx_ir as ir

from qtool.calibration.outliers import outliers
from qtool.calibration.saturation import saturating_shares
from qtool.config.quantization import Calibrated
from qtool.graph.model_file import outputs_of
from qtool.graph.parameters import owner_of
from qtool.graph.targets import Target
from qtool.numerics.histogram import Histogram
from qtool.numerics.tensor_statistics import TensorStatistics, joined
from qtool.progress import Progress
from qtool.runtime.cpu import detect
from qtool.runtime.sessions import Session
from qtool.search.advice import verdict
from qtool.search.alone import Alone
from qtool.search.analysis import LEVELS, Analysis, LayerAnalysis, Option, Spread
from qtool.search.times import Times, measured_times, table_times
from qtool.search.treatments import FLOAT, Treatments, choices_of, reads, refused
from qtool.statistics.ranks import rank_correlation
from qtool.tuning.tuned import Inputs, Rows

ROWS, FEWEST_ROWS = 256, 16
"""Rows that errors are of; fewer where outputs are large."""
MOST_OUTPUT_BYTES = 64 << 20
"""Of the FP32 outputs, which are held in memory."""
PEAK_LEVEL = 0.999
"""The quantile of the magnitudes that the largest one is compared with."""


def analyze(
    model: ir.Model,
    rows: Rows,
    *,
    masks: Mapping[str, str],
    target: Target,
    batch_sizes: Sequence[int],
    threads: int,
    section: Calibrated,
    progress: Progress,
    seed: int = 0,
) -> Analysis:
    """Returns what is known of every layer.

    Args:
        model: the prepared graph.
        rows: calibration rows.
        masks: input → the input that is its mask.
        target: the CPU to quantize for.
        batch_sizes: rows per call.
        threads: of a session.
        section: observer, columns, and how weights are quantized; its rules do not count.
        progress: where it is shown.
        seed: of the random projections.

    Raises:
        ModelError: no output depends on the rows, or the runtime refuses a model.
        DataError: as ``calibration.calibrate.observe``.
    """
    batches = _batches(model, rows)
    treatments = Treatments(model, section, target)
    alone = Alone(model, batches, treatments, masks, progress)
    predicted = alone.predicted(seed)
    measured = alone.measured(predicted)
    if detect().target == target.name:
        times = measured_times(treatments, alone, batches[0], batch_sizes, threads, progress)
    else:
        times = table_times(treatments, batches[0], batch_sizes)
    shares = saturating_shares(model, *alone.static, batches[0])
    layers = tuple(
        _layer(name, treatments, alone, times, predicted, measured, shares)
        for name in treatments.layers
    )
    found = verdict(layers, times.fp32_us)
    pairs = [
        (option.error, option.measured_error)
        for layer in layers
        for option in layer.options
        if option.method != "float" and not math.isnan(option.error + option.measured_error)
    ]
    return Analysis(
        target=target.name,
        batch_sizes=tuple(batch_sizes),
        threads=threads,
        rows=alone.reference.rows,
        fp32_us=times.fp32_us,
        layers=layers,
        advice=found.advice,
        reason=found.reason,
        advised=found.chosen,
        advised_us=found.us,
        advised_error=found.error,
        correlation=rank_correlation(*zip(*pairs, strict=True)) if pairs else math.nan,
        spreads=_spreads(treatments, alone),
        notes=(*alone.notes, *times.notes),
    )


def _batches(model: ir.Model, rows: Rows) -> list[Inputs]:
    """Returns the rows that errors are of, as many as their outputs allow."""
    first = next(rows(FEWEST_ROWS))
    floats = [output.name for output in outputs_of(model) if output.dtype.startswith("float")]
    found = Session(model, "the prepared FP32 model").run(first, floats)
    per_row = sum(array.nbytes for array in found.values()) / len(next(iter(first.values())))
    return list(rows(int(np.clip(MOST_OUTPUT_BYTES / max(per_row, 1), FEWEST_ROWS, ROWS))))


def _layer(
    name: str,
    treatments: Treatments,
    alone: Alone,
    times: Times,
    predicted: Mapping[tuple[str, str, int], float],
    measured: Mapping[tuple[str, str, int], float],
    saturating: Mapping[str, float],
) -> LayerAnalysis:
    layer = treatments.layers[name]
    options = []
    for method, bits in choices_of(layer):
        key = name, method, bits
        us, timed = times.of(name, (method, bits))
        known = (
            (0.0, 0.0)
            if (method, bits) == FLOAT
            else (
                predicted.get(key, math.nan),
                measured.get(key, math.nan),
            )
        )
        options.append(Option(method, bits, *known, us, timed))
    read = [owner_of(treatments.everything, value) for value in reads(layer)]
    seen = [alone.statistics[value] for value in read if value in alone.statistics]
    return LayerAnalysis(
        name=name,
        op_type=layer.node.op_type,
        kind=layer.kind,
        weights=sum(
            value.const_value.size
            for index in layer.weights
            if (value := layer.node.inputs[index]) is not None and value.const_value is not None
        ),
        options=tuple(options),
        refused=refused(layer),
        outlier=max((peak_over_rest(each) for each in seen), default=math.nan),
        channel_outlier=max((_channel_outlier(each) for each in seen), default=math.nan),
        saturating=saturating.get(name, 0.0),
        unit=treatments.units[name],
    )


def peak_over_rest(statistics: TensorStatistics) -> float:
    """Returns the largest magnitude over the 99.9th percentile of all; of columns the largest."""
    histogram = statistics.histogram
    peaks = np.maximum(-histogram.low, histogram.high)
    ratios = [
        peak / at
        for peak, at in zip(peaks, _magnitudes(histogram, PEAK_LEVEL), strict=True)
        if at > 0
    ]
    return float(max(ratios, default=1.0))


def _magnitudes(histogram: Histogram, level: float) -> list[float]:
    """Returns the quantile of the magnitudes of each column."""
    found = []
    for centres, counts in zip(histogram.centres(), histogram.counts, strict=True):
        order = np.argsort(np.abs(centres), kind="stable")
        cumulative = np.cumsum(counts[order])
        place = int(np.searchsorted(cumulative, level * cumulative[-1]))
        found.append(float(np.abs(centres[order][place])))
    return found


def _channel_outlier(statistics: TensorStatistics) -> float:
    if len(statistics.channel_peak) < 2:
        return math.nan
    (found,) = outliers({"": _as_one(statistics)})
    return found.channel_ratio


def _as_one(statistics: TensorStatistics) -> TensorStatistics:
    return joined(statistics) if len(statistics.histogram.low) > 1 else statistics


def _spreads(treatments: Treatments, alone: Alone) -> tuple[Spread, ...]:
    found: dict[str, Spread] = {}
    for name, layer in treatments.layers.items():
        for read in reads(layer):
            value = owner_of(treatments.everything, read)
            if value in alone.statistics and value not in found:
                histogram = _as_one(alone.statistics[value]).histogram
                found[value] = Spread(value, name, _quantiles(histogram))
    return tuple(found.values())


def _quantiles(histogram: Histogram) -> tuple[float, ...]:
    """Returns the values at ``LEVELS`` of a whole tensor."""
    cumulative = np.cumsum(histogram.counts[0])
    places = np.searchsorted(cumulative, np.array(LEVELS[1:-1]) * cumulative[-1])
    inner = histogram.centres()[0][np.minimum(places, len(cumulative) - 1)]
    return (float(histogram.low[0]), *inner.tolist(), float(histogram.high[0]))
