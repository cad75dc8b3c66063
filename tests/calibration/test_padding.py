from __future__ import annotations

import numpy as np
import pytest
import torch
from onnx import TensorProto, helper
from support.graphs import model_of
from torch import nn

from qtool.calibration.calibrate import observe
from qtool.calibration.padding import ROWS, Factor, axes_of, real_places
from qtool.config.quantization import StaticQuantization
from qtool.errors import DataError
from qtool.graph.planner import make_plan
from qtool.graph.prepare.pipeline import prepare
from qtool.graph.targets import TARGETS
from qtool.progress import SilentProgress
from qtool.torchgraph.export import export_onnx

STEPS, WIDTH = 7, 16
LENGTHS = np.array([7, 3, 1, 5, 2])


class Encoder(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        layer = nn.TransformerEncoderLayer(WIDTH, 2, 32, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 1, enable_nested_tensor=False)
        self.head = nn.Linear(WIDTH, 1)

    def forward(self, x, mask):
        found = self.encoder(x, src_key_padding_mask=mask == 0)
        return self.head(found[:, 0])


def padded(fill):
    x = np.random.default_rng(1).standard_normal((len(LENGTHS), STEPS, WIDTH)).astype(np.float32)
    mask = (np.arange(STEPS) < LENGTHS[:, None]).astype(np.int64)
    return {"x": np.where(mask[..., None], x, np.float32(fill)), "mask": mask}


@pytest.fixture(scope="module")
def model():
    return prepare(export_onnx(Encoder(), padded(0)))


@pytest.fixture(scope="module")
def plan(model):
    return make_plan(model, "sha", StaticQuantization(method="static"), TARGETS["x86_amx"])


def observed(model, plan, rows):
    return observe(model, plan, [rows], 5, SilentProgress(), masks={"x": "mask"})


def test_padding_of_a_torch_encoder_does_not_count(model, plan):
    found = observed(model, plan, padded(0))
    other = observed(model, plan, padded(1000))
    widths = {name: len(seen.channel_peak) for name, seen in found.items()}
    *steps, first = plan.calibrated
    assert len(steps) == 4
    for name in steps:
        assert found[name].histogram.total[0] == LENGTHS.sum() * widths[name]
        np.testing.assert_array_equal(found[name].histogram.high, other[name].histogram.high)
        np.testing.assert_array_equal(found[name].channel_peak, other[name].channel_peak)
    assert found[first].histogram.total[0] == len(LENGTHS) * WIDTH  # the first step of each row


def test_without_a_mask_everything_counts(model, plan):
    found = observe(model, plan, [padded(1000)], 5, SilentProgress())
    name = plan.calibrated[0]
    assert found[name].histogram.high == 1000
    assert found[name].histogram.total[0] == LENGTHS.size * STEPS * WIDTH


class WordsAsRows(nn.Module):
    """The words of all rows are the rows of one matrix before a layer mixes their columns."""

    def __init__(self):
        super().__init__()
        self.norm, self.dense = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, 4)

    def forward(self, x, mask):
        found = self.dense(self.norm(x.reshape(-1, WIDTH))).reshape(-1, STEPS, 4)
        return (found * mask[:, :, None].float()).sum(1)


def test_columns_of_words_as_rows_leave_padding_out():
    model = prepare(export_onnx(WordsAsRows(), padded(0)))
    section = StaticQuantization(method="static", columns="separate")
    plan = make_plan(model, "sha", section, TARGETS["x86_amx"])
    (name,) = [name for name in plan.calibrated if plan.activations[name].axis == 1]
    found = observed(model, plan, padded(0))[name]
    np.testing.assert_array_equal(found.histogram.total, [LENGTHS.sum()] * WIDTH)
    other = observed(model, plan, padded(1000))[name]
    np.testing.assert_array_equal(found.histogram.high, other.histogram.high)


def test_nan_in_padding_is_no_error_but_nan_in_a_step_is(model, plan):
    rows = padded(0)
    rows["x"][1, 0, 3] = np.nan
    with pytest.raises(DataError, match=r"row 1: NaN or infinity"):
        observed(model, plan, rows)


def test_rows_of_padding_only_have_no_values():
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"])]
    weight = np.ones((WIDTH, 16), np.float32)
    inputs = [
        ("x", TensorProto.FLOAT, ["batch", STEPS, WIDTH]),
        ("mask", TensorProto.INT64, ["batch", STEPS]),
    ]
    outputs = [("y", TensorProto.FLOAT, ["batch", STEPS, 16])]
    model = prepare(model_of(nodes, inputs, outputs, {"w": weight}))
    section, target = StaticQuantization(method="static"), TARGETS["x86_amx"]
    plan = make_plan(model, "sha", section, target)
    rows = padded(0)
    rows["mask"][:] = 0
    with pytest.raises(DataError, match=r"no values on any row; expected at least one"):
        observed(model, plan, rows)


ROW, STEP, PLAIN = Factor(3, ROWS), Factor(5, "mask"), Factor


