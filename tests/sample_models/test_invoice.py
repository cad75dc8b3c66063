from __future__ import annotations

import json
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from support.cli import ROOT
from support.sample_models import built, prepared

from qtool.data.batch import Batch
from qtool.data.generators import receipts
from qtool.data.generators.document_words import Line, boxes, numbers, words
from sample_models.baselines.__main__ import main
from sample_models.baselines.invoice import rules
from sample_models.invoice import unknown_words
from sample_models.prepare.invoice import place
from sample_models.systems.invoice import extraction

STEPS, TAGS = 12, 5
COMPANY, ADDRESS, DATE, TOTAL = range(1, TAGS)
RECEIPT = (
    (10, "MAJU JAYA SDN. BHD."),
    (30, "NO 5, JALAN EMAS,"),
    (50, "81100 JOHOR BAHRU."),
    (70, "DATE: 25/12/2018 8:13 PM"),
    (90, "SUBTOTAL 12.00"),
    (110, "TOTAL RM12.00"),
    (130, "CASH 12.00"),
)
FIELDS = {
    "company": "MAJU JAYA SDN BHD",
    "address": "NO 5, JALAN EMAS, 81100 JOHOR BAHRU",
    "date": "25/12/2018",
    "total": "RM12.00",
}
CORNERS = [f"{axis}{at}" for at in range(1, 5) for axis in "xy"]


def lines_of(receipt=RECEIPT):
    return [Line(text, 5, top, 5 + 9 * len(text), top + 15) for top, text in receipt]


def tagger(encoder):
    inputs = {"tokens": {"shape": [STEPS, 4]}, "boxes": {"shape": [STEPS, 6]}}
    arguments = {"encoder": encoder, "width": 16, "layers": 1, "dropout": 0.0}
    return built("invoice", inputs, **arguments)


def some(lengths):
    tokens = torch.randint(1, 500, (len(lengths), STEPS, 4))
    mask = (torch.arange(STEPS) < torch.tensor(lengths)[:, None]).float()
    places = torch.rand(len(lengths), STEPS, 6) * mask[:, :, None]
    return tokens * mask[:, :, None].long(), places, mask


@pytest.mark.parametrize("encoder", ["lstm", "transformer"])
def test_padding_counts_neither_in_training_nor_after_it(encoder):
    model = tagger(encoder)
    tokens, places, mask = some([STEPS, 4, 7])
    other = torch.where(mask[:, :, None] > 0, tokens, 3)
    with torch.no_grad():
        scores = model(tokens, places, mask)
        filled = model(other, places, mask)
        training = model.train()(tokens, places, mask)
    assert scores.shape == (3, STEPS, TAGS)
    real = mask > 0
    torch.testing.assert_close(filled[real], scores[real])
    torch.testing.assert_close(training[real], scores[real])


def test_unknown_words_keep_shape_and_place():
    torch.manual_seed(0)
    tokens, places, _ = some([STEPS] * 20)
    labels = torch.zeros(20, STEPS)
    inputs, same = unknown_words({"tokens": tokens, "boxes": places}, labels, share=0.3)
    assert same is labels
    assert inputs["boxes"] is places
    found = inputs["tokens"]
    assert torch.equal(found[..., 3], tokens[..., 3])
    hidden = (found[..., :3] == 0).all(-1)
    assert 0.15 < hidden.float().mean() < 0.45
    assert torch.equal(found[~hidden], tokens[~hidden])


def tagged(row):
    return [(word, tag) for word, tag in zip(row["text"], row["tags"], strict=True) if tag]


