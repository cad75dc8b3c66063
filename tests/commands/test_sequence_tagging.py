"""Fields of invoices: one tag per word, from training to the verdict."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.cli import qtool, succeeded

from qtool.history import History

NETWORK = """
import torch
from torch import nn

def build(inputs):
    return Tagger()

class Tagger(nn.Module):
    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(40, 16)
        self.before = nn.Conv1d(16, 32, 3, padding=1)
        self.body = nn.Sequential(nn.ReLU(), nn.Linear(32, 5))

    def forward(self, words, mask):
        steps = self.table(words) * mask.unsqueeze(2).float()
        return self.body(self.before(steps.transpose(1, 2)).transpose(1, 2))
"""
CONFIG = """\
name: invoices
task: sequence_tagging
model: {torch: 'taggers:build'}
data:
  source: invoices.parquet
  label: fields
  inputs:
    words: {kind: sequence, columns: [words], length: 8, keep: last, mask: mask}
target: {batch_sizes: [1]}
training: {epochs: 4, batch_size: 32, learning_rate: 0.01, keep: metric}
quantization: {method: static, samples: 200}
evaluation:
  segments: [sender]
  resampling: {resamples: 100}
  latency: {enabled: false}
  gates: {entity_f1_drop: 0.1, token_accuracy_change: 0.1, tag_agreement: 0.9}
"""
ROWS = 900
TAGS = ("B-date", "B-total", "I-date", "I-total", "O")


def fields(words: list[int]) -> list[str]:
    """Words from 30 on are of a total, from 25 on of a date; the first of several begins it."""
    kinds = ["total" if word >= 30 else "date" if word >= 25 else "" for word in words]
    before = ["", *kinds]
    return [
        "O" if not kind else f"{'I' if kind == earlier else 'B'}-{kind}"
        for kind, earlier in zip(kinds, before, strict=False)
    ]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("invoices")
    random = np.random.default_rng(0)
    words = [random.integers(0, 40, n).tolist() for n in random.integers(0, 11, ROWS)]
    tags = [fields(row) for row in words]
    columns = {
        "words": words,
        "fields": tags,
        "numbers": [[TAGS.index(tag) for tag in row] for row in tags],
        "sender": random.choice(["north", "south"], ROWS),
    }
    pq.write_table(pa.table(columns), folder / "invoices.parquet")
    (folder / "taggers.py").write_text(NETWORK)
    (folder / "config.yaml").write_text(CONFIG)
    return folder


def settings(*overrides: str) -> list[str]:
    return [word for text in overrides for word in ("--set", text)]


def evaluated(folder, name, *options):
    arguments = (folder / "config.yaml", "--run-dir", folder / name, "--quiet")
    succeeded("evaluate", *arguments, *options)
    found = json.loads((folder / name / "evaluate" / "evaluation.json").read_text())
    return found, found["metrics"]


def history(folder, stage):
    file = folder / stage / "history.json"
    return History.from_json(file.read_text(), str(file))


@pytest.fixture(scope="module")
def text(folder):
    """What is found of tags that are text, on a model that was trained on them."""
    return evaluated(folder, "text", "--pythonpath", folder)


def test_fields_that_are_text_are_trained_and_judged(folder, text):
    found, metrics = text
    record = history(folder / "text", "fp32")
    assert record.metric == "token_accuracy"
    assert record.best.validation_metric > 0.9
    encoder = json.loads((folder / "text" / "data" / "encoder.json").read_text())
    assert encoder["classes"] == list(TAGS)
    assert list(metrics) == ["entity_f1", "token_accuracy"]
    assert metrics["entity_f1"]["fp32"] > 0.8
    assert metrics["token_accuracy"]["fp32"] == pytest.approx(
        record.best.validation_metric, abs=0.05
    )
    (agreement,) = found["agreements"]
    assert (agreement["name"], agreement["units"]) == ("tag_agreement", "tokens")
    # Cut to 8 words: every token that is left counts once, padding never.
    assert ROWS < agreement["count"] < 8 * found["rows"]
    assert {segment["value"] for segment in found["segments"]} == {"north", "south"}
    assert [gate["verdict"] for gate in found["gates"]] == ["pass"] * 3
    page = (folder / "text" / "evaluate" / "report.html").read_text()
    assert "Entity F1" in page


def test_fields_that_are_numbers_are_trained_quantized(folder, text):
    trained = folder / "text" / "fp32" / "model.onnx"
    overrides = (
        "model.torch=null",
        f"model.onnx={trained}",
        "data.label=numbers",
        "training=null",
        "train_qat={epochs: 1, batch_size: 32, loss: {name: focal}, distill: {weight: 0.5}}",
    )
    found, metrics = evaluated(folder, "numbers", *settings(*overrides))
    record = history(folder / "numbers", "train-qat")
    assert record.metric == "token_accuracy"
    assert record.best.validation_metric > 0.85
    assert "classes" not in json.loads((folder / "numbers" / "data" / "encoder.json").read_text())
    parity = json.loads((folder / "numbers" / "train-qat" / "parity.json").read_text())
    assert parity["equal_share"] > 0.999
    # The same numbers as of the texts; but a run of one number other than 0 is one field.
    assert metrics["token_accuracy"]["fp32"] == text[1]["token_accuracy"]["fp32"]
    assert metrics["entity_f1"]["fp32"] != text[1]["entity_f1"]["fp32"]
    assert found["agreements"][0]["share"] > 0.9


@pytest.mark.parametrize(
    ("overrides", "code", "message"),
    [
        (["data.label=null"], 3, "no label, which evaluate needs"),
        (
            ["data.inputs.words=null", "data.inputs.x={kind: categorical, columns: [sender]}"],
            3,
            "no input of kind sequence",
        ),
        (["data.label=sender"], 5, "lists of integers or of text, as the label"),
        (["evaluation.metrics=[accuracy]"], 3, "one of entity_f1, token_accuracy"),
        (["evaluation.gates={f1_drop: 1}"], 3, "f1_drop: no such gate"),
    ],
)
def test_what_does_not_fit_is_told(folder, overrides, code, message):
    options = ("--run-dir", folder / "refused", "--quiet", "--pythonpath", folder)
    done = qtool("evaluate", folder / "config.yaml", *options, *settings(*overrides))
    assert (done.code, done.out) == (code, "")
    assert message in done.err
