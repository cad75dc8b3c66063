from __future__ import annotations

import numpy as np
import pytest
from support.graphs import attention, mlp

from qtool.graph.prepare.pipeline import prepare
from qtool.runtime.sessions import Session
from qtool.torchgraph.bfloat16 import Bfloat16Graph


@pytest.mark.parametrize(("model", "shape"), [(mlp(), (16, 8)), (attention(), (4, 6, 32))])
def test_it_computes_the_graph_to_the_precision_of_bfloat16(model, shape):
    prepared = prepare(model)
    rows = {"x": np.random.default_rng(0).standard_normal(shape).astype(np.float32)}
    session = Session(prepared, "test")
    (name,) = session.output_names
    found, expected = Bfloat16Graph(prepared).run(rows, [name])[name], session.run(rows)[name]
    assert found.dtype == np.float32
    error = np.abs(found - expected).max() / np.abs(expected).max()
    assert 1e-6 < error < 0.05  # 8 bits of mantissa: not exact, and not far
