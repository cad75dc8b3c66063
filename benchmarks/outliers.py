"""Activations with outliers: a Transformer with planted ones, and an amount beside flags.

``transformer-…``: a pre-norm encoder (4 layers, d 128, 64 positions, GELU) tells the 77 intents of
BANKING77 (Casanueva et al. 2020, arXiv 2003.04807; DIR/banking77). Then four gains and biases of
each of its layer normalizations are multiplied by 100 and the weights that read those
channels divided: the same function in FP32, with the outlier channels that language models have
(Dettmers et al. 2022, arXiv 2208.07339). ``planted`` is that model in FP32, ``naive-static`` has
integer kernels for all layers with min-max ranges; ``static``, ``dynamic`` and ``fastest`` are
qtool's methods as they are, ``…-smooth`` the same after ``tuning: [{method: smooth}]``; in
``float-static`` and ``float-dynamic`` all layers that read a normalization stay float. ``ort-…``
are ONNX Runtime's own tools with defaults, on the prepared model; ``auto`` is a ``qtool run`` whose
gate allows 0.3 points (with ``--auto``). ``accuracy_change_points`` is on the published test rows.

``columns-…``: a 3 x 512 MLP learns a rule of an amount in cents (log-normal, five powers of ten)
and seven flags. It reads the amount as it is: what scaled it in training is part of the first
weight. One scale for all columns (``shared``), or one for each. ``decision_flips``: share of the
rows that are on the other side of the FP32 median.

Speed-ups are over the faster of the exported and the prepared FP32 model, one core and one thread,
in one interleaved run: the median of the ratio within a round.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx_ir as ir
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from block_attention import EncoderLayer
from block_dense import Mlp
from harness import Row, arguments, options, report
from numpy.typing import NDArray
from peers_ort import ort_dynamic, ort_static
from qat_fit import Recipe, fit
from qat_models import INTENTS, accuracy
from qat_rows import Rows, Splits
from qat_tables import VOCABULARY, intents
from torch import Tensor, nn

from qtool.calibration.calibrate import observe
from qtool.calibration.settled import settle
from qtool.commands.context import opened
from qtool.commands.evaluate import int8_stage
from qtool.commands.quantize import INT8_MODEL
from qtool.commands.run import run
from qtool.config.quantization import (
    Calibrated,
    DynamicQuantization,
    FastestQuantization,
    LayerRule,
    MinMaxObserver,
    Planned,
    StaticQuantization,
)
from qtool.config.tuning import Smooth
from qtool.graph.costs import Workload, measured_values
from qtool.graph.layers import layer_of
from qtool.graph.model_file import model_bytes
from qtool.graph.parameters import derive
from qtool.graph.planner import make_plan
from qtool.graph.prepare.pipeline import prepare
from qtool.graph.targets import TARGETS
from qtool.graph.writing.writer import write
from qtool.progress import SilentProgress
from qtool.runtime.cpu import resolve_target
from qtool.runtime.latency import Timing, measure, one_core, ratio
from qtool.runtime.sessions import Session
from qtool.runtime.shapes import shapes_of
from qtool.torchgraph.export import export_onnx
from qtool.tuning.smooth import smooth

Inputs = Mapping[str, NDArray[Any]]
POSITIONS, WIDTH, LAYERS = 64, 128, 4
OUTLIERS = 4
"""Channels of each normalization."""
FACTOR = 100.0
"""What they are multiplied by. Naive INT8 is to lose more than 5 points: it lost 4.4 with factors
from 30 to 100 and 4.9 with 50 to 100."""
CALIBRATION_ROWS, CALIBRATION_BATCH, SCORED_ROWS = 512, 64, 256
BATCH_SIZES = (1, 32)
POINTS = 100.0
GATE = 0.003
"""Of ``auto``: 0.3 points."""
RECIPE = Recipe(epochs=12, batch_rows=64, learning_rate=1e-3)
FLAGS = 7
UNIT = 1e5
"""Cents, to which the network is trained; a typical amount is 3,000."""
MLP_ROWS = 20_000
MLP_RECIPE = Recipe(epochs=4, batch_rows=128, learning_rate=1e-3)


class IntentEncoder(nn.Module):
    """Embedded words through pre-norm encoder layers, then the mean over the words."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(VOCABULARY, WIDTH)
        self.positions = nn.Parameter(torch.zeros(POSITIONS, WIDTH))
        self.layers = nn.ModuleList(
            EncoderLayer(WIDTH, 4, "gelu", pre_norm=True) for _ in range(LAYERS)
        )
        self.norm, self.dropout = nn.LayerNorm(WIDTH), nn.Dropout(0.3)
        self.head = nn.Linear(WIDTH, INTENTS)
        nn.init.normal_(self.table.weight, std=0.1)

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """Returns float32 (batch, INTENTS) for int64 (batch, words); ``mask`` is 1 at words."""
        real = mask.to(torch.float32)
        bias = (1 - real)[:, None, None, :] * -1e4
        x = self.dropout(self.table(tokens) + self.positions[: tokens.shape[1]])
        for layer in self.layers:
            x = self.dropout(layer(x, bias))
        x = self.norm(x)
        mean = (x * real[:, :, None]).sum(1) / real.sum(1, keepdim=True)
        return self.head(mean)  # type: ignore[no-any-return]


