"""Credit and marketing tables and short texts as rows of the models that ``qat.py`` trains."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from qat_rows import Floats, Indices, Rows, Splits, by_hash, splits, standardized

from qtool.data.hashing import hash_texts, splitmix64

MONTHS = 6
CREDIT_AMOUNTS = (
    "LIMIT_BAL",
    *(f"{name}{month}" for name in ("BILL_AMT", "PAY_AMT") for month in range(1, MONTHS + 1)),
)
CREDIT_STATES = ("PAY_0", *(f"PAY_{month}" for month in range(2, MONTHS + 1)))
CREDIT_CODES = {"SEX": (1, 2), "EDUCATION": (0, 1, 2, 3, 4, 5, 6), "MARRIAGE": (0, 1, 2, 3)}
CREDIT_LABEL = "default payment next month"
CREDIT_COLUMNS = len(CREDIT_AMOUNTS) + len(CREDIT_STATES) + 1 + 13
"""One for the age, 13 for the codes."""

BANK_NUMBERS = (
    "age", "campaign", "previous", "emp.var.rate", "cons.price.idx", "cons.conf.idx", "euribor3m",
    "nr.employed",
)  # fmt: skip
NEVER_CONTACTED = 999
ANSWERS = ("no", "unknown", "yes")
BANK_CATEGORIES = {
    "job": (
        "admin.", "blue-collar", "entrepreneur", "housemaid", "management", "retired",
        "self-employed", "services", "student", "technician", "unemployed", "unknown",
    ),
    "marital": ("divorced", "married", "single", "unknown"),
    "education": (
        "basic.4y", "basic.6y", "basic.9y", "high.school", "illiterate", "professional.course",
        "university.degree", "unknown",
    ),
    "default": ANSWERS,
    "housing": ANSWERS,
    "loan": ANSWERS,
    "contact": ("cellular", "telephone"),
    "month": ("mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"),
    "day_of_week": ("mon", "tue", "wed", "thu", "fri"),
    "poutcome": ("failure", "nonexistent", "success"),
}  # fmt: skip
BANK_COLUMNS = len(BANK_NUMBERS) + 2 + sum(map(len, BANK_CATEGORIES.values()))
"""Two for the days since the last contact, and whether there was one."""

VOCABULARY, WORDS = 2048, 24
"""Word ids, of which 0 is padding and 1 a word that is not known; words that are read of a text."""
PADDING, UNKNOWN = 0, 1
LARGEST = 8.0
"""Deviations from the mean beyond which a value is cut."""


def credit(data: Path) -> Splits:
    """Returns clients of a bank and whether they default next month, split by a hash of their ID.

    Input ``x``: float32 (rows, CREDIT_COLUMNS). Amounts are signed logarithms.

    Source: UCI Machine Learning Repository, "Default of Credit Card Clients" (Yeh and Lien 2009,
    Expert Systems with Applications 36(2)):
    DIR/taiwan_credit_default/taiwan_credit_default.parquet.
    """
    table = pq.read_table(data / "taiwan_credit_default" / "taiwan_credit_default.parquet")
    numbers = {name: _column(table, name) for name in (*CREDIT_AMOUNTS, *CREDIT_STATES, "AGE")}
    columns = [_signed_log(numbers[name]) for name in CREDIT_AMOUNTS]
    columns += [numbers[name] for name in (*CREDIT_STATES, "AGE")]
    for name, codes in CREDIT_CODES.items():
        columns += _one_hot(table[name].to_numpy(), codes)
    hashes = splitmix64(table["ID"].to_numpy().astype(np.uint64))
    return _tabular(columns, table[CREDIT_LABEL].to_numpy(), hashes)


def bank(data: Path) -> Splits:
    """Returns telephone calls of a bank and whether the client took the deposit.

    Input ``x``: float32 (rows, BANK_COLUMNS). The file has neither a key nor a date: calls are
    split by a hash of all that is known of them, so that equal rows stay together. ``duration`` is
    left out: it is known only after the call.

    Source: UCI Machine Learning Repository, "Bank Marketing" (Moro, Cortez and Rita 2014, Decision
    Support Systems 62): DIR/bank_marketing/bank-additional-full.parquet.
    """
    table = pq.read_table(data / "bank_marketing" / "bank-additional-full.parquet")
    days = _column(table, "pdays")
    contacted = days != NEVER_CONTACTED
    columns = [_column(table, name) for name in BANK_NUMBERS]
    columns += [contacted.astype(np.float64), np.where(contacted, days, 0.0)]
    for name, values in BANK_CATEGORIES.items():
        columns += _one_hot(table[name].to_numpy(zero_copy_only=False), values)
    known = table.drop_columns(["duration", "y"]).to_pydict()
    keys = ["|".join(map(str, row)) for row in zip(*known.values(), strict=True)]
    labels = table["y"].to_numpy(zero_copy_only=False) == "yes"
    return _tabular(columns, labels, hash_texts(keys))


def intents(data: Path) -> Splits:
    """Returns questions of a bank's customers and their intents (77), in the published split.

    Validation is a fifth of the published training rows, by a hash of the text. Inputs: ``tokens``
    and ``mask`` (1 a word, 0 padding), int64 (rows, WORDS).

    Source: PolyAI, BANKING77 (Casanueva et al. 2020, arXiv 2003.04807):
    DIR/banking77/train.parquet and test.parquet.
    """
    folder = data / "banking77"
    first, test = (pq.read_table(folder / f"{name}.parquet") for name in ("train", "test"))
    texts = [_words(text) for table in (first, test) for text in table["text"].to_pylist()]
    categories = [name for table in (first, test) for name in table["category"].to_pylist()]
    names = sorted(set(categories[: len(first)]))
    labels = np.array([names.index(category) for category in categories])
    # The published test rows are kept; by_hash would take its quarter off the training rows.
    chosen = hash_texts([" ".join(text) for text in texts[: len(first)]]) % np.uint64(5) == 0
    parts = (
        np.flatnonzero(~chosen),
        np.flatnonzero(chosen),
        np.arange(len(first), len(texts)),
    )
    tokens = _token_ids(texts, vocabulary([texts[row] for row in parts[0]]))
    mask = (tokens != PADDING).astype(np.int64)
    return splits(
        parts, lambda part: Rows({"tokens": tokens[part], "mask": mask[part]}, labels[part])
    )


def vocabulary(texts: Sequence[Sequence[str]]) -> dict[str, int]:
    """Returns the ids of the most frequent words, from 2 on; ties in alphabetical order."""
    counts = Counter(word for text in texts for word in text)
    ranked = sorted(counts, key=lambda word: (-counts[word], word))[: VOCABULARY - UNKNOWN - 1]
    return {word: number for number, word in enumerate(ranked, start=UNKNOWN + 1)}


def _words(text: str) -> list[str]:
    """Returns the first WORDS words in lower case; a text without any is one unknown word."""
    return re.findall(r"[a-z0-9']+", text.lower())[:WORDS] or [""]


def _token_ids(texts: Sequence[Sequence[str]], ids: dict[str, int]) -> NDArray[np.int64]:
    tokens = np.full((len(texts), WORDS), PADDING, np.int64)
    for row, text in enumerate(texts):
        tokens[row, : len(text)] = [ids.get(word, UNKNOWN) for word in text]
    return tokens


def _tabular(
    columns: Sequence[Floats], labels: NDArray[np.generic], hashes: NDArray[np.uint64]
) -> Splits:
    parts, values = by_hash(hashes), np.column_stack(columns)
    # A rare flag would lie more than a hundred deviations from its mean.
    x = standardized(values, values[parts[0]]).clip(-LARGEST, LARGEST)

    def rows_of(part: Indices) -> Rows:
        return Rows({"x": x[part]}, labels[part].astype(np.int64))

    return splits(parts, rows_of)


def _column(table: pa.Table, name: str) -> Floats:
    return table[name].to_numpy().astype(np.float64)  # type: ignore[no-any-return]


def _signed_log(amounts: Floats) -> Floats:
    return np.sign(amounts) * np.log1p(np.abs(amounts))


def _one_hot(values: NDArray[np.generic], known: Sequence[object]) -> list[Floats]:
    return [(values == one).astype(np.float64) for one in known]
