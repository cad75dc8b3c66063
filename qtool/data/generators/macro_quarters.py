"""Quarters of economies in which every variable has known causes: seeded, of any size.

**What a row is.** One quarter of one economy: ``values`` holds the ``VARIABLES``, ``causes``
the same once more, for the equations read of it what is a cause of theirs; ``lags`` those of the
quarter before and of the one before that. All are changes in a quarter (logarithms, in percent;
rates in points), less ``MEAN`` and divided by ``UNIT``, about the mean and the deviation of FRED-QD
(McCracken and Ng 2020, NBER w26872), so that coefficients are nearly standardized ones.
``python -m sample_models.prepare structural`` makes the same columns of its file.

**How it is made.** ``EQUATIONS`` is a recursive structural model, in the order of Christiano,
Eichenbaum and Evans (1999, Handbook of Macroeconomics 1A, chapter 2): what moves slowly, the policy
rate, what moves fast. Each equation is linear in its causes of the same quarter and in lags, about
the least-squares ones of FRED-QD, and bends where ``BENDS`` says so: dear oil harms more than cheap
oil helps (Mork 1989, Journal of Political Economy 97(3)), credit spreads widen when output falls
(Bernanke, Gertler and Gilchrist 1999, Handbook of Macroeconomics 1C, chapter 21), wages rise faster
in tight labour markets, the bank answers high inflation. Shocks have Student's distribution; in
some quarters all economies have large ones. A chunk holds ``ECONOMIES`` over ``QUARTERS``, by
date: more rows are more of them, and change none.

Statistics, in brackets those of FRED-QD without 2020 (``tests/data/test_macro_quarters.py`` holds
the claims): means are near 0 and deviations near 1, kurtosis is 5.3 at the median (6.1). Least
squares on what each equation reads explains 4 % of oil (5 %), 84 % of inflation (86 %) and 46 % of
a variable on average (53 %); inflation has an autocorrelation of 0.87 (0.89).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from qtool.data.generators.chunks import cut, fingerprint, random_stream

VERSION = 1
"""Raised with every change of the rows, so that fingerprints change with them."""

ECONOMIES, QUARTERS, BEFORE = 50, 240, 40
"""Of a chunk; quarters that are simulated before the first row."""
START = np.datetime64("1964-03", "M")
LAGS = 2
DEGREES = 5
"""Of freedom of the shocks."""
CRISIS, CRISIS_SHOCKS = 0.04, 2.2
"""Share of quarters in which all shocks are so many times as large."""


@dataclass(frozen=True)
class Equation:
    """What one variable is made of; all numbers are coefficients.

    Attributes:
        paths: of its causes in the same quarter.
        lags: of variables one and two quarters before.
        shock: deviation of what else moves it.
    """

    paths: dict[str, float]
    lags: dict[str, tuple[float, float]]
    shock: float


@dataclass(frozen=True)
class Bend:
    """``coefficient * max(0, side * cause - beyond)`` is added to a variable."""

    variable: str
    cause: str
    side: int
    beyond: float
    coefficient: float


EQUATIONS = {
    "oil": Equation({}, {"oil": (0.15, -0.1), "output": (0.12, -0.08)}, 0.95),
    "commodities": Equation({"oil": 0.45}, {"commodities": (0.38, -0.06), "oil": (0.0, 0.08)}, 0.6),
    "housing": Equation(
        {}, {"housing": (0.22, 0.12), "policy": (-0.22, -0.08), "ten_year": (-0.22, 0.06)}, 0.8
    ),
    "consumption": Equation(
        {"oil": -0.04, "housing": 0.18},
        {"consumption": (0.14, 0.22), "housing": (0.12, 0.03), "policy": (-0.1, 0.0)},
        0.75,
    ),
    "investment": Equation(
        {"housing": 0.27, "consumption": 0.35},
        {"investment": (0.2, 0.2), "housing": (0.18, 0.0), "spread": (-0.12, 0.0)},
        0.52,
    ),
    "output": Equation(
        {"consumption": 0.45, "investment": 0.35},
        {"output": (-0.25, -0.08), "consumption": (0.22, 0.12), "investment": (0.1, 0.0)},
        0.55,
    ),
    "employment": Equation(
        {"output": 0.3}, {"employment": (0.68, 0.04), "output": (0.06, 0.0)}, 0.4
    ),
    "unemployment": Equation(
        {"output": -0.1, "employment": -0.65},
        {"unemployment": (0.3, 0.2), "employment": (0.2, 0.12)},
        0.5,
    ),
    "wages": Equation(
        {"unemployment": -0.12}, {"wages": (0.34, 0.32), "inflation": (0.1, -0.06)}, 0.72
    ),
    "inflation": Equation(
        {"commodities": 0.24, "wages": 0.08},
        {"inflation": (0.6, 0.24), "unemployment": (-0.1, 0.0)},
        0.36,
    ),
    "policy": Equation(
        {"output": 0.12, "inflation": 0.1, "unemployment": -0.3},
        {"policy": (0.05, -0.12), "inflation": (-0.1, 0.0), "ten_year": (0.2, -0.12)},
        0.75,
    ),
    "ten_year": Equation(
        {"policy": 0.45, "inflation": 0.12},
        {"ten_year": (0.12, 0.0), "policy": (-0.1, 0.0), "inflation": (-0.1, 0.0)},
        0.8,
    ),
    "spread": Equation(
        {"output": -0.12, "ten_year": -0.45}, {"spread": (0.18, 0.0), "ten_year": (0.25, 0.0)}, 0.65
    ),
    "loans": Equation(
        {"output": 0.08, "policy": 0.1, "spread": 0.06},
        {"loans": (0.68, 0.04), "investment": (0.1, 0.06)},
        0.5,
    ),
    "money": Equation(
        {"policy": -0.16, "inflation": -0.4},
        {"money": (0.48, 0.03), "policy": (-0.12, 0.0), "inflation": (0.22, 0.08)},
        0.65,
    ),
}
BENDS = (
    Bend("consumption", "oil", 1, 0.5, -0.2),
    Bend("commodities", "oil", 1, 1.0, 0.25),
    Bend("spread", "output", -1, 0.25, 0.45),
    Bend("unemployment", "output", -1, 0.5, 0.25),
    Bend("wages", "unemployment", -1, 0.25, 0.35),
    Bend("policy", "inflation", 1, 0.5, 0.4),
    Bend("investment", "consumption", -1, 0.75, -0.4),
    Bend("output", "investment", -1, 1.0, -0.3),
)
VARIABLES = tuple(EQUATIONS)
"""In an order in which causes come first."""
MEAN = np.array([0.5, 0.85, 0.0, 0.75, 0.9, 0.7, 0.45, 0.0, 0.2, 0.85, 0.0, 0.0, 0.0, 0.85, 0.6])
UNIT = np.array([13.7, 1.8, 8.5, 0.7, 2.1, 0.85, 0.6, 0.35, 0.4, 0.6, 0.85, 0.45, 0.3, 2.0, 1.0])
"""Of the quarterly changes, in percent or points."""
SCHEMA = pa.schema(
    [
        ("economy", pa.string()),
        ("quarter", pa.string()),
        ("values", pa.list_(pa.float32(), len(VARIABLES))),
        ("causes", pa.list_(pa.float32(), len(VARIABLES))),
        ("lags", pa.list_(pa.float32(), LAGS * len(VARIABLES))),
    ]
)

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Days = NDArray[np.datetime64]


@dataclass(frozen=True)
class MacroQuarters:
    """The source ``{generator: macro_quarters, rows: …, seed: …}``."""

    rows: int
    seed: int

    @property
    def name(self) -> str:
        """What messages call the source."""
        return f"macro_quarters(rows={self.rows}, seed={self.seed})"

    @property
    def schema(self) -> pa.Schema:
        """All columns."""
        return SCHEMA

    def fingerprint(self) -> str:
        """Returns the sha256 of kind, version, rows and seed."""
        return fingerprint("macro_quarters", VERSION, self.rows, self.seed)

    def batches(self, columns: Sequence[str], batch_rows: int) -> Iterator[pa.RecordBatch]:
        """Yields the chunks, each by date and economy."""
        days = (START + 3 * np.arange(QUARTERS)).astype("datetime64[D]")
        for first in range(0, self.rows, ECONOMIES * QUARTERS):
            chunk = first // (ECONOMIES * QUARTERS)
            names = [f"economy {chunk * ECONOMIES + number}" for number in range(1, ECONOMIES + 1)]
            batch = quarter_batch(names, days, make_panel(self.seed, chunk))
            batch = batch.select(list(columns)).slice(0, self.rows - first)
            yield from cut(batch, batch_rows)


def read_by(variable: str) -> list[int]:
    """Returns what an equation reads, as columns of ``causes`` and ``lags`` side by side.

    Causes of the same quarter, and every lag of these, of the variable itself and of those that it
    has lags of.
    """
    equation, count = EQUATIONS[variable], len(VARIABLES)
    lagged = [VARIABLES.index(cause) for cause in {variable, *equation.paths, *equation.lags}]
    columns = [VARIABLES.index(cause) for cause in equation.paths]
    return sorted(columns + [lag * count + at for lag in range(1, LAGS + 1) for at in lagged])


def quarter_batch(names: Sequence[str], days: Days, panel: Float32) -> pa.RecordBatch:
    """Returns the rows of a panel, by date and economy, in the columns of ``SCHEMA``.

    Args:
        names: of the economies.
        days: one of each quarter, datetime64[D].
        panel: float32 (LAGS + quarters, economies, variables), less ``MEAN`` and in ``UNIT``.
    """
    present = panel[LAGS:].reshape(-1, len(VARIABLES))
    past = np.concatenate(
        [panel[LAGS - lag : len(panel) - lag] for lag in range(1, LAGS + 1)], axis=2
    ).reshape(-1, LAGS * len(VARIABLES))
    values = pa.FixedSizeListArray.from_arrays(pa.array(present.reshape(-1)), len(VARIABLES))
    columns = (
        pa.array(list(names) * len(days)),
        pa.array(np.repeat([quarter_of(day) for day in days], len(names))),
        values,
        values,
        pa.FixedSizeListArray.from_arrays(pa.array(past.reshape(-1)), LAGS * len(VARIABLES)),
    )
    return pa.RecordBatch.from_arrays(list(columns), schema=SCHEMA)


def quarter_of(day: np.datetime64) -> str:
    """Returns a name such as 1964Q1."""
    months = int(day.astype("datetime64[M]").astype(int))
    return f"{1970 + months // 12}Q{months % 12 // 3 + 1}"


@lru_cache(maxsize=16)
def make_panel(seed: int, chunk: int) -> Float32:
    """Returns simulated quarters, float32 (LAGS + QUARTERS, ECONOMIES, variables).

    The last ones stay in memory, for every stage reads all rows. The random stream belongs to the
    seed and the chunk alone.
    """
    random = random_stream(seed, chunk)
    quarters = BEFORE + LAGS + QUARTERS
    shape = quarters, ECONOMIES, len(VARIABLES)
    shocks = random.standard_t(DEGREES, shape) * np.sqrt((DEGREES - 2) / DEGREES)
    crisis = random.random(quarters) < CRISIS
    shocks *= np.where(crisis, CRISIS_SHOCKS, 1.0)[:, None, None]
    panel = np.zeros(shape)
    for quarter in range(LAGS, quarters):
        panel[quarter] = one_quarter(panel[quarter - 1], panel[quarter - 2], shocks[quarter])
    return panel[BEFORE:].astype(np.float32)


def one_quarter(before: Float64, two_before: Float64, shocks: Float64) -> Float64:
    """Returns the variables of a quarter, float64 (economies, variables); arguments likewise.

    Args:
        before: the quarter before.
        two_before: the one before that.
        shocks: in the deviations that ``EQUATIONS`` gives them.
    """
    now = np.zeros_like(shocks)
    for index, (name, equation) in enumerate(EQUATIONS.items()):
        total = equation.shock * shocks[:, index]
        for cause, coefficient in equation.paths.items():
            total = total + coefficient * now[:, VARIABLES.index(cause)]
        for cause, (first, second) in equation.lags.items():
            at = VARIABLES.index(cause)
            total = total + first * before[:, at] + second * two_before[:, at]
        for bend in (bend for bend in BENDS if bend.variable == name):
            reach = bend.side * now[:, VARIABLES.index(bend.cause)] - bend.beyond
            # Less about what it is on average, so that the variables stay near 0.
            usual = 0.4 * np.exp(-1.4 * bend.beyond)
            total = total + bend.coefficient * (np.maximum(0, reach) - usual)
        now[:, index] = total
    return now
