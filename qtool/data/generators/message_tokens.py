"""What a model reads of a message: its words and n-grams, as hashed numbers.

Nothing is learned of any row: a word always has the same number, and two words may share one.
"""

from __future__ import annotations

import re
import zlib
from functools import lru_cache
from itertools import pairwise

WORDS, NGRAMS = 8192, 16384
"""Numbers of words and of n-grams; 0 is for padding."""


def words(text: str) -> list[str]:
    """Returns the words and the runs of digits of a text, in lower case."""
    return re.findall(r"[a-z']+|\d+", text.lower())


def word_numbers(text: str) -> list[int]:
    """Returns the number of each word, 1 to ``WORDS - 1``, in the order of the text."""
    return [hashed(word, WORDS) for word in words(text)]


def ngram_numbers(text: str) -> list[int]:
    """Returns the numbers of a text's n-grams, 1 to ``NGRAMS - 1``, each n-gram once.

    N-grams are the words, pairs of neighbours, and the trigrams of letters of each word with ``<``
    and ``>`` at its ends.

    Source: Joulin et al. 2017, arXiv 1607.01759, section 2.2 (hashed pairs of words); Bojanowski et
    al. 2017, arXiv 1607.04606, section 3.2 (trigrams of letters).
    """
    found = words(text)
    pairs = [f"{first} {second}" for first, second in pairwise(found)]
    letters = [part for word in found for part in _trigrams(word)]
    return [hashed(ngram, NGRAMS) for ngram in dict.fromkeys([*found, *pairs, *letters])]


@lru_cache(100_000)
def _trigrams(word: str) -> tuple[str, ...]:
    whole = f"<{word}>"
    return tuple(f"#{whole[at : at + 3]}" for at in range(len(word)))


@lru_cache(200_000)
def hashed(text: str, numbers: int) -> int:
    """Returns a number from 1 to ``numbers - 1``, the CRC-32 of the text folded."""
    return 1 + zlib.crc32(text.encode()) % (numbers - 1)
