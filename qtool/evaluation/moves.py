"""How far the outputs themselves move, whatever is right; of a score ``decisions`` tells it."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from qtool.config.evaluation import Evaluation
from qtool.config.task import Task
from qtool.evaluation.decisions import top_rank_correlation
from qtool.evaluation.results import Move
from qtool.evaluation.sample import Predictions, Sample


def moves(sample: Sample, task: Task, section: Evaluation) -> tuple[Move, ...]:
    """Returns the moves of the predictions; none for tasks whose predictions are counts or tags.

    Args:
        sample: the compared rows, at least one.
        task: of multiclass classification, regression and representation.
        section: ``evaluation``; with ``risk``, value at risk and expected shortfall are compared.
    """
    if task == "multiclass_classification":
        largest = float(np.abs(sample.int8.astype(np.float64) - sample.fp32).max())
        return (Move("Largest change of a probability", largest),)
    if task == "regression":
        return tuple(_of_numbers(sample, section))
    if task == "representation":
        return tuple(_of_embeddings(sample))
    return ()


def _of_numbers(sample: Sample, section: Evaluation) -> Iterator[Move]:
    fp32, int8 = sample.fp32.astype(np.float64), sample.int8.astype(np.float64)
    change = int8 - fp32
    yield Move("Largest change of a prediction", float(np.abs(change).max()))
    spread = float(sample.labels.std(dtype=np.float64))
    if spread > 0:
        relative = float(np.sqrt(np.square(change).mean())) / spread
        yield Move("Root mean square change, in standard deviations of the label", relative)
    correlation = top_rank_correlation(sample.fp32[:, 0], sample.int8[:, 0])
    yield Move("Rank correlation in the top decile, first output", correlation)
    if section.risk is not None:
        for column, name in enumerate(("value at risk", "expected shortfall")):
            yield Move(f"Mean {name}, INT8 minus FP32", float(change[:, column].mean()))
            largest = float(np.abs(change[:, column]).max())
            yield Move(f"Largest change of {name}", largest)


def _of_embeddings(sample: Sample) -> Iterator[Move]:
    fp32, int8 = sample.fp32.astype(np.float64), sample.int8.astype(np.float64)
    lengths = np.linalg.norm(fp32, axis=1) * np.linalg.norm(int8, axis=1)
    products = (fp32 * int8).sum(axis=1)
    cosines = np.divide(products, lengths, out=np.zeros_like(products), where=lengths > 0)
    yield Move("Mean cosine of both embeddings of a row", float(cosines.mean()))
    yield Move("Smallest cosine of both embeddings of a row", float(cosines.min()))


def error_share(fp32: Predictions, int8: Predictions) -> float:
    """Returns the mean squared change of predictions as a share of FP32's variance.

    Args:
        fp32: predictions of any task, (rows, …).
        int8: of the same rows; infinite is returned where FP32 says the same of all of them.
    """
    first, second = (part.astype(np.float64).reshape(len(part), -1) for part in (fp32, int8))
    variance = float(((first - first.mean(axis=0)) ** 2).mean())
    return float(((second - first) ** 2).mean()) / variance if variance > 0 else math.inf
