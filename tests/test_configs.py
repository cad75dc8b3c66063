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
    "sample_models.cash_flow:build": ("channels=8", "layers=2"),
    "sample_models.retrieval:build": ("width=16", "layers=1", "embedding=32"),
}
"""Arguments of the models that have no ``hidden`` layers."""


def overrides(experiment):
    """Fewer rows, epochs and neurons; gates are for the real size."""
    yield from SMALL
    yield "evaluation.gates=null"
    if isinstance(experiment.model, TorchModel):
        for argument in SMALL_MODELS.get(experiment.model.torch, ("hidden=[16, 16]",)):
            yield f"model.arguments.{argument}"
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
