from __future__ import annotations

import dataclasses
import math
from typing import get_args

import numpy as np
import pytest

from qtool.config.evaluation import Evaluation as Section
from qtool.config.evaluation import Latency, Margin
from qtool.config.task import Task
from qtool.errors import ConfigError
from qtool.evaluation.gates import AGREEMENTS, GATES, check_gates, check_names, gate_named
from qtool.evaluation.results import (
    Agreement,
    DecisionChange,
    Evaluation,
    ImpactRatio,
    LatencyResult,
    MetricChange,
    MonotonicityResult,
    Parity,
    ReasonStability,
    SegmentChange,
    StressResult,
)
from qtool.statistics.proportions import share_upper

BINARY = "binary_classification"
FULL = {
    "decision": {"cost": {"false_positive": 1, "false_negative": 5}},
    "segments": ["job"],
    "fairness": {"columns": ["sex"]},
    "monotonicity": {"columns": {"income": "decreasing"}},
    "reason_codes": {},
    "trading": {"returns": "return", "positions": [0, 1]},
    "segmentation": {"clusters": 2},
    "robustness": {"noise": [0.1]},
}


def change(fp32, int8, half_width, name="auc", better="higher", rows=1000):
    moved = int8 - fp32
    return MetricChange(
        name, name.upper(), better, fp32, int8, moved - half_width, moved + half_width,
        half_width / 1.96, 0.95, "DeLong", rows, moved - 0.8392 * half_width,
        moved + 0.8392 * half_width,
    )  # fmt: skip


def latency(batch_size, speedup):
    calls = tuple(np.linspace(900, 1100, 5001))
    return LatencyResult(
        batch_size, 1, "prepared", (2.0,), calls, speedup, speedup * 0.75, speedup * 1.25
    )


def segment(value, drop, half_width):
    return SegmentChange("job", value, 100, change(0.9, 0.9 - drop, half_width), 1, 0.01)


@pytest.fixture
def evaluation() -> Evaluation:
    return Evaluation(
        name="card-fraud",
        task="binary_classification",
        method="static",
        qat=False,
        rows=1000,
        positives=10,
        metrics=(change(0.9, 0.899, 0.0005), change(0.1, 0.102, 0.001, "brier", "lower")),
        decisions=DecisionChange(
            0.5, "fixed score", 1000, 30, 31, 2, 1, 0.008, 0.01, 0.0004,
            cost=change(2.0, 2.1, 0.05, "expected_cost", "lower"),
        ),
        sizes_bytes={"fp32": 4000, "int8": 1200},
        coverage=(),
        parity=Parity("Q/DQ graph", 10_000, 0.9998, 1, 0.01, 100),
        latency=(latency(256, 2.0), latency(1, 0.8)),
        gates=(),
        provenance={},
        agreements=(Agreement("class_agreement", "Same class", 0.99, 0.985, 0.994, "rows", 1000),),
        segments=(segment("student", 0.002, 0.001), segment("retired", 0.001, 0.004)),
        fairness=(
            ImpactRatio("sex", "2", "1", 400, 0.95, 0.94, -0.015, -0.005),
            ImpactRatio("sex", "3", "1", 400, math.nan, math.nan, math.nan, math.nan),
        ),
        monotonicity=(MonotonicityResult("income", "decreasing", 400, 1, 3, 0.1, 0.1),),
        reasons=ReasonStability(500, 4, 0.98, 0.97, 0.985, 0.99, "occlusion", {}),
        robustness=(
            StressResult("pgd", 1.0, 100, change(0.5, 0.5, 0.1), 10, 12, 0.02, -0.01, 0.05),
        ),
    )  # fmt: skip


def verdict(evaluation, name, limit):
    (found,) = check_gates({name: limit}, evaluation)
    return found.verdict


def test_no_limit_no_gate(evaluation):
    assert check_gates({"auc_drop": None}, evaluation) == ()


