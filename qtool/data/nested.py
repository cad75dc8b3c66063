"""Encodings of inputs with more than one value per row: sequences and tensors of any rank."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from qtool.config.data import Dtype
from qtool.data.blocks import Block
from qtool.data.lists import Lengths, Numbers, padded, steps, tensor
from qtool.data.signature import Arrays, Tensor
from qtool.data.tabular import NumericEncoding


@dataclass(frozen=True, eq=False)
class Channels:
    """How the numbers of list columns become values of the model's input.

    Attributes:
        dtype: of the values.
        scaling: of the k numbers of the last axis (of each step); None for other dtypes than
            float32.
    """

    dtype: Dtype
    scaling: NumericEncoding | None

    @property
    def allow_missing(self) -> bool:
        """Whether a missing number has a value to stand for it."""
        return self.scaling is not None and self.scaling.fill is not None

    def apply(self, raw: Numbers) -> Numbers:
        """Returns the values for raw numbers of shape (..., k)."""
        return raw if self.scaling is None else self.scaling.apply(raw)


@dataclass(frozen=True, eq=False)
class SequenceEncoding:
    """How list columns become one tensor (rows, length) or (rows, length, k), and its mask.

    Attributes:
        columns: source columns, in order.
        channels: dtype and scaling of the numbers of a step.
        width: numbers per step, k.
        length: steps of every row in the tensor.
        keep: the steps that stay of a longer row.
        pad: value of the steps that a shorter row lacks, after scaling.
        stack: whether there is an axis for the k numbers.
        mask: name of the model input that tells steps from padding.
        mask_dtype: of that input.
    """

    columns: tuple[str, ...]
    channels: Channels
    width: int
    length: int
    keep: Literal["first", "last"]
    pad: float
    stack: bool
    mask: str | None
    mask_dtype: Dtype

    def read(self, block: Block) -> tuple[Lengths, Numbers]:
        """Returns steps of each row, and the values (all steps, k) of all rows, not yet padded.

        Raises:
            DataError: a value that cannot be used.
        """
        channels = self.channels
        lengths, raw = steps(block, self.columns, channels.dtype, channels.allow_missing)
        return lengths, channels.apply(raw)

    def encode(self, name: str, block: Block) -> Arrays:
        """Returns the model input ``name`` and, if there is one, its mask."""
        lengths, values = self.read(block)
        array, real = padded(values, lengths, self.length, self.keep, self.pad)
        arrays: Arrays = {name: array if self.stack else array[:, :, 0]}
        if self.mask is not None:
            arrays[self.mask] = real.astype(self.mask_dtype)
        return arrays

    def raw_inputs(self, name: str, block: Block) -> Arrays:
        """Returns what ``encode`` returns: lists have no form inside a graph."""
        return self.encode(name, block)

    def signature(self, name: str) -> dict[str, Tensor]:
        """Returns dtype and shape of what ``encode`` makes."""
        shape = (self.length, self.width) if self.stack else (self.length,)
        tensors = {name: Tensor(self.channels.dtype, shape)}
        if self.mask is not None:
            tensors[self.mask] = Tensor(self.mask_dtype, (self.length,))
        return tensors

    def lengths(self, name: str, inputs: dict[str, NDArray[Any]]) -> Lengths:
        """Returns the steps of each encoded row, int64 (rows,).

        Without a mask they are the steps up to the last one that is not all padding.
        """
        if self.mask is not None:
            steps_of_rows: Lengths = inputs[self.mask].sum(axis=1, dtype=np.int64)
            return steps_of_rows
        array = inputs[name]
        real = array != np.asarray(self.pad, array.dtype)
        real = real.any(axis=2) if self.stack else real
        return np.where(real.any(axis=1), self.length - real[:, ::-1].argmax(axis=1), 0)


@dataclass(frozen=True, eq=False)
class TensorEncoding:
    """How one column of arrays becomes one tensor (rows, *shape)."""

    columns: tuple[str, ...]
    channels: Channels
    shape: tuple[int, ...]

    def encode(self, name: str, block: Block) -> Arrays:
        """Returns the model input ``name``."""
        channels = self.channels
        raw = tensor(block, self.columns[0], self.shape, channels.dtype, channels.allow_missing)
        return {name: channels.apply(raw)}

    def raw_inputs(self, name: str, block: Block) -> Arrays:
        """Returns what ``encode`` returns: lists have no form inside a graph."""
        return self.encode(name, block)

    def signature(self, name: str) -> dict[str, Tensor]:
        """Returns dtype and shape of what ``encode`` makes."""
        return {name: Tensor(self.channels.dtype, self.shape)}
