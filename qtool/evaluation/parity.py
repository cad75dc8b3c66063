"""Parity: are the codes that a simulation computes the codes that the integer kernels compute?

Codes are compared at every quantized activation, the model's output as real numbers. The runtime's
codes are read by making them outputs of the INT8 graph, which its kernels produce all the same. A
layer that the writer made a QGemm itself (``graph.writing``) is an integer kernel on both sides.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from qtool.evaluation.results import Parity
from qtool.graph.copy_outputs import with_outputs
from qtool.graph.plan import Plan
from qtool.graph.writing.activations import codes_name
from qtool.runtime.sessions import Session

Arrays = Mapping[str, NDArray[Any]]
Array64 = NDArray[np.float64]
OUTPUT_STEPS = 255
UNFUSED = "Q/DQ graph in float32, nothing fused"


def session_with_codes(int8: ir.Model, plan: Plan, *, optimize: bool = True) -> Session:
    """Returns a session that also outputs the codes of every planned activation."""
    names = [codes_name(name) for name in plan.activations]
    return Session(with_outputs(int8, names), "the INT8 model", optimize=optimize)


def unfused_parity(int8: ir.Model, plan: Plan, batches: Iterable[Arrays]) -> Parity:
    """Returns the parity of the Q/DQ graph, computed in float32, with the integer kernels."""
    runtime = session_with_codes(int8, plan)
    simulation = session_with_codes(int8, plan, optimize=False)
    # Other outputs may be labels or text; the first is the one that becomes scores.
    names = [*(codes_name(name) for name in plan.activations), runtime.output_names[0]]
    pairs = ((simulation.run(batch, names), runtime.run(batch, names)) for batch in batches)
    return compare(UNFUSED, plan, pairs)


def compare(simulation: str, plan: Plan, pairs: Iterable[tuple[Arrays, Arrays]]) -> Parity:
    """Returns the parity over batches of (simulated, runtime) values.

    Where the plan has no activation codes (kernels that quantize their inputs themselves), the
    codes are those of the output, rounded to 8 bits over its range.

    Args:
        simulation: its name.
        plan: names the activations; both values hold their codes under ``codes_name`` and the
            output under any other name.
        pairs: one pair per batch.
    """
    names = [codes_name(name) for name in plan.activations]
    counted = _Counted()
    outputs: list[tuple[Array64, Array64]] = []
    rows = 0
    for simulated, actual in pairs:
        for name in names:
            counted.add(simulated[name].astype(np.int32), actual[name].astype(np.int32))
        for name in set(actual) - set(names):
            pair = simulated[name].astype(np.float64), actual[name].astype(np.float64)
            outputs.append(pair)
            rows += len(pair[0])
    if not names:
        simulation = f"{simulation}, codes of the output"
        counted.add(*_output_codes(outputs))
    gap = max((float(np.abs(a - b).max(initial=0)) for a, b in outputs), default=0.0)
    equal = counted.equal / counted.codes
    return Parity(simulation, counted.codes, equal, counted.largest_step, gap, rows)


@dataclass
class _Counted:
    codes: int = 0
    equal: int = 0
    largest_step: int = 0

    def add(self, simulated: NDArray[Any], actual: NDArray[Any]) -> None:
        difference = np.abs(simulated - actual)
        self.codes += difference.size
        self.equal += int((difference == 0).sum())
        self.largest_step = max(self.largest_step, int(difference.max(initial=0)))


def _output_codes(outputs: list[tuple[Array64, Array64]]) -> tuple[NDArray[Any], NDArray[Any]]:
    simulated, actual = (np.concatenate([pair[i].ravel() for pair in outputs]) for i in (0, 1))
    step = float(np.ptp(simulated)) / OUTPUT_STEPS or 1.0
    return np.rint(simulated / step), np.rint(actual / step)
