"""What the evaluation section asks for beside metrics: groups, columns, reasons, attacks."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qtool.commands.context import Context
from qtool.commands.prepare import dataset
from qtool.commands.scoring import Models, batch_rows, predictor
from qtool.config.evaluation import Evaluation
from qtool.config.task import CLASSIFICATION
from qtool.data.batch import Batch, join, rechunk
from qtool.data.blocks import Block
from qtool.data.dataset import Dataset
from qtool.data.dates import period_names
from qtool.data.encoding import Encoder
from qtool.data.sampling import Smallest, choose_rows
from qtool.evaluation.compare import Pairing, compare_part
from qtool.evaluation.decisions import flagged
from qtool.evaluation.fairness import impact_ratios
from qtool.evaluation.metrics.metric import Metric
from qtool.evaluation.monotonicity import monotonicity
from qtool.evaluation.reasons import nothing_explained, reason_stability
from qtool.evaluation.results import (
    ImpactRatio,
    MetricChange,
    MonotonicityResult,
    ReasonStability,
    SegmentChange,
    StressResult,
)
from qtool.evaluation.sample import Predictions, Sample
from qtool.evaluation.segments import segments
from qtool.evaluation.system import system_figures
from qtool.robustness.attack import Attack
from qtool.robustness.robustness import Judge, Model, Subject, robustness
from qtool.runtime.sessions import Session

REFERENCE_ROWS = 4096
"""Calibration rows that typical values and quantiles of columns are taken from."""
Inputs = dict[str, NDArray[Any]]


@dataclass(frozen=True, eq=False)
class Judging:
    """One evaluation whose rows are scored.

    Attributes:
        context: the experiment.
        models: what is compared.
        sample: rows of the evaluation split.
        metric: the first of the metrics.
        pairing: how rows depend on each other.
        threshold: of the decisions; None where the task has none.
    """

    context: Context
    models: Models
    sample: Sample
    metric: Metric
    pairing: Pairing
    threshold: float | None

    @property
    def section(self) -> Evaluation:
        """The ``evaluation`` section."""
        return self.context.experiment.evaluation

    def segments(self) -> tuple[SegmentChange, ...]:
        """Returns the first metric in every segment of every named column."""
        if not self.section.segments:
            return ()
        return segments(
            self._by_period(self.section.segments),
            self.section.segments,
            lambda part: compare_part(part, self.metric, self.pairing),
            self._flips(),
            self.section.resampling.confidence,
            self.pairing.units(self.sample),
        )

    def fairness(self) -> tuple[ImpactRatio, ...]:
        """Returns the adverse impact ratio of every group."""
        section = self.section.fairness
        if section is None:
            return ()
        confidence = self.section.resampling.confidence
        sample = self._by_period(section.columns)
        clusters = self.pairing.units(self.sample)
        flagged = self._flagged()
        return impact_ratios(sample, *flagged, section, confidence, self.pairing.seed, clusters)

    def monotonicity(self) -> tuple[MonotonicityResult, ...]:
        """Returns how often a column moves the score against its direction."""
        section = self.section.monotonicity
        if section is None:
            return ()
        rows = self._some(self.sample.rows, section.rows)
        block = self._data.block(rows)
        return monotonicity(block, self._reference, self._encoder, self._score, section)

    def reasons(self) -> ReasonStability | None:
        """Returns whether FP32 and INT8 name the same columns for rows that FP32 flags."""
        section = self.section.reason_codes
        if section is None:
            return None
        by_fp32, _ = self._flagged()
        if not by_fp32.any():
            return nothing_explained(section)
        chosen = self._some(self.sample.rows[by_fp32], section.rows)
        block, clusters = self._data.block(chosen), self.pairing.units(self.sample)
        if clusters is not None:
            order = np.argsort(self.sample.rows)
            clusters = clusters[order[np.searchsorted(self.sample.rows[order], chosen)]]
        confidence = self.section.resampling.confidence
        return reason_stability(
            block,
            self._reference,
            self._encoder,
            self._score,
            section,
            confidence,
            self.pairing.seed,
            clusters,
        )

    def robustness(self) -> tuple[StressResult, ...]:
        """Returns what attacks and stress do to both models."""
        section, experiment = self.section.robustness, self.context.experiment
        if section is None:
            return ()
        fp32: Attack | None = None
        int8: Attack | None = None
        if section.needs_gradients:
            from qtool.commands.white_boxes import white_boxes

            fp32, int8 = white_boxes(self.context)
        chosen = self._some(self.sample.rows, section.rows)
        columns = tuple(dict.fromkeys([*self.sample.columns, *section.mutable_columns]))
        batch = join(list(self._data.batches("evaluation", only=chosen, columns=columns)))
        reference = join(list(self._data.batches("calibration", only=self._reference.rows)))
        subject = Subject(
            experiment.task,
            batch,
            reference.inputs,
            self._encoder,
            Model(partial(self._predict, self._predictors[0]), fp32),
            Model(partial(self._predict, self._predictors[1]), int8),
            Judge(
                lambda part: compare_part(part, self.metric, self.pairing),
                self._decide if self.pairing.task in CLASSIFICATION else None,
                self.section.resampling.confidence,
            ),
        )
        return robustness(subject, section, self.pairing.seed, self.context.progress)

    def system(self) -> dict[str, MetricChange]:
        """Returns the figures of the user's system, by name."""
        section = self.section.system
        if section is None:
            return {}
        columns = tuple(section.columns)
        rows = next(self._data.batches("evaluation", section.rows, columns=columns))
        threads = self.context.experiment.target.threads
        fp32, int8 = (
            Session(file, where, threads=threads)
            for file, where in (
                (self.models.original, "the FP32 model"),
                (self.models.int8, "the INT8 model"),
            )
        )
        with self.context.progress.task("system") as task:
            found = system_figures(
                fp32.run, int8.run, rows, section, self.section.resampling, self.pairing.seed
            )
            task.advance()
        return found

    def _by_period(self, columns: Sequence[str]) -> Sample:
        """Returns the rows with times as periods of the calendar in those columns that hold any."""
        read = self.sample.columns
        times = [name for name in columns if read[name].dtype.kind == "M"]
        named = {name: period_names(read[name]) for name in times}
        return dataclasses.replace(self.sample, columns={**read, **named})

    def _decide(self, found: Predictions) -> NDArray[Any]:
        """Returns the decision of every row: flagged or not, the class, or the prediction."""
        if self.threshold is not None:
            return np.asarray(found >= np.float32(self.threshold))
        return np.asarray(found.argmax(axis=1))

    def _flagged(self) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        assert self.threshold is not None  # the config allows what needs it for such tasks only
        return flagged(self.sample, self.threshold)

    def _flips(self) -> NDArray[np.bool_] | None:
        if self.threshold is not None:
            fp32, int8 = self._flagged()
            return np.asarray(fp32 != int8)
        if self.pairing.task == "multiclass_classification":
            classes = self.sample.fp32.argmax(axis=1), self.sample.int8.argmax(axis=1)
            return np.asarray(classes[0] != classes[1])
        return None

    def _some(self, rows: NDArray[np.int64], most: int) -> NDArray[np.int64]:
        chosen = Smallest(most, self.pairing.seed)
        chosen.observe(rows)
        return np.sort(chosen.rows(most))

    def _score(self, inputs: Inputs) -> tuple[Predictions, Predictions]:
        fp32, int8 = (self._predict(predict, inputs) for predict in self._predictors)
        return fp32, int8

    def _predict(self, predict: Callable[[Batch], Predictions], inputs: Inputs) -> Predictions:
        """Scores rows as the evaluation does: in batches of the same size."""
        rows = Batch(np.arange(len(next(iter(inputs.values())))), None, inputs)
        size = batch_rows(self.context.experiment, self.models.plan)
        return np.concatenate([predict(batch) for batch in rechunk([rows], size)])

    @cached_property
    def _predictors(self) -> tuple[Callable[[Batch], Predictions], Callable[[Batch], Predictions]]:
        experiment = self.context.experiment
        return (
            predictor(experiment, Session(self.models.original, "the FP32 model")),
            predictor(experiment, Session(self.models.int8, "the INT8 model")),
        )

    @cached_property
    def _data(self) -> Dataset:
        return dataset(self.context)

    @property
    def _encoder(self) -> Encoder:
        return self._data.fitted.encoder

    @cached_property
    def _reference(self) -> Block:
        numbers = self._data.row_numbers("calibration")
        return self._data.block(choose_rows(numbers, REFERENCE_ROWS, 0.0, self.pairing.seed))