def main() -> None:
    """Measures both parts and reports their rows."""
    logging.disable(logging.WARNING)  # the peers' advice
    parser = arguments(__doc__ or "")
    parser.add_argument(
        "--data", type=Path, metavar="DIR", help="folder of the real data sets; see the docstring"
    )
    parser.add_argument("--auto", action="store_true", help="also search, which takes minutes")
    given = parser.parse_args()
    splits = made_up() if given.data is None else intents(given.data)
    rows = transformer_rows(splits, quick=given.quick, auto=given.auto)
    report([*rows, *column_rows(quick=given.quick)], given.json)


def made_up() -> Splits:
    """Returns sentences of random words, whose first word tells the intent: for smoke runs."""
    generator = np.random.default_rng(0)

    def rows(count: int) -> Rows:
        tokens = generator.integers(2, VOCABULARY, (count, 24))
        mask = (np.arange(24) < generator.integers(4, 25, count)[:, None]).astype(np.int64)
        return Rows({"tokens": tokens * mask, "mask": mask}, tokens[:, 0] % INTENTS)

    return Splits(rows(512), rows(256), rows(512))


def transformer_rows(splits: Splits, *, quick: bool, auto: bool) -> list[Row]:
    """Trains, plants outliers, and returns accuracy and speed of every case."""
    torch.manual_seed(0)
    network = IntentEncoder()
    training, validation = ((part.inputs, part.labels) for part in splits.all()[:2])
    recipe = Recipe(1, 64, 1e-3) if quick else RECIPE
    fit(network, training, validation, "multiclass_classification", recipe, seed=0)
    trained, test = export(network), padded(splits.test)
    plant(network)
    planted = export(network)
    prepared = prepare(planted)
    models = {"trained": model_bytes(trained), "planted": model_bytes(planted)}
    models |= int8_models(prepared, padded(splits.validation))
    if auto:
        models["auto"] = auto_model(models["planted"], splits)
    scored = {name: accuracy(test.labels, outputs(model, test)) for name, model in models.items()}
    rows = [Row("transformer-fp32", "accuracy_points", POINTS * scored["trained"], "points")]
    del models["trained"]
    for name in models:
        change = POINTS * (scored[name] - scored["trained"])
        rows.append(Row(f"transformer-{name}", "accuracy_change_points", change, "points", "fp32"))
    fp32 = {"planted": models.pop("planted"), "prepared": model_bytes(prepared)}
    return rows + speed_rows("transformer", models, fp32, test.inputs, quick=quick)


def padded(rows: Rows) -> Rows:
    """Returns the rows with POSITIONS positions."""
    wide = {
        name: np.pad(array, ((0, 0), (0, POSITIONS - array.shape[1])))
        for name, array in rows.inputs.items()
    }
    return Rows(wide, rows.labels)


def export(network: nn.Module) -> ir.Model:
    """Returns the network for POSITIONS positions."""
    example = np.ones((2, POSITIONS), np.int64)
    return export_onnx(network.eval(), {"tokens": example, "mask": example})


@torch.no_grad()
def plant(network: IntentEncoder) -> None:
    """Multiplies some channels of each normalization and divides what reads them, in place."""
    generator = np.random.default_rng(0)
    for layer in network.layers:
        assert isinstance(layer, EncoderLayer)
        attention = layer.attention
        readers = {
            layer.norm1: (attention.query, attention.key, attention.value),
            layer.norm2: (layer.up,),
        }
        for norm, dense in readers.items():
            channels = generator.choice(WIDTH, OUTLIERS, replace=False)
            norm.weight[channels] *= FACTOR
            norm.bias[channels] *= FACTOR
            for linear in dense:
                linear.weight[:, channels] /= FACTOR


