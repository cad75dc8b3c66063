"""The shapes that a model's inner values have on real rows."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import onnx_ir as ir
from numpy.typing import NDArray

from qtool.graph.copy_outputs import with_outputs
from qtool.runtime.sessions import Session


def shapes_of(
    model: ir.Model, names: Collection[str], inputs: Mapping[str, NDArray[Any]]
) -> dict[str, tuple[int, ...]]:
    """Returns the shapes of the values ``names`` for one batch.

    Raises:
        ModelError: the model cannot run on it.
    """
    session = Session(with_outputs(model, names), "the FP32 model")
    values = {**inputs, **session.run(inputs)}
    return {name: tuple(values[name].shape) for name in names}
