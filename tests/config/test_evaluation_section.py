from __future__ import annotations

import pytest

from qtool.config.load import load
from qtool.errors import ConfigErrors

CONFIG = """\
name: small
task: {task}
model: {{onnx: model.onnx}}
data:
  source: rows.parquet
  label: bad
  inputs:
    x: {{columns: [income, age]}}
    codes: {{kind: categorical, columns: [job]}}
    days: {{kind: sequence, columns: [balance]}}
evaluation: {{{evaluation}}}
"""
FLAT = "data.inputs.days=null"


@pytest.fixture
def loaded(tmp_path):
    def loaded(evaluation, *overrides, task="binary_classification"):
        path = tmp_path / "config.yaml"
        path.write_text(CONFIG.format(task=task, evaluation=evaluation), encoding="utf-8")
        return load(path, overrides).experiment

    return loaded


@pytest.mark.parametrize(
    ("evaluation", "found"),
    [
        ("metrics: [auc, ks, auc]", "evaluation.metrics: 'auc' is named twice. Remove one."),
        ("metrics: [auk]", "module:function, perhaps 'auc'."),
        ("metrics: [recall_at_fpr_0]", "'recall_at_fpr_0'; expected one of auc, gini"),
        ("metrics: [recall_at_fpr_0.1, recall_at_fpr_0.10]", "_0.10' is 'recall_at_fpr_0.1' again"),
        ("metrics: [':']", "':'; expected one of auc"),
        ("metrics: ['my metric:f']", "'my metric:f'; expected one of auc"),
        (
            "decision: {cost: {false_positive: 1.0e+300, false_negative: 1}}",
            "false_positive: 1e+30",
        ),
        ("latency: {threads: [2, 2]}", "evaluation.latency.threads: 2 is named twice"),
        ("latency: {threads: [5000]}", "threads[0]: 5000; expected less than or equal to 1024"),
        ("latency: {sessions: [4, 4]}", "evaluation.latency.sessions: 4 is named twice"),
        ("robustness: {noise: [0.1, 0.1]}", "evaluation.robustness.noise: 0.1 is named twice"),
        ("segments: [job, job]", "evaluation.segments: 'job' is named twice"),
        ("fairness: {columns: [a, a]}", "evaluation.fairness.columns: 'a' is named twice"),
        ("resampling: {block: 5, cluster: job}", "block and cluster are both set"),
        ("gates: {auc_drop: true}", "evaluation.gates.auc_drop: True; expected a valid number"),
        ("gates: {auc_drop: {margin: true}}", "auc_drop.margin: True; expected a valid number"),
        ("monotonicity: {columns: {incom: increasing}}", "columns names 'incom'; expected columns"),
        ("monotonicity: {columns: {balance: increasing}}", "input: income, age, job."),
        ("robustness: {mutable: [{columns: [job]}]}", "names 'job'; expected columns of a numeric"),
        ("robustness: {mutable: [{columns: [age, age]}]}", "'age' is named twice"),
        ("reason_codes: {}", "evaluation.reason_codes explains columns of one value per row"),
    ],
)
def test_what_cannot_be_evaluated_is_refused_by_the_config(loaded, evaluation, found):
    with pytest.raises(ConfigErrors) as caught:
        loaded(evaluation)
    text = str(caught.value)
    assert found in text
    assert not text.endswith(("..", "?."))


@pytest.mark.parametrize(
    ("evaluation", "found"),
    [
        ("forecast: {quantiles: [0.5, 0.5]}", "evaluation.forecast.quantiles: 0.5 is named twice"),
        ("risk: {level: 0.99}, forecast: {season: 4}", "risk and forecast are both set"),
    ],
)
def test_outputs_of_a_regression_mean_one_thing(loaded, evaluation, found):
    with pytest.raises(ConfigErrors, match=found):
        loaded(evaluation, task="regression")


def test_a_batch_is_one_that_memory_can_hold(loaded):
    assert loaded("", "target.batch_sizes=[1000000]").target.batch_sizes == [1_000_000]
    for sizes, found in (("[1000000000]", "less than or equal to 1000000"), ("[8, 8]", "twice")):
        with pytest.raises(ConfigErrors, match=found):
            loaded("", f"target.batch_sizes={sizes}")


def test_columns_of_inputs_may_be_varied(loaded):
    section = loaded(
        "monotonicity: {columns: {income: increasing, job: decreasing}}, "
        "robustness: {mutable: [{columns: [age]}, {columns: [income]}]}, "
        "gates: {auc_drop: 1, ks_drop: {margin: 0}}",
    ).evaluation
    assert section.robustness.mutable_columns == ("age", "income")
    assert section.gates["auc_drop"] == 1.0
