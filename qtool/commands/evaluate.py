"""``qtool evaluate``: FP32 against INT8 on the same rows, latency, gates, report."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import NamedTuple

from qtool.commands.accuracy import accuracy, judging_of
from qtool.commands.ancestors import ancestors, pruning, teacher_of_fp32, unpruned
from qtool.commands.auto import searched, searched_content, settled
from qtool.commands.calibrate import read_plan
from qtool.commands.context import Context
from qtool.commands.outputs import check_outputs
from qtool.commands.prepare import (
    HISTORY,
    MODEL,
    PARITY,
    PARITY_ROWS,
    before_prepared,
    data_content,
    dataset,
    first_rows,
    fp32_stage,
    prepared_stage,
    require_label,
    source_sha256,
    versions,
)
from qtool.commands.quantize import INT8_MODEL, quantize, read_coverage
from qtool.commands.scoring import (
    Models,
    batch_rows,
    check_judged,
    judging_columns,
    quantile_levels,
    scored,
)
from qtool.commands.tuning import float_stage, read_tuning
from qtool.config.evaluation import Evaluation as EvaluationSection
from qtool.config.evaluation import ThresholdValue
from qtool.evaluation.coverage import not_fused
from qtool.evaluation.decisions import operating_threshold
from qtool.evaluation.gates import check_gates, check_names
from qtool.evaluation.layer_errors import layer_errors
from qtool.evaluation.metrics.metric import Metric
from qtool.evaluation.metrics.registry import metrics_of
from qtool.evaluation.metrics.risk import risk_tests
from qtool.evaluation.moves import moves
from qtool.evaluation.parity import unfused_parity
from qtool.evaluation.results import (
    ColdStart,
    Evaluation,
    ImpactRatio,
    LatencyResult,
    LayerError,
    Parity,
    SegmentChange,
    ThroughputResult,
)
from qtool.evaluation.sample import Sample
from qtool.evaluation.segments import SMALLEST
from qtool.evaluation.speed import measure_cold, measure_latency, measure_throughput
from qtool.evaluation.system import system_function
from qtool.graph.model_file import model_sha256, read_model
from qtool.history import History
from qtool.report.html import to_html
from qtool.report.json import accuracy_json, latency_json
from qtool.report.junit import to_junit
from qtool.report.markdown import to_markdown
from qtool.report.stored import from_stored, to_stored
from qtool.runs import content, write_text
from qtool.runtime.cpu import detect

BUNDLE = "bundle"
"""The stage that ``export`` makes of a model that passes."""
REPORT = "report.html"
LAYER_ERROR_ROWS = 1000
RESULT = "result.json"
"""The whole ``Evaluation`` with every timed call, so that a current stage can be shown again."""


def int8_stage(context: Context) -> Path:
    """Returns the folder of the INT8 model: from QAT if the config has ``train_qat``."""
    context = settled(context)
    if context.experiment.train_qat is None:
        return quantize(context)
    from qtool.commands.train_qat import train_qat

    return train_qat(context)


def evaluate(context: Context) -> tuple[Path, Evaluation]:
    """Compares FP32 and INT8: the folder with all reports, and the result.

    Raises:
        ConfigError: the data section names no label that the task needs, or the evaluation section
            a metric, a gate or an option that the task has not.
        ModelError: the model has not the outputs that the section and the labels need.
        DataError: a column that the evaluation names is missing, or of a type that does not fit.
    """
    metrics = _checked(context)
    check_outputs(context, prepared_stage(context) / MODEL, metrics)
    context = settled(context)
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
        # First, because it refuses outputs that the task cannot read: what went well stays.
        sample = scored(context, models, "evaluation", judging_columns(context.experiment))
        context.run.discard(BUNDLE, "it is of an earlier evaluation")
        evaluation = _evaluation(context, models, metrics, sample)
        write_text(target / "evaluation.json", accuracy_json(evaluation))
        write_text(target / "latency.json", latency_json(evaluation))
        write_text(target / "report.md", to_markdown(evaluation))
        write_text(target / "junit.xml", to_junit(evaluation))
        write_text(target / REPORT, to_html(evaluation, sample))
        write_text(target / RESULT, to_stored(evaluation))

    section, teacher = context.experiment.evaluation, teacher_of_fp32(context)
    key = context.key(
        name=context.experiment.name,
        data_name=_data_name(context),
        fp32=content(models.original.parent),
        int8=content(folder),
        before=content(before_prepared(context)),
        teacher=None if teacher is None else model_sha256(teacher.onnx),
        search=searched_content(context),
        data=data_content(context),
        section=section.model_dump(
            mode="json", exclude={"pythonpath": True, "system": {"pythonpath"}}
        ),
        code=[source_sha256(m.name, section.pythonpath) for m in metrics if ":" in m.name],
        system=section.system and source_sha256(section.system.function, section.system.pythonpath),
        target=context.experiment.target.model_dump(mode="json"),
        output=context.experiment.model.output,
        cpu=detect().name,
        versions=versions(
            "onnx", "onnx-ir", "onnxruntime", "numpy", "scikit-learn", "scipy", "matplotlib"
        ),
    )
    done = context.run.stage("evaluate", key, make, force=context.run.force)
    evaluation = from_stored((done / RESULT).read_bytes(), RESULT)
    if not evaluation.passed:
        # An earlier, passing model must not look like the result of this run.
        context.run.discard(BUNDLE, "the gates do not hold")
    return done, evaluation


def _checked(context: Context) -> tuple[Metric, ...]:
    """Returns the metrics, when all that the section names exists: before anything is computed."""
    experiment, section = context.experiment, context.experiment.evaluation
    require_label(experiment, "evaluate")
    metrics = metrics_of(experiment.task, section, quantile_levels(experiment))
    names = *(metric.name for metric in metrics), *section.gated_figures
    check_names(section, names, experiment.task)
    check_judged(context.source, experiment)
    if section.system is not None:
        system_function(section.system)
    return metrics


def _evaluation(
    context: Context, models: Models, metrics: tuple[Metric, ...], sample: Sample
) -> Evaluation:
    experiment, section = context.experiment, context.experiment.evaluation
    threshold = None
    if experiment.task == "binary_classification":
        threshold = _threshold(context, models, sample)
    judging = judging_of(context, models, metrics, sample, threshold)
    with context.progress.task("metrics") as task:
        found = accuracy(judging, metrics, threshold)
        task.advance()
    system = judging.system()
    speed = _speed(context, models)
    evaluation = dataclasses.replace(
        found,
        tests=() if section.risk is None else risk_tests(sample, section),
        parity=_parity(context, models),
        moves=moves(sample, experiment.task, section),
        layer_errors=_layer_errors(context, models),
        latency=speed.latency,
        provenance=_provenance(context, models),
        notes=(*_notes(context, models), *_not_judged(section, found.segments, found.fairness)),
        training=models.training,
        monotonicity=judging.monotonicity(),
        reasons=judging.reasons(),
        robustness=judging.robustness(),
        throughput=speed.throughput,
        cold=speed.cold,
        price_per_core_hour=section.latency.price_per_core_hour,
        quantiles=tuple(quantile_levels(experiment) or ()),
        classes=dataset(context).fitted.encoder.classes or (),
        tuning=(*read_tuning(float_stage(context)), *read_tuning(models.int8.parent)),
        search=searched(context),
        pruning=pruning(context),
        ancestors=ancestors(context, models, metrics, sample),
        system=tuple(found for name, found in system.items() if name in section.gated_figures),
        system_timed=tuple(
            found for name, found in system.items() if name not in section.gated_figures
        ),
    )
    return dataclasses.replace(evaluation, gates=check_gates(section.gates, evaluation))


def _threshold(context: Context, models: Models, sample: Sample) -> tuple[float, str]:
    section = context.experiment.evaluation.decision.threshold
    # A fixed score needs no rows.
    fixed = isinstance(section, ThresholdValue)
    known = sample if fixed else scored(context, models, "calibration")
    return operating_threshold(section, known.labels, known.fp32)


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


def _layer_errors(context: Context, models: Models) -> tuple[LayerError, ...]:
    if not models.plan.activations:
        return ()
    batches = (batch.inputs for batch in first_rows(context, LAYER_ERROR_ROWS))
    original, int8 = read_model(float_stage(context) / MODEL), read_model(models.int8)
    return layer_errors(original, int8, models.plan, batches)


def _history(context: Context, folder: Path) -> History | None:
    if context.experiment.train_qat is None:
        return None
    path = folder / HISTORY
    return History.from_json(path.read_text(encoding="utf-8"), str(path))


class _Speed(NamedTuple):
    latency: tuple[LatencyResult, ...] = ()
    throughput: tuple[ThroughputResult, ...] = ()
    cold: tuple[ColdStart, ...] = ()


def _speed(context: Context, models: Models) -> _Speed:
    section, target = context.experiment.evaluation.latency, context.experiment.target
    if not section.enabled:
        return _Speed()
    rows = next(dataset(context).batches("evaluation", max(target.batch_sizes))).inputs
    served = rows, target.batch_sizes, target.threads
    baselines = {"prepared": unpruned(context, models.prepared), "original": models.original}
    given = (baselines, models.int8, *served, section, context.progress)
    return _Speed(
        measure_latency(*given),
        measure_throughput(*given) if section.sessions else (),
        measure_cold(models.original, models.int8, *served, context.progress)
        if section.cold
        else (),
    )


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
            f"Scores here are from batches of {batch_rows(context.experiment, models.plan)}."
        )
    slow = not_fused(models.coverage)
    if slow:
        notes.append(f"Planned as INT8 but run as FP32 by this runtime: {', '.join(slow)}.")
    return tuple(notes)


def _not_judged(
    section: EvaluationSection,
    segments: tuple[SegmentChange, ...],
    fairness: tuple[ImpactRatio, ...],
) -> list[str]:
    """Returns which columns the section names in vain, as too few rows share a value."""
    notes = [
        f"No value of {column} has {SMALLEST} rows or more, so it has no segments."
        for column in section.segments
        if all(segment.column != column for segment in segments)
    ]
    if section.fairness is None:
        return notes
    return notes + [
        f"Fewer than two groups of {column} have {section.fairness.smallest_group} rows or more, "
        "so it has no adverse impact ratio."
        for column in section.fairness.columns
        if all(group.column != column for group in fairness)
    ]
