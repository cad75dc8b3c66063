"""Every operator of the dict against ONNX Runtime, in every form that the opsets 13 to 23 know."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
import torch
from onnx import helper, numpy_helper

from qtool.errors import ModelError
from qtool.torchgraph.importer import TorchGraph
from qtool.torchgraph.operators import OPERATORS

GENERATOR = np.random.default_rng(11)
SIGNED = GENERATOR.standard_normal((5, 6)).astype(np.float32) * 2
OTHER = GENERATOR.standard_normal((5, 6)).astype(np.float32)
POSITIVE = np.abs(SIGNED) + 0.1
CUBE = GENERATOR.standard_normal((5, 3, 4)).astype(np.float32)
BOOLS, OTHER_BOOLS = SIGNED > 0, OTHER > 0
WHOLE = GENERATOR.integers(-9, 10, (5, 6))
STRANGE = np.array([[np.nan, np.inf, -np.inf, 0.0, 1.0]] * 3, np.float32)
WEIGHT = GENERATOR.standard_normal((6, 4)).astype(np.float32)
TABLE = GENERATOR.standard_normal((7, 4)).astype(np.float32)
ROW = GENERATOR.standard_normal(6).astype(np.float32)


def ints(*values):
    return np.array(values, np.int64)


@dataclass(frozen=True)
class Case:
    """Graph inputs are fed at run time; constants are initializers; None leaves an input out."""

    op: str
    inputs: tuple = ()
    constants: tuple = ()
    attributes: dict = field(default_factory=dict)
    opset: int = 20
    outputs: int = 1
    constants_first: bool = False
    test: str = ""

    def __str__(self):
        return f"{self.op}{self.test}"


UNARY = (
    "Abs Ceil Cos Erf Exp Floor HardSwish Identity Neg Relu Round Sigmoid Sign Sin Softplus Tanh"
)
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
]


def model_of(case: Case) -> tuple[onnx.ModelProto, dict[str, np.ndarray]]:
    feeds = {f"x{i}": np.asarray(array) for i, array in enumerate(case.inputs)}
    constants = {f"c{i}": array for i, array in enumerate(case.constants)}
    fixed = ["" if array is None else name for name, array in constants.items()]
    names = [*fixed, *feeds] if case.constants_first else [*feeds, *fixed]
    initializers = [
        numpy_helper.from_array(np.asarray(array), name)
        for name, array in constants.items()
        if array is not None
    ]
    outputs = [f"y{i}" for i in range(case.outputs)]
    node = helper.make_node(case.op, names, outputs, name="node", **case.attributes)
    inputs = [
        helper.make_tensor_value_info(
            name,
            helper.np_dtype_to_tensor_dtype(array.dtype),
            [f"{name}_{axis}" for axis in range(array.ndim)],
        )
        for name, array in feeds.items()
    ]
    graph = helper.make_graph(
        [node], "graph", inputs, [onnx.ValueInfoProto(name=name) for name in outputs], initializers
    )
    opset = [helper.make_opsetid("", case.opset)]
    return helper.make_model(graph, opset_imports=opset, ir_version=10), feeds


@pytest.mark.parametrize("case", CASES, ids=str)
def test_equals_onnx_runtime(case):
    proto, feeds = model_of(case)
    session = onnxruntime.InferenceSession(proto.SerializeToString())
    expected = session.run(None, feeds)
    graph = TorchGraph(ir.from_proto(proto))
    found = graph({name: torch.from_numpy(array.copy()) for name, array in feeds.items()})
    for name, array in zip((o.name for o in session.get_outputs()), expected, strict=True):
        actual = found[name].detach().numpy()
        assert actual.dtype == array.dtype
        assert actual.shape == array.shape
        np.testing.assert_allclose(actual, array, rtol=1e-5, atol=1e-6)


def test_every_operator_has_a_case():
    assert set(OPERATORS) == {case.op for case in CASES}


@pytest.mark.parametrize(
    ("op", "domain"), [("Conv", ""), ("Relu", "com.example")], ids=["operator", "domain"]
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
