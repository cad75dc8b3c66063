"""The result of ``evaluate``: frozen values that every report format reads."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from qtool.history import History

Better = Literal["higher", "lower"]
Verdict = Literal["pass", "fail", "undecided"]
BOUND_CONFIDENCE = 0.95
SpeedFinding = Literal["faster", "slower", "no difference", "too noisy"]


@dataclass(frozen=True)
class MetricChange:
    """One metric on FP32 and on INT8, of the same rows.

    Attributes:
        name: as in the config.
        title: as the field writes it.
        better: which of two values is the better one.
        fp32: value.
        int8: value.
        low: lower end of the confidence interval of INT8 minus FP32; NaN without one.
        high: upper end.
        error: standard error of INT8 minus FP32.
        confidence: of the interval, two-sided.
        interval: how the interval was computed, such as ``DeLong``.
        rows: rows (or clusters of rows) that it was computed from.
        bound_low: one-sided lower bound of INT8 minus FP32 at ``BOUND_CONFIDENCE``, by which a gate
            is decided: it errs on the side of doubt; NaN without one.
        bound_high: upper bound.
    """

    name: str
    title: str
    better: Better
    fp32: float
    int8: float
    low: float
    high: float
    error: float
    confidence: float
    interval: str
    rows: int
    bound_low: float = float("nan")
    bound_high: float = float("nan")

    @property
    def change(self) -> float:
        """INT8 minus FP32."""
        return self.int8 - self.fp32

    @property
    def drop(self) -> float:
        """How much worse INT8 is; negative when it is better."""
        return self.change if self.better == "lower" else -self.change


@dataclass(frozen=True)
class Agreement:
    """How often both models say the same, such as the class, the token or the nearest neighbours.

    Attributes:
        name: as in a gate, such as ``class_agreement``.
        title: in words.
        share: of ``units`` on which they agree, or the mean overlap of each.
        low: lower end of the confidence interval.
        high: upper end.
        units: what was counted, and of how many, in words.
        count: how many.
    """

    name: str
    title: str
    share: float
    low: float
    high: float
    units: str
    count: int


@dataclass(frozen=True)
class TestResult:
    """A statistical test of what one model says, on FP32 and INT8, such as Kupiec's.

    Attributes:
        name: of the test.
        hypothesis: what a small p-value speaks against.
        fp32: p-value.
        int8: p-value.
        statistic_fp32: test statistic.
        statistic_int8: test statistic.
        source: publication.
    """

    name: str
    hypothesis: str
    fp32: float
    int8: float
    statistic_fp32: float
    statistic_int8: float
    source: str


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
        flip_share_upper: one-sided 95 % Clopper-Pearson bound of the flip share, of
            ``effective_rows``.
        largest_score_change: largest |INT8 - FP32| score.
        score_psi: population stability index of the scores, INT8 against FP32.
        top_rank_correlation: Spearman's, of the rows in the top decile of FP32.
        right_fp32_only: rows that FP32 decides correctly and INT8 does not.
        right_int8_only: the reverse.
        mcnemar_p: p-value of McNemar's exact test that INT8 errs as often as FP32; where rows
            depend on each other, of its form for clusters.
        cost: expected cost per row, with a cost matrix.
        effective_rows: independent rows that say as much about the flip share; the rows themselves
            unless they come in clusters or blocks. NaN: not known, all rows are taken as
            independent.
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
    top_rank_correlation: float = float("nan")
    right_fp32_only: int = 0
    right_int8_only: int = 0
    mcnemar_p: float = float("nan")
    cost: MetricChange | None = None
    effective_rows: float = float("nan")

    @property
    def flip_share(self) -> float:
        """Share of rows whose decision changed."""
        return (self.to_flagged + self.to_passed) / self.rows


@dataclass(frozen=True)
class SegmentChange:
    """The first metric and the decisions in the rows with one value of one column.

    Attributes:
        column: of the source.
        value: of the column, or its range in words.
        rows: how many have it.
        metric: NaN values where it is not defined, as with one class only.
        flips: decisions, or predicted classes, that differ; None where there are none.
        flip_share_upper: one-sided upper bound of their share, corrected for the number of
            segments (Bonferroni); NaN without decisions.
    """

    column: str
    value: str
    rows: int
    metric: MetricChange
    flips: int | None
    flip_share_upper: float


@dataclass(frozen=True)
class ImpactRatio:
    """Share of favourable decisions in a group over that of the group with the largest share.

    Attributes:
        column: protected column.
        group: its value.
        reference: the value of the group with the largest FP32 share.
        rows: of the group.
        fp32: ratio; NaN where the model favours nobody of the reference.
        int8: ratio.
        low: lower end of the confidence interval of INT8 minus FP32; NaN where a ratio is.
        high: upper end.
    """

    column: str
    group: str
    reference: str
    rows: int
    fp32: float
    int8: float
    low: float
    high: float


@dataclass(frozen=True)
class MonotonicityResult:
    """Steps along one column that move the score against its direction.

    Attributes:
        column: raw column.
        direction: increasing or decreasing.
        steps: pairs of neighbouring values that were compared, over all rows.
        fp32: violations of FP32.
        int8: violations of INT8.
        largest_fp32: largest move of the score in the wrong direction.
        largest_int8: the same for INT8.
    """

    column: str
    direction: str
    steps: int
    fp32: int
    int8: int
    largest_fp32: float
    largest_int8: float


@dataclass(frozen=True)
class ReasonStability:
    """The columns that explain flagged rows, FP32 against INT8.

    Attributes:
        rows: explained rows.
        top: columns named per row.
        overlap: mean share of the columns that both name.
        low: lower end of its confidence interval.
        high: upper end.
        same_first: share of rows with the same first column.
        method: how a column's part was measured.
        columns: column → how often FP32 and INT8 name it.
    """

    rows: int
    top: int
    overlap: float
    low: float
    high: float
    same_first: float
    method: str
    columns: dict[str, tuple[int, int]]


@dataclass(frozen=True)
class StressResult:
    """The first metric, and decisions, of both models on changed rows.

    Attributes:
        kind: ``fgsm``, ``pgd``, ``transfer``, ``black_box``, ``noise`` or ``missing``; ``none`` of
            level 0: the same rows before any change.
        level: size of the change: of an attack, the share of every range; of noise, its standard
            deviation in those of the columns; of missing, the share of the values.
        rows: how many.
        metric: on the changed rows; of an attack each model is judged on its own.
        succeeded_fp32: rows whose decision the change turned; 0 without decisions.
        succeeded_int8: the same for INT8.
        difference: share turned of INT8 minus that of FP32, with its interval; NaN without
            decisions.
        low: lower end.
        high: upper end.
        note: how the rows were made where it is not what the kind says; else empty.
    """

    kind: str
    level: float
    rows: int
    metric: MetricChange
    succeeded_fp32: int
    succeeded_int8: int
    difference: float
    low: float
    high: float
    note: str = ""


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
        noisy: why the machine was too noisy to decide; empty when it was not.
        preempted: share of the timed calls in which another process took the core: a percentile
            beyond 1 - ``preempted`` tells of the machine rather than of the model.
    """

    batch_size: int
    threads: int
    fp32_model: str
    fp32_us: tuple[float, ...]
    int8_us: tuple[float, ...]
    speedup: float
    speedup_low: float
    speedup_high: float
    noisy: str = ""
    preempted: float = 0.0

    @property
    def finding(self) -> SpeedFinding:
        """What the interval says; a difference below 1 % on its near side is none.

        The clock alone, read twice per call, adds about 1 % to a call of ten microseconds.
        """
        return _speed_finding(self.speedup_low, self.speedup_high, self.noisy)


