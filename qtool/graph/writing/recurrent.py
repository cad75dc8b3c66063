"""Writes recurrent layers: the runtime's integer LSTM.

com.microsoft.DynamicQuantizeLSTM (ONNX Runtime 1.31) has int8 weights with one scale per direction,
transposed against LSTM: W (directions, inputs, 4 * hidden), R (directions, hidden, 4 * hidden). It
quantizes its input and its hidden state at every step.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from qtool.graph.layers import value_at
from qtool.graph.writing.editor import MICROSOFT, Editor

INPUTS = 8
"""Inputs of LSTM: X, W, R, B, sequence_lens, initial_h, initial_c, P."""


def write_recurrent(editor: Editor) -> None:
    """Replaces every dynamic LSTM."""
    for layer in editor.treated("dynamic", "lstm"):
        node = layer.node
        inputs: list[ir.Value | None] = [*node.inputs, *[None] * (INPUTS - len(node.inputs))]
        for index in (1, 2):
            name = str(value_at(node, index).name)
            codes = np.ascontiguousarray(editor.weight_codes(name).transpose(0, 2, 1))
            inputs[index], *numbers = editor.weight_inputs(name, codes)
            inputs += numbers
        fused = ir.node(
            "DynamicQuantizeLSTM",
            inputs,
            {name: node.attributes[name] for name in node.attributes if name != "layout"},
            num_outputs=len(node.outputs),
            domain=MICROSOFT,
            name=node.name,
        )
        editor.replace([node], fused)
