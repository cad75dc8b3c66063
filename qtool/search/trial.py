"""A candidate of the search, what was found out about it, and both as lines of a file."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterable
from dataclasses import dataclass

from pydantic import TypeAdapter

from qtool.config.quantization import StaticQuantization
from qtool.errors import reading
from qtool.evaluation.results import GateResult, LatencyResult, MetricChange
from qtool.runs import digest


@dataclass(frozen=True)
class Candidate:
    """What is tried.

    Attributes:
        section: a ``quantization`` section from which the model follows.
        places: where its layers come from, in words.
        predicted: time as a share of FP32's; NaN where nothing is predicted.
    """

    section: StaticQuantization
    places: str
    predicted: float

    @property
    def origin(self) -> str:
        """Where its layers come from, and what is done to them, in words."""
        section, words = self.section, [self.places]
        if section.columns != "auto":
            words.append(f"columns {section.columns}")
        words += [tuning.method for tuning in section.tuning]
        if section.observer.method != "mse":
            words.append(f"observer {section.observer.method}")
        words += [f"{r.match}: {r.observer.method}" for r in section.layers if r.observer]
        return ", ".join(words)

    @property
    def key(self) -> str:
        """Tells it from all other candidates."""
        return digest(self.section.model_dump(mode="json"))[:16]


@dataclass(frozen=True)
class Trial:
    """A candidate that was built and judged.

    Attributes:
        candidate: what was tried.
        error: mean squared change of the predictions as a share of their variance.
        metrics: changes of the metrics on the search rows.
        gates: results on the search rows, but for those in ``LATE``.
        size_bytes: of the INT8 file.
        seconds: that building and judging took.
        latency: at the batch sizes of the target; empty until it is measured.
        evaluation_rows: rows of the split that the final verdict is made on.
        reason: why it cannot be built, such as two observers for what two layers read; empty when
            it was.
    """

    candidate: Candidate
    error: float
    metrics: tuple[MetricChange, ...]
    gates: tuple[GateResult, ...]
    size_bytes: int
    seconds: float
    latency: tuple[LatencyResult, ...]
    evaluation_rows: int
    reason: str = ""

    @property
    def speedup(self) -> float:
        """Geometric mean over the batch sizes; NaN until it is measured."""
        if not self.latency:
            return math.nan
        return math.exp(sum(math.log(found.speedup) for found in self.latency) / len(self.latency))

    @property
    def violation(self) -> float:
        """How far it is from passing: the sum over gates of bound minus limit, as shares of it.

        A gate that is undecided here counts as passed where the evaluation split has the rows that
        it needs.
        """
        if self.reason:
            return math.inf
        return sum(_violation(gate, self.evaluation_rows) for gate in self.gates)

    @property
    def failing(self) -> tuple[GateResult, ...]:
        """The gates that may not be expected to pass."""
        return tuple(gate for gate in self.gates if _violation(gate, self.evaluation_rows))

    @property
    def feasible(self) -> bool:
        """Whether all gates may be expected to pass."""
        return self.violation == 0


def _violation(gate: GateResult, rows: int) -> float:
    if gate.verdict == "pass":
        return 0.0
    if gate.verdict == "undecided" and gate.rows_needed is not None and gate.rows_needed <= rows:
        return 0.0
    if math.isnan(gate.bound) or math.isinf(gate.bound):
        return 1.0
    return max(abs(gate.bound - gate.limit) / max(abs(gate.limit), 1e-9), 1e-9)


_TRIAL = TypeAdapter(Trial)


def to_line(trial: Trial) -> str:
    """Returns the trial as one line of JSON."""
    stored = dataclasses.asdict(trial)
    stored["candidate"]["section"] = trial.candidate.section.model_dump(mode="json")
    return json.dumps(stored)


def from_lines(lines: Iterable[str], where: str) -> tuple[Trial, ...]:
    """Returns the trials that ``to_line`` wrote; the last of a candidate holds.

    A last line that a kill left unfinished is passed over.

    Raises:
        StaleArtifactError: another line is no trial of this version.
    """
    found: dict[str, Trial] = {}
    for line in lines:
        if not line.endswith("\n"):
            break
        with reading("a trial of the search", where):
            trial = _TRIAL.validate_json(line)
        found[trial.candidate.key] = trial
    return tuple(found.values())
