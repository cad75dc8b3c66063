"""``qtool export``: the bundle that is deployed and reviewed, of a model that passed its gates."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir

from qtool.bundle.card import Interface, model_card
from qtool.bundle.manifest import Manifest
from qtool.commands.auto import settled
from qtool.commands.calibrate import PLAN, RANGES, calibrate, read_plan
from qtool.commands.context import Context
from qtool.commands.evaluate import BUNDLE, REPORT, evaluate, int8_stage
from qtool.commands.prepare import (
    ENCODER,
    MODEL,
    PARITY_ROWS,
    data_content,
    data_stage,
    dataset,
    first_rows,
    fp32_stage,
    versions,
)
from qtool.commands.quantize import COVERAGE, INT8_MODEL
from qtool.config.document import write_document
from qtool.config.model import OnnxModel
from qtool.data.constant import ConstantEncoding
from qtool.data.encoding import Encoder
from qtool.data.tabular import CategoricalEncoding, NumericEncoding
from qtool.errors import GateFailedError, ModelError
from qtool.evaluation.results import Evaluation
from qtool.graph.encoder_graph import with_encoder
from qtool.graph.model_file import (
    inputs_of,
    model_sha256,
    outputs_of,
    read_model,
    write_model,
)
from qtool.runs import content, digest, sha256_of, write_bytes, write_text
from qtool.runtime.cpu import detect
from qtool.runtime.sessions import Session

MANIFEST = "manifest.json"
CARD = "MODEL_CARD.md"
DIFFERENT_SHARE = 0.001
"""Outputs that may differ between raw rows through the encoder's graph and encoded rows."""

EVIDENCE = ("evaluation.json", "latency.json", "report.md", "junit.xml", REPORT)


def export(context: Context) -> Path:
    """Writes the bundle: folder with model, encoder, plan, evidence, card and manifest.

    Raises:
        GateFailedError: the evaluation did not pass; nothing is bundled.
    """
    context = settled(context)
    evaluated, evaluation = evaluate(context)
    if not evaluation.passed:
        failed = [gate.name for gate in evaluation.gates if gate.verdict != "pass"]
        raise GateFailedError(
            "export", f"gates not passed: {', '.join(failed)}", "a model that passes its gates"
        )
    quantized, data = int8_stage(context), data_stage(context)

    def make(folder: Path) -> None:
        encoder = dataset(context).fitted.encoder
        model = read_model(quantized / INT8_MODEL)
        if context.experiment.export.encoder == "graph":
            combined = with_encoder(model, encoder)
            _check_same_scores(context, model, combined)
            model = combined
        write_model(folder / INT8_MODEL, model)
        files = [data / ENCODER, quantized / PLAN, quantized / COVERAGE]
        if read_plan(quantized).activations:
            files.append(calibrate(context) / RANGES)
        for file in (*files, *(evaluated / name for name in EVIDENCE)):
            write_bytes(folder / file.name, file.read_bytes())
        write_text(folder / "config.yaml", write_document(context.written))
        write_text(folder / CARD, _card(context, evaluation, model, encoder))
        write_text(folder / MANIFEST, _manifest(context, evaluation, folder).to_json())

    key = context.key(
        int8=content(quantized),
        fp32=model_sha256(_fp32_file(context)),
        evaluation=content(evaluated),
        data=data_content(context),
        config=write_document(context.written),
        export=context.experiment.export.model_dump(mode="json"),
        versions=_versions(),
    )
    return context.run.stage(BUNDLE, key, make, force=context.run.force)


def _check_same_scores(context: Context, model: ir.Model, combined: ir.Model) -> None:
    """Raw rows through the encoder's graph must score as encoded rows through the model."""
    inner, outer = (
        Session(graph, where)
        for graph, where in ((model, "the INT8 model"), (combined, "the model with its encoder"))
    )
    different = compared = 0
    encoded = first_rows(context, PARITY_ROWS)
    raw = dataset(context).raw_batches("evaluation", 1000)
    for batch, raw_batch in zip(encoded, raw, strict=False):
        rows = np.arange(len(batch))
        expected = inner.run(batch.inputs)[inner.output_names[0]]
        found = outer.run(raw_batch.take(rows).inputs)[outer.output_names[0]]
        different += int((~np.isclose(expected, found, rtol=1e-4, atol=1e-6)).sum())
        compared += expected.size
    # Log may differ in the last bit between NumPy and the runtime, which can move a code by a step.
    if different > DIFFERENT_SHARE * compared:
        raise ModelError(
            "export.encoder: graph",
            f"{different} of {compared} outputs differ from those of the encoded rows",
            f"at most a share of {DIFFERENT_SHARE:g}",
            "Use export.encoder: file and report this.",
        )


def _card(context: Context, evaluation: Evaluation, model: ir.Model, encoder: Encoder) -> str:
    counts = dataset(context).fitted.counts
    inputs = [
        Interface(
            info.name,
            _dtype(info.dtype),
            _shape(info.shape),
            _meaning(info.name, encoder, raw=context.experiment.export.encoder == "graph"),
        )
        for info in inputs_of(model)
    ]
    kind = context.experiment.model.output
    outputs = [
        Interface(info.name, _dtype(info.dtype), _shape(info.shape), kind)
        for info in outputs_of(model)[:1]
    ]
    return model_card(
        evaluation, inputs, outputs, _by_name(counts.rows), _by_name(counts.positives)
    )


def _manifest(context: Context, evaluation: Evaluation, folder: Path) -> Manifest:
    return Manifest(
        name=context.experiment.name,
        inputs={
            "data": context.data_sha256,
            "fp32_model": model_sha256(_fp32_file(context)),
            "config": digest({"yaml": write_document(context.written)}),
        },
        outputs={file.name: sha256_of(file) for file in sorted(folder.iterdir())},
        versions=_versions(),
        target=evaluation.provenance["target"],
        cpu=detect().name,
        seed=context.experiment.seed,
    )


def _fp32_file(context: Context) -> Path:
    """The user's own file where there is one: its digest is what a reviewer can check."""
    section = context.experiment.model
    return section.onnx if isinstance(section, OnnxModel) else fp32_stage(context) / MODEL


def _versions() -> dict[str, str]:
    packages = ("qtool", "torch", "onnx", "onnx-ir", "onnxruntime", "numpy", "pyarrow")
    return {"python": platform.python_version(), **versions(*packages)}


def _by_name(counts: Mapping[Any, int]) -> dict[str, int]:
    return {str(name): count for name, count in counts.items()}


def _meaning(name: str, encoder: Encoder, *, raw: bool) -> str:
    part = encoder.inputs.get(name)
    if isinstance(part, NumericEncoding):
        columns = ", ".join(part.columns)
        return f"columns {columns}" if raw else f"columns {columns}, encoded by encoder.json"
    if isinstance(part, CategoricalEncoding):
        return "codes of " + ", ".join(part.columns)
    if isinstance(part, ConstantEncoding):
        return f"{part.value:g} at the start of a row"
    if part is not None:
        return f"lists {', '.join(part.columns)}, encoded by encoder.json"
    if name in encoder.signature():
        return "1 for a step, 0 for padding"
    return "raw values of " + name.partition(".")[2]


def _dtype(name: str) -> str:
    return "string" if name == "object" else name


def _shape(shape: tuple[int | str | None, ...]) -> str:
    return "(" + ", ".join("?" if dim is None else str(dim) for dim in shape) + ")"