@dataclass(frozen=True)
class ThroughputResult:
    """Rows per second of parallel sessions at one batch size.

    Attributes:
        batch_size: rows per call.
        sessions: how many run at once, each with ``threads``.
        threads: of each session.
        fp32: rows per second.
        int8: rows per second.
        ratio: INT8 over FP32, median over interleaved rounds.
        low: lower end of its 95 % interval.
        high: upper end.
        fp32_model: which FP32 model is the baseline: the faster of ``prepared`` and ``original``.
        cores: that the sessions ran on: sessions x threads, or all there are.
        noisy: why the machine was too noisy to decide; empty when it was not.
    """

    batch_size: int
    sessions: int
    threads: int
    fp32: float
    int8: float
    ratio: float
    low: float
    high: float
    fp32_model: str = "prepared"
    cores: int = 1
    noisy: str = ""

    @property
    def finding(self) -> SpeedFinding:
        """What the interval says; a difference below 1 % on its near side is none."""
        return _speed_finding(self.low, self.high, self.noisy)

    @property
    def note(self) -> str:
        """Says so when there were fewer cores than threads; empty when there were enough."""
        if self.cores >= self.sessions * self.threads:
            return ""
        each = "thread" if self.threads == 1 else "threads"
        return f"{self.sessions} sessions of {self.threads} {each} shared {self.cores} cores"


