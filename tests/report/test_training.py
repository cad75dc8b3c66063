from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Callable
from xml.etree import ElementTree

import pytest
from pydantic import TypeAdapter

from qtool.evaluation.results import Evaluation
from qtool.evaluation.sample import Sample
from qtool.history import EpochRecord, History
from qtool.report.html import to_html
from qtool.report.json import accuracy_json
from qtool.report.markdown import to_markdown
from qtool.report.summary import training_text
from qtool.report.svg import COLORS
from qtool.report.training_picture import training

MakeSample = Callable[..., Sample]
EPOCHS = (
    EpochRecord(0, None, 0.26, 0.906),
    EpochRecord(1, 0.28, 0.2525, 0.913, 1e-3),
    EpochRecord(2, 0.25, 0.2575, 0.914, 5e-4),
)
HISTORY = History("train QAT", "auc", True, 0.25, 0.9125, "loss", EPOCHS)


def without_metric(history: History) -> History:
    epochs = tuple(dataclasses.replace(record, validation_metric=None) for record in history.epochs)
    return dataclasses.replace(history, metric=None, fp32_metric=None, epochs=epochs)


@pytest.fixture
def trained(evaluation: Evaluation) -> Evaluation:
    return dataclasses.replace(evaluation, qat=True, training=HISTORY)


def texts(svg: str) -> list[str]:
    return re.findall(r"<text[^>]*>([^<]*)</text>", svg)


def test_the_text_says_what_was_kept_and_compares_it() -> None:
    assert training_text(HISTORY) == (
        "Epoch 1 of 2 was kept: the best validation loss. "
        "Loss 0.25250 (before training 0.26000, FP32 0.25000). "
        "AUC 0.91300 (before training 0.90600, FP32 0.91250)."
    )
    by_metric = dataclasses.replace(HISTORY, keep="metric", metric="accuracy", fp32_loss=None)
    assert training_text(by_metric) == (
        "Epoch 2 of 2 was kept: the best validation metric. "
        "Loss 0.25750 (before training 0.26000, FP32 not measured). "
        "Accuracy 0.91400 (before training 0.90600, FP32 0.91250)."
    )
    assert training_text(without_metric(HISTORY)).endswith("FP32 0.25000).")


def test_the_picture_has_losses_metric_fp32_and_the_kept_epoch() -> None:
    shown = texts(training(HISTORY))
    for text in ("Training", "Validation", "FP32", "Kept", "Loss", "AUC"):
        assert shown.count(text) == 1, text
    assert shown.count("Epoch") == 2
    assert "RMSE" in texts(training(dataclasses.replace(HISTORY, metric="rmse")))


def test_lines_lie_where_the_values_are() -> None:
    """Validation loss, in the loss axes: epoch 1 is lowest, epochs are evenly spaced."""
    svg = training(without_metric(HISTORY))
    color = re.escape(COLORS["int8"])
    paths = re.findall(rf'<path d="([^"]*)"[^>]*style="fill: none; stroke: [^"]*{color}', svg)
    (points,) = {tuple(re.findall(r"[ML] ([\d.]+) ([\d.]+)", path)) for path in paths[:1]}
    (x0, y0), (x1, y1), (x2, y2) = ((float(x), float(y)) for x, y in points)
    assert x1 - x0 == pytest.approx(x2 - x1, abs=0.01)
    assert (y1 - y0) / (y1 - y2) == pytest.approx((0.2525 - 0.26) / (0.2525 - 0.2575), abs=0.01)


def test_without_metric_there_are_only_losses() -> None:
    shown = texts(training(without_metric(HISTORY)))
    assert shown.count("Epoch") == 1
    assert "AUC" not in shown


@pytest.mark.parametrize("epochs", [1, 3, 2000])
def test_any_number_of_epochs_can_be_drawn(epochs: int) -> None:
    records = tuple(
        EpochRecord(n, 0.1 / (n + 1), 0.2, None if n % 3 else 0.5) for n in range(epochs)
    )
    svg = training(dataclasses.replace(HISTORY, epochs=records, fp32_loss=None))
    assert len(svg.encode()) < 150_000
    ElementTree.fromstring(svg)


def test_the_picture_takes_its_colours_from_the_page_and_is_deterministic() -> None:
    svg = training(HISTORY)
    assert not re.findall(r"(?:fill|stroke): #\w+", re.sub(r"var\(--\w+, #\w+\)", "", svg))
    assert svg == training(HISTORY)


def test_reports_of_a_trained_model_show_its_training(
    trained: Evaluation, evaluation: Evaluation, make_sample: MakeSample
) -> None:
    page = to_html(trained, make_sample())
    assert page.count("<h3>Training</h3>") == 1
    assert page.count(training_text(HISTORY)) == 2  # to be seen, and to be read aloud
    assert f"\n* Training: {training_text(HISTORY)}\n" in to_markdown(trained)
    assert "Training" not in to_markdown(evaluation)


def test_json_holds_the_history(trained: Evaluation, evaluation: Evaluation) -> None:
    assert json.loads(accuracy_json(trained))["training"] == json.loads(HISTORY.to_json())
    assert json.loads(accuracy_json(evaluation))["training"] is None


def test_a_stored_evaluation_keeps_its_training(trained: Evaluation) -> None:
    stored = TypeAdapter(Evaluation).validate_json(json.dumps(dataclasses.asdict(trained)))
    assert stored.training == HISTORY
