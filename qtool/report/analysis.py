"""The analysis of a model as a page, and as tables for the console."""

from __future__ import annotations

import math
from collections.abc import Iterator

from qtool.report.analysis_pictures import errors, gains, ranges, times
from qtool.report.html import render
from qtool.report.pictures import Chapter, Picture
from qtool.report.summary import Fact, Verdict
from qtool.report.tables import Table
from qtool.report.text import ABSENT, count, microseconds, share
from qtool.report.text import times as factor
from qtool.search.advice import decibels, error_of, share_of_float
from qtool.search.analysis import Analysis, LayerAnalysis, Option

OPEN_LAYERS = 20  # a longer list of treatments starts folded


def analysis_verdict(analysis: Analysis) -> Verdict:
    """Returns the advice with its reason."""
    kept = analysis.advice == "keep FP32"
    return Verdict("open" if kept else "pass", analysis.advice.upper(), analysis.reason)


def layers_table(analysis: Analysis) -> Table:
    """Returns one row per layer: what is advised, what it gains and what it costs."""
    return Table(
        "Layers",
        (
            "Layer",
            "Operator",
            "Weights",
            "Advised",
            "Of FP32's time",
            "Faster",
            "Signal to noise",
            "Predicted",
            "Outlier",
            "Channels",
            "Saturating",
        ),
        "llrlrrrrrrr",
        tuple(_layer(analysis, layer) for layer in analysis.layers),
    )


def treatments_table(analysis: Analysis) -> Table:
    """Returns one row per treatment of every layer, with its errors and times."""
    rows = [
        (
            layer.name,
            named(option),
            _decibels(option.measured_error),
            _decibels(option.error),
            *(microseconds(option.us[batch]) for batch in analysis.batch_sizes),
            "measured" if option.timed else "cost table",
        )
        for layer in analysis.layers
        for option in layer.options
    ]
    refused = [
        (layer.name, method, *[""] * (2 + len(analysis.batch_sizes)), reason)
        for layer in analysis.layers
        for method, reason in layer.refused.items()
    ]
    batches = (f"µs at batch {count(batch)}" for batch in analysis.batch_sizes)
    return Table(
        "Every treatment",
        ("Layer", "Treatment", "Signal to noise", "Predicted", *batches, "Times"),
        "llrr" + "r" * len(analysis.batch_sizes) + "l",
        tuple(rows + refused),
    )


def model_table(analysis: Analysis) -> Table:
    """Returns the time of the model in FP32 and with the advised treatments."""
    return Table(
        "Whole model, µs per call",
        ("Batch", "FP32", "Advised (predicted)", "Faster"),
        "rrrr",
        tuple(
            (
                count(batch),
                microseconds(analysis.fp32_us[batch]),
                microseconds(analysis.advised_us[batch]),
                factor(analysis.fp32_us[batch] / analysis.advised_us[batch]),
            )
            for batch in analysis.batch_sizes
        ),
    )


def to_analysis_html(name: str, analysis: Analysis) -> str:
    """Returns the page: advice, headline numbers, pictures, tables."""
    treatments = treatments_table(analysis)
    return render(
        "analysis.html.j2",
        name=name,
        description=_description(analysis),
        verdict=analysis_verdict(analysis),
        facts=_facts(analysis),
        chapters=[Chapter("What quantizing would do", tuple(_pictures(analysis)))],
        tables=(model_table(analysis), layers_table(analysis)),
        treatments=treatments,
        unfolded=len(analysis.layers) <= OPEN_LAYERS,
        notes=analysis.notes,
    )


def named(option: Option) -> str:
    """Returns a treatment in words."""
    return (
        f"{option.method}, {option.bits} bits" if option.method == "weight_only" else option.method
    )


def advised_option(analysis: Analysis, layer: LayerAnalysis) -> Option:
    """Returns the treatment that is advised for a layer."""
    return layer.option(*analysis.advised.get(layer.name, ("float", 32)))


