"""A teacher that is any ONNX model: ONNX Runtime runs it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from qtool.config.training import Distill
from qtool.config.training import Teacher as TeacherSection
from qtool.errors import ConfigError, ModelError
from qtool.graph.copy_outputs import with_outputs
from qtool.graph.model_file import read_model
from qtool.runtime.sessions import Session
from qtool.training.fit import Inputs
from qtool.training.qat import Teacher


def onnx_teacher(section: TeacherSection, distill: Distill, threads: int) -> Teacher:
    """Returns the teacher of a config.

    Args:
        section: which model.
        distill: its features are made outputs of the teacher.
        threads: of its session.

    Raises:
        ConfigError: it has no output or no inner value of a given name.
        ModelError: the file is no model, or the runtime cannot load it.
    """
    where = f"the teacher {section.onnx}"
    model = read_model(section.onnx)
    features = list(distill.features.values())
    known = {str(value.name) for node in model.graph for value in node.outputs}
    for name in features:
        if name not in known:
            raise ConfigError(
                "distill.features", f"{where} has no value {name!r}", "one that it has"
            )
    session = Session(with_outputs(model, features), where, threads=threads)
    outputs = session.output_names[: len(model.graph.outputs)]
    if section.output_name is not None:
        if section.output_name not in outputs:
            found = f"{where} has no output {section.output_name!r}"
            raise ConfigError("distill.teacher.output_name", found, f"one of {', '.join(outputs)}")
        outputs = [section.output_name]

    def forward(inputs: Inputs, names: Sequence[str]) -> dict[str, Tensor]:
        missing = [name for name in session.input_names if name not in inputs]
        if missing:
            raise ModelError(
                where,
                f"takes {', '.join(missing)}, which the data does not give",
                f"only inputs of the model: {', '.join(inputs)}",
            )
        device = next(iter(inputs.values())).device
        given = {name: inputs[name].detach().cpu().numpy() for name in session.input_names}
        found = session.run(given, [*outputs, *names])
        for name, array in found.items():
            _check_numbers(where, name, array)
        return {name: torch.from_numpy(array).float().to(device) for name, array in found.items()}

    return Teacher(forward, section.output, outputs)


def _check_numbers(where: str, name: str, array: object) -> None:
    """Tree ensembles also return labels, and probabilities as maps."""
    if isinstance(array, np.ndarray) and array.dtype.kind == "f":
        return
    kind = array.dtype if isinstance(array, np.ndarray) else f"a {type(array).__name__}"
    raise ConfigError(
        "distill.teacher",
        f"{name!r} of {where} holds {kind}",
        "a float tensor: logits, probabilities or numbers",
        "Name another output in output_name; probabilities as maps need an export without ZipMap.",
    )
