from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from qtool.config.evaluation import METRICS, Evaluation, Forecast, Risk, Segmentation, Trading
from qtool.config.task import Task
from qtool.errors import ConfigError, ModelError
from qtool.evaluation.metrics import binary, language_model, multiclass
from qtool.evaluation.metrics.registry import NEEDS, metrics_of, usual_metrics
from qtool.evaluation.sample import Sample

TRADING = Trading(returns="next", positions=[-1, 0, 1])
LEVELS = [0.1, 0.5, 0.9]


@pytest.mark.parametrize(
    ("task", "section", "quantiles", "expected"),
    [
        ("binary_classification", Evaluation(), None, "auc gini ks pr_auc brier ece"),
        ("multiclass_classification", Evaluation(), None, "accuracy macro_f1 mcc log_loss"),
        (
            "multiclass_classification",
            Evaluation(trading=TRADING),
            None,
            "accuracy macro_f1 mcc log_loss hit_rate net_pnl",
        ),
        ("regression", Evaluation(), None, "mae rmse r2"),
        (
            "regression",
            Evaluation(forecast=Forecast(history="past")),
            None,
            "mae rmse smape r2 mase",
        ),
        ("regression", Evaluation(), LEVELS, "pinball crps coverage_error mae rmse r2"),
        ("regression", Evaluation(), [0.9], "pinball crps"),
        (
            "regression",
            Evaluation(risk=Risk(level=0.99)),
            None,
            "pinball var_exceedance_error es_error",
        ),
        ("representation", Evaluation(), None, "recall_at_1 recall_at_10 ndcg_at_10 mrr"),
        (
            "representation",
            Evaluation(segmentation=Segmentation(clusters=3)),
            None,
            "recall_at_1 recall_at_10 ndcg_at_10 mrr ari nmi",
        ),
        ("language_model", Evaluation(), None, "perplexity"),
    ],
)
def test_usual_metrics(
    task: Task, section: Evaluation, quantiles: list[float] | None, expected: str
) -> None:
    assert " ".join(usual_metrics(task, section, quantiles)) == expected
    assert " ".join(metric.name for metric in metrics_of(task, section, quantiles)) == expected


def test_metrics_come_in_the_order_of_their_names() -> None:
    names = ["recall_at_fpr_0.01", "ks", "auc", "log_loss"]
    found = metrics_of("binary_classification", Evaluation(metrics=names), None)
    assert [metric.name for metric in found] == names
    assert [metric.better for metric in found] == ["higher", "higher", "higher", "lower"]
    names = ["map_at_20", "mrr", "hit_rate_at_3"]
    found = metrics_of("representation", Evaluation(metrics=names), None)
    assert [metric.title for metric in found] == ["MAP at 20", "MRR", "Hit rate at 3"]


@pytest.mark.parametrize(
    ("task", "name", "found"),
    [
        ("binary_classification", "mrr", "'mrr' for task binary_classification"),
        ("binary_classification", "mae", "one of auc, gini, .*, recall_at_fpr_F"),
        ("binary_classification", "recall_at_fpr_2", "'recall_at_fpr_2'"),
        ("multiclass_classification", "auc", "one of accuracy, macro_f1, mcc, log_loss, module:"),
        ("representation", "auc", "one of mrr, recall_at_K, .* K such as 10"),
        ("language_model", "recall_at_1", "one of perplexity, module:function"),
    ],
)
def test_unknown_names_are_told_with_those_of_the_task(task: Task, name: str, found: str) -> None:
    with pytest.raises(ConfigError, match=rf"evaluation\.metrics: .*{found}"):
        metrics_of(task, Evaluation(metrics=[name]), None)


@pytest.mark.parametrize(
    ("task", "name"), [(task, name) for task, names in NEEDS.items() for name in names]
)
def test_a_metric_says_what_it_needs_and_works_with_it(task: Task, name: str) -> None:
    bare = [0.9] if name in ("mae", "rmse", "smape", "r2", "coverage_error") else None
    with pytest.raises(ConfigError, match=f"{name}, which needs"):
        metrics_of(task, Evaluation(metrics=[name]), bare)
    of_risk = name in ("var_exceedance_error", "es_error")
    outputs = {"risk": Risk(level=0.99)} if of_risk else {"forecast": Forecast(history="past")}
    section = Evaluation(
        metrics=[name], trading=TRADING, segmentation=Segmentation(clusters=3), **outputs
    )
    (metric,) = metrics_of(task, section, LEVELS)
    assert metric.name == name


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("desk")
    (found / "desk_metrics.py").write_text(
        "import numpy as np\n"
        "def above(labels, predictions):\n"
        "    print('heard on stderr')\n"
        "    return np.float32((predictions >= labels).mean())\n"
        "def loss(labels, predictions):\n"
        "    return 1\n"
        "loss.better = 'lower'\n"
        "def odd(labels, predictions):\n"
        "    return predictions\n"
        "odd.better = 'bigger'\n"
        "def broken(labels, predictions):\n"
        "    raise KeyError('amount')\n"
        "def deep(labels, predictions):\n"
        "    return np.linalg.inv(predictions)\n"
        "def shapes(labels, predictions):\n"
        "    return predictions\n"
    )
    return found


def own(folder: Path, name: str, weights: object = None) -> tuple[str, str, float]:
    section = Evaluation(metrics=[f"desk_metrics:{name}"], pythonpath=folder)
    (metric,) = metrics_of("binary_classification", section, None)
    scores = np.array([0.5, 0.0], np.float32)
    sample = Sample(np.arange(2), np.array([0, 1], np.int8), scores, scores)
    return metric.title, metric.better, metric.build(sample, scores)(weights)


def test_own_metrics_are_called_with_the_rows(folder: Path, capsys) -> None:
    assert own(folder, "above") == ("above", "higher", 0.5)
    assert own(folder, "above", np.array([3.0, 1.0])) == ("above", "higher", 0.75)
    assert own(folder, "loss") == ("loss", "lower", 1.0)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("odd", "better = 'bigger'; expected 'higher' or 'lower'"),
        ("broken", r"desk_metrics\.py:12 raised KeyError: 'amount'"),
        ("deep", r"desk_metrics\.py:14 raised LinAlgError"),
        ("shapes", "returned a ndarray; expected a number"),
        ("abov", "Did you mean 'above'"),
    ],
)
def test_errors_of_own_metrics_name_the_place(folder: Path, name: str, found: str) -> None:
    with pytest.raises(ModelError, match=found):
        own(folder, name)


def test_the_config_knows_every_metric():
    named = {name for names in NEEDS.values() for name in names}
    modules = (binary, language_model, multiclass)
    named |= {metric.name for module in modules for metric in module.METRICS}
    assert named <= set(METRICS)


@pytest.mark.parametrize("name", ["aux", "recall_at_0", "recall_at_x", "recall"])
def test_a_name_that_no_task_has_is_a_config_error(name):
    with pytest.raises(ValidationError, match=f"'{name}'; expected one of auc, gini"):
        Evaluation(metrics=[name])
