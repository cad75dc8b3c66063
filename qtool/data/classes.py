"""Classes that are text: read from a column, and found among those that were learned."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from qtool.data.blocks import Block
from qtool.data.values import categories, mask_of, place, refuse_missing
from qtool.errors import DataError

MAX_CLASSES = 65_536
"""A column with more values identifies rows or measures something; float32 holds these exactly."""
SHOWN_CLASSES = 10


def class_texts(block: Block, column: str) -> pa.Array:
    """Returns the classes of a column of text, as strings.

    Raises:
        DataError: one is missing.
    """
    texts = categories(block, column)
    refuse_missing(block, column, texts, "a class in every row, as the label")
    return texts


def positions(
    texts: pa.Array, classes: Sequence[str], source: str, column: str, rows: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Returns the place of every text among the classes, int64 (texts,).

    Args:
        texts: strings without nulls.
        classes: what they can be.
        source: name of the source, for messages.
        column: that holds the texts.
        rows: row number of each text, int64 (texts,).

    Raises:
        DataError: a text is none of the classes.
    """
    found = pc.index_in(texts, value_set=pa.array(classes, pa.string()))
    if found.null_count:
        index = int(mask_of(found.is_null()).argmax())
        raise unknown_class(source, column, int(rows[index]), texts[index].as_py(), classes)
    places: NDArray[np.int32] = found.to_numpy()
    return places.astype(np.int64)


def unknown_class(
    source: str, column: str, row: int, found: object, classes: Sequence[str]
) -> DataError:
    """Returns the error for a text that is none of the classes."""
    shown = ", ".join(repr(name) for name in classes[:SHOWN_CLASSES])
    more = ", …" if len(classes) > SHOWN_CLASSES else ""
    return DataError(
        place(source, column, row),
        repr(found),
        f"one of the {len(classes)} classes of the training split: {shown}{more}",
        "Correct or remove the row, or choose splits that have every class in training.",
    )
