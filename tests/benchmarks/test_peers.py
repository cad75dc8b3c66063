from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from qtool.graph.model_file import model_bytes
from qtool.runtime.sessions import Session

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture
def peers(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import peers

    return peers


@pytest.fixture
def block(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import block_models

    return block_models.BLOCKS["mlp-64x3"]()


def output(model, rows):
    session = Session(model, "test")
    return session.run(rows)[session.output_names[0]]


def test_every_setting_makes_a_model_close_to_fp32(peers, block):
    fp32, rows = peers.pre_processed(model_bytes(block.model)), block.rows(64, 1)
    expected = output(fp32, rows)
    made = [peers.ort_static(fp32, rows, **given) for given in peers.STATIC_SETTINGS.values()]
    made += [peers.ort_dynamic(fp32, **given) for given in peers.DYNAMIC_SETTINGS.values()]
    for model in made:
        assert len(model) < 0.6 * len(fp32)
        assert np.abs(output(model, rows) - expected).max() < 0.1 * np.ptp(expected)


def test_pre_processing_keeps_the_outputs(peers, block):
    rows = block.rows(4, 1)
    ready = peers.pre_processed(model_bytes(block.model))
    np.testing.assert_allclose(output(ready, rows), output(block.model, rows), atol=1e-5)


def test_pre_processing_gets_along_without_symbolic_shapes(peers, block, monkeypatch):
    given = []

    def fails_once(source, path, **options):
        given.append(options)
        if not options:
            raise TypeError("object of type 'NoneType' has no len()")
        Path(path).write_bytes(Path(source).read_bytes())

    monkeypatch.setattr(peers, "quant_pre_process", fails_once)
    assert peers.pre_processed(b"graph") == b"graph"
    assert given == [{}, {"skip_symbolic_shape": True}]
