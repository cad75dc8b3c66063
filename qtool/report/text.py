"""How numbers become text: few digits, signs on changes, units, no difference rounded away."""

from __future__ import annotations

import math

from qtool.evaluation.gates import AGREEMENTS

MINUS = "\N{MINUS SIGN}"
TIMES = "\N{MULTIPLICATION SIGN}"
POINTS = " pp"
ABSENT = "not measured"

TRAINING_TITLES = {
    "auc": "AUC",
    "accuracy": "Accuracy",
    "rmse": "RMSE",
    "token_accuracy": "Token accuracy",
}
"""The metrics of a training history; those of an evaluation carry their title."""
SHARES = (
    "decision_flips",
    "size_ratio",
    "equal_codes",
    "reason_overlap",
    *AGREEMENTS,
)
"""Gates whose value is a share."""
DIFFERENCES = ("monotonicity", "robustness_drop")
"""Gates whose value is a difference of shares."""


def printable(text: str) -> str:
    """Returns a name or a sentence as every format can show it, in one line.

    Names of columns, nodes and classes are the user's: control characters are no XML, and a
    terminal obeys them; marks of direction turn what stands beside them.
    """
    if text.isprintable():
        return text
    shown = (
        c if c.isprintable() else " " if c.isspace() else "\N{REPLACEMENT CHARACTER}" for c in text
    )
    return "".join(shown)


def count(value: int) -> str:
    """Returns an integer with thousands separators."""
    return f"{value:,}"


def number(value: float) -> str:
    """Returns a value with five decimals: fewer from 10 on, two digits where they show little."""
    if value == 0 or math.isnan(value):
        return "0" if value == 0 else ABSENT
    if math.isinf(value):
        return "infinite"
    if abs(value) < 1e-4:
        return f"{value:.1e}".replace("-", MINUS)
    decimals = max(5 - max(math.floor(math.log10(abs(value))), 0), 0)
    return f"{value:,.{decimals}f}".replace("-", MINUS)


def signed(value: float) -> str:
    """Returns a change with its sign; exactly 0 has none."""
    return f"+{number(value)}" if value > 0 else number(value)


def share(value: float) -> str:
    """Returns a share as a percentage that shows three digits of its distance to 0 or to 100 %."""
    if math.isnan(value):
        return ABSENT
    if value < 0:
        return f"{MINUS}{share(-value)}"
    nearest = 100 * min(value, 1 - value)
    if nearest <= 0:  # exactly 0 or 1, or a ratio above 1
        return f"{100 * value:.4g} %"
    decimals = min(max(2 - math.floor(math.log10(nearest)), 1), 8)
    return f"{100 * value:.{decimals}f} %"


def points(value: float) -> str:
    """Returns a difference of shares in percentage points."""
    return share(value).replace(" %", POINTS)


def signed_points(value: float) -> str:
    """Returns ``points`` with its sign; exactly 0 has none."""
    return f"+{points(value)}" if value > 0 else points(value)


def times(value: float) -> str:
    """Returns a factor: 2.31 and the multiplication sign."""
    return ABSENT if math.isnan(value) else f"{value:.2f}{TIMES}"


def microseconds(value: float) -> str:
    """Returns microseconds with about three digits and no unit: 12.3, 123, 1,234."""
    if math.isnan(value):
        return ABSENT
    return f"{value:,.2f}" if value < 10 else f"{value:,.1f}" if value < 100 else f"{value:,.0f}"


def file_size(size_bytes: int) -> str:
    """Returns a file size in decimal units, as in 1.23 MB."""
    for unit, factor in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if size_bytes >= factor:
            return f"{size_bytes / factor:.2f} {unit}"
    return f"{size_bytes} bytes"


def interval(low: float, high: float) -> str:
    """Returns both ends of the interval of a change, with two digits of its width.

    Empty when there is none.
    """
    return _ends(low, high)


def points_interval(low: float, high: float) -> str:
    """Returns ``interval`` of a difference of shares, in percentage points."""
    return _ends(100 * low, 100 * high, POINTS)


def between(low: float, high: float) -> str:
    """Returns both ends of the interval of a share; empty when there is none."""
    return "" if math.isnan(low) or math.isnan(high) else f"{share(low)} to {share(high)}"


def _ends(low: float, high: float, unit: str = "") -> str:
    if math.isnan(low) or math.isnan(high):
        return ""
    width = high - low
    if not 1e-8 < width < math.inf:
        return f"{signed(low)}{unit} to {signed(high)}{unit}"
    decimals = max(1 - math.floor(math.log10(width)), 0)
    low, high = round(low, decimals) + 0.0, round(high, decimals) + 0.0  # no minus before a zero
    texts = (f"{end:{'+' if end else ''},.{decimals}f}{unit}" for end in (low, high))
    return " to ".join(texts).replace("-", MINUS)


def gate_value(name: str, value: float) -> str:
    """Returns the value or the limit of a gate in the unit of that gate."""
    if name in SHARES:
        return share(value)
    if name in DIFFERENCES:
        return points(value)
    if name == "p99_ms":
        return ABSENT if math.isnan(value) else f"{value:.4g} ms"
    return times(value) if name == "speedup" else number(value)
