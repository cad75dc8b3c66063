"""Complaints, reports and receipts as tokens, for language models: seeded, of any size.

**What a row is.** At most ``STEPS`` tokens of one ``document``: ``START`` or, where a document goes
on, the last token of the row before, and those that follow, so that every token is predicted once.
``kind`` is what the document is. ``python -m sample_models.prepare language_model`` makes the same
columns of the narratives of the Consumer Complaint Database (CFPB), the reports of TAT-QA (Zhu et
al. 2021) and the receipts of SROIE (Huang et al. 2019), whose sizes were the model.

**How it is made.** A document has a company, a person, an account, a date, a topic and a few
amounts, which come back again and again: who reads only the last two tokens cannot know them. Its
sentences are frames of English words whose open places are filled with made-up words by Zipf's law,
most of them of the topic; an adjective goes with its noun. A sentence depends on the one before it.
Complaints quote paragraphs of the law nearly word for word, names are masked as the CFPB does it,
and one token in a hundred is a slip. The same seed gives the same documents: more rows add
documents and change none, and the size of the batches plays no part. ``text`` makes tokens
readable.

Statistics, in brackets those of the real texts (``tests/data/test_finance_text.py`` holds the
claims): 325 tokens in a complaint (257), 490 in a report (464), 325 in a receipt (273); complaints
have 0.72 of all tokens (0.68). Learned from 3,400 rows, unigrams have a perplexity of 400, bigrams
60 and trigrams 46, with Kneser-Ney smoothing (906, 121, 78); from 6,400 rows trigrams are alike (40
and 40). Words are fewer and plainer than in real texts, and digits are drawn at random.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa

from qtool.data.generators.chunks import cut, fingerprint, random_stream

VERSION = 1
"""Raised with every change of the rows, so that fingerprints change with them."""

VOCABULARY = 4096
"""Numbers of tokens, with those that are no words."""
PADDING, START = 0, 1
STEPS = 128
CHUNK_DOCUMENTS = 32
SLIPS = 0.01
"""Share of the tokens that are something else than what was meant."""
SCHEMA = pa.schema(
    [("document", pa.string()), ("kind", pa.string()), ("tokens", pa.list_(pa.int32()))]
)
KINDS = {"complaint": 0.75, "report": 0.12, "receipt": 0.13}
"""Kind of document → share of the documents."""
SENTENCES = {"complaint": (12, 0.9), "report": (26, 0.35), "receipt": (24, 0.4)}
"""Median sentences of a document, and the deviation of their logarithm."""
TOPICS = 48

FRAMES: dict[str, tuple[str, ...]] = {
    "complaint": (
        "i am writing to dispute the {noun} on my {account} account with {company} .",
        "on {date} i {verb} {company} about the {noun} of $ {amount} .",
        "they {verb} that the {adjective} {noun} was {verb} on {date} .",
        "i never {verb} this {noun} and i do not {verb} {company} .",
        "{company} reported the {noun} to all three credit bureaus without a {noun} .",
        "my {account} was charged $ {amount} for a {adjective} {noun} that i did not authorize .",
        "i have {verb} them many times , and each time a {noun} told me to {verb} the {noun} .",
        "the representative , {person} , said that the {noun} had been {verb} .",
        "i asked for a {adjective} {noun} , but they {verb} my {noun} instead .",
        "please remove the {noun} of $ {amount} from my credit report .",
        "since {date} my {noun} has been {adjective} , and my score fell by {small} points .",
        "this {adjective} {noun} is not mine , and {company} knows it .",
        "i paid $ {amount} to {company} , yet the balance is still $ {amount} .",
        "when i called , {person} refused to {verb} the {noun} or the {noun} .",
        "{law}",
        "{law}",
    ),
    "report": (
        "net {noun} for the year ended december 31 , {year} was $ {amount} million .",
        "the {noun} increased by {small} % compared to {year} , due to the {adjective} {noun} .",
        "{company} recognizes {noun} when the {noun} is {verb} to the customer .",
        "the fair value of the {adjective} {noun} is based on {noun} and {noun} .",
        "in {year} , we {verb} {company} for a total {noun} of $ {amount} million .",
        "as of december 31 , {year} , the {noun} of the {noun} was {small} % .",
        "the decrease in {noun} was offset by the {noun} of $ {amount} million in {year} .",
        "we {verb} our {adjective} {noun} at the lower of {noun} and {noun} .",
        "{noun} {amount} {amount} {noun} {amount} {amount} total {noun} {amount}",
        "{noun} $ {amount} {year} $ {amount} ( {small} % )",
    ),
    "receipt": (
        "{company} sdn bhd no . {small} , jalan {person} , {place}",
        "tel : {number} gst id : {number}",
        "date : {date} time : {small} : {small} cashier : {person}",
        "{noun} {adjective} {small} x {amount} {amount}",
        "{noun} {noun} {amount} sr",
        "{small} {adjective} {noun} @ {amount} {amount}",
        "{noun} {small} pc {amount}",
        "total {amount} rounding 0 . 0 {small} cash {amount} change {amount}",
        "thank you please come again goods sold are not returnable",
    ),
}
"""Kind → sentences; each is mostly followed by one of the next few."""
CLAUSES = (
    "{pronoun} {modal} {verb} {determiner} {adjective} {noun} {preposition} {determiner} {noun}",
    "{determiner} {noun} {preposition} {company} {modal} {verb} {determiner} {noun}",
    "{pronoun} {verb} {preposition} {determiner} {noun} {preposition} {determiner} {adjective} "
    "{noun}",
    "{determiner} {adjective} {noun} {modal} {verb} {preposition} {determiner} {noun}",
    "{noun} {preposition} {noun} {modal} {verb} {preposition} {date}",
)
"""Of sentences that follow no frame: up to three, joined."""
FREE = {"complaint": 0.5, "report": 0.5, "receipt": 0.15}
"""Kind → share of such sentences."""
CHOICES = {
    "pronoun": "i they we he she it you who nobody someone",
    "modal": "was is had will would did has could can not never should may also",
    "determiner": "the the the a a my this their that any our his your no each another",
    "preposition": "of of in to on for with from by at about after before under over against",
    "conjunction": "and and but because , , when so while although since if",
}
"""Open place → English words for it, in the order of how often they are used."""
LAW = (
    "under section {small} of the fair credit reporting act you are required to promptly delete "
    "all information which can not be verified within thirty days of receipt of this notice .",
    "the consumer reporting agency shall not report information without the written instructions "
    "of the consumer to whom it relates , as stated in {small} usc {number} .",
    "i am a victim of identity theft and demand that you block the reporting of any information "
    "that resulted from an alleged identity theft not later than four business days after receipt "
    ".",
    "a furnisher of information must conduct an investigation with respect to the disputed "
    "information and report the results to the agency and to me .",
    "failure to respond satisfactorily will result in legal action being taken against your "
    "company , for which i will be seeking {amount} in damages for each violation .",
    "pursuant to the fair debt collection practices act i request validation of this debt , the "
    "name of the original creditor , and a copy of any contract with my signature .",
)
OPEN = {"noun": 1800, "adjective": 520, "verb": 400, "company": 700, "person": 220, "place": 100}
"""Kind of made-up word → how many there are."""
YEARS = tuple(str(year) for year in range(2012, 2022))
ACCOUNTS = ("checking", "savings", "mortgage", "loan", "card", "auto", "student", "prepaid")
MASK = "xxxx"
PAIRS = tuple(f"{number:02}" for number in range(100))
FREQUENT = (MASK, ".", ",", "$", "/", ":", *"0123456789", *YEARS, *PAIRS, *ACCOUNTS)


def _closed_words() -> tuple[str, ...]:
    """Returns the words that frames are made of, and those of numbers and dates."""
    frames = (frame for frames in (*FRAMES.values(), LAW, CHOICES.values()) for frame in frames)
    words = (word for frame in frames for word in re.sub(r"{\w+}", "", frame).split())
    return tuple(dict.fromkeys((*FREQUENT, *words)))


CLOSED = _closed_words()
NUMBERS = {word: number for number, word in enumerate(CLOSED, start=START + 1)}
_SIZES = [START + 1 + len(CLOSED), *OPEN.values()]
FIRST: dict[str, int] = dict(zip(OPEN, np.cumsum(_SIZES[:-1]).tolist(), strict=True))
"""Kind of made-up word → number of the first."""


@dataclass(frozen=True)
class FinanceText:
    """The source ``{generator: finance_text, rows: …, seed: …}``."""

    rows: int
    seed: int

    @property
    def name(self) -> str:
        """What messages call the source."""
        return f"finance_text(rows={self.rows}, seed={self.seed})"

    @property
    def schema(self) -> pa.Schema:
        """All columns."""
        return SCHEMA

    def fingerprint(self) -> str:
        """Returns the sha256 of kind, version, rows and seed."""
        return fingerprint("finance_text", VERSION, self.rows, self.seed)

    def batches(self, columns: Sequence[str], batch_rows: int) -> Iterator[pa.RecordBatch]:
        """Yields the documents, each row by row."""
        left, chunk = self.rows, 0
        while left > 0:
            rows = make_chunk(self.seed, chunk)[:left]
            batch = pa.RecordBatch.from_pylist(rows, SCHEMA)
            yield from cut(batch.select(list(columns)), batch_rows)
            left, chunk = left - len(rows), chunk + 1


def make_chunk(seed: int, chunk: int) -> list[dict[str, Any]]:
    """Returns the rows of ``CHUNK_DOCUMENTS`` documents.

    The random stream belongs to the seed and the chunk alone.
    """
    random = random_stream(seed, chunk)
    rows: list[dict[str, Any]] = []
    for number in range(chunk * CHUNK_DOCUMENTS, (chunk + 1) * CHUNK_DOCUMENTS):
        kind = str(random.choice(list(KINDS), p=list(KINDS.values())))
        rows += document_rows(kind, number, _Document(kind, random).tokens())
    return rows


def document_rows(kind: str, number: int, tokens: Sequence[int]) -> Iterator[dict[str, Any]]:
    """Yields the rows of one document, of any number of tokens."""
    whole = [START, *tokens]
    for first in range(0, len(whole) - 1, STEPS - 1):
        part = whole[first : first + STEPS]
        yield {"document": f"{kind} {number}", "kind": kind, "tokens": part}


def text(tokens: Sequence[int]) -> str:
    """Returns generated tokens as words."""
    return " ".join(_word(number) for number in tokens if number > START)


def _word(number: int) -> str:
    if number < START + 1 + len(CLOSED):
        return CLOSED[number - START - 1]
    consonants, vowels = "bdfgklmnprstvz", "aeiou"
    syllables = []
    while number:
        number, letter = divmod(number, len(consonants))
        number, other = divmod(number, len(vowels))
        syllables.append(consonants[letter] + vowels[other])
    return "".join(syllables) + "x"  # as no English word of a frame ends


class _Document:
    """What a document is about, and what is written of it."""

    def __init__(self, kind: str, random: np.random.Generator) -> None:
        self.kind, self.random = kind, random
        self.topic = int(TOPICS * random.random() ** 2)
        self.companies = [self._masked(self._zipf("company")) for _ in range(2)]
        self.people = [self._masked(self._zipf("person")) for _ in range(2)]
        self.account = NUMBERS[ACCOUNTS[int(random.integers(len(ACCOUNTS)))]]
        self.years = [NUMBERS[YEARS[int(index)]] for index in random.integers(len(YEARS), size=2)]
        self.dates = [self._date() for _ in range(2)]
        self.amounts = [self._amount() for _ in range(3)]
        self.fill: dict[str, Callable[[], list[int]]] = {
            "noun": lambda: [self._noun()],
            "adjective": lambda: [self._adjective()],
            "verb": lambda: [self._zipf("verb")],
            "place": lambda: [self._zipf("place")],
            "company": lambda: [self._mostly(self.companies)],
            "person": lambda: [self._mostly(self.people)],
            "account": lambda: [self.account],
            "year": lambda: [self._mostly(self.years)],
            "date": lambda: self._mostly(self.dates),
            "amount": lambda: self._mostly(self.amounts) if self._chance(0.6) else self._amount(),
            "small": lambda: self._pairs(1),
            "number": lambda: self._pairs(int(self.random.integers(2, 5))),
            "law": self._law,
        }
        for name, words in CHOICES.items():
            self.fill[name] = partial(self._choice, [NUMBERS[word] for word in words.split()])

    def tokens(self) -> list[int]:
        """Returns the whole document."""
        frames, (median, deviation) = FRAMES[self.kind], SENTENCES[self.kind]
        count = int(np.clip(median * np.exp(deviation * self.random.standard_normal()), 2, 200))
        found: list[int] = []
        place = 0
        for _ in range(count):
            free = self._chance(FREE[self.kind])
            found += self._sentence() if free else self._filled(frames[place])
            step = int(self.random.integers(1, 4)) if self._chance(0.7) else self._any(len(frames))
            place = (place + step) % len(frames)
        slips = self.random.random(len(found)) < SLIPS
        wrong = self.random.integers(START + 1, VOCABULARY, len(found))
        written: list[int] = np.where(slips, wrong, found).tolist()
        return written

    def _filled(self, frame: str) -> list[int]:
        # The adjective goes with the noun that it stands in front of.
        self.next_noun = self._new_noun()
        tokens: list[int] = []
        for word in frame.split():
            tokens += self.fill[word[1:-1]]() if word[0] == "{" else [NUMBERS[word]]
        return tokens

    def _sentence(self) -> list[int]:
        clauses = (CLAUSES[self._any(len(CLAUSES))] for _ in range(1 + self._any(3)))
        return self._filled(" {conjunction} ".join(clauses) + " .")

    def _choice(self, words: Sequence[int]) -> list[int]:
        return [words[int(len(words) * self.random.random() ** 1.5)]]

    def _law(self) -> list[int]:
        return self._filled(LAW[self._any(len(LAW))])

    def _noun(self) -> int:
        noun, self.next_noun = self.next_noun, self._new_noun()
        return noun

    def _new_noun(self) -> int:
        count = OPEN["noun"]
        if not self._chance(0.75):
            return self._zipf("noun")
        rank = int(60 ** self.random.random())
        return FIRST["noun"] + (self.topic * 37 + rank * rank) % count

    def _adjective(self) -> int:
        rank = int(12 ** self.random.random())
        return FIRST["adjective"] + (self.next_noun * 13 + rank * 7) % OPEN["adjective"]

    def _zipf(self, kind: str) -> int:
        """Returns a made-up word; the n-th with probability about 1 / n."""
        return FIRST[kind] + int(OPEN[kind] ** self.random.random()) - 1

    def _masked(self, word: int) -> int:
        masks = self.kind == "complaint" and self._chance(0.4)
        return NUMBERS[MASK] if masks else word

    def _amount(self) -> list[int]:
        pairs = self._pairs(int(self.random.integers(0, 3)))
        return [*self._digits(1), *pairs, NUMBERS["."], *self._pairs(1)]

    def _date(self) -> list[int]:
        mask, slash = NUMBERS[MASK], NUMBERS["/"]
        if self.kind == "complaint":
            return [mask, slash, mask, slash, self.years[0]]
        day, month = (int(self.random.integers(1, last + 1)) for last in (28, 12))
        return [NUMBERS[PAIRS[day]], slash, NUMBERS[PAIRS[month]], slash, self.years[0]]

    def _digits(self, count: int) -> list[int]:
        return [NUMBERS[str(digit)] for digit in self.random.integers(0, 10, count)]

    def _pairs(self, count: int) -> list[int]:
        return [NUMBERS[PAIRS[int(pair)]] for pair in self.random.integers(0, 100, count)]

    def _mostly(self, options: Sequence[Any]) -> Any:
        return options[0] if self._chance(0.7) else options[self._any(len(options))]

    def _any(self, count: int) -> int:
        return int(self.random.integers(count))

    def _chance(self, share: float) -> bool:
        return bool(self.random.random() < share)
