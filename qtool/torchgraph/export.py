"""A torch module as an ONNX graph, by torch's exporter, with nothing of this machine in it."""

from __future__ import annotations

import copy
import inspect
import io
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr

import numpy as np
import onnx_ir as ir
import torch
from numpy.typing import NDArray
from onnx_ir.passes.common import ClearMetadataAndDocStringPass, RemoveUnusedNodesPass
from torch import Tensor, nn

from qtool.errors import ModelError

OPSET = 20
FEWEST = 2
"""Rows of the example: torch.export takes a size of 0 or 1 for a constant. The other axes of any
size have one more each, so that none is taken for another."""


def export_onnx(
    module: nn.Module,
    example_inputs: Mapping[str, NDArray[np.generic]],
    outputs: Sequence[str] | None = None,
    any_size: Mapping[str, Mapping[int, str]] | None = None,
) -> ir.Model:
    """Returns ``module`` in eval mode as an ONNX graph with a symbolic first dimension ``batch``.

    The module stays as it is, and the graph has its own copy of the weights.

    Args:
        module: its forward takes the named inputs; what it returns see ``named_outputs``.
        example_inputs: input name → array of shape (rows, ...), at least one row; dtypes and other
            sizes count.
        outputs: which of the outputs the graph has, in this order; None: all.
        any_size: input name → axis that may have any size, like the rows → name of the dimension.

    Raises:
        ModelError: forward does not take these inputs, cannot be exported, or returns something
            else than tensors, or not these outputs.
    """
    check_signature(module, list(example_inputs))
    axes = {name: {0: "batch", **(any_size or {}).get(name, {})} for name in example_inputs}
    sizes = {name: size for size, name in enumerate(_names(axes), start=FEWEST)}
    examples = {
        name: torch.from_numpy(_resized(array, {at: sizes[to] for at, to in axes[name].items()}))
        for name, array in example_inputs.items()
    }
    dimensions = {name: torch.export.Dim(name) for name in sizes}
    own = copy.deepcopy(module).eval()
    if any(p.kind is p.VAR_KEYWORD for p in inspect.signature(own.forward).parameters.values()):
        _name_parameters(own, list(examples))
    with torch.no_grad():
        names = list(named_outputs(module, own(**examples)))
    _check_outputs(module, names, outputs)
    try:
        with _quiet():
            program = torch.onnx.export(
                own,
                kwargs=examples,
                dynamo=True,
                verbose=False,
                opset_version=OPSET,
                dynamic_shapes={
                    name: {at: dimensions[to] for at, to in named.items()}
                    for name, named in axes.items()
                },
                input_names=list(examples),
                output_names=names,
            )
    except Exception as error:  # torch's exporter raises every kind of exception
        raise _cannot_export(module, error) from error
    assert program is not None
    model = program.model
    for value in model.graph.initializers.values():
        assert value.const_value is not None
        value.const_value = ir.tensor(np.array(value.const_value.numpy()), name=value.name)
    if outputs is not None:
        _keep_outputs(model, outputs)
    _rename_inner_values(model.graph)
    untie_vectors(model.graph)
    # The exporter notes source files and stack traces on every node.
    ClearMetadataAndDocStringPass()(model)
    return model


def untie_vectors(graph: ir.Graph) -> None:
    """Gives every reader of a float32 vector its own copy.

    torch 2.13 merges constants that are equal: two zero biases, or the scale and the variance of a
    fresh batch normalization. Trained as one they would move as one. Matrices are left alone: a
    table that several columns share is one on purpose.
    """
    for name, value in list(graph.initializers.items()):
        tensor = value.const_value
        if tensor is None or tensor.dtype != ir.DataType.FLOAT or len(tensor.shape) != 1:
            continue
        for number, use in enumerate(list(value.uses())[1:], start=1):
            copied = ir.tensor(tensor.numpy().copy(), name=f"{name}_{number}")
            own = ir.val(f"{name}_{number}", const_value=copied)
            graph.register_initializer(own)
            use.node.replace_input_with(use.idx, own)


def _names(axes: Mapping[str, Mapping[int, str]]) -> list[str]:
    return list(dict.fromkeys(name for named in axes.values() for name in named.values()))


def _resized(array: NDArray[np.generic], sizes: Mapping[int, int]) -> NDArray[np.generic]:
    """Returns the values again and again, or zeros where there are none, up to these sizes."""
    for axis, size in sizes.items():
        if not array.shape[axis]:
            shape = (*array.shape[:axis], size, *array.shape[axis + 1 :])
            array = np.zeros(shape, array.dtype)
        array = np.take(array, np.arange(size) % array.shape[axis], axis)
    return array


