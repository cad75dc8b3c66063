"""The picture of a training: losses and metric after every epoch, and the epoch that was kept."""

from __future__ import annotations

import math
from collections.abc import Sequence

from matplotlib.axes import Axes

from qtool.history import History
from qtool.report.svg import COLORS, WIDE, figure, legend, style, to_svg
from qtool.report.text import TRAINING_TITLES

DOTTED_EPOCHS = 40  # more dots would run into each other


def training(history: History) -> str:
    """Returns the losses and, where there is one, the metric over the epochs.

    The trained model has the colour of INT8: its values are those of the fake-quantized model.
    """
    records, kept = history.epochs, history.best
    metrics = [record.validation_metric for record in records]
    drawn = figure(WIDE, 3.2)
    pictures = 1 if all(value is None for value in metrics) else 2
    losses, *beside = drawn.subplots(1, pictures, squeeze=False)[0]
    _curve(losses, history, [record.train_loss for record in records], "float", "Training")
    _curve(losses, history, [r.validation_loss for r in records], "int8", "Validation")
    _level(losses, history.fp32_loss)
    _kept(losses, kept.epoch, kept.validation_loss)
    style(losses, "Epoch", "Loss")
    legend(losses)
    for axes in beside:
        _curve(axes, history, metrics, "int8", "Validation")
        _level(axes, history.fp32_metric)
        _kept(axes, kept.epoch, kept.validation_metric)
        style(axes, "Epoch", TRAINING_TITLES[str(history.metric)])
    return to_svg(drawn, "training")


def _curve(
    axes: Axes, history: History, values: Sequence[float | None], color: str, label: str
) -> None:
    epochs = [record.epoch for record in history.epochs]
    dots = "o" if len(epochs) <= DOTTED_EPOCHS else ""
    heights = [math.nan if value is None else value for value in values]
    axes.plot(epochs, heights, marker=dots, ms=3.5, lw=1.6, color=COLORS[color], label=label)
    axes.ticklabel_format(axis="y", useOffset=False)
    axes.locator_params(axis="x", integer=True, nbins=10)


def _level(axes: Axes, value: float | None) -> None:
    if value is not None:
        axes.axhline(value, color=COLORS["fp32"], lw=1.4, dashes=(4, 2), label="FP32")


def _kept(axes: Axes, epoch: int, value: float | None) -> None:
    color = COLORS["ink"]
    axes.axvline(epoch, color=color, lw=0.8, dashes=(2, 2))
    if value is not None:
        axes.plot(epoch, value, "o", ms=8, mfc="none", mec=color, mew=1.4, label="Kept")
