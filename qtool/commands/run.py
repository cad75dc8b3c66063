"""``qtool run``: the whole chain of one config."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from qtool.commands.context import Context
from qtool.commands.evaluate import evaluate
from qtool.commands.export import export
from qtool.evaluation.results import Evaluation


@dataclass(frozen=True)
class Result:
    """Folder and result of the evaluation, and the bundle if the gates passed."""

    evaluated: Path
    evaluation: Evaluation
    bundle: Path | None


def run(context: Context) -> Result:
    """Brings every stage of the config up to date; a model that fails its gates is not bundled."""
    evaluated, evaluation = evaluate(context)
    bundle = export(context) if evaluation.passed else None
    return Result(evaluated, evaluation, bundle)
