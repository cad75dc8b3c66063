"""Where the error of INT8 arises: how well the codes of each activation stand for its FP32 values.

The runtime's codes are compared with the values of the FP32 graph on the same rows, so that an
error adds up from layer to layer, as it does in use. The line from codes to values is fitted, which
needs no scales: a shift that is the same for all values does not count, the layer behind it has a
bias. Source: signal-to-quantization-noise ratio, 10 log10 (variance / mean squared error).
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from qtool.evaluation.parity import Arrays, session_with_codes
from qtool.evaluation.results import LayerError
from qtool.graph.copy_outputs import with_outputs
from qtool.graph.plan import Plan
from qtool.graph.writing.activations import codes_name
from qtool.runtime.sessions import Session


def layer_errors(
    prepared: ir.Model, int8: ir.Model, plan: Plan, batches: Iterable[Arrays]
) -> tuple[LayerError, ...]:
    """Returns the ratio of every planned activation, in the order of the plan, then of the output.

    Args:
        prepared: the FP32 graph that the plan is of.
        int8: the model written from it.
        plan: names the activations.
        batches: model inputs, a few hundred rows.
    """
    runtime = session_with_codes(int8, plan)
    output = runtime.output_names[0]
    names = [name for name in plan.activations if name != output]
    inner = [name for name in names if name not in runtime.input_names]
    reference = Session(with_outputs(prepared, inner), "the prepared FP32 model")
    lines = {name: _Line() for name in names}
    last = _Line()
    for batch in batches:
        values = {**batch, **reference.run(batch, [*inner, output])}
        codes = runtime.run(batch, [*(codes_name(name) for name in names), output])
        for name, line in lines.items():
            line.add(values[name], codes[codes_name(name)], plan.activations[name].axis)
        last.add(values[output], codes[output], None)
    found = [LayerError(name, line.ratio_db()) for name, line in lines.items()]
    return (*found, LayerError(output, last.ratio_db()))


@dataclass
class _Line:
    """Sums for the straight line from codes to values, of each column or of all."""

    sums: NDArray[np.float64] | None = None

    def add(self, values: NDArray[Any], codes: NDArray[Any], axis: int | None) -> None:
        """Takes values and codes of the same shape."""
        columns = values.shape[axis] if axis is not None else 1
        # ``axis`` is the last one: columns are those of a table.
        x, q = (array.astype(np.float64).reshape(-1, columns) for array in (values, codes))
        found = np.stack(
            [np.full(columns, len(x)), *(s.sum(0) for s in (x, q, x * x, q * q, x * q))]
        )
        self.sums = found if self.sums is None else self.sums + found

    def ratio_db(self) -> float:
        """Returns the ratio in decibels; NaN where all values are equal, infinite without error."""
        if self.sums is None:
            return math.nan
        count, x, q, xx, qq, xq = self.sums
        signal, spread, common = xx - x * x / count, qq - q * q / count, xq - x * q / count
        explained = np.divide(common**2, spread, out=np.zeros_like(spread), where=spread > 0)
        noise, total = float((signal - explained).sum()), float(signal.sum())
        if total <= 0:
            return math.nan
        return math.inf if noise <= 0 else 10 * math.log10(total / noise)
