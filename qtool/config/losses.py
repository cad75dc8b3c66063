"""The ``loss:`` of training: what is minimised, by name, or a function of the user."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from qtool.config.section import ConfigPath, Section


class BinaryCrossEntropy(Section):
    """Cross-entropy of one logit; binary classification."""

    name: Literal["bce"]
    positive_weight: float = Field(1.0, gt=0, description="weight of the positive class")


class Focal(Section):
    """Focal loss (Lin et al. 2017, arXiv 1708.02002); classification and sequence tagging."""

    name: Literal["focal"]
    gamma: float = Field(2.0, ge=0, description="0 gives cross-entropy")
    positive_weight: float = Field(
        1.0, gt=0, description="weight of the positive class; binary classification only"
    )


class CrossEntropy(Section):
    """Cross-entropy of one logit per class; multiclass classification and sequence tagging."""

    name: Literal["cross_entropy"]
    class_weights: list[Annotated[float, Field(gt=0)]] | None = Field(
        None, description="one weight per class, in the order of the classes"
    )
    label_smoothing: float = Field(0.0, ge=0, lt=1)


class MeanSquaredError(Section):
    """Mean squared error; regression."""

    name: Literal["mse"]


class Huber(Section):
    """Squared below ``delta``, linear above (Huber 1964); regression."""

    name: Literal["huber"]
    delta: float = Field(1.0, gt=0, description="in the unit of the label")


class Quantile(Section):
    """Pinball loss (Koenker and Bassett 1978); the model has one output per target and quantile."""

    name: Literal["quantile"]
    quantiles: list[Annotated[float, Field(gt=0, lt=1)]] = Field(min_length=1)


class GaussianNll(Section):
    """Negative log-likelihood of a normal distribution; outputs: means, then log variances."""

    name: Literal["gaussian_nll"]


class Contrastive(Section):
    """InfoNCE (van den Oord et al. 2018, arXiv 1807.03748) between rows of two outputs.

    With one output and labels it is the supervised form (Khosla et al. 2020, arXiv 2004.11362).
    """

    name: Literal["contrastive"]
    temperature: float = Field(0.1, gt=0)


class NextToken(Section):
    """Cross-entropy of each token given the ones before it; language models."""

    name: Literal["next_token"]
    tokens: str | None = Field(
        None, description="model input that holds the tokens; left out: the only integer input"
    )
    ignore: int | None = Field(None, description="token that is not predicted (padding)")


class FunctionLoss(Section):
    """A function of the user: ``loss(outputs, labels, inputs) -> scalar tensor``."""

    name: Literal["function"]
    function: str = Field(
        pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$",
        description="module:function; gets dicts of output and input tensors, and the labels",
    )
    pythonpath: ConfigPath | None = Field(
        None, description="directory to import the module from (else: installed packages only)"
    )
    arguments: dict[str, Any] = Field({}, description="keyword arguments of that function")


Loss = Annotated[
    BinaryCrossEntropy
    | Focal
    | CrossEntropy
    | MeanSquaredError
    | Huber
    | Quantile
    | GaussianNll
    | Contrastive
    | NextToken
    | FunctionLoss,
    Field(discriminator="name"),
]
READ_OUTPUTS = (Quantile, GaussianNll, NextToken)
"""Losses that also say what the outputs are, to distillation and to the evaluation."""
