from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from sklearn.preprocessing import MinMaxScaler, StandardScaler

from qtool.config.task import Task
from qtool.data.blocks import read_blocks
from qtool.data.encoder_file import encoder_to_json
from qtool.data.fitting import fit
from qtool.data.split import TRAINING, assign
from qtool.data.tabular import CategoricalEncoding, NumericEncoding
from qtool.errors import DataError, StaleArtifactError
from qtool.progress import SilentProgress

SILENT = SilentProgress()


def columns_of(table: pa.Table) -> dict[str, object]:
    return {name: table[name].combine_chunks() for name in table.column_names}


def test_learned_by_hand(make_source, make_data) -> None:
    times = list(range(10))
    source = make_source(
        {
            "a": [1.0, 3.0, None, 5.0, 99.0, 99.0, 99.0, 99.0, 99.0, 99.0],
            "b": [7.0] * 10,
            "word": ["b", "a", None, "b", "a", "c", "c", "c", "c", "c"],
            "t": times,
            "y": [0, 1, 0, 1, 0, 1, 0, 1, 0, 1],
        }
    )
    data = make_data(
        {
            "x": {"columns": ["a", "b"], "scale": "standard", "missing": "mean"},
            "z": {"kind": "categorical", "columns": ["word"]},
        },
        split={"by": "time", "column": "t", "calibration": 0.2, "evaluation": 0.4},
    )
    fitted = fit(source, data, SILENT)
    x, z = fitted.encoder.inputs["x"], fitted.encoder.inputs["z"]
    assert isinstance(x, NumericEncoding)
    assert isinstance(z, CategoricalEncoding)
    # Training rows 0 to 3: mean 3 fills the gap; variance (4 + 0 + 0 + 4) / 4 = 2.
    assert x.fill is not None
    assert x.fill.tolist() == [3, 7]
    assert x.offset.tolist() == [3, 7]
    np.testing.assert_allclose(x.multiplier, [1 / np.sqrt(2), 1], rtol=1e-7)
    assert z.vocabularies == (("a", "b"),)
    assert fitted.counts.rows == {"training": 4, "calibration": 2, "evaluation": 4}
    assert fitted.counts.positives == {"training": 2, "calibration": 1, "evaluation": 2}


@pytest.mark.parametrize(
    ("scale", "scaler"), [("standard", StandardScaler()), ("min_max", MinMaxScaler())]
)
def test_scaling_equals_scikit_learn(credit, make_source, make_data, scale, scaler) -> None:
    source = make_source(columns_of(credit), (700, 13))
    fitted = fit(source, make_data({"x": {"columns": ["balance"], "scale": scale}}), SILENT)
    (block,) = read_blocks(source, ["balance"], 10_000)
    training = block.where(assign(block, fitted.split) == TRAINING)
    values = training.columns["balance"].to_numpy().reshape(-1, 1)
    encoded = fitted.encoder.encode(training)["x"]
    np.testing.assert_allclose(encoded, scaler.fit_transform(values), rtol=2e-5, atol=2e-6)


def test_result_does_not_depend_on_how_rows_arrive(
    credit, credit_inputs, make_source, make_data
) -> None:
    texts = set()
    for sizes, batch_rows in [((2_000,), 8192), ((3, 1, 7), 64), ((999,), 1)]:
        data = make_data(credit_inputs, batch_rows=batch_rows)
        fitted = fit(make_source(columns_of(credit), sizes), data, SILENT)
        texts.add(encoder_to_json(fitted.encoder) + repr(fitted.counts))
    assert len(texts) == 1


def test_only_training_rows_teach(credit, make_source, make_data) -> None:
    data = make_data(
        {"x": {"columns": ["balance"], "scale": "min_max"}}, split={"by": "time", "column": "time"}
    )
    columns = columns_of(credit)
    before = fit(make_source(columns), data, SILENT)
    balance = columns["balance"].to_numpy().copy()
    balance[1200:] = 1e9
    after = fit(make_source({**columns, "balance": balance}), data, SILENT)
    assert encoder_to_json(before.encoder) == encoder_to_json(after.encoder)


