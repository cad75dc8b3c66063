from __future__ import annotations

import dataclasses

import pytest

from qtool.bundle.card import Interface, model_card
from qtool.evaluation.results import (
    Agreement,
    DecisionChange,
    Evaluation,
    GateResult,
    LatencyResult,
    MetricChange,
    NodeCoverage,
)

INPUTS = (Interface("features", "float32", "(?, 4)", "columns a | b"),)
OUTPUTS = (Interface("score", "float32", "(?, 1)", "logit"),)
ROWS = {"training": 6000, "evaluation": 4000}
METRIC = MetricChange(
    "auc", "AUC", "higher", 0.96, 0.9595, -0.0007, -0.0003, 1e-4, 0.95, "DeLong", 4000
)
TINY = dataclasses.replace(METRIC, title="ECE", fp32=0.2, int8=0.2 - 3e-8, low=float("nan"))
GATE = "AUC went from 0.96 to 0.9595; must be at most 0.001"


@pytest.fixture
def evaluation() -> Evaluation:
    return Evaluation(
        name="card-fraud",
        task="binary_classification",
        method="static",
        qat=True,
        rows=4000,
        positives=40,
        metrics=(METRIC, dataclasses.replace(METRIC, title="Gini", low=float("nan")), TINY),
        decisions=DecisionChange(0.25, "fixed score", 4000, 60, 61, 2, 1, 0.00194, 0.0125, 3e-5),
        sizes_bytes={"fp32": 4_000_000, "int8": 1_100_000},
        coverage=(NodeCoverage("gemm", "Gemm", "static", "constant weight", "QGemm"),),
        parity=None,
        latency=(LatencyResult(32, 1, "prepared", (2.0,), (1.0,), 2.0, 1.9, 2.1),),
        gates=(GateResult("auc_drop", "pass", 5e-4, 7e-4, 1e-3, 0.95, GATE),),
        provenance={"target": "x86_vnni"},
        notes=("A note.",),
    )


def test_the_card_of_a_classifier_has_its_decisions(evaluation: Evaluation) -> None:
    card = model_card(evaluation, INPUTS, OUTPUTS, ROWS, {"training": 60, "evaluation": 40})
    for line in (
        "# card-fraud: INT8 model card",
        "| `features` | float32 | (?, 4) | columns a \\| b |",
        "| evaluation | 4,000 | 40 |",
        "| AUC | 0.96 | 0.9595 | -0.0005 | -0.0007 to -0.0003 (95 %, DeLong) |",
        "| Gini | 0.96 | 0.9595 | -0.0005 | none |",
        "| ECE | 0.2 | 0.2 | -3e-08 | none |",
        "| auc_drop | pass | AUC went from 0.96 to 0.9595; must be at most 0.001 |",
        "| 32 | 1 | 2.00 | 1.90 to 2.10 | faster |",
        "* A note.",
    ):
        assert line in card.splitlines()
    assert "for binary classification, made" in card
    assert "at the operating threshold 0.25 (fixed score), on rows" in card
    assert "Decisions that changed: 3 of 4,000 (0.0750%; with 95 % confidence" in card


def test_names_of_columns_cannot_break_the_card(evaluation: Evaluation) -> None:
    inputs = (Interface("x", "float32", "(?, 2)", "columns two\nlines, <script>"),)
    card = model_card(dataclasses.replace(evaluation, gates=()), inputs, OUTPUTS, ROWS, {})
    assert "| `x` | float32 | (?, 2) | columns two lines, &lt;script&gt; |" in card.splitlines()
    assert "No gate was set, so nothing was decided." in card


def test_the_card_of_another_task_has_what_agrees(evaluation: Evaluation) -> None:
    agreement = Agreement("class_agreement", "Same class", 0.998, 0.99, 1.0, "rows", 4000)
    other = dataclasses.replace(
        evaluation,
        task="multiclass_classification",
        decisions=None,
        positives=None,
        agreements=(agreement,),
        latency=(),
    )
    card = model_card(other, INPUTS, OUTPUTS, ROWS, {})
    assert "for multiclass classification, made" in card
    assert "To take the place of its FP32 model, on rows like those below." in card
    assert "Same class: 99.8000% of 4,000 rows." in card
    assert "| evaluation | 4,000 |" in card.splitlines()
    assert "Latency was not measured." in card
    assert "threshold" not in card
