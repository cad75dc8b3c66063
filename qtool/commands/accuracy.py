"""What scored rows say: metrics, decisions, agreements and groups, for ``evaluate`` and search."""

from __future__ import annotations

from qtool.commands.context import Context
from qtool.commands.judging import Judging
from qtool.commands.scoring import Models
from qtool.evaluation.agreements import agreements
from qtool.evaluation.compare import Pairing, compare
from qtool.evaluation.decisions import cost_metric, decision_change
from qtool.evaluation.metrics.metric import Metric
from qtool.evaluation.results import Evaluation
from qtool.evaluation.sample import Sample
from qtool.graph.model_file import size_bytes

Threshold = tuple[float, str]
"""Operating threshold, and how it was found in words."""


def judging_of(
    context: Context,
    models: Models,
    metrics: tuple[Metric, ...],
    sample: Sample,
    threshold: Threshold | None,
) -> Judging:
    """Returns what judges groups and columns of scored rows."""
    experiment = context.experiment
    section, by_time = experiment.evaluation.resampling, experiment.data.split.by == "time"
    pairing = Pairing(section, experiment.task, by_time, experiment.seed)
    score = None if threshold is None else threshold[0]
    return Judging(context, models, sample, metrics[0], pairing, score)


def accuracy(
    judging: Judging, metrics: tuple[Metric, ...], threshold: Threshold | None
) -> Evaluation:
    """Returns an evaluation with all that follows from predictions alone."""
    experiment, sample = judging.context.experiment, judging.sample
    section, models = experiment.evaluation, judging.models
    costs, asked = section.decision.cost, [*metrics]
    if costs is not None and threshold is not None:
        asked.append(cost_metric(costs, threshold[0]))
    changes = compare(sample, asked, judging.pairing)
    clusters = judging.pairing.units(sample)
    cost = next(iter(changes[len(metrics) :]), None)
    binary = experiment.task == "binary_classification"
    return Evaluation(
        name=experiment.name,
        task=experiment.task,
        method="auto" if judging.context.searched else models.plan.method,
        qat=experiment.train_qat is not None,
        rows=len(sample),
        positives=int(sample.labels.sum()) if binary else None,
        metrics=changes[: len(metrics)],
        decisions=None
        if threshold is None
        else decision_change(sample, *threshold, cost, clusters),
        sizes_bytes={"fp32": size_bytes(models.original), "int8": size_bytes(models.int8)},
        coverage=models.coverage,
        parity=None,
        latency=(),
        gates=(),
        provenance={},
        agreements=agreements(sample, experiment.task, section, clusters),
        segments=judging.segments(),
        fairness=judging.fairness(),
    )
