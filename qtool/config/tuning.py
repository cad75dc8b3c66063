"""``quantization.tuning``: what moves numbers, not places, so that rounding costs less accuracy.

Methods of the first kind rewrite the FP32 graph into one that computes the same and quantizes
better (``smooth``, ``equalize``); they come before calibration. Those of the second kind choose the
numbers of a quantized layer (``clip_weights``, ``gptq``, ``adaround``, ``correct_bias``) and follow
calibration.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Discriminator, Field, Tag

from qtool.config.section import Section


class _Tuning(Section):
    match: str = Field("*", min_length=1, description="glob on the node name or the operator type")


def _strength_kind(value: object) -> str:
    return "auto" if isinstance(value, str) else "a number"


Strength = Annotated[
    Annotated[Literal["auto"], Tag("auto")] | Annotated[float, Field(ge=0, le=1), Tag("a number")],
    Discriminator(_strength_kind),
]


class Smooth(_Tuning):
    """Moves the spread of an activation's channels into the weights that read it (SmoothQuant)."""

    method: Literal["smooth"]
    strength: Strength = Field(
        "auto",
        description="how much of it: 0 none, 1 all; auto: what leaves least error",
    )


class Equalize(_Tuning):
    """Gives the channels between two layers the same range in both (cross-layer equalization)."""

    method: Literal["equalize"]


class ClipWeights(_Tuning):
    """Weight scales that change the layer's outputs least; they cut off rare large weights."""

    method: Literal["clip_weights"]


class Gptq(_Tuning):
    """Rounds weights one after another, each correcting the error of those before (GPTQ)."""

    method: Literal["gptq"]
    rows: int = Field(1024, gt=0, description="calibration rows whose activations it reads")
    damping: float = Field(0.01, gt=0, le=1, description="share of the mean of the diagonal")


class AdaRound(_Tuning):
    """Learns for each weight whether to round up or down (AdaRound)."""

    method: Literal["adaround"]
    rows: int = Field(1024, gt=0, description="calibration rows whose activations it reads")
    steps: int = Field(500, gt=0, description="of the optimizer, per layer")


class CorrectBias(_Tuning):
    """Takes the mean error of each output channel out of the bias."""

    method: Literal["correct_bias"]
    rows: int = Field(1024, gt=0, description="calibration rows whose activations it reads")


Rewrite = Smooth | Equalize
"""Tunings of the FP32 graph."""
NumberTuning = ClipWeights | Gptq | AdaRound | CorrectBias
"""Tunings of a quantized layer's numbers."""
Tuning = Annotated[Rewrite | NumberTuning, Field(discriminator="method")]
