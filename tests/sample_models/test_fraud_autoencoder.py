from __future__ import annotations

import math

import pytest
import torch
from support.sample_models import built

from sample_models.fraud_autoencoder import SMALLEST_ERROR, reconstruction_loss


def test_the_score_is_the_logarithm_of_the_mean_squared_error():
    model = built("fraud_autoencoder", {"numeric": {"shape": [3]}}, hidden=[4], code=2)
    for parameter in model.parameters():
        torch.nn.init.zeros_(parameter)
    with torch.no_grad():
        model.decoder[-1].bias.copy_(torch.tensor([1.0, 0.0, 2.0]))
        scores = model(torch.tensor([[1.0, 0.0, 2.0], [2.0, 2.0, 4.0]]))
    assert scores.tolist() == pytest.approx([math.log(SMALLEST_ERROR), math.log(3.0)])


def test_its_layers_narrow_to_the_code_and_widen_again():
    model = built("fraud_autoencoder", {"numeric": {"shape": [29]}}, hidden=[64, 16], code=4)
    linear = [layer for layer in model.modules() if isinstance(layer, torch.nn.Linear)]
    assert [layer.out_features for layer in linear] == [64, 16, 4, 16, 64, 29]


def test_the_loss_reads_legitimate_rows_only():
    error = torch.tensor([1.0, 3.0, 1000.0]).log().requires_grad_()
    loss = reconstruction_loss({"score": error}, torch.tensor([0, 0, 1], dtype=torch.int8), {})
    assert loss.item() == pytest.approx(2.0)
    loss.backward()
    assert error.grad[2] == 0
    none = reconstruction_loss({"score": error}, torch.ones(3, dtype=torch.int8), {})
    assert none.item() == 0


def test_weights_of_columns_multiply_to_one_and_become_inverse_variances():
    model = built("fraud_autoencoder", {"numeric": {"shape": [2]}}, hidden=[4], code=1)
    for name, parameter in model.named_parameters():
        torch.nn.init.zeros_(parameter)
        parameter.requires_grad_(name == "precision")
    rows = torch.randn(4_000, 2) * torch.tensor([1.0, 4.0])
    optimizer = torch.optim.Adam([model.precision], 0.01)
    for _ in range(150):
        optimizer.zero_grad()
        model(rows).exp().mean().backward()
        optimizer.step()
    weights = (10 * (model.precision - model.precision.mean())).exp()
    assert weights.prod().item() == pytest.approx(1, rel=1e-5)
    assert (weights[0] / weights[1]).item() == pytest.approx(16, rel=0.1)
