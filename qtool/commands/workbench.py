"""Where candidates of the search are built and judged, each by what differs from the others.

Rows, FP32 predictions, rewritten graphs and calibration statistics are made once and shared.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import onnx_ir as ir
from numpy.typing import NDArray

from qtool.calibration.calibrate import Statistics
from qtool.calibration.rows import Inputs
from qtool.calibration.sample import masks_of, observe_sample
from qtool.calibration.settled import settle
from qtool.commands.accuracy import Threshold, accuracy, judging_of
from qtool.commands.calibrate import EMULATED_ROWS, read_plan
from qtool.commands.context import Context
from qtool.commands.prepare import MODEL, PARITY, dataset, fp32_stage, prepared_stage
from qtool.commands.quantize import INT8_MODEL, read_coverage, write_artifacts
from qtool.commands.scoring import (
    Models,
    batch_rows,
    judging_columns,
    quantile_levels,
    reader,
    whole,
)
from qtool.commands.tuning import rows_of
from qtool.config.evaluation import Evaluation as EvaluationSection
from qtool.config.experiment import Experiment
from qtool.config.quantization import AutoQuantization, StaticQuantization
from qtool.config.tuning import NumberTuning, Rewrite
from qtool.data.batch import Batch
from qtool.data.dataset import Dataset
from qtool.data.sampling import calibration_rows, choose_rows
from qtool.errors import ConfigError, ModelError
from qtool.evaluation.decisions import operating_threshold
from qtool.evaluation.gates import check_gates, gate_named
from qtool.evaluation.metrics.metric import Metric
from qtool.evaluation.metrics.registry import metrics_of
from qtool.evaluation.moves import error_share
from qtool.evaluation.results import Evaluation, GateResult, LatencyResult
from qtool.evaluation.sample import Sample
from qtool.evaluation.speed import compare_latency
from qtool.graph.model_file import model_sha256, read_model, write_model
from qtool.graph.parameters import Parameters, derive
from qtool.graph.plan import Plan
from qtool.graph.planner import make_plan
from qtool.numerics.tensor_statistics import TensorStatistics
from qtool.progress import SilentProgress
from qtool.runs import digest
from qtool.runtime.cpu import detect
from qtool.runtime.sessions import Arrays, Session
from qtool.search.trial import Candidate, Trial
from qtool.tuning.apply import rewritten, tuned

LATE = ("equal_codes", "monotonicity", "p99_ms", "reason_overlap", "robustness_drop")
"""Gates on what takes longest to measure, beside those on the user's system: judged of the answer
only, by ``evaluate``. The 20 rounds of a trial have too few calls for a percentile."""
IMPACT = {"adverse_impact", "adverse_impact_drop"}
ROUNDS, KEPT_CALLS = 20, 2000
"""Interleaved rounds of a comparison of candidates, and calls that a trial keeps of them."""
SILENT = SilentProgress()


class Workbench:
    """Builds and judges the candidates of one experiment."""

    def __init__(self, context: Context, section: AutoQuantization, folder: Path) -> None:
        """Opens the FP32 model.

        Args:
            context: the experiment.
            section: rows of the search, and what calibration needs.
            folder: where INT8 models lie while the search runs; it exists.
        """
        lean = context.experiment.model_copy(update={"evaluation": _lean(context.experiment)})
        self.context = context.of(lean)
        self.section, self.folder = section, folder
        self.original = fp32_stage(context) / MODEL
        self.prepared = prepared_stage(context) / MODEL
        self._metrics = _gated_metrics(context.experiment)
        self._graphs: dict[str, tuple[ir.Model, str]] = {}
        self._statistics: dict[tuple[str, str, int | None], TensorStatistics] = {}
        self._batches: dict[int, list[Batch]] = {}
        self._fp32 = Session(self.original, "the FP32 model")
        self._remembered: dict[int, Remembered] = {}

    @property
    def rows(self) -> int:
        """How many rows candidates are judged on."""
        return min(self.section.rows, self._data.fitted.counts.rows["calibration"])

    @property
    def measures(self) -> bool:
        """Whether this CPU is the target."""
        return detect().target == self.context.target.name

    def judge(self, candidate: Candidate) -> Trial:
        """Returns the trial of a candidate, without latency."""
        started = time.monotonic()
        rows = self._data.fitted.counts.rows["evaluation"]
        try:
            sample, models = self._scored(candidate), self._models(candidate)
        except (ConfigError, ModelError) as error:
            seconds = time.monotonic() - started
            return Trial(candidate, math.inf, (), (), 0, seconds, (), rows, str(error))
        threshold = self._threshold(sample)
        judging = judging_of(self.context, models, self._metrics, sample, threshold)
        evaluation = accuracy(judging, self._metrics, threshold)
        return Trial(
            candidate,
            error_share(sample.fp32, sample.int8),
            evaluation.metrics,
            self._gates(evaluation, timed=False),
            evaluation.sizes_bytes["int8"],
            time.monotonic() - started,
            (),
            rows,
        )

    def time(self, trials: Sequence[Trial]) -> tuple[Trial, ...]:
        """Returns the trials with their latencies, of one interleaved run."""
        experiment, target = self.context.experiment, self.context.experiment.target
        latency = experiment.evaluation.latency
        rows = next(self._data.batches("calibration", max(target.batch_sizes))).inputs
        found = compare_latency(
            {"prepared": self.prepared, "original": self.original},
            {t.candidate.key: self.folder_of(t.candidate) / INT8_MODEL for t in trials},
            rows,
            target.batch_sizes,
            target.threads,
            latency.model_copy(update={"blocks": min(latency.blocks, ROUNDS), "threads": None}),
            self.context.progress,
        )
        return tuple(self._timed(trial, found[trial.candidate.key]) for trial in trials)

    def folder_of(self, candidate: Candidate) -> Path:
        """Returns the folder with model, plan and coverage of a candidate, made when it is asked.

        Raises:
            QtoolError: as the stages of the pipeline do.
        """
        folder = self.folder / candidate.key
        if not folder.is_dir():
            model, plan, numbers = self._numbers(candidate.section)
            unfinished = self.folder / f"{candidate.key}.new"
            unfinished.mkdir(exist_ok=True)
            write_artifacts(unfinished, model, plan, numbers, qat=False)
            unfinished.rename(folder)
        return folder

    def _timed(self, trial: Trial, latency: Sequence[LatencyResult]) -> Trial:
        experiment = self.context.experiment
        evaluation = Evaluation(
            name=experiment.name,
            task=experiment.task,
            method="auto",
            qat=False,
            rows=0,
            positives=None,
            metrics=(),
            decisions=None,
            sizes_bytes={},
            coverage=(),
            parity=None,
            latency=tuple(latency),
            gates=(),
            provenance={},
        )
        timed = self._gates(evaluation, timed=True)
        names = {gate.name for gate in timed}
        others = [gate for gate in trial.gates if gate.name not in names]
        kept = tuple(_thinned(result) for result in latency)
        return dataclasses.replace(trial, latency=kept, gates=(*others, *timed))

    def _numbers(self, section: StaticQuantization) -> tuple[ir.Model, Plan, Parameters]:
        """Returns the graph, the plan and all numbers of a section, as the pipeline makes them."""
        rewrites = [one for one in section.tuning if isinstance(one, Rewrite)]
        model, sha256 = self._graph(rewrites)
        plan = make_plan(model, sha256, section, self.context.target)
        settled = settle(model, plan, self._seen(model, plan, sha256), section, self._first)
        numbers = derive(model, settled.plan, settled.ranges)
        tunings = [one for one in section.tuning if isinstance(one, NumberTuning)]
        numbers, _ = tuned(model, settled.plan, numbers, tunings, rows_of(self.context), SILENT)
        return model, settled.plan, numbers

    def _graph(self, rewrites: list[Rewrite]) -> tuple[ir.Model, str]:
        """Returns the prepared graph as rewrites leave it, and the digest of its file."""
        if not rewrites:
            return self._prepared
        key = digest({"rewrites": [section.model_dump(mode="json") for section in rewrites]})[:16]
        if key not in self._graphs:
            model, _ = rewritten(
                self._prepared[0],
                rewrites,
                rows_of(self.context),
                SILENT,
                masks=masks_of(self._data),
                per_channel=self.section.per_channel,
            )
            file = self.folder / f"{key}.onnx"
            write_model(file, model)
            self._graphs[key] = model, model_sha256(file)
        return self._graphs[key]

    @cached_property
    def _prepared(self) -> tuple[ir.Model, str]:
        return read_model(self.prepared), model_sha256(self.prepared)

    def _seen(self, model: ir.Model, plan: Plan, sha256: str) -> Statistics:
        """Returns the statistics of a plan's activations, observing what no other plan had."""
        keys = {name: (sha256, name, plan.activations[name].axis) for name in plan.calibrated}
        new = {name for name, key in keys.items() if key not in self._statistics}
        if new:
            specs = {name: plan.activations[name] for name in new}
            part = dataclasses.replace(plan, activations=specs, shares={})
            seed = self.context.experiment.seed
            found, _ = observe_sample(self._data, model, part, self.section, seed, SILENT)
            self._statistics.update({keys[name]: found[name] for name in new})
        return {name: self._statistics[key] for name, key in keys.items()}

    @cached_property
    def _data(self) -> Dataset:
        return dataset(self.context)

    @cached_property
    def _first(self) -> Inputs:
        """Rows on which saturation is emulated."""
        share, seed = self.section.minimum_class_share, self.context.experiment.seed
        rows = calibration_rows(self._data, EMULATED_ROWS, share, seed, EMULATED_ROWS)
        return next(rows).inputs

    def _rows(self, batch_rows: int) -> list[Batch]:
        """Returns the rows that candidates are judged on, held in memory."""
        if batch_rows not in self._batches:
            seed, columns = self.context.experiment.seed, judging_columns(self.context.experiment)
            everything = self._data.row_numbers("calibration")
            # Without a share of its own for a class: rates are those of the split.
            chosen = choose_rows(everything, self.section.rows, 0.0, seed)
            found = self._data.batches("calibration", batch_rows, chosen, columns=columns)
            self._batches[batch_rows] = list(found)
        return self._batches[batch_rows]

    def _scored(self, candidate: Candidate) -> Sample:
        """Returns the search rows as FP32 and a candidate score them."""
        folder = self.folder_of(candidate)
        experiment, plan = self.context.experiment, read_plan(folder)
        size = batch_rows(experiment, plan)
        if size not in self._remembered:
            self._remembered[size] = Remembered(self._fp32)
        fp32 = self._remembered[size]
        fp32.rewind()
        read = reader(experiment, (fp32, Session(folder / INT8_MODEL, "the INT8 model")))
        return whole([read(batch) for batch in self._rows(size)], self._data)

    def _models(self, candidate: Candidate) -> Models:
        folder = self.folder_of(candidate)
        int8, plan = folder / INT8_MODEL, read_plan(folder)
        parity = folder / PARITY
        return Models(self.original, self.prepared, int8, plan, read_coverage(folder), parity, None)

    def _threshold(self, sample: Sample) -> Threshold | None:
        experiment = self.context.experiment
        if experiment.task != "binary_classification":
            return None
        section = experiment.evaluation.decision.threshold
        return operating_threshold(section, sample.labels, sample.fp32)

    def _gates(self, evaluation: Evaluation, *, timed: bool) -> tuple[GateResult, ...]:
        """Returns the gates that a clock decides, or the others but for ``LATE``."""
        section = self.context.experiment.evaluation
        limits, figures = section.gates, section.gated_figures
        known = {name: gate.timed for name in limits if (gate := gate_named(name)) is not None}
        asked = {
            name: limit
            for name, limit in limits.items()
            if known.get(name, False) == timed
            and name not in LATE
            and name.rpartition("_")[0] not in figures
        }
        return check_gates(asked, evaluation)


