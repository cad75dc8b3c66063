"""Quantization-aware training against post-training quantization, on real data.

A case is a model of benchmarks/qat_models.py and a seed. The FP32 model is trained by qtool;
``fp32_points`` is its test metric times 100. Every other figure is of the INT8 file in ONNX Runtime
on the same test rows. ``wXaY``: weights of X and activations of Y bits, below 8 in int8 storage;
``…_delta_points`` is the metric minus that of FP32: ``ptq`` with weight ranges from their ends or
from the least squared error (the same from 7 bits up; activations have the latter always); without
``ptq`` it is QAT, which starts from the second, on the labels or, ``kd``, on the outputs of FP32.
``…_recovered_share`` is (QAT - PTQ) / (FP32 - PTQ) against either; where PTQ loses less than 0.2
points there is nothing to recover and no such row. ``fp32_control_delta_points`` is the FP32 model
trained on with the same rows, steps and learning rate. Step times are measured with seed 0.

``equal_codes_share`` and ``decisions_equal_share`` compare the trained torch graph with ONNX
Runtime on 10,000 rows, those of the test first: codes of every quantized activation, and classes
(of a regression: on which side of the median of FP32 a prediction lies).
``step_time_over_fp32`` is the median over interleaved steps of the QAT step over the step of the
same imported graph in FP32: ``eager``, and ``compiled`` over the faster of compiled and eager FP32;
``imported_step_over_native`` that of the imported graph over the torch module. ``torchao PT2E`` is
its QAT of the same FP32 weights with as many steps, on its own quantized model. One core and one
thread.
"""

from __future__ import annotations

import dataclasses
import fnmatch
import sys
import tempfile
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import torch
from harness import Row, arguments, report
from numpy.typing import NDArray
from qat_fit import Recipe
from qat_models import MODELS, RealModel
from qat_rows import Rows as RealRows
from qat_rows import Splits
from qat_steps import step_rows
from qat_torchao import NotRun, train_pt2e

from qtool.calibration.calibrate import Statistics, observe, ranges
from qtool.calibration.settle import settle_columns
from qtool.commands.train_qat import SIMULATION, graph_parity
from qtool.config.quantization import StaticQuantization
from qtool.config.training import Distill, Training, TrainQat
from qtool.data.memory_map import Rows
from qtool.graph.model_file import outputs_of
from qtool.graph.parameters import derive, fold
from qtool.graph.plan import Plan
from qtool.graph.planner import make_plan
from qtool.graph.prepare.pipeline import prepare
from qtool.graph.targets import TARGETS
from qtool.graph.writing.writer import write
from qtool.numerics.affine import weight_qparams
from qtool.numerics.observers import observer
from qtool.progress import SilentProgress
from qtool.runtime.cpu import resolve_target
from qtool.runtime.sessions import Session
from qtool.torchgraph.export import export_onnx
from qtool.torchgraph.fake_quant_graph import FakeQuantGraph
from qtool.torchgraph.importer import TorchGraph
from qtool.training.fit import Work
from qtool.training.fp32 import train_fp32
from qtool.training.objective import Criterion, criterion
from qtool.training.qat import train_qat

CALIBRATION_ROWS, BATCH_ROWS, PARITY_ROWS = 4096, 256, 10_000
STEPS, JUDGED_ROWS = 600, 4096
"""Of QAT and of the control: a fraction of what FP32 training takes."""
POINTS = 100.0
TORCHAO, MIN_MAX, MSE = "torchao PT2E", "weights min-max", "weights MSE"
NOTHING_TO_RECOVER = 0.2
"""Points; a smaller loss of PTQ is within what another seed changes."""


@dataclass(frozen=True)
class Variant:
    """Bits of weights and activations, and the share of distillation in the loss."""

    weight_bits: int
    activation_bits: int
    distill: float = 0.0

    @property
    def bits(self) -> str:
        """As in ``w4a8``."""
        return f"w{self.weight_bits}a{self.activation_bits}"

    @property
    def name(self) -> str:
        """As in ``w4a8_kd``."""
        return self.bits + ("_kd" if self.distill else "")


VARIANTS = (
    Variant(8, 8),
    Variant(8, 8, 1.0),
    Variant(4, 8),
    Variant(4, 8, 1.0),
    Variant(4, 4, 1.0),
    Variant(3, 8, 1.0),
)
PARITY_OF = "w8a8"


