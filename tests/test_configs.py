"""Every config in ``configs/`` runs end to end, on few rows and with a small model."""

from __future__ import annotations

import json

import pytest
from support.cli import ROOT, qtool

from qtool.config.load import load
from qtool.config.model import TorchModel

CONFIGS = sorted((ROOT / "configs").glob("*.yaml"))
SMALL = (
    "data.source.rows=1500",
    "evaluation.latency={blocks: 5, block_ms: 0.2}",
    "evaluation.resampling.resamples=100",
    "evaluation.gates=null",  # they are for the real size
    "target.batch_sizes=[8]",
)
SMALL_SYSTEMS = {
    "cash_flow": ("model.arguments={channels: 8, layers: 2}",),
    "cash_flow_gru": ("model.arguments.width=16",),
    "cash_flow_nbeats": ("model.arguments={width: 16, blocks: 2}",),
    "credit_transformer": ("model.arguments={width: 16, layers: 2, heads: 2}",),
    "fraud": ("data.source.rows=3000", "model.arguments.hidden=[16, 16]"),  # few are frauds
    "invoice": (
        "data.source.rows=150",
        "data.inputs={tokens: {length: 32}, boxes: {length: 32}}",
        "model.arguments={width: 16, layers: 1}",
    ),
    "language_model": (
        "data.source.rows=300",
        *(
            f"data.inputs.past_{what}_{layer}={'null' if layer else '{shape: [2, past, 8]}'}"
            for what in ("key", "value")
            for layer in range(4)
        ),
        "training.warmup_steps=0",
        "evaluation.system.arguments={prompt: 8, length: 8, prompts: 2}",
    ),
    "order_book": ("data.source.rows=250", "model.arguments={channels: 4, branches: 4, hidden: 8}"),
    "personalisation": ("model.arguments={width: 16, hidden: [16, 16]}",),
    "reconciliation": ("model.arguments={width: 16, hidden: [16, 16]}",),
    "regimes": ("model.arguments={channels: 8, layers: 2}",),
    "retrieval": ("model.arguments={width: 16, layers: 1, embedding: 32}",),
    "structural": ("model.arguments.hidden=4",),
    "tree_search": (
        "data.source.rows=3000",
        "model.arguments={width: 16, blocks: 1}",
        "evaluation.system={rows: 40, arguments: {simulations: 8, leaves: 4}}",
    ),
    "triage": (
        "model.arguments={width: 16, layers: 1, heads: 2, hidden: 32}",
        "training.warmup_steps=0",
    ),
}
"""What else is smaller, by sample model; of those with ``hidden`` layers these are."""


def overrides(experiment):
    """Fewer rows, epochs and neurons."""
    yield from SMALL
    if isinstance(experiment.model, TorchModel):
        system = experiment.model.torch.partition(":")[0].rpartition(".")[2]
        yield from SMALL_SYSTEMS.get(system, ("model.arguments.hidden=[16, 16]",))
        yield "training.epochs=1"
    if experiment.train_qat is not None:
        yield "train_qat.epochs=1"
    if experiment.quantization.method == "auto":
        yield "quantization.seconds=1"


@pytest.fixture(params=CONFIGS, ids=lambda path: path.stem)
def config(request):
    return request.param


def test_it_runs(config, tmp_path):
    experiment = load(config).experiment
    settings = [word for text in overrides(experiment) for word in ("--set", text)]
    run = ("run", config, "--run-dir", tmp_path, "--json", *settings)
    method, done = experiment.quantization.method, qtool(*run)
    if method == "auto" and "keep FP32" in done.err:
        # Models as small as these gain little, and the clock of a busy machine decides.
        method, plain = "fastest", "quantization={method: fastest, seconds: null}"
        done = qtool(*run, "--set", plain)
    assert done.code == 0, done.err
    result = json.loads(done.out)
    assert result["passed"] is True
    assert result["method"] == method
    assert result["qat"] == (experiment.train_qat is not None)
    assert (tmp_path / "bundle" / "model.int8.onnx").is_file()


def test_its_first_line_is_the_command_and_its_name_the_file(config):
    first = config.read_text(encoding="utf-8").splitlines()[0]
    assert first == f"# qtool run configs/{config.name}"
    assert load(config).experiment.name == config.stem.replace("_", "-")