@pytest.mark.parametrize(
    ("name", "value", "passes", "undecided", "fails"),
    [
        ("auc_drop", 0.001, 0.00142, 0.001, 0.00057),  # ± 0.00042, one-sided
        ("auc_change", 0.001, 0.00142, 0.001, 0.00057),
        ("brier_drop", 0.002, 0.00284, 0.002, 0.00115),
        ("decision_flips", 0.003, 0.0078, 0.003, 0.0008),
        ("cost_increase", 0.1, 0.142, 0.1, 0.057),
        ("class_agreement", 0.99, 0.9857, 0.99, 0.9934),
        ("worst_segment_drop", 0.001, 0.00437, 0.002, None),
        ("adverse_impact_drop", 0.01, 0.0143, 0.01, 0.0057),
        ("reason_overlap", 0.98, 0.9715, 0.98, 0.9843),
        ("robustness_drop", 0.02, 0.046, 0.02, -0.006),
        ("speedup", 2.0, 1.57, 2.0, 2.43),
        ("p99_ms", 1.098, 1.1, 1.098, 1.09),
        ("score_psi", 0.0004, 0.0004, None, 0.0003),
        ("size_ratio", 0.3, 0.3, None, 0.29),
        ("equal_codes", 0.9998, 0.9998, None, 0.9999),
        ("adverse_impact", 0.94, 0.94, None, 0.941),
        ("monotonicity", 0.005, 0.005, None, 0.0049),
    ],
)
def test_each_gate_has_its_verdicts(evaluation, name, value, passes, undecided, fails):
    for limit, wanted in ((passes, "pass"), (undecided, "undecided"), (fails, "fail")):
        if limit is not None:
            (found,) = check_gates({name: limit}, evaluation)
            assert (found.verdict, found.limit) == (wanted, limit)
            assert found.value == pytest.approx(value)


def test_every_gate_is_tried_above(evaluation):
    tried = {row[0] for row in test_each_gate_has_its_verdicts.pytestmark[0].args[1]}
    assert tried >= set(GATES)


def test_more_confidence_needs_a_wider_bound(evaluation):
    limit = 0.00143
    assert verdict(evaluation, "auc_drop", Margin(margin=limit)) == "pass"
    assert verdict(evaluation, "auc_drop", Margin(margin=limit, confidence=0.99)) == "undecided"


def test_an_undecided_gate_says_how_many_rows_would_decide(evaluation):
    (found,) = check_gates({"auc_drop": 0.0012}, evaluation)
    # (0.00042 / 0.0002)² = 4.4 times the 1,000 rows
    assert found.rows_needed == pytest.approx(4400, rel=0.05)


def test_auc_drop_lets_a_gain_pass_and_auc_change_does_not(evaluation):
    better = dataclasses.replace(evaluation, metrics=(change(0.9, 0.95, 0.001),))
    assert verdict(better, "auc_drop", 0.01) == "pass"
    assert verdict(better, "auc_change", 0.01) == "fail"


def test_a_change_towards_both_sides_is_as_far_as_its_farther_end(evaluation):
    even = dataclasses.replace(evaluation, metrics=(change(0.9, 0.9, 0.001),))
    assert verdict(even, "auc_change", 0.0009) == "pass"
    assert verdict(even, "auc_change", 0.0008) == "undecided"


def test_the_worst_of_many_segments_is_judged_more_strictly(evaluation):
    """One segment that is worse by two standard errors fails alone and not among twenty."""
    bad, good = segment("bad", 0.002, 0.00196), segment("good", 0.0, 0.0001)
    alone = dataclasses.replace(evaluation, segments=(bad,))
    among = dataclasses.replace(evaluation, segments=(bad, *[good] * 19))
    assert verdict(alone, "worst_segment_drop", 0.0002) == "fail"
    assert verdict(among, "worst_segment_drop", 0.0002) == "undecided"