def _layer(analysis: Analysis, layer: LayerAnalysis) -> tuple[str, ...]:
    option = advised_option(analysis, layer)
    fp32 = layer.option("float").us
    part = sum(fp32[b] / analysis.fp32_us[b] for b in analysis.batch_sizes)
    float_kept = option.method == "float"
    ratio = 1 / share_of_float(layer, option)
    return (
        layer.name,
        layer.op_type,
        count(layer.weights),
        named(option),
        share(part / len(analysis.batch_sizes)),
        "" if float_kept else f"{factor(ratio)}{'' if option.timed else ' (cost table)'}",
        "" if float_kept else _decibels(option.measured_error),
        "" if float_kept else _decibels(option.error),
        _ratio(layer.outlier),
        _ratio(layer.channel_outlier),
        share(layer.saturating) if layer.saturating else "",
    )


def _decibels(error: float) -> str:
    if math.isnan(error):
        return ABSENT
    return "no change" if error <= 0 else f"{decibels(error):.1f} dB"


def _ratio(value: float) -> str:
    return "" if math.isnan(value) else factor(value)


def _description(analysis: Analysis) -> str:
    batches = ", ".join(map(count, analysis.batch_sizes))
    return (
        f"{count(len(analysis.layers))} layers, target {analysis.target}, {analysis.threads} "
        f"thread{'s' * (analysis.threads != 1)}, batch {batches}; errors on "
        f"{count(analysis.rows)} calibration rows"
    )


def _facts(analysis: Analysis) -> tuple[Fact, ...]:
    largest = max(analysis.batch_sizes)
    ratio = analysis.fp32_us[largest] / analysis.advised_us[largest]
    worst = max(
        (layer for layer in analysis.layers),
        key=lambda layer: max((_known(option) for option in layer.options), default=0.0),
        default=None,
    )
    chosen = len(analysis.advised)
    agreement = "not defined" if math.isnan(analysis.correlation) else f"{analysis.correlation:.3f}"
    return (
        Fact("Predicted speed-up", factor(ratio), f"of the whole model at batch {count(largest)}"),
        Fact(
            "Signal to noise",
            _decibels(analysis.advised_error) if chosen else "no change",
            "of the outputs with what is advised",
        ),
        Fact("Layers in INT8", f"{chosen} of {len(analysis.layers)}", "advised"),
        Fact(
            "Predicted against measured",
            agreement,
            "rank correlation of the errors"
            + ("" if worst is None else f"; most sensitive: {worst.name}"),
        ),
    )


def _known(option: Option) -> float:
    found = error_of(option) if option.method in ("static", "dynamic") else 0.0
    return 0.0 if math.isnan(found) else found


def _pictures(analysis: Analysis) -> Iterator[Picture]:
    if not analysis.layers:
        return
    yield Picture(
        "Gain and sensitivity",
        "Each mark is one treatment of one layer, without float and storing. Right: it saves more "
        "of the model's time; up: the outputs change less. Dashed: the largest error that is "
        "advised. Ringed: advised.",
        gains(analysis),
        wide=True,
    )
    yield Picture(
        "Error of each layer alone",
        "Signal to noise of the outputs when only this layer is treated; the farther left, the "
        "more sensitive. Filled: measured, hollow: predicted from gradients.",
        errors(analysis),
        wide=True,
    )
    yield Picture(
        "Time of each layer",
        f"Microseconds per call at batch {count(max(analysis.batch_sizes))}, in FP32 and as "
        "advised; of many layers the longest.",
        times(analysis),
        wide=True,
    )
    if analysis.spreads:
        yield Picture(
            "Ranges of the activations",
            "Values over the largest magnitude of each activation. Box: the middle half, line: the "
            "median, whiskers: all but a thousandth on each side, marks: minimum and maximum. "
            "Short boxes between far marks leave few codes to most values.",
            ranges(analysis),
            wide=True,
        )
