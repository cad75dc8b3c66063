"""The ``quantization:`` section: the method, and the options that belong to that method."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from qtool.config.section import Section


class MinMaxObserver(Section):
    """The range is the smallest and the largest value seen."""

    method: Literal["min_max"]


class PercentileObserver(Section):
    """The range leaves out the same share of values on both sides."""

    method: Literal["percentile"]
    percentile: float = Field(99.99, gt=50, le=100)


class MseObserver(Section):
    """The range with the smallest expected squared quantization error."""

    method: Literal["mse"]


Observer = Annotated[
    MinMaxObserver | PercentileObserver | MseObserver, Field(discriminator="method")
]


class LayerRule(Section):
    """What to do with the nodes that a glob matches, by node name or operator type."""

    match: str = Field(min_length=1, description="glob on the node name or the operator type")
    precision: Literal["float"]


class StaticQuantization(Section):
    """INT8 with ranges fixed by calibration."""

    method: Literal["static"]
    observer: Observer = MseObserver(method="mse")
    samples: int = Field(16_384, gt=0, description="calibration rows")
    minimum_class_share: float = Field(
        0.1, ge=0, le=0.5, description="smallest share of each class among the calibration rows"
    )
    per_channel: bool = Field(False, description="one weight scale per output channel")
    layers: list[LayerRule] = Field(default_factory=list)


class DynamicQuantization(Section):
    """INT8 with activation ranges taken from each batch at run time; needs no calibration."""

    method: Literal["dynamic"]
    per_channel: bool = Field(False, description="one weight scale per output channel")
    layers: list[LayerRule] = Field(default_factory=list)


Quantization = Annotated[StaticQuantization | DynamicQuantization, Field(discriminator="method")]