def main() -> None:
    """Measures every model and seed that is asked for and reports their rows."""
    parser = arguments(__doc__ or "")
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="the data sets")
    parser.add_argument("--models", default="*", metavar="GLOB", help="such as '*-mlp'")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument(
        "--torchao", type=Path, metavar="PYTHON", help="of an environment with torchao, to compare"
    )
    given = parser.parse_args()
    rows: list[Row] = []
    for name, model in MODELS.items():
        if not fnmatch.fnmatchcase(name, given.models):
            continue
        splits = model.load(given.data)
        for seed in given.seeds:
            subject = Subject(name, model, splits, seed, quick=given.quick)
            rows += subject.rows(with_steps=seed == 0)
            if given.torchao is not None:
                rows += subject.torchao_rows(given.torchao)
            sys.stderr.write(f"{name}, seed {seed} done\n")
    report(rows, given.json)


@dataclass(frozen=True, eq=False)
class Subject:
    """One model with one seed: trained in FP32 once, quantized in many ways."""

    name: str
    model: RealModel
    splits: Splits
    seed: int
    quick: bool

    def rows(self, *, with_steps: bool) -> list[Row]:
        """Returns all rows of this case."""
        fp32 = self.score(self.prepared)
        rows = [self._row("fp32_points", POINTS * fp32, "points", "", self.model.metric)]
        control = POINTS * (self.score(self._control()) - fp32)
        rows.append(self._row("fp32_control_delta_points", control, "points"))
        chosen = VARIANTS[:1] if self.quick else VARIANTS
        for bits, variants in groupby(chosen, lambda variant: variant.bits):
            rows += self._bits_rows(bits, list(variants), fp32)
        if with_steps:
            rows += step_rows(
                self._case, self.module, self.prepared, self.graph(chosen[0]), self.training
            )
        return rows

    def torchao_rows(self, python: Path) -> list[Row]:
        """Returns what torchao makes of the same FP32 model with as many steps."""
        rows = []
        fp32 = self.score(self.prepared)
        training = shortened(self.splits.training, STEPS * self.model.recipe.batch_rows)
        splits = dataclasses.replace(self.splits, training=training)
        for bits in (8, 4):
            found = train_pt2e(
                python,
                self.module,
                splits,
                self.model.task,
                self._fine_tuning(len(training)),
                weight_bits=bits,
                seed=self.seed,
            )
            if isinstance(found, NotRun):
                sys.stderr.write(f"{self._case}: torchao not run ({found.reason})\n")
                continue
            delta = POINTS * (self.model.score(self.splits.test.labels, found.outputs) - fp32)
            notes = f"{found.integer_weights} quantized weights; {found.versions}"
            metric = f"w{bits}a8_delta_points"
            rows.append(self._row(metric, delta, "points", TORCHAO, notes))
            ratio = found.step_ms / found.fp32_step_ms
            if bits == 8:
                rows.append(self._row("step_time_over_fp32", ratio, "x", TORCHAO, "its own FP32"))
        return rows

    def score(self, model: ir.Model) -> float:
        """Returns the test metric of a model in ONNX Runtime."""
        outputs = predictions(model, self.splits.test.inputs)
        return self.model.score(self.splits.test.labels, outputs)

    def _bits_rows(self, bits: str, variants: list[Variant], fp32: float) -> list[Row]:
        ptq = {
            MIN_MAX: self.score(self.int8(self.graph(variants[0], minmax=True))),
            MSE: self.score(self.int8(self.graph(variants[0]))),
        }
        rows = [
            self._row(f"{bits}_ptq_delta_points", POINTS * (found - fp32), "points", peer)
            for peer, found in ptq.items()
        ]
        for variant in variants:
            rows += self._qat_rows(variant, fp32, ptq)
        return rows

    def _qat_rows(self, variant: Variant, fp32: float, ptq: dict[str, float]) -> list[Row]:
        rows = []
        graph = self.graph(variant)
        self._train(graph, variant)
        int8 = self.int8(graph)
        qat = self.score(int8)
        rows.append(self._row(f"{variant.name}_delta_points", POINTS * (qat - fp32), "points"))
        metric = f"{variant.name}_recovered_share"
        for peer, before in ptq.items():
            lost = POINTS * (fp32 - before)
            if lost >= NOTHING_TO_RECOVER:
                recovered = POINTS * (qat - before) / lost
                rows.append(self._row(metric, recovered, "share", peer, f"of {lost:.2f} points"))
        if variant.name == PARITY_OF:
            rows += self._parity_rows(graph, int8)
        return rows

    def _parity_rows(self, graph: FakeQuantGraph, int8: ir.Model) -> list[Row]:
        inputs = self.splits.inputs(PARITY_ROWS)
        count = len(next(iter(inputs.values())))
        name = str(outputs_of(int8)[0].name)
        found = graph_parity(graph, int8, graph.plan, name, iter(batches(inputs)))
        with torch.no_grad():
            simulated = np.concatenate([graph(tensors(b))[name].numpy() for b in batches(inputs)])
        middle = float(np.median(predictions(self.prepared, inputs)))
        sides = [decisions(x, self.model, middle) for x in (simulated, predictions(int8, inputs))]
        notes = f"{found.codes:,} codes, largest difference {found.largest_code_difference}"
        equal = float((sides[0] == sides[1]).mean())
        return [
            self._row("equal_codes_share", found.equal_share, "share", SIMULATION, notes),
            self._row("decisions_equal_share", equal, "share", SIMULATION, f"{count:,} rows"),
        ]

    def graph(self, variant: Variant, *, minmax: bool = False) -> FakeQuantGraph:
        """Returns the calibrated fake-quant graph, before training."""
        plan = with_bits(self.plan, variant)
        chosen = observer(StaticQuantization(method="static").observer)
        plan, seen = settle_columns(self.prepared, plan, self.observed, chosen)
        initial = derive(self.prepared, plan, ranges(plan, seen, chosen))
        weights = initial.weights
        if minmax:
            weights = {
                name: weight_qparams(
                    fold(initial.constants[name], weight.folds, initial.activations), weight.spec
                )
                for name, weight in plan.weights.items()
            }
        return FakeQuantGraph(TorchGraph(self.prepared), plan, initial.activations, weights)

    def int8(self, graph: FakeQuantGraph) -> ir.Model:
        """Returns the INT8 model of a graph as it is."""
        trained, numbers = graph.written_back(self.prepared)
        return write(trained, graph.plan, numbers, {})

    @cached_property
    def module(self) -> torch.nn.Module:
        """The FP32 module, trained."""
        recipe, module = self.model.recipe, self.model.build(self.seed)
        section = Training(
            epochs=1 if self.quick else recipe.epochs,
            batch_size=recipe.batch_rows,
            learning_rate=recipe.learning_rate,
            weight_decay=recipe.weight_decay,
            clip_gradient=1.0,
        )
        with tempfile.TemporaryDirectory() as folder:
            train_fp32(
                module,
                section,
                self.criterion,
                self._work(self.training, self.validation, folder),
            )
        return module

    @cached_property
    def prepared(self) -> ir.Model:
        """The FP32 model in canonical form."""
        return prepare(export_onnx(self.module, first(self.splits.training.inputs, 2)))

    @cached_property
    def plan(self) -> Plan:
        """Everything static that can be; an LSTM as the runtime's integer LSTM."""
        lstm = any(node.op_type == "LSTM" for node in self.prepared.graph)
        layers: list[dict[str, Any]] = [{"match": "LSTM", "method": "dynamic"}] if lstm else []
        section = StaticQuantization.model_validate(
            {"method": "static", "per_channel": True, "layers": layers}
        )
        return make_plan(self.prepared, "", section, TARGETS[resolve_target("auto")])

    @cached_property
    def observed(self) -> Statistics:
        """What the calibration rows show of every activation, whatever its bits."""
        rows = batches(first(self.splits.training.inputs, CALIBRATION_ROWS))
        return observe(self.prepared, self.plan, rows, CALIBRATION_ROWS, SilentProgress())

    @cached_property
    def criterion(self) -> Criterion:
        """The usual loss and metric of the task."""
        return criterion(None, self.model.task, "logit")

    @property
    def training(self) -> Rows:
        """Training rows."""
        return spread(self.splits.training, len(self.splits.training))

    @property
    def validation(self) -> Rows:
        """Rows that choose the epoch."""
        return spread(self.splits.validation, len(self.splits.validation))

    def _train(self, graph: FakeQuantGraph, variant: Variant) -> None:
        rows = spread(self.splits.training, STEPS * self.model.recipe.batch_rows)
        recipe = self._fine_tuning(len(rows))
        section = TrainQat(
            epochs=recipe.epochs,
            batch_size=recipe.batch_rows,
            learning_rate=recipe.learning_rate,
            weight_decay=recipe.weight_decay,
            clip_gradient=1.0,
            distill=Distill(weight=variant.distill) if variant.distill else None,
        )
        with tempfile.TemporaryDirectory() as folder:
            train_qat(
                graph,
                TorchGraph(self.prepared, trainable=False),
                section,
                self.criterion,
                self._work(rows, spread(self.splits.validation, JUDGED_ROWS), folder),
            )

    def _work(self, rows: Rows, validation: Rows, folder: str) -> Work:
        return Work(rows, validation, self.seed, Path(folder) / "checkpoint", SilentProgress())

    def _fine_tuning(self, rows: int) -> Recipe:
        """Half of the learning rate of FP32 training, for STEPS steps."""
        recipe = self.model.recipe
        epochs = 1 if self.quick else max(1, round(STEPS * recipe.batch_rows / rows))
        rate = recipe.learning_rate / 2
        return dataclasses.replace(recipe, epochs=epochs, learning_rate=rate)

    def _control(self) -> ir.Model:
        """The FP32 model after the steps of QAT, with nothing quantized."""
        empty = dataclasses.replace(
            self.plan,
            nodes=tuple(dataclasses.replace(n, treatment="float") for n in self.plan.nodes),
            activations={},
            weights={},
            biases={},
            shares={},
        )
        graph = FakeQuantGraph(TorchGraph(self.prepared), empty, {}, {})
        self._train(graph, VARIANTS[0])
        return self.int8(graph)

    @property
    def _case(self) -> str:
        return f"{self.name}-seed{self.seed}"

    def _row(self, metric: str, value: float, unit: str, peer: str = "", notes: str = "") -> Row:
        return Row(self._case, metric, value, unit, peer, notes)


