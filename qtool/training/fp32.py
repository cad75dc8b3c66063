"""FP32 training of a native torch module: dropout and batch normalization are live."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from qtool.config.training import Training
from qtool.errors import ModelError
from qtool.history import History
from qtool.training.fit import Fit, Inputs, Objective, Work
from qtool.training.loop import fit
from qtool.training.module import forward
from qtool.training.objective import Criterion


def train_fp32(module: nn.Module, section: Training, criterion: Criterion, work: Work) -> History:
    """Trains ``module`` in place and returns the history; the best epoch's weights are kept.

    Args:
        module: forward takes the named inputs and returns one or more tensors.
        section: the ``training:`` section.
        criterion: loss and metric.
        work: rows, seed, place and files.

    Raises:
        ConfigError: an option does not fit the task.
        ModelError: nothing to train, an output of another shape, or a loss that is not finite.
        StaleArtifactError: the checkpoint is damaged or belongs to another run.
    """
    parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
    if not parameters:
        where = f"torch module {type(module).__name__}"
        raise ModelError(where, "no parameter that requires a gradient", "at least one")

    def loss(inputs: Inputs, labels: Tensor | None) -> Tensor:
        with torch.autocast(
            work.place.device.type, torch.bfloat16, enabled=section.mixed_precision
        ):
            outputs = forward(module, inputs)
        return criterion.loss(_in_float32(outputs), labels, inputs)

    def judge(inputs: Inputs, labels: Tensor | None) -> tuple[Tensor, Tensor | None]:
        # Without autocast: the model that is exported computes in float32.
        outputs = _in_float32(forward(module, inputs))
        return criterion.loss(outputs, labels, inputs), criterion.predictions(outputs)

    group = {
        "params": parameters,
        "initial_lr": section.learning_rate,
        "weight_decay": section.weight_decay,
    }
    run = Fit(
        "train FP32",
        module,
        Objective(loss, judge, criterion.metric),
        [group],
        section,
        work,
    )
    return fit(run)


def _in_float32(outputs: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.float() for name, tensor in outputs.items()}
