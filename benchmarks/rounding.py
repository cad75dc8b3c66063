"""What rounding weights to 4 bits loses, and how much of it tunings of the numbers recover.

The models and data of benchmarks/qat_models.py, trained in FP32 by qtool. Weights have 4 bits and
one scale per output, in int8 storage (embedding tables keep 8: nothing is added up in a lookup),
activations 8. All figures are of the INT8 file in ONNX Runtime on the test rows. Every method
starts from the same scales of the least squared error of the weights, as ``nearest`` has them
(``min-max``: the same with scales from the ends of the weights; ``w8a8``: min-max with 8 bits,
which shows what is due to the activations). Tunings read 1,024 training rows, evenly spread.
``+ bias`` is followed by a correction of the biases.

``sqnr_db`` is the variance of the FP32 outputs over the mean squared error; ``flips`` the share of
rows whose decision changes (of a regression: on which side of the median of FP32 it lies);
``delta_points`` the test metric minus that of FP32, times 100.

Recovered is the part of what ``nearest`` or ``min-max`` loses that a method does not lose: of the
mean squared error of the outputs (``error``), of the flips, and of the metric (``points``) where
that loses at least 0.2 points; seeds of the training alone change the metric by more. ``of_all``
counts the whole loss against FP32, ``of_rounding`` what is lost beyond ``w8a8``: 8-bit activations
stay. It may exceed 1, since a layer's weights also make up for activations of layers before. One
core and one thread.
"""

from __future__ import annotations

import dataclasses
import fnmatch
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx_ir as ir
from harness import Row, arguments, report
from qat import (
    NOTHING_TO_RECOVER,
    POINTS,
    Subject,
    Variant,
    batches,
    decisions,
    predictions,
    shortened,
    with_bits,
)
from qat_models import MODELS

from qtool.calibration.calibrate import ranges
from qtool.calibration.settle import settle_columns
from qtool.config.quantization import StaticQuantization
from qtool.config.tuning import AdaRound, ClipWeights, CorrectBias, Gptq, NumberTuning
from qtool.graph.layers import layers_of, name_of
from qtool.graph.parameters import Parameters, derive, fold
from qtool.graph.plan import Plan
from qtool.graph.writing.writer import write
from qtool.numerics.affine import weight_qparams
from qtool.numerics.observers import observer
from qtool.progress import SilentProgress
from qtool.tuning.apply import tuned
from qtool.tuning.tuned import Inputs

W4A8, W8A8 = Variant(4, 8), Variant(8, 8)
NEAREST, MIN_MAX = "nearest", "min-max"
METHODS: dict[str, NumberTuning] = {
    "clip": ClipWeights(method="clip_weights"),
    "gptq": Gptq(method="gptq"),
    "adaround": AdaRound(method="adaround"),
}
BIAS = CorrectBias(method="correct_bias")


def main() -> None:
    """Measures every model and seed that is asked for and reports their rows."""
    parser = arguments(__doc__ or "")
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="the data sets")
    parser.add_argument("--models", default="*", metavar="GLOB", help="such as '*-mlp'")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    given = parser.parse_args()
    rows: list[Row] = []
    for name, model in MODELS.items():
        if not fnmatch.fnmatchcase(name, given.models):
            continue
        splits = model.load(given.data)
        for seed in given.seeds:
            rows += rounding_rows(Subject(name, model, splits, seed, quick=given.quick))
            sys.stderr.write(f"{name}, seed {seed} done\n")
    report(rows, given.json)


@dataclass(frozen=True)
class Loss:
    """What a model loses against FP32: squared error over variance, share of flips, points."""

    error: float
    flips: float
    points: float


def rounding_rows(subject: Subject) -> list[Row]:
    """Returns the rows of one model and seed."""
    judge = Judge(subject)
    case = f"{subject.name}-seed{subject.seed}"
    plan, numbers = starting_point(subject, W8A8)
    eight = judge.loss(plan, with_min_max(plan, numbers))
    plan, numbers = starting_point(subject, W4A8)
    baselines = {
        NEAREST: judge.loss(plan, numbers),
        MIN_MAX: judge.loss(plan, with_min_max(plan, numbers)),
    }
    rows = loss_rows(f"{case}-w8a8", eight)
    for name, loss in baselines.items():
        rows += loss_rows(f"{case}-{name}", loss)
    for name, section in ({} if subject.quick else METHODS).items():
        started = time.perf_counter()
        found = tune(subject, plan, numbers, section)
        rows.append(Row(f"{case}-{name}", "tuning_s", time.perf_counter() - started, "s"))
        corrected = tune(subject, plan, found, BIAS)
        for suffix, each in (("", found), (" + bias", corrected)):
            loss = judge.loss(plan, each)
            rows += loss_rows(f"{case}-{name}{suffix}", loss)
            for peer, before in baselines.items():
                rows += recovered_rows(f"{case}-{name}{suffix}", peer, loss, before, eight)
    return rows


