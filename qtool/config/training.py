"""The ``training:`` and ``train_qat:`` sections: FP32 training and quantization-aware training."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from qtool.config.section import Section


class Training(Section):
    """FP32 training of a torch model that has no checkpoint."""

    epochs: int = Field(5, gt=0)
    batch_size: int = Field(512, gt=0)
    learning_rate: float = Field(1e-3, gt=0)
    weight_decay: float = Field(1e-4, ge=0)
    positive_weight: float = Field(
        1.0, gt=0, description="weight of the positive class in the loss"
    )
    schedule: Literal["cosine", "constant"] = "cosine"
    checkpoint_steps: int = Field(200, gt=0, description="steps between checkpoints")


class Distill(Section):
    """Distillation from the FP32 model (Hinton et al. 2015, arXiv 1503.02531)."""

    weight: float = Field(
        1.0, ge=0, le=1, description="share of the distillation loss; the rest is from the labels"
    )


class TrainQat(Section):
    """Quantization-aware fine-tuning on the graph that is deployed."""

    epochs: int = Field(3, gt=0)
    batch_size: int = Field(512, gt=0)
    learning_rate: float = Field(1e-4, gt=0)
    weight_decay: float = Field(0.0, ge=0)
    positive_weight: float = Field(
        1.0, gt=0, description="weight of the positive class in the loss"
    )
    schedule: Literal["cosine", "constant"] = "cosine"
    learn_scales: bool = Field(
        True, description="learn the step sizes (LSQ, arXiv 1902.08153); false keeps the calibrated"
    )
    distill: Distill | None = None
    checkpoint_steps: int = Field(200, gt=0, description="steps between checkpoints")
