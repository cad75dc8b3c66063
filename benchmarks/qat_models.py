"""Six models on real finance data: what ``qat.py`` trains, quantizes and compares.

The data sets lie below a folder DIR that the command line names; each loader names its file,
publisher and citation. Labels, splits and scalers are fixed by the data, weights by a seed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from block_dense import ResidualMlp
from block_sequences import Recurrent
from numpy.typing import NDArray
from qat_fit import Recipe, Task
from qat_networks import DirectionCnn, TextEncoder, direction_tcn, dropout_mlp
from qat_rows import Splits
from qat_tables import BANK_COLUMNS, CREDIT_COLUMNS, VOCABULARY, WORDS, bank, credit, intents
from qat_windows import (
    BOOK_COLUMNS,
    LEVELS,
    STOCK_COLUMNS,
    book_channels,
    book_images,
    stock_volatility,
)
from sklearn.metrics import accuracy_score, matthews_corrcoef, r2_score, roc_auc_score
from torch import nn

Labels = NDArray[Any]
Outputs = NDArray[np.float32]
INTENTS = 77


@dataclass(frozen=True)
class RealModel:
    """One model and its data.

    Attributes:
        task: what the outputs are: one logit, one logit per class, or one value.
        network: makes the module, with random weights.
        load: folder of the data sets → splits; what forward takes is named as its inputs.
        metric: name of ``score``.
        score: (labels, outputs of all rows) → a figure of which 1 is the best.
        recipe: how the FP32 model is trained.
    """

    task: Task
    network: Callable[[], nn.Module]
    load: Callable[[Path], Splits]
    metric: str
    score: Callable[[Labels, Outputs], float]
    recipe: Recipe

    def build(self, seed: int) -> nn.Module:
        """Returns the module with the random weights of ``seed``."""
        torch.manual_seed(seed)
        return self.network()


def auc(labels: Labels, outputs: Outputs) -> float:
    """Returns the area under the ROC curve of one logit per row."""
    return float(roc_auc_score(labels, outputs[:, 0]))


def accuracy(labels: Labels, outputs: Outputs) -> float:
    """Returns the share of rows whose largest logit is their class's."""
    return float(accuracy_score(labels, outputs.argmax(axis=1)))


def mcc(labels: Labels, outputs: Outputs) -> float:
    """Returns Matthews' correlation of the classes with the largest logits (Gorodkin 2004)."""
    return float(matthews_corrcoef(labels, outputs.argmax(axis=1)))


def r2(labels: Labels, outputs: Outputs) -> float:
    """Returns the coefficient of determination."""
    return float(r2_score(labels, outputs[:, 0]))


MODELS: dict[str, RealModel] = {
    "credit-mlp": RealModel(
        "binary_classification",
        partial(dropout_mlp, CREDIT_COLUMNS),
        credit,
        "auc",
        auc,
        Recipe(epochs=8, batch_rows=128, learning_rate=1e-3),
    ),
    "bank-residual-mlp": RealModel(
        "binary_classification",
        partial(ResidualMlp, BANK_COLUMNS, 512, 3),
        bank,
        "auc",
        auc,
        Recipe(epochs=2, batch_rows=256, learning_rate=2e-4, weight_decay=0.1),
    ),
    "book-tcn": RealModel(
        "multiclass_classification",
        partial(direction_tcn, BOOK_COLUMNS),
        book_channels,
        "mcc",
        mcc,
        Recipe(epochs=2, batch_rows=64, learning_rate=3e-4, weight_decay=0.1),
    ),
    "book-cnn": RealModel(
        "multiclass_classification",
        partial(DirectionCnn, LEVELS),
        book_images,
        "mcc",
        mcc,
        Recipe(epochs=2, batch_rows=64, learning_rate=3e-4, weight_decay=0.1),
    ),
    "intent-encoder": RealModel(
        "multiclass_classification",
        partial(TextEncoder, VOCABULARY, WORDS, INTENTS),
        intents,
        "accuracy",
        accuracy,
        Recipe(epochs=12, batch_rows=64, learning_rate=1e-3),
    ),
    "volatility-lstm": RealModel(
        "regression",
        partial(Recurrent, nn.LSTM, STOCK_COLUMNS, 128),
        stock_volatility,
        "r2",
        r2,
        Recipe(epochs=2, batch_rows=128, learning_rate=5e-4),
    ),
}
"""By name."""
