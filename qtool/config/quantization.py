"""The ``quantization:`` section: the method, and the options that belong to that method."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Discriminator, Field, Tag, model_validator

from qtool.config.section import Section
from qtool.config.tuning import Rewrite, Tuning


class MinMaxObserver(Section):
    """The range is the smallest and the largest value seen."""

    method: Literal["min_max"]


class PercentileObserver(Section):
    """The range leaves out the same share of values on both sides."""

    method: Literal["percentile"]
    percentile: float = Field(99.99, gt=50, le=100)


class MovingAverageObserver(Section):
    """The range is the mean smallest and the mean largest value of blocks of 64 rows."""

    method: Literal["moving_average"]


class EntropyObserver(Section):
    """The range whose codes tell most about the values (least Kullback-Leibler divergence)."""

    method: Literal["entropy"]


class MseObserver(Section):
    """The range with the smallest expected squared quantization error."""

    method: Literal["mse"]


Observer = Annotated[
    MinMaxObserver | MovingAverageObserver | PercentileObserver | EntropyObserver | MseObserver,
    Field(discriminator="method"),
]


LayerMethod = Literal["static", "dynamic", "weight_only", "storage", "float"]
Bits = Literal[8, 4]
BlockSize = Literal[16, 32, 64, 128, 256]


class LayerRule(Section):
    """What to do with the nodes that a glob matches, by node name or operator type."""

    match: str = Field(min_length=1, description="glob on the node name or the operator type")
    method: LayerMethod | None = Field(
        None,
        description="how these layers are quantized; float: not at all; left out: as without this "
        "rule",
    )
    observer: Observer | None = Field(
        None, description="of the ranges that these layers read; left out: that of all"
    )
    bits: Bits | None = Field(None, description="of weight_only weights; left out: those of all")
    block_size: BlockSize | None = Field(None, description="of weight_only weights, likewise")

    @model_validator(mode="after")
    def _says_something(self) -> LayerRule:
        if not self.model_fields_set - {"match"}:
            raise ValueError(
                "a rule that changes nothing. Set method, observer, bits or block_size"
            )
        return self


class WeightOptions(Section):
    """What every method says about weights and about single layers."""

    per_channel: bool = Field(False, description="one weight scale per output channel")
    bits: Bits = Field(8, description="bits of weight_only weights")
    block_size: BlockSize = Field(
        128, description="weight_only: rows of a weight that share one scale"
    )
    layers: list[LayerRule] = Field([], description="rules for single layers; the last match wins")
    tuning: list[Tuning] = Field(
        [], description="what makes rounding cost less accuracy, in this order"
    )

    @model_validator(mode="after")
    def _rewrites_come_first(self) -> WeightOptions:
        kinds = [isinstance(tuning, Rewrite) for tuning in self.tuning]
        if kinds != sorted(kinds, reverse=True):
            raise ValueError(
                "tuning: smooth and equalize rewrite the FP32 graph, before any number is chosen. "
                "Put them first"
            )
        return self


def _samples_kind(value: object) -> str:
    return "auto" if isinstance(value, str) else "a number of rows"


Samples = Annotated[
    Annotated[Literal["auto"], Tag("auto")] | Annotated[int, Field(gt=0), Tag("a number of rows")],
    Discriminator(_samples_kind),
]


class Calibrated(WeightOptions):
    """What the methods with ranges from calibration have in common."""

    observer: Observer = MseObserver(method="mse")
    samples: Samples = Field(
        16_384, description="calibration rows; auto: as many as it takes until no range moves"
    )
    forward: Literal["float32", "bfloat16"] = Field(
        "float32",
        description="arithmetic of the calibration pass; bfloat16 (CPUs with AMX, large models) "
        "is faster, and its error is measured",
    )
    columns: Literal["auto", "shared", "separate"] = Field(
        "auto",
        description="scales of a tabular input: one for all columns, one for each (folded into the "
        "first layer), or each only where that wins a bit",
    )
    minimum_class_share: float = Field(
        0.1, ge=0, le=0.5, description="smallest share of each class among the calibration rows"
    )


class StaticQuantization(Calibrated):
    """INT8 with ranges fixed by calibration."""

    method: Literal["static"]


class DynamicQuantization(WeightOptions):
    """INT8 with activation ranges taken from each batch at run time; needs no calibration."""

    method: Literal["dynamic"]


class WeightOnlyQuantization(WeightOptions):
    """Weights of 8 or 4 bits with one scale per block; activations stay in float."""

    method: Literal["weight_only"]


class StorageQuantization(WeightOptions):
    """Weights stored as INT8 and turned to float at load: a quarter of the file, FP32's speed."""

    method: Literal["storage"]


class FastestQuantization(Calibrated):
    """For each layer the form predicted to be fastest on the target at ``target.batch_sizes``."""

    method: Literal["fastest"]


class AutoQuantization(Calibrated):
    """The fastest model that passes the gates, found by measuring: methods, observers, tuning.

    Rules of ``layers`` hold for every model that is tried, and so does ``tuning``.
    """

    method: Literal["auto"]
    seconds: float = Field(
        600, gt=0, description="time after which nothing new is tried; the best so far is kept"
    )
    rows: int = Field(
        20_000, gt=0, description="rows of the calibration split that candidates are judged on"
    )
    weight_bits: list[Bits] = Field(
        [8, 4], description="of weight_only layers that may be tried; empty: none"
    )
    finish_with_qat: bool = Field(
        True, description="train with train_qat, if that is set, when nothing else passes the gates"
    )


Planned = (
    StaticQuantization
    | DynamicQuantization
    | WeightOnlyQuantization
    | StorageQuantization
    | FastestQuantization
)
"""A section from which a plan follows without a search."""
Quantization = Annotated[Planned | AutoQuantization, Field(discriminator="method")]
