"""The chain from a graph to its INT8 form, for tests."""

from __future__ import annotations

import numpy as np

from qtool.calibration.calibrate import observe, ranges
from qtool.config.quantization import StaticQuantization
from qtool.graph.model_file import model_bytes
from qtool.graph.parameters import derive
from qtool.graph.planner import make_plan
from qtool.graph.prepare.pipeline import prepare
from qtool.graph.targets import TARGETS
from qtool.graph.writing.writer import write
from qtool.numerics.observers import observer
from qtool.progress import SilentProgress
from qtool.runtime.sessions import Session


def run(model, rows):
    session = Session(model_bytes(model), "test")
    return session.run(rows)[session.output_names[0]]


def relative_error(found, expected):
    return float(np.sqrt(((found - expected) ** 2).mean() / (expected**2).mean()))


def parameters_for(model, rows, section, target="x86_amx"):
    """Returns (prepared graph, plan, parameters)."""
    prepared = prepare(model)
    plan = make_plan(prepared, "sha", section, TARGETS[target])
    found = {}
    if section.method == "static":
        histograms = observe(prepared, plan, [rows], 1, SilentProgress())
        found = ranges(plan, histograms, observer(section.observer))
    return prepared, plan, derive(prepared, plan, found)


def quantized(model, rows, section=None, target="x86_amx"):
    """Returns (prepared graph, plan, INT8 graph)."""
    section = section or StaticQuantization(method="static")
    prepared, plan, parameters = parameters_for(model, rows, section, target)
    return prepared, plan, write(prepared, plan, parameters, {"target": target})
