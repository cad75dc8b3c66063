"""Whether to quantize, and which layers: by the predicted time of the whole model (Amdahl's law).

Each unit gets its fastest treatment among those whose error is small; what none makes faster stays
float. The rest of the model keeps its time.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from qtool.search.analysis import Advice, Choice, LayerAnalysis, Option

LARGEST_ERROR = 0.01
"""Of a layer, of a unit in the mean: 20 dB between the outputs and what it changes of them."""
COMPUTED = ("static", "dynamic", "weight_only")
"""Treatments that change what is computed; storing alone does not make a model faster."""
SMALLEST_GAIN_US = 0.5
"""Of a unit at one of the batch sizes: below it lies what one more node at its border costs."""
WORTH_IT = 1.05
"""Times faster at least, the geometric mean over the batch sizes: less is within what measuring
the same model twice may differ by, and no reason to change it."""


@dataclass(frozen=True)
class Verdict:
    """What follows from the figures of all layers.

    Attributes:
        advice: in a word.
        reason: in a sentence, with the numbers.
        chosen: layer → treatment of those that are to be quantized.
        us: batch size → microseconds with these.
        error: sum of their errors.
    """

    advice: Advice
    reason: str
    chosen: Mapping[str, Choice]
    us: Mapping[int, float]
    error: float


def error_of(option: Option) -> float:
    """Returns the measured error, else the predicted one, else NaN."""
    return option.error if math.isnan(option.measured_error) else option.measured_error


def verdict(layers: Sequence[LayerAnalysis], fp32_us: Mapping[int, float]) -> Verdict:
    """Returns the advice for a model.

    Args:
        layers: with times and errors.
        fp32_us: batch size → microseconds of the FP32 model.
    """
    units: dict[int, list[LayerAnalysis]] = {}
    for layer in layers:
        units.setdefault(layer.unit, []).append(layer)
    chosen: dict[str, Option] = {}
    for unit in units.values():
        chosen |= _fastest(unit)
    saved = dict.fromkeys(fp32_us, 0.0)
    for layer in layers:
        if layer.name in chosen:
            for batch in saved:
                saved[batch] += layer.option("float").us[batch] - chosen[layer.name].us[batch]
    # Layers and model are timed one after the other: on a busy machine the layers may seem to save
    # more than there is, but what is left takes at least as long as the layers that are changed.
    least = {batch: sum(option.us[batch] for option in chosen.values()) for batch in fp32_us}
    us = {batch: max(time - saved[batch], least[batch]) for batch, time in fp32_us.items()}
    ratios = {batch: fp32_us[batch] / time for batch, time in us.items()}
    told = ", ".join(f"{ratio:.2f} x FP32 at batch {batch}" for batch, ratio in ratios.items())
    speedup = math.exp(sum(map(math.log, ratios.values())) / len(ratios))
    if speedup < WORTH_IT:
        reason = (
            f"The fastest plan is predicted to be {told}; that is no gain. Stored as INT8 and "
            f"computed in float, the weights take a quarter.{_sensitive(layers)}"
        )
        return Verdict("keep FP32", reason, {}, fp32_us, 0.0)
    computed = [layer for layer in layers if any(o.method in COMPUTED for o in layer.options)]
    found = [error_of(option) for option in chosen.values()]
    error = sum(each for each in found if not math.isnan(each))
    reason = (
        f"With {len(chosen)} of {len(computed)} layers in INT8 predicted to be {told}; the outputs "
        f"keep {decibels(error):.0f} dB of signal to noise.{_sensitive(layers)}"
    )
    choices: dict[str, Choice] = {name: (o.method, o.bits) for name, o in chosen.items()}
    every = len(chosen) == len(computed)
    return Verdict("quantize" if every else "quantize these", reason, choices, us, error)


def decibels(error: float) -> float:
    """Returns the signal-to-noise ratio of an error that is a share of the variance."""
    if math.isnan(error):
        return math.nan
    return math.inf if error <= 0 else -10 * math.log10(error)


def share_of_float(layer: LayerAnalysis, option: Option) -> float:
    """Returns the time of a treatment over that of float, the geometric mean over the batches."""
    times = layer.option("float").us
    logarithms = [math.log(option.us[batch] / time) for batch, time in times.items()]
    return math.exp(sum(logarithms) / len(logarithms))


def _fastest(unit: Sequence[LayerAnalysis]) -> dict[str, Option]:
    """Returns the treatment that makes a unit fastest, empty where none does."""
    best: tuple[float, dict[str, Option]] = (1.0, {})
    for first in unit[0].options:
        key = (first.method, first.bits)
        options = {
            layer.name: option
            for layer in unit
            for option in layer.options
            if (option.method, option.bits) == key
        }
        if first.method not in COMPUTED or len(options) < len(unit):
            continue
        if sum(error_of(option) for option in options.values()) > LARGEST_ERROR * len(unit):
            continue
        gains = [
            sum(layer.option("float").us[b] - options[layer.name].us[b] for layer in unit)
            for b in first.us
        ]
        if max(gains) < SMALLEST_GAIN_US:
            continue
        logarithm = sum(math.log(share_of_float(layer, options[layer.name])) for layer in unit)
        share = math.exp(logarithm / len(unit))
        if share < best[0]:
            best = share, options
    return best[1]


def _sensitive(layers: Sequence[LayerAnalysis]) -> str:
    """Returns a sentence on the layers that a fast treatment would harm; empty without any."""
    names = [
        layer.name
        for layer in layers
        for option in layer.options
        if option.method == "static" and error_of(option) > LARGEST_ERROR
    ]
    if not names:
        return ""
    shown = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
    return f" Static INT8 alone costs more than {decibels(LARGEST_ERROR):.0f} dB allow in {shown}."