def with_bits(plan: Plan, variant: Variant) -> Plan:
    """Returns ``plan`` with fewer bits for every weight and activation."""
    weights = {
        name: dataclasses.replace(
            weight, spec=dataclasses.replace(weight.spec, bits=variant.weight_bits)
        )
        for name, weight in plan.weights.items()
    }
    activations = {
        name: dataclasses.replace(spec, bits=variant.activation_bits)
        for name, spec in plan.activations.items()
    }
    return dataclasses.replace(plan, weights=weights, activations=activations)


def predictions(model: ir.Model, inputs: dict[str, NDArray[Any]]) -> NDArray[np.float32]:
    """Returns the outputs of all rows in ONNX Runtime."""
    session = Session(model, "the model")
    name = session.output_names[0]
    return np.concatenate([session.run(batch, [name])[name] for batch in batches(inputs)])


def decisions(outputs: NDArray[np.float32], model: RealModel, middle: float) -> NDArray[Any]:
    """Returns what a row is taken for."""
    if model.task == "multiclass_classification":
        return np.asarray(outputs.argmax(axis=1))
    threshold = 0.0 if model.task == "binary_classification" else middle
    return np.asarray(outputs[:, 0] >= threshold)


def batches(inputs: dict[str, NDArray[Any]]) -> list[dict[str, NDArray[Any]]]:
    """Returns the rows cut into batches."""
    rows = len(next(iter(inputs.values())))
    return [
        {name: array[start : start + BATCH_ROWS] for name, array in inputs.items()}
        for start in range(0, rows, BATCH_ROWS)
    ]


def first(inputs: dict[str, NDArray[Any]], rows: int) -> dict[str, NDArray[Any]]:
    """Returns the first rows."""
    return {name: array[:rows] for name, array in inputs.items()}


def tensors(inputs: dict[str, NDArray[Any]]) -> dict[str, torch.Tensor]:
    """Returns the arrays as tensors."""
    return {name: torch.from_numpy(array) for name, array in inputs.items()}


def shortened(split: RealRows, most: int) -> RealRows:
    """Returns at most ``most`` rows of a split, evenly spread over it."""
    chosen = slice(None, None, -(-len(split) // most))
    inputs = {name: array[chosen] for name, array in split.inputs.items()}
    return RealRows(inputs, split.labels[chosen])


def spread(split: RealRows, most: int) -> Rows:
    """Returns at most ``most`` rows of a split as qtool's training reads them."""
    short = shortened(split, most)
    return Rows(dict(short.inputs), short.labels)


if __name__ == "__main__":
    main()
