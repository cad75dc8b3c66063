from __future__ import annotations

import gc
import threading

import numpy as np
import onnx_ir as ir
import onnxruntime as ort
import pytest
from support.graphs import fraud_like, fraud_rows, mlp

from qtool.errors import ModelError
from qtool.graph.model_file import model_bytes
from qtool.runtime.sessions import Session, to_scores


@pytest.fixture(scope="module")
def session():
    return Session(model_bytes(fraud_like()), "the model")


def test_runs_on_named_arrays(session):
    assert (session.input_names, session.output_names) == (["numeric", "codes"], ["output"])
    found = session.run(fraud_rows(7))
    assert set(found) == {"output"}
    assert (found["output"].shape, found["output"].dtype) == ((7,), np.float32)


def test_arrays_that_the_model_does_not_take_are_left_out(session):
    rows = fraud_rows(3)
    expected = session.run(rows)["output"]
    np.testing.assert_array_equal(session.run({**rows, "label": np.ones(3)})["output"], expected)


def test_a_code_beyond_its_table_names_the_model(session):
    rows = fraud_rows(3)
    rows["codes"][1, 0] = 10
    with pytest.raises(ModelError, match=r"the model: cannot run on this data \(.*out of data bou"):
        session.run(rows)


def test_another_width_is_refused(session):
    rows = {**fraud_rows(3), "numeric": np.zeros((3, 5), np.float32)}
    with pytest.raises(ModelError, match=r"cannot run on this data \(.*numeric"):
        session.run(rows)


@pytest.mark.parametrize("data", [b"", b"not a model", model_bytes(mlp())[:-100]])
def test_what_the_runtime_refuses_is_named(data):
    with pytest.raises(ModelError, match=rf"^small: ONNX Runtime {ort.__version__} cannot load it"):
        Session(data, "small")


def test_a_failure_says_nothing_besides_the_exception(capfd):
    with pytest.raises(ModelError):
        Session(b"not a model", "small")
    assert capfd.readouterr() == ("", "")


def test_a_bound_call_repeats_one_inference(session):
    call = session.bound(fraud_rows(4))
    before = threading.active_count()
    assert call() is None
    assert call() is None
    assert threading.active_count() == before


def test_without_optimization_nodes_stay_and_results_agree():
    model, rows = model_bytes(mlp()), {"x": np.ones((5, 8), np.float32)}
    plain = Session(model, "plain", optimize=False).run(rows)
    fused = Session(model, "fused").run(rows)
    assert plain.keys() == fused.keys()
    for name, array in plain.items():
        np.testing.assert_allclose(fused[name], array, atol=1e-6)


def column(*values):
    return np.array(values, np.float32)


SHAPES = {
    "(rows,)": lambda x: x,
    "(rows, 1)": lambda x: x[:, None],
    "(rows, 2)": lambda x: np.column_stack([np.ones_like(x), x + 1]),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_logits_become_probabilities_of_the_positive_class(shape):
    logits = column(0, np.log(3), -np.log(3), 1000, -1000, np.inf)
    scores = to_scores(SHAPES[shape](logits), "logit", "m")
    assert scores.dtype == np.float32
    np.testing.assert_allclose(scores, [0.5, 0.75, 0.25, 1, 0, 1], atol=1e-6)


@pytest.mark.parametrize("shape", ["(rows,)", "(rows, 1)"])
def test_probabilities_stay(shape):
    given = column(0, 0.25, 1)
    np.testing.assert_array_equal(to_scores(SHAPES[shape](given), "probability", "m"), given)


def test_of_two_probabilities_the_second_counts():
    given = column(0.1, 0.9, 0.7, 0.3).reshape(2, 2)
    np.testing.assert_array_equal(to_scores(given, "probability", "m"), column(0.9, 0.3))


def test_no_rows_give_no_scores():
    assert to_scores(np.zeros((0, 1), np.float32), "probability", "m").shape == (0,)


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_other_floats_are_read(dtype):
    assert to_scores(np.zeros(2, dtype), "logit", "m").tolist() == [0.5, 0.5]


@pytest.mark.parametrize("shape", [(), (2, 3), (2, 0), (2, 1, 1)])
def test_other_shapes_are_refused(shape):
    with pytest.raises(ModelError, match=r"m: output of shape \(.*expected \(rows,\)"):
        to_scores(np.zeros(shape, np.float32), "logit", "m")


@pytest.mark.parametrize("kind", ["logit", "probability"])
@pytest.mark.parametrize(
    "labels", [np.array([0, 1]), np.array([True, False]), np.array(["a", "b"])]
)
def test_labels_are_not_scores(kind, labels):
    """Exported scikit-learn classifiers return the label first, and then the probabilities."""
    with pytest.raises(ModelError, match=f"m: output of dtype {labels.dtype}; expected float"):
        to_scores(labels, kind, "m")


@pytest.mark.parametrize("kind", ["logit", "probability"])
def test_nan_is_refused(kind):
    with pytest.raises(ModelError, match="m: the output contains NaN"):
        to_scores(column(0.5, np.nan), kind, "m")


@pytest.mark.parametrize("value", [-0.01, 1.01, np.inf])
def test_what_is_no_probability_is_refused(value):
    with pytest.raises(ModelError, match=r"probabilities from .* Set model.output: logit"):
        to_scores(column(0.5, value), "probability", "m")


def test_a_model_in_memory_may_be_larger_than_a_message():
    """With a limit of no bytes, the weights of even a small model are handed over as arrays."""
    rows = fraud_rows(5)
    expected = Session(model_bytes(fraud_like()), "serialized").run(rows)["output"]
    sessions = [
        Session(fraud_like(), "in memory", single_file_bytes=limit) for limit in (0, 1 << 20)
    ]
    gc.collect()  # the runtime must not read weights that nobody else holds any more
    for loaded in sessions:
        np.testing.assert_array_equal(loaded.run(rows)["output"], expected)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ModelError, match=r"^small: .* cannot load it \(.*none\.onnx"):
        Session(tmp_path / "none.onnx", "small")


def test_a_transposed_weight_can_be_given_from_memory():
    model = mlp()
    value = model.graph.initializers["w1"]
    transposed = value.const_value.numpy().T.copy().T  # what a folded Transpose leaves
    value.const_value = ir.tensor(transposed, name="w1")
    rows = {"x": np.ones((2, 8), np.float32)}
    from_memory = Session(model, "test", single_file_bytes=0).run(rows)["g2"]
    assert np.array_equal(from_memory, Session(model_bytes(model), "test").run(rows)["g2"])
