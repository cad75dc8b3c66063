"""Pictures of embeddings and of language models: how far INT8 is from FP32, row by row."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from qtool.evaluation.results import MetricChange
from qtool.evaluation.sample import Sample
from qtool.report.svg import COLORS, HALF, both_lines, figure, legend, style, tick_text, to_svg
from qtool.report.text import count

BINS = 40
SMALLEST_DISTANCE = 1e-7  # float32 holds no cosine nearer to 1
AT = re.compile(r"(recall|hit_rate|ndcg|map)_at_(\d+)")


def cosine(sample: Sample) -> str:
    """Returns how many rows have which cosine similarity of their two embeddings."""
    fp32, int8 = (p.astype(np.float64) for p in (sample.fp32, sample.int8))
    norms = np.linalg.norm(fp32, axis=1) * np.linalg.norm(int8, axis=1)
    similar = np.einsum("rd,rd->r", fp32, int8) / np.maximum(norms, np.finfo(np.float64).tiny)
    distance = np.clip(1 - similar, SMALLEST_DISTANCE, 2)
    low = 10 ** np.floor(np.log10(distance.min()))
    high = 10 ** np.ceil(np.log10(distance.max() * 1.001))
    drawn = figure(HALF, 3.4)
    axes = drawn.subplots()
    edges = np.geomspace(low, high, BINS + 1)
    rows, _ = np.histogram(distance, edges)
    axes.bar(edges[:-1], rows, np.diff(edges), align="edge", color=COLORS["int8"])
    axes.set_xscale("log")
    axes.invert_xaxis()
    axes.xaxis.set_major_formatter(tick_text(lambda away: f"{1 - away:.7g}"))
    axes.xaxis.set_minor_formatter(tick_text(lambda away: ""))
    axes.yaxis.set_major_formatter(tick_text(lambda value: count(round(value))))
    style(axes, "Cosine similarity of FP32 and INT8", "Rows", "y")
    return to_svg(drawn, "cosine")


def cutoffs(metrics: Sequence[MetricChange]) -> dict[str, list[tuple[int, MetricChange]]]:
    """Returns the metrics at several cut-offs, by family, in the order of the cut-off."""
    found: dict[str, list[tuple[int, MetricChange]]] = {}
    for metric in metrics:
        if match := AT.fullmatch(metric.name):
            found.setdefault(match[1], []).append((int(match[2]), metric))
    return {
        name: sorted(ones, key=lambda one: one[0]) for name, ones in found.items() if len(ones) > 1
    }


def retrieval(family: Sequence[tuple[int, MetricChange]]) -> str:
    """Returns one metric at its cut-offs; the bar at INT8 is the interval of the change."""
    drawn = figure(HALF, 3.4)
    axes = drawn.subplots()
    at = [k for k, _ in family]
    found = [(metric.fp32, metric.int8, metric.low, metric.high) for _, metric in family]
    both_lines(axes, at, np.array(found))
    axes.set_xscale("log")
    axes.set_xticks(at, [count(k) for k in at])
    axes.xaxis.set_minor_formatter(tick_text(lambda k: ""))
    style(axes, "First K answers, logarithmic", family[0][1].title.rpartition(" at ")[0])
    legend(axes)
    return to_svg(drawn, "retrieval")


def likelihood(sample: Sample) -> str:
    """Returns how much the mean negative log-likelihood of a row's tokens changes, nats.

    Rows without tokens are left out.
    """
    tokens = sample.fp32[:, 1]
    some = tokens > 0
    change = (sample.int8[some, 0] - sample.fp32[some, 0]) / tokens[some]
    reach = float(np.abs(change).max()) if change.size else 0.0
    edges = np.linspace(-reach, reach, BINS + 1) if reach else np.linspace(-1e-6, 1e-6, BINS + 1)
    rows, _ = np.histogram(change, edges)
    drawn = figure(HALF, 3.4)
    axes = drawn.subplots()
    width = edges[1] - edges[0]
    axes.bar(edges[:-1], rows, width, align="edge", color=COLORS["int8"])
    axes.axvline(0, color=COLORS["ink"], lw=1, dashes=(4, 2))
    if change.size:
        mean = float(change.mean())
        axes.axvline(mean, color=COLORS["flip"], lw=1.4, label="Mean")
        legend(axes)
    axes.locator_params(axis="x", nbins=5)
    axes.yaxis.set_major_formatter(tick_text(lambda value: count(round(value))))
    style(axes, "INT8 minus FP32, nats per token", "Rows", "y")
    return to_svg(drawn, "likelihood")
