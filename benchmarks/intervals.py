"""Do the intervals cover, and do the verdicts err as rarely as they say?

1,000 simulated FP32/INT8 pairs per case, whose true difference is known: scores are normal within
each class (FP32 AUC 0.87), INT8 adds noise, rounds to steps of 0.01 and lowers the positives a
little; its correlation with FP32 runs from 0.999 to 0.99999. ``coverage`` is the share of 95 %
intervals that hold the truth; with 1,000 pairs it is known to 0.7 points. ``passed_at_margin`` is
the share that passes a margin equal to the true worsening, where at most 5 % should. Where few rows
change there is no exact interval: those of shares, PR-AUC and KS are then too wide rather than too
narrow. ``auc-published`` is DeLong's interval as published, which ``qtool/statistics/delong.py``
corrects. Margins are judged by bounds on the safe side. ``passed`` and ``failed`` are verdicts: on
the AUC with a margin of 0.001 and a correlation of 0.9999, on flipped decisions with a margin of
1 %, of 2,500 pairs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import numpy as np
from harness import Row, arguments, report
from numpy.typing import NDArray
from scipy.special import expit, logit, ndtr
from scipy.stats import norm

from qtool.evaluation.metrics.binary import METRICS
from qtool.evaluation.metrics.regression import point_metrics
from qtool.evaluation.sample import Sample
from qtool.statistics.bootstrap import (
    Draws,
    bootstrap_bounds,
    bootstrap_interval,
    paired_bootstrap,
)
from qtool.statistics.delong import delong
from qtool.statistics.interval import Interval, student_interval, two_sided
from qtool.statistics.noninferiority import decide_interval, decide_share
from qtool.statistics.proportions import paired_shares, share_interval

Floats = NDArray[np.float64]
Intervals = Callable[[float], Interval]
"""Confidence → interval."""

ROWS = (500, 5000)
PREVALENCES = (0.5, 0.05)
CORRELATIONS = (0.999, 0.9997, 0.9999, 0.99997, 0.99999)
SEPARATION = 1.6
STEP = 0.01
SHIFT = 0.2
"""Of the positives, in standard deviations of what INT8 adds."""
CONFIDENCE = 0.95
HIGHER_IS_BETTER = {"auc", "auc-published", "pr_auc", "ks", "accuracy"}
MARGIN, CHANGED, FLIP_MARGIN = 0.001, 0.9999, 0.01
RESAMPLED = {metric.name: metric for metric in METRICS if metric.name in ("brier", "pr_auc", "ks")}
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
    """Returns INT8 minus FP32 of every metric, and the share of flips, by numerical integration."""
    edges = np.linspace(-9, 11, 200_001)
    fp32 = _metrics(population, edges, [norm(SEPARATION, 1), norm(0, 1)], stepped=False)
    # An INT8 score is the middle of the cell that was rounded to it.
    cells = (np.arange(round(-9 / STEP), round(11 / STEP)) + 0.5) * STEP
    spread = math.hypot(1, population.noise)
    classes = [norm(SEPARATION - population.lowered, spread), norm(0, spread)]
    int8 = _metrics(population, cells, classes, stepped=True)
    return {name: int8[name] - fp32[name] for name in fp32} | {
        "mae": _mae(population) - math.sqrt(2 / math.pi),
        "flips": _flips(population, edges),
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
    probability, right = population.probability(middles), middles >= population.threshold
    return {
        "auc": float(positive @ (1 - false + negative / 2)),
        "pr_auc": float(positive @ precision),
        "ks": float(np.max(true - false)),
        "brier": float(
            share * positive @ (1 - probability) ** 2 + (1 - share) * negative @ probability**2
        ),
        "accuracy": float(share * positive @ right + (1 - share) * negative @ ~right)
        if stepped
        else share * classes[0].sf(population.threshold)
        + (1 - share) * classes[1].cdf(population.threshold),
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


def _flips(population: Population, edges: Floats) -> float:
    scores = (edges[1:] + edges[:-1]) / 2
    # The lowest score before rounding that INT8 flags.
    border = (math.ceil(population.threshold / STEP) - 0.5) * STEP
    flips = 0.0
    for share, mean, lowered in (
        (population.prevalence, SEPARATION, population.lowered),
        (1 - population.prevalence, 0.0, 0.0),
    ):
        passed = ndtr((border - scores + lowered) / population.noise)
        flipped = np.where(scores >= population.threshold, passed, 1 - passed)
        flips += share * float(np.diff(ndtr(edges - mean)) @ flipped)
    return flips


@dataclass(frozen=True)
class Judged:
    """What is said of one metric of one pair.

    Attributes:
        interval: by its two-sided confidence.
        bounds: for a verdict, by their one-sided confidence.
    """

    interval: Intervals
    bounds: Intervals


@dataclass
class Tally:
    """Intervals of one metric against the truth."""

    pairs: int = 0
    below: int = 0
    above: int = 0
    passed: int = 0
    width: float = 0.0

    def add(self, name: str, judged: Judged, true: float) -> None:
        """Counts one pair: its interval, and its verdict at a margin that is the true worsening."""
        found = judged.interval(CONFIDENCE)
        self.pairs += 1
        self.below += true < found.low
        self.above += true > found.high
        self.width += found.high - found.low
        bounds, margin = judged.bounds(CONFIDENCE), true
        if name in HIGHER_IS_BETTER:
            bounds, margin = bounds.negated(), -true
        self.passed += decide_interval(bounds, margin, 1).verdict == "pass"

    def rows(self, case: str) -> list[Row]:
        """Returns what was counted."""
        covered = 1 - (self.below + self.above) / self.pairs
        notes = f"{self.below} below and {self.above} above of {self.pairs:,}; mean width "
        return [
            Row(case, "coverage", covered, "share", notes=f"{notes}{self.width / self.pairs:.2g}"),
            Row(case, "passed_at_margin", self.passed / self.pairs, "share"),
        ]


def main() -> None:
    """Simulates every case and reports it."""
    given = arguments(__doc__ or "").parse_args()
    pairs, judged, resamples = (20, 20, 100) if given.quick else (1000, 2500, 500)
    rows: list[Row] = []
    for count in ROWS:
        for prevalence in PREVALENCES:
            rows += coverage_rows(count, prevalence, pairs, resamples)
            rows += verdict_rows(count, prevalence, judged)
        rows += flip_rows(count, judged)
    report(sorted(rows, key=lambda row: row.case), given.json)


def coverage_rows(count: int, prevalence: float, pairs: int, resamples: int) -> list[Row]:
    """Returns coverage of every metric for samples of ``count`` rows."""
    random = np.random.default_rng(0)
    tallies: dict[str, Tally] = {}
    for seed in range(pairs):
        population = Population(prevalence, CORRELATIONS[seed % len(CORRELATIONS)])
        true = truth(population)
        for name, judged in _judged(population, count, random, resamples, seed).items():
            known = true["auc" if name == "auc-published" else name]
            tallies.setdefault(name, Tally()).add(name, judged, known)
    return [
        row
        for name, tally in tallies.items()
        for row in tally.rows(f"{name}-n{count}-p{prevalence:g}")
    ]


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
    statistics = {
        name: (metric.build(sample, sample.fp32), metric.build(sample, sample.int8))
        for name, metric in RESAMPLED.items()
    }
    statistics["mae"] = (
        MAE.build(regression, regression.fp32),
        MAE.build(regression, regression.int8),
    )
    draws = Draws(count, labels, resamples=resamples, seed=seed)
    units = draws.smallest()
    found: dict[str, Judged] = {}
    for name, differences in paired_bootstrap(statistics, draws).items():
        first, second = statistics[name]
        found[name] = _bootstrapped(second(None) - first(None), differences, units)
    flagged = scores >= population.threshold
    right = flagged == labels
    aucs = delong(labels, sample.fp32, sample.int8)
    gained, lost = int((right[1] & ~right[0]).sum()), int((right[0] & ~right[1]).sum())
    return found | {
        "auc": Judged(aucs.interval, aucs.bounds),
        "auc-published": _by_ends(
            partial(student_interval, aucs.difference, math.sqrt(aucs.variance))
        ),
        "accuracy": _by_ends(partial(paired_shares, lost, gained, count)),
        "flips": _by_ends(partial(share_interval, gained + lost, count)),
    }


def _bootstrapped(estimate: float, differences: Floats, units: int) -> Judged:
    return Judged(
        partial(bootstrap_interval, estimate, differences, units=units),
        partial(bootstrap_bounds, estimate, differences, units=units),
    )


def _by_ends(interval: Intervals) -> Judged:
    return Judged(interval, lambda confidence: interval(two_sided(confidence)))


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
    main()
