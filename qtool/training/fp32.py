"""FP32 training of a native torch module: dropout and batch normalization are live."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from qtool.config.training import Training
from qtool.errors import ModelError
from qtool.history import History
from qtool.training.distillation import Taught, Teacher
from qtool.training.fit import Fit, Inputs, Work
from qtool.training.loop import fit
from qtool.training.module import forward
from qtool.training.objective import Criterion


def train_fp32(
    module: nn.Module,
    section: Training,
    criterion: Criterion,
    work: Work,
    teacher: Teacher | None = None,
) -> History:
    """Trains ``module`` in place and returns the history; the best epoch's weights are kept.

    Args:
        module: forward takes the named inputs and returns one or more tensors.
        section: the ``training:`` section.
        criterion: loss and metric.
        work: rows, seed, place and files.
        teacher: that of ``section.distill``.

    Raises:
        ConfigError: an option does not fit the task.
        ModelError: nothing to train, an output of another shape, or a loss that is not finite.
        StaleArtifactError: the checkpoint is damaged or belongs to another run.
    """
    parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
    if not parameters:
        where = f"torch module {type(module).__name__}"
        raise ModelError(where, "no parameter that requires a gradient", "at least one")

    def trained(inputs: Inputs, names: Sequence[str]) -> dict[str, Tensor]:
        del names
        # When it is judged without autocast: the model that is exported computes in float32.
        enabled = section.mixed_precision and module.training
        with torch.autocast(work.place.device.type, torch.bfloat16, enabled=enabled):
            outputs = forward(module, inputs)
        return {name: tensor.float() for name, tensor in outputs.items()}

    group = {
        "params": parameters,
        "initial_lr": section.learning_rate,
        "weight_decay": section.weight_decay,
    }
    taught = Taught(trained, criterion, teacher, section.distill)
    return fit(Fit("train FP32", module, taught.objective, [group], section, work))