def test_a_part_that_surely_fails_is_not_hidden_by_one_that_nobody_can_tell(evaluation):
    bad, unclear = segment("bad", 0.02, 0.001), segment("unclear", 0.0, 0.05)
    both = dataclasses.replace(evaluation, segments=(unclear, bad))
    (gate,) = check_gates({"worst_segment_drop": 0.01}, both)
    assert (gate.verdict, gate.value) == ("fail", pytest.approx(0.02))
    assert "where job is bad" in gate.text
    groups = [
        ImpactRatio("sex", group, "1", 400, 0.95, 0.95 - drop, -drop - half, -drop + half)
        for group, drop, half in (("2", 0.0, 0.09), ("3", 0.05, 0.01))
    ]
    stresses = [
        StressResult(kind, 1.0, 100, change(0.5, 0.5, 0.1), 0, 0, drop, drop - half, drop + half)
        for kind, drop, half in (("pgd", 0.0, 0.09), ("fgsm", 0.05, 0.01))
    ]
    both = dataclasses.replace(evaluation, fairness=tuple(groups), robustness=tuple(stresses))
    limits = {"adverse_impact_drop": 0.02, "robustness_drop": 0.02}
    assert [gate.verdict for gate in check_gates(limits, both)] == ["fail", "fail"]


@pytest.mark.parametrize("name", ["auc_drop", "auc_change", "cost_increase", "worst_segment_drop"])
def test_a_change_without_an_interval_decides_nothing(evaluation, name):
    """As that of a single cluster, or of one block that is as long as the series."""
    alone = dataclasses.replace(change(0.9, 0.9, math.nan), interval="paired bootstrap of clusters")
    blind = dataclasses.replace(
        evaluation,
        metrics=(alone,),
        decisions=dataclasses.replace(evaluation.decisions, cost=alone),
        segments=(SegmentChange("job", "student", 100, alone, 1, 0.01),),
    )
    (gate,) = check_gates({name: 0.5}, blind)
    assert (gate.verdict, gate.rows_needed) == ("undecided", None)
    assert "without an interval: paired bootstrap of clusters, of fewer than two" in gate.text


def test_small_figures_are_not_told_as_zero(evaluation):
    tiny = dataclasses.replace(evaluation, metrics=(change(2.5e-8, 3.5e-8, 1e-9, "mse", "lower"),))
    (gate,) = check_gates({"mse_drop": 1e-6}, tiny)
    assert gate.text.startswith("MSE went from 2.5e-08 to 3.5e-08;")


def test_nobody_of_the_reference_is_favoured(evaluation):
    undefined = ImpactRatio("sex", "2", "1", 400, *[math.nan] * 4)
    found = dataclasses.replace(evaluation, fairness=(undefined,))
    for gate in check_gates({"adverse_impact": 0.8, "adverse_impact_drop": 0.1}, found):
        assert (gate.verdict, "nobody of the group" in gate.text) == ("fail", True)


@pytest.mark.parametrize(
    ("name", "absent", "reason"),
    [
        ("auc_drop", {"metrics": ()}, "auc is not among evaluation.metrics"),
        ("auc_change", {"metrics": (change(math.nan, 0.5, 0.1),)}, "is not defined on these rows"),
        ("speedup", {"latency": ()}, "evaluation.latency.enabled is false"),
        ("p99_ms", {"latency": ()}, "evaluation.latency.enabled is false"),
        ("equal_codes", {"parity": None}, "the static model has no activation codes"),
        ("decision_flips", {"decisions": None}, "has no threshold"),
        ("score_psi", {"decisions": None}, "has no threshold"),
        ("cost_increase", {"decisions": None}, "evaluation.decision.cost is not set"),
        ("class_agreement", {"agreements": ()}, "has no class_agreement"),
        ("worst_segment_drop", {"segments": ()}, "evaluation.segments names no column"),
        ("adverse_impact", {"fairness": ()}, "evaluation.fairness is not set"),
        ("adverse_impact_drop", {"fairness": ()}, "evaluation.fairness is not set"),
        ("monotonicity", {"monotonicity": ()}, "evaluation.monotonicity is not set"),
        ("reason_overlap", {"reasons": None}, "evaluation.reason_codes is not set"),
        ("robustness_drop", {"robustness": ()}, "evaluation.robustness is not set"),
    ],
)
def test_a_gate_without_measurement_fails(evaluation, name, absent, reason):
    (gate,) = check_gates({name: 0.5}, dataclasses.replace(evaluation, **absent))
    assert gate.verdict == "fail"
    assert math.isnan(gate.value)
    assert reason in gate.text


