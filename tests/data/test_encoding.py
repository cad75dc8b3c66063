from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from qtool.data.encoder_file import encoder_from_json, encoder_to_json
from qtool.data.encoding import Encoder
from qtool.data.tabular import CategoricalEncoding, NumericEncoding
from qtool.data.values import MISSING_INT
from qtool.errors import DataError, StaleArtifactError


def float32(*values: float) -> np.ndarray:
    return np.array(values, np.float32)


ENCODER = Encoder(
    {
        "x": NumericEncoding(
            columns=("amount", "age"),
            widths=(1, 1),
            fill=float32(3.0, 40.0),
            log=np.array([True, False]),
            offset=float32(1.0, 30.0),
            multiplier=float32(2.0, 0.1),
            clip=2.5,
        ),
        "z": CategoricalEncoding(("mcc", "country"), ((4829, 5411), ("DE", "FR"))),
        "given": CategoricalEncoding(("code",), None),
    }
)
COLUMNS: dict[str, list[Any]] = {
    "amount": [np.e - 1, None, -(np.e**2 - 1), 1e6],
    "age": [50.0, None, 30.0, -10.0],
    "mcc": [5411, 4829, None, 7],
    "country": ["FR", "", None, "XX"],
    "code": [3, 0, 1, 2],
}


def test_encoding_by_hand(make_block) -> None:
    arrays = ENCODER.encode(make_block(COLUMNS))
    filled = 2 * (np.log(4.0) - 1)
    expected = [[0, 2], [filled, 1], [-2.5, 0], [2.5, -2.5]]
    np.testing.assert_allclose(arrays["x"], expected, rtol=1e-6, atol=1e-6)
    assert arrays["x"].dtype == np.float32
    assert arrays["z"].tolist() == [[2, 2], [1, 0], [0, 0], [0, 0]]
    assert arrays["given"].tolist() == [[3], [0], [1], [2]]
    assert arrays["z"].dtype == arrays["given"].dtype == np.int64


def test_raw_inputs_by_hand(make_block) -> None:
    arrays = ENCODER.raw_inputs(make_block(COLUMNS))
    assert list(arrays) == ["x", "z.mcc", "z.country", "given"]
    np.testing.assert_array_equal(arrays["x"][1], float32(np.nan, np.nan))
    assert arrays["z.mcc"].tolist() == [5411, 4829, MISSING_INT, 7]
    assert arrays["z.country"].tolist() == ["FR", "", "", "XX"]
    assert arrays["z.country"].dtype == object
    assert arrays["given"].shape == (4, 1)


def test_encoding_the_raw_inputs_gives_the_encoded_inputs(make_block) -> None:
    block = make_block(COLUMNS)
    encoded, raw = ENCODER.encode(block), ENCODER.raw_inputs(block)
    numeric, words = ENCODER.inputs["x"], ENCODER.inputs["z"]
    assert isinstance(numeric, NumericEncoding)
    assert isinstance(words, CategoricalEncoding)
    assert words.vocabularies is not None
    np.testing.assert_array_equal(numeric.apply(raw["x"]), encoded["x"])
    for place, (column, vocabulary) in enumerate(
        zip(words.columns, words.vocabularies, strict=True)
    ):
        codes = {value: code for code, value in enumerate(vocabulary, start=1)}
        looked_up = [codes.get(value, 0) for value in raw[f"z.{column}"]]
        assert looked_up == encoded["z"][:, place].tolist()


def test_missing_value_without_fill(make_block) -> None:
    part = NumericEncoding(("a",), (1,), None, np.array([False]), float32(0), float32(1), clip=None)
    with pytest.raises(DataError, match=r"column 'a', row 1 .*expected a number. Set missing"):
        Encoder({"x": part}).encode(make_block({"a": [1.0, None]}))


