"""An estimate with its confidence interval."""

from __future__ import annotations

import math
from dataclasses import dataclass

from scipy.stats import t as student


@dataclass(frozen=True)
class Interval:
    """An estimate and what it may be.

    Attributes:
        estimate: NaN where it is not defined.
        low: lower end; NaN or infinite where the data do not give one.
        high: upper end.
        error: standard error.
    """

    estimate: float
    low: float
    high: float
    error: float

    def negated(self) -> Interval:
        """Returns the interval of minus the estimate: a drop from a change."""
        return Interval(-self.estimate, -self.high, -self.low, self.error)


def two_sided(confidence: float) -> float:
    """Returns the confidence of the interval whose ends are one-sided bounds at ``confidence``.

    Args:
        confidence: of each bound, in [0.5, 1).
    """
    return 2 * confidence - 1


def student_interval(
    estimate: float, error: float, confidence: float, freedom: float = math.inf
) -> Interval:
    """Returns estimate ± quantile * error, two-sided.

    Args:
        estimate: any number.
        error: its standard error.
        confidence: two-sided, in [0, 1).
        freedom: degrees of freedom of the error; infinite gives the normal interval.
    """
    width = error * float(student.ppf((1 + confidence) / 2, freedom))
    return Interval(estimate, estimate - width, estimate + width, error)


def satterthwaite(parts: tuple[float, float], counts: tuple[int, int]) -> float:
    """Returns the degrees of freedom of the sum of two variances of means; infinite where it is 0.

    Args:
        parts: the variances, each estimated from one group.
        counts: rows of the groups; NaN is returned when one has fewer than two.

    Source: Satterthwaite 1946, Biometrics Bulletin 2(6), equation 17.
    """
    if min(counts) < 2:
        return math.nan
    spread = sum(part**2 / (count - 1) for part, count in zip(parts, counts, strict=True))
    return sum(parts) ** 2 / spread if spread else math.inf
