from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper
from support.graphs import dense, fraud_like, fraud_rows, mlp, model_of

from qtool.errors import ModelError
from qtool.graph.model_file import (
    detached,
    inputs_of,
    model_bytes,
    model_files,
    model_from_bytes,
    model_sha256,
    outputs_of,
    read_model,
    write_model,
)
from qtool.graph.weights_file import ALIGNMENT, LARGE_BYTES, weights_bytes
from qtool.runs import sha256_of
from qtool.runtime.sessions import Session


@pytest.fixture
def large(tmp_path):
    """A model whose weights lie in a file of their own."""
    path = tmp_path / "model.onnx"
    write_model(path, fraud_like(), single_file_bytes=1000)
    return path


def test_a_small_model_is_one_file(tmp_path):
    path = tmp_path / "model.onnx"
    write_model(path, mlp())
    assert list(tmp_path.iterdir()) == [path]
    assert path.read_bytes() == model_bytes(mlp()) == model_bytes(read_model(path))
    assert model_files(path) == (path,)
    assert model_sha256(path) == sha256_of(path)


def test_the_weights_of_a_large_model_lie_beside_it(large):
    data = large.with_name("model.onnx.data")
    assert sorted(large.parent.iterdir()) == [large, data] == list(model_files(large))
    # body.0.weight (14, 32) and body.1.weight (32, 32) are the two above 1 KiB: one page each.
    assert data.stat().st_size == 2 * ALIGNMENT
    onnx.checker.check_model(str(large), full_check=True)
    kept = onnx.load(str(large), load_external_data=False).graph.initializer
    assert all(len(tensor.raw_data) < LARGE_BYTES for tensor in kept)


@pytest.mark.parametrize("single_file_bytes", [0, 1 << 20])
def test_a_large_model_is_read_back(large, single_file_bytes):
    model = read_model(large, single_file_bytes)
    assert model_bytes(model) == model_bytes(fraud_like())
    mapped = isinstance(model.graph.initializers["body.0.weight"].const_value, ir.ExternalTensor)
    assert mapped == (single_file_bytes == 0)


def test_a_model_with_mapped_weights_is_written_again(large, tmp_path):
    (tmp_path / "other").mkdir()
    again = tmp_path / "other" / "model.onnx"
    write_model(again, read_model(large, 0), single_file_bytes=0)
    for file, other in zip(model_files(large), model_files(again), strict=True):
        assert file.read_bytes() == other.read_bytes()


def test_writing_leaves_the_model_alone(tmp_path):
    model = fraud_like()
    before = model_bytes(model)
    write_model(tmp_path / "model.onnx", model, single_file_bytes=0)
    detached(model)
    assert model_bytes(model) == before


def test_the_digest_covers_the_weights(large):
    before = model_sha256(large)
    data = large.with_name("model.onnx.data")
    data.write_bytes(data.read_bytes()[::-1])
    assert model_sha256(large) != before


def test_the_runtime_loads_the_files(large):
    rows = fraud_rows(5)
    expected = Session(model_bytes(fraud_like()), "one file").run(rows)["output"]
    np.testing.assert_array_equal(Session(large, "two files").run(rows)["output"], expected)


@pytest.mark.parametrize("single_file_bytes", [0, 1 << 20])
def test_weights_that_were_cut_off_are_an_error(large, single_file_bytes):
    data = large.with_name("model.onnx.data")
    data.write_bytes(data.read_bytes()[:ALIGNMENT])
    with pytest.raises(ModelError, match="not a valid ONNX model"):
        read_model(large, single_file_bytes)


def test_missing_weights_are_an_error(large):
    large.with_name("model.onnx.data").unlink()
    with pytest.raises(ModelError, match="not a valid ONNX model"):
        read_model(large)


def test_weights_in_another_directory_are_refused(large):
    data = large.with_name("model.onnx.data")
    data.rename(large.parent.parent / "outside.data")
    proto = onnx.load(str(large), load_external_data=False)
    for tensor in proto.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = "../outside.data"
    large.write_bytes(proto.SerializeToString())
    with pytest.raises(ModelError, match="not a valid ONNX model"):
        read_model(large)
    (large.parent.parent / "outside.data").unlink()


