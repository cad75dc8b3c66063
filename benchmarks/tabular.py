"""Fraud and credit models of 3 x 512 on real data, against FP32 and ONNX Runtime's tools.

Each case is a ``qtool run``. The peers ``onnxruntime.quantization.quantize_static`` and
``quantize_dynamic`` get the same prepared FP32 model and the same calibration rows, with their
defaults; all models are timed in one interleaved run.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from harness import CONFIGS, Row, options, parser, report
from onnxruntime import quantization as peer_tool

from qtool.commands.context import Context, opened
from qtool.commands.evaluate import evaluate, int8_stage
from qtool.commands.prepare import MODEL, dataset, fp32_stage, prepared_stage, sample_rows
from qtool.commands.quantize import INT8_MODEL
from qtool.data.batch import Batch
from qtool.evaluation.metrics import auc
from qtool.evaluation.results import Evaluation
from qtool.runtime.latency import measure, one_core, ratio
from qtool.runtime.sessions import Session, to_scores

METHODS = {
    "static": [],
    "dynamic": [
        "quantization={method: dynamic, observer: null}",
        "evaluation.gates.equal_codes=null",
    ],
    "qat": [
        "train_qat={epochs: 2, batch_size: 256, learning_rate: 0.00005, distill: {weight: 1.0}}"
    ],
}
QUICK = [
    "model.arguments.hidden=[16,16]",
    "training.epochs=1",
    "evaluation.latency={blocks: 5, block_ms: 1}",
    "evaluation.gates={size_ratio: null, auc_change: null, decision_flips: null, speedup: null}",
    "target.batch_sizes=[1,8]",
]


@dataclass(frozen=True)
class Case:
    """One data set."""

    name: str
    config: str
    file: str


CASES = (
    Case("credit", "credit.yaml", "taiwan_credit_default/taiwan_credit_default.parquet"),
    Case("fraud", "fraud.yaml", "ulb_creditcard_sample/ulb_creditcard_sample.parquet"),
)


def main() -> None:
    """Runs every case with every method."""
    arguments = parser(__doc__).parse_args()
    rows: list[Row] = []
    for case in CASES:
        file = arguments.data / case.file
        if file.is_file():
            source, name = [f"data.source={file}"], case.name
        elif case.name == "credit":
            source, name = (
                ["data.source={generator: credit_clients, rows: 6000}"],
                "credit-generated",
            )
        else:
            print(f"{case.name}: skipped, {case.file} is not in {arguments.data}")
            continue
        with tempfile.TemporaryDirectory() as directory:
            for method, changes in METHODS.items():
                overrides = [*source, *changes, *(QUICK if arguments.quick else [])]
                with opened(CONFIGS / case.config, options(Path(directory), overrides)) as context:
                    rows += _rows(f"{name}-{method}", context)
    report(rows, arguments.json)


def _rows(case: str, context: Context) -> Iterator[Row]:
    _, result = evaluate(context)
    (area,) = (metric for metric in result.metrics if metric.name == "auc")
    yield Row(case, "auc_fp32", area.fp32, "AUC")
    yield Row(case, "auc_change", area.change, "AUC", "fp32")
    yield Row(case, "decision_flips", result.decisions.flip_share, "share", "fp32", _flips(result))
    yield Row(case, "size_ratio", result.size_ratio, "ratio", "fp32")
    if result.parity is not None:
        yield Row(
            case,
            "equal_codes_share",
            result.parity.equal_share,
            "share",
            "",
            result.parity.simulation,
        )
    yield from _against_peers(case, context, result)


def _flips(result: Evaluation) -> str:
    decisions = result.decisions
    return f"{decisions.to_flagged + decisions.to_passed} of {decisions.rows}"


def _against_peers(case: str, context: Context, result: Evaluation) -> Iterator[Row]:
    prepared = prepared_stage(context) / MODEL
    sample = sample_rows(context, 1024)
    models = {
        "fp32-prepared": prepared.read_bytes(),
        "fp32-original": (fp32_stage(context) / MODEL).read_bytes(),
        "qtool": (int8_stage(context) / INT8_MODEL).read_bytes(),
        "ort-static": _peer_static(prepared, sample),
        "ort-dynamic": _peer_dynamic(prepared),
    }
    rows = next(dataset(context).batches("evaluation", 4096))
    fp32 = _scores(models["fp32-prepared"], rows, context)
    for peer in ("ort-static", "ort-dynamic"):
        scores = _scores(models[peer], rows, context)
        change = auc(rows.labels, scores) - auc(rows.labels, fp32)
        flips = (
            (scores >= result.decisions.threshold) != (fp32 >= result.decisions.threshold)
        ).mean()
        yield Row(case, "peer_auc_change", change, "AUC", peer, f"{len(rows)} rows")
        yield Row(case, "peer_decision_flips", float(flips), "share", peer, f"{len(rows)} rows")
    yield from _latency(case, context, models, rows)


def _latency(case: str, context: Context, models: dict[str, bytes], rows: Batch) -> Iterator[Row]:
    section = context.experiment.evaluation.latency
    sessions = {name: Session(model, name) for name, model in models.items()}
    for size in context.experiment.target.batch_sizes:
        batch = {name: np.resize(x, (size, *x.shape[1:])) for name, x in rows.inputs.items()}
        with one_core(enabled=True):
            calls = {name: session.bound(batch) for name, session in sessions.items()}
            times = measure(calls, rounds=section.blocks, block_ms=section.block_ms)
        fp32 = min(
            (times["fp32-prepared"], times["fp32-original"]),
            key=lambda t: float(np.median(t.rounds)),
        )
        against = {
            "fp32": fp32,
            "ort-static": times["ort-static"],
            "ort-dynamic": times["ort-dynamic"],
        }
        for peer, timing in against.items():
            found = ratio(timing, times["qtool"])
            notes = f"95 % interval {found.low:.2f} to {found.high:.2f}"
            yield Row(f"{case}-b{size}", "speedup", found.value, "ratio", peer, notes)


class _Reader(peer_tool.CalibrationDataReader):  # type: ignore[misc]
    def __init__(self, sample: Batch) -> None:
        starts = range(0, len(sample), 32)
        self._batches = iter(
            {name: x[start : start + 32] for name, x in sample.inputs.items()} for start in starts
        )

    def get_next(self) -> dict[str, Any] | None:
        """Returns the next calibration batch."""
        return next(self._batches, None)


def _peer_static(model: Path, sample: Batch) -> bytes:
    with tempfile.TemporaryDirectory() as directory:
        target = Path(directory) / "peer.onnx"
        peer_tool.quantize_static(str(model), str(target), _Reader(sample))
        return target.read_bytes()


def _peer_dynamic(model: Path) -> bytes:
    with tempfile.TemporaryDirectory() as directory:
        target = Path(directory) / "peer.onnx"
        peer_tool.quantize_dynamic(str(model), str(target))
        return target.read_bytes()


def _scores(model: bytes, rows: Batch, context: Context) -> Any:
    session = Session(model, "model")
    outputs = session.run(rows.inputs)[session.output_names[0]]
    return to_scores(outputs, context.experiment.model.output, "model")


if __name__ == "__main__":
    main()
