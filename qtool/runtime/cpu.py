"""What this CPU can do, and which INT8 kernels of the runtime follow from it."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass

import archspec.cpu
from archspec.cpu.detect import detected_info

from qtool.errors import UsageError


@dataclass(frozen=True)
class Cpu:
    """This machine's CPU.

    Attributes:
        name: the vendor's name, or the microarchitecture where the system does not tell.
        architecture: ``x86_64``, ``aarch64`` …
        microarchitecture: archspec's name.
        features: the instruction sets that matter for INT8, present ones only.
        cores: logical cores this process may use.
        target: the best target profile, None when no profile fits.
    """

    name: str
    architecture: str
    microarchitecture: str
    features: tuple[str, ...]
    cores: int
    target: str | None


RELEVANT = ("avx2", "avx512f", "avx_vnni", "avx512_vnni", "amx_int8", "amx_bf16", "asimddp", "i8mm")


def detect() -> Cpu:
    """Returns this machine's CPU."""
    # host() has the features of the best known match; the raw ones include what a virtual machine
    # adds.
    present = detected_info().features
    host = archspec.cpu.host()
    features = tuple(name for name in RELEVANT if name in present)
    cores = (
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    )
    return Cpu(
        name=archspec.cpu.brand_string() or host.name,
        architecture=platform.machine(),
        microarchitecture=host.name,
        features=features,
        cores=cores,
        target=_profile(features),
    )


def architecture() -> str:
    """Returns ``x86`` or ``arm``; any other machine's own name."""
    machine = platform.machine().lower()
    if machine in ("x86_64", "amd64"):
        return "x86"
    return "arm" if machine in ("aarch64", "arm64") else machine


def resolve_target(cpu: str) -> str:
    """Returns the profile name for ``target.cpu``; ``auto`` is this machine's.

    Raises:
        UsageError: ``auto`` on a CPU that no profile fits.
    """
    if cpu != "auto":
        return cpu
    found = detect()
    if found.target is None:
        raise UsageError(
            "target.cpu",
            f"auto, but no profile fits this CPU ({found.microarchitecture})",
            "a CPU with AVX2, VNNI, AMX or Arm dot product",
            "Name the machine the model will run on in target.cpu.",
        )
    return found.target


def _profile(features: tuple[str, ...]) -> str | None:
    if "amx_int8" in features:
        return "x86_amx"
    if "avx512_vnni" in features or "avx_vnni" in features:
        return "x86_vnni"
    if "avx2" in features:
        return "x86_avx2"
    # Every Apple CPU that runs Python 3.10 has dot products; archspec does not list them for macOS.
    if "asimddp" in features or (platform.system(), platform.machine()) == ("Darwin", "arm64"):
        return "arm_dotprod"
    return None
