from __future__ import annotations

import dataclasses
import math

import pytest

from qtool.config.evaluation import Gates
from qtool.evaluation.gates import GATES, check_gates
from qtool.evaluation.results import (
    DecisionChange,
    Evaluation,
    LatencyResult,
    MetricChange,
    Parity,
)


def latency(batch_size: int, speedup: float) -> LatencyResult:
    return LatencyResult(batch_size, 1, "prepared", (2.0,), (1.0,), speedup, 1.5, 2.5)


@pytest.fixture
def evaluation() -> Evaluation:
    return Evaluation(
        name="card-fraud",
        method="static",
        qat=False,
        positives=10,
        metrics=(MetricChange("auc", 0.9, 0.899),),
        decisions=DecisionChange(0.5, "fixed score", 1000, 30, 31, 2, 1, 0.008, 0.01, 0.0004),
        sizes_bytes={"fp32": 4000, "int8": 1200},
        coverage=(),
        parity=Parity("Q/DQ graph", 10_000, 0.9998, 1, 0.01, 100),
        latency=(latency(256, 2.0), latency(1, 0.8)),
        gates=(),
        provenance={},
    )


def test_every_configured_gate_is_measured() -> None:
    assert list(GATES) == list(Gates.model_fields)


def test_no_limit_no_gate(evaluation: Evaluation) -> None:
    assert check_gates(Gates(), evaluation) == ()


@pytest.mark.parametrize(
    ("name", "value", "holds", "fails"),
    [
        ("auc_drop", 0.001, 0.0011, 0.0009),
        ("auc_change", 0.001, 0.0011, 0.0009),
        ("decision_flips", 0.003, 0.003, 0.0029),
        ("score_psi", 0.0004, 0.0004, 0.0003),
        ("size_ratio", 0.3, 0.3, 0.29),
        ("speedup", 2.0, 2.0, 2.1),  # of batch 256, though batch 1 comes last
        ("equal_codes", 0.9998, 0.9998, 0.9999),
    ],
)
def test_each_gate_against_its_limit(
    evaluation: Evaluation, name: str, value: float, holds: float, fails: float
) -> None:
    (passed,) = check_gates(Gates(**{name: holds}), evaluation)
    (failed,) = check_gates(Gates(**{name: fails}), evaluation)
    assert (passed.name, passed.passed, passed.limit) == (name, True, holds)
    assert (failed.passed, failed.limit) == (False, fails)
    assert passed.value == pytest.approx(value)


def test_auc_drop_lets_a_gain_pass_and_auc_change_does_not(evaluation: Evaluation) -> None:
    better = dataclasses.replace(evaluation, metrics=(MetricChange("auc", 0.9, 0.95),))
    drop, change = check_gates(Gates(auc_drop=0.01, auc_change=0.01), better)
    assert drop.passed
    assert not change.passed


@pytest.mark.parametrize(
    ("name", "absent", "reason"),
    [
        ("auc_drop", {"metrics": ()}, "auc is not among evaluation.metrics"),
        ("auc_change", {"metrics": ()}, "auc is not among evaluation.metrics"),
        ("speedup", {"latency": ()}, "evaluation.latency.enabled is false"),
        ("equal_codes", {"parity": None}, "the static model has no activation codes"),
    ],
)
def test_a_gate_without_measurement_fails(
    evaluation: Evaluation, name: str, absent: dict[str, object], reason: str
) -> None:
    (gate,) = check_gates(Gates(**{name: 0.5}), dataclasses.replace(evaluation, **absent))
    assert not gate.passed
    assert math.isnan(gate.value)
    assert reason in gate.text


def test_the_result_fits_into_the_evaluation(evaluation: Evaluation) -> None:
    gates = check_gates(Gates(decision_flips=0.01, speedup=3), evaluation)
    done = dataclasses.replace(evaluation, gates=gates)
    assert not done.passed
    assert gates[0].text == "3 of 1,000 decisions changed; must be at most 0.01"
    assert gates[1].text == (
        "INT8 is 2 times as fast at batch size 256 (95 % interval 1.5 to 2.5); must be at least 3"
    )
