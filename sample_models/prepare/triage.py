"""Triage: the training and the test file of BANKING77, or the complaints of the CFPB."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from qtool.data.generators.customer_messages import SCHEMA, as_batch
from sample_models.prepare.tables import read_table

SEED = 7
"""Of the order in which rows of a file without dates are taken to have arrived."""
TEXT, CLASS = "Consumer complaint narrative", "Product"
PRODUCTS = {
    "Credit reporting": "credit reporting",
    "Debt collection": "debt collection",
    "Mortgage": "mortgage",
    "Credit card": "card",
    "Checking or savings": "account",
    "Bank account": "account",
    "Money transfer": "account",
    "Student loan": "loan",
    "Vehicle loan": "loan",
    "Consumer Loan": "loan",
    "Payday loan": "loan",
}
"""Begin of a product's name → class: the CFPB changed the names, and some are rare."""


def prepare(files: Sequence[Path]) -> pa.Table:
    """Returns the messages in the columns of ``customer_messages``.

    BANKING77: ``train.csv``, then ``test.csv``; both in random order, the official test rows last,
    so that a split by ``number`` with 0.23542 for evaluation is the official one.

    CFPB: one file or more with the columns of the Consumer Complaint Database; only complaints with
    a narrative, each text once, in random order.

    Source: BANKING77 (Casanueva et al. 2020, arXiv 2003.04807); Consumer Complaint Database of the
    US Consumer Financial Protection Bureau.
    """
    random = np.random.default_rng(SEED)
    tables = [read_table(file) for file in files]
    if TEXT in tables[0].column_names:
        found = {text: product for table in tables for text, product in _complaints(table)}
        messages = _shuffled(list(found.items()), random)
    else:
        parts = (zip(*(table[name].to_pylist() for name in ("text", "category")), strict=True)
                 for table in tables)  # fmt: skip
        messages = [message for part in parts for message in _shuffled(list(part), random)]
    return pa.Table.from_batches([as_batch(messages, 0, SCHEMA.names)])


def _complaints(table: pa.Table) -> list[tuple[str, str]]:
    """Returns narrative and class of the complaints that have both."""
    found = []
    for text, product in zip(table[TEXT].to_pylist(), table[CLASS].to_pylist(), strict=True):
        known = [name for begin, name in PRODUCTS.items() if product.startswith(begin)]
        if text and known:
            found.append((text, known[0]))
    return found


def _shuffled(
    messages: list[tuple[str, str]], random: np.random.Generator
) -> list[tuple[str, str]]:
    return [messages[index] for index in random.permutation(len(messages))]
