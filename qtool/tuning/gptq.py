"""GPTQ at work: the codes of every weight chosen together (``numerics.gptq``)."""

from __future__ import annotations

import onnx_ir as ir

from qtool.config.tuning import Gptq
from qtool.evaluation.results import Tuned
from qtool.graph.parameters import Parameters
from qtool.graph.plan import Plan
from qtool.numerics.gptq import gptq_codes
from qtool.numerics.reconstruction import Floats, Grid, Reconstruction
from qtool.progress import Progress
from qtool.tuning.rounding import retuned, with_better_codes
from qtool.tuning.tuned import Rows


def gptq(
    model: ir.Model,
    plan: Plan,
    parameters: Parameters,
    section: Gptq,
    rows: Rows,
    progress: Progress,
) -> tuple[Parameters, list[Tuned]]:
    """Returns numbers whose weights GPTQ has rounded, and what that did to each layer.

    Args:
        model: the graph of the plan, with the FP32 weights.
        plan: what is quantized, and how.
        parameters: the numbers so far; their scales stay.
        section: which layers, rows and damping.
        rows: calibration rows.
        progress: where it is shown.

    Raises:
        ConfigError: ``match`` matches no layer.
        DataError: there are no rows.
    """

    def choose(goal: Reconstruction, grid: Grid) -> Floats:
        return gptq_codes(goal.target(section.damping), goal.second, grid, section.damping)

    propose = with_better_codes(choose, plan)
    return retuned(
        "gptq", propose, model, plan, parameters, section.match, rows, section.rows, progress
    )
