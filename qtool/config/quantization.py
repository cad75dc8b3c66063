"""The ``quantization:`` section: the method, and the options that belong to that method."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Discriminator, Field, Tag

from qtool.config.section import Section


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
    method: LayerMethod = Field(description="how these layers are quantized; float: not at all")


class WeightOptions(Section):
    """What every method says about weights and about single layers."""

    per_channel: bool = Field(False, description="one weight scale per output channel")
    bits: Bits = Field(8, description="bits of weight_only weights")
    block_size: BlockSize = Field(
        128, description="weight_only: rows of a weight that share one scale"
    )
    layers: list[LayerRule] = Field([], description="rules for single layers; the last match wins")


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


class AutoQuantization(Calibrated):
    """For each layer the form that is fastest on the target at ``target.batch_sizes``."""

    method: Literal["auto"]


Quantization = Annotated[
    StaticQuantization
    | DynamicQuantization
    | WeightOnlyQuantization
    | StorageQuantization
    | AutoQuantization,
    Field(discriminator="method"),
]
