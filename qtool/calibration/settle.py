"""Settles, once the data is seen, which tabular inputs keep one scale per column.

Column scales cost a multiplication and an addition per input value at run time (measured: 3 % of a
3 x 512 MLP at batch 32). Unless the configuration says otherwise, they stay where they win at least
one bit of the first layer's resolution over one shared scale. They always stay where embedding
tables are stored in them: these have no other form beside the input.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Literal

import onnx_ir as ir

from qtool.calibration.calibrate import ranges
from qtool.graph.parameters import columns_of, constants_of
from qtool.graph.plan import Plan
from qtool.graph.tables import absorbed_tables
from qtool.numerics.columns import column_gain_db
from qtool.numerics.observers import Observe
from qtool.numerics.tensor_statistics import TensorStatistics, joined

Choice = Literal["auto", "shared", "separate"]
MINIMUM_GAIN_DB = 6.0
"""One bit: 20 log10(2)."""


def settle_columns(
    model: ir.Model,
    plan: Plan,
    statistics: Mapping[str, TensorStatistics],
    observer: Observe,
    choice: Choice = "auto",
) -> tuple[Plan, dict[str, TensorStatistics]]:
    """Returns plan and statistics in which column scales that do not pay have become one scale.

    Args:
        model: the prepared graph.
        plan: with a scale per column of every tabular input.
        statistics: of its activations.
        observer: gives the ranges of those for which the plan names no other.
        choice: ``shared``: none pays; ``separate``: all do.
    """
    if choice == "separate":
        return plan, dict(statistics)
    absorbing, constants = absorbed_tables(model, plan), constants_of(model)
    by_column = {
        name: spec
        for name, spec in plan.activations.items()
        if spec.axis is not None and name not in absorbing
    }
    found = ranges(dataclasses.replace(plan, activations=by_column), statistics, observer)
    settled = dict(statistics)
    for name, known in found.items():
        columns = columns_of(plan, name, known, constants)
        if choice == "shared" or column_gain_db(columns) < MINIMUM_GAIN_DB:
            plan = _with_one_scale(plan, name)
            settled[name] = joined(statistics[name])
    return plan, settled


def _with_one_scale(plan: Plan, name: str) -> Plan:
    spec = dataclasses.replace(plan.activations[name], axis=None)
    weights = {
        weight: dataclasses.replace(planned, folds=None) if planned.folds == name else planned
        for weight, planned in plan.weights.items()
    }
    return dataclasses.replace(plan, activations={**plan.activations, name: spec}, weights=weights)
