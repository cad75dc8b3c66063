"""Invoices: the text boxes and the key fields of SROIE, as its text files or as two tables."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa

from qtool.data.generators.document_words import Line, Word, words
from qtool.data.generators.receipts import FIELDS, SCHEMA, as_row
from sample_models.prepare.tables import read_table

CORNERS = 8
"""Numbers in front of the text: x and y of the corners, clockwise from the upper left."""


def prepare(files: Sequence[Path]) -> pa.Table:
    """Returns the receipts in the columns of ``receipts``.

    Takes the publisher's files, for each receipt ``NAME.csv`` (or ``.txt``; x1, y1, … y4, text)
    and ``NAME.json`` (company, date, address, total); or the same as two Parquet files: one row per
    line (receipt, line, x1, … y4, text), and one row per receipt with its fields.

    SROIE says what the fields are, not where. A field is tagged where its letters and digits are
    found in a row, and once only: the total at its last place in a row of print that says total but
    not subtotal, if there is one, and else at its last place; other fields at their first place. A
    receipt that has not all four fields in these words is left out.

    Source: Huang et al. 2019, "ICDAR2019 competition on scanned receipt OCR and information
    extraction", ICDAR.
    """
    lines, fields = _read(files)
    rows = []
    for receipt in sorted(lines):
        found = words(lines[receipt])
        spans = [
            (kind, *span)
            for kind in FIELDS
            if (span := place(found, kind, fields[receipt].get(kind) or "")) is not None
        ]
        if len(spans) == len(FIELDS):
            rows.append(as_row(receipt, found, spans))
    return pa.Table.from_pylist(rows, SCHEMA)


def place(found: Sequence[Word], kind: str, value: str) -> tuple[int, int] | None:
    """Returns the first word of a field and the one behind its last; None where it is not found.

    Args:
        found: the words of the receipt.
        kind: of the field.
        value: the text of the field.
    """
    wanted = _letters(value.removeprefix("RM") if kind == "total" else value)
    spans = list(_spans([_letters(word.text) for word in found], wanted)) if wanted else []
    if kind != "total" or not spans:
        return spans[0] if spans else None
    rows: dict[int, str] = {}
    for word in found:
        rows[word.row] = rows.get(word.row, "") + _letters(word.text)
    named = [span for span in spans if re.search("(?<!SUB)TOTAL", rows[found[span[0]].row])]
    return (named or spans)[-1]


def _spans(texts: Sequence[str], wanted: str) -> Iterator[tuple[int, int]]:
    """Yields first word and the one behind the last of each run of words that is ``wanted``."""
    for first in range(len(texts)):
        text = ""
        for behind in range(first, len(texts)):
            text += texts[behind]
            if text == wanted and texts[first]:
                yield first, behind + 1
            if not wanted.startswith(text) or text == wanted:
                break


def _letters(text: str) -> str:
    return re.sub("[^A-Z0-9]", "", text.upper())


def _read(files: Sequence[Path]) -> tuple[dict[str, list[Line]], dict[str, dict[str, str]]]:
    """Returns lines and fields of each receipt that has both."""
    lines: dict[str, list[Line]] = {}
    fields: dict[str, dict[str, str]] = {}
    for file in files:
        if file.suffix == ".json":
            fields[file.stem] = json.loads(file.read_text(encoding="utf-8"))
        elif file.suffix in (".csv", ".txt"):
            for text in file.read_text(encoding="utf-8", errors="replace").splitlines():
                *box, last = text.split(",", CORNERS)
                if len(box) == CORNERS:
                    lines.setdefault(file.stem, []).append(_line(last, [float(x) for x in box]))
        else:
            for row in read_table(file).to_pylist():
                if "text" in row:
                    corners = [row[f"{axis}{at}"] for at in range(1, 5) for axis in "xy"]
                    lines.setdefault(row["receipt"], []).append(_line(row["text"], corners))
                else:
                    fields[row["receipt"]] = row
    both = lines.keys() & fields.keys()
    return {name: lines[name] for name in both}, {name: fields[name] for name in both}


def _line(text: str, corners: Sequence[float]) -> Line:
    x, y = corners[::2], corners[1::2]
    return Line(text, min(x), min(y), max(x), max(y))
