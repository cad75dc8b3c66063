"""Shapes and dtypes of all values, through ONNX Runtime's own operators too.

ONNX infers nothing behind a node of another domain, and a layer whose input has no dtype is not
quantized. So com.microsoft operators are inferred as the standard operator that has their shape.
"""

from __future__ import annotations

import onnx
import onnx_ir as ir

from qtool.graph.model_file import detached

MICROSOFT = "com.microsoft"
FIRST = ("Identity", (0,))
STAND_INS: dict[str, tuple[str, tuple[int, ...]]] = {
    "Attention": FIRST,
    "BiasGelu": FIRST,
    "EmbedLayerNormalization": ("Gather", (2, 0)),
    "FastGelu": FIRST,
    "FusedMatMul": ("Einsum", (0, 1)),
    "Gelu": FIRST,
    "MultiHeadAttention": FIRST,
    "QuickGelu": FIRST,
    "SkipLayerNormalization": FIRST,
    "SkipSimplifiedLayerNormalization": FIRST,
}
"""com.microsoft operator → (operator whose output has its first output's shape, of which inputs).

Source: shape inference of ONNX Runtime 1.31, core/graph/contrib_ops.
"""


def forget_shapes(model: ir.Model) -> None:
    """Drops the shapes of inner values, and of constants those that they do not have.

    Exporters, and those who edit a file, leave stale ones behind.
    """
    for value in model.graph.initializers.values():
        if value.const_value is not None:
            value.shape = ir.Shape(value.const_value.shape.numpy())
    outputs = set(model.graph.outputs)
    for node in model.graph:
        for value in node.outputs:
            if value not in outputs:
                value.shape = None


def infer_shapes(model: ir.Model) -> None:
    """Gives every value of ``model`` the type and shape that follow from its operators."""
    understood = model.clone()
    for node in list(understood.graph):
        if node.domain == MICROSOFT and node.op_type in STAND_INS and _has_its_shape(node):
            _stand_in(understood.graph, node)
    graph, _ = detached(understood)  # large weights do not change a shape
    # Not strict: a node that nobody knows leaves its values unknown, and inference goes on.
    inferred = onnx.shape_inference.infer_shapes(onnx.load_from_string(graph), data_prop=True)
    found = ir.convenience.create_value_mapping(ir.from_proto(inferred).graph)
    for name, value in ir.convenience.create_value_mapping(model.graph).items():
        if name in found and found[name].type is not None:
            value.type = found[name].type
            value.shape = found[name].shape


def _has_its_shape(node: ir.Node) -> bool:
    """Whether the stand-in holds: attention may leave another width than it reads."""
    if node.op_type not in ("Attention", "MultiHeadAttention"):
        return True
    other = node.inputs[2] if len(node.inputs) > 2 else None
    first = node.inputs[0]
    if first is None or first.shape is None or other is None or other.shape is None:
        return False
    width = first.shape[-1]
    if node.op_type == "MultiHeadAttention":
        return len(other.shape) == 3 and other.shape[-1] == width
    sizes = "qkv_hidden_sizes" in node.attributes
    return not sizes and isinstance(width, int) and other.shape[-1] == 3 * width


def _stand_in(graph: ir.Graph, node: ir.Node) -> None:
    op_type, indices = STAND_INS[node.op_type]
    output, name = node.outputs[0], node.outputs[0].name
    attributes = {"equation": _equation(node)} if op_type == "Einsum" else {}
    other = ir.node(op_type, [node.inputs[index] for index in indices], attributes)
    other.outputs[0].name = name
    graph.insert_before(node, other)
    ir.convenience.replace_all_uses_with(output, other.outputs[0], replace_graph_outputs=True)
    output.name = f"{name}.before"


def _equation(node: ir.Node) -> str:
    left = "ji" if node.attributes.get_int("transA", 0) else "ij"
    right = "kj" if node.attributes.get_int("transB", 0) else "jk"
    return f"...{left},...{right}->...ik"
