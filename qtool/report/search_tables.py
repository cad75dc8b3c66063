"""The search, the tunings, and the models that came before INT8, as tables."""

from __future__ import annotations

import math

from qtool.evaluation.results import Evaluation
from qtool.report.tables import Table
from qtool.report.text import ABSENT, count, file_size, number, share, times


def search_table(evaluation: Evaluation, most: int | None = None) -> Table:
    """Returns the models that a search tried: those measured first, then in their order."""
    search = evaluation.search
    header = ("Model", "Gates", "Error", "Speed", "Predicted", "Size")
    if search is None:
        return Table("Search", header, "llrrrr", ())
    ordered = sorted(
        search.trials,
        key=lambda trial: (not trial.chosen, not math.isfinite(trial.speedup)),
    )
    return Table(
        "Search",
        header,
        "llrrrr",
        tuple(
            (
                f"{trial.origin} (the answer)" if trial.chosen else trial.origin,
                "pass" if trial.passes else "do not pass",
                number(trial.error),
                times(trial.speedup) if math.isfinite(trial.speedup) else ABSENT,
                times(trial.predicted) if math.isfinite(trial.predicted) else ABSENT,
                share(trial.size_ratio),
            )
            for trial in ordered[:most]
        ),
    )


def tuning_table(evaluation: Evaluation, most: int | None = None) -> Table:
    """Returns what tunings did to each layer, those first that one changed."""
    ordered = sorted(evaluation.tuning, key=lambda one: bool(one.reason))
    return Table(
        "Tuning",
        ("Method", "Layer", "What it makes smaller", "Before", "After", "Left as it was"),
        "lllrrl",
        tuple(
            (
                one.method,
                one.layer,
                one.criterion,
                *(
                    number(value) if math.isfinite(value) else ABSENT
                    for value in (one.before, one.after)
                ),
                one.reason,
            )
            for one in ordered[:most]
        ),
    )


def ancestors_table(evaluation: Evaluation) -> Table:
    """Returns how good and how large the models on the way to INT8 are."""
    titles = [metric.title for metric in evaluation.metrics]
    return Table(
        "From teacher to INT8" if _has_teacher(evaluation) else "From FP32 to INT8",
        ("Model", *titles, "Size"),
        "l" + "r" * (len(titles) + 1),
        tuple(
            (
                one.title,
                *(number(one.metrics[metric.name]) for metric in evaluation.metrics),
                file_size(one.size_bytes),
            )
            for one in evaluation.ancestors
        ),
    )


def pruning_table(evaluation: Evaluation) -> Table:
    """Returns how wide each layer was, and why it is as wide as it was."""
    return Table(
        "Pruning",
        ("Layer", "Units before", "Units after", "Together with", "Left as it was"),
        "lrrll",
        tuple(
            (one.layer, count(one.before), count(one.after), ", ".join(one.coupled), one.reason)
            for one in evaluation.pruning
        ),
    )


def _has_teacher(evaluation: Evaluation) -> bool:
    return any(one.title == "teacher" for one in evaluation.ancestors)