def int8_models(prepared: ir.Model, calibration: Rows) -> dict[str, bytes]:
    """Returns the INT8 models of the planted one by case."""
    rows = {name: array[:CALIBRATION_ROWS] for name, array in calibration.inputs.items()}
    masks = {"tokens": "mask"}
    smoothed, _ = smooth(
        prepared,
        Smooth(method="smooth"),
        lambda count: batches(rows, min(count, CALIBRATION_ROWS)),
        SilentProgress(),
        masks=masks,
    )
    static, dynamic = StaticQuantization(method="static"), DynamicQuantization(method="dynamic")
    fastest = FastestQuantization(method="fastest")
    everything = LayerRule(match="MatMul", method="static")
    naive = StaticQuantization(
        method="static", observer=MinMaxObserver(method="min_max"), layers=[everything]
    )
    kept = {"layers": [LayerRule(match=name, method="float") for name in reading_norms(prepared)]}
    cases: dict[str, tuple[ir.Model, Planned]] = {
        "naive-static": (prepared, naive),
        "naive-static-smooth": (smoothed, naive),
        "static": (prepared, static),
        "static-smooth": (smoothed, static),
        "dynamic": (prepared, dynamic),
        "dynamic-smooth": (smoothed, dynamic),
        "fastest": (prepared, fastest),
        "fastest-smooth": (smoothed, fastest),
        "float-static": (prepared, static.model_copy(update=kept)),
        "float-dynamic": (prepared, dynamic.model_copy(update=kept)),
    }
    made = {
        name: model_bytes(quantized(model, section, rows, masks))
        for name, (model, section) in cases.items()
    }
    fp32 = model_bytes(prepared)
    return {**made, "ort-static": ort_static(fp32, rows), "ort-dynamic": ort_dynamic(fp32)}


def reading_norms(prepared: ir.Model) -> list[str]:
    """Returns the names of the layers that read a normalization."""
    found = []
    for node in prepared.graph:
        producer = node.inputs[0].producer() if node.inputs and node.inputs[0] else None
        normed = producer is not None and producer.op_type == "LayerNormalization"
        if normed and layer_of(node) is not None:
            found.append(str(node.name))
    return found


def quantized(
    model: ir.Model, section: Planned, rows: Inputs, masks: Mapping[str, str] | None = None
) -> ir.Model:
    """Returns the INT8 form of a prepared graph, for this machine."""
    workload = None
    if isinstance(section, FastestQuantization):
        shapes = shapes_of(model, measured_values(model), rows)
        workload = Workload(BATCH_SIZES, shapes, len(next(iter(rows.values()))))
    plan = make_plan(model, "", section, TARGETS[resolve_target("auto")], workload)
    if not isinstance(section, Calibrated):
        return write(model, plan, derive(model, plan, {}), {})
    count = len(next(iter(rows.values())))
    seen = observe(model, plan, batches(rows, count), count, SilentProgress(), masks=masks)
    settled = settle(model, plan, seen, section, rows)
    return write(model, settled.plan, derive(model, settled.plan, settled.ranges), {})


def batches(rows: Inputs, count: int) -> Iterator[Inputs]:
    """Yields the first ``count`` rows."""
    for start in range(0, count, CALIBRATION_BATCH):
        stop = min(start + CALIBRATION_BATCH, count)
        yield {name: array[start:stop] for name, array in rows.items()}


def auto_model(fp32: bytes, splits: Splits) -> bytes:
    """Returns what ``qtool run`` makes of ``method: auto``; its calibration split is validation."""
    parts = splits.all()
    labels = np.concatenate([part.labels for part in parts])
    texts = [
        tokens[: mask.sum()]
        for part in parts
        for tokens, mask in zip(part.inputs["tokens"], part.inputs["mask"], strict=True)
    ]
    calibration, evaluation = (len(part) / len(labels) for part in parts[1:])
    config = f"""\
name: outliers
task: multiclass_classification
model: {{onnx: fp32.onnx}}
data:
  source: rows.parquet
  label: intent
  inputs:
    tokens: {{kind: sequence, columns: [words], length: {POSITIONS}, dtype: int64, mask: mask}}
  split: {{by: time, column: row, calibration: {calibration}, evaluation: {evaluation}}}
target: {{threads: 1, batch_sizes: [{", ".join(map(str, BATCH_SIZES))}]}}
quantization: {{method: auto, samples: {CALIBRATION_ROWS}}}
evaluation: {{metrics: [accuracy], latency: {{enabled: false}}, gates: {{accuracy_drop: {GATE}}}}}
"""
    with tempfile.TemporaryDirectory() as directory:
        folder = Path(directory)
        (folder / "fp32.onnx").write_bytes(fp32)
        columns = {"row": range(len(labels)), "intent": labels, "words": texts}
        pq.write_table(
            pa.table({name: list(column) for name, column in columns.items()}),
            folder / "rows.parquet",
        )
        (folder / "config.yaml").write_text(config, encoding="utf-8")
        with opened(folder / "config.yaml", options(folder / "runs", ())) as context:
            run(context)
            return (int8_stage(context) / INT8_MODEL).read_bytes()


