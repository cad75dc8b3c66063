"""Brings public data sets into the columns that the configs read, as one Parquet file.

    python sample_models/prepare.py bank bank-additional-full.csv bank.parquet
    python sample_models/prepare.py cash_flow nn5_daily_dataset_with_missing_values.tsf cash.parquet
    python sample_models/prepare.py retrieval tatqa_dataset_dev.json [MORE.json …] tatqa.parquet

``bank`` takes the UCI file (CSV with semicolons) or the same table as Parquet; ``cash_flow`` the
file of the Monash forecasting repository, or one column per machine beside ``date`` (CSV, Parquet);
``retrieval`` any of the files of TAT-QA. ``sample_models/README.md`` names publishers.
"""

from __future__ import annotations

import argparse
import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
from numpy.typing import NDArray

from qtool.data.generators import bank_calls, cash_machines, report_questions

NEVER_CALLED = 999
"""``pdays`` of a client without an earlier call."""
WEEK = 7
STRIDE = cash_machines.STRIDE


def bank(files: Sequence[Path]) -> pa.Table:
    """Returns the calls in the columns of ``bank_calls``.

    Source: UCI Machine Learning Repository, "Bank Marketing" (Moro, Cortez and Rita 2014).
    """
    (file,) = files
    table = _table(file, delimiter=";")
    values: dict[str, Any] = {name: table[name].to_pylist() for name in table.column_names}
    days = np.array(values["pdays"])
    contacted = days != NEVER_CALLED
    values["contacted"], values["pdays"] = contacted.astype(np.int64), np.where(contacted, days, 0)
    values["age_group"] = bank_calls.age_groups(np.array(values["age"]))
    values["y"] = [int(answer == "yes") for answer in values["y"]]
    schema = bank_calls.SCHEMA
    return pa.table([pa.array(values[f.name], f.type) for f in schema], schema=schema)


def cash_flow(files: Sequence[Path]) -> pa.Table:
    """Returns windows of daily withdrawals in the columns of ``cash_machines``.

    A missing day gets the amount of the same weekday a week before; in the first week, after.

    Source: NN5 competition (Crone 2008); Monash forecasting repository (Godahewa et al. 2021, arXiv
    2105.06643).
    """
    (file,) = files
    if file.suffix == ".tsf":
        names, days, amounts = _monash(file)
    else:
        table = _table(file)
        names = [name for name in table.column_names if name != "date"]
        days = table["date"].to_numpy().astype("datetime64[D]")
        amounts = np.stack([table[name].to_numpy() for name in names], axis=1).astype(np.float64)
    whole = without_gaps(amounts).astype(np.float32)
    return pa.Table.from_batches(cash_machines.window_batches(names, days, whole, STRIDE))


def without_gaps(amounts: NDArray[np.float64]) -> NDArray[np.float64]:
    """Returns the amounts (days, machines) with each NaN replaced as ``cash_flow`` says."""
    filled = amounts.copy()
    first = filled[:WEEK]
    first[:] = np.where(np.isnan(first), filled[WEEK : 2 * WEEK], first)
    for day in range(WEEK, len(filled)):
        filled[day] = np.where(np.isnan(filled[day]), filled[day - WEEK], filled[day])
    return filled


def retrieval(files: Sequence[Path]) -> pa.Table:
    """Returns passages and questions in the columns of ``report_questions``.

    A question belongs to the passage that holds its answer: the table, if the answer is taken from
    it, else the first paragraph that it names. Words are numbered by their frequency in all texts;
    one that occurs once can match nothing and is left out, as are numbers but for years.

    Source: TAT-QA (Zhu et al. 2021).
    """
    texts = [text for file in files for text in _reports(file)]
    split = [words(text) for *_, text in texts]
    numbers = vocabulary(split)
    rows = []
    for (document, passage, is_question, _), found in zip(texts, split, strict=True):
        tokens = [numbers[word] for word in found if word in numbers]
        if tokens:
            tokens = report_questions.as_tokens(tokens, is_question=is_question)
            row = (document, passage, is_question, tokens)
            rows.append(dict(zip(report_questions.SCHEMA.names, row, strict=True)))
    return pa.Table.from_pylist(rows, report_questions.SCHEMA)


def words(text: str) -> list[str]:
    """Returns the words in lower case, and the years."""
    return re.findall(r"[a-z]+|(?<![\d.,])(?:19|20)\d\d(?![\d.,]*\d)", text.lower())


def vocabulary(texts: Iterable[Sequence[str]]) -> dict[str, int]:
    """Returns the numbers of the words, the most frequent first; ties in alphabetical order."""
    counts = Counter(word for text in texts for word in text)
    repeated = [word for word, count in counts.items() if count > 1]
    ranked = sorted(repeated, key=lambda word: (-counts[word], word))
    numbers = range(report_questions.FIRST_WORD, report_questions.WORDS)
    return dict(zip(ranked, numbers, strict=False))


def _reports(file: Path) -> Iterator[tuple[str, str, bool, str]]:
    """Yields document, passage, whether it is a question, and text."""
    for report in json.loads(file.read_text(encoding="utf-8")):
        table = report["table"]["uid"]
        paragraphs = {str(one["order"]): one for one in report["paragraphs"]}
        cells = (str(cell) for row in report["table"]["table"] for cell in row)
        yield table, table, False, " ".join(cells)
        for paragraph in paragraphs.values():
            yield table, paragraph["uid"], False, paragraph["text"]
        for question in report["questions"]:
            named = [number for number in question["rel_paragraphs"] if number in paragraphs]
            from_table = "table" in question["answer_from"] or not named
            gold = table if from_table else paragraphs[named[0]]["uid"]
            yield table, gold, True, question["question"]


def _monash(file: Path) -> tuple[list[str], NDArray[np.datetime64], NDArray[np.float64]]:
    """Returns names, days and amounts (days, series) of a ``.tsf`` file whose series are equal."""
    lines = file.read_text(encoding="utf-8").split("@data", 1)[1].split()
    # NAME:1996-03-18 00-00-00:1.5,?,2.5 is two words because of the space in the time.
    names, starts = zip(*(line.split(":", 1) for line in lines[::2]), strict=True)
    series = [line.split(":", 1)[1].split(",") for line in lines[1::2]]
    values = [[np.nan if text == "?" else float(text) for text in one] for one in series]
    amounts = np.array(values).T
    return list(names), np.datetime64(starts[0], "D") + np.arange(len(amounts)), amounts


def _table(file: Path, delimiter: str = ",") -> pa.Table:
    if file.suffix == ".parquet":
        return pq.read_table(file)
    return pa_csv.read_csv(file, parse_options=pa_csv.ParseOptions(delimiter=delimiter))


SYSTEMS: dict[str, Callable[[Sequence[Path]], pa.Table]] = {
    "bank": bank,
    "cash_flow": cash_flow,
    "retrieval": retrieval,
}


def main() -> None:
    """Reads the command line and writes the file."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("system", choices=SYSTEMS)
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("output", type=Path)
    given = parser.parse_args()
    if len(given.files) > 1 and given.system != "retrieval":
        parser.error(f"{given.system} takes one file")
    pq.write_table(SYSTEMS[given.system](given.files), given.output)


if __name__ == "__main__":
    main()
