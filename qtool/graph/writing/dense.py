"""Writes dense layers.

* static, rank 2: DequantizeLinear on activation, int8 weight and int32 bias in front of Gemm →
  QGemm; its output is requantized only where another static Gemm reads it, else it leaves the
  kernel as float32. Where the runtime would not fuse that (an activation that it fuses into a
  *float* Gemm first, or readers of both kinds): com.microsoft.QGemm itself.
* static, other ranks, and products of two activations: com.microsoft.MatMulIntegerToFloat with a
  float bias (ONNX Runtime 1.31 turns the Q/DQ form with static shapes into a float Gemm).
* dynamic: com.microsoft.DynamicQuantizeMatMul with the bias inside.
* weight_only: com.microsoft.MatMulNBits with accuracy level 4 (integer products; level 0 unpacks
  the weights on every call and is slower than FP32).
* a column-wise input adds its zero points to the int32 bias: Σ_k (c_k - z_k) q_k = Σ_k c_k q_k -
  Σ_k z_k q_k.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from qtool.graph.layers import Layer, value_at
from qtool.graph.writing.editor import MICROSOFT, Editor
from qtool.numerics.affine import QuantParams, QuantSpec

FUSED_ACTIVATIONS = frozenset(
    {
        "Clip",
        "Elu",
        "HardSigmoid",
        "LeakyRelu",
        "Relu",
        "Selu",
        "Sigmoid",
        "Softplus",
        "Softsign",
        "Tanh",
        "ThresholdedRelu",
    }
)
"""What ONNX Runtime 1.31 fuses into a float Gemm, or takes out, before it looks at Q/DQ."""
INTEGER_PRODUCTS = 4
"""MatMulNBits: activations are quantized to int8 block by block."""


def write_dense(editor: Editor) -> None:
    """Replaces every dense layer and product that the plan quantizes in an integer kernel."""
    for layer in editor.treated("dynamic", "dense"):
        _dynamic(editor, layer)
    for layer in editor.treated("weight_only", "dense"):
        _weight_only(editor, layer)
    for layer in editor.treated("static", "dense", "product"):
        if layer.node.op_type == "Gemm":
            _gemm(editor, layer)
        else:
            _product(editor, layer)


def bias_codes(
    bias: NDArray[np.float32],
    scale: NDArray[np.float32],
    offset: NDArray[np.int64] | None = None,
) -> tuple[NDArray[np.int32], QuantParams]:
    """Returns the int32 codes of a bias and its parameters.

    Args:
        bias: float32 (n,).
        scale: activation scale times weight scale, () or (n,).
        offset: int64 (n,), subtracted from the codes.
    """
    # Beyond int64 the cast would turn a large bias into one of the other sign.
    steps = np.clip(np.rint(bias / scale), -(2.0**62), 2.0**62).astype(np.int64)
    if offset is not None:
        steps = steps - offset
    limit = np.iinfo(np.int32)
    spec = QuantSpec("int8", symmetric=True, axis=0 if scale.ndim else None)
    codes = np.clip(steps, limit.min, limit.max).astype(np.int32)
    return codes, QuantParams(spec, scale, np.zeros(scale.shape, np.int32))


def _gemm(editor: Editor, layer: Layer) -> None:
    node, weight_name = layer.node, str(layer.weight().name)
    params, codes = editor.parameters.weights[weight_name], editor.weight_codes(weight_name)
    activation = editor.plan.biases[str(value_at(node, 2).name)][0]
    input_params = editor.parameters.activations[activation]
    folded = editor.plan.weights[weight_name].folds is not None
    input_scale = np.float32(1) if folded else input_params.scale
    bias_name = str(value_at(node, 2).name)
    offset = input_params.zero_point.astype(np.int64) @ codes.astype(np.int64) if folded else None
    scale = np.asarray(input_scale * params.scale, np.float32)
    bias, bias_params = bias_codes(editor.parameters.constants[bias_name], scale, offset)
    if not _is_fused(node):
        inputs = [
            *editor.quantization_of(node.inputs[0]),
            *editor.weight_inputs(weight_name, codes),
            editor.add(f"{bias_name}.codes", bias),
        ]
        editor.replace([node], ir.node("QGemm", inputs, domain=MICROSOFT, name=node.name))
        return
    node.replace_input_with(1, editor.dequantized(node, weight_name, codes, params))
    node.replace_input_with(2, editor.dequantized(node, bias_name, bias, bias_params))


def _product(editor: Editor, layer: Layer) -> None:
    """MatMulIntegerToFloat(a, b, a_scale, b_scale, a_zero_point, b_zero_point, bias)."""
    node = layer.node
    a, a_scale, a_zero = editor.quantization_of(node.inputs[0])
    if layer.weights:
        name = str(layer.weight().name)
        b, b_scale, b_zero = editor.weight_inputs(name, editor.weight_codes(name))
    else:
        b, b_scale, b_zero = editor.quantization_of(node.inputs[1])
    inputs: list[ir.Value | None] = [a, b, a_scale, b_scale, a_zero, b_zero, layer.bias]
    while inputs[-1] is None:
        inputs.pop()
    _replace(editor, layer, ir.node("MatMulIntegerToFloat", inputs, domain=MICROSOFT))


def _dynamic(editor: Editor, layer: Layer) -> None:
    """DynamicQuantizeMatMul(a, b, b_scale, b_zero_point, bias)."""
    name = str(layer.weight().name)
    inputs = [layer.node.inputs[0], *editor.weight_inputs(name, editor.weight_codes(name))]
    if layer.bias is not None:
        inputs.append(layer.bias)
    _replace(editor, layer, ir.node("DynamicQuantizeMatMul", inputs, domain=MICROSOFT))


def _weight_only(editor: Editor, layer: Layer) -> None:
    """MatMulNBits(a, b, scales, zero_points, group index, bias); zero point 2**(bits - 1)."""
    name = str(layer.weight().name)
    params, codes = editor.parameters.weights[name], editor.weight_codes(name)
    spec = params.spec
    assert spec.block is not None
    packed = pack_blocks(codes, spec.bits, spec.block)
    inputs = [
        layer.node.inputs[0],
        editor.add(f"{name}.codes", packed),
        editor.add(f"{name}.scale", np.ascontiguousarray(params.scale.T)),
    ]
    if layer.bias is not None:
        inputs += [None, None, layer.bias]
    attributes = {
        "K": codes.shape[0],
        "N": codes.shape[1],
        "bits": spec.bits,
        "block_size": spec.block,
        "accuracy_level": INTEGER_PRODUCTS,
    }
    _replace(editor, layer, ir.node("MatMulNBits", inputs, attributes, domain=MICROSOFT))


def pack_blocks(codes: NDArray[np.integer], bits: int, block: int) -> NDArray[np.uint8]:
    """Returns the bytes that MatMulNBits reads: (N, blocks, block * bits / 8).

    Args:
        codes: int8 (K, N), symmetric around zero.
        bits: 8 or 4; of two 4-bit codes the first takes the low half of the byte.
        block: rows per scale; the last block is filled up with zeros.
    """
    missing = -len(codes) % block
    filled = np.concatenate([codes, np.zeros((missing, codes.shape[1]), codes.dtype)])
    unsigned = (filled.astype(np.int16) + (1 << (bits - 1))).astype(np.uint8)
    blocks = unsigned.T.reshape(codes.shape[1], -1, block)
    if bits == 8:
        return np.ascontiguousarray(blocks)
    return np.ascontiguousarray(blocks[..., 0::2] | (blocks[..., 1::2] << 4))


def _replace(editor: Editor, layer: Layer, fused: ir.Node) -> None:
    fused.name = layer.node.name
    absorbed = [layer.node] if layer.add is None else [layer.node, layer.add]
    editor.replace(absorbed, fused)


def _is_fused(node: ir.Node) -> bool:
    """Whether the runtime makes a QGemm of the Q/DQ form of the Gemm ``node``."""
    output = node.outputs[0]
    readers = [use.node for use in output.uses()]
    if any(reader.op_type == "QuantizeLinear" for reader in readers):
        return len(readers) == 1 and not output.is_graph_output()
    if len(readers) != 1 or readers[0].op_type not in FUSED_ACTIVATIONS:
        return True
    # Relu → QuantizeLinear is the one case that the runtime requantizes inside the integer GEMM.
    behind = readers[0].outputs[0]
    after = [use.node.op_type for use in behind.uses()]
    relu = readers[0].op_type == "Relu" and not behind.is_graph_output()
    return relu and after == ["QuantizeLinear"]
