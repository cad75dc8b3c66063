from __future__ import annotations

import hashlib

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qtool.config.task import Task
from qtool.data.blocks import Block
from qtool.data.labels import Labels, check_label_types, has_text_classes, labels_of_section
from qtool.errors import DataError

PAIRS = pa.array([[1.0, 2.0], [3.0, 4.0]], pa.list_(pa.float64(), 2))


def labels(task: Task, *columns: str, classes: tuple[str, ...] | None = None) -> Labels:
    return Labels(task, columns or ("y",), classes)


@pytest.mark.parametrize(
    ("task", "values", "expected", "dtype"),
    [
        ("binary_classification", [0, 1], [0, 1], np.int8),
        ("binary_classification", [False, True], [0, 1], np.int8),
        ("binary_classification", [0.0, 1.0], [0, 1], np.int8),
        ("multiclass_classification", [3, 0], [3, 0], np.int64),
        ("multiclass_classification", [2.0, 65_535.0], [2, 65_535], np.int64),
        ("regression", [0.1, -3], [np.float32(0.1), -3], np.float32),
        ("regression", PAIRS, [[1, 2], [3, 4]], np.float32),
        ("representation", [2**60, -5], [2**60, -5], np.int64),
    ],
)
def test_labels_of_each_task(make_block, task: Task, values, expected, dtype) -> None:
    found = labels(task).read(make_block({"y": values}))
    assert found.dtype == dtype
    assert found.tolist() == expected


def test_targets_of_several_columns_stand_side_by_side(make_block) -> None:
    block = make_block({"b": [7, 8], "a": PAIRS})
    found = labels("regression", "a", "b").read(block)
    np.testing.assert_array_equal(found, np.array([[1, 2, 7], [3, 4, 8]], np.float32))


def test_text_becomes_the_position_of_its_class(make_block) -> None:
    reader = labels("multiclass_classification", classes=("fee", "loan", "other"))
    texts = pa.array(["other", "fee", "loan", "fee"])
    for values in (texts, texts.dictionary_encode(), texts.cast(pa.large_string())):
        assert reader.read(make_block({"y": values})).tolist() == [2, 0, 1, 0]
    with pytest.raises(DataError, match=r"row 71 .*: 'new'; expected one of the 3 classes"):
        reader.read(make_block({"y": ["fee", "new"]}, first_row=70))


@given(st.lists(st.text(min_size=1), min_size=1))
def test_texts_are_equal_where_their_labels_are(texts: list[str]) -> None:
    block = Block("table", np.arange(len(texts)), pa.RecordBatch.from_pydict({"y": texts}))
    found = labels("representation").read(block)
    digests = [hashlib.blake2b(text.encode(), digest_size=8).digest() for text in texts]
    assert found.tobytes() == b"".join(digests)


@pytest.mark.parametrize(
    ("task", "value", "message"),
    [
        ("binary_classification", 2, r": 2; expected 0 or 1, .* task: multiclass_classification"),
        ("binary_classification", 0.5, r": 0.5; expected 0 or 1, .* task: regression"),
        ("binary_classification", None, r"a missing value; expected 0 or 1, as the label\.$"),
        ("multiclass_classification", 0.5, r": 0.5; expected an integer .* task: regression"),
        ("multiclass_classification", -1, r": -1; expected an integer from 0 to 65,535"),
        ("multiclass_classification", 65_536, r": 65536; expected an integer"),
        ("multiclass_classification", float("nan"), r"a missing value; .* as the label\.$"),
        ("regression", None, "a missing value; expected a number"),
        ("regression", float("nan"), "a missing value; expected a number"),
        ("regression", float("inf"), "inf; expected a finite number"),
        ("representation", None, "a missing value; expected a label"),
    ],
)
def test_bad_labels_name_value_and_row(make_block, task: Task, value, message: str) -> None:
    with pytest.raises(DataError, match=rf"table, column 'y', row 6 .*{message}"):
        labels(task).read(make_block({"y": [0, value]}, first_row=5))


def test_a_missing_class_is_named(make_block) -> None:
    reader = labels("multiclass_classification", classes=("a", "b"))
    for missing in (None, ""):
        with pytest.raises(DataError, match=r"row 1 .*: a missing value; expected a class"):
            reader.read(make_block({"y": ["a", missing]}))


def test_a_missing_place_of_a_list_is_named(make_block) -> None:
    lists = pa.array([[1.0, 2.0], [3.0, None]], pa.list_(pa.float32(), 2))
    with pytest.raises(DataError, match=r"column 'y', row 1 .*\[3\.0, None\]; expected a number"):
        labels("regression").read(make_block({"y": lists}))


TEXTS, NUMBERS, WORDS = ["a", "b"], [1, 2], pa.array([b"a", b"b"])


@pytest.mark.parametrize(
    ("task", "values", "fits"),
    [
        ("binary_classification", NUMBERS, True),
        ("binary_classification", TEXTS, "task: multiclass_classification"),
        ("binary_classification", PAIRS, "task: regression"),
        ("multiclass_classification", NUMBERS, True),
        ("multiclass_classification", TEXTS, True),
        ("multiclass_classification", PAIRS, "task: regression"),
        ("regression", NUMBERS, True),
        ("regression", PAIRS, True),
        ("regression", TEXTS, "task: multiclass_classification"),
        ("regression", [[1.0], [2.0, 3.0]], r"fixed-size lists of numbers, as the label\.$"),
        ("representation", NUMBERS, True),
        ("representation", TEXTS, True),
        ("representation", WORDS, r"as the label\.$"),
    ],
)
def test_types_of_the_label(make_source, task: Task, values, fits) -> None:
    source = make_source({"y": values})
    if fits is True:
        check_label_types(source, labels(task))
        return
    with pytest.raises(DataError, match=f"values of type .*; expected .*{fits}"):
        check_label_types(source, labels(task))


def test_only_text_has_classes_to_learn(make_source, make_data) -> None:
    schema = make_source({"y": TEXTS, "n": NUMBERS}).schema
    assert has_text_classes(labels("multiclass_classification"), schema)
    assert not has_text_classes(labels("multiclass_classification", "n"), schema)
    assert not has_text_classes(labels("representation"), schema)
    none = labels_of_section(make_data({"x": {"columns": ["n"]}}, label=None), "regression")
    assert none is None
    assert not has_text_classes(none, schema)
