"""Passages of annual reports and questions about them, as words: seeded, streaming, of any size.

**What a row is.** A passage or a question of one document, as the numbers of its words in
``tokens``, each once and in the order of the text, behind ``PASSAGE`` or ``QUESTION``; the most
frequent word is ``FIRST_WORD``. ``passage`` is equal for a passage and the questions that it
answers. ``sample_models.prepare retrieval`` makes the same columns of TAT-QA (Zhu et al.
2021, "TAT-QA: A Question Answering Benchmark on a Hybrid of Tabular and Textual Content in
Finance", ACL), whose sizes were the model.

**How it is made.** A document has words that its passages share, as those of one company do, and a
passage has words of its own. A question takes its words from the passage; some it replaces by their
synonym, the neighbour in the vocabulary. The same seed gives the same documents: more rows add
documents and change none, and the size of the batches plays no part.

Statistics, in brackets those of TAT-QA (``tests/data/test_report_questions.py`` holds the claims):
six passages and six questions in a document (5.7, 6.0), at the median 21 different words in a
passage (25) and 10 in a question (11). Among the 800 passages of 133 documents, TF-IDF finds the
right one in the first ten for 0.85 of the questions (0.85); without synonyms it would for 0.95.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from qtool.data.generators.chunks import cut, fingerprint, random_stream

VERSION = 1
"""Raised with every change of the rows, so that fingerprints change with them."""

PASSAGES = QUESTIONS = 6
"""Of each document."""
CHUNK_DOCUMENTS = 64
QUESTION, PASSAGE, FIRST_WORD = 1, 2, 3
"""0 is for padding."""
WORDS = 4096
"""Numbers of words, with those before the first."""
COMMON = 64
"""Up to it, words stand for those that any sentence has."""
SYNONYMS = 0.33
"""Share of a question's own words that the passage has in another form."""
SCHEMA = pa.schema(
    [
        ("document", pa.string()),
        ("passage", pa.string()),
        ("is_question", pa.bool_()),
        ("tokens", pa.list_(pa.int32())),
    ]
)

Words = NDArray[np.int64]


@dataclass(frozen=True)
class ReportQuestions:
    """The source ``{generator: report_questions, rows: …, seed: …}``."""

    rows: int
    seed: int

    @property
    def name(self) -> str:
        """What messages call the source."""
        return f"report_questions(rows={self.rows}, seed={self.seed})"

    @property
    def schema(self) -> pa.Schema:
        """All columns."""
        return SCHEMA

    def fingerprint(self) -> str:
        """Returns the sha256 of kind, version, rows and seed."""
        return fingerprint("report_questions", VERSION, self.rows, self.seed)

    def batches(self, columns: Sequence[str], batch_rows: int) -> Iterator[pa.RecordBatch]:
        """Yields the documents, each with its passages and then its questions."""
        chunk_rows = CHUNK_DOCUMENTS * (PASSAGES + QUESTIONS)
        for first in range(0, self.rows, chunk_rows):
            rows = make_chunk(self.seed, first // chunk_rows)[: self.rows - first]
            batch = pa.RecordBatch.from_pylist(rows, SCHEMA)
            yield from cut(batch.select(list(columns)), batch_rows)


def make_chunk(seed: int, chunk: int) -> list[dict[str, Any]]:
    """Returns the rows of ``CHUNK_DOCUMENTS`` documents.

    The random stream belongs to the seed and the chunk alone.
    """
    random = random_stream(seed, chunk)
    rows: list[dict[str, Any]] = []
    for number in range(chunk * CHUNK_DOCUMENTS, (chunk + 1) * CHUNK_DOCUMENTS):
        document = f"report {number}"
        names = [f"{document}, passage {index}" for index in range(PASSAGES)]
        shared = _rare(24, random)
        passages = [_passage(shared, random) for _ in names]
        asked = random.integers(0, PASSAGES, QUESTIONS)
        questions = [_question(passages[index], shared, random) for index in asked]
        identities = names + [names[index] for index in asked]
        for index, (identity, tokens) in enumerate(
            zip(identities, passages + questions, strict=True)
        ):
            rows.append(
                {
                    "document": document,
                    "passage": identity,
                    "is_question": index >= PASSAGES,
                    "tokens": as_tokens(tokens, is_question=index >= PASSAGES),
                }
            )
    return rows


def as_tokens(words: Iterable[int], *, is_question: bool) -> list[int]:
    """Returns what a row holds of a text: each word once, behind what the text is."""
    return [QUESTION if is_question else PASSAGE, *dict.fromkeys(words)]


def _passage(shared: Words, random: np.random.Generator) -> Words:
    length = int(np.clip(30 * np.exp(0.6 * random.standard_normal()), 10, 64))
    own = _rare(max(3, length // 3), random)
    return _mixed(length, (0.4, 0.25, 0.35), (shared, own), random)


def _question(passage: Words, shared: Words, random: np.random.Generator) -> Words:
    length = int(np.clip(12 * np.exp(0.3 * random.standard_normal()), 6, 20))
    content = passage[passage > COMMON]
    own = content if len(content) else shared
    replaced = random.random(len(own)) < SYNONYMS
    return _mixed(length, (0.5, 0.2, 0.3), (shared, np.where(replaced, own ^ 1, own)), random)


def _mixed(
    length: int,
    shares: tuple[float, float, float],
    words: tuple[Words, Words],
    random: np.random.Generator,
) -> Words:
    """Returns words that are common, of the document or of the passage, in these shares."""
    kind = random.choice(3, length, p=shares)
    return np.choose(kind, [_common(length, random), *(random.choice(w, length) for w in words)])


def _common(count: int, random: np.random.Generator) -> Words:
    return _by_rank(FIRST_WORD, COMMON, count, random)


def _rare(count: int, random: np.random.Generator) -> Words:
    return _by_rank(COMMON + 1, WORDS - 1, count, random)


def _by_rank(low: int, high: int, count: int, random: np.random.Generator) -> Words:
    """Returns words from ``low`` to ``high``, word n with probability about 1 / n (Zipf's law)."""
    return np.floor(low * ((high + 1) / low) ** random.random(count)).astype(np.int64)
