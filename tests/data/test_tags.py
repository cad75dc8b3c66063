from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from qtool.data.dataset import Dataset
from qtool.data.encoder_file import encoder_from_json, encoder_to_json
from qtool.data.fitting import fit
from qtool.data.labels import Labels, labels_of_section
from qtool.data.split import SPLITS
from qtool.data.tags import Tokens, read_tags
from qtool.errors import ConfigError, DataError, StaleArtifactError
from qtool.progress import SilentProgress

SILENT = SilentProgress()
BY_TIME = {"by": "time", "column": "t", "calibration": 0.25, "evaluation": 0.25}
WORDS = [[5, 6, 7], [8], [], [9, 5], [6, 7], [5], [8, 9], [6]]
TEXTS = [
    ["O", "B-total", "I-total"],
    ["B-date"],
    [],
    ["O", "O"],
    ["B-total", "O"],
    ["O"],
    ["B-date", "O"],
    ["O"],
]


def rows(tags: object, words: object = WORDS) -> dict[str, object]:
    return {"words": words, "y": tags, "t": list(range(8))}


def tagged(make_data, **words: object):
    return make_data({"words": {"kind": "sequence", "columns": ["words"], **words}}, split=BY_TIME)


@pytest.mark.parametrize(
    ("keep", "length", "expected"),
    [
        ("first", None, [[1, 2, 3], [-100] * 3, [4, -100, -100]]),
        ("first", 2, [[1, 2], [-100, -100], [4, -100]]),
        ("last", 2, [[2, 3], [-100, -100], [4, -100]]),
        ("last", 4, [[1, 2, 3, -100], [-100] * 4, [4, -100, -100, -100]]),
    ],
)
def test_tags_are_padded_and_cut(make_block, keep, length, expected) -> None:
    block = make_block({"y": [[1, 2, 3], [], [4]], "words": [[7, 7, 7], [], [7]]})
    found = read_tags(block, "y", Tokens("words", keep, length), None)
    assert found.dtype == np.int32
    assert found.tolist() == expected


def test_a_step_may_have_no_tag(make_block) -> None:
    block = make_block({"y": [[1, -100, 2]], "words": [[7, 7, 7]]})
    assert read_tags(block, "y", Tokens("words", "last", 2), None).tolist() == [[-100, 2]]


@pytest.mark.parametrize(
    "kind",
    [
        pa.list_(pa.string()),
        pa.large_list(pa.large_string()),
        pa.list_(pa.dictionary(pa.int8(), pa.string())),
    ],
)
def test_every_kind_of_text_in_a_slice(make_block, kind: pa.DataType) -> None:
    lists = pa.array([["O"], ["B-a", "O"], ["I-a"]], kind)
    whole = pa.record_batch({"y": lists, "words": [[1], [1, 2], [3]]})
    columns = {name: whole.slice(1, 2).column(name) for name in ("y", "words")}
    found = read_tags(make_block(columns), "y", Tokens("words", "first", 2), ("B-a", "I-a", "O"))
    assert found.tolist() == [[0, 2], [1, -100]]


@pytest.mark.parametrize(
    ("tags", "message"),
    [
        ([[1, 2], [3, 4]], r"row 6 .*: 2 tags; expected 1, one for each step of 'words'"),
        ([[1, 2], []], r"row 6 .*: 0 tags; expected 1"),
        ([[1, 2], None], r"row 6 .*: a missing value; expected a list in every row"),
        ([[1, None], [3]], r"row 5 .*value 1 of its list: a missing value"),
        ([[1, 2], [-1]], r"row 6 .*value 0 of its list: -1; expected an integer from 0 to 65,535"),
        ([[1, 65_536], [3]], r"row 5 .*value 1 of its list: 65536; expected .* -100 for no tag"),
    ],
)
def test_bad_tags_name_their_row(make_block, tags, message: str) -> None:
    block = make_block({"y": tags, "words": [[7, 8], [9]]}, first_row=5)
    with pytest.raises(DataError, match=message):
        read_tags(block, "y", Tokens("words", "first", 3), None)


@pytest.mark.parametrize(
    ("tags", "message"),
    [
        ([["O", "B-x"], ["O"]], r"row 5 .*: 'B-x'; expected one of the 2 classes"),
        ([["O", "B-a"], ["O", "O"]], r"row 6 .*: 2 tags; expected 1"),
        ([["O", "B-a"], [None]], r"row 6 .*value 0 of its list: a missing value; expected a tag"),
        ([["O", ""], ["O"]], r"row 5 .*value 1 of its list: a missing value; expected a tag"),
    ],
)
def test_bad_texts_name_their_row(make_block, tags, message: str) -> None:
    block = make_block({"y": tags, "words": [[7, 8], [9]]}, first_row=5)
    with pytest.raises(DataError, match=message):
        read_tags(block, "y", Tokens("words", "first", 3), ("B-a", "O"))