def test_float32_extremes_keep_the_encoder_finite(make_source, make_data) -> None:
    columns = {
        "tiny": [1e-42, 2e-42] * 50,
        "huge": [-3e38, 3e38] * 50,
        "y": [0, 0, 1, 1] * 25,
    }
    for scale in ("standard", "min_max"):
        inputs = {"x": {"columns": ["tiny", "huge"], "scale": scale}}
        part = fit(make_source(columns), make_data(inputs), SILENT).encoder.inputs["x"]
        assert isinstance(part, NumericEncoding)
        assert np.isfinite(part.multiplier).all()
        assert (part.multiplier > 0).all()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"y": [False] * 2000}, r"training split: only rows with label 0; expected rows of at"),
        ({"y": [True] * 2000}, r"training split: only rows with label 1"),
        ({"y": [0] * 1999 + [3]}, r"column 'y', row 1999 .*: 3; expected 0 or 1"),
        ({"income": pa.nulls(2000, pa.float64())}, "column 'income': no value on the training"),
        ({"country": pa.nulls(2000, pa.string())}, "column 'country': no value on the training"),
        ({"balance": [0.0] * 1998 + [None, 1.0]}, None),
        ({"balance": [0.0] * 1998 + [float("inf"), 1.0]}, r"column 'balance', row 1998 .*: inf"),
    ],
)
def test_data_that_cannot_be_used(credit, credit_inputs, make_source, make_data, changes, message):
    source = make_source({**columns_of(credit), **changes})
    if message is None:
        fit(source, make_data(credit_inputs), SILENT)
        return
    with pytest.raises(DataError, match=message):
        fit(source, make_data(credit_inputs), SILENT)


def test_missing_value_outside_training_is_found_too(credit, make_source, make_data) -> None:
    balance = [0.0] * 1999 + [None]
    source = make_source({**columns_of(credit), "balance": balance})
    data = make_data({"x": {"columns": ["balance"]}}, split={"by": "time", "column": "time"})
    with pytest.raises(DataError, match=r"column 'balance', row 1999"):
        fit(source, data, SILENT)


def test_empty_split(make_source, make_data) -> None:
    source = make_source({"a": [1.0] * 6, "t": [5] * 6, "y": [0, 1] * 3})
    data = make_data({"x": {"columns": ["a"]}}, split={"by": "time", "column": "t"})
    with pytest.raises(DataError, match="training split: no rows"):
        fit(source, data, SILENT)


def test_too_many_categories(credit, make_source, make_data, monkeypatch) -> None:
    monkeypatch.setattr("qtool.data.learning.MAX_VOCABULARY", 100)
    data = make_data({"z": {"kind": "categorical", "columns": ["key"]}})
    with pytest.raises(DataError, match="column 'key': more than 100 different values"):
        fit(make_source(columns_of(credit)), data, SILENT)


def table_of(labels: object, parts: tuple[int, int, int] = (4, 3, 3)) -> dict[str, object]:
    """Ten rows with a label: four train, three calibrate, three evaluate."""
    times = [part for part, rows in enumerate(parts) for _ in range(rows)]
    return {"a": [float(n) for n in range(10)], "t": times, "y": labels}


BY_TIME = {"by": "time", "column": "t", "calibration": 0.3, "evaluation": 0.3}
ONE_INPUT = {"x": {"columns": ["a"]}}


def test_classes_are_the_sorted_texts_of_training(make_source, make_data) -> None:
    source = make_source(table_of(["b", "c", "a", "b", "c", "a", "c", "a", "b", "a"]))
    data = make_data(ONE_INPUT, split=BY_TIME)
    fitted = fit(source, data, SILENT, "multiclass_classification")
    assert fitted.encoder.classes == ("a", "b", "c")
    assert fitted.counts.positives == {}
    assert fitted.counts.classes == {
        "training": [1, 2, 1],
        "calibration": [1, 0, 2],
        "evaluation": [2, 1, 0],
    }


def test_classes_that_are_numbers_need_not_be_in_training(make_source, make_data) -> None:
    source = make_source(table_of([0, 2, 0, 2, 0, 2, 1, 2, 0, 0]))
    data = make_data(ONE_INPUT, split=BY_TIME)
    fitted = fit(source, data, SILENT, "multiclass_classification")
    assert fitted.encoder.classes is None
    assert fitted.counts.classes["calibration"] == [1, 1, 1]


@pytest.mark.parametrize(
    ("task", "labels", "message"),
    [
        (
            "multiclass_classification",
            ["a", "b", "a", "b", "a", "new", "b", "old", "a", "b"],
            r"column 'y', row 5 .*: 'new'; expected one of the 2 classes of .*: 'a', 'b'\.",
        ),
        (
            "multiclass_classification",
            ["a", "b", "a", "b", "a", "a", "a", "b", "a", "b"],
            r"calibration split: only rows with label 'a'; expected rows of at least two classes",
        ),
        ("multiclass_classification", [0, 1] * 4 + [0.5, 1], "row 8 .*: 0.5; .* task: regression"),
        ("regression", [0.5] * 9 + [None], "row 9 .*: a missing value; expected a number"),
        ("representation", [7] * 9 + [None], "row 9 .*: a missing value; expected a label"),
    ],
)
def test_labels_that_cannot_be_used(make_source, make_data, task, labels, message) -> None:
    source, data = make_source(table_of(labels)), make_data(ONE_INPUT, split=BY_TIME)
    with pytest.raises(DataError, match=message):
        fit(source, data, SILENT, task)


