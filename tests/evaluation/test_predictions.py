from __future__ import annotations

import numpy as np
import pytest

from qtool.errors import ModelError
from qtool.evaluation.predictions import predictions, tokens_of


def test_logits_of_classes_become_probabilities():
    found = predictions(
        "multiclass_classification", "logit", np.log([[0.2, 0.3, 0.5]]).astype(np.float32), 1, "m"
    )
    np.testing.assert_allclose(found, [[0.2, 0.3, 0.5]], rtol=1e-6)


def test_a_regression_keeps_all_numbers_of_a_row():
    output = np.arange(12, dtype=np.float32).reshape(2, 3, 2)
    assert predictions("regression", "logit", output, 2, "m").tolist() == [
        [0, 1, 2, 3, 4, 5],
        [6, 7, 8, 9, 10, 11],
    ]


@pytest.mark.parametrize(
    ("task", "output", "message"),
    [
        ("multiclass_classification", [[0.5, 0.6]], "as probabilities"),
        ("multiclass_classification", [0.5], "expected \\(rows, classes\\)"),
        ("regression", [[np.nan]], "NaN"),
        ("representation", [[np.inf, 1]], "infinity"),
        ("regression", [[1.0], [2.0]], "2 outputs for 1 rows"),
    ],
)
def test_what_the_task_cannot_read_is_refused(task, output, message):
    with pytest.raises(ModelError, match=message):
        predictions(task, "probability", np.array(output, np.float32), 1, "the model")


def test_tokens_by_hand():
    """Two rows of the tokens 1 2 0, where 0 is padding; the vocabulary has 3 tokens."""
    tokens = np.array([[1, 2, 0], [1, 1, 2]])
    logits = np.log(np.full((2, 3, 3), 1 / 3)).astype(np.float32)
    logits[0, 0] = np.log([0.1, 0.1, 0.8])  # right
    logits[1, 0] = np.log([0.7, 0.2, 0.1])  # wrong: 0 first, and 1 comes
    sums, best, counted = tokens_of(logits, tokens, 0, "m")
    np.testing.assert_allclose(sums[:, 0], [-np.log(0.8), -np.log(0.2) + np.log(3)], rtol=1e-6)
    assert sums[:, 1].tolist() == [1, 2]
    assert best[:, 0].tolist() == [2, 0]
    assert counted.tolist() == [[True, False], [True, True]]


@pytest.mark.parametrize(
    ("tokens", "message"), [([[1, 7, 1]], "the token 7"), ([[1, 2]], "shape \\(1, 2\\)")]
)
def test_tokens_that_do_not_fit_are_refused(tokens, message):
    with pytest.raises(ModelError, match=message):
        tokens_of(np.zeros((1, 3, 4), np.float32), np.array(tokens), None, "the model")
