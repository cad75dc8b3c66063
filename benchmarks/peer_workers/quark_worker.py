"""AMD Quark for CPUs: uint8 activations, int8 weights; settings are in ``SETTINGS``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from onnxruntime.quantization import CalibrationDataReader
from quark.onnx import (  # type: ignore[import-not-found]
    AdaRoundConfig,
    CalibMethod,
    Int8Spec,
    ModelQuantizer,
    QConfig,
    QLayerConfig,
    QuantGranularity,
    UInt8Spec,
)

from peer_workers.job import Job, read_job

BATCH_ROWS, ROWS = 32, 1024
"""Its calibrators keep every activation of every row, and AdaRound wants batches of one size."""
SETTINGS: dict[str, list[Any]] = {
    "percentile": [],
    "percentile, adaround": [AdaRoundConfig(batch_size=BATCH_ROWS)],
}


def main() -> None:
    """Quantizes the model of the job."""
    job = read_job()
    layers = QLayerConfig(
        input_tensors=UInt8Spec(calibration_method=CalibMethod.Percentile),
        weight=Int8Spec(
            calibration_method=CalibMethod.MinMax, quant_granularity=QuantGranularity.Channel
        ),
    )
    config = QConfig(global_config=layers, algo_config=SETTINGS[job.setting])
    ModelQuantizer(config).quantize_model(str(job.fp32), str(job.int8), _Rows(job))


class _Rows(CalibrationDataReader):  # type: ignore[misc]  # the library has no types
    """The calibration rows in batches; a class because the tool asks for one, several times."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._batches = self._all()

    def get_next(self) -> dict[str, Any] | None:
        return next(self._batches, None)

    def reset_iter(self) -> None:
        self._batches = self._all()

    def _all(self) -> Iterator[dict[str, Any]]:
        count = len(next(iter(self._job.rows.values())))
        return self._job.batches(BATCH_ROWS, limit=min(ROWS, count // BATCH_ROWS * BATCH_ROWS))


if __name__ == "__main__":
    main()
