"""The peers: ONNX Runtime's own quantization tools with their defaults.

Checked with ONNX Runtime 1.31. Both take the prepared FP32 model, which has its shapes inferred and
its constants folded: what their documentation asks for before quantizing.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import onnx
from onnxruntime.quantization import CalibrationDataReader, quantize_dynamic, quantize_static

from qtool.data.batch import Batch

CALIBRATION_BATCH = 256


def ort_static(fp32: bytes, sample: Batch) -> bytes:
    """Returns the model of ``quantize_static``: QDQ, int8 activations and weights, min-max.

    Args:
        fp32: the prepared model.
        sample: calibration rows.
    """
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "int8.onnx"
        quantize_static(onnx.load_from_string(fp32), str(path), _Rows(sample))
        return path.read_bytes()


def ort_dynamic(fp32: bytes) -> bytes:
    """Returns the model of ``quantize_dynamic``: int8 weights.

    Args:
        fp32: the prepared model.
    """
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "int8.onnx"
        quantize_dynamic(onnx.load_from_string(fp32), str(path))
        return path.read_bytes()


class _Rows(CalibrationDataReader):  # type: ignore[misc]  # the library has no types
    """The calibration rows in batches; a class because the tool asks for one."""

    def __init__(self, sample: Batch) -> None:
        starts = range(0, len(sample), CALIBRATION_BATCH)
        self._pieces = (sample.take(slice(s, s + CALIBRATION_BATCH)).inputs for s in starts)

    def get_next(self) -> dict[str, Any] | None:
        return next(self._pieces, None)
