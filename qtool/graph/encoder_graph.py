"""Puts the encoder in front of a model, so that serving feeds raw columns and needs no Python.

The arithmetic is that of ``data.encoding`` in the same float32 operations:

    Where(IsNaN(x), fill, x) → Where(log, Sign(x) * Log(Abs(x) + 1), x) → Sub → Mul → Clip
    categorical column → ai.onnx.ml LabelEncoder (0 for missing and unseen) → Unsqueeze → Concat

A step that would do nothing is left out. Sequences and tensors have no raw form in a graph: their
inputs stay as they are and take encoded arrays.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from qtool.data.encoding import Encoder
from qtool.data.tabular import CategoricalEncoding, NumericEncoding, Vocabulary

ML_DOMAIN = "ai.onnx.ml"
ML_OPSET = 2
"""LabelEncoder with keys of one type and int64 values exists since ai.onnx.ml 2."""


def with_encoder(model: ir.Model, encoder: Encoder) -> ir.Model:
    """Returns a copy of ``model`` that takes ``Encoder.raw_inputs`` instead of encoded tensors."""
    copy = model.clone()
    front = _Front(copy)
    for name, part in encoder.inputs.items():
        if isinstance(part, NumericEncoding):
            front.numeric(name, part)
        elif isinstance(part, CategoricalEncoding) and part.vocabularies is not None:
            front.categorical(name, part, part.vocabularies)
    copy.graph.sort()
    return copy


class _Front:
    """The nodes that are being put in front of a graph."""

    def __init__(self, model: ir.Model) -> None:
        self.model, self.graph = model, model.graph
        self.inputs = {str(value.name): value for value in model.graph.inputs}

    def numeric(self, name: str, part: NumericEncoding) -> None:
        encoded = self.inputs[name]
        shape = encoded.shape
        encoded.name = f"{name}.encoded"
        raw = ir.val(name, ir.DataType.FLOAT, shape)
        x = raw
        if part.fill is not None:
            missing = self._node("IsNaN", f"{name}.missing", x)
            x = self._node("Where", f"{name}.filled", missing, part.fill, x)
        if part.log.any():
            x = self._node("Where", f"{name}.log", part.log, self._signed_log(name, x), x)
        if part.offset.any():
            x = self._node("Sub", f"{name}.centred", x, part.offset)
        if (part.multiplier != 1).any():
            x = self._node("Mul", f"{name}.scaled", x, part.multiplier)
        if part.clip is not None:
            limit = np.float32(part.clip)
            x = self._node("Clip", f"{name}.clipped", x, -limit, limit)
        self._replace_input(encoded, x, [raw])

    def categorical(
        self, name: str, part: CategoricalEncoding, vocabularies: tuple[Vocabulary, ...]
    ) -> None:
        encoded = self.inputs[name]
        batch = encoded.shape[0] if encoded.shape is not None else "batch"
        encoded.name = f"{name}.encoded"
        raws, codes = [], []
        for column, vocabulary in zip(part.columns, vocabularies, strict=True):
            text = isinstance(vocabulary[0], str)
            label = f"{name}.{column}"
            raw = ir.val(
                label, ir.DataType.STRING if text else ir.DataType.INT64, ir.Shape([batch])
            )
            attributes = {
                "keys_strings" if text else "keys_int64s": list(vocabulary),
                "values_int64s": list(range(1, len(vocabulary) + 1)),
                "default_int64": 0,
            }
            found = self._node(
                "LabelEncoder", f"{label}.codes", raw, domain=ML_DOMAIN, attributes=attributes
            )
            raws.append(raw)
            codes.append(self._node("Unsqueeze", f"{label}.column", found, np.array([1])))
        joined = self._node("Concat", f"{name}.joined", *codes, attributes={"axis": 1})
        if part.dtype == "int32":
            to = {"to": int(ir.DataType.INT32)}
            joined = self._node("Cast", f"{name}.int32", joined, attributes=to)
        self.model.opset_imports[ML_DOMAIN] = ML_OPSET
        self._replace_input(encoded, joined, raws)

    def _signed_log(self, name: str, x: ir.Value) -> ir.Value:
        sign = self._node("Sign", f"{name}.sign", x)
        size = self._node("Abs", f"{name}.abs", x)
        shifted = self._node("Add", f"{name}.shifted", size, np.float32(1))
        return self._node(
            "Mul", f"{name}.signed_log", sign, self._node("Log", f"{name}.ln", shifted)
        )

    def _node(
        self,
        op_type: str,
        name: str,
        *inputs: ir.Value | NDArray[Any] | np.generic,
        domain: str = "",
        attributes: dict[str, Any] | None = None,
    ) -> ir.Value:
        values = []
        for index, item in enumerate(inputs):
            if isinstance(item, ir.Value):
                values.append(item)
            else:
                label = f"{name}.{index}"
                constant = ir.val(label, const_value=ir.tensor(np.asarray(item), name=label))
                self.graph.register_initializer(constant)
                values.append(constant)
        node = ir.node(op_type, values, attributes or {}, domain=domain, name=name)
        node.outputs[0].name = f"{name}_output"
        self.graph.append(node)
        return node.outputs[0]

    def _replace_input(self, encoded: ir.Value, x: ir.Value, raws: list[ir.Value]) -> None:
        ir.convenience.replace_all_uses_with(encoded, x)
        index = self.graph.inputs.index(encoded)
        self.graph.inputs[index : index + 1] = raws
