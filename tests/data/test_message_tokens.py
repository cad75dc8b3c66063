from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from qtool.data.generators.message_tokens import (
    NGRAMS,
    WORDS,
    hashed,
    ngram_numbers,
    word_numbers,
    words,
)


def test_words_are_letters_and_digits():
    assert words("My card's still NOT here, 2 weeks!") == [
        "my", "card's", "still", "not", "here", "2", "weeks"
    ]  # fmt: skip


def test_ngrams_by_hand():
    ngrams = ["my", "pin", "my pin", "#<my", "#my>", "#<pi", "#pin", "#in>"]
    assert ngram_numbers("My PIN") == [hashed(ngram, NGRAMS) for ngram in ngrams]
    # What occurs again is there already, but for the pair of both.
    again = hashed("pin my", NGRAMS)
    assert sorted(ngram_numbers("my pin my pin")) == sorted([*ngram_numbers("my pin"), again])


@given(st.text(max_size=60))
def test_numbers_are_in_range_and_ngrams_are_there_once(text):
    assert all(0 < number < WORDS for number in word_numbers(text))
    found = ngram_numbers(text)
    assert all(0 < number < NGRAMS for number in found)
    assert len(word_numbers(text)) == len(words(text))
