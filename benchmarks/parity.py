"""The fake-quant torch graph against the INT8 model in ONNX Runtime, code by code.

Both sample systems on 10,000 rows of their evaluation split. ``before`` is the calibrated model
simulated by the same torch graph that QAT trains; ``after`` is what QAT wrote.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

from harness import ROOT, Row, options, parser, report

from qtool.commands.calibrate import RANGES, calibrate, ranges_from_json, read_plan
from qtool.commands.context import Context, opened
from qtool.commands.evaluate import evaluate
from qtool.commands.prepare import MODEL, first_rows, prepared_stage
from qtool.commands.quantize import INT8_MODEL, quantize
from qtool.commands.train_qat import graph_parity
from qtool.evaluation.results import Parity
from qtool.graph.model_file import outputs_of, read_model
from qtool.graph.parameters import derive
from qtool.torchgraph.fake_quant_graph import FakeQuantGraph
from qtool.torchgraph.importer import TorchGraph

SYSTEMS = ("fraud", "credit")
QUICK = {
    "fraud": ["data.source.rows=6000"],
    "credit": ["data.source.rows=6000"],
    "both": [
        "model.arguments.hidden=[16,16]",
        "training.epochs=1",
        "evaluation.gates={size_ratio: null, auc_change: null, decision_flips: null}",
    ],
}


def main() -> None:
    """Compares both systems."""
    arguments = parser(__doc__).parse_args()
    rows: list[Row] = []
    for system in SYSTEMS:
        overrides = ["evaluation.latency.enabled=false"]
        overrides += QUICK[system] + QUICK["both"] if arguments.quick else []
        config = ROOT / "configs" / f"{system}_qat.yaml"
        with (
            tempfile.TemporaryDirectory() as directory,
            opened(config, options(Path(directory), overrides)) as context,
        ):
            rows += _rows(f"{system}-before", _calibrated(context))
            _, evaluation = evaluate(context)
            assert evaluation.parity is not None
            rows += _rows(f"{system}-after", evaluation.parity)
            unchanged = 1 - evaluation.decisions.flip_share
            rows.append(Row(f"{system}-after", "decisions_equal_share", unchanged, "share", "fp32"))
    report(rows, arguments.json)


def _rows(case: str, parity: Parity) -> Iterator[Row]:
    notes = f"{parity.codes} codes of {parity.rows} rows"
    yield Row(case, "equal_codes_share", parity.equal_share, "share", "onnxruntime", notes)
    steps = float(parity.largest_code_difference)
    yield Row(case, "largest_code_difference", steps, "steps", "onnxruntime", notes)
    gap = parity.largest_output_difference
    yield Row(case, "largest_output_difference", gap, "logit", "onnxruntime", notes)


def _calibrated(context: Context) -> Parity:
    calibrated = calibrate(context)
    plan = read_plan(calibrated)
    ranges = ranges_from_json((calibrated / RANGES).read_text(encoding="utf-8"))
    model = read_model(prepared_stage(context) / MODEL)
    parameters = derive(model, plan, ranges)
    graph = FakeQuantGraph(
        TorchGraph(model, trainable=False), plan, parameters.activations, parameters.weights
    )
    int8 = (quantize(context) / INT8_MODEL).read_bytes()
    batches = (batch.inputs for batch in first_rows(context, 10_000))
    return graph_parity(graph, int8, plan, outputs_of(model)[0].name, batches)


if __name__ == "__main__":
    main()
