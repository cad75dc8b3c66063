"""The pictures of a report, in reading order, each with the words that stand for it."""

from __future__ import annotations

from dataclasses import dataclass

from qtool.evaluation.results import Evaluation, Scores
from qtool.report import model_pictures, score_pictures
from qtool.report.summary import facts, training_text
from qtool.report.text import number
from qtool.report.training_picture import training


@dataclass(frozen=True)
class Picture:
    """An SVG element, its title, and a sentence that says what is to be seen.

    ``wide`` pictures need the full width of the page.
    """

    title: str
    text: str
    svg: str
    wide: bool = False


def make_pictures(evaluation: Evaluation, scores: Scores) -> tuple[Picture, ...]:
    """Returns every picture whose data were measured.

    Args:
        evaluation: the result.
        scores: the rows that it was made from, both classes present.
    """
    decisions = evaluation.decisions
    changed, metric, _, size = facts(evaluation)
    pictures = [
        Picture(
            "Ranking",
            f"ROC curves of FP32 and INT8 lie on each other where ranking is unchanged. "
            f"{metric.label}: {metric.value} ({metric.detail}).",
            score_pictures.roc(scores),
            wide=True,
        ),
        Picture(
            "Score agreement",
            f"Stronger squares hold more rows; dashed: the threshold. Rows in the named corners "
            f"changed decision. Largest score change: {number(decisions.largest_score_change)}.",
            score_pictures.agreement(scores, decisions),
        ),
        Picture(
            "Near the threshold",
            f"{changed.label}: {changed.value} {changed.detail}. "
            f"Threshold {number(decisions.threshold)}.",
            score_pictures.flips(scores, decisions),
        ),
    ]
    if evaluation.latency:
        pictures.append(
            Picture(
                "Latency",
                "Box: 25 to 75 % of calls, dark mark: median, line: 5 to 95 %, dot: 99 %. "
                "Right: speed-up of INT8 with its 95 % interval.",
                model_pictures.latency(evaluation),
                wide=True,
            )
        )
    pictures.append(
        Picture("Size", f"INT8 is {size.value} {size.detail}.", model_pictures.size(evaluation))
    )
    if evaluation.coverage:
        text = "Nodes of the prepared graph by operator and treatment."
        pictures.append(Picture("Coverage", text, model_pictures.coverage(evaluation)))
    if evaluation.training is not None:
        text = f"{training_text(evaluation.training)} Epoch 0 is the model before training."
        pictures.append(Picture("Training", text, training(evaluation.training), wide=True))
    return tuple(pictures)
