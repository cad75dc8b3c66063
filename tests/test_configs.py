"""Every config in ``configs/`` runs end to end, on few rows and with a small model."""

from __future__ import annotations

import json

import pytest
from support.cli import ROOT, succeeded

from qtool.config.load import load
from qtool.config.model import TorchModel

CONFIGS = sorted((ROOT / "configs").glob("*.yaml"))
SMALL = ("data.source.rows=3000", "evaluation.latency={blocks: 5, block_ms: 0.2}")
SMALL_MODELS = {
    "sample_models.order_book:build": ("channels=4", "branches=4", "hidden=8"),
    "sample_models.tree_search:build": ("width=16", "blocks=1"),
    "sample_models.language_model:build": (),
    "sample_models.reconciliation:build": ("width=16", "hidden=[16, 16]"),
    "sample_models.structural:build": ("hidden=4",),
    "sample_models.cash_flow:build": ("channels=8", "layers=2"),
    "sample_models.cash_flow_gru:build": ("width=16",),
    "sample_models.cash_flow_nbeats:build": ("width=16", "blocks=2"),
    "sample_models.credit_transformer:build": ("width=16", "layers=2", "heads=2"),
    "sample_models.invoice:build": ("width=16", "layers=1"),
    "sample_models.personalisation:build": ("width=16", "hidden=[16, 16]"),
    "sample_models.regimes:build": ("channels=8", "layers=2"),
    "sample_models.retrieval:build": ("width=16", "layers=1", "embedding=32"),
    "sample_models.triage:build": ("width=16", "layers=1", "heads=2", "hidden=32"),
}
"""Arguments of the models that have no ``hidden`` layers."""
SMALL_SYSTEMS = {
    "sample_models.order_book:build": ("data.source.rows=300", "quantization.seconds=3"),
    "sample_models.tree_search:build": (
        "quantization.seconds=3",
        "evaluation.system.rows=40",
        "evaluation.system.arguments={simulations: 8, leaves: 4}",
    ),
    "sample_models.reconciliation:build": ("quantization.rows=500", "quantization.samples=512"),
    "sample_models.invoice:build": (
        "data.source.rows=200",
        "data.inputs.tokens.length=32",
        "data.inputs.boxes.length=32",
        "quantization.seconds=3",
    ),
    "sample_models.personalisation:build": ("quantization.seconds=3",),
    "sample_models.segmentation:build": ("quantization.seconds=3",),
    "sample_models.triage:build": ("quantization.seconds=3",),
    "sample_models.language_model:build": (
        "data.source.rows=300",
        *(
            f"data.inputs.past_{what}_{layer}={'null' if layer else '{shape: [2, past, 8]}'}"
            for what in ("key", "value")
            for layer in range(4)
        ),
        "training.warmup_steps=0",
        "evaluation.system.arguments={prompt: 8, length: 8, prompts: 2}",
    ),
}
"""What else is smaller, by model."""


def overrides(experiment):
    """Fewer rows, epochs and neurons; gates are for the real size."""
    yield from SMALL
    yield "evaluation.gates=null"
    if isinstance(experiment.model, TorchModel):
        for argument in SMALL_MODELS.get(experiment.model.torch, ("hidden=[16, 16]",)):
            yield f"model.arguments.{argument}"
        yield from SMALL_SYSTEMS.get(experiment.model.torch, ())
        yield "training.epochs=1"
    if experiment.train_qat is not None:
        yield "train_qat.epochs=1"


@pytest.fixture(params=CONFIGS, ids=lambda path: path.stem)
def config(request):
    return request.param


def test_it_runs(config, tmp_path):
    experiment = load(config).experiment
    settings = (word for text in overrides(experiment) for word in ("--set", text))
    done = succeeded("run", config, "--run-dir", tmp_path, "--json", *settings)
    result = json.loads(done.out)
    assert result["passed"] is True
    assert result["method"] == experiment.quantization.method
    assert result["qat"] == (experiment.train_qat is not None)
    assert (tmp_path / "bundle" / "model.int8.onnx").is_file()


def test_its_first_line_is_the_command_and_its_name_the_file(config):
    first = config.read_text(encoding="utf-8").splitlines()[0]
    assert first == f"# qtool run configs/{config.name}"
    assert load(config).experiment.name == config.stem.replace("_", "-")
