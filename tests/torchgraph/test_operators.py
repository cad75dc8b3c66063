"""Every operator of the dict against ONNX Runtime, in every form that the opsets 13 to 23 know."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from onnx import numpy_helper
from torchgraph.operator_cases import (
    BOOLS,
    CHANNELS,
    CUBE,
    OTHER,
    OTHER_BOOLS,
    PLACES,
    POSITIVE,
    ROW,
    SIGNED,
    STRANGE,
    TABLE,
    WEIGHT,
    WHOLE,
    Case,
    check,
    ints,
    model_of,
)
from torchgraph.test_attention import CASES as ATTENTION_CASES
from torchgraph.test_convolution import CASES as CONVOLUTION_CASES
from torchgraph.test_recurrent import CASES as RECURRENT_CASES

from qtool.errors import ModelError
from qtool.torchgraph.importer import TorchGraph
from qtool.torchgraph.operators import OPERATORS

UNARY = (
    "Abs Ceil Cos Erf Exp Floor HardSwish Identity Neg Relu Round Sigmoid Sign Sin Softplus Tanh"
)
REDUCTIONS = "ReduceProd ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceSumSquare"
BINARY = "Add Sub Mul Div Max Min Sum Equal Greater GreaterOrEqual Less LessOrEqual"
CASES = [
    *(Case(op, (SIGNED,)) for op in UNARY.split()),
    *(Case(op, (POSITIVE,)) for op in ("Log", "Reciprocal", "Sqrt")),
    *(Case(op, (SIGNED, OTHER)) for op in BINARY.split()),
    *(Case(op, (SIGNED,), (ROW,), test=" broadcast") for op in ("Add", "Sub", "Mul", "Div")),
    *(Case(op, (BOOLS, OTHER_BOOLS)) for op in ("And", "Or", "Xor")),
    Case("Not", (BOOLS,)),
    Case("Max", (SIGNED, OTHER, POSITIVE), test=" of three"),
    Case("Div", (WHOLE, np.where(OTHER > 0, 4, -4)), test=" of integers"),
    Case("Equal", (WHOLE, np.abs(WHOLE)), test=" of integers"),
    Case("Where", (BOOLS, SIGNED, OTHER)),
    Case("IsNaN", (STRANGE,)),
    Case("IsInf", (STRANGE,)),
    Case("IsInf", (STRANGE,), attributes={"detect_negative": 0}, test=" positive"),
    Case("IsInf", (STRANGE,), attributes={"detect_positive": 0}, test=" negative"),
    Case("Pow", (POSITIVE, OTHER)),
    Case("Pow", (SIGNED,), (np.float32(2),), test=" constant"),
    Case("Pow", (SIGNED,), (np.int64(3),), test=" integer exponent"),
    Case("PRelu", (SIGNED,), (ROW,)),
    Case("LeakyRelu", (SIGNED,)),
    Case("LeakyRelu", (SIGNED,), attributes={"alpha": 0.2}, test=" alpha"),
    Case("Elu", (SIGNED,)),
    Case("Elu", (SIGNED,), attributes={"alpha": 0.5}, test=" alpha"),
    Case("Selu", (SIGNED,)),
    Case("Selu", (SIGNED,), attributes={"alpha": 1.1, "gamma": 2.0}, test=" alpha"),
    Case("HardSigmoid", (SIGNED,)),
    Case("HardSigmoid", (SIGNED,), attributes={"alpha": 0.3, "beta": 0.1}, test=" alpha"),
    Case("Gelu", (SIGNED,)),
    Case("Gelu", (SIGNED,), attributes={"approximate": "tanh"}, test=" tanh"),
    Case("Clip", (SIGNED,), (np.float32(-1), np.float32(1))),
    Case("Clip", (SIGNED,), (None, np.float32(1)), test=" above"),
    Case("Clip", (SIGNED,), test=" nothing"),
    Case("Clip", (SIGNED, np.float32(-1), np.float32(0.5)), test=" computed"),
    Case("Cast", (SIGNED,), attributes={"to": 7}),
    Case("Cast", (WHOLE,), attributes={"to": 1}, test=" to float"),
    Case("Cast", (WHOLE,), attributes={"to": 9}, test=" to bool"),
    Case("Softmax", (SIGNED,)),
    Case("Softmax", (CUBE,), attributes={"axis": 1}, test=" axis"),
    Case("LogSoftmax", (SIGNED,)),
    Case("Gemm", (SIGNED,), (WEIGHT, ROW[:4])),
    Case("Gemm", (SIGNED,), (WEIGHT.T.copy(), ROW[:4]), {"transB": 1, "alpha": 0.5, "beta": 2.0}),
    Case("Gemm", (SIGNED.T.copy(),), (WEIGHT,), {"transA": 1, "alpha": 3.0}, test=" no bias"),
    Case("MatMul", (SIGNED,), (WEIGHT,)),
    Case("MatMul", (CUBE, CUBE.transpose(0, 2, 1).copy()), test=" batched"),
    Case("LayerNormalization", (SIGNED,), (ROW, ROW)),
    Case("LayerNormalization", (CUBE,), (CUBE[0],), {"axis": 1, "epsilon": 1e-2}, test=" axis"),
    Case("BatchNormalization", (SIGNED,), (ROW, ROW, ROW, ROW**2 + 0.1), {"epsilon": 1e-3}),
    Case("Dropout", (SIGNED,)),
    *(
        Case(op, (CUBE,), (ints(1),), {"keepdims": keep}, test=f" keepdims {keep}")
        for op in ("ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin")
        for keep in (0, 1)
    ),
    Case("ReduceMean", (CUBE,), (), {"axes": [1, 2]}, opset=17, test=" axes attribute"),
    Case("ReduceMax", (CUBE,), (), {"axes": [-1]}, opset=13, test=" axes attribute"),
    Case("ReduceSum", (CUBE,), test=" of all"),
    Case("ReduceSum", (CUBE,), (), {"noop_with_empty_axes": 1}, test=" of nothing"),
    Case("Gather", (ints(0, 6, -1, 2, 2),), (TABLE,), constants_first=True, test=" table"),
    Case("Gather", (SIGNED,), (np.int64(-2),), {"axis": 1}, test=" column"),
    Case("Gather", (SIGNED,), (ints(3, -1),), {"axis": 1}, test=" columns"),
    Case("Gather", (SIGNED, WHOLE[:, :2] % 5), test=" rows"),
    Case("Concat", (SIGNED, OTHER), attributes={"axis": 1}),
    Case("Concat", (CUBE, CUBE), attributes={"axis": -1}, test=" last"),
    Case("Split", (SIGNED,), (ints(1, 2, 3),), {"axis": 1}, outputs=3),
    Case("Split", (SIGNED,), (), {"axis": -1}, opset=13, outputs=2, test=" equal"),
    Case("Split", (SIGNED,), (), {"num_outputs": 3}, outputs=3, test=" uneven"),
    Case("Slice", (SIGNED,), (ints(1), ints(-1), ints(1))),
    Case("Slice", (SIGNED,), (ints(1, 0), ints(99, 4)), test=" all axes"),
    Case("Slice", (SIGNED,), (ints(-1), ints(-99), ints(-1), ints(-2)), test=" backwards"),
    Case("Slice", (CUBE,), (ints(0), ints(4), ints(2), ints(2)), test=" stride"),
    Case("Reshape", (CUBE,), (ints(0, -1),)),
    Case("Reshape", (CUBE, ints(3, 20)), test=" computed"),
    Case("Reshape", (CUBE[:, :0],), (ints(5, 0, 2),), {"allowzero": 1}, test=" allowzero"),
    Case("Flatten", (CUBE,)),
    Case("Flatten", (CUBE,), attributes={"axis": 0}, test=" axis 0"),
    Case("Flatten", (CUBE,), attributes={"axis": -1}, test=" axis -1"),
    Case("Squeeze", (CUBE[:, :1],), (ints(1),)),
    Case("Squeeze", (CUBE[:, :1, :1],), test=" all"),
    Case("Unsqueeze", (SIGNED,), (ints(0, -1),)),
    Case("Transpose", (CUBE,)),
    Case("Transpose", (CUBE,), attributes={"perm": [1, 0, 2]}, test=" perm"),
    Case("Expand", (SIGNED[:1],), (ints(5, 1),)),
    Case("Expand", (SIGNED,), (ints(2, 1, 6),), test=" rank"),
    Case("Shape", (CUBE,)),
    Case("Shape", (CUBE,), attributes={"start": 1, "end": -1}, test=" part"),
    Case("ConstantOfShape", (ints(2, 3),)),
    Case(
        "ConstantOfShape",
        (ints(2, 3),),
        attributes={"value": numpy_helper.from_array(np.array([7], np.int64))},
        test=" value",
    ),
    Case("Tile", (SIGNED, ints(2, 1))),
    *(Case(op, (SIGNED,)) for op in ("Atan", "Asinh", "Cosh", "Sinh", "Mish", "Softsign")),
    *(Case(op, (np.tanh(SIGNED) * 0.9,)) for op in ("Acos", "Asin", "Atanh", "Tan")),
    Case("Acosh", (POSITIVE + 1,)),
    *(Case(op, (SIGNED,), attributes={"alpha": 0.7}) for op in ("Celu", "ThresholdedRelu")),
    Case("Shrink", (SIGNED,), attributes={"lambd": 0.7, "bias": 0.2}),
    Case("CastLike", (SIGNED, WHOLE)),
    Case("Mean", (SIGNED, OTHER, POSITIVE)),
    Case("Mod", (WHOLE, np.where(OTHER > 0, 4, -4)), test=" of integers"),
    Case("Mod", (SIGNED, OTHER), attributes={"fmod": 1}, test=" fmod"),
    Case("Hardmax", (CUBE,), attributes={"axis": 1}),
    Case("Einsum", (CUBE, CUBE), attributes={"equation": "b i k, b j k -> b i j"}),
    Case("LpNormalization", (SIGNED,), attributes={"p": 1}),
    Case("LpNormalization", (CUBE,), attributes={"axis": 1}, test=" l2"),
    Case("InstanceNormalization", (CUBE,), (ROW[:3], ROW[1:4]), {"epsilon": 1e-3}),
    Case("GroupNormalization", (CHANNELS,), (ROW, ROW), {"num_groups": 3}, opset=21),
    Case("GroupNormalization", (CHANNELS,), (ROW[:3], ROW[:3]), {"num_groups": 3}, opset=18),
    Case("RMSNormalization", (CUBE,), (ROW[:4],), {"epsilon": 1e-3}, opset=23),
    Case("RMSNormalization", (CUBE,), (CUBE[0],), {"axis": 1}, opset=23, test=" axis"),
    *(
        Case(op, (POSITIVE.reshape(5, 3, 2),), (ints(0, 2),), {"keepdims": keep}, opset=18)
        for op in REDUCTIONS.split()
        for keep in (0, 1)
    ),
    *(Case(op, (CUBE,), attributes={"axis": 1}) for op in ("ArgMax", "ArgMin")),
    Case("ArgMax", (WHOLE,), attributes={"axis": 1, "keepdims": 0}, test=" first"),
    Case("ArgMax", (WHOLE % 3,), attributes={"axis": 1, "select_last_index": 1}, test=" last"),
    Case("TopK", (WHOLE % 3,), (ints(4),), outputs=2, test=" ties"),
    Case("TopK", (CUBE,), (ints(2),), {"axis": 1, "largest": 0}, outputs=2),
    Case("CumSum", (SIGNED,), (np.int64(1),)),
    Case("CumSum", (SIGNED,), (np.int64(0),), {"exclusive": 1, "reverse": 1}, test=" reverse"),
    Case("Trilu", (CUBE,)),
    Case("Trilu", (CUBE,), (np.int64(-1),), {"upper": 0}, test=" lower"),
    Case("Range", (np.int64(7), np.int64(-2), np.int64(-2))),
    Case("Range", (np.float32(0.5), np.float32(3), np.float32(0.5)), test=" of floats"),
    Case("GatherElements", (SIGNED, WHOLE % 6 - 2), attributes={"axis": 1}),
    Case("GatherND", (CUBE, ints(4, 2, -1, 0).reshape(2, 2))),
    Case("GatherND", (CUBE, ints(0, 1, 2, -1, 1).reshape(5, 1)), attributes={"batch_dims": 1}),
    *(
        Case("ScatterElements", (SIGNED, PLACES, OTHER[:, :2]), attributes={"axis": 1, **how})
        for how in ({}, {"reduction": "add"}, {"reduction": "mul"}, {"reduction": "max"})
    ),
    *(
        Case("ScatterND", (CUBE, ints(4, 2, -1, 0).reshape(2, 2), CUBE[:2, 0]), attributes=how)
        for how in ({}, {"reduction": "add"}, {"reduction": "min"})
    ),
    Case("OneHot", (WHOLE % 4 - 2,), (np.int64(4), np.array([-1, 2], np.float32)), {"axis": 1}),
    Case("NonZero", (np.maximum(SIGNED, 0),)),
    Case("EyeLike", (SIGNED,), attributes={"k": 1, "dtype": 7}),
    Case("EyeLike", (SIGNED,), test=" dtype"),
    Case("Size", (CUBE,)),
    Case("Pad", (CUBE,), (ints(0, 2, 0, 1, 0, -1), np.float32(3))),
    Case("Pad", (CUBE,), (ints(2, 1), None, ints(-1)), test=" axes"),
    *(
        Case("Pad", (CUBE,), (ints(0, 1, 2, 0, 1, 3),), {"mode": mode})
        for mode in ("reflect", "edge", "wrap")
    ),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_equals_onnx_runtime(case):
    check(case)


def test_every_operator_has_a_case():
    elsewhere = {case.op for case in (*CONVOLUTION_CASES, *RECURRENT_CASES, *ATTENTION_CASES)}
    assert set(OPERATORS) == {case.op for case in CASES} | elsewhere


@pytest.mark.parametrize(
    ("op", "domain"), [("Resize", ""), ("Relu", "com.example")], ids=["operator", "domain"]
)
def test_an_unknown_operator_is_named(op, domain):
    node = ir.node(op, [ir.val("x")], name="layer.3", domain=domain)
    node.outputs[0].name = "y"
    graph = ir.Graph(node.inputs, node.outputs, nodes=[node], opset_imports={"": 20})
    with pytest.raises(ModelError, match=rf"'layer.3' \({domain or 'ai.onnx'}::{op}\)"):
        TorchGraph(ir.Model(graph, ir_version=10))


def test_a_second_output_in_use_is_refused():
    proto, _ = model_of(Case("Dropout", (SIGNED,), outputs=2))
    with pytest.raises(ModelError, match="second output"):
        TorchGraph(ir.from_proto(proto))


def test_an_old_opset_is_refused():
    proto, _ = model_of(Case("Relu", (SIGNED,), opset=12))
    with pytest.raises(ModelError, match="opset 12"):
        TorchGraph(ir.from_proto(proto))
