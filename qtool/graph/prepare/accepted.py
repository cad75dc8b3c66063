"""Refuses models that no FP32 form with the same outputs can be made of."""

from __future__ import annotations

import onnx_ir as ir

from qtool.errors import ModelError

QUANTIZED = frozenset(
    {
        "ConvInteger",
        "DequantizeLinear",
        "DynamicQuantizeLSTM",
        "DynamicQuantizeLinear",
        "DynamicQuantizeMatMul",
        "GatherBlockQuantized",
        "MatMulBnb4",
        "MatMulInteger",
        "MatMulIntegerToFloat",
        "MatMulNBits",
        "QAttention",
        "QEmbedLayerNormalization",
        "QGemm",
        "QMoE",
        "QuantizeLinear",
    }
)
"""Operators of ONNX and of ONNX Runtime 1.31 on codes, besides those that start with QLinear."""


def check_accepted(model: ir.Model) -> None:
    """Checks that ``model``, its sub-graphs and functions are in float and made for inference.

    Raises:
        ModelError: a node works on codes, or normalizes by the statistics of its batch.
    """
    nodes = [*model.graph.all_nodes()]
    for function in model.functions.values():
        nodes.extend(function.all_nodes())
    quantized = sorted({node.op_type for node in nodes if _is_quantized(node)})
    if quantized:
        raise ModelError(
            "the FP32 model",
            f"already quantized: it has {', '.join(quantized)}",
            "a model in float32",
            "Give the model that it was made from.",
        )
    for node in nodes:
        if node.op_type == "BatchNormalization" and node.attributes.get_int("training_mode") == 1:
            raise ModelError(
                f"the FP32 model, node '{node.name}'",
                "a batch normalization in training mode: a row's score would depend on its batch",
                "a model for inference",
                "Export it in eval mode.",
            )


def _is_quantized(node: ir.Node) -> bool:
    return node.op_type in QUANTIZED or node.op_type.startswith("QLinear")
