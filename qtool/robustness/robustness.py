"""FP32 and INT8 on changed rows: does quantization make decisions easier to turn?

Rows are changed within what a person can change (``feasible``) or by chance (``stress``). An attack
makes rows for each model, against that model; transfer shows both the rows made against FP32, as
noise and missing values are the same for both. The first result is of the rows as they are.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qtool.config.evaluation import Robustness
from qtool.config.task import LABELLED, Task
from qtool.data.batch import Batch, labels_of
from qtool.data.encoding import Encoder
from qtool.data.signature import Arrays
from qtool.errors import ConfigError
from qtool.evaluation.results import MetricChange, StressResult
from qtool.evaluation.sample import Predictions, Sample
from qtool.progress import Progress
from qtool.progress import Task as Shown
from qtool.robustness.attack import Attack, Predict
from qtool.robustness.feasible import Movable, Region, movable, raw_columns, region_of
from qtool.robustness.search import search
from qtool.robustness.stress import WHERE, noisy, spreads, with_missing, without_missing
from qtool.statistics.proportions import paired_shares

BATCH_ROWS = 1024
UNCHANGED = "none"
FP32_GRADIENTS = "rows for INT8 follow the gradients of FP32: INT8 has no torch graph here"
Pair = tuple[Arrays, Arrays]
"""Inputs for FP32 and for INT8."""
Make = Callable[[Batch, Shown], Pair]
"""Changes the rows of a batch, and advances by as many rows."""
Regions = dict[str, Region]


@dataclass(frozen=True)
class Model:
    """One model, as functions of encoded inputs.

    Attributes:
        predict: the model in ONNX Runtime; is given ``BATCH_ROWS`` rows at most.
        white_box: an attack along its gradients; None where no torch graph computes the same.
    """

    predict: Predict
    white_box: Attack | None = None


@dataclass(frozen=True)
class Judge:
    """How both models are judged on rows.

    Attributes:
        compare: the first metric and its change.
        decide: predictions → decisions (rows,); None where there are none.
        confidence: of the interval of the difference of turned decisions, two-sided.
    """

    compare: Callable[[Sample], MetricChange]
    decide: Callable[[Predictions], NDArray[Any]] | None
    confidence: float = 0.95


@dataclass(frozen=True)
class Subject:
    """The rows that are changed, and both models that are to bear it.

    Attributes:
        task: one with labels.
        batch: the rows, with labels, and with the mutable columns beside the inputs.
        reference: encoded inputs of the calibration split, for spread and bounds of the columns.
        encoder: that made both.
        fp32: the original model; with gradients where the section needs them.
        int8: the quantized model; attacked along the gradients of FP32 where it has none.
        judge: metric and decisions.
    """

    task: Task
    batch: Batch
    reference: Mapping[str, NDArray[Any]]
    encoder: Encoder
    fp32: Model
    int8: Model
    judge: Judge


def robustness(
    subject: Subject, section: Robustness, seed: int, progress: Progress
) -> tuple[StressResult, ...]:
    """Returns what every attack and every stress of the section does to both models.

    Before them stands the result ``UNCHANGED`` with the level 0, which no change has: the metric on
    the same rows as they are, where nothing is turned (its difference is NaN).

    Args:
        subject: rows and models.
        section: what is measured.
        seed: of everything that is drawn.
        progress: shows the work.

    Raises:
        ConfigError: the section does not fit the task or the encoder.
        ModelError: a model fails on changed rows.
    """
    if subject.task not in LABELLED:
        expected = f"a task with labels: {', '.join(LABELLED)}"
        raise ConfigError(WHERE, f"the task {subject.task}", expected)
    changes = [*_attacks(subject, section, seed), *_stresses(subject, section, seed)]
    with progress.task("rows as they are", len(subject.batch)) as shown:
        before = _scored(subject, _same(lambda inputs: inputs), shown)
    found = [_unchanged(subject.judge, before)]
    for change in changes:
        with progress.task(f"{change.kind} {change.level:g}", len(subject.batch)) as shown:
            found.append(
                _result(subject.judge, change, before, _scored(subject, change.make, shown))
            )
    return tuple(found)


@dataclass(frozen=True)
class _Change:
    """One way to change rows; the fields are those of a result."""

    kind: str
    level: float
    make: Make
    note: str = ""


def _attacks(subject: Subject, section: Robustness, seed: int) -> list[_Change]:
    names = section.chosen_attacks
    if not names:
        return []
    where = f"{WHERE}.mutable"
    columns = movable(section.mutable, subject.encoder, subject.reference, where)
    _check_moves(_regions(columns, 1.0, subject.batch), len(subject.batch), where)
    changes = []
    for name in names:
        borrowed = name in ("fgsm", "pgd") and subject.int8.white_box is None
        for share in section.budgets:
            around = partial(_regions, columns, share)
            if name == "black_box":
                make = _black_box(subject, section.queries, around, seed)
            else:
                steps = 1 if name == "fgsm" else section.steps
                make = _white_box(subject, steps, around, shared=name == "transfer")
            changes.append(_Change(name, share, make, FP32_GRADIENTS if borrowed else ""))
    return changes


def _check_moves(regions: Regions, rows: int, where: str) -> None:
    """An attack that can move no row would look like a model that bears it."""
    if not any((region.low < region.high).any() for region in regions.values()):
        raise ConfigError(
            where,
            f"none of {rows} rows can be moved: their values are missing, or lie outside of low "
            "and high or at an end of them",
            "bounds that hold the values of some rows",
            "Correct low, high, direction or integer.",
        )


def _regions(columns: Mapping[str, Movable], share: float, batch: Batch) -> Regions:
    return {
        name: region_of(part, batch.inputs[name], raw_columns(part, batch.columns), share)
        for name, part in columns.items()
    }


def _white_box(
    subject: Subject, steps: int, around: Callable[[Batch], Regions], *, shared: bool
) -> Make:
    fp32, int8 = subject.fp32.white_box, subject.int8.white_box
    assert fp32 is not None, "section.needs_gradients"

    def make(batch: Batch, shown: Shown) -> Pair:
        given = batch.inputs, labels_of(batch), around(batch), steps
        for_fp32 = fp32(*given)
        for_int8 = for_fp32 if shared or int8 is None else int8(*given)
        shown.advance(len(batch))
        return for_fp32, for_int8

    return make


def _black_box(
    subject: Subject, queries: int, around: Callable[[Batch], Regions], seed: int
) -> Make:
    def make(batch: Batch, shown: Shown) -> Pair:
        def against(predict: Predict) -> Arrays:
            # Drawn anew for each model, so that both are asked the same; and for each batch.
            random = np.random.default_rng((seed, int(batch.rows[0])))
            given = batch.inputs, labels_of(batch), around(batch), queries, random
            return search(predict, subject.task, *given, lambda: shown.advance(step))

        step = len(batch) / (2 * queries)
        return against(subject.fp32.predict), against(subject.int8.predict)

    return make


def _stresses(subject: Subject, section: Robustness, seed: int) -> list[_Change]:
    encoder, changes = subject.encoder, []
    if section.noise:
        spread = spreads(encoder, subject.reference)
        for level in section.noise:
            random = np.random.default_rng(seed)
            change = partial(noisy, encoder=encoder, spread=spread, level=level, random=random)
            changes.append(_Change("noise", level, _same(change)))
    if section.missing:
        kept = ", ".join(without_missing(encoder))
        for level in section.missing:
            random = np.random.default_rng(seed)
            change = partial(with_missing, encoder=encoder, share=level, random=random)
            note = f"always there, and left as they are: {kept}" if kept else ""
            changes.append(_Change("missing", level, _same(change), note))
    return changes


def _same(change: Callable[[Arrays], Arrays]) -> Make:
    def make(batch: Batch, shown: Shown) -> Pair:
        changed = change(batch.inputs)
        shown.advance(len(batch))
        return changed, changed

    return make


def _scored(subject: Subject, make: Make, shown: Shown) -> Sample:
    """Returns the rows with what both models make of what ``make`` makes of them."""
    batch, found = subject.batch, []
    for first in range(0, len(batch), BATCH_ROWS):
        for_fp32, for_int8 = make(batch.take(slice(first, first + BATCH_ROWS)), shown)
        found.append((subject.fp32.predict(for_fp32), subject.int8.predict(for_int8)))
    fp32, int8 = (np.concatenate(parts) for parts in zip(*found, strict=True))
    return Sample(batch.rows, labels_of(batch), fp32, int8, batch.columns)


def _unchanged(judge: Judge, rows: Sample) -> StressResult:
    none = math.nan, math.nan, math.nan
    return StressResult(UNCHANGED, 0.0, len(rows), judge.compare(rows), 0, 0, *none)


def _result(judge: Judge, change: _Change, before: Sample, after: Sample) -> StressResult:
    turned_fp32 = turned_int8 = np.zeros(len(after), bool)
    difference = low = high = math.nan
    if judge.decide is not None:
        turned_fp32 = judge.decide(before.fp32) != judge.decide(after.fp32)
        turned_int8 = judge.decide(before.int8) != judge.decide(after.int8)
        first_only = int((turned_fp32 & ~turned_int8).sum())
        second_only = int((~turned_fp32 & turned_int8).sum())
        found = paired_shares(first_only, second_only, len(after), judge.confidence)
        difference, low, high = found.estimate, found.low, found.high
    return StressResult(
        kind=change.kind,
        level=change.level,
        rows=len(after),
        metric=judge.compare(after),
        succeeded_fp32=int(turned_fp32.sum()),
        succeeded_int8=int(turned_int8.sum()),
        difference=difference,
        low=low,
        high=high,
        note=change.note,
    )
