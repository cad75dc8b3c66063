"""Building the user's module: every mistake named; no pickle loaded."""

from __future__ import annotations

import pickle
import sys

import pytest
import torch
from torch import nn

from qtool.config.model import TorchModel
from qtool.errors import ModelError
from qtool.training.module import build_module, load_checkpoint

SOURCE = """
import torch

WIDTH = 3

def build(width=WIDTH):
    return torch.nn.Linear(width, 1)

def broken(width):
    raise RuntimeError("no such width")

def number():
    return 3

def described(inputs):
    return torch.nn.Linear(inputs["x"]["shape"][0], 1)
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    (tmp_path / "my_scorer.py").write_text(SOURCE)
    (tmp_path / "my_import.py").write_text("import not_installed_anywhere\n")
    (tmp_path / "my_syntax.py").write_text("x = (\n")
    (tmp_path / "json.py").write_text("def build(): pass\n")
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    yield tmp_path
    for name in ("my_scorer", "my_import", "my_syntax"):
        sys.modules.pop(name, None)


def section(torch_name, folder, **arguments):
    return TorchModel(torch=torch_name, pythonpath=folder, arguments=arguments)


def test_builds_with_arguments_and_leaves_the_path_alone(folder):
    before = list(sys.path)
    module = build_module(section("my_scorer:build", folder, width=5))
    assert module.in_features == 5
    assert sys.path == before


def test_a_function_that_wants_them_gets_the_inputs(folder):
    inputs = {"x": {"shape": [4]}}
    assert build_module(section("my_scorer:described", folder), inputs).in_features == 4
    given = {"x": {"shape": [2]}}
    built = build_module(section("my_scorer:described", folder, inputs=given), inputs)
    assert built.in_features == 2


def test_builds_from_an_installed_package():
    assert isinstance(build_module(TorchModel(torch="torch.nn:Identity")), nn.Identity)


@pytest.mark.parametrize(
    ("name", "match"),
    [
        ("my_scorre:build", r"no module named 'my_scorre' in .* and the installed packages"),
        ("my_scorer:biuld", r"has no 'biuld'.*Did you mean 'build'\?"),
        ("my_scorer:WIDTH", r"a int; expected a function"),
        ("my_scorer:broken", r"my_scorer.py:10 raised RuntimeError: no such width"),
        ("my_scorer:number", r"returned a int; expected a torch.nn.Module"),
        ("my_import:build", r"my_import.py:1 raised ModuleNotFoundError.*not_installed_anywhere"),
        ("my_syntax:build", r"my_syntax.py:1 raised SyntaxError"),
        ("json:build", r"the module 'json' comes from .*Rename the module"),
    ],
)
def test_every_mistake_is_named(folder, name, match):
    arguments = {"width": 1} if name.endswith("broken") else {}
    with pytest.raises(ModelError, match=match):
        build_module(section(name, folder, **arguments))


def test_a_checkpoint_is_loaded(tmp_path):
    saved, loaded = nn.Linear(3, 1), nn.Linear(3, 1)
    torch.save(saved.state_dict(), tmp_path / "model.pt")
    load_checkpoint(loaded, tmp_path / "model.pt")
    assert torch.equal(saved.weight, loaded.weight)


class Payload:
    def __reduce__(self):
        return (pytest.fail, ("code in a checkpoint was run",))


@pytest.mark.parametrize("how", ["module", "pickle", "cut", "text", "list", "missing"])
def test_what_is_not_a_state_dict_is_refused(tmp_path, how):
    path = tmp_path / "model.pt"
    if how == "module":
        torch.save(nn.Linear(3, 1), path)
    elif how == "pickle":
        path.write_bytes(pickle.dumps(Payload()))
    elif how == "cut":
        torch.save(nn.Linear(300, 10).state_dict(), path)
        path.write_bytes(path.read_bytes()[:2000])
    elif how == "text":
        path.write_text("not a checkpoint")
    elif how == "list":
        torch.save([1, 2], path)
    with pytest.raises(ModelError, match=r"model\.checkpoint .*model\.pt"):
        load_checkpoint(nn.Linear(3, 1), path)


def test_weights_that_do_not_fit_are_listed(tmp_path):
    state = {"weight": torch.zeros(1, 4), "extra": torch.zeros(1)}
    torch.save(state, tmp_path / "model.pt")
    match = r"missing: bias; unknown: extra; shapes: weight is \(1, 4\), not \(1, 3\)"
    with pytest.raises(ModelError, match=match):
        load_checkpoint(nn.Linear(3, 1), tmp_path / "model.pt")
