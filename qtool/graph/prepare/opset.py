"""Converts old operator versions, so that everything else knows one form of each operator.

ONNX's own converter does it: axes of Squeeze become an input, Softmax of opset 12 flattens. It is
given the graph without its large weights, which it does not need and which would not fit into
one protobuf message.
"""

from __future__ import annotations

import onnx
import onnx_ir as ir
from onnx.shape_inference import InferenceError
from onnx.version_converter import ConvertError

from qtool.errors import ModelError
from qtool.graph.model_file import OPSETS, detached, model_from_bytes

ALLOWZERO_SINCE = 14
FLATTENED = frozenset({"Hardmax"})
"""onnx 1.23 converts the Softmax family of opset 12 except for this one, whose axis it keeps."""


def convert_opset(model: ir.Model) -> ir.Model:
    """Returns ``model`` with the opset that qtool works on, unchanged where it has one already.

    Raises:
        ModelError: an operator has no conversion.
    """
    opset = model.opset_imports.get("", 0)
    if opset in OPSETS:
        return model
    where = f"the FP32 model, opset {opset}"
    for node in model.graph.all_nodes():
        if node.op_type in FLATTENED and node.domain == "":
            raise _not_converted(
                where, f"{node.op_type} '{node.name}' has another meaning since 13"
            )
    graph, weights = detached(model)
    try:
        converted = onnx.version_converter.convert_version(
            onnx.load_from_string(graph), OPSETS.start
        )
    except (ConvertError, InferenceError) as error:
        raise _not_converted(where, str(error).strip().splitlines()[0]) from error
    result = model_from_bytes(converted.SerializeToString())
    for name in weights:
        result.graph.initializers[name].const_value = model.graph.initializers[name].const_value
    return result


def drop_newer_attributes(model: ir.Model) -> None:
    """Removes ``allowzero`` from the Reshape nodes of ``model`` where its opset has no such thing.

    onnxscript 0.7 (MaterializeReshapeShape) sets it at every opset; it means nothing for the shapes
    without zeros that the rule writes.
    """
    if model.opset_imports.get("", 0) < ALLOWZERO_SINCE:
        for node in model.graph.all_nodes():
            if node.op_type == "Reshape" and node.domain == "":
                node.attributes.pop("allowzero", None)


def _not_converted(where: str, reason: str) -> ModelError:
    return ModelError(
        where,
        f"cannot be converted to opset {OPSETS.start} ({reason})",
        f"an opset from {OPSETS.start} to {OPSETS.stop - 1}",
        "Export the model again with a newer opset.",
    )
