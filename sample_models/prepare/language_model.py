"""CFPB complaints, reports of TAT-QA and receipts of SROIE, any of them, together.

A table (Parquet or CSV) with the column ``Consumer complaint narrative`` is of complaints, one with
``receipt``, ``line`` and ``text`` of receipts; JSON files are those of TAT-QA.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa

from qtool.data.generators import finance_text
from sample_models.prepare.tables import read_table

NARRATIVE = "Consumer complaint narrative"
LONGEST_ROWS = 2
Document = tuple[str, str]
"""Its kind and its text."""


def prepare(files: Sequence[Path]) -> pa.Table:
    """Returns the texts in the columns of ``finance_text``, each text once.

    Tokens are those of a byte-level byte-pair encoding (Sennrich, Haddow and Birch 2016, arXiv
    1508.07909; Radford et al. 2019) of ``finance_text.VOCABULARY`` tokens that is learned from all
    texts. White space is one space, and letters keep their case. Of each text the first
    ``LONGEST_ROWS`` rows are taken, so that an epoch is a minute or two.

    Source: Consumer Complaint Database (CFPB); TAT-QA (Zhu et al. 2021); SROIE (Huang et al. 2019).
    """
    from tokenizers import ByteLevelBPETokenizer

    documents = list(dict.fromkeys(found for file in files for found in _documents(file)))
    texts = [text for _, text in documents]
    tokenizer = ByteLevelBPETokenizer()
    tokenizer.train_from_iterator(
        texts,
        vocab_size=finance_text.VOCABULARY,
        special_tokens=["<pad>", "<start>"],
        show_progress=False,
    )
    rows: list[dict[str, Any]] = []
    for number, encoded in enumerate(tokenizer.encode_batch(texts)):
        found = finance_text.document_rows(documents[number][0], number, encoded.ids)
        rows += islice(found, LONGEST_ROWS)
    return pa.Table.from_pylist(rows, finance_text.SCHEMA)


def _documents(file: Path) -> Iterator[Document]:
    if file.suffix == ".json":
        found = (("report", text) for text in _reports(file))
    else:
        table = read_table(file)
        if NARRATIVE in table.column_names:
            found = (("complaint", text) for text in table[NARRATIVE].to_pylist() if text)
        elif {"receipt", "line", "text"} <= set(table.column_names):
            found = (("receipt", text) for text in _receipts(table))
        else:
            sys.exit(f"{file}: neither complaints nor receipts")
    for kind, text in found:
        yield kind, " ".join(text.split())


def _reports(file: Path) -> Iterator[str]:
    """Yields the passages of each report, the table after them row by row."""
    for report in json.loads(file.read_text(encoding="utf-8")):
        passages = [one["text"] for one in sorted(report["paragraphs"], key=lambda p: p["order"])]
        cells = [" ".join(str(cell) for cell in row) for row in report["table"]["table"]]
        yield " ".join([*passages, *cells])


def _receipts(table: pa.Table) -> Iterator[str]:
    """Yields the lines of each receipt from top to bottom."""
    lines: dict[str, list[tuple[int, str]]] = {}
    columns = (table[name].to_pylist() for name in ("receipt", "line", "text"))
    for receipt, line, text in zip(*columns, strict=True):
        lines.setdefault(receipt, []).append((line, text or ""))
    for found in lines.values():
        yield " ".join(text for _, text in sorted(found))
