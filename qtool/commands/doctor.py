"""``qtool doctor``: the CPU, the INT8 kernels that follow from it, and the versions."""

from __future__ import annotations

import platform

from qtool.commands.prepare import versions
from qtool.graph.targets import TARGETS
from qtool.runtime.cpu import detect


def diagnose() -> dict[str, str]:
    """Returns what was found, in words, by topic."""
    cpu = detect()
    return {
        "CPU": cpu.name,
        "microarchitecture": cpu.microarchitecture,
        "architecture": cpu.architecture,
        "INT8 features": ", ".join(cpu.features) or "none",
        "cores": str(cpu.cores),
        "target": cpu.target or "none: name one in target.cpu",
        "INT8 kernels": TARGETS[cpu.target].description if cpu.target else "none that are fast",
        "python": platform.python_version(),
        **versions("qtool", "onnxruntime", "onnx", "onnx-ir", "torch", "numpy", "pyarrow"),
    }
