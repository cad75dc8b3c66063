"""Whether the inputs that ``data.inputs`` makes are those that a model takes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from qtool.config.data import Data, Dtype, Input, SequenceInput
from qtool.data.encoding import Encoder
from qtool.data.signature import Tensor
from qtool.data.tabular import CategoricalEncoding
from qtool.errors import ModelError
from qtool.graph.model_file import TensorInfo, inputs_of

if TYPE_CHECKING:
    import onnx_ir as ir


def describe_inputs(encoder: Encoder) -> dict[str, dict[str, Any]]:
    """Returns what a build function may want to know: shapes of a row and cardinalities."""
    described: dict[str, dict[str, Any]] = {
        name: {"shape": list(tensor.shape)} for name, tensor in encoder.signature().items()
    }
    for name, part in encoder.inputs.items():
        if isinstance(part, CategoricalEncoding) and part.vocabularies is not None:
            cardinalities = [len(vocabulary) + 1 for vocabulary in part.vocabularies]
            described[name]["cardinalities"] = cardinalities
    return described


def check_inputs(model: ir.Model, data: Data, encoder: Encoder, where: Path) -> None:
    """Checks that the model's inputs are those that ``data.inputs`` makes.

    Raises:
        ModelError: names, dtypes, ranks or fixed dimensions differ, or the batch is fixed.
    """
    found, made = {info.name: info for info in inputs_of(model)}, encoder.signature()
    if set(found) != set(made):
        raise ModelError(
            f"{where}: inputs",
            f"{_listed(found)} in the model",
            f"the inputs of the config, {_listed(made)}",
            "Name data.inputs (and their masks) like the model's inputs.",
        )
    for name, tensor in made.items():
        _check_input(found[name], tensor, _key(data, name), data, f"{where}: input '{name}'")


def _check_input(info: TensorInfo, made: Tensor, key: str, data: Data, where: str) -> None:
    if info.dtype != made.dtype:
        raise ModelError(
            where, f"dtype {info.dtype}", f"{made.dtype}, as {key} makes it", _retype(info, data)
        )
    fits = len(info.shape) == len(made.shape) + 1 and all(
        not isinstance(dim, int) or dim == size
        for dim, size in zip(info.shape[1:], made.shape, strict=True)
    )
    if not fits:
        expected = ", ".join(["batch", *map(str, made.shape)]) + ("" if made.shape else ",")
        raise ModelError(
            where,
            f"shape {info.shape}",
            f"({expected}), as {key} makes it",
            _reshape(info, made, data.inputs.get(info.name)),
        )
    if isinstance(info.shape[0], int):
        raise ModelError(
            where,
            f"a fixed batch of {info.shape[0]}",
            "a symbolic batch dimension",
            "Export the model with a dynamic first dimension.",
        )


def _key(data: Data, name: str) -> str:
    """Returns the key of the config that makes the input: its own, or the one it is a mask of."""
    for owner, part in data.inputs.items():
        if isinstance(part, SequenceInput) and part.mask == name:
            return f"data.inputs.{owner}.mask"
    return f"data.inputs.{name}"


def _retype(info: TensorInfo, data: Data) -> str:
    if info.dtype not in get_args(Dtype):
        return f"qtool feeds {', '.join(get_args(Dtype))}; export the model with one of them."
    part = data.inputs.get(info.name)
    if part is None:
        return f"Set mask_dtype: {info.dtype}."
    if part.kind == "numeric" or (part.kind == "categorical" and info.dtype == "float32"):
        return "Set its kind to numeric (float32) or categorical (int64)."
    return f"Set dtype: {info.dtype}."


def _reshape(info: TensorInfo, made: Tensor, part: Input | None) -> str:
    if len(info.shape) != len(made.shape) + 1:
        return (
            f"The model takes {len(info.shape)} axes. Set its kind: numeric and categorical make "
            "2, sequence 2 or 3 (stack), tensor as many as the column has."
        )
    if part is None or part.kind == "sequence":  # a mask has no section of its own
        return "Set length, or give the columns that the model was trained on."
    return "Give the columns that the model was trained on, in its order."


def _listed(names: Any) -> str:
    return ", ".join(f"'{name}'" for name in sorted(names))
