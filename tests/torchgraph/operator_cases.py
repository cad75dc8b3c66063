"""One node as a model, and its comparison with ONNX Runtime: for the tests of the operators."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import torch
from onnx import helper, numpy_helper

from qtool.torchgraph.importer import TorchGraph

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
CHANNELS = GENERATOR.standard_normal((2, 6, 5)).astype(np.float32)
PLACES = np.stack([GENERATOR.permutation(6)[:2] for _ in range(5)]) - 3


def ints(*values):
    return np.array(values, np.int64)


@dataclass(frozen=True)
class Case:
    """Graph inputs are fed at run time; constants are initializers; None leaves an input out.

    ``absent`` are the positions of outputs without a name.
    """

    op: str
    inputs: tuple = ()
    constants: tuple = ()
    attributes: dict = field(default_factory=dict)
    opset: int = 20
    outputs: int = 1
    absent: tuple = ()
    constants_first: bool = False
    test: str = ""

    def __str__(self):
        return f"{self.op}{self.test}"


def model_of(case: Case) -> tuple[onnx.ModelProto, dict[str, np.ndarray]]:
    feeds = {f"x{i}": np.asarray(x) for i, x in enumerate(case.inputs) if x is not None}
    constants = {f"c{i}": array for i, array in enumerate(case.constants)}
    fixed = ["" if array is None else name for name, array in constants.items()]
    fed = ["" if array is None else f"x{i}" for i, array in enumerate(case.inputs)]
    names = [*fixed, *fed] if case.constants_first else [*fed, *fixed]
    initializers = [
        numpy_helper.from_array(np.asarray(array), name)
        for name, array in constants.items()
        if array is not None
    ]
    outputs = ["" if i in case.absent else f"y{i}" for i in range(case.outputs)]
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
        [node],
        "graph",
        inputs,
        [onnx.ValueInfoProto(name=name) for name in outputs if name],
        initializers,
    )
    opset = [helper.make_opsetid("", case.opset)]
    return helper.make_model(graph, opset_imports=opset, ir_version=10), feeds


def check(case: Case, tolerance: float = 1e-5) -> None:
    """Compares values, dtypes and shapes of all outputs that have a name."""
    proto, feeds = model_of(case)
    session = onnxruntime.InferenceSession(proto.SerializeToString())
    expected = session.run(None, feeds)
    graph = TorchGraph(ir.from_proto(proto))
    found = graph({name: torch.from_numpy(array.copy()) for name, array in feeds.items()})
    for name, array in zip((o.name for o in session.get_outputs()), expected, strict=True):
        actual = found[name].detach().numpy()
        assert actual.dtype == array.dtype
        assert actual.shape == array.shape
        np.testing.assert_allclose(actual, array, rtol=tolerance, atol=tolerance / 10)
