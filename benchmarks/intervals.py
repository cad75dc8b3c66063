"""Do the intervals cover, and do the verdicts err as rarely as they say?

1,000 simulated FP32/INT8 pairs per case, whose true difference is known: scores are normal within
each class (FP32 AUC 0.87), INT8 adds noise, rounds to steps of 0.01 and lowers the positives a
little; its correlation with FP32 runs from 0.999 to 0.99999. ``coverage`` is the share of 95 %
intervals that hold the truth; with 1,000 pairs it is known to 0.7 points, and must be 93 to 97 %.
``passed_at_margin`` is the share that passes a margin equal to the true worsening, where at most
5 % should: margins are judged by bounds on the safe side.

Accuracy and flips change in whole rows, so the exact coverage of their intervals,
``expected_coverage``, is a sum over all that can happen, and what is found must agree with it.
Bounds of flips are those of Clopper and Pearson, which cover *at least* 95 %. Where fewer than five
rows change, in ``few-...``, no interval covers 95 %: one that holds the truth when no row changes
does so too often.

``auc-published`` is DeLong's interval as published, which ``qtool/statistics/delong.py`` corrects.
``passed`` and ``failed`` are verdicts: on the AUC with a margin of 0.001 and a correlation of
0.9999, on flipped decisions with a margin of 1 %, of 2,500 pairs. The run fails when a coverage is
not as it must be.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import product
from typing import Any

import numpy as np
from harness import Row, arguments, report
from numpy.typing import NDArray
from scipy.special import expit, logit, ndtr
from scipy.stats import binom, norm

from qtool.config.evaluation import Resampling
from qtool.config.task import Task
from qtool.evaluation.compare import Pairing, compare
from qtool.evaluation.metrics.binary import METRICS
from qtool.evaluation.metrics.regression import point_metrics
from qtool.evaluation.results import MetricChange
from qtool.evaluation.sample import Sample
from qtool.statistics.delong import delong
from qtool.statistics.interval import Interval, student_interval, two_sided
from qtool.statistics.noninferiority import decide_interval, decide_share
from qtool.statistics.proportions import paired_shares, share_interval

Floats = NDArray[np.float64]

ROWS = (500, 5000)
SHARE_ROWS = (500, 5000, 50_000)
FEW = 5
"""Changed rows that are expected of the population that changes fewest."""
UNLIKELY = 1e-7
"""Outcomes that the exact coverage leaves out."""
PREVALENCES = (0.5, 0.05)
CORRELATIONS = (0.999, 0.9997, 0.9999, 0.99997, 0.99999)
SEPARATION = 1.6
STEP = 0.01
SHIFT = 0.2
"""Of the positives, in standard deviations of what INT8 adds."""
CONFIDENCE = 0.95
COVERED = (0.93, 0.97)
HIGHER_IS_BETTER = {"auc", "auc-published", "pr_auc", "ks", "accuracy"}
MARGIN, CHANGED, FLIP_MARGIN = 0.001, 0.9999, 0.01
COMPARED = [metric for metric in METRICS if metric.name in ("auc", "ks", "pr_auc", "brier")]
MAE = next(metric for metric in point_metrics(None) if metric.name == "mae")


@dataclass(frozen=True)
class Population:
    """Where pairs come from.

    Attributes:
        prevalence: of positives.
        correlation: of FP32 and INT8 scores within a class.
        shift: by which INT8 lowers the positives; None: ``SHIFT``.
    """

    prevalence: float
    correlation: float
    shift: float | None = None

    @property
    def added(self) -> float:
        """Standard deviation of what INT8 adds, with rounding."""
        return math.sqrt(self.correlation**-2 - 1)

    @property
    def noise(self) -> float:
        """The part of it that is noise."""
        return math.sqrt(self.added**2 - STEP**2 / 12)

    @property
    def lowered(self) -> float:
        """How much lower INT8 scores positives."""
        return SHIFT * self.added if self.shift is None else self.shift

    @property
    def threshold(self) -> float:
        """The FP32 score where both classes are equally likely."""
        return SEPARATION / 2 - float(logit(self.prevalence)) / SEPARATION

    def probability(self, scores: Floats) -> Floats:
        """Returns the calibrated probability of a positive."""
        odds = SEPARATION * scores - SEPARATION**2 / 2 + logit(self.prevalence)
        return np.asarray(expit(odds))

    def draw(self, rows: int, random: np.random.Generator) -> tuple[NDArray[np.int8], Floats]:
        """Returns labels (rows,) and the scores of FP32 and INT8 (2, rows)."""
        labels = (random.random(rows) < self.prevalence).astype(np.int8)
        fp32 = random.normal(size=rows) + SEPARATION * labels
        exact = fp32 + self.noise * random.normal(size=rows) - self.lowered * labels
        return labels, np.stack([fp32, np.round(exact / STEP) * STEP])


@cache
def truth(population: Population) -> Mapping[str, float]:
    """Returns INT8 minus FP32 of every metric, and of all decisions the shares that INT8 flips.

    Those that become wrong, those that become right, and both; all by numerical integration.
    """
    edges = np.linspace(-9, 11, 200_001)
    fp32 = _metrics(population, edges, [norm(SEPARATION, 1), norm(0, 1)], stepped=False)
    # An INT8 score is the middle of the cell that was rounded to it.
    cells = (np.arange(round(-9 / STEP), round(11 / STEP)) + 0.5) * STEP
    spread = math.hypot(1, population.noise)
    classes = [norm(SEPARATION - population.lowered, spread), norm(0, spread)]
    int8 = _metrics(population, cells, classes, stepped=True)
    lost, gained = _flips(population, edges)
    return {name: int8[name] - fp32[name] for name in fp32} | {
        "mae": _mae(population) - math.sqrt(2 / math.pi),
        "lost": lost,
        "gained": gained,
        "flips": lost + gained,
        "accuracy": gained - lost,
    }


def _metrics(
    population: Population, edges: NDArray[np.floating[Any]], classes: list[norm], *, stepped: bool
) -> dict[str, float]:
    """Returns the metrics of scores with the two distributions, positives first."""
    middles = (edges[1:] + edges[:-1]) / 2
    positive, negative = (np.diff(of.cdf(edges)) for of in classes)
    share = population.prevalence
    # From the highest score down; within a cell of a continuous score half lies above.
    true, false = (np.cumsum(part[::-1])[::-1] for part in (positive, negative))
    half = 0 if stepped else 0.5
    flagged = share * (true - half * positive) + (1 - share) * (false - half * negative)
    precision = share * (true - half * positive) / np.maximum(flagged, 1e-300)
    probability = population.probability(middles)
    return {
        "auc": float(positive @ (1 - false + negative / 2)),
        "pr_auc": float(positive @ precision),
        "ks": float(np.max(true - false)),
        "brier": float(
            share * positive @ (1 - probability) ** 2 + (1 - share) * negative @ probability**2
        ),
    }


def _mae(population: Population) -> float:
    """Returns the mean of |INT8 - label|, where a label is the FP32 score with normal errors.

    Source: Leone, Nelson, Nottingham 1961, "The folded normal distribution", Technometrics 3(4).
    """
    spread = math.hypot(1, population.added)

    def folded(mean: float) -> float:
        peak = spread * math.sqrt(2 / math.pi) * math.exp(-(mean**2) / 2 / spread**2)
        return peak + mean * (1 - 2 * float(ndtr(-mean / spread)))

    share = population.prevalence
    return share * folded(population.lowered) + (1 - share) * folded(0.0)


def _flips(population: Population, edges: Floats) -> tuple[float, float]:
    """Returns the shares of decisions that become wrong and right."""
    scores = (edges[1:] + edges[:-1]) / 2
    # The lowest score before rounding that INT8 flags.
    border = (math.ceil(population.threshold / STEP) - 0.5) * STEP
    flagged = scores >= population.threshold
    lost = gained = 0.0
    for share, mean, lowered, right in (
        (population.prevalence, SEPARATION, population.lowered, flagged),
        (1 - population.prevalence, 0.0, 0.0, ~flagged),
    ):
        passed = ndtr((border - scores + lowered) / population.noise)
        flipped = np.diff(ndtr(edges - mean)) * np.where(flagged, passed, 1 - passed)
        lost += share * float(flipped @ right)
        gained += share * float(flipped @ ~right)
    return lost, gained


@dataclass(frozen=True)
class Judged:
    """What is said of one metric of one pair.

    Attributes:
        low: end of the interval, at ``CONFIDENCE``, two-sided.
        high: the other end.
        bound_low: of a verdict, at ``CONFIDENCE``, one-sided.
        bound_high: upper.
    """

    low: float
    high: float
    bound_low: float
    bound_high: float


@dataclass
class Tally:
    """Intervals of one metric against the truth."""

    pairs: int = 0
    below: int = 0
    above: int = 0
    passed: int = 0
    width: float = 0.0
    expected: list[float] = field(default_factory=list)

    def add(self, name: str, judged: Judged, true: float) -> None:
        """Counts one pair: its interval, and its verdict at a margin that is the true worsening."""
        self.pairs += 1
        self.below += true < judged.low
        self.above += true > judged.high
        self.width += judged.high - judged.low
        # With the margin equal to the truth a bound passes where it does not hold it.
        higher = name in HIGHER_IS_BETTER
        self.passed += judged.bound_low >= true if higher else judged.bound_high <= true

    @property
    def coverage(self) -> float:
        """The share of intervals that hold the truth."""
        return 1 - (self.below + self.above) / self.pairs

    def rows(self, case: str) -> list[Row]:
        """Returns what was counted."""
        notes = f"{self.below} below and {self.above} above of {self.pairs:,}; mean width "
        notes += f"{self.width / self.pairs:.2g}"
        rows = [
            Row(case, "coverage", self.coverage, "share", notes=notes),
            Row(case, "passed_at_margin", self.passed / self.pairs, "share"),
        ]
        if self.expected:
            expected = float(np.mean(self.expected))
            rows.insert(1, Row(case, "expected_coverage", expected, "share"))
        return rows

    def wrong(self, case: str) -> Iterator[str]:
        """Yields what is not as it must be."""
        if not (case.startswith(("few-", "auc-published")) or within(self.coverage, *COVERED)):
            yield f"{case} covers {self.coverage:.1%}"
        if self.expected:
            expected = float(np.mean(self.expected))
            error = math.sqrt(sum(p * (1 - p) for p in self.expected)) / self.pairs
            if abs(self.coverage - expected) > 4 * error + 1 / self.pairs:
                yield f"{case} covers {self.coverage:.1%}, not {expected:.1%}"


def within(value: float, low: float, high: float) -> bool:
    """Returns whether low <= value <= high."""
    return low <= value <= high


def main() -> int:
    """Simulates every case and reports it; returns 1 where a coverage is not as it must be."""
    given = arguments(__doc__ or "").parse_args()
    pairs, judged, resamples = (20, 20, 100) if given.quick else (1000, 2500, 500)
    tallies: dict[str, Tally] = {}
    verdicts: list[Row] = []
    for prevalence in PREVALENCES:
        for count in ROWS:
            tallies |= metric_tallies(count, prevalence, pairs, resamples)
            verdicts += verdict_rows(count, prevalence, judged)
        for count in SHARE_ROWS:
            tallies |= share_tallies(count, prevalence, pairs)
    for count in ROWS:
        verdicts += flip_rows(count, judged)
    rows = [row for case, tally in tallies.items() for row in tally.rows(case)] + verdicts
    report(sorted(rows, key=lambda row: (row.case.startswith("few-"), row.case)), given.json)
    wrong = [text for case, tally in tallies.items() for text in tally.wrong(case)]
    if wrong and not given.quick:
        sys.stderr.write("".join(f"{text}\n" for text in wrong))
        return 1
    return 0


def metric_tallies(count: int, prevalence: float, pairs: int, resamples: int) -> dict[str, Tally]:
    """Returns coverage of every metric for samples of ``count`` rows."""
    random = np.random.default_rng(0)
    tallies: dict[str, Tally] = {}
    for seed in range(pairs):
        population = Population(prevalence, CORRELATIONS[seed % len(CORRELATIONS)])
        true = truth(population)
        for name, judged in _judged(population, count, random, resamples, seed).items():
            known = true["auc" if name == "auc-published" else name]
            case = f"{name}-n{count}-p{prevalence:g}"
            tallies.setdefault(case, Tally()).add(name, judged, known)
    return tallies


def _judged(
    population: Population, count: int, random: np.random.Generator, resamples: int, seed: int
) -> dict[str, Judged]:
    """Returns the intervals and bounds of every metric of one pair."""
    labels, scores = population.draw(count, random)
    probabilities = population.probability(scores).astype(np.float32)
    rows = np.arange(count)
    sample = Sample(rows, labels, probabilities[0], probabilities[1])
    targets = scores[0] + random.normal(size=count)
    numbers = scores.astype(np.float32)[:, :, None]
    regression = Sample(rows, targets.astype(np.float32), numbers[0], numbers[1])
    section = Resampling(confidence=CONFIDENCE, resamples=resamples)

    def pairing(task: Task) -> Pairing:
        return Pairing(section, task, by_time=False, seed=seed)

    found = {
        change.name: _of_change(change)
        for change in (
            *compare(sample, COMPARED, pairing("binary_classification")),
            *compare(regression, (MAE,), pairing("regression")),
        )
    }
    aucs = delong(labels, sample.fp32, sample.int8)
    published = [
        student_interval(aucs.difference, math.sqrt(aucs.variance), confidence)
        for confidence in (CONFIDENCE, two_sided(CONFIDENCE))
    ]
    return found | {"auc-published": _of_intervals(*published)}


def _of_change(change: MetricChange) -> Judged:
    return Judged(change.low, change.high, change.bound_low, change.bound_high)


def _of_intervals(interval: Interval, bounds: Interval) -> Judged:
    return Judged(interval.low, interval.high, bounds.low, bounds.high)


def share_tallies(count: int, prevalence: float, pairs: int) -> dict[str, Tally]:
    """Returns coverage of the shares of ``count`` rows, found and expected."""
    random = np.random.default_rng(3)
    populations = [Population(prevalence, correlation) for correlation in CORRELATIONS]
    fewest = count * min(truth(population)["flips"] for population in populations)
    prefix = "few-" if fewest < FEW else ""
    tallies = {name: Tally() for name in ("accuracy", "flips")}
    for seed in range(pairs):
        population = populations[seed % len(populations)]
        labels, scores = population.draw(count, random)
        right = (scores >= population.threshold) == labels
        lost, gained = int((right[0] & ~right[1]).sum()), int((right[1] & ~right[0]).sum())
        judged = {
            "accuracy": _of_accuracy(lost, gained, count),
            "flips": _of_flips(lost + gained, count),
        }
        expected = _expected(population, count)
        for name, tally in tallies.items():
            tally.add(name, judged[name], truth(population)[name])
            tally.expected.append(expected[name])
    return {f"{prefix}{name}-n{count}-p{prevalence:g}": tally for name, tally in tallies.items()}


@cache
def _of_accuracy(lost: int, gained: int, count: int) -> Judged:
    bounds = paired_shares(lost, gained, count, two_sided(CONFIDENCE))
    return _of_intervals(paired_shares(lost, gained, count, CONFIDENCE), bounds)


@cache
def _of_flips(flips: int, count: int) -> Judged:
    bounds = share_interval(flips, count, two_sided(CONFIDENCE))
    return _of_intervals(share_interval(flips, count, CONFIDENCE), bounds)


@cache
def _expected(population: Population, count: int) -> Mapping[str, float]:
    """Returns the probability that the intervals hold the truth: the sum over all outcomes."""
    true = truth(population)

    def likely(probabilities: Floats) -> NDArray[np.int64]:
        return np.flatnonzero(probabilities > UNLIKELY)

    every = np.arange(count + 1)
    flips = binom.pmf(every, count, true["flips"])
    lost, gained = (binom.pmf(every, count, true[name]) for name in ("lost", "gained"))
    # The two are nearly independent: both are rare.
    both = {
        (x, y): float(lost[x] * gained[y])
        for x, y in product(likely(lost).tolist(), likely(gained).tolist())
        if lost[x] * gained[y] > UNLIKELY
    }
    return {
        "flips": sum(
            float(flips[hits])
            for hits in likely(flips).tolist()
            if within(true["flips"], (one := _of_flips(hits, count)).low, one.high)
        ),
        "accuracy": sum(
            chance
            for (x, y), chance in both.items()
            if within(true["accuracy"], (one := _of_accuracy(x, y, count)).low, one.high)
        )
        / sum(both.values()),
    }


def verdict_rows(count: int, prevalence: float, pairs: int) -> list[Row]:
    """Returns how often models pass and fail that lose nothing, the margin, and twice of it."""
    rows = []
    auc = float(ndtr(SEPARATION / math.sqrt(2)))
    for drop in (0.0, MARGIN, 2 * MARGIN):
        base = Population(prevalence, CHANGED)
        # AUC = Φ((separation - shift) / sqrt(2 + 2 added²)), solved for the shift.
        scale = math.sqrt(2 + 2 * base.added**2)
        shift = SEPARATION - scale * float(norm.ppf(auc - drop))
        population = Population(prevalence, CHANGED, shift)
        random = np.random.default_rng(1)
        verdicts = []
        for _ in range(pairs):
            labels, scores = population.draw(count, random)
            bounds = delong(labels, scores[0], scores[1]).bounds(CONFIDENCE)
            verdicts.append(decide_interval(bounds.negated(), MARGIN, count).verdict)
        case = f"verdict-auc-drop{drop:g}-n{count}-p{prevalence:g}"
        rows += _verdict_rows(case, verdicts)
    return rows


def flip_rows(count: int, pairs: int) -> list[Row]:
    """Returns how often models pass and fail that flip some of the margin, all and twice of it."""
    rows = []
    random = np.random.default_rng(2)
    for share in (FLIP_MARGIN / 10, FLIP_MARGIN, 2 * FLIP_MARGIN):
        hits = random.binomial(count, share, pairs)
        verdicts = [decide_share(int(x), count, FLIP_MARGIN, CONFIDENCE).verdict for x in hits]
        rows += _verdict_rows(f"verdict-flips-share{share:g}-n{count}", verdicts)
    return rows


def _verdict_rows(case: str, verdicts: Sequence[str]) -> list[Row]:
    pairs = len(verdicts)
    return [
        Row(case, "passed", verdicts.count("pass") / pairs, "share", notes=f"{pairs:,} pairs"),
        Row(case, "failed", verdicts.count("fail") / pairs, "share"),
    ]


if __name__ == "__main__":
    sys.exit(main())
