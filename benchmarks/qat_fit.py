"""A plain training loop that needs torch and NumPy only: for an environment without qtool."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

Task = Literal["binary_classification", "multiclass_classification", "regression"]
Inputs = Mapping[str, NDArray[Any]]
SCORED_ROWS = 1024
LARGEST_GRADIENT = 1.0


@dataclass(frozen=True)
class Recipe:
    """How long and how fast to train; AdamW, one cycle of the learning rate.

    Attributes:
        epochs: passes over the training rows.
        batch_rows: rows per step.
        learning_rate: the highest of the cycle.
        weight_decay: decoupled.
    """

    epochs: int
    batch_rows: int
    learning_rate: float
    weight_decay: float = 0.01


@dataclass(frozen=True, eq=False)
class Trained:
    """The weights of the epoch with the smallest validation loss."""

    weights: dict[str, Tensor]
    validation_loss: float
    epoch: int


def fit(
    module: nn.Module,
    training: tuple[Inputs, NDArray[Any]],
    validation: tuple[Inputs, NDArray[Any]],
    task: Task,
    recipe: Recipe,
    seed: int,
    set_training: Callable[[nn.Module, bool], object] = nn.Module.train,
) -> Trained:
    """Trains ``module`` in place and leaves it with the best epoch's weights, in eval mode.

    Args:
        module: forward takes the named inputs.
        training: inputs and labels.
        validation: inputs and labels that choose the epoch.
        task: what the outputs are.
        recipe: how to train.
        seed: of the order of the rows and of dropout.
        set_training: puts the module in training mode or out of it.
    """
    torch.manual_seed(seed)
    steps = -(-len(training[1]) // recipe.batch_rows) * recipe.epochs
    optimizer = optimizer_of(module, recipe)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, recipe.learning_rate, steps)
    best = None
    for epoch in range(recipe.epochs):
        set_training(module, True)
        for inputs, labels in batches(training, recipe.batch_rows, seed=seed + 1000 * epoch):
            train_step(module, inputs, labels, task, optimizer)
            schedule.step()
        set_training(module, False)
        outputs = torch.from_numpy(predict(module, validation[0]))
        found = float(loss(outputs, torch.from_numpy(validation[1]), task))
        if best is None or found < best.validation_loss:
            best = Trained(copy.deepcopy(module.state_dict()), found, epoch)
    assert best is not None
    module.load_state_dict(best.weights)
    return best


def optimizer_of(module: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """Returns AdamW over the parameters of ``module``."""
    return torch.optim.AdamW(
        module.parameters(), recipe.learning_rate, weight_decay=recipe.weight_decay
    )


def train_step(
    module: nn.Module,
    inputs: dict[str, Tensor],
    labels: Tensor,
    task: Task,
    optimizer: torch.optim.Optimizer,
) -> None:
    """Takes one step on one batch, with the norm of the gradient cut at LARGEST_GRADIENT."""
    optimizer.zero_grad(set_to_none=True)
    loss(module(**inputs), labels, task).backward()  # type: ignore[no-untyped-call]
    nn.utils.clip_grad_norm_(module.parameters(), LARGEST_GRADIENT)
    optimizer.step()


def loss(outputs: Tensor, labels: Tensor, task: Task) -> Tensor:
    """Returns the mean binary or multiclass cross-entropy, or the mean squared error."""
    if task == "multiclass_classification":
        return functional.cross_entropy(outputs, labels)
    if task == "binary_classification":
        return functional.binary_cross_entropy_with_logits(outputs[:, 0], labels.to(torch.float32))
    return functional.mse_loss(outputs[:, 0], labels)


def batches(
    rows: tuple[Inputs, NDArray[Any]], batch_rows: int, *, seed: int
) -> Iterator[tuple[dict[str, Tensor], Tensor]]:
    """Yields all rows once, in a random order that ``seed`` fixes."""
    inputs, labels = rows
    order = np.random.default_rng(seed).permutation(len(labels))
    for start in range(0, len(order), batch_rows):
        part = order[start : start + batch_rows]
        tensors = {name: torch.from_numpy(array[part]) for name, array in inputs.items()}
        yield tensors, torch.from_numpy(labels[part])


@torch.no_grad()
def predict(module: nn.Module, inputs: Inputs) -> NDArray[np.float32]:
    """Returns the outputs of all rows, shape (rows, outputs); the module's mode is the caller's."""
    rows = len(next(iter(inputs.values())))
    pieces = []
    for start in range(0, rows, SCORED_ROWS):
        part = {
            name: torch.from_numpy(array[start : start + SCORED_ROWS])
            for name, array in inputs.items()
        }
        pieces.append(module(**part).numpy())
    return np.concatenate(pieces)
