from __future__ import annotations

import dataclasses

import pytest

from qtool.history import EpochRecord, History
from qtool.progress import LineProgress
from qtool.training.epoch_table import add_rows, columns

EPOCHS = (
    EpochRecord(0, None, 0.5, 0.75),
    EpochRecord(1, 0.25, 0.375, None, 1e-3),
    EpochRecord(2, 0.125, 0.4375, 0.875, 1e-4),
)
QAT = History("train QAT", "auc", True, 0.25, 0.9375, "loss", EPOCHS)
FP32 = dataclasses.replace(QAT, fp32_loss=None, fp32_metric=None)


def lines(history: History, capsys: pytest.CaptureFixture[str], first: int = 0) -> list[str]:
    with LineProgress().table("train", columns(history)) as table:
        add_rows(table, history, first)
    return [line.removeprefix("train: ") for line in capsys.readouterr().err.splitlines()[:-1]]


def test_a_training_that_goes_on_shows_all_its_epochs(capsys: pytest.CaptureFixture[str]) -> None:
    assert lines(QAT, capsys) == [
        "epoch 0, validation loss 0.500000, auc 0.750000, auc FP32 0.937500",
        "epoch 1, train loss 0.250000, validation loss 0.375000, auc FP32 0.937500, kept",
        "epoch 2, train loss 0.125000, validation loss 0.437500, auc 0.875000, auc FP32 0.937500",
    ]


def test_an_epoch_that_ends_is_added(capsys: pytest.CaptureFixture[str]) -> None:
    by_metric = dataclasses.replace(FP32, keep="metric")
    assert lines(by_metric, capsys, first=2) == [
        "epoch 2, train loss 0.125000, validation loss 0.437500, auc 0.875000, kept"
    ]


def test_a_task_without_a_metric_has_no_column_for_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert lines(dataclasses.replace(FP32, metric=None), capsys, first=1) == [
        "epoch 1, train loss 0.250000, validation loss 0.375000, kept",
        "epoch 2, train loss 0.125000, validation loss 0.437500",
    ]