def test_sroie_as_text_files_and_as_tables(monkeypatch, tmp_path):
    texts, tables = [], {"lines": [], "fields": []}
    for name in ("one", "two"):
        fields = FIELDS if name == "one" else {**FIELDS, "total": "99.00"}
        (tmp_path / f"{name}.json").write_text(json.dumps(fields))
        rows = []
        for number, line in enumerate(lines_of()):
            x, y = (line.left, line.right), (line.top, line.bottom)
            corners = [x[0], y[0], x[1], y[0], x[1], y[1], x[0], y[1]]
            rows.append(",".join([*(f"{corner:.0f}" for corner in corners), line.text]))
            values = dict(zip(CORNERS, map(int, corners), strict=True))
            tables["lines"].append({"receipt": name, "line": number, **values, "text": line.text})
        (tmp_path / f"{name}.csv").write_text("\n".join(rows) + "\n")
        tables["fields"].append({"receipt": name, **fields})
        texts += [tmp_path / f"{name}.csv", tmp_path / f"{name}.json"]
    table = prepared(monkeypatch, tmp_path, "invoice", *texts)
    assert table.schema.equals(receipts.SCHEMA)
    (row,) = table.to_pylist()  # the total of the other one is not in its text
    assert row["receipt"] == "one"
    company, address = "MAJU JAYA SDN BHD", "NO 5 JALAN EMAS 81100 JOHOR BAHRU"
    assert tagged(row) == [
        *((word, COMPANY) for word in company.split()),
        *((word, ADDRESS) for word in address.split()),
        ("25/12/2018", DATE),
        ("12.00", TOTAL),
    ]
    before = row["text"][: row["tags"].index(TOTAL)]
    assert before[-2:] == ["TOTAL", "RM"]  # neither the subtotal nor what was paid
    files = [tmp_path / "lines.parquet", tmp_path / "fields.parquet"]
    for file, kind in zip(files, ("lines", "fields"), strict=True):
        pq.write_table(pa.Table.from_pylist(tables[kind]), file)
    assert prepared(monkeypatch, tmp_path, "invoice", *files).equals(table)


@pytest.mark.parametrize(
    ("kind", "value", "expected"),
    [
        ("company", "JAYA SDN", (1, 3)),
        ("company", "JAYA SD", None),  # not whole words
        ("total", "12.00", (19, 20)),
        ("total", "", None),
        ("date", "81100", (8, 9)),
    ],
)
def test_where_a_field_is(kind, value, expected):
    assert place(words(lines_of()), kind, value) == expected


def as_arrays(receipt=RECEIPT):
    found = words(lines_of(receipt))
    tokens, places = np.zeros((30, 4), np.int64), np.zeros((30, 6), np.float32)
    tokens[: len(found)] = [numbers(word.text) for word in found]
    places[: len(found)] = boxes(found)
    return tokens, places, (np.arange(30) < len(found)).astype(np.float32), found


def test_rules_of_a_plain_receipt():
    tokens, places, mask, found = as_arrays()
    tags = rules(tokens, places, mask)
    marked = {
        tag: [word.text for word, its in zip(found, tags, strict=False) if its == tag]
        for tag in range(1, TAGS)
    }
    assert [len(marked[tag]) for tag in (COMPANY, ADDRESS)] == [4, 7]
    assert (marked[DATE], marked[TOTAL]) == (["25/12/2018"], ["12.00"])
    assert not tags[len(found) :].any()


def test_extraction_by_hand():
    numbered = np.array([[[11], [12], [13], [12], [0]], [[21], [22], [23], [24], [25]]])
    labels = np.array([[0, 0, 0, TOTAL, -100], [DATE, 0, TOTAL, 0, 0]])
    rows = Batch(np.arange(2), labels, {"tokens": np.repeat(numbered, 4, axis=2)})

    def predict(tags, sure=()):
        logits = 2.0 * np.eye(TAGS)[tags]
        for row, step in sure:
            logits[row, step] *= 3
        return lambda inputs: {"scores": logits}

    # An amount at another place is right; of two totals the surer one counts.
    one = np.array([[TOTAL, 0, 0, TOTAL, 0], labels[1]])
    other = np.array([[0, TOTAL, 0, DATE, 0], [DATE, 0, 0, 0, 0]])
    found = extraction(predict(one, sure=[(0, 3)]), predict(other), rows)
    assert [side.tolist() for side in found["fields_right"]] == [[1, 1], [1, 0.5]]
    assert [side.tolist() for side in found["touchless"]] == [[1, 1], [0, 0]]


def test_baselines_find_fields(monkeypatch, capsys):
    path = str(ROOT / "configs" / "invoice_auto.yaml")
    monkeypatch.setattr(sys, "argv", ["baselines", path, "--set", "data.source.rows=60"])
    main()
    found = dict(line.split(": ", 1) for line in capsys.readouterr().out.splitlines())
    assert list(found) == ["rules", "logistic regression, window"]
    for figures in found.values():
        assert float(figures.split(", ")[0].removeprefix("Entity F1 ")) > 0.3
