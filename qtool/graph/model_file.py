"""Reading and writing ONNX files: checked on the way in, deterministic on the way out."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
from google.protobuf.message import DecodeError
from numpy.typing import NDArray
from onnx.checker import ValidationError

from qtool.errors import ModelError

OPSETS = range(13, 24)
"""Supported ai.onnx opsets; 13 is the first with per-axis QuantizeLinear."""


@dataclass(frozen=True)
class TensorInfo:
    """Name, NumPy dtype (``object`` for text), shape (symbolic: str, unknown: None)."""

    name: str
    dtype: str
    shape: tuple[int | str | None, ...]


def read_model(path: Path) -> ir.Model:
    """Returns the checked model in ``path``.

    Raises:
        ModelError: the file is missing, truncated, not ONNX, invalid or of an unsupported opset.
    """
    if not path.is_file():
        raise ModelError(
            str(path), "no such file", "an ONNX model", "Check model.onnx in the config."
        )
    try:
        path.open("rb").close()  # the checker calls a file without permission invalid
        # Given the path, the checker also confines external data to the model's directory.
        onnx.checker.check_model(str(path))
        proto = onnx.load(str(path))
    except PermissionError as error:
        raise ModelError(
            str(path), f"cannot be read ({error.strerror})", "a readable file"
        ) from error
    except (DecodeError, ValidationError, ValueError, OSError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ModelError(
            str(path),
            f"not a valid ONNX model ({reason})",
            "a complete .onnx file",
            "Export or copy the model again.",
        ) from error
    return _check(ir.from_proto(proto), str(path))


def model_bytes(model: ir.Model) -> bytes:
    """Returns the serialized model; equal models give equal bytes."""
    return bytes(ir.to_proto(model).SerializeToString(deterministic=True))


def model_from_bytes(data: bytes) -> ir.Model:
    """Returns a model that ``model_bytes`` wrote."""
    return ir.from_proto(onnx.load_from_string(data))


def inputs_of(model: ir.Model) -> tuple[TensorInfo, ...]:
    """Returns the graph inputs that a caller must feed."""
    return tuple(
        _info(value) for value in model.graph.inputs if value.name not in model.graph.initializers
    )


def outputs_of(model: ir.Model) -> tuple[TensorInfo, ...]:
    """Returns the graph outputs."""
    return tuple(_info(value) for value in model.graph.outputs)


def constant(value: ir.Value | None) -> NDArray[np.generic] | None:
    """Returns the array of an initializer, None for anything else."""
    if value is None or not value.is_initializer() or value.const_value is None:
        return None
    return np.asarray(value.const_value.numpy())


def _info(value: ir.Value) -> TensorInfo:
    shape = () if value.shape is None else value.shape
    dims = tuple(dim if isinstance(dim, int) else dim.value for dim in shape)
    dtype = "unknown" if value.dtype is None else value.dtype.numpy().name
    return TensorInfo(value.name or "", dtype, dims)


def _check(model: ir.Model, where: str) -> ir.Model:
    opset = model.opset_imports.get("", 0)
    if opset not in OPSETS:
        raise ModelError(
            where,
            f"ai.onnx opset {opset}",
            f"{OPSETS.start} to {OPSETS.stop - 1}",
            "Convert it with onnx.version_converter or export it again.",
        )
    if not model.graph.outputs:
        raise ModelError(where, "the graph has no output", "at least one output")
    return model
