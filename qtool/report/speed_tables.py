"""Tables of the clock: latency, cost, throughput, start."""

from __future__ import annotations

import math

from qtool.evaluation.results import Evaluation, LatencyResult
from qtool.report.latency import cost_per_million_rows, summarize
from qtool.report.tables import Table
from qtool.report.text import ABSENT, count, file_size, microseconds, number, share, times


def latency_table(evaluation: Evaluation) -> Table:
    """Returns the percentiles of both models per batch size; no rows when not measured.

    That of 99.9 % has a column only if one of them has enough calls, and the share of the calls in
    which another process took the core only if there are any: a percentile beyond the other calls
    tells of the machine.
    """
    found = [
        (result, model, summarize(calls_us))
        for result in evaluation.latency
        for model, calls_us in (
            (f"FP32 ({result.fp32_model})", result.fp32_us),
            ("INT8", result.int8_us),
        )
    ]
    far = any(not math.isnan(summary.p99_9) for _, _, summary in found)
    disturbed = any(result.preempted for result in evaluation.latency)
    rows = []
    for result, model, summary in found:
        shown = [summary.p50, summary.p95, summary.p99, *([summary.p99_9] if far else [])]
        rows.append(
            (
                count(result.batch_size),
                count(result.threads),
                model,
                *("too few calls" if math.isnan(us) else microseconds(us) for us in shown),
                microseconds(summary.mean),
                count(summary.count),
                *([share(result.preempted)] if disturbed else []),
                speedup_text(result) if model == "INT8" else "",
            )
        )
    percentiles = ("p50", "p95", "p99", *(("p99.9",) if far else ()))
    calls = ("Calls", *(("Interrupted",) if disturbed else ()))
    header = ("Batch", "Threads", "Model", *percentiles, "mean", *calls, "Speed-up (95 %)")
    align = "rrl" + "r" * (len(header) - 3)
    return Table("Latency, µs per call", header, align, tuple(rows))


def speedup_text(result: LatencyResult) -> str:
    """Returns the speed-up with its interval, and why it is in doubt."""
    text = f"{times(result.speedup)} ({result.speedup_low:.2f} to {result.speedup_high:.2f})"
    return f"{text}, {result.finding}{f': {result.noisy}' if result.noisy else ''}"


def cost_table(evaluation: Evaluation) -> Table:
    """Returns what a million rows cost at the median latency; no rows without a price.

    The mean holds what other processes cost, too.
    """
    price = evaluation.price_per_core_hour
    rows = []
    for result in evaluation.latency if price is not None else ():
        assert price is not None
        fp32, int8 = (
            cost_per_million_rows(summarize(calls).p50, result.batch_size, result.threads, price)
            for calls in (result.fp32_us, result.int8_us)
        )
        rows.append(
            (
                count(result.batch_size),
                count(result.threads),
                *(number(value) for value in (fp32, int8, fp32 - int8)),
            )
        )
    title = "Cost of a million rows at the median latency"
    if price is not None:
        title += f", {price:g} per core and hour"
    return Table(title, ("Batch", "Threads", "FP32", "INT8", "Saved"), "rrrrr", tuple(rows))


def throughput_table(evaluation: Evaluation) -> Table:
    """Returns the rows per second of parallel sessions."""
    return Table(
        "Throughput, rows per second",
        ("Batch", "Sessions", "Threads each", "FP32", "INT8", "Ratio (95 %)", "Notes"),
        "rrrrrrl",
        tuple(
            (
                count(one.batch_size),
                count(one.sessions),
                count(one.threads),
                count(round(one.fp32)),
                count(round(one.int8)),
                f"{times(one.ratio)} ({one.low:.2f} to {one.high:.2f}), {one.finding}",
                "; ".join(text for text in (one.noisy, one.note) if text),
            )
            for one in evaluation.throughput
        ),
    )


def cold_table(evaluation: Evaluation) -> Table:
    """Returns what a fresh process takes."""
    return Table(
        "Start of a process",
        (
            "Model",
            "Load, ms",
            "From disk",
            "First call, µs",
            "From disk",
            "Batch",
            "Peak memory",
            "Processes",
        ),
        "lrrrrrrr",
        tuple(
            (
                one.model.upper(),
                f"{one.load_ms:,.1f}",
                ABSENT if math.isnan(one.uncached_load_ms) else f"{one.uncached_load_ms:,.1f}",
                microseconds(one.first_us),
                microseconds(one.uncached_first_us),
                count(one.batch_size),
                ABSENT if one.peak_bytes is None else file_size(one.peak_bytes),
                count(one.processes),
            )
            for one in evaluation.cold
        ),
    )
