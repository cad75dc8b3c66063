"""What every layer takes under every treatment: measured on this CPU, or by the cost table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from qtool.graph.costs import Workload, measured_values, table_us
from qtool.graph.layers import Layer, stays_packed
from qtool.graph.writing.writer import write
from qtool.progress import Progress
from qtool.runtime.profile import Profile, profile
from qtool.runtime.shapes import shapes_of
from qtool.search.alone import Alone
from qtool.search.analysis import Choice
from qtool.search.layer_times import layer_us
from qtool.search.treatments import FLOAT, Treatments, choices_of
from qtool.tuning.tuned import Inputs

WHOLE: tuple[Choice, ...] = (("static", 8), ("dynamic", 8), ("weight_only", 8), ("weight_only", 4))
"""Treatments that all layers which can have them get in one model, for their times."""
AMISS, AMISS_US = 0.15, 2.0
"""Share of a call by which its kernels may miss it; below these microseconds it does not count."""
ByBatch = Mapping[int, float]
"""Batch size → microseconds per call."""


@dataclass(frozen=True)
class Times:
    """Times of all layers.

    Attributes:
        fp32_us: of the whole FP32 model; by the cost table that of its layers only.
        measured: (layer, treatment) → times on this CPU.
        table: (layer, treatment) → times by the cost table.
        notes: what to beware of.
    """

    fp32_us: ByBatch
    measured: Mapping[tuple[str, Choice], ByBatch]
    table: Mapping[tuple[str, Choice], ByBatch]
    notes: tuple[str, ...]

    def of(self, name: str, choice: Choice) -> tuple[ByBatch, bool]:
        """Returns the time of a layer under a treatment, and whether it was measured.

        Measured are those that are measured in float, too: times of both kinds do not compare.
        """
        key, known = (name, choice), self.measured
        if key in known and (name, FLOAT) in known:
            return known[key], True
        return self.table[key], False


def measured_times(
    treatments: Treatments,
    alone: Alone,
    rows: Inputs,
    batch_sizes: Sequence[int],
    threads: int,
    progress: Progress,
) -> Times:
    """Returns times from the runtime's profile of FP32 and of one model per treatment.

    Args:
        treatments: the plans.
        alone: their numbers.
        rows: real inputs; repeated where a batch has more rows.
        batch_sizes: rows per call.
        threads: of a session.
        progress: where it is shown.

    Raises:
        ModelError: the runtime refuses a model.
    """
    layers = treatments.layers
    batches = {
        size: {name: np.resize(array, (size, *array.shape[1:])) for name, array in rows.items()}
        for size in batch_sizes
    }
    found: dict[tuple[str, Choice], ByBatch] = {}
    notes: list[str] = []
    with progress.task("measure times", len(WHOLE) + 1) as task:

        def times_in(model: ir.Model, where: str) -> dict[int, Profile]:
            profiles = profile(model, where, batches, threads)
            off = [
                size
                for size, one in profiles.items()
                if one.amiss_us > max(AMISS * one.call_us, AMISS_US)
            ]
            if off:
                sizes = ", ".join(map(str, off))
                notes.append(
                    f"{where}: the kernels' times miss those of whole calls by more than "
                    f"{AMISS:.0%} at batch {sizes}; the machine was too busy."
                )
            return profiles

        fp32 = times_in(treatments.model, "FP32")
        behind, every = treatments.behind, list(layers.values())
        floats = layer_us(treatments.model, every, behind, fp32)
        task.advance()
        for choice in WHOLE:
            treated = treatments.all(*choice)
            if any(given == choice for given in treated.values()):
                int8 = write(treatments.model, *alone.numbers(treatments.plan(treated)), {})
                profiles = times_in(int8, f"all {choice[0]}, {choice[1]} bits")
                for name, us in layer_us(int8, every, behind, profiles).items():
                    if name in treated:
                        found.setdefault((name, treated[name]), us)
            task.advance()
    for name, layer in layers.items():
        if name in floats:
            found[name, FLOAT] = floats[name]
            # What is unpacked when the model is loaded runs as FP32.
            if ("storage", 8) in choices_of(layer) and not stays_packed(layer):
                found[name, ("storage", 8)] = floats[name]
    fp32_us = {size: one.call_us for size, one in fp32.items()}
    table = _table(treatments, rows, batch_sizes)
    return Times(fp32_us, found, table, tuple(notes))


def table_times(treatments: Treatments, rows: Inputs, batch_sizes: Sequence[int]) -> Times:
    """Returns times by the cost table of the target.

    Args:
        treatments: the layers and the target.
        rows: real inputs, whose shapes count.
        batch_sizes: rows per call.
    """
    table = _table(treatments, rows, batch_sizes)
    fp32_us = {
        size: sum(table[name, FLOAT][size] for name in treatments.layers) for size in batch_sizes
    }
    target = treatments.target.name
    note = f"Times are of the cost table for {target}, of layers alone: this CPU is another."
    return Times(fp32_us, {}, table, (note,))


def _table(
    treatments: Treatments, rows: Inputs, batch_sizes: Sequence[int]
) -> dict[tuple[str, Choice], ByBatch]:
    model, count = treatments.model, len(next(iter(rows.values())))
    shapes = shapes_of(model, measured_values(model), rows)
    workload = Workload(tuple(batch_sizes), shapes, count)

    def times(layer: Layer, choice: Choice) -> ByBatch:
        return {
            size: table_us(layer, *choice, treatments.target, workload, size)
            for size in batch_sizes
        }

    return {
        (name, choice): times(layer, choice)
        for name, layer in treatments.layers.items()
        for choice in choices_of(layer)
    }
