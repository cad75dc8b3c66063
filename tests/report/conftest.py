from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from qtool.evaluation.gates import check_gates
from qtool.evaluation.results import (
    Agreement,
    ColdStart,
    DecisionChange,
    Evaluation,
    ImpactRatio,
    LatencyResult,
    MetricChange,
    MonotonicityResult,
    NodeCoverage,
    Parity,
    ReasonStability,
    SegmentChange,
    StressResult,
    TestResult,
    ThroughputResult,
)
from qtool.evaluation.sample import Sample
from qtool.history import EpochRecord, History
from qtool.report.html import to_html

HOSTILE = "<script>alert('|')</script>"
ALL_GATES = {
    "auc_drop": 0.002,
    "auc_change": 0.002,
    "decision_flips": 0.002,
    "score_psi": 0.01,
    "size_ratio": 0.4,
    "speedup": 1.5,
    "equal_codes": 0.99,
}
NAN = float("nan")


def latency(batch_size: int, threads: int = 1, noisy: str = "") -> LatencyResult:
    fp32 = np.linspace(10, 20, 1001) * batch_size
    calls = tuple(fp32.tolist()), tuple((fp32 / 2).tolist())
    return LatencyResult(batch_size, threads, "prepared", *calls, 2.0, 1.9, 2.125, noisy)


def change(
    name: str, title: str, fp32: float, int8: float, error: float = 0.0001, better: Any = "higher"
) -> MetricChange:
    low, high = (int8 - fp32 + sign * 1.96 * error for sign in (-1, 1))
    bounds = (int8 - fp32 + side * 1.645 * error for side in (-1, 1))
    return MetricChange(
        name, title, better, fp32, int8, low, high, error, 0.95, "paired bootstrap", 4000, *bounds
    )


@pytest.fixture(scope="session")
def evaluation() -> Evaluation:
    """Numbers chosen by hand, so that the golden file does not depend on a library's rounding."""
    measured = Evaluation(
        name="card-fraud",
        task="binary_classification",
        method="static",
        qat=False,
        rows=4000,
        positives=40,
        metrics=(
            change("auc", "AUC", 0.96, 0.9595),
            change("brier", "Brier score", 0.01, 0.010004, 0.00001, "lower"),
        ),
        decisions=DecisionChange(
            threshold=0.25,
            threshold_rule="fixed score",
            rows=4000,
            flagged_fp32=60,
            flagged_int8=61,
            to_flagged=2,
            to_passed=1,
            flip_share_upper=0.00194,
            largest_score_change=0.0125,
            score_psi=0.00003,
            top_rank_correlation=0.9995,
            right_fp32_only=2,
            right_int8_only=1,
            mcnemar_p=1.0,
        ),
        sizes_bytes={"fp32": 4_000_000, "int8": 1_100_000},
        coverage=(
            NodeCoverage("tower/gemm", "Gemm", "static", "constant weight, rank 2", "QGemm"),
            NodeCoverage(HOSTILE, "Gemm", "static", "constant weight, rank 2", "QGemm"),
            NodeCoverage("softmax", "Softmax", "float", "no integer kernel", "Softmax"),
        ),
        parity=Parity("Q/DQ graph in float32", 1_000_000, 0.99975, 1, 0.003, 512),
        latency=(latency(1), latency(256)),
        gates=(),
        provenance={"data": "transactions.parquet", "CPU": "x86_vnni"},
        notes=("Columns a|b are [raw].",),
    )
    return dataclasses.replace(measured, gates=check_gates(ALL_GATES, measured))


@pytest.fixture(scope="session")
def bare(evaluation: Evaluation) -> Evaluation:
    """A dynamic model: nothing optional was measured, two gates ask for it, nothing flipped."""
    assert evaluation.decisions is not None
    decisions = dataclasses.replace(
        evaluation.decisions, to_flagged=0, to_passed=0, largest_score_change=0.0, score_psi=0.0
    )
    measured = dataclasses.replace(
        evaluation,
        method="dynamic",
        decisions=decisions,
        latency=(),
        parity=None,
        coverage=(),
        notes=(),
        provenance={},
    )
    return dataclasses.replace(measured, gates=check_gates(ALL_GATES, measured))