@pytest.mark.parametrize(
    ("name", "changed", "reason"),
    [
        ("speedup", {"noisy": "half of the calls were interrupted"}, "half of the calls were"),
        ("p99_ms", {"int8_us": (1000.0,) * 999}, "999 calls are too few"),
    ],
)
def test_what_was_measured_badly_decides_nothing(evaluation, name, changed, reason):
    bad = dataclasses.replace(latency(256, 2.0), **changed)
    for limit in (0.001, 1000.0):
        (gate,) = check_gates({name: limit}, dataclasses.replace(evaluation, latency=(bad,)))
        assert (gate.verdict, gate.rows_needed) == ("undecided", None)
        assert reason in gate.text


def test_names_are_checked_before_anything_is_computed():
    section = Section(gates=dict.fromkeys(("auc_drop", "my.module:value_change"), 0.1))
    check_names(section, ("auc", "my.module:value"), BINARY)
    with pytest.raises(ConfigError, match=r"evaluation\.gates\.aux_drop: no such gate") as caught:
        check_names(Section(gates={"aux_drop": 0.1}), ("auc",), BINARY)
    assert "decision_flips" in str(caught.value)
    assert "token_agreement" not in str(caught.value)


@pytest.mark.parametrize("name", [*GATES, *AGREEMENTS])
def test_a_gate_is_of_tasks_and_may_need_a_part_of_the_section(name):
    gate = gate_named(name)
    section = Section.model_validate({**FULL, "gates": {name: 0.1}})
    for task in get_args(Task):
        if not gate.tasks or task in gate.tasks:
            check_names(section, (), task)
        else:
            with pytest.raises(ConfigError, match=f"gates.{name}: the task {task}; expected"):
                check_names(section, (), task)
    bare = Section(gates={name: 0.1}, latency=Latency(enabled=False))
    task = gate.tasks[0] if gate.tasks else BINARY
    if not gate.needs:
        check_names(bare, (), task)
        return
    with pytest.raises(ConfigError, match=f"gates.{name}: evaluation.{gate.needs} is "):
        check_names(bare, (), task)
    check_names(Section(gates={name: None}, latency=Latency(enabled=False)), (), "language_model")


def test_the_result_fits_into_the_evaluation(evaluation):
    def judged(**gates):
        return dataclasses.replace(evaluation, gates=check_gates(gates, evaluation)).verdict

    assert judged(decision_flips=0.01) == judged() == "pass"
    assert judged(decision_flips=0.01, auc_drop=0.001) == "undecided"
    assert judged(decision_flips=0.0001, auc_drop=0.001) == "fail"
    flips, speed = check_gates({"decision_flips": 0.01, "speedup": 1.5}, evaluation)
    assert flips.text == "3 of 1,000 decisions changed; must be at most 0.01"
    assert speed.text == (
        "INT8 is 2 times as fast at batch size 256 (95 % interval 1.5 to 2.5); must be at least 1.5"
    )


def test_flips_of_clusters_are_decided_by_what_they_are_worth(evaluation):
    decisions = dataclasses.replace(evaluation.decisions, effective_rows=200.0)
    clustered = dataclasses.replace(evaluation, decisions=decisions)
    (apart,) = check_gates({"decision_flips": 0.0078}, evaluation)
    (together,) = check_gates({"decision_flips": 0.0078}, clustered)
    assert (apart.verdict, together.verdict) == ("pass", "undecided")
    assert together.bound == pytest.approx(share_upper(0.6, 200, 0.95))
    assert together.text.startswith("3 of 1,000 decisions changed, worth 200 independent ones")
    assert together.rows_needed > 1000
