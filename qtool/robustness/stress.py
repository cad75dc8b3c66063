"""What happens to rows without an enemy: noise on their numbers, values that go missing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qtool.data.encoding import Encoder, Encoding
from qtool.data.signature import Arrays
from qtool.data.tabular import CategoricalEncoding, NumericEncoding
from qtool.errors import ConfigError

WHERE = "evaluation.robustness"


def spreads(encoder: Encoder, reference: Mapping[str, NDArray[Any]]) -> Arrays:
    """Returns the standard deviations of the columns of the numeric inputs, float64 (k,) each.

    Args:
        encoder: of the model.
        reference: encoded inputs of the calibration split.

    Raises:
        ConfigError: the model has no numeric input.
    """
    numeric = [n for n, part in encoder.inputs.items() if isinstance(part, NumericEncoding)]
    if not numeric:
        raise ConfigError(f"{WHERE}.noise", "the model has no numeric input", "one")
    return {name: reference[name].std(axis=0, dtype=np.float64) for name in numeric}


def noisy(
    inputs: Arrays,
    encoder: Encoder,
    spread: Arrays,
    level: float,
    random: np.random.Generator,
) -> Arrays:
    """Returns ``inputs`` with Gaussian noise on every column of the numeric inputs.

    Args:
        inputs: encoded.
        encoder: of the model.
        spread: of the columns; see ``spreads``.
        level: standard deviation of the noise, as a share of the spread.
        random: draws it.
    """
    changed = dict(inputs)
    for name, deviations in spread.items():
        x = inputs[name] + level * deviations * random.standard_normal(inputs[name].shape)
        part = encoder.inputs[name]
        assert isinstance(part, NumericEncoding)
        # The encoder never gives more than its clip.
        limit = np.inf if part.clip is None else part.clip
        changed[name] = np.clip(x, -limit, limit).astype(np.float32)
    return changed


def without_missing(encoder: Encoder) -> tuple[str, ...]:
    """Returns the columns that always have a value: the encoder refuses a row without it.

    Sequences and tensors count too, since parts of a list do not go missing one by one.

    Raises:
        ConfigError: those are all columns.
    """
    parts = encoder.inputs.values()
    kept = [column for part in parts if _absent(part) is None for column in part.columns]
    if all(_absent(part) is None for part in parts):
        found = "every input needs all of its values"
        action = "Set missing: mean or zero on an input, or remove this."
        raise ConfigError(f"{WHERE}.missing", found, "columns that may be missing", action)
    return tuple(dict.fromkeys(kept))


def with_missing(
    inputs: Arrays, encoder: Encoder, share: float, random: np.random.Generator
) -> Arrays:
    """Returns ``inputs`` as if a share of the raw values were missing, where they may be.

    Missing is what the encoder makes of it: the fill of a numeric column, class 0 of a categorical
    one.

    Args:
        inputs: encoded.
        encoder: of the model.
        share: of the values of every column.
        random: draws which.
    """
    changed = dict(inputs)
    for name, part in encoder.inputs.items():
        absent = _absent(part)
        if absent is not None:
            # A raw value may hold several numbers, which go missing together.
            widths = part.widths if isinstance(part, NumericEncoding) else (1,) * len(part.columns)
            lost = random.random((len(inputs[name]), len(widths))) < share
            lost = np.repeat(lost, widths, axis=1)
            changed[name] = np.where(lost, absent, inputs[name]).astype(inputs[name].dtype)
    return changed


def _absent(part: Encoding) -> NDArray[Any] | None:
    """Returns the encoding of missing values of all columns, (1, k); None where it has none."""
    if isinstance(part, NumericEncoding) and part.fill is not None:
        return part.apply(np.full((1, len(part.offset)), np.nan, np.float32))
    if isinstance(part, CategoricalEncoding) and part.vocabularies is not None:
        return np.zeros((1, len(part.columns)), part.dtype)
    return None
