"""AdaRound at work: learns whether to round each weight up or down (``torchgraph.adaround``)."""

from __future__ import annotations

import onnx_ir as ir

from qtool.config.tuning import AdaRound
from qtool.evaluation.results import Tuned
from qtool.graph.parameters import Parameters
from qtool.graph.plan import Plan
from qtool.numerics.reconstruction import Floats, Grid, Reconstruction
from qtool.progress import Progress
from qtool.torchgraph.adaround import adaround_codes
from qtool.tuning.rounding import retuned, with_better_codes
from qtool.tuning.tuned import Rows

DAMPING = 0.01
"""What holds the weights that are rounded near those of FP32; GPTQ's default."""


def adaround(
    model: ir.Model,
    plan: Plan,
    parameters: Parameters,
    section: AdaRound,
    rows: Rows,
    progress: Progress,
) -> tuple[Parameters, list[Tuned]]:
    """Returns numbers whose weights AdaRound has rounded, and what that did to each layer.

    Args:
        model: the graph of the plan, with the FP32 weights.
        plan: what is quantized, and how.
        parameters: the numbers so far; their scales stay.
        section: which layers, rows and steps.
        rows: calibration rows.
        progress: where it is shown.

    Raises:
        ConfigError: ``match`` matches no layer.
        DataError: there are no rows.
    """

    def choose(goal: Reconstruction, grid: Grid) -> Floats:
        return adaround_codes(goal.target(DAMPING), goal.second, grid, section.steps)

    propose = with_better_codes(choose, plan)
    return retuned(
        "adaround", propose, model, plan, parameters, section.match, rows, section.rows, progress
    )
