"""Changes to the rows of a mini-batch before the model is trained on them."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from qtool.config.training import Adversarial, Augment, FunctionAugment
from qtool.errors import ConfigError, ModelError
from qtool.robustness import gradient
from qtool.robustness.feasible import Movable, region_of
from qtool.robustness.gradient import Space
from qtool.training.fit import Inputs
from qtool.user_code import user_function, users_code

LossOf = Callable[[Inputs, Tensor | None], Tensor]
Change = Callable[[Inputs, Tensor | None], tuple[Inputs, Tensor | None]]


def augmentation(
    section: Augment,
    loss: LossOf,
    names: list[str],
    columns: Mapping[str, Movable] | None = None,
) -> Change:
    """Returns what turns a mini-batch into the one that is trained on.

    The user's function comes first, then noise, then the adversarial move.

    Args:
        section: the ``augment:`` section.
        loss: of the model that is trained, for the adversarial direction.
        names: the model's inputs.
        columns: what ``adversarial.mutable`` became with the encoder, see ``feasible.movable``.

    Raises:
        ConfigError: an input is named that the model does not have, or columns without an encoder.
        ModelError: the user's function cannot be found.
    """
    moved = [] if section.adversarial is None else section.adversarial.inputs
    for name in (*section.noise, *moved):
        if name not in names:
            raise ConfigError("augment", f"{name!r} is no model input", f"one of {names}")
    changes: list[Change] = []
    if section.function is not None:
        changes.append(_users(section.function))
    if section.noise:
        changes.append(_noise(section.noise))
    if section.adversarial is not None:
        if section.adversarial.mutable and not columns:
            found = "columns to move, and no encoder that reads them"
            raise ConfigError("augment.adversarial.mutable", found, "inputs with epsilon")
        changes.append(_adversarial(section.adversarial, loss, columns or {}))

    def change(inputs: Inputs, labels: Tensor | None) -> tuple[Inputs, Tensor | None]:
        for step in changes:
            inputs, labels = step(inputs, labels)
        return inputs, labels

    return change


def _noise(deviations: dict[str, float]) -> Change:
    def change(inputs: Inputs, labels: Tensor | None) -> tuple[Inputs, Tensor | None]:
        noisy = {
            name: x + deviations[name] * torch.randn_like(_real(name, x))
            for name, x in inputs.items()
            if name in deviations
        }
        return {**inputs, **noisy}, labels

    return change


def _adversarial(section: Adversarial, loss: LossOf, columns: Mapping[str, Movable]) -> Change:
    """Moves a share of the rows; the loss that is raised is that of the whole mini-batch."""

    def space(name: str, x: Tensor) -> Space:
        if name in columns:
            return Space.of(region_of(columns[name], x.cpu().numpy()), x.device)
        assert section.epsilon is not None, "the section gives inputs with epsilon"
        return Space.ball(x, section.epsilon)

    def change(inputs: Inputs, labels: Tensor | None) -> tuple[Inputs, Tensor | None]:
        rows, device = len(next(iter(inputs.values()))), next(iter(inputs.values())).device
        chosen = torch.rand(rows, device=device) < section.share
        spaces = {n: space(n, _real(n, inputs[n])) for n in (*section.inputs, *columns)}
        found = gradient.moved(inputs, labels, [loss], spaces, section.steps)
        kept = {
            n: torch.where(_rows_of(chosen, x), found[n], x)
            for n, x in inputs.items()
            if n in spaces
        }
        return {**inputs, **kept}, labels

    return change


def _users(section: FunctionAugment) -> Change:
    where = f"augment.function {section.function!r}"
    expected = "a function augment(inputs, labels)"
    function = user_function(section.function, section.pythonpath, where, expected)

    def change(inputs: Inputs, labels: Tensor | None) -> tuple[Inputs, Tensor | None]:
        with users_code(where, "Correct that code."):
            returned = function(dict(inputs), labels, **section.arguments)
        pair = isinstance(returned, tuple) and len(returned) == 2
        if not pair or not isinstance(returned[0], dict):
            expected = "a pair: the dict of inputs, and the labels"
            raise ModelError(where, f"returned a {type(returned).__name__}", expected)
        found, found_labels = returned
        if set(found) != set(inputs):
            names = ", ".join(map(str, found))
            raise ModelError(where, f"returned the inputs {names}", ", ".join(inputs))
        for name, given in inputs.items():
            _check_shape(where, f"input {name!r}", found[name], given)
            if found[name].dtype != given.dtype:
                returned = f"returned input {name!r} as {found[name].dtype}"
                raise ModelError(where, returned, str(given.dtype))
        if labels is not None:  # their dtype is free: mixed labels are no longer integers
            _check_shape(where, "the labels", found_labels, labels)
        return found, found_labels

    return change


def _check_shape(where: str, what: str, found: object, given: Tensor) -> None:
    """A batch counts with its rows, so that a function may not add or drop any."""
    if not isinstance(found, Tensor) or found.shape != given.shape:
        shape = f" of shape {(*found.shape,)}" if isinstance(found, Tensor) else ""
        expected = f"a tensor of shape {(*given.shape,)}"
        raise ModelError(where, f"returned {what} as a {type(found).__name__}{shape}", expected)


def _rows_of(chosen: Tensor, x: Tensor) -> Tensor:
    return chosen.reshape(-1, *[1] * (x.ndim - 1))


def _real(name: str, x: Tensor) -> Tensor:
    if not x.is_floating_point():
        raise ConfigError("augment", f"input {name!r} holds {x.dtype}", "an input of numbers")
    return x
