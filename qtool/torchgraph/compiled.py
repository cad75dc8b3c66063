"""torch.compile where a C++ compiler is, and the reason where it is not."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import tempfile
from functools import cache
from pathlib import Path
from typing import cast

import torch
from torch import nn

from qtool.torchgraph.fake_quant_graph import FakeQuantGraph
from qtool.torchgraph.importer import TorchGraph
from qtool.torchgraph.recurrent import RECURRENT

SOURCE = "#include <Python.h>\n#include <omp.h>\nint threads() { return omp_get_max_threads(); }\n"
"""The headers that the C++ of torch.compile (torch 2.13, CPU) includes."""
SECONDS = 60


@cache
def why_not_compiled() -> str | None:
    """Returns why nothing can be compiled here, None when a C++ compiler works.

    A small library with the headers that are needed is built by the compiler that torch would take:
    ``$CXX``, else ``g++`` (``clang++`` on macOS).
    """
    compiler = os.environ.get("CXX") or ("clang++" if sys.platform == "darwin" else "g++")
    include = sysconfig.get_paths()["include"]
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "probe.cpp"
        source.write_text(SOURCE, encoding="utf-8")
        library = str(source.with_suffix(".so"))
        command = [compiler, "-shared", "-fPIC", "-fopenmp", f"-I{include}", str(source)]
        try:
            ran = subprocess.run(  # noqa: S603
                [*command, "-o", library],
                check=False,
                capture_output=True,
                text=True,
                timeout=SECONDS,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            return f"the C++ compiler {compiler!r} cannot be run ({error})"
    if ran.returncode:
        found = next((line for line in ran.stderr.splitlines() if "error" in line), "it failed")
        return f"the C++ compiler {compiler!r} cannot build a library ({found.strip()})"
    return None


def compiled(graph: TorchGraph | FakeQuantGraph) -> tuple[nn.Module, str | None]:
    """Returns ``graph`` compiled by torch.compile, or as it is and why it is not compiled.

    The compiled module has the parameters of ``graph`` and gives its results within float32
    rounding. The first call compiles, for seconds to minutes; so does a first call with another
    batch size, which compiles for all sizes.

    Recurrent layers stay eager: torch 2.13 fails on its own LSTM kernel, and the loop of the
    integer LSTM gains nothing.
    """
    nodes = (graph if isinstance(graph, TorchGraph) else graph.graph).nodes
    recurrent = [node for node in nodes.values() if node.op_type in RECURRENT]
    if recurrent:
        layer = f"{recurrent[0].op_type} {recurrent[0].name!r}"
        return graph, f"{layer} is recurrent, which torch.compile does not make faster"
    reason = why_not_compiled()
    if reason is not None:
        return graph, reason
    return cast(nn.Module, torch.compile(graph, fullgraph=True)), None