def axes_after(nodes, **shapes):
    """Axes of the output ``y`` of nodes that read ``x`` (3, 5, ...) with its mask."""
    shapes = {**shapes, "mask": (3, 5)}
    produced = {name for node in nodes for name in node.output}
    inputs = [(name, 1, shape) for name, shape in shapes.items() if name not in produced]
    graph = model_of(nodes, inputs, [("y", 1, shapes["y"])], {})
    return axes_of(graph, {"x": "mask"}, shapes).get("y")


@pytest.mark.parametrize(
    ("node", "shapes", "expected"),
    [
        ("Relu", {"y": (3, 5, 8)}, ((ROW,), (STEP,), (PLAIN(8),))),
        ("Transpose", {"y": (5, 3, 8)}, ((STEP,), (ROW,), (PLAIN(8),))),
        ("Add", {"b": (8,), "y": (3, 5, 8)}, ((ROW,), (STEP,), (PLAIN(8),))),
        ("MatMul", {"b": (8, 5), "y": (3, 5, 5)}, ((ROW,), (STEP,), (PLAIN(5),))),
        ("Conv", {"b": (5, 5, 1), "y": (3, 5, 8)}, None),  # reads the steps as channels
        ("Shape", {"y": (3,)}, None),
        ("Hardmax", {"y": (3, 5, 8)}, None),  # not listed
    ],
)
def test_operators(node, shapes, expected):
    inputs = ["x", "b"] if "b" in shapes else ["x"]
    attributes = {"perm": [1, 0, 2]} if node == "Transpose" else {}
    nodes = [helper.make_node(node, inputs, ["y"], **attributes)]
    assert axes_after(nodes, x=(3, 5, 8), **shapes) == expected


def test_convolutions_keep_steps():
    turn = helper.make_node("Transpose", ["x"], ["t"], perm=[0, 2, 1])
    conv = helper.make_node("Conv", ["t", "w"], ["y"], pads=[1, 1])
    axes = axes_after([turn, conv], x=(3, 5, 8), t=(3, 8, 5), w=(6, 8, 3), y=(3, 6, 5))
    assert axes == ((ROW,), (PLAIN(6),), (STEP,))


def test_lstm_has_steps_first():
    turn = helper.make_node("Transpose", ["x"], ["t"], perm=[1, 0, 2])
    lstm = helper.make_node("LSTM", ["t", "w", "r"], ["y"], hidden_size=4)
    axes = axes_after(
        [turn, lstm], x=(3, 5, 8), t=(5, 3, 8), w=(1, 16, 8), r=(1, 16, 4), y=(5, 1, 3, 4)
    )
    assert axes == ((STEP,), (PLAIN(1),), (ROW,), (PLAIN(4),))


@pytest.mark.parametrize(
    ("shape", "output_shape", "expected"),
    [
        ((3, 5, 8), (15, 8), ((ROW, STEP), (PLAIN(8),))),
        ((3, 5, 8), (3, 5, 2, 4), ((ROW,), (STEP,), (PLAIN(2),), (PLAIN(4),))),
        ((3, 5, 8), (3, 40), ((ROW,), (STEP, PLAIN(8)))),
        ((3, 5, 8), (30, 4), ((ROW, STEP, PLAIN(2)), (PLAIN(4),))),
        ((3, 5, 8), (3, 1, 5, 8), ((ROW,), (), (STEP,), (PLAIN(8),))),
        ((3, 5, 8), (5, 24), None),  # cuts the rows
    ],
)
def test_reshapes(shape, output_shape, expected):
    nodes = [helper.make_node("Reshape", ["x", "to"], ["y"])]
    assert axes_after(nodes, x=shape, to=(len(output_shape),), y=output_shape) == expected


def test_scores_of_attention_have_two_axes_of_steps():
    nodes = [
        helper.make_node("Transpose", ["x"], ["k"], perm=[0, 2, 1]),
        helper.make_node("MatMul", ["x", "k"], ["y"]),
    ]
    graph_axes = axes_after(nodes, x=(3, 5, 8), k=(3, 8, 5), y=(3, 5, 5))
    assert graph_axes == ((ROW,), (STEP,), (STEP,))
    mask = np.array([[1, 1, 0, 0, 0], [1, 0, 0, 0, 0], [1, 1, 1, 1, 1]])
    real = real_places(graph_axes, (3, 5, 5), {"mask": mask})
    np.testing.assert_array_equal(real, (mask[:, :, None] * mask[:, None, :]).astype(bool))


@pytest.mark.parametrize("dtype", [np.int64, np.float32, np.bool_])
def test_places_follow_the_mask_of_other_rows(dtype):
    mask = np.array([[1, 1, 0, 0], [1, 0, 0, 0]]).astype(dtype)  # 2 rows of 4 steps now
    folded = ((STEP, ROW), (PLAIN(8),))
    real = real_places(folded, (8, 8), {"mask": mask})
    assert real.tolist() == [[bool(v)] * 8 for v in mask.T.ravel()]


def test_embeddings_have_the_axes_of_their_indices():
    nodes = [helper.make_node("Gather", ["table", "x"], ["y"])]
    axes = axes_after(nodes, x=(3, 5), table=(100, 8), y=(3, 5, 8))
    assert axes == ((ROW,), (STEP,), (PLAIN(8),))
