"""From the names of the configuration to metrics."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from qtool.config.evaluation import Evaluation
from qtool.config.task import Task
from qtool.errors import ConfigError
from qtool.evaluation.metrics import binary, language_model, multiclass, tagging
from qtool.evaluation.metrics.metric import Metric
from qtool.evaluation.metrics.own import own_metric
from qtool.evaluation.metrics.quantiles import coverage_error, quantile_metrics
from qtool.evaluation.metrics.regression import MEDIAN, mase, point_metrics
from qtool.evaluation.metrics.retrieval import retrieval_metrics
from qtool.evaluation.metrics.risk import risk_metrics
from qtool.evaluation.metrics.segmentation import segmentation_metrics
from qtool.evaluation.metrics.trading import trading_metrics

BINARY = ("auc", "gini", "ks", "pr_auc", "brier", "ece")
MULTICLASS = ("accuracy", "macro_f1", "mcc", "log_loss")
RETRIEVAL = ("recall_at_1", "recall_at_10", "ndcg_at_10", "mrr")
NEEDS: dict[Task, dict[str, str]] = {
    "binary_classification": {},
    "multiclass_classification": dict.fromkeys(("hit_rate", "net_pnl"), "evaluation.trading"),
    "regression": {
        **dict.fromkeys(("mae", "rmse", "smape", "r2"), "one prediction or the 0.5 quantile"),
        "mase": "evaluation.forecast.history, and one prediction or the 0.5 quantile",
        **dict.fromkeys(("pinball", "crps"), "evaluation.forecast.quantiles"),
        "coverage_error": "two of evaluation.forecast.quantiles",
        **dict.fromkeys(("var_exceedance_error", "es_error"), "evaluation.risk"),
    },
    "representation": dict.fromkeys(("ari", "nmi"), "evaluation.segmentation"),
    "language_model": {},
    "sequence_tagging": {},
}
"""Metrics that need more than the task, and what."""
WITH_NUMBERS: dict[Task, tuple[str, ...]] = {
    "binary_classification": ("recall_at_fpr_F, F a rate such as 0.001",),
    "representation": ("recall_at_K, hit_rate_at_K, ndcg_at_K, map_at_K, K such as 10",),
}
"""Metrics with a number in their name."""


def metrics_of(
    task: Task, section: Evaluation, quantiles: Sequence[float] | None
) -> tuple[Metric, ...]:
    """Returns the metrics that a config names, or the usual ones.

    Args:
        task: what the labels say.
        section: ``evaluation``.
        quantiles: levels of the outputs; None for one prediction per target.

    Raises:
        ConfigError: the task, or the section, has no metric of a name.
        ModelError: the function of the user cannot be found.
    """
    usual = usual_metrics(task, section, quantiles)
    names = usual if section.metrics is None else tuple(section.metrics)
    offered = {metric.name: metric for metric in _offered(task, section, quantiles, names)}

    def metric(name: str) -> Metric:
        if ":" in name:
            return own_metric(name, section.pythonpath)
        if name not in offered:
            raise _unknown(name, task, offered)
        return offered[name]

    return tuple(metric(name) for name in names)


def usual_metrics(
    task: Task, section: Evaluation, quantiles: Sequence[float] | None
) -> tuple[str, ...]:
    """Returns the names of the metrics of a config that names none; arguments of ``metrics_of``."""
    if task == "binary_classification":
        return BINARY
    if task == "multiclass_classification":
        return (*MULTICLASS, *(("hit_rate", "net_pnl") if section.trading else ()))
    if task == "representation":
        return (*RETRIEVAL, *(("ari", "nmi") if section.segmentation else ()))
    left_out = () if section.forecast.history else ("smape",)
    offered = _offered(task, section, quantiles, ())
    return tuple(metric.name for metric in offered if metric.name not in left_out)


def _offered(
    task: Task, section: Evaluation, quantiles: Sequence[float] | None, names: Sequence[str]
) -> Iterable[Metric]:
    """Returns what can be computed, and of the metrics with a number those that are asked for."""
    if task == "binary_classification":
        return (*binary.METRICS, *binary.recall_metrics(names))
    if task == "multiclass_classification":
        of_trading = trading_metrics(section.trading) if section.trading else ()
        return (*multiclass.METRICS, *of_trading)
    if task == "representation":
        of_clusters = segmentation_metrics(section.segmentation) if section.segmentation else ()
        return (*retrieval_metrics(section.retrieval, names), *of_clusters)
    if task == "regression":
        return _of_regression(section, quantiles)
    if task == "sequence_tagging":
        return tagging.METRICS
    return language_model.METRICS


def _of_regression(section: Evaluation, quantiles: Sequence[float] | None) -> Iterable[Metric]:
    if section.risk:
        return risk_metrics(section.risk)
    found: list[Metric] = []
    if quantiles is not None:
        found += quantile_metrics(quantiles)
        found += [coverage_error(quantiles)] if len(quantiles) > 1 else []
    if quantiles is None or MEDIAN in quantiles:
        found += point_metrics(quantiles)
        found += [mase(section.forecast, quantiles)] if section.forecast.history else []
    return found


def _unknown(name: str, task: Task, offered: Iterable[str]) -> ConfigError:
    listed = ", ".join([*offered, *WITH_NUMBERS.get(task, ()), "module:function"])
    needs = NEEDS[task].get(name)
    if needs is not None:
        return ConfigError("evaluation.metrics", f"{name}, which needs {needs}", f"one of {listed}")
    return ConfigError("evaluation.metrics", f"{name!r} for task {task}", f"one of {listed}")
