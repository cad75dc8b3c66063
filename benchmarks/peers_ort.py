"""The peers: ONNX Runtime's own quantization tools, with defaults and with their best settings.

Checked with ONNX Runtime 1.31. Their settings are those that its documentation names for x86: the
model goes through ``quant_pre_process`` first, activations uint8 and weights int8, one scale per
channel, and only the layers that profit.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnxruntime.quantization import (
    CalibrationDataReader,
    QuantType,
    quant_pre_process,
    quantize_dynamic,
    quantize_static,
)

Inputs = Mapping[str, NDArray[Any]]
CALIBRATION_BATCH = 256
UNSIGNED = {"activation_type": QuantType.QUInt8, "weight_type": QuantType.QInt8}
LAYERS = ["MatMul", "Gemm", "Conv"]
STATIC_SETTINGS: dict[str, dict[str, Any]] = {
    "u8s8": UNSIGNED,
    "u8s8 per channel": {**UNSIGNED, "per_channel": True},
    "u8s8 per channel, layers only": {
        **UNSIGNED,
        "per_channel": True,
        "op_types_to_quantize": LAYERS,
    },
}
DYNAMIC_SETTINGS: dict[str, dict[str, Any]] = {
    "defaults": {},
    "per channel": {"per_channel": True},
    "per channel, MatMul only": {"per_channel": True, "op_types_to_quantize": ["MatMul"]},
}
"""What ``ort-static-best`` and ``ort-dynamic-best`` choose from."""


def ort_static(fp32: bytes, sample: Inputs, **settings: Any) -> bytes:
    """Returns the model of ``quantize_static``: by default QDQ, int8 everywhere, min-max.

    Args:
        fp32: the model.
        sample: calibration rows, in batches of ``CALIBRATION_BATCH``.
        settings: keyword arguments of ``quantize_static``.
    """
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "int8.onnx"
        quantize_static(onnx.load_from_string(fp32), str(path), _Rows(sample), **settings)
        return path.read_bytes()


def ort_dynamic(fp32: bytes, **settings: Any) -> bytes:
    """Returns the model of ``quantize_dynamic``: by default int8 weights.

    Args:
        fp32: the model.
        settings: keyword arguments of ``quantize_dynamic``.
    """
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "int8.onnx"
        quantize_dynamic(onnx.load_from_string(fp32), str(path), **settings)
        return path.read_bytes()


def pre_processed(fp32: bytes) -> bytes:
    """Returns the model as ``quant_pre_process`` prepares it for quantization."""
    with tempfile.TemporaryDirectory() as directory:
        # A file: given a model in memory, the tool of ONNX Runtime 1.31 loses its weights.
        source, path = Path(directory) / "fp32.onnx", Path(directory) / "prepared.onnx"
        source.write_bytes(fp32)
        try:
            quant_pre_process(str(source), str(path))
        except Exception:  # its symbolic shape inference fails on some graphs, with any exception
            quant_pre_process(str(source), str(path), skip_symbolic_shape=True)
        return path.read_bytes()


class _Rows(CalibrationDataReader):  # type: ignore[misc]  # the library has no types
    """The calibration rows in batches; a class because the tool asks for one."""

    def __init__(self, sample: Inputs) -> None:
        self._pieces = _pieces(sample)

    def get_next(self) -> dict[str, Any] | None:
        return next(self._pieces, None)


def _pieces(sample: Inputs) -> Iterator[dict[str, Any]]:
    rows = len(next(iter(sample.values())))
    for start in range(0, rows, CALIBRATION_BATCH):
        yield {
            name: np.ascontiguousarray(array[start : start + CALIBRATION_BATCH])
            for name, array in sample.items()
        }
