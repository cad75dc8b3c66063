"""What a model reads of a scanned document: numbers and boxes of its words, in reading order.

Nothing is learned of any document: words, their ends and their shapes are hashed, so that a word
always has the same numbers, and two words may share one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from statistics import median

from qtool.data.generators.message_tokens import hashed

WORDS, ENDS, SHAPES = 8192, 2048, 512
"""Numbers of words, of first and of last three letters, and of shapes; 0 is for padding."""
TOKEN = re.compile(r"\d+(?:[.,/:-]\d+)*|[A-Za-z]+(?:['&.][A-Za-z]+)*|[%$#@]")
"""A number with its separators, such as an amount or a date; a word; a sign that matters."""


@dataclass(frozen=True)
class Line:
    """A line of text as OCR finds it, its box in any unit, y downwards."""

    text: str
    left: float
    top: float
    right: float
    bottom: float

    @property
    def middle(self) -> float:
        """Height of its centre."""
        return (self.top + self.bottom) / 2


@dataclass(frozen=True)
class Word:
    """A word and its box, in shares of the width and the height of all text.

    ``row`` counts the rows of the document; ``line`` and ``at`` are where it was found: position of
    the line among those that were given, and of the first character in it.
    """

    text: str
    left: float
    top: float
    right: float
    bottom: float
    row: int
    line: int
    at: int


def words(lines: Sequence[Line]) -> list[Word]:
    """Returns the words of a document by rows, and in a row from left to right.

    Lines whose centres are less than half of a usual line apart are one row: a key and its value
    are often two boxes. A word's share of the box of its line is its share of the characters.
    """
    left, top = min(line.left for line in lines), min(line.top for line in lines)
    width = max(line.right for line in lines) - left or 1.0
    height = max(line.bottom for line in lines) - top or 1.0
    found = []
    for row, members in enumerate(_rows(lines)):
        for number in sorted(members, key=lambda one: lines[one].left):
            line = lines[number]
            share = (line.right - line.left) / max(1, len(line.text))
            upper, lower = ((edge - top) / height for edge in (line.top, line.bottom))
            for match in TOKEN.finditer(line.text):
                start, end = ((line.left + share * at - left) / width for at in match.span())
                found.append(Word(match[0], start, upper, end, lower, row, number, match.start()))
    return found


def _rows(lines: Sequence[Line]) -> list[list[int]]:
    """Returns the positions of the lines of each row, from above."""
    usual = median(line.bottom - line.top for line in lines)
    rows: list[list[int]] = []
    for number in sorted(range(len(lines)), key=lambda one: lines[one].middle):
        if rows and lines[number].middle - lines[rows[-1][0]].middle < usual / 2:
            rows[-1].append(number)
        else:
            rows.append([number])
    return rows


@lru_cache(200_000)
def numbers(word: str) -> tuple[int, int, int, int]:
    """Returns the numbers of a word: itself, its first and last three characters, and its shape.

    Upper and lower case are one but for the shape, digits are one but for the word itself.

    Source: the prefixes, suffixes and shapes of Collobert et al. 2011, "Natural language processing
    (almost) from scratch", JMLR 12, section 6, hashed as in Weinberger et al. 2009, arXiv
    0902.2206.
    """
    small = re.sub(r"\d", "0", word.lower())
    return (
        hashed(word.lower(), WORDS),
        hashed(f"<{small[:3]}", ENDS),
        hashed(f"{small[-3:]}>", ENDS),
        hashed(shape(word), SHAPES),
    )


def shape(word: str) -> str:
    """Returns ``X`` for capitals, ``x`` for small letters, ``0`` for digits; of four or more, four.

    So ``25/12/2018`` is ``00/00/0000``, ``9.00`` is ``0.00``, and ``JALAN`` is ``XXXX``.
    """
    classes = re.sub(r"\d", "0", re.sub("[a-z]", "x", re.sub("[A-Z]", "X", word)))
    return re.sub(r"(.)\1{3,}", r"\1\1\1\1", classes)


def boxes(found: Sequence[Word]) -> list[tuple[float, ...]]:
    """Returns left, top, right and bottom of each word, and its place in its row from both ends.

    All are from -1 to 1; a place counts words, ten and more are 1.
    """
    per_row: dict[int, int] = {}
    places = []
    for word in found:
        places.append(per_row.get(word.row, 0))
        per_row[word.row] = places[-1] + 1
    return [
        (
            2 * word.left - 1,
            2 * word.top - 1,
            2 * word.right - 1,
            2 * word.bottom - 1,
            min(place, 10) / 10,
            min(per_row[word.row] - 1 - place, 10) / 10,
        )
        for word, place in zip(found, places, strict=True)
    ]


def tags(count: int, spans: Iterable[tuple[int, int, int]]) -> list[int]:
    """Returns the tag of each of ``count`` words, 0 outside of all fields.

    Args:
        count: of the words.
        spans: tag from 1, first word and the one behind the last.
    """
    found = [0] * count
    for tag, start, end in spans:
        found[start:end] = [tag] * (end - start)
    return found
