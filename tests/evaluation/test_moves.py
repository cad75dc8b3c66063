from __future__ import annotations

import numpy as np
import pytest

from qtool.config.evaluation import Evaluation, Risk
from qtool.evaluation.moves import moves
from qtool.evaluation.sample import Sample


def values(task, fp32, int8, labels=(0.0, 2.0), **section):
    arrays = (np.asarray(array, np.float32) for array in (labels, fp32, int8))
    found = moves(Sample(np.arange(2), *arrays), task, Evaluation(**section))
    return {move.title: move.value for move in found}


def test_numbers_by_hand():
    found = values("regression", [[1.0], [3.0]], [[1.5], [3.0]])
    assert found["Largest change of a prediction"] == 0.5
    name = "Root mean square change, in standard deviations of the label"
    assert found[name] == pytest.approx(0.5 / np.sqrt(2))


def test_risk_by_hand():
    found = values(
        "regression", [[1.0, 2.0], [3.0, 4.0]], [[1.5, 2.0], [2.0, 4.5]], risk=Risk(level=0.99)
    )
    assert found["Mean value at risk, INT8 minus FP32"] == -0.25
    assert found["Largest change of value at risk"] == 1.0
    assert found["Mean expected shortfall, INT8 minus FP32"] == 0.25


def test_embeddings_by_hand():
    found = values("representation", [[1.0, 0.0], [3.0, 4.0]], [[1.0, 1.0], [6.0, 8.0]])
    assert found["Smallest cosine of both embeddings of a row"] == pytest.approx(np.sqrt(0.5))
    assert found["Mean cosine of both embeddings of a row"] == pytest.approx((np.sqrt(0.5) + 1) / 2)


def test_probabilities_and_other_tasks():
    found = values("multiclass_classification", [[0.5, 0.5], [1, 0]], [[0.5, 0.5], [0.75, 0.25]])
    assert found == {"Largest change of a probability": 0.25}
    assert values("binary_classification", [0.5, 0.5], [0.5, 0.6]) == {}
