"""The encoding of a constant: what every row begins with, whatever its columns hold."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from qtool.config.data import ConstantInput, Dtype
from qtool.data.blocks import Block
from qtool.data.signature import Arrays, Tensor


@dataclass(frozen=True)
class ConstantEncoding:
    """The same tensor for each row: (rows, *shape), all ``value``.

    Attributes:
        dtype: of the tensor.
        shape: of one row; a size may be 0.
        value: of every element.
        columns: none.
    """

    dtype: Dtype
    shape: tuple[int, ...]
    value: float
    columns: ClassVar[tuple[str, ...]] = ()

    def encode(self, name: str, block: Block) -> Arrays:
        """Returns the model input ``name``."""
        return {name: np.full((len(block.rows), *self.shape), self.value, self.dtype)}

    def raw_inputs(self, name: str, block: Block) -> Arrays:
        """Returns what ``encode`` returns: a graph that takes a state takes it as it is."""
        return self.encode(name, block)

    def signature(self, name: str) -> dict[str, Tensor]:
        """Returns dtype and shape of what ``encode`` makes."""
        return {name: Tensor(self.dtype, self.shape)}


class ConstantLearner:
    """Nothing is learned of a constant."""

    def __init__(self, part: ConstantInput) -> None:
        self.part = part

    def observe(self, block: Block, training: NDArray[np.bool_]) -> None:
        """Reads nothing."""

    def finish(self) -> ConstantEncoding:
        """Returns the encoding."""
        return ConstantEncoding(self.part.dtype, self.part.sizes, self.part.value)