class Judge:
    """Compares INT8 models with the FP32 one on the test rows."""

    def __init__(self, subject: Subject) -> None:
        """Runs FP32."""
        self.subject = subject
        self.fp32 = predictions(subject.prepared, subject.splits.test.inputs)

    def loss(self, plan: Plan, numbers: Parameters) -> Loss:
        """Returns what the model written from these numbers loses."""
        outputs = predictions(written(self.subject, plan, numbers), self.subject.splits.test.inputs)
        middle = float(np.median(self.fp32))
        model, labels = self.subject.model, self.subject.splits.test.labels
        flips = decisions(outputs, model, middle) != decisions(self.fp32, model, middle)
        return Loss(
            float(((outputs - self.fp32) ** 2).mean() / self.fp32.var()),
            float(flips.mean()),
            POINTS * (model.score(labels, self.fp32) - model.score(labels, outputs)),
        )


def starting_point(subject: Subject, variant: Variant) -> tuple[Plan, Parameters]:
    """Returns plan and numbers before any tuning; tables keep 8 bits."""
    layers = layers_of(subject.prepared).values()
    tables = {name_of(layer.weight()) for layer in layers if layer.kind == "table"}
    eight = subject.plan.weights
    plan = with_bits(subject.plan, variant)
    kept = {
        name: eight[name] if name in tables else weight for name, weight in plan.weights.items()
    }
    plan = dataclasses.replace(plan, weights=kept)
    chosen = observer(StaticQuantization(method="static").observer)
    plan, seen = settle_columns(subject.prepared, plan, subject.observed, chosen)
    return plan, derive(subject.prepared, plan, ranges(plan, seen, chosen))


def with_min_max(plan: Plan, numbers: Parameters) -> Parameters:
    """Returns the numbers with weight scales from the ends of the weights."""
    weights = {
        name: weight_qparams(
            fold(numbers.constants[name], weight.folds, numbers.activations), weight.spec
        )
        for name, weight in plan.weights.items()
    }
    return dataclasses.replace(numbers, weights=weights)


def tune(subject: Subject, plan: Plan, numbers: Parameters, section: NumberTuning) -> Parameters:
    """Returns the numbers as one tuning leaves them."""

    def rows(count: int) -> Iterator[Inputs]:
        return iter(batches(shortened(subject.splits.training, count).inputs))

    found, _ = tuned(subject.prepared, plan, numbers, [section], rows, SilentProgress())
    return found


def written(subject: Subject, plan: Plan, numbers: Parameters) -> ir.Model:
    """Returns the INT8 model."""
    return write(subject.prepared, plan, numbers, {})


def loss_rows(case: str, loss: Loss) -> list[Row]:
    """Returns the rows of one method."""
    return [
        Row(case, "sqnr_db", -10 * float(np.log10(loss.error)), "dB"),
        Row(case, "flips", loss.flips, "share"),
        Row(case, "delta_points", -loss.points, "points"),
    ]


def recovered_rows(case: str, peer: str, loss: Loss, before: Loss, eight: Loss) -> list[Row]:
    """Returns what a method recovers of the loss ``before``, where there is any."""
    rows = []
    for what, left, lost, least, kept in (
        ("error", loss.error, before.error, 0.0, eight.error),
        ("flips", loss.flips, before.flips, 0.0, eight.flips),
        ("points", loss.points, before.points, NOTHING_TO_RECOVER, eight.points),
    ):
        for of, floor in (("all", 0.0), ("rounding", kept)):
            if lost - floor > least:
                share = (lost - left) / (lost - floor)
                rows.append(Row(case, f"recovered_{what}_of_{of}", share, "share", peer))
    return rows


if __name__ == "__main__":
    main()