def outputs(model: bytes, rows: Rows) -> NDArray[np.float32]:
    """Returns the first output of all rows."""
    session = Session(model, "a case")
    pieces = [
        session.run(
            {name: array[start : start + SCORED_ROWS] for name, array in rows.inputs.items()}
        )
        for start in range(0, len(rows), SCORED_ROWS)
    ]
    return np.concatenate([piece[session.output_names[0]] for piece in pieces])


def column_rows(*, quick: bool) -> list[Row]:
    """Trains the MLP and returns flips and speed with one scale and with one per column."""
    torch.manual_seed(0)
    network = Mlp([1 + FLAGS, 512, 512, 512, 1], nn.ReLU, lambda width: nn.Identity())
    training, validation, test = (amounts(MLP_ROWS // (20 if quick else 1), s) for s in range(3))
    recipe = Recipe(1, 128, 1e-3) if quick else MLP_RECIPE
    parts = [(in_units(rows), rows.labels) for rows in (training, validation)]
    fit(network, parts[0], parts[1], "binary_classification", recipe, seed=0)
    first = network.body[0]
    assert isinstance(first, nn.Linear)
    with torch.no_grad():
        first.weight[:, 0] /= UNIT
    prepared = prepare(export_onnx(network.eval(), {"x": test.inputs["x"][:2]}))
    models = {"fp32": model_bytes(prepared)}
    choices: tuple[Literal["shared", "separate", "auto"], ...] = ("shared", "separate", "auto")
    for choice in choices:
        section = StaticQuantization(method="static", columns=choice)
        models[choice] = model_bytes(quantized(prepared, section, validation.inputs))
    models["ort-static"] = ort_static(models["fp32"], validation.inputs)
    fp32 = outputs(models["fp32"], test)
    rows, prepared_fp32 = [], {"fp32": models.pop("fp32")}
    for name, model in models.items():
        flips = ((outputs(model, test) > np.median(fp32)) != (fp32 > np.median(fp32))).mean()
        rows.append(Row(f"columns-{name}", "decision_flips", float(flips), "share", "fp32"))
    return rows + speed_rows("columns", models, prepared_fp32, test.inputs, quick=quick)


def in_units(rows: Rows) -> Inputs:
    """Returns the inputs with the amounts in UNIT."""
    x = rows.inputs["x"].copy()
    x[:, 0] /= UNIT
    return {"x": x}


def amounts(count: int, seed: int) -> Rows:
    """Returns amounts in cents beside flags, and a label that both decide."""
    generator = np.random.default_rng(seed)
    x = generator.integers(0, 2, (count, 1 + FLAGS)).astype(np.float32)
    x[:, 0] = np.exp(generator.normal(np.log(3000), 1.5, count))
    logit = x[:, 1:] @ np.linspace(-2, 2, FLAGS) + x[:, 0] / UNIT
    labels = generator.random(count) < 1 / (1 + np.exp(-logit))
    return Rows({"x": x}, labels.astype(np.int64))


def speed_rows(
    system: str,
    models: Mapping[str, bytes],
    fp32: Mapping[str, bytes],
    inputs: Inputs,
    *,
    quick: bool,
) -> list[Row]:
    """Returns the speed-up of every model over the fastest FP32 one, at every batch size."""
    sessions = {name: Session(model, name) for name, model in {**fp32, **models}.items()}
    rows = []
    for size in BATCH_SIZES:
        batch = {name: array[:size] for name, array in inputs.items()}
        calls: dict[str, Callable[[], None]] = {
            name: session.bound(batch) for name, session in sessions.items()
        }
        with one_core(True):
            times = measure(calls, rounds=5 if quick else 40, block_ms=2.0 if quick else 15.0)
        fastest = min((times[name] for name in fp32), key=median_us)
        rows += [speedup(f"{system}-{name}-b{size}", fastest, times[name]) for name in models]
    return rows


def speedup(case: str, reference: Timing, timing: Timing) -> Row:
    """Returns the median ratio of the reference's latency and the case's."""
    found = ratio(reference, timing)
    told = f"{found.low:.2f} to {found.high:.2f}; {median_us(timing):.1f} us"
    return Row(case, "speedup", found.value, "x", "fp32", told)


def median_us(timing: Timing) -> float:
    """Returns the median over rounds."""
    return float(np.median(timing.rounds))


if __name__ == "__main__":
    main()
