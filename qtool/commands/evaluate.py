"""``qtool evaluate``: FP32 against INT8 on the same rows, latency, gates, report."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydantic import TypeAdapter

from qtool.commands.calibrate import read_plan
from qtool.commands.context import Context
from qtool.commands.prepare import (
    HISTORY,
    MODEL,
    PARITY,
    PARITY_ROWS,
    data_content,
    dataset,
    first_rows,
    fp32_stage,
    prepared_stage,
    require_label,
    versions,
)
from qtool.commands.quantize import INT8_MODEL, quantize, read_coverage
from qtool.config.task import Task
from qtool.data.batch import Batch, labels_of
from qtool.data.split import SplitName
from qtool.errors import ConfigError, ModelError
from qtool.evaluation.coverage import not_fused
from qtool.evaluation.decisions import decision_change, operating_threshold
from qtool.evaluation.gates import check_gates
from qtool.evaluation.metrics import compare
from qtool.evaluation.parity import unfused_parity
from qtool.evaluation.results import Evaluation, LatencyResult, NodeCoverage, Parity, Scores
from qtool.evaluation.speed import measure_latency
from qtool.graph.model_file import model_files, model_sha256, read_model
from qtool.graph.plan import Plan
from qtool.history import History
from qtool.report.html import to_html
from qtool.report.json import accuracy_json, latency_json
from qtool.report.junit import to_junit
from qtool.report.markdown import to_markdown
from qtool.runs import content, write_text
from qtool.runtime.cpu import detect
from qtool.runtime.sessions import Session, to_scores

BUNDLE = "bundle"
"""The stage that ``export`` makes of a model that passes."""
REPORT = "report.html"
RESULT = "result.json"
"""The whole ``Evaluation`` with every timed call, so that a current stage can be shown again."""

_STORED = TypeAdapter(Evaluation)


@dataclass(frozen=True)
class Models:
    """The models that are compared, as files, and the plan and the training of the INT8 one."""

    original: Path
    prepared: Path
    int8: Path
    plan: Plan
    coverage: tuple[NodeCoverage, ...]
    parity: Path
    training: History | None


def int8_stage(context: Context) -> Path:
    """Returns the folder of the INT8 model: from QAT if the config has ``train_qat``."""
    if context.experiment.train_qat is None:
        return quantize(context)
    from qtool.commands.train_qat import train_qat

    return train_qat(context)


def evaluate(context: Context) -> tuple[Path, Evaluation]:
    """Compares FP32 and INT8: the folder with all reports, and the result.

    Raises:
        ConfigError: the task is not binary classification, or the data section names no label.
    """
    _require_decisions(context.experiment.task)
    require_label(context.experiment, "evaluate")
    folder = int8_stage(context)
    models = Models(
        original=fp32_stage(context) / MODEL,
        prepared=prepared_stage(context) / MODEL,
        int8=folder / INT8_MODEL,
        plan=read_plan(folder),
        coverage=read_coverage(folder),
        parity=folder / PARITY,
        training=_history(context, folder),
    )

    def make(target: Path) -> None:
        # First, because it refuses outputs that are no scores: what went well before then stays.
        scores = _scores(context, models, "evaluation")
        context.run.discard(BUNDLE, "it is of an earlier evaluation")
        evaluation = _evaluation(context, models, scores)
        write_text(target / "evaluation.json", accuracy_json(evaluation))
        write_text(target / "latency.json", latency_json(evaluation))
        write_text(target / "report.md", to_markdown(evaluation))
        write_text(target / "junit.xml", to_junit(evaluation))
        write_text(target / REPORT, to_html(evaluation, scores))
        # json keeps NaN, which a gate without a measurement has; pydantic would write null.
        write_text(target / RESULT, json.dumps(dataclasses.asdict(evaluation)))

    key = context.key(
        name=context.experiment.name,
        data_name=_data_name(context),
        fp32=content(models.original.parent),
        int8=content(folder),
        data=data_content(context),
        section=context.experiment.evaluation.model_dump(mode="json"),
        target=context.experiment.target.model_dump(mode="json"),
        output=context.experiment.model.output,
        cpu=detect().name,
        versions=versions(
            "onnx", "onnx-ir", "onnxruntime", "numpy", "scikit-learn", "scipy", "matplotlib"
        ),
    )
    done = context.run.stage("evaluate", key, make, force=context.run.force)
    evaluation = _STORED.validate_json((done / RESULT).read_bytes())
    if not evaluation.passed:
        # An earlier, passing model must not look like the result of this run.
        context.run.discard(BUNDLE, "the gates do not hold")
    return done, evaluation


def _require_decisions(task: Task) -> None:
    if task != "binary_classification":
        raise ConfigError(
            "task",
            task,
            "binary_classification, whose decisions 'qtool evaluate', 'export' and 'run' compare",
            "'qtool calibrate', 'qtool quantize' and 'qtool train-qat' work for every task.",
        )


def _evaluation(context: Context, models: Models, scores: Scores) -> Evaluation:
    experiment, section = context.experiment, context.experiment.evaluation
    calibration = _scores(context, models, "calibration")
    threshold, rule = operating_threshold(
        section.decision.threshold, calibration.labels, calibration.fp32
    )
    evaluation = Evaluation(
        name=experiment.name,
        method=models.plan.method,
        qat=experiment.train_qat is not None,
        positives=int(scores.labels.sum()),
        metrics=compare(scores, section.metrics),
        decisions=decision_change(scores, threshold, rule),
        sizes_bytes={
            "fp32": _size_bytes(models.original),
            "int8": _size_bytes(models.int8),
        },
        coverage=models.coverage,
        parity=_parity(context, models),
        latency=_latency(context, models),
        gates=(),
        provenance=_provenance(context, models),
        notes=_notes(context, models),
        training=models.training,
    )
    return dataclasses.replace(evaluation, gates=check_gates(section.gates, evaluation))


def _scores(context: Context, models: Models, split: SplitName) -> Scores:
    """Scores of the original FP32 and the INT8 model, streamed over a split."""
    fp32 = Session(models.original, "the FP32 model")
    int8 = Session(models.int8, "the INT8 model")
    kind, data = context.experiment.model.output, dataset(context)
    pieces = []
    with context.progress.task(f"score {split} rows", data.fitted.counts.rows[split]) as task:
        for batch in data.batches(split, _batch_rows(context, models.plan)):
            both = (_score(session, batch, kind) for session in (fp32, int8))
            pieces.append((batch.rows, labels_of(batch), *both))
            task.advance(len(batch))
    rows, labels, fp32_scores, int8_scores = (
        np.concatenate(column) for column in zip(*pieces, strict=True)
    )
    return Scores(rows, labels, fp32_scores, int8_scores)


def _score(
    session: Session, batch: Batch, kind: str
) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    outputs = session.run(batch.inputs)[session.output_names[0]]
    scores = to_scores(outputs, kind, session.where)
    if len(scores) != len(batch):
        raise ModelError(
            session.where, f"{len(scores)} outputs for {len(batch)} rows", "one output per row"
        )
    return scores


def _batch_rows(context: Context, plan: Plan) -> int:
    """A dynamic model's scores depend on the batch: it is judged at the largest one served."""
    if plan.has("dynamic"):
        return max(context.experiment.target.batch_sizes)
    return 1024


