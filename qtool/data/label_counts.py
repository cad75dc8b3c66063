"""What the pass over the data counts: rows of every split, of every class, and which classes are.

Classes that are text are those of the training split, sorted. A text that only other splits have is
an error, which can be known only at the end of the pass.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray

from qtool.data.blocks import Block
from qtool.data.classes import MAX_CLASSES, class_texts, unknown_class
from qtool.data.labels import Labels
from qtool.data.split import SPLITS, TRAINING, SplitName
from qtool.data.tags import check_bio, tag_texts
from qtool.errors import DataError

Class = int | str


@dataclass(frozen=True)
class SplitCounts:
    """What each split has.

    Attributes:
        rows: rows.
        positives: rows with label 1; empty but for binary classification.
        classes: rows of class 0, 1, …; empty but for multiclass classification.
    """

    rows: dict[SplitName, int]
    positives: dict[SplitName, int]
    classes: dict[SplitName, list[int]] = field(default_factory=dict)


class LabelCounter:
    """Counts block by block; checks every label on the way.

    Args:
        source: name of the source, for messages.
        labels: how they are read; None without labels.
        learns: whether the classes are text and not known yet.
    """

    def __init__(self, source: str, labels: Labels | None, *, learns: bool) -> None:
        self.source, self.labels, self.learns = source, labels, learns
        self.rows: NDArray[np.int64] = np.zeros(len(SPLITS), np.int64)
        self.classes: dict[Class, NDArray[np.int64]] = {}
        self.first_row: dict[Class, int] = {}

    def observe(self, block: Block, codes: NDArray[np.int8]) -> None:
        """Takes a block and the split of each of its rows.

        Raises:
            DataError: a label that cannot be used, or more than ``MAX_CLASSES`` classes.
        """
        self.rows += np.bincount(codes, minlength=len(SPLITS))
        if self.labels is None:
            return
        if not (self.labels.are_classes or self.learns):
            self.labels.read(block)
            return
        names, index, of = self._classes_of(block, self.labels)
        shape = (len(names), len(SPLITS))
        table = np.bincount(index * len(SPLITS) + codes[of], minlength=shape[0] * shape[1])
        first = np.unique(index, return_index=True)[1]
        for name, counts, position in zip(names, table.reshape(shape), first, strict=True):
            self.classes[name] = self.classes.get(name, 0) + counts
            self.first_row.setdefault(name, int(block.rows[of[position]]))
        if len(self.classes) > MAX_CLASSES:
            raise DataError(
                f"{self.source}, column {self.labels.columns[0]!r}",
                f"more than {MAX_CLASSES:,} different values",
                "a column of classes, as the label",
            )

    def _classes_of(
        self, block: Block, labels: Labels
    ) -> tuple[list[Class], NDArray[np.int64], NDArray[np.int64]]:
        """Returns the classes that occur, and of each label its position there and its row."""
        of = np.arange(len(block.rows))
        if not self.learns:
            values, index = np.unique(labels.read(block), return_inverse=True)
            return values.tolist(), index, of
        if labels.tokens is None:
            texts = class_texts(block, labels.columns[0])
        else:
            lengths, texts = tag_texts(block, labels.columns[0], labels.tokens)
            of = np.repeat(of, lengths)
        encoded = pc.dictionary_encode(texts)
        return encoded.dictionary.to_pylist(), encoded.indices.to_numpy().astype(np.int64), of

    def counts(self) -> tuple[SplitCounts, tuple[str, ...] | None]:
        """Returns the counts, and the classes that were learned (None when there were none to).

        Raises:
            DataError: a split has no rows or only one class, a text is in other splits only, or one
                that is a tag has no form that says where entities begin.
        """
        self._check_splits()
        rows = dict(zip(SPLITS, self.rows.tolist(), strict=True))
        if self.labels is None or not self.labels.are_classes:
            return SplitCounts(rows, {}), self._learned() if self.learns else None
        if self.labels.task == "binary_classification":
            positives = dict(zip(SPLITS, self.classes[1].tolist(), strict=True))
            return SplitCounts(rows, positives), None
        learned = self._learned() if self.learns else None
        table = self._table(learned or range(self._known_classes(self.labels)))
        return SplitCounts(rows, {}, dict(zip(SPLITS, table.tolist(), strict=True))), learned

    def _known_classes(self, labels: Labels) -> int:
        if labels.classes is not None:
            return len(labels.classes)
        return 1 + max(int(number) for number in self.classes)

    def _table(self, names: Sequence[Class]) -> NDArray[np.int64]:
        """Returns the rows per split and class."""
        nothing = np.zeros(len(SPLITS), np.int64)
        return np.stack([self.classes.get(name, nothing) for name in names], axis=1)

    def _check_splits(self) -> None:
        classes = self.labels is not None and self.labels.are_classes
        for code, split in enumerate(SPLITS):
            present = [name for name, counts in self.classes.items() if counts[code]]
            if self.rows[code] == 0 or (classes and len(present) < 2):
                raise DataError(
                    f"{self.source}, {split} split",
                    f"only rows with label {present[0]!r}" if present else "no rows",
                    "rows of at least two classes" if classes else "rows",
                    "Use more data, or change data.split.",
                )

    def _learned(self) -> tuple[str, ...]:
        assert self.labels is not None
        column = self.labels.columns[0]
        if self.labels.tokens is not None:
            for name, row in self.first_row.items():
                check_bio(self.source, column, row, str(name))
        classes = sorted(str(name) for name, counts in self.classes.items() if counts[TRAINING])
        unknown = self.classes.keys() - set(classes)
        if unknown:
            row, name = min((self.first_row[name], name) for name in unknown)
            raise unknown_class(self.source, column, row, name, classes)
        return tuple(classes)
