"""Writes static convolutions: DequantizeLinear on activation, weight and int32 bias → QLinearConv.

The weight has one scale per output channel; what the convolution leaves is requantized by the
QuantizeLinear that follows it (``writing.activations``).

On AMX a wide convolution gets the weight zero point -1, with codes that are one lower: the same
numbers, but ONNX Runtime 1.31 has a special kernel for weights without zero point that uses VNNI,
and takes the matrix tiles for all others. Measured (1-D, 3 taps, 100 steps, batch 1 / 32): 256
channels 1.8 / 2.0 times faster, 128 channels 1.2 / 1.4, 64 channels 0.83 / 0.94.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from qtool.graph.layers import value_at
from qtool.graph.writing.dense import bias_codes
from qtool.graph.writing.editor import Editor

MATRIX_TILES_FROM = 384
"""Products per output from which im2col and matrix tiles are faster than the special kernel."""


def write_convolutions(editor: Editor) -> None:
    """Gives every static Conv its int8 weight and int32 bias."""
    for layer in editor.treated("static", "conv"):
        node = layer.node
        name = str(value_at(node, 1).name)
        params = editor.parameters.weights[name]
        codes = editor.weight_codes(name)
        if _wants_matrix_tiles(editor.plan.target, node, codes):
            params = replace(params, zero_point=params.zero_point - np.int8(1))
            codes = codes - np.int8(1)  # codes are -127..127, so that this fits
        node.replace_input_with(1, editor.dequantized(node, name, codes, params))
        if len(node.inputs) < 3 or node.inputs[2] is None:
            continue
        bias_name = str(value_at(node, 2).name)
        activation, _ = editor.plan.biases[bias_name]
        scale = editor.parameters.activations[activation].scale * params.scale
        bias, bias_params = bias_codes(
            editor.parameters.constants[bias_name], np.asarray(scale, np.float32)
        )
        node.replace_input_with(2, editor.dequantized(node, bias_name, bias, bias_params))


def _wants_matrix_tiles(target: str, node: ir.Node, codes: NDArray[np.integer]) -> bool:
    wide = codes[0].size >= MATRIX_TILES_FROM
    return target == "x86_amx" and wide and node.attributes.get_int("group", 1) == 1