def test_missing_given_code(make_block) -> None:
    with pytest.raises(DataError, match=r"row 1 .*expected a code in every row"):
        CategoricalEncoding(("a",), None).apply(make_block({"a": [1, None]}))


@given(hnp.arrays(np.float32, (5, 2), elements=st.floats(-1e6, 1e6, width=32)))
def test_identity_encoding_changes_no_bit(x: np.ndarray) -> None:
    part = NumericEncoding(
        ("a",), (2,), None, np.array([False] * 2), float32(0, 0), float32(1, 1), clip=None
    )
    np.testing.assert_array_equal(part.apply(x), x)


def test_json_round_trip_is_exact(make_block) -> None:
    exact = NumericEncoding(
        ("a",), (3,), None, np.array([True] * 3), float32(0.1, 1e-38, 3e38), float32(1, 2, 3), None
    )
    encoder = Encoder({**ENCODER.inputs, "more": exact})
    text = encoder_to_json(encoder)
    read = encoder_from_json(text, "encoder.json")
    assert encoder_to_json(read) == text
    again = read.inputs["more"]
    assert isinstance(again, NumericEncoding)
    assert again.offset.tobytes() == exact.offset.tobytes()
    block = make_block(COLUMNS)
    for name, values in Encoder(dict(list(read.inputs.items())[:3])).encode(block).items():
        np.testing.assert_array_equal(values, ENCODER.encode(block)[name])


def test_json_keeps_classes_and_does_without() -> None:
    classes = ("\u00e9tat", "\u5176\u4ed6")
    encoder = Encoder(ENCODER.inputs, classes)
    assert encoder_from_json(encoder_to_json(encoder), "encoder.json").classes == classes
    text = encoder_to_json(ENCODER)
    assert list(json.loads(text)) == ["format", "version", "inputs"]  # as earlier versions wrote it
    assert encoder_from_json(text, "encoder.json").classes is None


def edit(change: Callable[[dict[str, Any]], object]) -> str:
    raw = json.loads(encoder_to_json(ENCODER))
    change(raw)
    return json.dumps(raw)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        "[" * 100_000,
        edit(lambda raw: raw.update(version=2)),
        edit(lambda raw: raw.update(inputs=[])),
        edit(lambda raw: raw["inputs"]["x"].update(kind="other")),
        edit(lambda raw: raw["inputs"]["x"].pop("fill")),
        edit(lambda raw: raw["inputs"]["x"].update(offset=[1.0])),
        edit(lambda raw: raw["inputs"]["x"].update(offset=[1.0, float("nan")])),
        edit(lambda raw: raw["inputs"]["x"].update(multiplier=[1.0, 1e39])),
        edit(lambda raw: raw["inputs"]["x"].update(log=[1, 0])),
        edit(lambda raw: raw["inputs"]["x"].update(widths=[1])),
        edit(lambda raw: raw["inputs"]["x"].update(widths=[2, 0])),
        edit(lambda raw: raw["inputs"]["x"].update(clip=-1)),
        edit(lambda raw: raw["inputs"]["z"].update(columns="mcc")),
        edit(lambda raw: raw["inputs"]["z"].update(vocabularies=[[1, 2]])),
        edit(lambda raw: raw["inputs"]["z"].update(vocabularies=[[2, 1], ["a"]])),
        edit(lambda raw: raw["inputs"]["z"].update(vocabularies=[[], ["a"]])),
        edit(lambda raw: raw["inputs"]["z"].update(vocabularies=[[1, "a"], ["a"]])),
        edit(lambda raw: raw.update(classes=[])),
        edit(lambda raw: raw.update(classes=[0, 1])),
        edit(lambda raw: raw.update(classes=["b", "a"])),
        edit(lambda raw: raw.update(classes=None)),
    ],
)
def test_text_that_is_no_encoder(text: str) -> None:
    with pytest.raises(StaleArtifactError, match=r"^encoder\.json: not an encoder"):
        encoder_from_json(text, "encoder.json")
