"""Tags: labels in lists, one for each token of a row, padded and cut as the tokens are."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from qtool.config.data import Data, SequenceInput
from qtool.config.task import IGNORED
from qtool.data.blocks import Block
from qtool.data.classes import MAX_CLASSES, positions
from qtool.data.encoding import Encoder
from qtool.data.lists import Lengths, bad_step, flattened, padded, steps
from qtool.data.nested import SequenceEncoding
from qtool.data.values import mask_of, place, texts_of
from qtool.errors import ConfigError, DataError

BIO = re.compile(r"O|[BI](-.+)?", re.DOTALL)
"""Outside of every entity, or at the begin of or inside one, of a kind where there are several.

Source: Ramshaw and Marcus 1995, "Text chunking using transformation-based learning".
"""


@dataclass(frozen=True)
class Tokens:
    """The steps that have the tags: those of the first input of kind sequence.

    Attributes:
        column: the first of that input; its lists are as long as those of the tags.
        keep: which steps stay of a longer row.
        length: steps of every row; as long as it is not known, None: those of the longest row that
            is read.
    """

    column: str
    keep: Literal["first", "last"]
    length: int | None


def tokens_of_section(data: Data, encoder: Encoder | None) -> Tokens:
    """Returns the tokens of a data section.

    Args:
        data: the section.
        encoder: what was fitted on it; None before that.

    Raises:
        ConfigError: no input is a sequence.
    """
    for name, part in data.inputs.items():
        if isinstance(part, SequenceInput):
            fitted = part if encoder is None else encoder.inputs[name]
            assert isinstance(fitted, SequenceInput | SequenceEncoding)  # check_encoder
            return Tokens(part.columns[0], part.keep, fitted.length)
    raise ConfigError(
        "data.inputs",
        "no input of kind sequence",
        "one whose steps have the tags of data.label, for the task sequence_tagging",
    )


def read_tags(
    block: Block, column: str, tokens: Tokens, classes: tuple[str, ...] | None
) -> NDArray[np.int32]:
    """Returns the tags of a block, int32 (rows, steps), ``IGNORED`` where a row has no step.

    Args:
        block: with tags and tokens.
        column: of the tags.
        tokens: that have them.
        classes: the texts that become 0, 1, …; None for integers, which are taken as they are;
            ``IGNORED`` is one of them.

    Raises:
        DataError: a row has more or fewer tags than tokens, or a tag is missing or none that the
            task has.
    """
    if classes is None:
        lengths, codes = _integers(block, column, tokens)
    else:
        lengths, texts = tag_texts(block, column, tokens)
        codes = positions(texts, classes, block.source, column, np.repeat(block.rows, lengths))
    length = int(lengths.max(initial=0)) if tokens.length is None else tokens.length
    tags, _ = padded(codes[:, None], lengths, length, tokens.keep, IGNORED)
    return tags[:, :, 0].astype(np.int32)


def tag_texts(block: Block, column: str, tokens: Tokens) -> tuple[Lengths, pa.Array]:
    """Returns the tags of each row, int64 (rows,), and the texts of all rows as strings.

    Raises:
        DataError: a row has more or fewer tags than tokens, or a tag is missing.
    """
    lengths, flat = flattened(block, column)
    _check_lengths(block, column, lengths, tokens)
    texts = texts_of(flat)
    if texts.null_count:
        rows = np.repeat(np.arange(len(lengths)), lengths)
        missing = mask_of(texts.is_null())
        raise bad_step(block, column, rows, missing, texts, "a tag for every token")
    return lengths, texts


def check_bio(source: str, column: str, row: int, text: str) -> None:
    """Checks that a tag says where entities begin.

    Args:
        source: name of the source, for messages.
        column: that holds it.
        row: the first one that does.
        text: the tag.

    Raises:
        DataError: it does not.
    """
    if not BIO.fullmatch(text):
        raise DataError(
            place(source, column, row),
            repr(text),
            "O, B, I, B-KIND or I-KIND, as a tag that is text",
            "Tags of other forms can be integers.",
        )


def _integers(block: Block, column: str, tokens: Tokens) -> tuple[Lengths, NDArray[np.int64]]:
    lengths, values = steps(block, (column,), "int64", allow_missing=False)
    _check_lengths(block, column, lengths, tokens)
    codes: NDArray[np.int64] = values[:, 0]
    wrong = ((codes < 0) | (codes >= MAX_CLASSES)) & (codes != IGNORED)
    if wrong.any():
        rows = np.repeat(np.arange(len(lengths)), lengths)
        expected = f"an integer from 0 to {MAX_CLASSES - 1:,}, or {IGNORED} for no tag"
        raise bad_step(block, column, rows, wrong, flattened(block, column)[1], expected)
    return lengths, codes


def _check_lengths(block: Block, column: str, lengths: Lengths, tokens: Tokens) -> None:
    wanted, _ = flattened(block, tokens.column)
    wrong = lengths != wanted
    if wrong.any():
        index = int(wrong.argmax())
        raise DataError(
            place(block.source, column, int(block.rows[index])),
            f"{lengths[index]} tags",
            f"{wanted[index]}, one for each step of {tokens.column!r}",
        )
