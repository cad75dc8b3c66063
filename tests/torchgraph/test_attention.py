"""Attention and rotary positions against ONNX Runtime."""

from __future__ import annotations

import numpy as np
import pytest
from torchgraph.operator_cases import Case, check

GENERATOR = np.random.default_rng(9)
BATCH, HEADS, QUERIES, KEYS, WIDTH = 2, 4, 3, 5, 8


def values(*shape):
    return GENERATOR.standard_normal(shape).astype(np.float32)


Q, K, V = values(BATCH, HEADS, QUERIES, WIDTH), *values(2, BATCH, HEADS, KEYS, WIDTH)
SQUARE = values(BATCH, HEADS, KEYS, WIDTH)
ALLOWED = GENERATOR.random((QUERIES, KEYS)) > 0.3
ALLOWED[:, 0] = True
MERGED = (
    values(BATCH, QUERIES, HEADS * WIDTH),
    values(BATCH, KEYS, 2 * WIDTH),
    values(BATCH, KEYS, 2 * WIDTH),
)
HEAD_COUNTS = {"q_num_heads": HEADS, "kv_num_heads": 2}
PAST = (values(BATCH, HEADS, 2, WIDTH), values(BATCH, HEADS, 2, WIDTH))
COS, SIN = values(2, 7, WIDTH // 2)
POSITIONS = np.array([[0, 1, 2], [4, 6, 3]])


def _attention(test, *inputs, outputs=1, **attributes):
    return Case("Attention", inputs, (), attributes, 23, outputs, test=f" {test}")


def _rotary(test, x, *caches, **attributes):
    return Case("RotaryEmbedding", (x, *caches), (), attributes, 23, test=f" {test}")


CASES = [
    _attention("plain", Q, K, V),
    _attention("scale", Q, K, V, scale=0.3),
    _attention("bool mask", Q, K, V, ALLOWED),
    _attention("float mask", Q, K, V, values(BATCH, 1, QUERIES, KEYS)),
    _attention("causal", SQUARE, K, V, is_causal=1),
    _attention("softcap", Q, K, V, values(QUERIES, KEYS), softcap=2.0),
    _attention("grouped", *MERGED, **HEAD_COUNTS),
    _attention("grouped softcap", *MERGED, **HEAD_COUNTS, softcap=1.5),
    _attention("past", Q, K, V, None, *PAST, outputs=3),
    _rotary("4-d", Q, COS[POSITIONS], SIN[POSITIONS]),
    _rotary("positions", Q, COS, SIN, POSITIONS),
    _rotary("interleaved", Q, COS, SIN, POSITIONS, interleaved=1),
    _rotary("part", Q, COS[:, :2], SIN[:, :2], POSITIONS, rotary_embedding_dim=4),
    _rotary("3-d", MERGED[0], COS, SIN, POSITIONS, num_heads=HEADS),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_equals_onnx_runtime(case):
    check(case)
