"""The fake-quant torch graph against the INT8 model in ONNX Runtime, code by code.

Both sample systems, once with the calibrated parameters (``ptq``) and once after quantization-aware
training (``qat``), on 10,000 rows of their generators that were not trained on. Every activation
code is compared, and every decision at the operating threshold.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import onnx_ir as ir
import torch
from harness import PROJECT, Row, arguments, options, report
from numpy.typing import NDArray

from qtool.commands.calibrate import RANGES, calibrate, ranges_from_json, read_plan
from qtool.commands.context import Context, opened
from qtool.commands.prepare import MODEL, PARITY_ROWS, dataset, first_rows, prepared_stage
from qtool.commands.train_qat import graph_parity
from qtool.commands.training import criterion_of, work_in
from qtool.data.batch import Batch, join, labels_of
from qtool.evaluation.decisions import decision_change, operating_threshold
from qtool.evaluation.results import DecisionChange, Parity
from qtool.evaluation.sample import Sample
from qtool.graph.model_file import outputs_of, read_model
from qtool.graph.parameters import derive
from qtool.graph.writing.writer import write
from qtool.runtime.sessions import Session, to_scores
from qtool.torchgraph.fake_quant_graph import FakeQuantGraph
from qtool.torchgraph.importer import TorchGraph
from qtool.training.qat import train_qat

SYSTEMS = ("fraud", "credit")
FULL = ("data.source.rows=40000",)  # 12,000 of them evaluate
QUICK = ("data.source.rows=3000", "model.arguments.hidden=[32,32]", "training.epochs=1")
BATCH_ROWS = 1000


def main() -> None:
    """Compares both systems and reports their rows."""
    given = arguments(__doc__ or "").parse_args()
    overrides = QUICK if given.quick else FULL
    report([row for name in SYSTEMS for row in system_rows(name, overrides)], given.json)


def system_rows(name: str, overrides: tuple[str, ...]) -> list[Row]:
    """Returns the rows of one sample system, before and after quantization-aware training."""
    config = PROJECT / "configs" / f"{name}_qat.yaml"
    with (
        tempfile.TemporaryDirectory() as directory,
        opened(config, options(Path(directory), overrides)) as context,
    ):
        calibrated = calibrate(context)
        model = read_model(prepared_stage(context) / MODEL)
        plan = read_plan(calibrated)
        ranges = ranges_from_json((calibrated / RANGES).read_text(encoding="utf-8"))
        initial = derive(model, plan, ranges)
        graph = FakeQuantGraph(TorchGraph(model), plan, initial.activations, initial.weights)
        rows = _rows(f"{name}-ptq", context, model, graph)
        _fine_tune(context, model, graph)
        return rows + _rows(f"{name}-qat", context, model, graph)


def _fine_tune(context: Context, model: ir.Model, graph: FakeQuantGraph) -> None:
    """Trains ``graph`` as ``qtool train-qat`` does, which keeps the written model only."""
    section = context.experiment.train_qat
    assert section is not None
    with tempfile.TemporaryDirectory() as directory:
        fp32 = TorchGraph(model, trainable=False)
        work = work_in(context, section, Path(directory))
        train_qat(graph, fp32, section, criterion_of(context, section), work)


def _rows(case: str, context: Context, model: ir.Model, graph: FakeQuantGraph) -> list[Row]:
    trained, numbers = graph.written_back(model)
    int8 = write(trained, graph.plan, numbers, {})
    batches = list(first_rows(context, PARITY_ROWS, BATCH_ROWS))
    output = outputs_of(model)[0].name
    parity = graph_parity(graph, int8, graph.plan, output, (batch.inputs for batch in batches))
    return _parity_rows(case, parity, _decisions(context, graph, int8, output, batches))


def _parity_rows(case: str, parity: Parity, decisions: DecisionChange) -> list[Row]:
    peer = "onnxruntime"
    counted = f"{parity.codes:,} codes of {parity.rows:,} rows"
    steps = float(parity.largest_code_difference)
    differing = decisions.to_flagged + decisions.to_passed
    decided = f"{differing:,} of {decisions.rows:,} differ, {decisions.flagged_fp32:,} flagged"
    return [
        Row(case, "equal_codes_share", parity.equal_share, "share", peer, counted),
        Row(case, "largest_code_difference", steps, "steps", peer),
        Row(case, "decisions_equal_share", 1 - decisions.flip_share, "share", peer, decided),
    ]


def _decisions(
    context: Context, graph: FakeQuantGraph, int8: ir.Model, output: str, batches: list[Batch]
) -> DecisionChange:
    """Decides with the torch graph and with the INT8 model, at a threshold of the torch graph."""
    calibration = join(list(dataset(context).batches("calibration")))
    threshold, rule = operating_threshold(
        context.experiment.evaluation.decision.threshold,
        labels_of(calibration),
        _simulated(context, graph, output, [calibration]),
    )
    rows, session = join(batches), Session(int8, "the INT8 model")
    written = np.concatenate([session.run(batch.inputs, [output])[output] for batch in batches])
    sample = Sample(
        rows.rows,
        labels_of(rows),
        _simulated(context, graph, output, batches),
        to_scores(written, context.experiment.model.output, session.where),
    )
    return decision_change(sample, threshold, rule)


def _simulated(
    context: Context, graph: FakeQuantGraph, output: str, batches: list[Batch]
) -> NDArray[np.float32]:
    pieces = []
    for batch in batches:
        tensors = {name: torch.from_numpy(array) for name, array in batch.inputs.items()}
        with torch.no_grad():
            pieces.append(graph(tensors)[output].numpy())
    return to_scores(np.concatenate(pieces), context.experiment.model.output, "the torch graph")


if __name__ == "__main__":
    main()
