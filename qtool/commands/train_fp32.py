"""The FP32 model from a torch module: loaded or trained, then exported to ONNX."""

from __future__ import annotations

import importlib.util
import io
import shutil
import sys
from pathlib import Path

import torch

from qtool.commands.context import Context
from qtool.commands.inputs import describe_inputs
from qtool.commands.prepare import MODEL, data_content, dataset, require_label, versions
from qtool.config.model import TorchModel
from qtool.data.memory_map import Rows
from qtool.graph.model_file import write_model
from qtool.runs import sha256_of, write_bytes, write_text
from qtool.runtime.cpu import detect
from qtool.torchgraph.export import export_onnx
from qtool.training.fp32 import train_fp32
from qtool.training.module import build_module, check_forward, load_checkpoint

HISTORY = "history.json"
CHECKPOINT = "checkpoint.pt"
WEIGHTS = "weights.pt"


def train_fp32_stage(context: Context, section: TorchModel) -> Path:
    """Loads or trains the torch module and exports it: folder with model.onnx, weights.pt."""
    trains = section.checkpoint is None
    inputs = describe_inputs(dataset(context).fitted.encoder)
    threads = detect().cores

    def make(folder: Path) -> None:
        torch.manual_seed(context.experiment.seed)
        module = build_module(section, inputs)
        example = next(dataset(context).batches("calibration", 2)).inputs
        check_forward(module, example)
        if section.checkpoint is not None:
            load_checkpoint(module, section.checkpoint)
        else:
            export_onnx(module, example)  # what cannot be exported need not be trained
            rows, validation = training_rows(context, folder)
            history = train_fp32(
                module,
                rows,
                validation,
                context.experiment.training,
                seed=context.experiment.seed,
                checkpoint=folder / CHECKPOINT,
                progress=context.progress,
                output=section.output,
                threads=threads,
            )
            write_text(folder / HISTORY, history.to_json())
        weights = io.BytesIO()
        torch.save(module.state_dict(), weights)
        write_bytes(folder / WEIGHTS, weights.getvalue())
        with context.progress.task("export to ONNX") as task:
            write_model(folder / MODEL, export_onnx(module, example))
            task.advance()
        drop_scratch(folder)

    key = context.key(
        function=section.torch,
        arguments=section.arguments,
        source=_source_sha256(section),
        checkpoint=None if section.checkpoint is None else _digest(section.checkpoint),
        inputs=inputs,
        output=section.output,
        training=context.experiment.training.model_dump(mode="json") if trains else None,
        data=data_content(context),
        threads=threads,
        versions=versions("torch", "onnxscript", "onnx-ir"),
    )
    return context.run.stage("fp32", key, make, resume_from=CHECKPOINT)


def training_rows(context: Context, folder: Path) -> tuple[Rows, Rows]:
    """Returns training and validation rows as memory maps below ``folder``.

    Training is judged on the calibration split: the evaluation split stays unseen.

    Raises:
        ConfigError: the data section names no label.
    """
    require_label(context.experiment.data, "training")
    data = dataset(context)
    return (
        data.materialize("training", folder / "training", context.progress),
        data.materialize("calibration", folder / "validation", context.progress),
    )


def drop_scratch(folder: Path) -> None:
    """Removes what only an interrupted training needs."""
    for name in ("training", "validation"):
        shutil.rmtree(folder / name, ignore_errors=True)
    (folder / CHECKPOINT).unlink(missing_ok=True)


def _source_sha256(section: TorchModel) -> str | None:
    """Digest of the file that defines the model; what it imports is not followed."""
    name = section.torch.partition(":")[0]
    if section.pythonpath is not None:
        module = section.pythonpath.joinpath(*name.split("."))
        return _digest(module.with_suffix(".py")) or _digest(module / "__init__.py")
    if name in sys.modules:
        return _digest(Path(str(sys.modules[name].__file__)))
    try:
        spec = importlib.util.find_spec(name)
    except ModuleNotFoundError:
        return None
    return None if spec is None or spec.origin is None else _digest(Path(spec.origin))


def _digest(path: Path) -> str | None:
    return sha256_of(path) if path.is_file() else None
