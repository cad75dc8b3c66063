"""The encoder: raw columns to the tensors of a model, in exactly the arithmetic an ONNX graph uses.

The numbers are learned on the training split (``fitting.py``) and saved beside the model or inside
its graph. Each kind of input has its encoding: ``tabular.py`` (numeric, categorical), ``nested.py``
(sequence, tensor), ``constant.py``.
"""

from __future__ import annotations

from dataclasses import dataclass

from qtool.data.blocks import Block
from qtool.data.constant import ConstantEncoding
from qtool.data.nested import SequenceEncoding, TensorEncoding
from qtool.data.signature import Arrays, Tensor
from qtool.data.tabular import CategoricalEncoding, NumericEncoding

Encoding = (
    NumericEncoding | CategoricalEncoding | SequenceEncoding | TensorEncoding | ConstantEncoding
)


@dataclass(frozen=True)
class Encoder:
    """The encoding of every model input, and the meaning of the classes.

    Attributes:
        inputs: by input name.
        classes: the text of class 0, 1, …, which stands in the order of the model's outputs; None
            where the label is no text.
    """

    inputs: dict[str, Encoding]
    classes: tuple[str, ...] | None = None

    def encode(self, block: Block) -> Arrays:
        """Returns the model's inputs, of the dtypes and shapes of ``signature``.

        Raises:
            DataError: a value that the encoding cannot take.
        """
        arrays: Arrays = {}
        for name, part in self.inputs.items():
            arrays |= part.encode(name, block)
        return arrays

    def raw_inputs(self, block: Block) -> Arrays:
        """Returns the inputs of a graph that has this encoder inside.

        Numeric inputs keep their name: float32 (rows, k), NaN where missing. A categorical input
        becomes one array (rows,) per column, named ``input.column``: int64 with -2**63 where
        missing, or objects (str) with "" where missing. Columns that hold codes already stay one
        tensor (rows, columns). Sequences and tensors are encoded outside of the graph, so that they
        are the same here as from ``encode``.

        Raises:
            DataError: a value that the encoding cannot take.
        """
        arrays: Arrays = {}
        for name, part in self.inputs.items():
            arrays |= part.raw_inputs(name, block)
        return arrays

    def signature(self) -> dict[str, Tensor]:
        """Returns dtype and shape of a row of every array that ``encode`` makes, masks too."""
        tensors: dict[str, Tensor] = {}
        for name, part in self.inputs.items():
            tensors |= part.signature(name)
        return tensors
