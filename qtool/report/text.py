"""How numbers become text: few digits, signs on changes, units, no difference rounded away."""

from __future__ import annotations

import math

MINUS = "\N{MINUS SIGN}"
TIMES = "\N{MULTIPLICATION SIGN}"
ABSENT = "not measured"

METRIC_TITLES = {
    "auc": "AUC",
    "gini": "Gini",
    "ks": "KS",
    "pr_auc": "PR-AUC",
    "brier": "Brier score",
    "ece": "ECE",
    "accuracy": "Accuracy",
    "rmse": "RMSE",
}
LOWER_IS_BETTER = frozenset({"brier", "ece"})


def count(value: int) -> str:
    """Returns an integer with thousands separators."""
    return f"{value:,}"


def number(value: float) -> str:
    """Returns a value of order 1 with five decimals, or two digits when those would show little."""
    if value == 0 or math.isnan(value):
        return "0" if value == 0 else ABSENT
    small = 0 < abs(value) < 1e-4
    return (f"{value:.1e}" if small else f"{value:.5f}").replace("-", MINUS)


def signed(value: float) -> str:
    """Returns a change with its sign; exactly 0 has none."""
    return f"+{number(value)}" if value > 0 else number(value)


def share(value: float) -> str:
    """Returns a share as a percentage that shows three digits of its distance to 0 or to 100 %."""
    if math.isnan(value):
        return ABSENT
    nearest = 100 * min(value, 1 - value)
    if nearest <= 0:  # exactly 0 or 1, or a ratio above 1
        return f"{100 * value:.4g} %"
    decimals = min(max(2 - math.floor(math.log10(nearest)), 1), 8)
    return f"{100 * value:.{decimals}f} %"


def times(value: float) -> str:
    """Returns a factor: 2.31 and the multiplication sign."""
    return ABSENT if math.isnan(value) else f"{value:.2f}{TIMES}"


def microseconds(value: float) -> str:
    """Returns microseconds with about three digits and no unit: 12.3, 123, 1,234."""
    return f"{value:,.2f}" if value < 10 else f"{value:,.1f}" if value < 100 else f"{value:,.0f}"


def file_size(size_bytes: int) -> str:
    """Returns a file size in decimal units, as in 1.23 MB."""
    for unit, factor in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if size_bytes >= factor:
            return f"{size_bytes / factor:.2f} {unit}"
    return f"{size_bytes} bytes"


def metric_title(name: str) -> str:
    """Returns the name of a metric as the field writes it."""
    return METRIC_TITLES[name]


def gate_value(name: str, value: float) -> str:
    """Returns the value or the limit of a gate in the unit of that gate."""
    if name in ("decision_flips", "size_ratio", "equal_codes"):
        return share(value)
    return times(value) if name == "speedup" else number(value)
