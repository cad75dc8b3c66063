"""Target profiles: what the INT8 kernels of a CPU need from the graph.

ONNX Runtime 1.31 on x86 has fast kernels for uint8 activations with int8 weights only (MLAS
GemmU8S8Dispatch; measured: int8 activations run scalar code, 5 times slower than FP32). Without
VNNI the kernel adds pairs of products in int16, which can saturate (``numerics.saturation``): there
calibration finds the layers that do and gives them 7-bit weights; where no calibration can tell,
all weights have 7 bits.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from qtool.numerics.affine import Dtype, QuantSpec

Architecture = Literal["x86", "arm"]


@dataclass(frozen=True)
class Target:
    """One profile."""

    name: str
    activation_dtype: Dtype
    saturates: bool
    architecture: Architecture
    description: str

    def activation(self, *, columns: bool) -> QuantSpec:
        """Returns the spec of an activation; ``columns``: one scale per column."""
        return QuantSpec(self.activation_dtype, symmetric=False, axis=1 if columns else None)

    def weight(self, *, axis: int | None, calibrated: bool = True) -> QuantSpec:
        """Returns the spec of a constant weight of an integer kernel.

        Args:
            axis: of one scale per index.
            calibrated: the codes that it meets will be known from calibration.
        """
        bits = 7 if self.saturates and not calibrated else 8
        return QuantSpec("int8", symmetric=True, axis=axis, bits=bits)


TARGETS = {
    target.name: target
    for target in (
        Target(
            "x86_amx",
            "uint8",
            False,
            "x86",
            "x86 with AMX-INT8 tiles: uint8 x int8 on matrix tiles",
        ),
        Target(
            "x86_vnni", "uint8", False, "x86", "x86 with VNNI: uint8 x int8 dot products into int32"
        ),
        Target("x86_avx2", "uint8", True, "x86", "x86 with AVX2 only: int16 pair sums"),
        Target(
            "arm_dotprod", "int8", False, "arm", "Arm with dot-product instructions: int8 x int8"
        ),
    )
}