def _parity(context: Context, models: Models) -> Parity | None:
    """QAT measured its own graph; a dynamic model has no fixed codes; others are measured here."""
    if models.parity.is_file():
        return Parity(**json.loads(models.parity.read_text(encoding="utf-8")))
    if not models.plan.activations:
        return None
    with context.progress.task("parity") as task:
        batches = (batch.inputs for batch in first_rows(context, PARITY_ROWS))
        parity = unfused_parity(read_model(models.int8), models.plan, batches)
        task.advance(status=f"{parity.equal_share:.4%} equal codes")
    return parity


def _history(context: Context, folder: Path) -> History | None:
    if context.experiment.train_qat is None:
        return None
    path = folder / HISTORY
    return History.from_json(path.read_text(encoding="utf-8"), str(path))


def _latency(context: Context, models: Models) -> tuple[LatencyResult, ...]:
    section, target = context.experiment.evaluation.latency, context.experiment.target
    if not section.enabled:
        return ()
    rows = next(dataset(context).batches("evaluation", max(target.batch_sizes)))
    fp32 = {"prepared": models.prepared, "original": models.original}
    return measure_latency(
        fp32,
        models.int8,
        rows.inputs,
        target.batch_sizes,
        target.threads,
        section,
        context.progress,
    )


def _size_bytes(model: Path) -> int:
    return sum(file.stat().st_size for file in model_files(model))


def _provenance(context: Context, models: Models) -> dict[str, str]:
    cpu = detect()
    installed = versions("qtool", "onnxruntime", "onnx", "onnx-ir", "numpy")
    return {
        "data": _data_name(context),
        "data sha256": context.data_sha256,
        "FP32 model sha256": model_sha256(models.original),
        "INT8 model sha256": model_sha256(models.int8),
        "target": models.plan.target,
        "CPU": f"{cpu.name} ({cpu.microarchitecture}; {', '.join(cpu.features)})",
        "versions": ", ".join(f"{name} {version}" for name, version in installed.items()),
        "seed": str(context.experiment.seed),
    }


def _data_name(context: Context) -> str:
    """Files as the config names them, so that the report does not depend on where they lie."""
    written = context.written["data"]["source"]
    return str(written) if isinstance(written, str) else context.source.name


def _notes(context: Context, models: Models) -> tuple[str, ...]:
    notes = []
    here = detect().target
    if models.plan.target != here:
        notes.append(
            f"Written for {models.plan.target}, measured on {here or 'a CPU without a profile'}: "
            "latency here says nothing about latency there."
        )
    if models.plan.has("dynamic"):
        notes.append(
            "Dynamic ranges come from each batch, so a row's score depends on the rows scored "
            "with it. "
            f"Scores here are from batches of {_batch_rows(context, models.plan)}."
        )
    slow = not_fused(models.coverage)
    if slow:
        notes.append(f"Planned as INT8 but run as FP32 by this runtime: {', '.join(slow)}.")
    return tuple(notes)
