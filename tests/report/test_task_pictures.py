from __future__ import annotations

import dataclasses
import math
import re
from xml.etree import ElementTree

import numpy as np
import pytest

from qtool.evaluation.results import Evaluation
from qtool.evaluation.sample import Sample
from qtool.report import change_pictures, class_pictures, speed_pictures, value_pictures
from qtool.report.embedding_pictures import cutoffs
from qtool.report.pictures import chapters

RANDOM = np.random.default_rng(5)


def classes(count: int, rows: int = 600) -> Sample:
    labels = RANDOM.integers(0, count, rows)
    logits = RANDOM.normal(size=(rows, count)) + 2 * np.eye(count)[labels]
    fp32, int8 = (
        (np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)).astype(np.float32)
        for z in (logits, logits + 0.3 * RANDOM.normal(size=logits.shape))
    )
    return Sample(np.arange(rows), labels, fp32, int8)


def numbers(targets: int, per_target: int, rows: int = 500) -> Sample:
    labels = RANDOM.gamma(2, 10, (rows, targets)).astype(np.float32)
    fp32 = np.repeat(labels, per_target, axis=1)
    return Sample(np.arange(rows), labels, fp32, fp32 + 0.1 * RANDOM.normal(size=fp32.shape))


def embeddings(noise: float = 0.01) -> Sample:
    fp32 = RANDOM.normal(size=(300, 16)).astype(np.float32)
    int8 = fp32 + np.float32(noise) * RANDOM.normal(size=fp32.shape)
    return Sample(np.arange(300), np.arange(300) % 50, fp32, int8)


def language(change: float = 0.01) -> Sample:
    tokens = RANDOM.integers(0, 40, 200)
    loss = tokens * 3.0
    fp32, int8 = (np.stack([total, tokens], 1) for total in (loss, loss + change * tokens))
    return Sample(np.arange(200), np.zeros((200, 0)), fp32, int8)


def titles(evaluation: Evaluation, sample: Sample) -> list[str]:
    drawn = chapters(evaluation, sample)[0].pictures
    for picture in drawn:
        ElementTree.fromstring(picture.svg)
        assert len(picture.svg.encode()) < 200_000, picture.title
        outside = re.sub(r"var\(--\w+, #\w+\)", "", picture.svg)
        assert not re.findall(r"(?:fill|stroke): #\w+", outside), picture.title
    return [picture.title for picture in drawn[1:]]


def of_task(evaluation: Evaluation, task: str, **changes) -> Evaluation:
    return dataclasses.replace(evaluation, task=task, decisions=None, **changes)


@pytest.mark.parametrize(
    ("task", "sample", "changes", "expected"),
    [
        ("multiclass_classification", classes(3), {}, ["Disagreements", "Accuracy by class"]),
        ("multiclass_classification", classes(90), {}, ["Disagreements", "Accuracy by class"]),
        ("regression", numbers(1, 1), {}, ["Agreement of the predictions", "Errors by prediction"]),
        ("regression", numbers(2, 3), {"quantiles": (0.1, 0.5, 0.9)},
         ["Agreement of the predictions", "Errors by prediction", "Coverage of the quantiles"]),
        ("regression", numbers(1, 1, 1), {"quantiles": (0.5,)},
         ["Agreement of the predictions", "Errors by prediction", "Coverage of the quantiles"]),
        ("representation", embeddings(), {}, ["Embeddings"]),
        ("representation", embeddings(0), {}, ["Embeddings"]),
        ("language_model", language(), {}, ["Likelihood"]),
        ("language_model", language(0), {}, ["Likelihood"]),
    ],
)  # fmt: skip
def test_each_task_has_its_pictures(evaluation, task, sample, changes, expected) -> None:
    assert titles(of_task(evaluation, task, **changes), sample) == expected


