from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from qtool.graph.model_file import model_bytes
from qtool.graph.prepare.pipeline import prepare
from qtool.runtime.latency import Timing
from qtool.runtime.sessions import Session

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture
def blocks(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import blocks

    return blocks


def timings(**medians):
    return {
        name.replace("__", "|"): Timing(np.array([m]), np.array([m])) for name, m in medians.items()
    }


def test_every_case_names_a_block(blocks):
    assert set(blocks.CASES) <= set(blocks.BLOCKS)
    assert set(blocks.CONV2D) <= set(blocks.CASES)


def test_the_promised_cases_are_there(blocks):
    cases = {f"{name}-b{size}" for name, sizes in blocks.CASES.items() for size in sizes}
    assert {
        "mlp-512x3-b32",
        "residual-mlp-128-512x3-b64",
        "encoder-d384x6-s128-b1",
        "encoder-d384x6-s128-b8",
        "encoder-d768x2-s128-b8",
        "tcn-c128-b1",
        "deeplob-relu-b32",
        "lstm-h256-b1",
        "embedding-26x20k-b256",
    } <= cases


@pytest.mark.parametrize(
    "name",
    [
        "mlp-layernorm",
        "encoder-masked-d256x2-s64",
        "encoder-torch-d256x2-s64",
        "tcn-c32",
        "deeplob-leakyrelu",
        "separable-c128",
        "lstm-h128",
        "gru-h128",
        "dlrm-8x5k",
        "two-tower",
    ],
)
def test_what_torch_exports_is_quantized_as_it_is(blocks, name):
    block = blocks.BLOCKS[name]()
    prepared = prepare(block.model)
    int8 = blocks.qtool_model(prepared, blocks.calibration_rows(block), 32)
    rows = block.rows(32, 5)
    found, expected = (blocks._outputs(Session(m, "test"), rows) for m in (int8, block.model))
    assert blocks._error(found, expected) < 0.2
    assert len(model_bytes(int8)) < 0.7 * len(model_bytes(block.model))


def test_a_glob_chooses_cases(blocks):
    assert blocks.chosen_cases("tcn-c*-b32", quick=False) == {
        "tcn-c32": (32,),
        "tcn-c64": (32,),
        "tcn-c128": (32,),
    }
    assert set(blocks.chosen_cases("*", quick=True)) == set(blocks.QUICK_BLOCKS)


def test_a_glob_without_a_case_is_an_error(blocks):
    with pytest.raises(ValueError, match=r"no case matches 'tnc-\*'"):
        blocks.chosen_cases("tnc-*", quick=False)


def test_fp32_is_the_faster_form(blocks):
    times = timings(original=3.0, prepared=2.0, qtool=1.0)
    assert blocks.competitors(times, {}) == {"fp32": "prepared"}


def test_the_best_peer_is_the_fastest_with_a_tolerable_error(blocks):
    times = timings(
        original=9.0, prepared=9.0, **{"ort-static-best__a": 1.0, "ort-static-best__b": 2.0}
    )
    wrong = {"ort-static-best|a": 0.5, "ort-static-best|b": 0.01}
    assert blocks.competitors(times, wrong)["ort-static-best"] == "ort-static-best|b"
    all_wrong = {"ort-static-best|a": 0.5, "ort-static-best|b": 0.9}
    assert blocks.competitors(times, all_wrong)["ort-static-best"] == "ort-static-best|a"


def test_a_peer_that_crashes_leaves_its_reason(blocks, monkeypatch):
    def crash(model, *given):
        raise RuntimeError("no shape\nand more")

    monkeypatch.setattr(blocks, "ort_dynamic", crash)
    block = blocks.BLOCKS["mlp-64x3"]()
    fp32 = blocks.model_bytes(block.model)
    models, failures = blocks.peer_models(fp32, block.rows(8, 1), quick=True)
    assert set(models) == {"ort-static"}
    assert failures == {"ort-dynamic": "RuntimeError: no shape"}


def test_error_is_relative_to_the_spread_of_each_output(blocks):
    expected = np.array([[1.0, 100.0], [3.0, 100.0]])  # deviations -1, 0, 1, 0
    found = expected + np.array([0.1, 0.0])
    assert blocks._error(found, expected) == pytest.approx(0.1)
