from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto, helper
from support.graphs import mlp, model_of

from qtool.errors import ModelError
from qtool.evaluation.equality import check_equal

FLOAT, INT64 = TensorProto.FLOAT, TensorProto.INT64


def batches(rows: int = 40, size: int = 16):
    x = np.random.default_rng(0).standard_normal((rows, 3)).astype(np.float32)
    x[5] = -x[5]
    return [{"x": x[start : start + size]} for start in range(0, rows, size)]


def two_outputs(factor: float = 1.0, shift: int = 0, root: bool = False):
    """A matrix per row, and the place of its largest value."""
    nodes = [
        helper.make_node("Sqrt" if root else "Identity", ["x"], ["r"]),
        helper.make_node("Mul", ["r", "factor"], ["scaled"]),
        helper.make_node("Unsqueeze", ["scaled", "one"], ["wide"]),
        helper.make_node("ArgMax", ["x"], ["found"], axis=1, keepdims=0),
        helper.make_node("Add", ["found", "shift"], ["best"]),
    ]
    constants = {
        "factor": np.array(factor, np.float32),
        "one": np.array([1]),
        "shift": np.array(shift),
    }
    outputs = [("wide", FLOAT, ["batch", 1, 3]), ("best", INT64, ["batch"])]
    return model_of(nodes, [("x", FLOAT, ["batch", 3])], outputs, constants)


def test_equal_models_pass_whatever_their_outputs_are() -> None:
    check_equal(two_outputs(), two_outputs(1.00005), batches())
    check_equal(two_outputs(root=True), two_outputs(root=True), batches())  # NaN where it was


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        (two_outputs(), two_outputs(1.001), r"output 'wide' changed by up to 0.001 .* on 40 rows"),
        (two_outputs(), two_outputs(shift=1), r"output 'best' changed in 16 of 16 values"),
        (two_outputs(), two_outputs(root=True), r"output 'wide' changed by up to nan"),
        (two_outputs(root=True), two_outputs(), r"output 'wide' changed where it is NaN"),
    ],
)
def test_a_changed_output_is_named(before, after, message) -> None:
    with pytest.raises(ModelError, match=message):
        check_equal(before, after, batches())


def test_a_small_probability_is_judged_by_its_own_size() -> None:
    with pytest.raises(ModelError, match="changed by up to"):
        check_equal(two_outputs(1e-6), two_outputs(2e-6), batches())


def test_what_cancels_to_nothing_is_not_judged_by_its_rounding() -> None:
    check_equal(two_outputs(1e-9), two_outputs(2e-9), batches())


def test_the_data_must_run() -> None:
    with pytest.raises(ModelError, match="cannot run on this data"):
        check_equal(mlp(), mlp(), [{"x": np.zeros((2, 3), np.float32)}])
