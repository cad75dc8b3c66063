from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from qtool.config.evaluation import Evaluation, Forecast, Risk, Trading
from qtool.config.task import Task
from qtool.evaluation.metrics.metric import Metric
from qtool.evaluation.metrics.registry import metrics_of
from qtool.evaluation.sample import Sample

LEVELS = [0.1, 0.5, 0.9]
SECTIONS: dict[str, tuple[Task, Evaluation, list[float] | None]] = {
    "binary": (
        "binary_classification",
        Evaluation(
            metrics=[
                *("auc", "gini", "ks", "pr_auc", "brier", "log_loss", "ece"),
                "recall_at_fpr_0.25",
                "own_metrics:smallest",
            ],
            pythonpath=".",
        ),
        None,
    ),
    "multiclass": (
        "multiclass_classification",
        Evaluation(
            metrics=["accuracy", "macro_f1", "mcc", "log_loss", "hit_rate"],
            trading=Trading(returns="return", positions=[-1, 0, 1]),
        ),
        None,
    ),
    "regression": (
        "regression",
        Evaluation(forecast=Forecast(history="past", season=2)),
        None,
    ),
    "quantiles": (
        "regression",
        Evaluation(forecast=Forecast(history="past", season=2)),
        LEVELS,
    ),
    "risk": ("regression", Evaluation(risk=Risk(level=0.75)), None),
    "language_model": ("language_model", Evaluation(), None),
}


def sample_of(kind: str, rows: int, seed: int) -> Sample:
    rng = np.random.default_rng(seed)
    columns = {}
    labels: NDArray = rng.normal(size=(rows, 2)).astype(np.float32)
    # Multiples of 1/8, so that ties happen.
    found = rng.integers(-8, 9, (rows, 2)) / 8
    if kind == "binary":
        labels, found = rng.integers(0, 2, rows).astype(np.int8), rng.integers(0, 9, rows) / 8
    elif kind == "multiclass":
        labels, found = rng.integers(0, 3, rows), rng.dirichlet(np.ones(3), rows)
        columns["return"] = rng.integers(-1, 2, rows) / 8
    elif kind == "quantiles":
        found = rng.integers(-8, 9, (rows, 6)) / 8
    elif kind == "risk":
        labels = labels[:, 0]
    elif kind == "language_model":
        found = np.stack([rng.random(rows), rng.integers(0, 5, rows)], axis=1)
    if kind in ("regression", "quantiles"):
        columns["past"] = np.empty(rows, object)
        columns["past"][:] = list(rng.integers(0, 3, (rows, 5)).astype(np.float32))
    found = found if kind == "language_model" else found.astype(np.float32)
    return Sample(np.arange(rows), labels, found, found, columns)


def metrics_for(kind: str, folder: object) -> tuple[Metric, ...]:
    task, section, quantiles = SECTIONS[kind]
    if section.pythonpath is not None:
        section = section.model_copy(update={"pythonpath": folder})
    return metrics_of(task, section, quantiles)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> object:
    found = tmp_path_factory.mktemp("own")
    (found / "own_metrics.py").write_text(
        "def smallest(labels, predictions):\n    return float(predictions.min(initial=2))\n"
    )
    return found


@pytest.mark.parametrize("kind", SECTIONS)
def test_weights_repeat_rows(kind: str, folder: object) -> None:
    metrics = metrics_for(kind, folder)

    @given(st.lists(st.integers(0, 3), min_size=1, max_size=30), st.integers(0, 2**32 - 1))
    @settings(max_examples=30, deadline=None)
    def check(counts: list[int], seed: int) -> None:
        sample = sample_of(kind, len(counts), seed)
        repeated = sample.take(np.repeat(np.arange(len(counts)), counts))
        for metric in metrics:
            statistic = metric.build(sample, sample.fp32)
            found = statistic(np.array(counts, np.float64))
            if len(repeated):
                again = metric.build(repeated, repeated.fp32)(None)
                assert found == pytest.approx(again, rel=1e-9, abs=1e-12, nan_ok=True), metric.name
            elif metric.name != "smallest":
                assert np.isnan(found) or ":" in metric.name, metric.name
            once = statistic(np.ones(len(counts)))
            assert once == pytest.approx(statistic(None), rel=1e-9, abs=1e-12, nan_ok=True)

    check()


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=10, deadline=None)
def test_sums_over_shards_are_the_sums_of_the_rows(seed: int) -> None:
    sample = sample_of("regression", 40, seed)
    whole = metrics_for("regression", None)[0].build(sample, sample.fp32)(None)
    shards = [sample.take(np.arange(40) % 3 == shard) for shard in range(3)]
    parts = [metrics_for("regression", None)[0].build(s, s.fp32)(None) for s in shards]
    assert np.average(parts, weights=[len(s) for s in shards]) == pytest.approx(whole, rel=1e-12)
