"""Who is as accurate and who as fast as whom: figures of one model, and of qtool against the best.

Metrics of two INT8 models are compared as those of FP32 and INT8 are, paired on the same rows: one
model is less accurate when the whole confidence interval of the difference says so. It is slower
when the whole interval of the ratio of latencies does.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from harness import Row

from qtool.config.experiment import Experiment
from qtool.evaluation.agreements import agreements
from qtool.evaluation.compare import Pairing, compare
from qtool.evaluation.decisions import decision_change
from qtool.evaluation.metrics.metric import Metric
from qtool.evaluation.moves import error_share
from qtool.evaluation.results import MetricChange
from qtool.evaluation.sample import Predictions, Sample
from qtool.runtime.latency import Ratio, Timing, ratio

FP32 = "fp32"


@dataclass(frozen=True, eq=False)
class Judge:
    """What models are judged by.

    Attributes:
        experiment: with the evaluation section.
        metric: the first that a gate limits.
        sample: rows with the predictions of FP32; those of ``int8`` are not read.
        threshold: score of a decision; None where there are no decisions.
    """

    experiment: Experiment
    metric: Metric
    sample: Sample
    threshold: float | None

    def change(self, first: Predictions, second: Predictions) -> MetricChange:
        """Returns the metric of two models (as ``fp32`` and ``int8``) and their difference."""
        section, by = self.experiment.evaluation.resampling, self.experiment.data.split.by
        pairing = Pairing(section, self.experiment.task, by == "time", self.experiment.seed)
        sample = dataclasses.replace(self.sample, fp32=first, int8=second)
        return compare(sample, (self.metric,), pairing)[0]

    def gain(self, subject: Predictions, peer: Predictions) -> tuple[float, float, float]:
        """Returns how much better the subject's metric is than the peer's, with its interval."""
        found = self.change(peer, subject)
        if found.better == "lower":
            return -found.change, -found.high, -found.low
        return found.change, found.low, found.high

    def error(self, predictions: Predictions) -> float:
        """Returns the mean squared change of the predictions as a share of FP32's variance."""
        return error_share(self.sample.fp32, predictions)

    def changed(self, predictions: Predictions) -> float | None:
        """Returns the share of decisions, or of nearest neighbours, that differ from FP32's."""
        sample = dataclasses.replace(self.sample, int8=predictions)
        if self.threshold is not None:
            return decision_change(sample, self.threshold, "").flip_share
        found = agreements(sample, self.experiment.task, self.experiment.evaluation)
        return 1 - found[0].share if found else None


def accuracy_rows(
    case: str, judge: Judge, predictions: Predictions, size_bytes: int, fp32_bytes: int
) -> list[Row]:
    """Returns what a model changes: the metric, its decisions, its output, its size."""
    found = judge.change(judge.sample.fp32, predictions)
    interval = f"{found.low:+.5f} to {found.high:+.5f}, of {found.fp32:.5f}"
    changed = judge.changed(predictions)
    rows = [Row(case, f"{found.name}_difference", found.change, found.name, FP32, interval)]
    rows += [] if changed is None else [Row(case, "changed", changed, "share", FP32)]
    return [
        *rows,
        Row(case, "output_error", judge.error(predictions), "share of variance", FP32),
        Row(case, "size", size_bytes / fp32_bytes, "share", FP32),
    ]


def speed_row(case: str, times: Timing, fp32: Timing) -> Row:
    """Returns how much faster a model is than FP32."""
    found = ratio(fp32, times)
    return Row(case, "speed", found.value, "x", FP32, f"{_ends(found)}; {_us(times):.1f} us")


def best_rows(
    case: str,
    subject: str,
    peers: Mapping[str, Predictions],
    judge: Judge,
    times: Mapping[str, Timing],
) -> list[Row]:
    """Returns what the subject is against the best of its peers.

    Args:
        case: of the rows.
        subject: its name among ``peers``.
        peers: name → predictions of the subject, of FP32, and of all that it is compared with.
        judge: metric and error.
        times: name → latencies of one interleaved run.

    Returns:
        The ratio of latencies against the fastest peer that is as accurate, by the metric and by
        the error of the outputs; FP32 is always one of them. Against the peers that are not slower:
        the metric's gain over the one with the best metric (its upper end, below 0 when the subject
        is less accurate), and the ratio of errors to the most exact one; nothing if there is none.
    """
    own = peers[subject]
    others = {name: found for name, found in peers.items() if name != subject}
    gains = {name: judge.gain(own, found) for name, found in others.items()}
    errors = {name: judge.error(found) for name, found in peers.items()}
    speeds = {name: ratio(times[name], times[subject]) for name in others}
    accurate = {
        "metric": [name for name, (_, low, _) in gains.items() if low <= 0 or name == FP32],
        "error": [name for name in others if errors[name] <= errors[subject]],
    }
    rows = []
    for measure, names in accurate.items():
        peer = min(names, key=lambda name: speeds[name].value)
        told = f"{peer}; {_ends(speeds[peer])}"
        rows.append(Row(case, "speed_against_best", speeds[peer].value, "x", measure, told))
    fast = [name for name in others if speeds[name].low <= 1 and name != FP32]
    if fast:
        peer = min(fast, key=lambda name: gains[name][0])
        gain, low, high = gains[peer]
        told = f"{peer}; {gain:+.5f}, {low:+.5f} to {high:+.5f}"
        rows.append(Row(case, "gain_against_best", high, judge.metric.name, "metric", told))
        peer = min(fast, key=lambda name: errors[name])
        of_errors = errors[subject] / errors[peer]
        rows.append(Row(case, "error_against_best", of_errors, "x", "error", peer))
    return rows


def _ends(found: Ratio) -> str:
    return f"{found.low:.2f} to {found.high:.2f}"


def _us(times: Timing) -> float:
    return float(np.median(times.rounds))
