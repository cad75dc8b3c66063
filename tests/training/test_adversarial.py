"""Training on the rows that the evaluation attacks with makes a model that bears them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from training.samples import fitted_pair, fitted_weights, make_rows

from qtool.config.evaluation import Box
from qtool.config.training import Adversarial, Augment, TrainQat
from qtool.data.encoding import Encoder
from qtool.data.tabular import CategoricalEncoding, NumericEncoding
from qtool.progress import SilentProgress
from qtool.robustness.feasible import movable, region_of
from qtool.robustness.gradient import white_box
from qtool.training.fit import Work
from qtool.training.objective import criterion
from qtool.training.qat import train_qat

ROWS, VALIDATION = make_rows(2000), make_rows(1000, seed=2)
BCE = criterion(None, "binary_classification", "logit")
ENCODER = Encoder(
    {
        "numeric": NumericEncoding(
            ("amount", "ratio", "flag", "count"),
            (1,) * 4,
            None,
            np.zeros(4, bool),
            np.zeros(4, np.float32),
            np.ones(4, np.float32),
            None,
        ),
        "category": CategoricalEncoding(("category",), None),
    }
)
BOXES = [
    Box(columns=["ratio"], range=0.5),
    Box(columns=["count"], range=2, unit="raw", integer=True),
]


@pytest.fixture(scope="module")
def weights():
    return fitted_weights()


def robust_accuracy(weights, folder, augment):
    """Returns the share of validation rows that QAT's graph gets right under PGD."""
    fp32, graph = fitted_pair(weights, bits=8)
    columns = movable(BOXES, ENCODER, VALIDATION.inputs, "mutable")
    section = TrainQat(epochs=6, batch_size=128, learning_rate=3e-3, augment=augment)
    work = Work(ROWS, VALIDATION, 3, folder / "checkpoint", SilentProgress(), columns=columns)
    train_qat(graph, fp32, section, BCE, work)
    regions = {name: region_of(part, VALIDATION.inputs[name]) for name, part in columns.items()}
    attack = white_box(graph, BCE.loss, fp32)
    found = attack(VALIDATION.inputs, VALIDATION.labels, regions, 10)
    with torch.no_grad():
        logits = graph({name: torch.from_numpy(x) for name, x in found.items()})["output"][:, 0]
    return ((logits.numpy() > 0) == VALIDATION.labels).mean()


def test_training_with_the_constrained_attack_makes_int8_bear_it(weights, tmp_path):
    adversarial = Augment(adversarial=Adversarial(mutable=BOXES, steps=5, share=1.0))
    (tmp_path / "with").mkdir()
    without = robust_accuracy(weights, tmp_path, Augment())
    with_attack = robust_accuracy(weights, tmp_path / "with", adversarial)
    assert with_attack > without + 0.05