@pytest.mark.parametrize("task", ["regression", "representation"])
def test_equal_labels_are_no_single_class(make_source, make_data, task: Task) -> None:
    data = make_data(ONE_INPUT, split=BY_TIME)
    counts = fit(make_source(table_of([7] * 10)), data, SILENT, task).counts
    assert counts.rows == {"training": 4, "calibration": 3, "evaluation": 3}
    assert (counts.positives, counts.classes) == ({}, {})


def test_too_many_classes(make_source, make_data, monkeypatch) -> None:
    monkeypatch.setattr("qtool.data.label_counts.MAX_CLASSES", 5)
    source = make_source(table_of(list("abcdefghij")))
    with pytest.raises(DataError, match="column 'y': more than 5 different values"):
        fit(source, make_data(ONE_INPUT), SILENT, "multiclass_classification")


def test_classes_of_a_saved_encoder_are_used(make_source, make_data, tmp_path: Path) -> None:
    source = make_source(table_of(list("abcabcabca")))
    path = tmp_path / "encoder.json"
    learned = fit(source, make_data(ONE_INPUT, split=BY_TIME), SILENT, "multiclass_classification")
    path.write_text(encoder_to_json(learned.encoder))
    data = make_data(ONE_INPUT, split=BY_TIME, encoder=str(path))
    two = make_source(table_of(list("bcbcbcbcbc")))
    fitted = fit(two, data, SILENT, "multiclass_classification")
    assert fitted.encoder.classes == ("a", "b", "c")
    assert fitted.counts.classes["training"] == [0, 2, 2]
    other = make_source(table_of(list("bcbcbcbcbx")))
    with pytest.raises(DataError, match=r"row 9 .*: 'x'; expected one of the 3 classes"):
        fit(other, data, SILENT, "multiclass_classification")
    numbers = make_source(table_of([0, 1] * 5))
    for task in ("binary_classification", "multiclass_classification", "regression"):
        with pytest.raises(StaleArtifactError, match="text classes of the label"):
            fit(numbers, data, SILENT, task)
    path.write_text(encoder_to_json(replace(learned.encoder, classes=None)))
    with pytest.raises(StaleArtifactError, match="no classes of the label"):
        fit(source, data, SILENT, "multiclass_classification")


def test_saved_encoder_is_used(
    credit, credit_inputs, make_source, make_data, tmp_path: Path
) -> None:
    learned = fit(make_source(columns_of(credit)), make_data(credit_inputs), SILENT)
    path = tmp_path / "encoder.json"
    path.write_text(encoder_to_json(learned.encoder))
    other = make_source(columns_of(credit.slice(500, 1_000)))
    fitted = fit(other, make_data(credit_inputs, encoder=str(path)), SILENT)
    assert encoder_to_json(fitted.encoder) == encoder_to_json(learned.encoder)
    assert sum(fitted.counts.rows.values()) == 1_000


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"numbers": {"columns": ["balance"]}}, r"numbers: columns \['income', 'balance'\]"),
        (
            {"numbers": {"columns": ["income", "balance"], "missing": "mean"}},
            "numbers: log columns",
        ),
        ({"numbers": {"kind": "categorical", "columns": ["mcc"]}}, "numbers: numeric, not cat"),
        ({"more": {"columns": ["balance"]}}, "inputs .*, not .*more"),
        ({"codes": {"kind": "categorical", "columns": ["mcc", "key"]}}, r"codes: columns"),
    ],
)
def test_encoder_for_other_inputs(
    credit, credit_inputs, make_source, make_data, tmp_path: Path, change, message
) -> None:
    source = make_source(columns_of(credit))
    path = tmp_path / "encoder.json"
    path.write_text(encoder_to_json(fit(source, make_data(credit_inputs), SILENT).encoder))
    with pytest.raises(StaleArtifactError, match=message):
        fit(source, make_data({**credit_inputs, **change}, encoder=str(path)), SILENT)


def test_encoder_of_a_column_that_was_text(
    credit, credit_inputs, make_source, make_data, tmp_path: Path
) -> None:
    columns = columns_of(credit)
    path = tmp_path / "encoder.json"
    fitted = fit(make_source(columns), make_data(credit_inputs), SILENT)
    path.write_text(encoder_to_json(fitted.encoder))
    source = make_source({**columns, "country": columns["mcc"]})
    with pytest.raises(StaleArtifactError, match="column country was text"):
        fit(source, make_data(credit_inputs, encoder=str(path)), SILENT)


@pytest.mark.parametrize("content", [None, b"\xff\xfe"])
def test_encoder_file_that_cannot_be_read(
    credit, credit_inputs, make_source, make_data, tmp_path: Path, content: bytes | None
) -> None:
    path = tmp_path / "encoder.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match=r"encoder\.json"):
        fit(make_source(columns_of(credit)), make_data(credit_inputs, encoder=str(path)), SILENT)
