"""Parity: are the codes that a simulation computes the codes that the integer kernels compute?

Codes are compared at every quantized activation, the model's output as real numbers. The runtime's
codes are read by making them outputs of the INT8 graph, which its kernels produce all the same. A
layer that the writer made a QGemm itself (``graph.writing``) is an integer kernel on both sides.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
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

    Args:
        simulation: its name.
        plan: names the activations; both values hold their codes under ``codes_name`` and the
            output under any other name.
        pairs: one pair per batch.
    """
    names = [codes_name(name) for name in plan.activations]
    codes = equal = largest_step = rows = 0
    largest_output = 0.0
    for simulated, actual in pairs:
        for name in names:
            difference = np.abs(simulated[name].astype(np.int32) - actual[name].astype(np.int32))
            codes += difference.size
            equal += int((difference == 0).sum())
            largest_step = max(largest_step, int(difference.max(initial=0)))
        for name in set(actual) - set(names):
            gap = np.abs(simulated[name].astype(np.float64) - actual[name])
            largest_output = max(largest_output, float(gap.max(initial=0)))
            rows += len(gap)
    return Parity(simulation, codes, equal / codes, largest_step, largest_output, rows)
