"""Reconciliation: the transactions of Online Retail, as CSV or as Parquet."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from qtool.data.generators.bank_statements import candidates
from qtool.data.generators.chunks import random_stream
from qtool.data.generators.remittances import Invoice
from sample_models.prepare.tables import only, read_table

SEED = 7
"""Of what the bank lines are drawn from; the file has none."""
HOME = "United Kingdom"


def prepare(files: Sequence[Path]) -> pa.Table:
    """Returns pairs of bank lines and open invoices in the columns of ``bank_statements``.

    The ledger is real: number, customer, country, day and total of every invoice that names a
    customer. How it is paid is drawn as in the generator (``remittances``), names of companies too.

    Source: UCI Machine Learning Repository, "Online Retail" (Chen, Sain and Guo 2012).
    """
    table = read_table(only(files))
    number = pc.cast(table["InvoiceNo"], pa.string())
    is_sale = pc.and_(pc.match_substring_regex(number, r"^\d+$"), pc.is_valid(table["CustomerID"]))
    lines = pa.table(
        {
            "number": number,
            "customer": pc.cast(table["CustomerID"], pa.int64()),
            "foreign": pc.not_equal(pc.cast(table["Country"], pa.string()), HOME),
            "issued": pc.cast(pc.cast(table["InvoiceDate"], pa.date32()), pa.int32()),
            "amount": pc.multiply(pc.cast(table["Quantity"], pa.float64()), table["UnitPrice"]),
        }
    ).filter(is_sale)
    found = lines.group_by("number").aggregate(
        [("customer", "min"), ("foreign", "max"), ("issued", "min"), ("amount", "sum")]
    )
    rows = sorted(found.to_pylist(), key=lambda row: (row["issued_min"], row["number"]))
    invoices = [
        Invoice(
            int(row["number"]),
            row["customer_min"],
            row["foreign_max"],
            row["issued_min"],
            round(row["amount_sum"], 2),
        )
        for row in rows
        if row["amount_sum"] >= 1
    ]
    return pa.Table.from_batches([candidates(invoices, random_stream(SEED, 0), "")])
