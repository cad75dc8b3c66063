"""TAT-QA: any of its JSON files, together."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import pyarrow as pa

from qtool.data.generators import report_questions


def prepare(files: Sequence[Path]) -> pa.Table:
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
