"""The pictures of a report, in reading order, each with the words that stand for it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from qtool.evaluation.results import DecisionChange, Evaluation
from qtool.evaluation.sample import Sample
from qtool.report import (
    change_pictures,
    class_pictures,
    embedding_pictures,
    model_pictures,
    score_pictures,
    speed_pictures,
    value_pictures,
)
from qtool.report.search_picture import front
from qtool.report.summary import facts, training_text
from qtool.report.text import count, number, share
from qtool.report.training_picture import training


@dataclass(frozen=True)
class Picture:
    """An SVG element, its title, and a sentence that says what is to be seen.

    ``wide`` pictures need the full width of the page.
    """

    title: str
    text: str
    svg: str
    wide: bool = False


@dataclass(frozen=True)
class Chapter:
    """Pictures that answer one question."""

    title: str
    pictures: tuple[Picture, ...]


def chapters(evaluation: Evaluation, sample: Sample) -> tuple[Chapter, ...]:
    """Returns every picture whose data were measured.

    Args:
        evaluation: the result.
        sample: the rows that it was made from; of a classifier all classes present.
    """
    found = (
        ("What changed", (*_metrics(evaluation), *_of_task(evaluation, sample))),
        ("Where it changed", _groups(evaluation)),
        ("Under attack and stress", _robustness(evaluation)),
        ("How fast it is", _speed(evaluation)),
        ("What was tried", _search(evaluation)),
        ("What the model became", _model(evaluation)),
    )
    every = (Chapter(title, tuple(pictures)) for title, pictures in found)
    return tuple(chapter for chapter in every if chapter.pictures)


def _metrics(evaluation: Evaluation) -> Iterator[Picture]:
    if any(not math.isnan(metric.change) for metric in evaluation.metrics):
        yield Picture(
            "Every metric",
            "Dot: change, line: its interval. Right of the middle INT8 is worse; shaded: worse "
            "than the gate allows. Numbers: INT8 minus FP32.",
            change_pictures.metrics(evaluation),
            wide=True,
        )


def _of_task(evaluation: Evaluation, sample: Sample) -> Iterable[Picture]:
    if evaluation.decisions is not None:
        return _binary(evaluation, evaluation.decisions, sample)
    if evaluation.task == "multiclass_classification":
        return _multiclass(evaluation, sample)
    if evaluation.task == "regression" and sample.labels.size:
        return _regression(evaluation, sample)
    if evaluation.task == "representation":
        return _representation(evaluation, sample)
    return _language(sample) if evaluation.task == "language_model" else ()


def _binary(evaluation: Evaluation, decisions: DecisionChange, sample: Sample) -> Iterator[Picture]:
    changed, *_ = facts(evaluation)
    yield Picture(
        "Score agreement",
        "Stronger squares hold more rows; dashed: the threshold. Rows in the named corners "
        f"changed decision. Largest score change: {number(decisions.largest_score_change)}.",
        score_pictures.agreement(sample, decisions),
    )
    yield Picture(
        "Near the threshold",
        f"{changed.label}: {changed.value} {changed.detail}. "
        f"Threshold {number(decisions.threshold)}.",
        score_pictures.flips(sample, decisions),
    )
    yield Picture(
        "Ranking",
        "ROC curves of FP32 and INT8 lie on each other where ranking is unchanged; right: the low "
        "false positive rates, magnified.",
        score_pictures.roc(sample),
        wide=True,
    )
    yield Picture(
        "Precision",
        "Share of flagged rows that are positive, for every share of positives found. Grey: "
        "flagging at random.",
        score_pictures.precision(sample),
    )
    yield Picture(
        "Calibration",
        "On the grey line a score is the share of positive rows among those that have it. Each "
        "mark stands for a tenth of the rows.",
        score_pictures.reliability(sample),
    )


def _multiclass(evaluation: Evaluation, sample: Sample) -> Iterator[Picture]:
    yield Picture(
        "Disagreements",
        "Rows that FP32 and INT8 put in different classes. Agreeing rows lie on the grey diagonal "
        "and are not counted.",
        class_pictures.disagreements(sample, evaluation.classes),
    )
    yield Picture(
        "Accuracy by class",
        "Share of the rows of each class that are right, and how many rows it has; of many classes "
        "those that changed most.",
        class_pictures.accuracy(sample, evaluation.classes),
    )


def _regression(evaluation: Evaluation, sample: Sample) -> Iterator[Picture]:
    levels = evaluation.quantiles
    yield Picture(
        "Agreement of the predictions",
        "Stronger squares hold more predictions; on the line both models say the same.",
        value_pictures.agreement(sample, levels),
    )
    yield Picture(
        "Errors by prediction",
        "Mean absolute error in each tenth of the predictions: bars of a pair are equally high "
        "where INT8 errs as FP32 does.",
        value_pictures.errors(sample, levels),
    )
    if levels:
        several = sample.labels.ndim > 1 and sample.labels.shape[1] > 1 and len(levels) > 1
        yield Picture(
            "Coverage of the quantiles",
            "On the grey line a predicted quantile lies above as many labels as its level says.",
            value_pictures.coverage(sample, levels),
            wide=several,
        )


def _representation(evaluation: Evaluation, sample: Sample) -> Iterator[Picture]:
    yield Picture(
        "Embeddings",
        "Rows by the cosine similarity of their FP32 and their INT8 embedding; the farther right, "
        "the nearer.",
        embedding_pictures.cosine(sample),
    )
    for family in list(embedding_pictures.cutoffs(evaluation.metrics).values())[:1]:
        yield Picture(
            "Retrieval",
            "The metric for the first K answers; the bar at INT8 is the interval of its change.",
            embedding_pictures.retrieval(family),
        )


def _language(sample: Sample) -> Iterator[Picture]:
    yield Picture(
        "Likelihood",
        "Rows by the change of the mean negative log-likelihood of their tokens; right of the "
        "dashed line INT8 finds the text less likely.",
        embedding_pictures.likelihood(sample),
    )


def _groups(evaluation: Evaluation) -> Iterator[Picture]:
    judged = [one for one in evaluation.segments if not math.isnan(one.metric.drop)]
    if judged:
        left_out = len(judged) - change_pictures.SEGMENTS
        more = f" {count(left_out)} segments that changed less are left out." * (left_out > 0)
        yield Picture(
            "By segment",
            "Change of the first metric in each segment, the worst first; right of the middle INT8 "
            f"is worse.{more}",
            change_pictures.segments(evaluation),
            wide=True,
        )
    if any(not math.isnan(one.fp32 + one.int8) for one in evaluation.fairness):
        yield Picture(
            "Adverse impact",
            "Share of favourable decisions of a group over that of the best group. Shaded: below "
            "four fifths. Line: interval of the change.",
            change_pictures.fairness(evaluation.fairness),
        )
    if evaluation.reasons is not None and evaluation.reasons.columns:
        found = evaluation.reasons
        yield Picture(
            "Reasons",
            f"How often each model names a column. {share(found.overlap)} of the first {found.top} "
            f"reasons of a row are the same.",
            change_pictures.reasons(found),
        )


def _robustness(evaluation: Evaluation) -> Iterator[Picture]:
    if evaluation.robustness:
        yield Picture(
            "Changed rows",
            "What a change of the given level does to the decisions of both models, or to their "
            "metric; the bar at INT8 is the interval of the difference. Levels: of an attack the "
            "share of the moves that are allowed, of noise its standard deviation, of missing "
            "values their share. fgsm and pgd follow the gradient of each model, transfer shows "
            "INT8 what pgd found for FP32, black box only asks each model for scores.",
            change_pictures.robustness(evaluation.robustness),
            wide=True,
        )


def _speed(evaluation: Evaluation) -> Iterator[Picture]:
    if evaluation.latency:
        yield Picture(
            "Latency",
            "Box: 25 to 75 % of calls, mark across it: median, line: 5 to 95 %, dot: 99 %. "
            "Right: speed-up of INT8 with its 95 % interval.",
            speed_pictures.latency(evaluation),
            wide=True,
        )
    if evaluation.latency and evaluation.metrics:
        metric = evaluation.metrics[0]
        yield Picture(
            "Speed against quality",
            f"An arrow leads from FP32 to INT8: to the left is faster, "
            f"{'up' if metric.better == 'higher' else 'down'} is better. The bar at INT8 is the "
            "interval of the change.",
            speed_pictures.pareto(evaluation, metric),
        )
    if evaluation.throughput:
        yield Picture(
            "Throughput",
            "Rows per second of sessions that run at once; right: INT8 over FP32 with its 95 % "
            "interval.",
            speed_pictures.throughput(evaluation.throughput),
        )
    if evaluation.cold:
        yield Picture(
            "Start of a process",
            "Medians of fresh processes: shorter bars start sooner and need less memory.",
            speed_pictures.cold(evaluation.cold),
            wide=True,
        )


def _search(evaluation: Evaluation) -> Iterator[Picture]:
    search = evaluation.search
    if search is not None:
        yield Picture(
            "Models of the search",
            f"{search.reason[0].upper()}{search.reason[1:]}. {len(search.trials)} models in "
            f"{search.seconds:,.0f} s, judged on {count(search.rows)} calibration rows. To the "
            "right is faster, down is more exact; larger marks have larger files, hollow ones were "
            "not measured. The line joins the measured ones that none beats in both.",
            front(search),
            wide=True,
        )


def _model(evaluation: Evaluation) -> Iterator[Picture]:
    *_, size = facts(evaluation)
    yield Picture("Size", f"INT8 is {size.value} {size.detail}.", model_pictures.size(evaluation))
    if evaluation.coverage:
        text = "Nodes of the prepared graph by operator and treatment."
        yield Picture("Coverage", text, model_pictures.coverage(evaluation))
    if any(math.isfinite(error.sqnr_db) for error in evaluation.layer_errors):
        yield Picture(
            "Error by layer",
            "How well INT8 stands for the FP32 values of each quantized activation, in the order "
            "of the graph, the output last; of many the worst. Errors add up: 6 dB less is twice "
            "the error.",
            model_pictures.layer_errors(evaluation),
            wide=True,
        )
    if evaluation.training is not None:
        text = f"{training_text(evaluation.training)} Epoch 0 is the model before training."
        yield Picture("Training", text, training(evaluation.training), wide=True)