def _speed_finding(low: float, high: float, noisy: str) -> SpeedFinding:
    if noisy:
        return "too noisy"
    return "faster" if low > 1.01 else "slower" if high < 1 / 1.01 else "no difference"


@dataclass(frozen=True)
class ColdStart:
    """One model in processes of its own: fresh ones, medians.

    Attributes:
        model: ``fp32`` or ``int8``.
        load_ms: from the file to a session; the file is in the page cache.
        first_us: first call.
        peak_bytes: largest resident memory of the process above that before loading, first call
            included; None where the system does not tell (only Linux does).
        processes: how many were started for each figure.
        batch_size: rows of the first call.
        uncached_load_ms: ``load_ms`` after the files were dropped from the page cache; NaN where
            the system cannot drop them, or kept them.
        uncached_first_us: first call after that: weights in files of their own may be read there.
    """

    model: str
    load_ms: float
    first_us: float
    peak_bytes: int | None
    processes: int
    batch_size: int = 1
    uncached_load_ms: float = float("nan")
    uncached_first_us: float = float("nan")


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
class Move:
    """One figure of how far the outputs move from FP32 to INT8.

    Attributes:
        title: in words.
        value: in the unit of the output, or none; NaN where it is not defined.
    """

    title: str
    value: float


@dataclass(frozen=True)
class LayerError:
    """How well the codes of one activation, or the output of INT8, stand for the FP32 values.

    Attributes:
        name: of the activation.
        sqnr_db: signal-to-quantization-noise ratio, decibels; NaN where all values are equal.
    """

    name: str
    sqnr_db: float


@dataclass(frozen=True)
class GateResult:
    """One gate: the measured value and its confidence bound against the limit.

    Attributes:
        name: as in the config.
        verdict: ``pass``: the bound is inside the limit; ``fail``: so is no value of the interval;
            ``undecided``: there are too few rows.
        value: point estimate; NaN when it was not measured.
        bound: one-sided confidence bound that was compared; ``value`` where there is no doubt.
        limit: from the config.
        confidence: of the bound; NaN where there is none.
        text: what was found, in words.
        rows_needed: rows that would decide, if the estimate stays; None when decided.
    """

    name: str
    verdict: Verdict
    value: float
    bound: float
    limit: float
    confidence: float
    text: str
    rows_needed: int | None = None


@dataclass(frozen=True)
class Tuned:
    """What a tuning did to one layer.

    Attributes:
        method: of the tuning.
        layer: name of the node.
        criterion: what the tuning makes smaller, in words.
        before: its value before.
        after: its value after; not larger, as a layer that would get worse is left as it was.
        reason: why nothing was done; empty when something was.
    """

    method: str
    layer: str
    criterion: str
    before: float
    after: float
    reason: str = ""


@dataclass(frozen=True)
class PrunedLayer:
    """What pruning did to one layer.

    Attributes:
        layer: name of the node.
        before: its units: outputs of a dense layer, channels of a convolution.
        after: those that stayed.
        coupled: layers that lost the same units, whose outputs are added to its own.
        reason: why all stayed; empty when some went.
    """

    layer: str
    before: int
    after: int
    coupled: tuple[str, ...] = ()
    reason: str = ""


