"""From what was seen to a plan that is settled: column scales that pay, ranges, no saturation."""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from qtool.calibration.calibrate import Statistics, ranges
from qtool.calibration.rows import Inputs
from qtool.calibration.saturation import avoid_saturation
from qtool.calibration.settle import settle_columns
from qtool.config.quantization import Calibrated
from qtool.graph.parameters import Range
from qtool.graph.plan import Plan
from qtool.numerics.observers import observer


@dataclass(frozen=True, eq=False)
class Settled:
    """A plan whose every choice is made, and the ranges of its activations.

    Attributes:
        plan: settled.
        ranges: of every activation that needs one of its own.
        statistics: that they come from.
    """

    plan: Plan
    ranges: dict[str, Range]
    statistics: Statistics


def settle(
    model: ir.Model, plan: Plan, seen: Statistics, section: Calibrated, rows: Inputs
) -> Settled:
    """Returns the settled plan and its ranges.

    Args:
        model: the graph of the plan.
        plan: as ``make_plan`` made it.
        seen: statistics of its calibrated activations.
        section: observer and columns.
        rows: model inputs on which the saturation of the target's kernels is emulated.
    """
    chosen = observer(section.observer)
    settled, statistics = settle_columns(model, plan, seen, chosen, section.columns)
    found = ranges(settled, statistics, chosen)
    return Settled(avoid_saturation(model, settled, found, rows), found, statistics)
