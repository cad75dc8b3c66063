"""The ``evaluation:`` section: metrics, the operating threshold, latency and the gates."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from qtool.config.section import Section

Metric = Literal["auc", "gini", "ks", "pr_auc", "brier", "ece"]


class ThresholdValue(Section):
    """A fixed score; at or above it a row is flagged positive."""

    at: Literal["score"]
    value: float = Field(ge=0, le=1)


class ThresholdRate(Section):
    """The FP32 score, on the calibration split, that reaches a rate.

    ``approval_rate``: that share of rows lies below the threshold.
    ``false_positive_rate``: that share of negative rows lies at or above it.
    """

    at: Literal["approval_rate", "false_positive_rate"]
    value: float = Field(gt=0, lt=1)


Threshold = Annotated[ThresholdValue | ThresholdRate, Field(discriminator="at")]


class Decision(Section):
    """How a score becomes a decision."""

    threshold: Threshold = ThresholdValue(at="score", value=0.5)


class Latency(Section):
    """How the latency of FP32 and INT8 is compared."""

    enabled: bool = True
    blocks: int = Field(40, ge=5, description="interleaved FP32/INT8 blocks per batch size")
    block_ms: float = Field(10.0, gt=0, description="duration of one block, milliseconds")


class Gates(Section):
    """Limits that decide the exit code; a gate left out is not checked."""

    auc_drop: float | None = Field(None, ge=0, description="largest FP32 AUC - INT8 AUC")
    auc_change: float | None = Field(None, ge=0, description="largest |FP32 AUC - INT8 AUC|")
    decision_flips: float | None = Field(None, ge=0, le=1, description="largest share of flips")
    score_psi: float | None = Field(None, ge=0, description="largest PSI of the scores")
    size_ratio: float | None = Field(None, gt=0, description="largest INT8 / FP32 file size")
    speedup: float | None = Field(
        None, gt=0, description="smallest FP32 / INT8 latency at the largest batch size"
    )
    equal_codes: float | None = Field(
        None, ge=0, le=1, description="smallest share of equal codes, simulation against runtime"
    )


class Evaluation(Section):
    """What is compared between FP32 and INT8, and what must hold."""

    metrics: list[Metric] = Field(["auc", "gini", "ks", "pr_auc", "brier", "ece"], min_length=1)
    decision: Decision = Decision()
    latency: Latency = Latency()
    gates: Gates = Gates()
