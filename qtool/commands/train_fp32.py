"""The FP32 model from a torch module: loaded or trained, then exported to ONNX."""

from __future__ import annotations

import io
import sys
from collections.abc import Mapping
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import torch
from torch import nn

from qtool.commands.context import Context
from qtool.commands.inputs import describe_inputs
from qtool.commands.prepare import (
    HISTORY,
    MODEL,
    data_content,
    dataset,
    digest_of,
    source_sha256,
    versions,
)
from qtool.commands.teacher import teacher_of
from qtool.commands.training import (
    CHECKPOINT,
    Job,
    criterion_of,
    drop_scratch,
    settings,
    work_in,
)
from qtool.config.model import TorchModel
from qtool.data.files import fingerprint_files
from qtool.graph.model_file import write_model
from qtool.runs import write_bytes, write_text
from qtool.runtime.cpu import detect
from qtool.torchgraph.export import export_onnx
from qtool.training.fp32 import train_fp32
from qtool.training.module import build_module, check_forward, load_checkpoint
from qtool.training.parallel import current

WEIGHTS = "weights.pt"


def train_fp32_stage(context: Context, section: TorchModel) -> Path:
    """Loads or trains the torch module and exports it: folder with model.onnx, weights.pt."""
    inputs = describe_inputs(dataset(context).fitted.encoder)
    any_size = context.experiment.data.any_size
    training = context.experiment.training

    def make(folder: Path) -> None:
        module = _module(context, section, inputs)
        example = next(dataset(context).batches("calibration", 2)).inputs
        check_forward(module, example)
        if section.checkpoint is not None:
            load_checkpoint(module, section.checkpoint)
        elif section.trains:
            # What cannot be exported need not be trained.
            export_onnx(module, example, section.outputs, any_size)
            work = work_in(context, training, folder)
            current().send(Job.of("fp32", folder, work, inputs=inputs))
            teacher = teacher_of(training.distill, work)
            history = train_fp32(module, training, criterion_of(context, training), work, teacher)
            write_text(folder / HISTORY, history.to_json())
            for log in work.logs:
                log.end([folder / HISTORY])
        weights = io.BytesIO()
        torch.save(module.state_dict(), weights)
        write_bytes(folder / WEIGHTS, weights.getvalue())
        with context.progress.task("export to ONNX") as task:
            write_model(folder / MODEL, export_onnx(module, example, section.outputs, any_size))
            task.advance()
        drop_scratch(folder)

    key = context.key(
        function=section.torch,
        arguments=section.arguments,
        files=_files_of(section.arguments) if section.trained else None,
        source=source_sha256(section.torch, section.pythonpath),
        checkpoint=None if section.checkpoint is None else digest_of(section.checkpoint),
        inputs=inputs,
        output=section.output,
        outputs=section.outputs,
        any_size=any_size,
        training=settings(training) if section.trains else None,
        data=data_content(context),
        threads=detect().cores,
        versions=versions("torch", "onnxscript", "onnx-ir"),
    )
    with redirect_stdout(sys.stderr):  # for what the user's forward prints: stdout has the result
        return context.run.stage("fp32", key, make, resume_from=CHECKPOINT)


def follow(context: Context, job: Job) -> None:
    """Trains with the first process, in another one of several."""
    section = context.experiment.model
    assert isinstance(section, TorchModel)
    training = context.experiment.training
    module = _module(context, section, job.needs["inputs"])
    work = job.work(context, training)
    teacher = teacher_of(training.distill, work)
    train_fp32(module, training, criterion_of(context, training), work, teacher)


def _files_of(arguments: Mapping[str, Any]) -> dict[str, str]:
    """Returns the digest of what lies in the files and folders that arguments name."""
    paths = {name: Path(value) for name, value in arguments.items() if isinstance(value, str)}
    found = {}
    for name, path in paths.items():
        files = sorted(path.rglob("*")) if path.is_dir() else [path]
        inside = [file for file in files if file.is_file()]
        if inside:
            found[name] = fingerprint_files(inside)
    return found


def _module(context: Context, section: TorchModel, inputs: dict[str, Any]) -> nn.Module:
    torch.manual_seed(context.experiment.seed)
    return build_module(section, inputs)
