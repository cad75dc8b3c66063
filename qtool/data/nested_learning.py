"""Learners of inputs made of lists: shape, dtype and the scaling of the last axis."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from qtool.config.data import Nested, SequenceInput, TensorInput
from qtool.data.blocks import Block
from qtool.data.list_types import dtype_of, is_stacked, step_width, tensor_shape
from qtool.data.lists import Numbers, steps, tensor
from qtool.data.nested import Channels, SequenceEncoding, TensorEncoding
from qtool.data.scaling import log_flags, no_value, nothing, scaled
from qtool.data.source import Source
from qtool.data.statistics import merge, observe


class ChannelLearner:
    """Statistics of the k numbers of the last axis, if they are floats."""

    def __init__(self, part: Nested, widths: tuple[int, ...], source: Source) -> None:
        self.part, self.widths, self.source = part, widths, source
        self.dtype = dtype_of(part, source.schema)
        self.log = log_flags(part, widths)
        self.statistics = nothing(self.log)

    def observe(self, raw: Numbers) -> None:
        """Merges the statistics of numbers (n, k) of training rows."""
        if self.dtype == "float32":
            self.statistics = merge(self.statistics, observe(raw, self.log))

    def finish(self) -> Channels:
        """Returns dtype and scaling.

        Raises:
            DataError: there is no number on the training split.
        """
        if self.dtype != "float32":
            return Channels(self.dtype, None)
        scaling = scaled(self.part, self.widths, self.statistics, self.source.name)
        return Channels(self.dtype, scaling)


class SequenceLearner:
    """Scaling of the numbers of a step, and the longest row."""

    def __init__(self, part: SequenceInput, source: Source) -> None:
        widths = [step_width(source.schema.field(column).type) for column in part.columns]
        self.part, self.source = part, source
        self.channels = ChannelLearner(part, tuple(width or 1 for width in widths), source)
        self.longest = 0

    def observe(self, block: Block, training: NDArray[np.bool_]) -> None:
        """Reads all rows, and merges the statistics of the training rows."""
        columns, allowed = tuple(self.part.columns), self.part.missing != "error"
        lengths, raw = steps(block, columns, self.channels.dtype, allowed)
        self.longest = max(self.longest, int(lengths.max(initial=0)))
        self.channels.observe(raw[np.repeat(training, lengths)])

    def finish(self) -> SequenceEncoding:
        """Returns the encoding.

        Raises:
            DataError: no row has a step.
        """
        part, channels = self.part, self.channels.finish()
        if self.longest == 0:
            raise no_value(self.source.name, part.columns[0])
        width = sum(self.channels.widths)
        return SequenceEncoding(
            columns=tuple(part.columns),
            channels=channels,
            width=width,
            length=part.length or self.longest,
            keep=part.keep,
            pad=part.pad,
            stack=is_stacked(part, self.source.schema),
            mask=part.mask,
            mask_dtype=part.mask_dtype,
        )


class TensorLearner:
    """Scaling of the numbers of the last axis."""

    def __init__(self, part: TensorInput, source: Source) -> None:
        shape = tensor_shape(part, source.schema.field(part.columns[0]).type)
        assert shape is not None  # check_columns refuses the others
        self.part, self.shape = part, shape
        self.channels = ChannelLearner(part, self.shape[-1:] or (1,), source)

    def observe(self, block: Block, training: NDArray[np.bool_]) -> None:
        """Reads all rows, and merges the statistics of the training rows."""
        allowed = self.part.missing != "error"
        raw = tensor(block, self.part.columns[0], self.shape, self.channels.dtype, allowed)
        width = self.channels.widths[0]
        self.channels.observe(raw[training].reshape(-1, width))

    def finish(self) -> TensorEncoding:
        """Returns the encoding.

        Raises:
            DataError: there is no number on the training split.
        """
        return TensorEncoding(tuple(self.part.columns), self.channels.finish(), self.shape)
