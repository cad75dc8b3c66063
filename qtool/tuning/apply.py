"""The tunings of a config, in their order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import onnx_ir as ir

from qtool.config.tuning import AdaRound, ClipWeights, Gptq, NumberTuning, Rewrite, Smooth
from qtool.evaluation.results import Tuned
from qtool.graph.parameters import Parameters
from qtool.graph.plan import Plan
from qtool.progress import Progress
from qtool.tuning.clip_weights import clip_weights
from qtool.tuning.correct_bias import correct_bias
from qtool.tuning.equalize import equalize
from qtool.tuning.gptq import gptq
from qtool.tuning.smooth import smooth
from qtool.tuning.tuned import Rows


def rewritten(
    model: ir.Model,
    rewrites: Sequence[Rewrite],
    rows: Rows,
    progress: Progress,
    *,
    masks: Mapping[str, str],
    per_channel: bool,
) -> tuple[ir.Model, tuple[Tuned, ...]]:
    """Returns a graph that computes the same as ``model`` and quantizes better.

    Args:
        model: the prepared graph.
        rewrites: of the config.
        rows: calibration rows.
        progress: where it is shown.
        masks: input → the input that is its mask, which is 0 where the other is padding.
        per_channel: whether weights will have one scale per output channel.

    Raises:
        ConfigError: a ``match`` matches no layer.
    """
    records: list[Tuned] = []
    for section in rewrites:
        if isinstance(section, Smooth):
            model, found = smooth(
                model, section, rows, progress, masks=masks, per_channel=per_channel
            )
        else:
            model, found = equalize(model, section, rows, progress)
        records += found
    return model, tuple(records)


def tuned(
    model: ir.Model,
    plan: Plan,
    parameters: Parameters,
    tunings: Sequence[NumberTuning],
    rows: Rows,
    progress: Progress,
) -> tuple[Parameters, tuple[Tuned, ...]]:
    """Returns better numbers for a plan.

    Args:
        model: the graph of the plan.
        plan: what is quantized, and how.
        parameters: of post-training quantization.
        tunings: of the config.
        rows: calibration rows.
        progress: where it is shown.

    Raises:
        ConfigError: a ``match`` matches no layer.
    """
    records: list[Tuned] = []
    for section in tunings:
        parameters, found = _tune(model, plan, parameters, section, rows, progress)
        records += found
    return parameters, tuple(records)


def _tune(
    model: ir.Model,
    plan: Plan,
    parameters: Parameters,
    section: NumberTuning,
    rows: Rows,
    progress: Progress,
) -> tuple[Parameters, list[Tuned]]:
    if isinstance(section, ClipWeights):
        return clip_weights(model, plan, parameters, section, rows, progress)
    if isinstance(section, Gptq):
        return gptq(model, plan, parameters, section, rows, progress)
    if isinstance(section, AdaRound):
        # Loads torch, which no other tuning needs.
        from qtool.tuning.adaround import adaround

        return adaround(model, plan, parameters, section, rows, progress)
    return correct_bias(model, plan, parameters, section, rows, progress)