def test_what_numpy_has_no_dtype_for_stays_in_the_graph():
    values = np.ones(2048, ir.DataType.BFLOAT16.numpy())
    half = ir.val("h", const_value=ir.tensor(values, name="h"))
    x = ir.val("x", ir.DataType.BFLOAT16, ir.Shape(["batch"]))
    node = ir.node("Concat", [x, half], {"axis": 0})
    node.outputs[0].name = "y"
    node.outputs[0].type = ir.TensorType(ir.DataType.BFLOAT16)
    graph = ir.Graph(
        [x], node.outputs, nodes=[node], initializers=[half], opset_imports={"": 20}, name="g"
    )
    data, weights = detached(ir.Model(graph, ir_version=10))
    assert not weights
    assert model_from_bytes(data).graph.initializers["h"].const_value.nbytes == 4096


def test_weights_of_sub_graphs_count_and_stay_inside(tmp_path):
    w = dense(np.random.default_rng(0), 8, 64)
    branches = {
        name: helper.make_graph(
            [helper.make_node("MatMul", ["x", f"w_{name}"], [f"y_{name}"])],
            name,
            [],
            [helper.make_tensor_value_info(f"y_{name}", TensorProto.FLOAT, ["batch", 64])],
            [numpy_helper.from_array(w, f"w_{name}")],
        )
        for name in ("then_branch", "else_branch")
    }
    nodes = [helper.make_node("If", ["condition"], ["y"], **branches)]
    model = model_of(
        nodes,
        [("x", TensorProto.FLOAT, ["batch", 8]), ("condition", TensorProto.BOOL, [])],
        [("y", TensorProto.FLOAT, ["batch", 64])],
        {},
    )
    assert weights_bytes(model) == 2 * w.nbytes
    path = tmp_path / "model.onnx"
    write_model(path, model, single_file_bytes=0)
    rows = {"x": np.ones((3, 8), np.float32), "condition": np.array(True)}
    for given in (path, read_model(path, 0), model):
        found = Session(given, "the model", single_file_bytes=0).run(rows)["y"]
        np.testing.assert_allclose(found, rows["x"] @ w, rtol=1e-5)


def test_inputs_and_outputs():
    names = [(info.name, info.dtype, info.shape) for info in inputs_of(fraud_like())]
    assert names == [("numeric", "float32", ("batch", 6)), ("codes", "int64", ("batch", 2))]
    assert outputs_of(fraud_like())[0].shape == ("batch",)


@pytest.mark.parametrize(("opset", "accepted"), [(10, False), (11, True), (23, True), (24, False)])
def test_opsets(tmp_path, opset, accepted):
    path = tmp_path / "model.onnx"
    path.write_bytes(model_bytes(mlp(opset=opset)))
    if accepted:
        assert read_model(path).opset_imports[""] == opset
    else:
        with pytest.raises(ModelError, match=f"ai.onnx opset {opset}; expected 11 to 23"):
            read_model(path)


def test_outputs_that_are_maps_are_refused(tmp_path):
    """As converters of tree ensembles write probabilities (ZipMap)."""
    zipped = helper.make_node(
        "ZipMap", ["p"], ["probabilities"], domain="ai.onnx.ml", classlabels_int64s=[0, 1]
    )
    value = helper.make_tensor_type_proto(TensorProto.FLOAT, [])
    maps = helper.make_sequence_type_proto(helper.make_map_type_proto(TensorProto.INT64, value))
    graph = helper.make_graph(
        [zipped],
        "graph",
        [helper.make_tensor_value_info("p", TensorProto.FLOAT, ["rows", 2])],
        [helper.make_value_info("probabilities", maps)],
    )
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("ai.onnx.ml", 3)]
    path = tmp_path / "ensemble.onnx"
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=10), str(path))
    with pytest.raises(ModelError, match=r"ensemble\.onnx"):
        read_model(path)