@pytest.mark.parametrize("length", [None, 2])
def test_texts_are_learned_and_read_as_the_tokens_are(make_source, make_data, length) -> None:
    # I-total is cut away with length 2, and stays a class: it depends on the rows only.
    source, data = make_source(rows(TEXTS)), tagged(make_data, length=length, pad=-1, mask="mask")
    fitted = fit(source, data, SILENT, "sequence_tagging")
    assert fitted.encoder.classes == ("B-date", "B-total", "I-total", "O")
    assert (fitted.counts.positives, fitted.counts.classes) == ({}, {})
    text = encoder_to_json(fitted.encoder)
    assert encoder_from_json(text, "file").classes == fitted.encoder.classes
    dataset = Dataset(source, data, fitted, "sequence_tagging")
    batches = [batch for split in SPLITS for batch in dataset.batches(split, 3)]
    for batch in batches:
        np.testing.assert_array_equal(batch.labels != -100, batch.inputs["mask"] == 1)
    first = batches[0].labels[:2]
    assert first.tolist() == [[3, 1, 2][: length or 3], [0, *[-100] * ((length or 3) - 1)]]
    (numbers,) = dataset.row_numbers("evaluation")
    assert numbers.labels is None
    found = labels_of_section(data, "sequence_tagging", fitted.encoder)
    assert found is not None
    assert found.tokens == Tokens("words", "first", length or 3)


def test_a_saved_encoder_keeps_the_tags(make_source, make_data, tmp_path) -> None:
    learned = fit(make_source(rows(TEXTS)), tagged(make_data), SILENT, "sequence_tagging")
    (tmp_path / "encoder.json").write_text(encoder_to_json(learned.encoder))
    data = tagged(make_data).model_copy(update={"encoder": tmp_path / "encoder.json"})
    dates = [["B-date"] * len(row) for row in WORDS]
    fitted = fit(make_source(rows(dates)), data, SILENT, "sequence_tagging")
    assert fitted.encoder.classes == learned.encoder.classes
    dates[4] = ["O", "I-date"]
    with pytest.raises(DataError, match=r"row 4 .*: 'I-date'; expected one of the 4 classes"):
        fit(make_source(rows(dates)), data, SILENT, "sequence_tagging")
    numbers = [[0] * len(row) for row in WORDS]
    with pytest.raises(StaleArtifactError, match="text classes of the label"):
        fit(make_source(rows(numbers)), data, SILENT, "sequence_tagging")


@pytest.mark.parametrize(
    ("row", "text", "message"),
    [
        (1, "NOUN", r"row 1 .*: 'NOUN'; expected O, B, I, B-KIND or I-KIND"),
        (1, "B-", r"row 1 .*: 'B-'; expected O"),
        (1, "E-date", r"row 1 .*: 'E-date'; expected O"),
        (7, "B-tax", r"row 7 .*: 'B-tax'; expected one of the 4 classes of the training split"),
    ],
)
def test_texts_that_say_no_entity_are_named(make_source, make_data, row, text, message) -> None:
    tags = [*TEXTS[:row], [text], *TEXTS[row + 1 :]]
    with pytest.raises(DataError, match=rf"table, column 'y', {message}"):
        fit(make_source(rows(tags)), tagged(make_data), SILENT, "sequence_tagging")


def test_integers_are_checked_before_any_work(make_source, make_data) -> None:
    tags = [[3] * len(row) for row in WORDS]
    fitted = fit(make_source(rows(tags)), tagged(make_data), SILENT, "sequence_tagging")
    assert fitted.encoder.classes is None
    tags[6] = [3]
    with pytest.raises(DataError, match=r"row 6 .*: 1 tags; expected 2"):
        fit(make_source(rows(tags)), tagged(make_data), SILENT, "sequence_tagging")


def test_learned_classes_do_not_depend_on_how_rows_arrive(make_source, make_data) -> None:
    found = {
        fit(
            make_source(rows(TEXTS), sizes), tagged(make_data), SILENT, "sequence_tagging"
        ).encoder.classes
        for sizes in ((8,), (1,), (3, 1))
    }
    assert len(found) == 1


@pytest.mark.parametrize(
    "tags", [[0] * 8, ["O"] * 8, [[0.5]] * 8, [[True]] * 8, [[[1]]] * 8], ids=str
)
def test_columns_that_hold_no_tags_are_refused(make_source, make_data, tags) -> None:
    source = make_source(rows(tags, [[1]] * 8))
    with pytest.raises(DataError, match=r"'y': values of type .*lists of integers or of text"):
        fit(source, tagged(make_data), SILENT, "sequence_tagging")


def test_tags_need_a_sequence(make_data) -> None:
    data = make_data({"x": {"columns": ["a"]}})
    with pytest.raises(ConfigError, match="no input of kind sequence"):
        labels_of_section(data, "sequence_tagging")


def test_tokens_are_those_of_the_first_sequence(make_data) -> None:
    second = {"kind": "sequence", "columns": ["b", "c"], "length": 4, "keep": "last"}
    data = make_data({"x": {"columns": ["a"]}, "words": second})
    found = labels_of_section(data, "sequence_tagging")
    assert found == Labels("sequence_tagging", ("y",), None, Tokens("b", "last", 4))
