"""Writes what is only stored as int8.

* A large table that a Gather reads: Gather(int8) → Cast → Mul(scale of each column), so that it
  takes a quarter of the memory.
* Any other table or weight: Cast(int8) → Mul(scale). ONNX Runtime folds both when it loads the
  model; from then on it computes what FP32 computes. (DequantizeLinear is not folded, and runs on
  every call.)
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from qtool.graph.layers import stays_packed, value_at
from qtool.graph.writing.editor import Editor
from qtool.numerics.affine import quantize

FLOAT = int(ir.DataType.FLOAT)


def write_stored(editor: Editor) -> None:
    """Stores every weight of treatment ``storage`` as int8."""
    for layer in editor.treated("storage", "dense", "conv", "lstm", "gru", "table"):
        node = layer.node
        if value_at(node, layer.weights[0]).name not in editor.plan.weights:
            continue  # a table that joins the codes of an input, or one that is written already
        if stays_packed(layer):
            _stored_table(editor, node)
            continue
        for index in layer.weights:
            _stored_weight(editor, node, index)


def _stored_weight(editor: Editor, node: ir.Node, index: int) -> None:
    weight = value_at(node, index)
    name = str(weight.name)
    readers = [(use.node, use.idx) for use in weight.uses()]  # a table may have several
    params = editor.parameters.weights[name]
    codes = editor.weight_codes(name)
    cast = ir.node("Cast", [editor.add(f"{name}.codes", codes)], {"to": FLOAT}, name=f"{name}.cast")
    editor.graph.insert_before(node, cast)
    scale = params.broadcast(params.scale, codes.shape)
    scaled = editor.after(cast.outputs[0], "Mul", f"{name}.scaled", np.asarray(scale))
    scaled.name = f"{name}.real"
    for reader, position in readers:
        planned = editor.planned(reader)
        if planned is not None and planned.treatment == "storage":
            reader.replace_input_with(position, scaled)


def _stored_table(editor: Editor, gather: ir.Node) -> None:
    name = str(value_at(gather, 0).name)
    params = editor.parameters.weights[name]
    output = gather.outputs[0]
    table = editor.graph.initializers.get(f"{name}.codes") or editor.add(
        f"{name}.codes", quantize(editor.parameters.constants[name], params)
    )
    attributes = dict(gather.attributes)
    lookup = ir.node("Gather", [table, gather.inputs[1]], attributes, name=f"{gather.name}.lookup")
    real = ir.node("Cast", [lookup.outputs[0]], {"to": FLOAT}, name=f"{gather.name}.cast")
    editor.graph.insert_after(gather, [lookup, real])
    scaled = editor.after(real.outputs[0], "Mul", f"{gather.name}.scaled", params.scale)
    scaled.type, scaled.shape = output.type, output.shape
    for use in list(output.uses()):
        use.node.replace_input_with(use.idx, scaled)
    # Whoever quantizes the looked-up rows finds them under the name that the plan knows.
    editor.values[str(output.name)] = scaled
