from __future__ import annotations

import stat
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
BINARY = "binary_classification"


@pytest.fixture(autouse=True)
def _path(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))


def separable(rows=256):
    x = np.random.default_rng(5).standard_normal((rows, 4)).astype(np.float32)
    return {"x": x}, (x[:, 0] > 0).astype(np.int64)


class Linear(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(4, 1)

    def forward(self, x):
        return self.layer(torch.nn.functional.dropout(x, 0.2, self.training))


@pytest.fixture
def trained():
    from qat_fit import Recipe, fit

    def train(seed, learning_rate=0.1):
        torch.manual_seed(0)
        module, recipe = Linear(), Recipe(3, 32, learning_rate)
        return module, fit(module, separable(), separable(64), BINARY, recipe, seed)

    return train


def test_training_learns_and_follows_its_seed(trained):
    from qat_fit import predict

    (module, best), (_, again), (_, other) = (trained(seed) for seed in (1, 1, 2))
    inputs, labels = separable()
    assert ((predict(module, inputs)[:, 0] > 0) == labels).mean() > 0.85
    assert not module.training
    assert torch.equal(best.weights["layer.weight"], again.weights["layer.weight"])
    assert not torch.equal(best.weights["layer.weight"], other.weights["layer.weight"])


def test_the_best_epoch_is_kept(trained):
    from qat_fit import loss, predict

    module, best = trained(1, learning_rate=100.0)
    inputs, labels = separable(64)
    outputs = torch.from_numpy(predict(module, inputs))
    found = loss(outputs, torch.from_numpy(labels), BINARY)
    assert float(found) == pytest.approx(best.validation_loss)


def test_losses_by_hand():
    from qat_fit import loss

    zero = torch.zeros(2, 1)
    assert float(loss(zero, torch.tensor([0, 1]), BINARY)) == pytest.approx(np.log(2))
    assert float(loss(zero, torch.tensor([1.0, 3.0]), "regression")) == 5
    even = loss(torch.zeros(1, 4), torch.tensor([2]), "multiclass_classification")
    assert float(even) == pytest.approx(np.log(4))


def small_splits():
    from qat_rows import Rows, Splits

    return Splits(*(Rows(*separable(rows)) for rows in (64, 16, 8)))


STUB = """#!{python}
import json, sys
from pathlib import Path
import numpy as np, torch
sys.path.insert(0, {benchmarks!r})
import qat_torchao
folder = Path(sys.argv[2])
arrays = dict(np.load(folder / qat_torchao.ROWS))
inputs, labels = qat_torchao._rows(arrays, "test")
program = torch.export.load(folder / qat_torchao.PROGRAM).module()
np.save(folder / qat_torchao.OUTPUTS, program(x=torch.from_numpy(inputs["x"])).detach().numpy())
bits = json.loads((folder / qat_torchao.JOB).read_text())["weight_bits"]
result = dict(step_ms=2.0, fp32_step_ms=1.0, integer_weights=bits, versions=str(len(labels)))
(folder / qat_torchao.RESULT).write_text(json.dumps(result))
"""


def run_with(python):
    from qat_fit import Recipe
    from qat_torchao import train_pt2e

    torch.manual_seed(0)
    module, splits = Linear(), small_splits()
    recipe = Recipe(1, 16, 1e-3)
    return module, splits, train_pt2e(python, module, splits, BINARY, recipe, weight_bits=4, seed=0)


def script(path, text):
    path.write_text(text, encoding="utf-8")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def test_program_rows_and_job_reach_the_other_environment(tmp_path):
    text = STUB.format(python=sys.executable, benchmarks=str(BENCHMARKS))
    module, splits, found = run_with(script(tmp_path / "python", text))
    with torch.no_grad():
        expected = module.eval()(torch.from_numpy(splits.test.inputs["x"]))
    np.testing.assert_allclose(found.outputs, expected, rtol=1e-5)
    assert (found.step_ms, found.fp32_step_ms) == (2.0, 1.0)
    assert (found.integer_weights, found.versions) == (4, "8")


def test_without_torchao_there_is_a_reason(tmp_path):
    from qat_torchao import NotRun

    last = "ModuleNotFoundError: No module named 'torchao'"
    python = script(tmp_path / "python", f'#!/bin/sh\necho "Traceback\n{last}" >&2\nexit 1\n')
    assert run_with(python)[2] == NotRun(last)
    assert "No such file" in run_with(tmp_path / "absent")[2].reason


def test_torchao_trains_and_converts(tmp_path):
    pytest.importorskip("torchao")
    _, splits, found = run_with(Path(sys.executable))
    assert found.outputs.shape == (len(splits.test), 1)
    assert found.integer_weights == 1
