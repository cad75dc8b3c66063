"""A small project on disk: a trained ONNX model, rows that it scores well, configs for them."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from support.graphs import fraud_like

from qtool.graph.model_file import model_bytes
from qtool.runtime.sessions import Session

COUNTRIES = ("AT", "CH", "DE", "ES", "FR", "GB", "IT", "NA", "PL")
CODES = (4829, 5411, 5812, 5999, 6011, 7995)

STATIC = """\
name: small
model: {onnx: model.onnx}
data:
  source: rows.parquet
  label: bad
  inputs:
    numeric: {columns: [n0, n1, n2, n3, n4, n5], missing: zero}
    codes: {kind: categorical, columns: [country, mcc]}
  split: {by: hash, key: id}
target: {batch_sizes: [1, 64]}
quantization: {method: static, samples: 500}
evaluation:
  decision: {threshold: {at: approval_rate, value: 0.7}}
  latency: {enabled: false, blocks: 5, block_ms: 0.2}
  gates: {auc_change: 0.02, size_ratio: 2.0}
export: {encoder: graph}
"""
DYNAMIC = """\
extends: static.yaml
quantization: {method: dynamic, samples: null}
"""
QAT = """\
extends: static.yaml
train_qat: {epochs: 1, batch_size: 128, distill: {weight: 1.0}}
"""


def make_project(directory: Path) -> Path:
    """Writes model.onnx, rows.parquet and the configs; returns ``directory``."""
    model = model_bytes(fraud_like(hidden=16))
    (directory / "model.onnx").write_bytes(model)
    pq.write_table(_rows(3000, model), directory / "rows.parquet")
    for name, text in (("static", STATIC), ("dynamic", DYNAMIC), ("qat", QAT)):
        (directory / f"{name}.yaml").write_text(text, encoding="utf-8")
    return directory


def tree(directory: Path) -> dict[str, str]:
    """Returns the sha256 of every file below ``directory`` by its relative path."""
    return {
        file.relative_to(directory).as_posix(): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(directory.rglob("*"))
        if file.is_file()
    }


def _rows(count: int, model: bytes) -> pa.Table:
    """Rows labelled by the model's own score with noise, so that it scores them well."""
    generator = np.random.default_rng(5)
    numbers = generator.standard_t(4, (count, 6)).clip(-8, 8).astype(np.float32)
    numbers[:, 1:3] = generator.integers(0, 2, (count, 2))
    missing = generator.random((count, 3)) < 0.03
    country = generator.integers(1, 10, count)
    mcc = generator.integers(1, 7, count)
    encoded = numbers.copy()
    encoded[missing[:, 0], 5] = 0
    codes = np.column_stack([country * ~missing[:, 1], mcc * ~missing[:, 2]])
    logit = Session(model, "sample").run({"numeric": encoded, "codes": codes})["output"]
    noisy = logit + 0.3 * logit.std() * generator.standard_normal(count)
    columns = {f"n{index}": pa.array(numbers[:, index]) for index in range(5)}
    return pa.table(
        {
            "id": pa.array(np.arange(count)),
            **columns,
            "n5": pa.array(numbers[:, 5], mask=missing[:, 0]),
            "country": pa.array(np.array(COUNTRIES)[country - 1], mask=missing[:, 1]),
            "mcc": pa.array(np.array(CODES)[mcc - 1], mask=missing[:, 2]),
            "bad": pa.array((noisy > np.quantile(noisy, 0.75)).astype(np.int8)),
        }
    )
