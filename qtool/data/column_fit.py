"""How the calibration sample fits the splits: the figures of one column, and of all."""

from __future__ import annotations

from dataclasses import dataclass

from qtool.data.observed import Kind

PSI_LIMIT = 0.25
"""Source: Siddiqi 2006, "Credit Risk Scorecards": above 0.25 the population has shifted."""
OUTSIDE_LIMIT = 0.01
UNSEEN_CLASS_LIMIT = 0.001


@dataclass(frozen=True)
class ColumnFit:
    """One column of the calibration sample against the splits.

    Attributes:
        input: model input.
        column: its column; ``length`` for the steps of a sequence.
        kind: numeric, classes (codes and other integers) or length.
        psi_training: population stability index against the training split; None without values.
        psi_evaluation: against the evaluation split, over the same bins.
        psi_chance: what chance alone exceeds once in a hundred samples of this size.
        low: smallest encoded value of the sample; None for classes.
        high: largest.
        outside_evaluation: share of evaluation values below low or above high.
        constant: whether the sample has one value only.
        constant_training: whether the training split has one value only.
        missing_training: share of values that were missing (or unseen) before encoding.
        missing_evaluation: the same of the evaluation split.
        classes: different classes of all splits; None for numbers.
        unseen_classes: those of them that the sample has not.
        unseen_evaluation: share of evaluation values of these classes.
        examples: the most frequent of them.
    """

    input: str
    column: str
    kind: Kind
    psi_training: float | None
    psi_evaluation: float | None
    psi_chance: float
    low: float | None
    high: float | None
    outside_evaluation: float
    constant: bool
    constant_training: bool
    missing_training: float
    missing_evaluation: float
    classes: int | None
    unseen_classes: int
    unseen_evaluation: float
    examples: tuple[str, ...]

    @property
    def warnings(self) -> tuple[str, ...]:
        """What matters, in words."""
        found = []
        limit = max(PSI_LIMIT, self.psi_chance)
        for split, index in (
            ("training", self.psi_training),
            ("evaluation", self.psi_evaluation),
        ):
            if index is not None and index > limit:
                found.append(f"distribution differs from {split}, PSI {index:.2f}")
        if self.outside_evaluation > OUTSIDE_LIMIT:
            found.append(f"{self.outside_evaluation:.1%} of evaluation beyond the sample's range")
        if self.unseen_evaluation > UNSEEN_CLASS_LIMIT:
            found.append(
                f"unseen classes: {self.unseen_classes}, {self.unseen_evaluation:.1%} of evaluation"
            )
        if self.constant:
            found.append(f"constant{' in training too' if self.constant_training else ''}")
        return tuple(found)


@dataclass(frozen=True)
class Representativeness:
    """The calibration sample against training and evaluation, worst columns first."""

    rows: dict[str, int]
    columns: tuple[ColumnFit, ...]
