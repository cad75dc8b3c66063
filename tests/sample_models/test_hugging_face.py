from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from support.cli import ROOT, qtool, succeeded
from support.language_models import generated, session

transformers = pytest.importorskip("transformers")

LAYERS, HEADS, WIDTH, STEPS, VOCABULARY = 2, 2, 16, 24, 96
SIZES = {
    "gpt2": {
        "n_embd": 64, "n_layer": LAYERS, "n_head": 4, "n_positions": 2 * STEPS,
        "bos_token_id": 1, "eos_token_id": 1,
    },
    "llama": {
        "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": LAYERS,
        "num_attention_heads": 4, "num_key_value_heads": HEADS,
    },
}  # fmt: skip
"""Llama's queries have twice as many heads as its keys."""
CACHES = [f"past_{what}_{layer}" for layer in range(LAYERS) for what in ("key", "value")]


@pytest.fixture(params=SIZES)
def folder(request, tmp_path, monkeypatch):
    torch.manual_seed(0)
    config = transformers.AutoConfig.for_model(
        request.param, vocab_size=VOCABULARY, **SIZES[request.param]
    )
    transformers.utils.logging.disable_progress_bar()
    model = transformers.AutoModelForCausalLM.from_config(config)
    model.save_pretrained(tmp_path / "weights")
    monkeypatch.chdir(tmp_path)
    tokens = np.random.default_rng(0).integers(0, VOCABULARY, (400, STEPS))
    listed = pa.FixedSizeListArray.from_arrays(pa.array(tokens.reshape(-1)), STEPS)
    pq.write_table(pa.table({"tokens": listed}), "rows.parquet")
    heads = 4 if request.param == "gpt2" else HEADS
    cache = {"kind": "constant", "shape": [heads, "past", WIDTH]}
    inputs = {"tokens": {"kind": "sequence", "columns": ["tokens"], "any_length": True}}
    document = {
        "name": "folder",
        "task": "language_model",
        "model": {
            "torch": "sample_models.hugging_face:build",
            "pythonpath": str(ROOT),
            "arguments": {"folder": "weights"},
            "trained": True,
        },
        "data": {
            "source": "rows.parquet",
            "inputs": inputs | dict.fromkeys(CACHES, cache),
            "split": {"by": "hash", "evaluation": 0.1},
        },
        "quantization": {"method": "weight_only", "bits": 4, "block_size": 16},
        "evaluation": {"latency": {"enabled": False}},
    }
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(document))
    return model.eval(), tmp_path


def test_a_folder_becomes_a_graph_of_4_bits_that_generates_with_its_cache(folder):
    model, path = folder
    done = succeeded("run", "config.yaml", "--quiet", "--json")
    agreement = json.loads(done.out)["agreements"][0]
    assert agreement["name"] == "token_agreement"
    runs = path / "runs" / "folder"
    assert not (runs / "fp32" / "history.json").exists()
    tokens = np.random.default_rng(1).integers(0, VOCABULARY, (2, STEPS))
    with torch.no_grad():
        expected = model(torch.from_numpy(tokens)).logits.numpy()
    fp32 = session(runs / "fp32" / "model.onnx")
    whole, pieces = generated(fp32, tokens, first=5)
    np.testing.assert_allclose(whole, expected, atol=1e-4)
    np.testing.assert_allclose(pieces, expected, atol=1e-4)
    int8 = session(runs / "bundle" / "model.int8.onnx")
    whole, pieces = generated(int8, tokens, first=5)
    np.testing.assert_allclose(pieces, whole, atol=1e-4)
    assert 0 < np.abs(whole - expected).max() < 0.5


def test_what_is_in_the_folder_decides_the_model(folder):
    _, path = folder
    succeeded("quantize", "config.yaml", "--quiet")
    record = path / "runs" / "folder" / "fp32" / "stage.json"
    before = record.read_text()
    config = path / "weights" / "config.json"
    config.write_text(config.read_text() + "\n")
    succeeded("quantize", "config.yaml", "--quiet")
    assert record.read_text() != before
    (path / "weights" / "model.safetensors").unlink()
    failed = qtool("quantize", "config.yaml", "--quiet")
    assert failed.code == 4
    assert "safetensors" in failed.err
