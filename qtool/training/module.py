"""The user's torch module: built by the function that the config names, its weights loaded."""

from __future__ import annotations

import inspect
import pickle
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from qtool.config.model import TorchModel
from qtool.errors import ModelError
from qtool.torchgraph.export import check_signature, named_outputs
from qtool.user_code import first_line, importable, user_function, users_code


def build_module(section: TorchModel, inputs: Mapping[str, Any] | None = None) -> nn.Module:
    """Returns what ``module:function(**arguments)`` returns.

    The module is looked up in ``pythonpath`` first, which is on ``sys.path`` only meanwhile.

    Args:
        section: the ``model:`` section.
        inputs: shape and cardinalities of each model input; given to a function that has a
            parameter ``inputs``, unless ``arguments`` sets it.

    Raises:
        ModelError: the module or function is missing, raises, or returns something else.
    """
    where = f"model.torch {section.torch!r}"
    expected = "a function that returns the torch.nn.Module"
    function = user_function(section.torch, section.pythonpath, where, expected)
    action = "Check model.arguments and that code."
    with importable(section.pythonpath), users_code(where, action):
        wants_inputs = "inputs" in inspect.signature(function).parameters
        given = {"inputs": inputs} if wants_inputs and inputs is not None else {}
        built = function(**{**given, **section.arguments})
    if not isinstance(built, nn.Module):
        raise ModelError(where, f"returned a {type(built).__name__}", "a torch.nn.Module")
    return built


def check_forward(module: nn.Module, inputs: Mapping[str, NDArray[Any]]) -> None:
    """Runs ``module`` once in eval mode, so that its faults show before the training and not in it.

    Args:
        module: forward takes the named inputs and returns tensors.
        inputs: a few rows.

    Raises:
        ModelError: forward takes other inputs, raises, or returns something else.
    """
    check_signature(module, list(inputs))
    training = module.training
    try:
        with torch.no_grad():
            forward(module.eval(), {name: torch.from_numpy(x) for name, x in inputs.items()})
    finally:
        module.train(training)


def forward(module: nn.Module, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Returns what ``module`` makes of ``inputs``, by name.

    Raises:
        ModelError: its code raises, or returns something else than tensors.
    """
    where = f"torch module {type(module).__name__}"
    with users_code(where, "Correct forward, or data.inputs."):
        result = module(**inputs)
    return named_outputs(module, result)


def load_checkpoint(module: nn.Module, path: Path) -> None:
    """Loads the state_dict in ``path`` into ``module``; no code in the file is run.

    Raises:
        ModelError: the file is missing, is not a state_dict, needs code, or does not fit.
    """
    where = f"model.checkpoint {path}"
    action = "Save it with torch.save(module.state_dict(), path)."
    if not path.is_file():
        raise ModelError(where, "no such file", "a state_dict saved by torch.save")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch also warns about the file that it refuses
            state = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        found = "it holds Python objects whose loading could run code, or is damaged"
        raise ModelError(where, found, "a state_dict: names and tensors only", action) from error
    except (RuntimeError, EOFError, ValueError, OSError) as error:
        raise ModelError(where, f"cannot be read ({first_line(error)})", "", action) from error
    if not isinstance(state, dict) or not all(isinstance(v, torch.Tensor) for v in state.values()):
        raise ModelError(where, "not a state_dict", "names and tensors only", action)
    problems = _differences(module.state_dict(), state)
    if problems:
        found = f"it does not fit {type(module).__name__}: {'; '.join(problems)}"
        raise ModelError(where, found, "the weights of this module", "Check model.arguments.")
    module.load_state_dict(state)


def _differences(expected: dict[str, torch.Tensor], given: dict[str, torch.Tensor]) -> list[str]:
    missing = [name for name in expected if name not in given]
    unknown = [name for name in given if name not in expected]
    shapes = [
        f"{name} is {tuple(given[name].shape)}, not {tuple(tensor.shape)}"
        for name, tensor in expected.items()
        if name in given and given[name].shape != tensor.shape
    ]
    listed = [("missing", missing), ("unknown", unknown), ("shapes", shapes)]
    return [f"{what}: {', '.join(names)}" for what, names in listed if names]