def test_retrieval_is_drawn_for_several_cutoffs(evaluation: Evaluation) -> None:
    auc = evaluation.metrics[0]
    metrics = tuple(
        dataclasses.replace(auc, name=name) for name in ("recall_at_10", "recall_at_1", "mrr")
    )
    assert [k for k, _ in cutoffs(metrics)["recall"]] == [1, 10]
    assert cutoffs(metrics[1:]) == {}
    found = of_task(evaluation, "representation", metrics=metrics)
    assert titles(found, embeddings()) == ["Embeddings", "Retrieval"]


def test_disagreements_by_hand() -> None:
    """Of 40 classes 3 pairs disagree; classes without a disagreement share the last place."""
    fp32, int8 = np.zeros((4, 40), np.float32), np.zeros((4, 40), np.float32)
    fp32[range(4), [0, 0, 7, 9]] = 1
    int8[range(4), [5, 5, 8, 9]] = 1
    sample = Sample(np.arange(4), np.zeros(4, np.int64), fp32, int8)
    table, names = class_pictures._pooled(class_pictures._confusion(sample), ())
    assert names[-1] == "30 others"
    assert table[names.index("0"), names.index("5")] == 2
    assert table[names.index("7"), names.index("8")] == 1
    assert table.sum() == 3
    assert not np.diag(table).any()


def test_the_point_of_quantiles_is_the_one_nearest_to_the_middle() -> None:
    labels = np.zeros((2, 2), np.float32)
    rows = np.arange(8, dtype=np.float32).reshape(2, 4)
    sample = Sample(np.arange(2), labels, rows, rows)
    assert value_pictures.points(sample, rows, (0.4, 0.9)).tolist() == [[0, 2], [4, 6]]
    assert value_pictures.points(sample, rows, ()).tolist() == [[0, 1], [4, 5]]  # then variances


def test_worse_is_to_the_right_for_both_kinds_of_metric(evaluation: Evaluation) -> None:
    auc, brier = evaluation.metrics
    for metric in (auc, brier):
        found = change_pictures.worsening(metric)
        assert found.low < found.value < found.high
        assert found.value == pytest.approx(metric.drop)
    assert change_pictures.worsening(auc).high == pytest.approx(-auc.low)


def test_the_margin_is_that_of_the_gate(evaluation: Evaluation) -> None:
    assert change_pictures.margin_of(evaluation, "auc") == 0.002
    assert change_pictures.margin_of(evaluation, "brier") is None
    shown = change_pictures.metrics(evaluation)
    assert "margin 0.00200" in shown
    assert "No margin is set" in shown
    far = dataclasses.replace(evaluation.metrics[0], int8=0.5, low=-0.5, high=-0.4)
    ElementTree.fromstring(change_pictures.metrics(dataclasses.replace(evaluation, metrics=(far,))))


def test_a_change_of_nothing_can_be_drawn(evaluation: Evaluation) -> None:
    same = tuple(
        dataclasses.replace(metric, int8=metric.fp32, low=0.0, high=0.0)
        for metric in evaluation.metrics
    )
    unsure = (dataclasses.replace(same[0], low=float("nan"), high=float("nan")), same[1])
    # Not defined on some draws: too few positive rows.
    endless = (dataclasses.replace(same[0], low=-math.inf, high=math.inf), same[1])
    for metrics in (same, unsure, endless):
        found = dataclasses.replace(evaluation, metrics=metrics)
        ElementTree.fromstring(change_pictures.metrics(found))
        ElementTree.fromstring(speed_pictures.pareto(found, metrics[0]))


def test_stress_of_a_task_without_decisions_shows_its_metric(full: Evaluation) -> None:
    nan = float("nan")
    results = [
        dataclasses.replace(one, difference=nan, low=nan, high=nan) for one in full.robustness
    ]
    shown, turned = (change_pictures.robustness(found) for found in (results, full.robustness))
    assert ">AUC</text>" in shown
    assert ">Decisions turned</text>" in turned
    # The metric starts at the rows as they are; of them no decision is turned.
    assert (">0</text>" in shown, ">none</text>" in turned) == (True, False)
