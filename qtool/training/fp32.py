"""FP32 training of a native torch module: dropout and batch normalization are live."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor, nn

from qtool.config.model import Output
from qtool.config.training import Training
from qtool.data.memory_map import Rows
from qtool.errors import ModelError
from qtool.progress import Progress
from qtool.training.history import History
from qtool.training.loop import Fit, fit
from qtool.training.objective import binary_logits, binary_loss


def train_fp32(
    module: nn.Module,
    rows: Rows,
    validation: Rows,
    section: Training,
    *,
    seed: int,
    checkpoint: Path,
    progress: Progress,
    output: Output = "logit",
    threads: int = 1,
) -> History:
    """Trains ``module`` in place and returns the history; the best epoch's weights are kept.

    Args:
        module: forward takes the named inputs and returns one tensor (see ``binary_logits``).
        rows: trained on.
        validation: judged on, by the same loss.
        section: the ``training:`` section.
        seed: of the row order and of dropout.
        checkpoint: file that an interrupted run goes on from.
        progress: shows the steps.
        output: what the module returns.
        threads: CPU threads; the result depends on it.

    Raises:
        ModelError: nothing to train, an output of another shape, or a loss that is not finite.
        StaleArtifactError: the checkpoint is damaged or belongs to another run.
    """
    parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
    if not parameters:
        where = f"torch module {type(module).__name__}"
        raise ModelError(where, "no parameter that requires a gradient", "at least one")

    def objective(inputs: dict[str, Tensor], labels: Tensor) -> tuple[Tensor, Tensor]:
        logits = binary_logits(module(**inputs), output)
        return binary_loss(logits, labels, section.positive_weight), logits

    group = {
        "params": parameters,
        "initial_lr": section.learning_rate,
        "weight_decay": section.weight_decay,
    }
    run = Fit(
        "train FP32",
        module,
        objective,
        [group],
        rows,
        validation,
        section,
        seed,
        threads,
        checkpoint,
    )
    return fit(run, progress)