def _name_parameters(module: nn.Module, names: Sequence[str]) -> None:
    """Gives forward a parameter for each input.

    torch 2.13's export looks for the dimensions of ``**inputs`` now in a dict of their own, and now
    beside the others.
    """
    forward = module.forward

    def named(*given: Tensor, **inputs: Tensor) -> object:
        return forward(**dict(zip(names, given, strict=False)), **inputs)

    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    signature = inspect.Signature([inspect.Parameter(name, kind) for name in names])
    named.__signature__ = signature  # type: ignore[attr-defined]
    module.forward = named


def named_outputs(module: nn.Module, result: object) -> dict[str, Tensor]:
    """Returns what forward of ``module`` returned as tensors by name, as the ONNX graph has them.

    One tensor is ``output``, several are ``output_0`` and so on, a dict has its own names.

    Raises:
        ModelError: something else than tensors.
    """
    if isinstance(result, Tensor):
        return {"output": result}
    named: dict[str, object] = {}
    if isinstance(result, tuple | list):
        named = {f"output_{index}": value for index, value in enumerate(result)}
    elif isinstance(result, dict):
        named = {str(name): value for name, value in result.items()}
    tensors = {name: value for name, value in named.items() if isinstance(value, Tensor)}
    if tensors and len(tensors) == len(named):
        return tensors
    raise ModelError(
        _where(module),
        f"forward returns a {type(result).__name__}",
        "a tensor, a tuple of tensors, or a dict of tensors by name",
        "Return the logits or the probabilities only.",
    )


def check_signature(module: nn.Module, names: list[str]) -> None:
    """Checks that forward of ``module`` takes exactly the inputs ``names``.

    Raises:
        ModelError: an input is unknown to forward, or one that it needs is not given.
    """
    parameters = inspect.signature(module.forward).parameters.values()
    if any(p.kind is p.VAR_KEYWORD for p in parameters):
        return
    taken = [p.name for p in parameters if p.kind is not p.VAR_POSITIONAL]
    needed = [p.name for p in parameters if p.name in taken and p.default is p.empty]
    if not set(needed) <= set(names) <= set(taken):
        raise ModelError(
            _where(module),
            f"forward takes ({', '.join(taken)}), the data gives ({', '.join(names)})",
            "the same names",
            "Rename data.inputs in the config, or the parameters of forward.",
        )


def _check_outputs(module: nn.Module, names: list[str], wanted: Sequence[str] | None) -> None:
    unknown = [name for name in wanted or () if name not in names]
    if unknown:
        found = f"forward returns {', '.join(names)}, and not {', '.join(unknown)}"
        raise ModelError(_where(module), found, "what model.outputs names")


def _keep_outputs(model: ir.Model, names: Sequence[str]) -> None:
    """Leaves the outputs ``names`` in the graph, in this order, and what they need."""
    by_name = {output.name: output for output in model.graph.outputs}
    model.graph.outputs[:] = [by_name[name] for name in names]
    RemoveUnusedNodesPass()(model)


def _rename_inner_values(graph: ir.Graph) -> None:
    """Gives values inside the graph other names than its outputs have.

    torch 2.13 calls them by their operator, as ``embedding``, and then names the outputs.
    """
    taken = {output.name for output in graph.outputs}
    for node in graph:
        for value in node.outputs:
            if value.name in taken and not value.is_graph_output():
                value.name = f"{value.name}_of_{node.name}"


def _cannot_export(module: nn.Module, error: Exception) -> ModelError:
    causes = [error]
    while causes[-1].__cause__ is not None and isinstance(causes[-1].__cause__, Exception):
        causes.append(causes[-1].__cause__)
    reason = next((line for line in str(causes[-1]).splitlines() if line.strip()), "")
    return ModelError(
        _where(module),
        f"cannot be exported to ONNX ({type(causes[-1]).__name__}: {reason.strip()})",
        "a forward without branches on values, for every batch size",
        "torch.export.export(module, (), kwargs) shows the whole reason.",
    )


def _where(module: nn.Module) -> str:
    return f"torch module {type(module).__name__}"


@contextmanager
def _quiet() -> Iterator[None]:
    """Keeps torch 2.13's exporter from writing to stderr; what matters is in its exception.

    It tells of torchvision, of renamed axes, and prints the graph that it fails on.
    """
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)
