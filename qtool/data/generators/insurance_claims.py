"""Vehicle insurance claims and which are fraudulent: seeded, streaming, of any size.

**What a row is.** One claim in the columns of the set known as "carclaims" (Phua, Alahakoon and Lee
2004, ACM SIGKDD Explorations 6(1); 15,420 claims of 1994 to 1996), nearly all of them categories,
its spellings included. ``PolicyNumber`` is the number of the row, in the order of years and months.
No row is a copy of one in that set; its shares were the model.

**How it is made.** Policy, car and its price belong together, and so do the days of the accident
and of the claim; other columns are drawn by themselves, as they nearly are in the set. The label is
drawn from ``fraud_probability``. The same rows and seed give the same data; the size of the batches
plays no part.

Statistics, in brackets those of the set (``tests/data/test_insurance_claims.py`` holds the claims):
fraud 6 % (6 %); by base policy 0.6 % of liability (0.7 %), 6 % of collision (7 %), 11 % of all
perils (10 %); 1 % where a third party is at fault (1 %), 8 % where the policy holder is (8 %); 16 %
with an address changed 2 to 3 years before (17 %); ``Age`` is 0 in 2 % (2 %). The best possible AUC
is 0.86; on 28,000 claims boosted trees and logistic regression reach 0.85 (0.83 and 0.80 on
11,000).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from qtool.data.generators.chunks import cut, fingerprint, random_stream

VERSION = 1
"""Raised with every change of the rows, so that fingerprints change with them."""

CHUNK_ROWS = 4_096
MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
YEARS = (1994, 1995, 1996)
AGES = {
    "16 to 17": 0, "18 to 20": 18, "21 to 25": 21, "26 to 30": 26, "31 to 35": 31,
    "36 to 40": 36, "41 to 50": 41, "51 to 65": 51, "over 65": 66,
}  # fmt: skip
"""First age of each group; the youngest have an ``Age`` of 0 in the set."""
OLDEST = 80
POLICIES = {
    ("Sedan", "Collision", "Sedan"): 5_584,
    ("Sedan", "Liability", "Sport"): 4_987,
    ("Sedan", "All Perils", "Sedan"): 4_087,
    ("Sport", "Collision", "Sport"): 348,
    ("Utility", "All Perils", "Utility"): 340,
    ("Utility", "Collision", "Utility"): 30,
    ("Sport", "All Perils", "Sport"): 22,
    ("Utility", "Liability", "Utility"): 21,
}
"""(Car in ``PolicyType``, ``BasePolicy``, ``VehicleCategory``) → claims."""
SHARES: dict[str, dict[str, int]] = {
    "Make": {
        "Pontiac": 3_837, "Toyota": 3_121, "Honda": 2_801, "Mazda": 2_354, "Chevrolet": 1_681,
        "Accura": 472, "Ford": 450, "VW": 283, "Dodge": 109, "Saab": 108, "Mercury": 83,
        "Saturn": 58, "Nisson": 30, "BMW": 15, "Jaguar": 6, "Porche": 5, "Mecedes": 4,
    },
    "AccidentArea": {"Urban": 13_822, "Rural": 1_598},
    "Sex": {"Male": 13_000, "Female": 2_420},
    "MaritalStatus": {"Married": 10_625, "Single": 4_684, "Divorced": 76, "Widow": 35},
    "VehiclePrice": {
        "20000 to 29000": 8_079, "30000 to 39000": 3_533, "more than 69000": 2_164,
        "less than 20000": 1_096, "40000 to 59000": 461, "60000 to 69000": 87,
    },
    "Days_Policy_Accident": {
        "more than 30": 15_247, "none": 55, "8 to 15": 55, "15 to 30": 49, "1 to 7": 14,
    },
    "Days_Policy_Claim": {"more than 30": 15_342, "15 to 30": 56, "8 to 15": 21, "none": 1},
    "PastNumberOfClaims": {"2 to 4": 5_485, "none": 4_352, "1": 3_573, "more than 4": 2_010},
    "AgeOfVehicle": {
        "7 years": 5_807, "more than 7": 3_981, "6 years": 3_448, "5 years": 1_357, "new": 373,
        "4 years": 229, "3 years": 152, "2 years": 73,
    },
    "AgeOfPolicyHolder": {
        "31 to 35": 5_593, "36 to 40": 4_043, "41 to 50": 2_828, "51 to 65": 1_392, "26 to 30": 613,
        "over 65": 508, "16 to 17": 320, "21 to 25": 108, "18 to 20": 15,
    },
    "PoliceReportFiled": {"No": 14_992, "Yes": 428},
    "WitnessPresent": {"No": 15_333, "Yes": 87},
    "AgentType": {"External": 15_179, "Internal": 241},
    "NumberOfSuppliments": {"none": 7_047, "more than 5": 3_867, "1 to 2": 2_489, "3 to 5": 2_017},
    "AddressChange_Claim": {
        "no change": 14_324, "4 to 8 years": 631, "2 to 3 years": 291, "1 year": 170,
        "under 6 months": 4,
    },
    "NumberOfCars": {"1 vehicle": 14_316, "2 vehicles": 709, "3 to 4": 372, "5 to 8": 21},
}  # fmt: skip
"""Column → value → claims of the set that have it."""
RISKS: dict[str, dict[Any, float]] = {
    "BasePolicy": {"Liability": -2.6, "Collision": 0.0, "All Perils": 0.55},
    "Make": {"Accura": 0.7, "Saab": 0.6, "Saturn": 0.6, "Dodge": -1.0, "VW": -0.8},
    "AccidentArea": {"Rural": 0.35},
    "Sex": {"Female": -0.3},
    "VehiclePrice": {"less than 20000": 0.35, "more than 69000": 0.5},
    "Deductible": {500: 1.2, 300: 1.5},
    "PastNumberOfClaims": {"none": 0.15, "more than 4": -0.5},
    "AgeOfPolicyHolder": {"16 to 17": 0.5, "18 to 20": 0.8, "21 to 25": 0.9},
    "AddressChange_Claim": {"2 to 3 years": 1.3, "under 6 months": 4.0},
    "AgentType": {"Internal": -1.2},
    "PoliceReportFiled": {"Yes": -0.4},
    "Days_Policy_Accident": {"none": 1.0, "8 to 15": 0.4},
    "Month": {"Mar": 0.25, "Aug": 0.3, "May": 0.2, "Nov": -0.4, "Dec": -0.2, "Jul": -0.2},
    "Year": {1994: 0.12, 1996: -0.12},
}
"""Column → value → log-odds; 0 where a value is not named."""
INTERCEPT = -2.6
TEXTS = ("Month", "DayOfWeek", "DayOfWeekClaimed", "MonthClaimed", "Fault", "PolicyType",
         "VehicleCategory", "BasePolicy", *SHARES)  # fmt: skip
NUMBERS = ("PolicyNumber", "WeekOfMonth", "WeekOfMonthClaimed", "Age", "RepNumber", "Deductible",
           "DriverRating", "Year")  # fmt: skip
LABEL = "FraudFound_P"
SCHEMA = pa.schema(
    [
        *((name, pa.string()) for name in TEXTS),
        *((name, pa.int64()) for name in NUMBERS),
        (LABEL, pa.int64()),
    ]
)

Columns = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class InsuranceClaims:
    """The source ``{generator: insurance_claims, rows: …, seed: …}``."""

    rows: int
    seed: int

    @property
    def name(self) -> str:
        """What messages call the source."""
        return f"insurance_claims(rows={self.rows}, seed={self.seed})"

    @property
    def schema(self) -> pa.Schema:
        """All columns."""
        return SCHEMA

    def fingerprint(self) -> str:
        """Returns the sha256 of kind, version, rows and seed."""
        return fingerprint("insurance_claims", VERSION, self.rows, self.seed)

    def batches(self, columns: Sequence[str], batch_rows: int) -> Iterator[pa.RecordBatch]:
        """Yields the claims by year and month."""
        for first in range(0, self.rows, CHUNK_ROWS):
            values = make_chunk(self.rows, self.seed, first)
            batch = pa.RecordBatch.from_arrays(
                [pa.array(values[name], SCHEMA.field(name).type) for name in columns],
                names=list(columns),
            )
            yield from cut(batch.slice(0, self.rows - first), batch_rows)


def make_chunk(rows: int, seed: int, first: int) -> Columns:
    """Returns the columns of ``CHUNK_ROWS`` claims from row ``first`` on, of ``rows`` in all."""
    random = random_stream(seed, first // CHUNK_ROWS)
    number = first + np.arange(CHUNK_ROWS)
    values: Columns = {"PolicyNumber": number + 1}
    values |= _dates(np.minimum(number / rows, 1 - 1e-9), random)
    policies = list(POLICIES)
    chosen = random.choice(len(policies), CHUNK_ROWS, p=_probabilities(list(POLICIES.values())))
    car, base, category = (np.array(part)[chosen] for part in zip(*policies, strict=True))
    values["PolicyType"] = np.char.add(np.char.add(car, " - "), base)
    values |= {"BasePolicy": base, "VehicleCategory": category}
    for name, shares in SHARES.items():
        weights = _probabilities(list(shares.values()))
        values[name] = random.choice(np.array(list(shares)), CHUNK_ROWS, p=weights)
    third = np.select([base == "Liability", base == "Collision"], [0.145, 0.304], 0.371)
    values["Fault"] = np.where(random.random(CHUNK_ROWS) < third, "Third Party", "Policy Holder")
    values["Age"] = _ages(values["AgeOfPolicyHolder"], random)
    values["RepNumber"] = random.integers(1, 17, CHUNK_ROWS)
    values["DriverRating"] = random.integers(1, 5, CHUNK_ROWS)
    values["Deductible"] = random.choice(
        [400, 700, 500, 300], CHUNK_ROWS, p=[0.9622, 0.02, 0.0173, 0.0005]
    )
    fraud = random.random(CHUNK_ROWS) < fraud_probability(values)
    values[LABEL] = fraud.astype(np.int64)
    return values


def fraud_probability(values: Columns) -> NDArray[np.float64]:
    """Returns the probability from which the label is drawn, shape (rows,)."""
    logit = np.full(len(values["Fault"]), INTERCEPT)
    for name, risks in RISKS.items():
        for value, risk in risks.items():
            logit += risk * (values[name] == value)
    # Whose fault it was matters where damage to the own car is paid.
    third = values["Fault"] == "Third Party"
    logit -= third * np.where(values["BasePolicy"] == "All Perils", 2.3, 3.0)
    logit += 0.8 * (values["VehicleCategory"] == "Sport") * (values["BasePolicy"] == "Collision")
    old = np.isin(values["AgeOfVehicle"], ["6 years", "7 years", "more than 7"])
    dear = values["VehiclePrice"] == "more than 69000"
    logit += 0.7 * (dear & ~old) - 0.1 * (dear & old)
    # In some months full cover of ordinary cars is abused by a ring.
    ring = np.isin(values["Month"], ["Mar", "May", "Aug"]) & (values["VehicleCategory"] == "Sedan")
    logit += np.where(ring, 1.1, -0.2) * (values["BasePolicy"] == "All Perils")
    probability: NDArray[np.float64] = 1 / (1 + np.exp(-logit))
    return probability


def _dates(position: NDArray[np.float64], random: np.random.Generator) -> Columns:
    month = np.floor(36 * position).astype(np.int64)
    rows = len(position)
    week = random.choice(5, rows, p=[0.207, 0.231, 0.236, 0.22, 0.106])
    day = random.choice(7, rows, p=[0.17, 0.149, 0.14, 0.141, 0.159, 0.128, 0.113])
    weeks = random.geometric(0.45, rows) - 1
    # Offices take claims on few weekends.
    claimed = random.choice(7, rows, p=[0.244, 0.219, 0.191, 0.1725, 0.162, 0.0083, 0.0032])
    until = week + weeks
    return {
        "Year": np.array(YEARS)[month // 12],
        "Month": np.array(MONTHS)[month % 12],
        "WeekOfMonth": week + 1,
        "DayOfWeek": np.array(DAYS)[day],
        "MonthClaimed": np.array(MONTHS)[(month + until // 5) % 12],
        "WeekOfMonthClaimed": until % 5 + 1,
        "DayOfWeekClaimed": np.array(DAYS)[claimed],
    }


def _ages(group: NDArray[Any], random: np.random.Generator) -> NDArray[np.int64]:
    starts = [*AGES.values(), OLDEST + 1]
    place = np.array([list(AGES).index(name) for name in group])
    low = np.array(starts[:-1])[place]
    high = np.array([1, *starts[2:]])[place]
    age: NDArray[np.int64] = random.integers(low, high)
    return age


def _probabilities(weights: Sequence[int]) -> NDArray[np.float64]:
    return np.array(weights) / sum(weights)
