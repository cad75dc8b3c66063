"""The result of ``evaluate``: frozen values that every report format reads."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from qtool.history import History


@dataclass(frozen=True)
class Scores:
    """Labels and scores of the same rows, shape (rows,); scores are probabilities."""

    rows: NDArray[np.int64]
    labels: NDArray[np.int8]
    fp32: NDArray[np.float32]
    int8: NDArray[np.float32]


@dataclass(frozen=True)
class MetricChange:
    """One metric on FP32 and on INT8 scores."""

    name: str
    fp32: float
    int8: float

    @property
    def change(self) -> float:
        """INT8 minus FP32."""
        return self.int8 - self.fp32


@dataclass(frozen=True)
class DecisionChange:
    """Decisions at the operating threshold (flagged when score >= threshold).

    Attributes:
        threshold: score.
        threshold_rule: how the threshold was found, in words.
        rows: decisions compared.
        flagged_fp32: rows flagged by FP32.
        flagged_int8: rows flagged by INT8.
        to_flagged: flipped from not flagged to flagged.
        to_passed: flipped from flagged to not flagged.
        flip_share_upper: one-sided 95 % Clopper-Pearson bound of the flip share.
        largest_score_change: largest |INT8 - FP32| score.
        score_psi: population stability index of the scores, INT8 against FP32.
    """

    threshold: float
    threshold_rule: str
    rows: int
    flagged_fp32: int
    flagged_int8: int
    to_flagged: int
    to_passed: int
    flip_share_upper: float
    largest_score_change: float
    score_psi: float

    @property
    def flip_share(self) -> float:
        """Share of rows whose decision changed."""
        return (self.to_flagged + self.to_passed) / self.rows


@dataclass(frozen=True)
class LatencyResult:
    """FP32 and INT8 latency at one batch size, from interleaved blocks, microseconds per call.

    Attributes:
        batch_size: rows per call.
        threads: threads of each session.
        fp32_model: which FP32 model is the baseline: the faster of ``prepared`` and ``original``.
        fp32_us: one latency per timed call.
        int8_us: one latency per timed call.
        speedup: median over blocks of (FP32 block median / INT8 block median).
        speedup_low: lower end of its 95 % bootstrap interval over blocks.
        speedup_high: upper end.
    """

    batch_size: int
    threads: int
    fp32_model: str
    fp32_us: tuple[float, ...]
    int8_us: tuple[float, ...]
    speedup: float
    speedup_low: float
    speedup_high: float


@dataclass(frozen=True)
class NodeCoverage:
    """One node of the prepared graph: what was planned, why, and what the runtime executes."""

    name: str
    op_type: str
    treatment: str
    reason: str
    runs_as: str


@dataclass(frozen=True)
class Parity:
    """A simulation of the quantized arithmetic against ONNX Runtime's integer kernels.

    Attributes:
        simulation: what was simulated with: the fake-quant torch graph that QAT trained, or the
            Q/DQ graph in float32.
        codes: activation codes compared; of the output where no activation has codes.
        equal_share: share of them that are equal.
        largest_code_difference: in quantization steps.
        largest_output_difference: largest absolute difference of the model's output.
        rows: rows compared.
    """

    simulation: str
    codes: int
    equal_share: float
    largest_code_difference: int
    largest_output_difference: float
    rows: int


@dataclass(frozen=True)
class GateResult:
    """One gate: the measured value against its limit."""

    name: str
    passed: bool
    value: float
    limit: float
    text: str


@dataclass(frozen=True)
class Evaluation:
    """Everything ``evaluate`` found out.

    ``latency`` is empty when it was not measured; ``parity`` is None for the dynamic method,
    ``training`` without quantization-aware training.
    ``provenance`` is shown as a table: what was evaluated, from which files, by which versions, on
    which CPU.
    """

    name: str
    method: str
    qat: bool
    positives: int
    metrics: tuple[MetricChange, ...]
    decisions: DecisionChange
    sizes_bytes: dict[str, int]
    coverage: tuple[NodeCoverage, ...]
    parity: Parity | None
    latency: tuple[LatencyResult, ...]
    gates: tuple[GateResult, ...]
    provenance: dict[str, str]
    notes: tuple[str, ...] = field(default=())
    training: History | None = None

    @property
    def passed(self) -> bool:
        """Every gate passed."""
        return all(gate.passed for gate in self.gates)

    @property
    def size_ratio(self) -> float:
        """INT8 file size over FP32 file size."""
        return self.sizes_bytes["int8"] / self.sizes_bytes["fp32"]