def _lean(experiment: Experiment) -> EvaluationSection:
    """Returns the evaluation section without what no gate of the search reads."""
    section = experiment.evaluation
    decision, gates = section.decision, section.gates
    return section.model_copy(
        update={
            "segments": section.segments if "worst_segment_drop" in gates else [],
            "fairness": section.fairness if {*gates} & IMPACT else None,
            "decision": decision
            if "cost_increase" in gates
            else decision.model_copy(update={"cost": None}),
        }
    )


def _gated_metrics(experiment: Experiment) -> tuple[Metric, ...]:
    """Returns the metrics with a gate, after the first one, which judges segments."""
    section = experiment.evaluation
    first, *others = metrics_of(experiment.task, section, quantile_levels(experiment))
    gates = {name.removesuffix("_drop").removesuffix("_change") for name in section.gates}
    return first, *(metric for metric in others if metric.name in gates)


class Remembered:
    """A session whose answers to the same batches, in the same order, are kept."""

    def __init__(self, session: Session) -> None:
        """Keeps the answers of ``session``."""
        self.session, self.where, self.output_names = session, session.where, session.output_names
        self._answers: list[Arrays] = []
        self._next = 0

    def rewind(self) -> None:
        """Says that the first batch comes next."""
        self._next = 0

    def run(self, inputs: Mapping[str, NDArray[Any]], outputs: Sequence[str]) -> Arrays:
        """Returns the named outputs for one batch."""
        if self._next == len(self._answers):
            self._answers.append(self.session.run(inputs, outputs))
        self._next += 1
        return self._answers[self._next - 1]


def _thinned(result: LatencyResult) -> LatencyResult:
    """Returns the result with some of its timed calls: enough for a percentile."""
    fp32, int8 = (
        calls[:: max(1, len(calls) // KEPT_CALLS)] for calls in (result.fp32_us, result.int8_us)
    )
    return dataclasses.replace(result, fp32_us=fp32, int8_us=int8)
