"""The ``pruning:`` section: narrower layers, before they are quantized."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from qtool.config.section import Section
from qtool.config.training import FineTune


class PruningRule(Section):
    """Another share for the layers that a glob matches."""

    match: str = Field(min_length=1, description="glob on layer names or operator types")
    keep: float = Field(gt=0, le=1, description="share of their units that stay")


class Pruning(Section):
    """Structured width pruning: whole units of the FP32 graph go, and what they read and feed.

    A unit is an output of a dense layer or a channel of a convolution. Layers whose units are added
    to each other lose the same ones.
    """

    keep: float = Field(0.5, gt=0, le=1, description="share of the units of every layer that stay")
    layers: list[PruningRule] = Field(
        [], description="other shares; of the rules that match a layer the last one holds"
    )
    multiple: int = Field(
        16, gt=0, description="widths are rounded up to a multiple, as integer kernels work in"
    )
    criterion: Literal["taylor", "contribution"] = Field(
        "taylor",
        description="importance of a unit: the change of the loss without it to first order "
        "(arXiv 1906.10771), or the mean square of what it adds to the layers that read it",
    )
    rows: int = Field(4096, gt=0, description="training rows that the importance is measured on")
    fine_tune: FineTune = FineTune()
