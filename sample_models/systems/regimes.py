"""Filtering with the regime model, asset by asset: the regimes that are named, and how likely."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp

from qtool.data.batch import Batch
from qtool.evaluation.system import Predict

Floats = NDArray[np.float64]


def filtering(fp32: Predict, int8: Predict, rows: Batch) -> dict[str, tuple[Floats, Floats]]:
    """Returns the figures of every asset with both models.

    Args:
        fp32: the model that is replaced.
        int8: the model that replaces it.
        rows: windows with the input ``window`` and the column ``asset``.

    Returns:
        ``regime_agreement``, the share of an asset's days on which the most probable regime is that
        of FP32, and ``log_likelihood`` per day, (assets,) each.
    """
    _, asset = np.unique(rows.columns["asset"].astype(str), return_inverse=True)
    days = rows.inputs["window"].shape[1]
    joints = [_joint(predict, rows.inputs) for predict in (fp32, int8)]
    regimes = [joint.argmax(axis=1) for joint in joints]
    likelihoods = [logsumexp(joint, axis=1) / days for joint in joints]
    counts = np.bincount(asset)

    def of_assets(values: Floats) -> Floats:
        found: Floats = np.bincount(asset, values) / counts
        return found

    same = of_assets((regimes[0] == regimes[1]).astype(np.float64))
    return {
        "regime_agreement": (np.ones(len(counts)), same),
        "log_likelihood": (of_assets(likelihoods[0]), of_assets(likelihoods[1])),
    }


def _joint(predict: Predict, inputs: Mapping[str, NDArray[Any]]) -> Floats:
    (joint,) = predict(inputs).values()
    return joint.astype(np.float64)
