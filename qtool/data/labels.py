"""Labels: what the label columns become for each task, and which types of columns they may have."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.types as pat
from numpy.typing import NDArray

from qtool.config.data import Data
from qtool.config.task import CLASSIFICATION, Task
from qtool.data.blocks import Block
from qtool.data.classes import MAX_CLASSES, class_texts, positions
from qtool.data.columns import category_kind, is_integer, is_number, is_text, refuse_type
from qtool.data.encoding import Encoder
from qtool.data.list_types import list_shape
from qtool.data.source import Source
from qtool.data.tags import Tokens, read_tags, tokens_of_section
from qtool.data.values import (
    Float32,
    bad_value,
    categories,
    numbers,
    refuse_missing,
    text_hashes,
)

TAKES_CLASSES = "task: multiclass_classification takes classes 0, 1, 2, … or text."
TAKES_NUMBERS = "task: regression takes any numbers."


@dataclass(frozen=True)
class Labels:
    """How label columns become one array, whose first axis is the rows.

    ========================== =====================================================================
    binary_classification      int8 (rows,), 0 or 1
    multiclass_classification  int64 (rows,), 0 to C - 1: the numbers of the column, or the position
                               of its text in ``classes``
    regression                 float32 (rows,), or (rows, k) of several columns or lists of k
                               numbers; the values as they are, without any scaling
    representation             int64 (rows,), equal for equal labels: integers as they are, text as
                               the first 8 bytes of its BLAKE2b digest
    sequence_tagging           int32 (rows, steps), one tag per token: 0 to C - 1, as for classes;
                               ``IGNORED`` where a row has no token, or its tag is that
    ========================== =====================================================================

    Attributes:
        task: any but language_model, which has no label.
        columns: one column, or for regression one or more.
        classes: sorted, for multiclass_classification and sequence_tagging of text; None for the
            others, and as long as they are not known.
        tokens: what has the tags, for sequence_tagging; None for the others.
    """

    task: Task
    columns: tuple[str, ...]
    classes: tuple[str, ...] | None
    tokens: Tokens | None = None

    @property
    def are_classes(self) -> bool:
        """Whether rows can be counted by their label."""
        return self.task in CLASSIFICATION

    def read(self, block: Block) -> NDArray[Any]:
        """Returns the labels of a block, as the table above says.

        Raises:
            DataError: a label is missing, infinite, or none that the task has.
        """
        if self.task == "regression":
            return _targets(block, self.columns)
        (column,) = self.columns
        if self.task == "binary_classification":
            return _binary(block, column)
        if self.task == "representation":
            return _identities(block, column)
        if self.tokens is not None:
            return read_tags(block, column, self.tokens, self.classes)
        if self.classes is not None:
            texts = class_texts(block, column)
            return positions(texts, self.classes, block.source, column, block.rows)
        return _class_numbers(block, column)


def labels_of_section(data: Data, task: Task, encoder: Encoder | None = None) -> Labels | None:
    """Returns how the labels of ``data`` are read; None when it names none.

    Args:
        data: the section.
        task: what the labels are.
        encoder: what was fitted on the section; None before that.

    Raises:
        ConfigError: the task needs an input that the section has not.
    """
    if not data.label_columns:
        return None
    tokens = tokens_of_section(data, encoder) if task == "sequence_tagging" else None
    return Labels(task, data.label_columns, None if encoder is None else encoder.classes, tokens)


def has_text_classes(labels: Labels | None, schema: pa.Schema) -> bool:
    """Returns whether the classes are texts, which have to be learned."""
    if labels is None or labels.task not in ("multiclass_classification", "sequence_tagging"):
        return False
    kind = schema.field(labels.columns[0]).type
    return is_text(kind if labels.tokens is None else list_shape(kind)[1])


def check_label_types(source: Source, labels: Labels) -> None:
    """Checks that the columns of the labels have types that the task can use.

    Raises:
        DataError: one has not; the error names a task that fits, where there is one.
    """
    expected = {
        "binary_classification": "numbers or booleans, as the label",
        "multiclass_classification": "integers or text, as the label",
        "regression": "numbers or fixed-size lists of numbers, as the label",
        "representation": "integers or text, as the label",
        "sequence_tagging": "lists of integers or of text, as the label",
    }[labels.task]
    for column in labels.columns:
        kind = source.schema.field(column).type
        fits = {
            "binary_classification": is_number(kind),
            "multiclass_classification": is_number(kind) or is_text(kind),
            "regression": _holds_numbers(kind),
            "representation": category_kind(kind) is not None,
            "sequence_tagging": _holds_tags(kind),
        }[labels.task]
        if not fits:
            other = TAKES_CLASSES if is_text(kind) else TAKES_NUMBERS
            fitting = is_text(kind) or (labels.task != "regression" and _holds_numbers(kind))
            refuse_type(source, column, expected, other if fitting else "")


def _holds_numbers(kind: pa.DataType) -> bool:
    return is_number(kind.value_type if pat.is_fixed_size_list(kind) else kind)


def _holds_tags(kind: pa.DataType) -> bool:
    shape, element = list_shape(kind)
    return len(shape) == 1 and (is_integer(element) or is_text(element))


def _binary(block: Block, column: str) -> NDArray[np.int8]:
    values = numbers(block, column)[:, 0]
    wrong = (values != 0) & (values != 1)
    if wrong.any():
        index = int(wrong.argmax())
        other = TAKES_CLASSES if _is_class(values)[index] else TAKES_NUMBERS
        action = "" if np.isnan(values[index]) else other
        raise bad_value(block, column, index, "0 or 1, as the label", action)
    return values.astype(np.int8)


def _class_numbers(block: Block, column: str) -> NDArray[np.int64]:
    values = numbers(block, column)[:, 0]
    wrong = ~_is_class(values)
    if wrong.any():
        index = int(wrong.argmax())
        expected = f"an integer from 0 to {MAX_CLASSES - 1:,} or text, as the label"
        action = "" if np.isnan(values[index]) else TAKES_NUMBERS
        raise bad_value(block, column, index, expected, action)
    return values.astype(np.int64)


def _is_class(values: Float32) -> NDArray[np.bool_]:
    return np.asarray((values >= 0) & (values < MAX_CLASSES) & (values == np.trunc(values)))


def _targets(block: Block, columns: tuple[str, ...]) -> Float32:
    parts = [numbers(block, column) for column in columns]
    for column, part in zip(columns, parts, strict=True):
        missing = np.isnan(part).any(axis=1)
        if missing.any():
            index = int(missing.argmax())
            raise bad_value(block, column, index, "a number in every place, as the label")
    values = np.concatenate(parts, axis=1)
    return values[:, 0] if values.shape[1] == 1 else values


def _identities(block: Block, column: str) -> NDArray[np.int64]:
    values = categories(block, column)
    refuse_missing(block, column, values, "a label in every row")
    if values.type == pa.string():
        return text_hashes(values).view(np.int64)
    integers: NDArray[np.int64] = values.to_numpy()
    return integers
