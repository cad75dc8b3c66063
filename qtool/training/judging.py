"""The loss and the metric of a model on all validation rows, shared among the processes."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray

from qtool.errors import ConfigError
from qtool.training.batches import take
from qtool.training.fit import Fit, Judge

VALIDATION_BATCH = 4096
"""Rows judged at a time: it decides the order of float sums, so it is fixed."""


def judged(run: Fit, judge: Judge) -> tuple[float, float | None]:
    """Returns the mean loss and the metric over all validation rows.

    Every process judges its share of the batches; all get the same result, which is that of one
    process to the bit.

    Raises:
        ConfigError: the metric is to choose the epoch, and the rows have none.
    """
    rows, parallel = len(run.work.validation), run.work.place.parallel
    run.module.eval()
    run.phase(math.inf)
    starts = range(0, rows, VALIDATION_BATCH)[parallel.rank :: parallel.processes]
    parts: list[tuple[float, NDArray[np.float32] | None]] = []
    with torch.no_grad():
        for start in starts:
            chosen = slice(start, min(start + VALIDATION_BATCH, rows))
            loss, predictions = judge(*take(run.work.validation, chosen, run.work.place.device))
            shown = None if predictions is None else predictions.float().cpu().numpy()
            parts.append((loss.item() * (chosen.stop - start), shown))
    parts = parallel.gather(parts)
    mean = sum(loss for loss, _ in parts) / rows
    metric, labels = run.objective.metric, run.work.validation.labels
    if metric is None or labels is None:
        return mean, None
    predicted = np.concatenate([shown for _, shown in parts if shown is not None])
    value = metric.of(np.asarray(labels), predicted)
    if value is None and run.section.keep == "metric":
        found = f"metric, and the validation rows have no {metric.name}: they are of one class"
        raise ConfigError("keep", found, "loss, or a split with rows of both classes")
    return mean, value
