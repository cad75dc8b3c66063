"""NNCF's ``quantize_with_accuracy_control``; the setting is its preset."""

from __future__ import annotations

import operator
from collections.abc import Iterable
from typing import Any

import nncf  # type: ignore[import-not-found]
import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray

from peer_workers.job import read_job

BATCH_ROWS = 32
"""With the tool's 300 batches for ranges these are 9,600 rows."""


def main() -> None:
    """Quantizes the model of the job; layers go back to float until its drop is small enough."""
    job = read_job()
    model = onnx.load(job.fp32)
    items = list(enumerate(job.batches(BATCH_ROWS)))
    fp32 = ort.InferenceSession(job.fp32)
    expected = [fp32.run(None, batch)[0] for _, batch in items]

    def validate(tried: Any, chosen: Iterable[Any]) -> tuple[float, list[float]]:
        session = ort.InferenceSession(tried.SerializeToString())
        found = {number: session.run(None, batch)[0] for number, batch in chosen}
        places = [number * BATCH_ROWS + np.arange(len(found[number])) for number in found]
        metric = job.judged(np.concatenate(places), np.concatenate(list(found.values())))
        # By these the batches are chosen that rank layers. A metric may not exist on so few rows;
        # outputs instead of numbers are refused (NNCF 3.4 compares them for OpenVINO only).
        return metric, [-_squared(found[number], expected[number]) for number in found]

    attention = any(node.op_type == "Softmax" for node in model.graph.node)
    dataset = nncf.Dataset(items, operator.itemgetter(1))
    made = nncf.quantize_with_accuracy_control(
        model,
        dataset,
        dataset,
        validate,
        max_drop=job.max_drop,
        drop_type=nncf.DropType.ABSOLUTE,
        preset=nncf.QuantizationPreset(job.setting),
        target_device=nncf.TargetDevice.CPU,
        model_type=nncf.ModelType.TRANSFORMER if attention else None,
    )
    onnx.save(made, job.int8)


def _squared(first: NDArray[Any], second: NDArray[Any]) -> float:
    return float(np.square(first - second).mean())


if __name__ == "__main__":
    main()
