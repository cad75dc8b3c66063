"""Every layer, and every unit, treated alone: its plan, its numbers, and the errors it causes."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property

import numpy as np
import onnx_ir as ir

from qtool.calibration.calibrate import Statistics, observe
from qtool.calibration.settled import Settled, settle
from qtool.errors import ModelError
from qtool.graph.parameters import Parameters, derive
from qtool.graph.plan import Plan
from qtool.graph.writing.writer import write
from qtool.numerics.affine import Array
from qtool.numerics.tensor_statistics import joined
from qtool.progress import Progress
from qtool.runtime.sessions import Arrays, Session
from qtool.search.analysis import Choice
from qtool.search.output_errors import Prediction, Reference, predict
from qtool.search.regions import Region
from qtool.search.treatments import FLOAT, Treatments, choices_of, union
from qtool.torchgraph.sensitivity import differentiable, projected_gradients
from qtool.tuning.tuned import Inputs

MOST_MEASURED = 64
"""Models that are built to measure errors."""
ORDER: tuple[Choice, ...] = (
    ("static", 8),
    ("dynamic", 8),
    ("weight_only", 8),
    ("weight_only", 4),
    ("storage", 8),
)
"""Which treatments are measured first, where there are more."""
Errors = dict[tuple[str, str, int], float]
"""(layer, treatment, bits) → error."""


class Alone:
    """The layers of one graph, each treated alone on the same rows.

    Attributes:
        reference: FP32 on the rows.
        notes: what could not be found out, and why.
    """

    def __init__(
        self,
        model: ir.Model,
        batches: Sequence[Inputs],
        treatments: Treatments,
        masks: Mapping[str, str],
        progress: Progress,
    ) -> None:
        """Runs FP32.

        Raises:
            ModelError: no output depends on the rows.
        """
        self.model, self.treatments, self.masks = model, treatments, masks
        self.progress = progress
        self.reference = Reference.of(model, batches)
        self.notes: list[str] = []

    @cached_property
    def _layers(self) -> dict[tuple[str, Choice], Plan]:
        """The plan of every layer treated alone."""
        return {
            (name, choice): self.treatments.plan({name: choice})
            for name, layer in self.treatments.layers.items()
            for choice in choices_of(layer)
            if choice != FLOAT
        }

    @cached_property
    def _units(self) -> dict[tuple[int, Choice], Plan]:
        """The plan of every unit of several layers treated alone."""
        found = {}
        for unit in dict.fromkeys(self.treatments.units.values()):
            names = self.treatments.members(unit)
            for choice in choices_of(self.treatments.layers[names[0]]):
                if len(names) > 1 and choice != FLOAT:
                    found[unit, choice] = self.treatments.plan(dict.fromkeys(names, choice))
        return found

    @cached_property
    def statistics(self) -> Statistics:
        """Of every activation that any plan quantizes, from one pass."""
        plans = (self.treatments.everything, *self._layers.values(), *self._units.values())
        plan, batches = union(plans), self.reference.batches
        rows = self.reference.rows
        return observe(self.model, plan, batches, rows, self.progress, masks=self.masks)

    @cached_property
    def static(self) -> tuple[Plan, Parameters]:
        """The plan in which every layer is static that can be, and its numbers.

        Weights have all their bits, also where the target's kernels would saturate.
        """
        whole = self.treatments.everything
        settled = self._settled(whole)
        weights = {
            name: dataclasses.replace(weight, spec=whole.weights[name].spec, narrow=())
            for name, weight in settled.plan.weights.items()
        }
        plan = dataclasses.replace(settled.plan, weights=weights)
        return plan, derive(self.model, plan, settled.ranges)

    @cached_property
    def _numbers(self) -> dict[tuple[str, Choice], tuple[Plan, Parameters]]:
        """The settled plan and the numbers of every layer treated alone."""
        return {case: self.numbers(plan) for case, plan in self._layers.items()}

    def numbers(self, plan: Plan) -> tuple[Plan, Parameters]:
        """Returns a plan of ``treatments`` as calibration settles it, and its numbers."""
        settled = self._settled(plan)
        return settled.plan, derive(self.model, settled.plan, settled.ranges)

    def _settled(self, plan: Plan) -> Settled:
        seen = {}
        for name in plan.calibrated:
            found = self.statistics[name]
            one_range = plan.activations[name].axis is None
            seen[name] = joined(found) if one_range and len(found.histogram.low) > 1 else found
        rows = self.reference.batches[0]
        return settle(self.model, plan, seen, self.treatments.section, rows)

    def predicted(self, seed: int) -> Errors:
        """Returns the predicted error of every treatment of every layer, where there is a gradient.

        Args:
            seed: of the random projections.
        """
        try:
            graph = differentiable(self.model, _runner)
        except ModelError as error:
            self.notes.append(f"No error is predicted: {error}")
            return {}
        generator = np.random.default_rng(seed)

        def gradients(
            inputs: Inputs, values: Sequence[str], weights: Mapping[str, float]
        ) -> dict[str, Array]:
            return projected_gradients(graph, inputs, values, weights, generator)

        predictions = {
            (name, *choice): Prediction(
                Region(self.model, self.treatments.layers[name], plan, numbers)
            )
            for (name, choice), (plan, numbers) in self._numbers.items()
        }
        with self.progress.task("predict errors", self.reference.rows) as task:
            predict(self.reference, predictions.values(), gradients, task)
        return {key: found.error for key, found in predictions.items()}

    def measured(self, predicted: Errors) -> Errors:
        """Returns the measured errors, of at most ``MOST_MEASURED`` models.

        Args:
            predicted: in what order, and how the error of a unit is divided among its layers.
        """
        several = {
            (tuple(self.treatments.members(unit)), choice): plan
            for (unit, choice), plan in self._units.items()
        }
        joined_names = {name for names, _ in several for name in names}
        cases = [*several]
        cases += [((n,), choice) for n, choice in self._layers if n not in joined_names]

        def total(case: tuple[tuple[str, ...], Choice]) -> float:
            names, choice = case
            found = [predicted.get((name, *choice), math.nan) for name in names]
            return sum(0.0 if math.isnan(each) else each for each in found)

        order = sorted(cases, key=lambda case: (ORDER.index(case[1]), -total(case)))
        found: Errors = {}
        with self.progress.task("measure errors", min(len(order), MOST_MEASURED)) as task:
            for names, choice in order[:MOST_MEASURED]:
                if len(names) > 1:
                    plan, numbers = self.numbers(several[names, choice])
                else:
                    plan, numbers = self._numbers[names[0], choice]
                int8 = write(self.model, plan, numbers, {})
                error = self.reference.measured(int8, f"{names[0]} alone {choice[0]}")
                whole = total((names, choice))
                for name in names:
                    part = predicted.get((name, *choice), math.nan)
                    share = part / whole if whole > 0 and part >= 0 else 1 / len(names)
                    found[(name, *choice)] = error * share
                task.advance()
        if len(order) > MOST_MEASURED:
            self.notes.append(
                f"Of {len(order)} treatments {MOST_MEASURED} were measured, static ones first; of "
                "the others errors are predicted."
            )
        return found


def _runner(model: ir.Model, where: str) -> Callable[[Arrays], Arrays]:
    return Session(model, where).run