@dataclass(frozen=True)
class Ancestor:
    """One model on the way to the INT8 one, on the evaluation rows.

    Attributes:
        title: in words, such as ``teacher``.
        metrics: name of the metric → value.
        size_bytes: of the file.
    """

    title: str
    metrics: dict[str, float]
    size_bytes: int


@dataclass(frozen=True)
class SearchTrial:
    """A model that a search tried, judged on the rows of the search.

    Attributes:
        origin: how the search came to it, in words.
        error: mean squared change of the predictions as a share of their variance.
        size_ratio: INT8 over FP32 file size.
        speedup: geometric mean over the batch sizes; NaN where it was not measured.
        predicted: speed-up that was predicted; NaN where none was.
        passes: whether all gates may be expected to pass.
        chosen: whether it is the answer.
    """

    origin: str
    error: float
    size_ratio: float
    speedup: float
    predicted: float
    passes: bool
    chosen: bool


@dataclass(frozen=True)
class SearchResult:
    """What the method ``auto`` did.

    Attributes:
        reason: of the answer, in words with the figures.
        seconds: that the search took.
        rows: that candidates were judged on, of the calibration split.
        trials: in the order in which they were tried.
    """

    reason: str
    seconds: float
    rows: int
    trials: tuple[SearchTrial, ...]


@dataclass(frozen=True)
class Evaluation:
    """Everything ``evaluate`` found out.

    ``decisions`` is None for tasks without a threshold; ``latency`` is empty when it was not
    measured; ``parity`` is None for the dynamic method, ``training`` without quantization-aware
    training. ``provenance`` is shown as a table: what was evaluated, from which files, by which
    versions, on which CPU. ``quantiles`` are the levels of a regression's outputs, empty for point
    predictions; ``classes`` the names of the classes where the labels are text. ``tuning`` says
    what tunings did to each layer, ``search`` what was tried where the method is ``auto``,
    ``pruning`` how wide each layer was, ``ancestors`` how good the models before INT8 were.
    ``system`` are the figures of the user's system, ``system_timed`` those of them from a clock.
    """

    name: str
    task: str
    method: str
    qat: bool
    rows: int
    positives: int | None
    metrics: tuple[MetricChange, ...]
    decisions: DecisionChange | None
    sizes_bytes: dict[str, int]
    coverage: tuple[NodeCoverage, ...]
    parity: Parity | None
    latency: tuple[LatencyResult, ...]
    gates: tuple[GateResult, ...]
    provenance: dict[str, str]
    notes: tuple[str, ...] = field(default=())
    training: History | None = None
    agreements: tuple[Agreement, ...] = ()
    tests: tuple[TestResult, ...] = ()
    segments: tuple[SegmentChange, ...] = ()
    fairness: tuple[ImpactRatio, ...] = ()
    monotonicity: tuple[MonotonicityResult, ...] = ()
    reasons: ReasonStability | None = None
    robustness: tuple[StressResult, ...] = ()
    throughput: tuple[ThroughputResult, ...] = ()
    cold: tuple[ColdStart, ...] = ()
    price_per_core_hour: float | None = None
    layer_errors: tuple[LayerError, ...] = ()
    moves: tuple[Move, ...] = ()
    quantiles: tuple[float, ...] = ()
    classes: tuple[str, ...] = ()
    tuning: tuple[Tuned, ...] = ()
    search: SearchResult | None = None
    pruning: tuple[PrunedLayer, ...] = ()
    ancestors: tuple[Ancestor, ...] = ()
    system: tuple[MetricChange, ...] = ()
    system_timed: tuple[MetricChange, ...] = ()

    @property
    def verdict(self) -> Verdict:
        """``fail`` if a gate fails, else ``undecided`` if one is, else ``pass``."""
        found = {gate.verdict for gate in self.gates}
        return "fail" if "fail" in found else "undecided" if "undecided" in found else "pass"

    @property
    def passed(self) -> bool:
        """Every gate passed."""
        return self.verdict == "pass"

    @property
    def size_ratio(self) -> float:
        """INT8 file size over FP32 file size."""
        return self.sizes_bytes["int8"] / self.sizes_bytes["fp32"]
