from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest

from qtool.config.evaluation import Gates
from qtool.evaluation.gates import check_gates
from qtool.evaluation.results import (
    DecisionChange,
    Evaluation,
    LatencyResult,
    MetricChange,
    NodeCoverage,
    Parity,
    Scores,
)

HOSTILE = "<script>alert('|')</script>"
ALL_GATES = Gates(
    auc_drop=0.002,
    auc_change=0.002,
    decision_flips=0.002,
    score_psi=0.01,
    size_ratio=0.4,
    speedup=1.5,
    equal_codes=0.99,
)


def latency(batch_size: int) -> LatencyResult:
    fp32 = np.linspace(10, 20, 101) * batch_size
    return LatencyResult(
        batch_size, 1, "prepared", tuple(fp32), tuple(fp32 / 2), speedup=2, speedup_low=1.9,
        speedup_high=2.125,
    )  # fmt: skip


@pytest.fixture
def evaluation() -> Evaluation:
    """Numbers chosen by hand, so that the golden file does not depend on a library's rounding."""
    measured = Evaluation(
        name="card-fraud",
        method="static",
        qat=False,
        positives=40,
        metrics=(MetricChange("auc", 0.96, 0.9595), MetricChange("brier", 0.01, 0.010004)),
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


@pytest.fixture
def bare(evaluation: Evaluation) -> Evaluation:
    """A dynamic model: nothing optional was measured, one gate asks for it, nothing flipped."""
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


@pytest.fixture
def make_scores() -> Callable[..., Scores]:
    """Scores like those of a fraud model: 1 % positives, INT8 with noise on the logit."""

    def make(rows: int = 4000, noise: float = 0.05) -> Scores:
        rng = np.random.default_rng(11)
        labels = (np.arange(rows) % 100 == 0).astype(np.int8)
        logits = rng.normal(-4, 1.3, rows) + 4 * labels
        fp32, int8 = (
            (1 / (1 + np.exp(-values))).astype(np.float32)
            for values in (logits, logits + noise * rng.normal(size=rows))
        )
        return Scores(np.arange(rows), labels, fp32, int8)

    return make
