"""A model's inputs against those that the config makes; every difference is named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper
from support.graphs import model_of

from qtool.commands.inputs import check_inputs, describe_inputs
from qtool.config.data import Data
from qtool.data.encoding import Encoder
from qtool.data.nested import Channels, SequenceEncoding, TensorEncoding
from qtool.data.tabular import CategoricalEncoding, NumericEncoding
from qtool.errors import ModelError

FLOAT, INT64, INT32, BOOL = (
    TensorProto.FLOAT,
    TensorProto.INT64,
    TensorProto.INT32,
    TensorProto.BOOL,
)
NUMBERS = NumericEncoding(
    ("a", "b"), (1, 1), None, np.zeros(2, bool), np.zeros(2, "f4"), np.ones(2, "f4"), None
)
TOKENS = SequenceEncoding(
    ("t",), Channels("int64", None), 1, 6, "first", 0.0, stack=False, mask="m", mask_dtype="bool"
)
ENCODER = Encoder(
    {
        "x": NUMBERS,
        "z": CategoricalEncoding(("c",), ((1, 2, 5),)),
        "s": TOKENS,
        "h": SequenceEncoding(
            ("a", "b"), Channels("float32", NUMBERS), 2, 6, "first", 0.0, True, None, "int64"
        ),
        "i": TensorEncoding(("i",), Channels("int64", None), (4, 4, 3)),
    }
)
DATA = Data.model_validate(
    {
        "source": "unused",
        "inputs": {
            "x": {"columns": ["a", "b"]},
            "z": {"kind": "categorical", "columns": ["c"]},
            "s": {"kind": "sequence", "columns": ["t"], "mask": "m", "mask_dtype": "bool"},
            "h": {"kind": "sequence", "columns": ["a", "b"]},
            "i": {"kind": "tensor", "columns": ["i"]},
        },
    }
)
RIGHT = {
    "x": (FLOAT, ["batch", 2]),
    "z": (INT64, ["batch", 1]),
    "s": (INT64, ["batch", "steps"]),
    "m": (BOOL, ["batch", 6]),
    "h": (FLOAT, ["batch", "steps", 2]),
    "i": (INT64, ["n", 4, "width", 3]),
}


def model_with(inputs):
    nodes = [helper.make_node("Identity", ["x"], ["y"])]
    info = [(name, *rest) for name, rest in inputs.items()]
    return model_of(nodes, info, [("y", *inputs["x"])], {})


def test_inputs_that_fit() -> None:
    check_inputs(model_with(RIGHT), DATA, ENCODER, Path("model.onnx"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"m2": (BOOL, ["batch", 6])}, "'m2', 's', 'x', 'z' in the model; expected .*'m', 's'"),
        ({"x": (FLOAT, ["batch", 3])}, r"'x': shape .* \(batch, 2\), as data.inputs.x .*its order"),
        ({"x": (TensorProto.DOUBLE, ["batch", 2])}, "dtype float64; .*qtool feeds float32, int64"),
        ({"z": (FLOAT, ["batch", 1])}, "'z': dtype float32; expected int64.*Set its kind"),
        ({"z": (INT32, ["batch", 1])}, "'z': dtype int32; expected int64.*Set dtype: int32"),
        ({"s": (INT32, ["batch", 6])}, "'s': dtype int32; .*Set dtype: int32"),
        ({"s": (INT64, ["batch", 7])}, r"\(batch, 6\).*Set length"),
        ({"s": (INT64, ["batch", 6, 1])}, r"\(batch, 6\).*takes 3 axes"),
        ({"m": (FLOAT, ["batch", 6])}, "data.inputs.s.mask makes it. Set mask_dtype: float32"),
        ({"h": (FLOAT, ["batch", 6, 3])}, r"\(batch, 6, 2\).*give the columns"),
        ({"h": (FLOAT, ["batch", 12])}, r"\(batch, 6, 2\).*takes 2 axes"),
        ({"i": (INT64, ["batch", 4, 5, 3])}, r"\(batch, 4, 4, 3\)"),
        ({"i": (INT64, [1, 4, 4, 3])}, "'i': a fixed batch of 1; expected a symbolic batch"),
    ],
)
def test_every_difference_is_named(changes, message) -> None:
    with pytest.raises(ModelError, match=message):
        check_inputs(model_with({**RIGHT, **changes}), DATA, ENCODER, Path("model.onnx"))


def test_what_a_build_function_is_told() -> None:
    described = describe_inputs(ENCODER)
    assert described["z"] == {"shape": [1], "cardinalities": [4]}
    assert described["h"] == {"shape": [6, 2]}
    assert described["m"] == {"shape": [6]}