@pytest.fixture(scope="session")
def undecided(evaluation: Evaluation) -> Evaluation:
    """The change is inside the margin and its interval reaches beyond: more rows are needed."""
    metrics = (change("auc", "AUC", 0.96, 0.9595, 0.002), *evaluation.metrics[1:])
    measured = dataclasses.replace(evaluation, metrics=metrics)
    return dataclasses.replace(measured, gates=check_gates(ALL_GATES, measured))


@pytest.fixture(scope="session")
def full(evaluation: Evaluation) -> Evaluation:
    """Everything that can be measured, with values that are not defined among them."""
    auc = evaluation.metrics[0]
    nowhere = change("auc", "AUC", NAN, NAN)
    groups = (("sex", "female", 0.95, 0.949), ("sex", "male", 1.0, 1.0), ("age", "old", NAN, NAN))
    kinds = ("fgsm", "pgd", "noise", "missing")
    return dataclasses.replace(
        evaluation,
        qat=True,
        decisions=dataclasses.replace(
            evaluation.decisions, cost=change("cost", "Expected cost per row", 1.2, 1.21)
        ),
        agreements=(Agreement("class_agreement", "Same class", 0.99, 0.98, 0.995, "rows", 4000),),
        tests=(TestResult("Kupiec", "the VaR level", 0.4, NAN, 0.7, 0.8, "Kupiec 1995"),),
        segments=(
            SegmentChange("region", "North", 2000, auc, 3, 0.004),
            SegmentChange("region", HOSTILE, 900, change("auc", "AUC", 0.9, 0.89), 2, 0.005),
            SegmentChange("region", "$\\frac{$ \u540d", 30, nowhere, 0, 0.1),
        ),
        fairness=tuple(
            ImpactRatio(column, group, "male", 500, fp32, int8, int8 - fp32 - 0.01, 0.01)
            for column, group, fp32, int8 in groups
        ),
        monotonicity=(MonotonicityResult("income", "decreasing", 4000, 12, 15, 0.001, 0.003),),
        reasons=ReasonStability(
            500, 4, 0.97, 0.96, 0.98, 0.99, "occlusion", {f"c{k}": (90 - k, 88) for k in range(20)}
        ),
        robustness=(
            StressResult("none", 0.0, 1000, change("auc", "AUC", 0.9712, 0.9711), 0, 0, *[NAN] * 3),
            *(
                StressResult(kind, level, 1000, auc, 40, 42, 0.002, -0.004, 0.008, note)
                for kind in kinds
                for level, note in ((0.1, ""), (0.2, "on the graph of FP32"))
            ),
        ),
        latency=(*evaluation.latency, latency(256, 4, "the halves differ by 12 %")),
        throughput=(ThroughputResult(32, 4, 2, 6e4, 1.5e5, 2.5, 2.4, 2.6, cores=2),),
        cold=(ColdStart("fp32", 21.0, 300.0, None, 5), ColdStart("int8", 12.0, 90.0, 10**7, 5)),
        price_per_core_hour=0.04,
        training=History(
            "train QAT", "auc", True, 0.25, 0.91, "loss", (EpochRecord(0, None, 0.3, 0.9),)
        ),
        provenance={**evaluation.provenance, "data sha256": "ab", "FP32 model sha256": "cd"},
    )


@pytest.fixture(scope="session")
def make_sample() -> Callable[..., Sample]:
    """Scores like those of a fraud model: 1 % positives, INT8 with noise on the logit."""

    def make(rows: int = 4000, noise: float = 0.05) -> Sample:
        rng = np.random.default_rng(11)
        labels = (np.arange(rows) % 100 == 0).astype(np.int8)
        logits = rng.normal(-4, 1.3, rows) + 4 * labels
        fp32, int8 = (
            (1 / (1 + np.exp(-values))).astype(np.float32)
            for values in (logits, logits + noise * rng.normal(size=rows))
        )
        return Sample(np.arange(rows), labels, fp32, int8)

    return make


@pytest.fixture(scope="session")
def full_page(full: Evaluation, make_sample: Callable[..., Sample]) -> str:
    return to_html(full, make_sample())


@pytest.fixture(scope="session")
def plain_page(evaluation: Evaluation, make_sample: Callable[..., Sample]) -> str:
    return to_html(evaluation, make_sample())
