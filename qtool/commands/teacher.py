"""A teacher that is any ONNX model: ONNX Runtime runs it.

With the inputs of the model it runs in every step of the training. With inputs of its own, which
only the source of the rows can give, it runs once over them before: ``scored_batches``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from qtool.commands.context import Context
from qtool.commands.prepare import dataset
from qtool.config.data import Input
from qtool.config.training import Distill, Distillation, DistillStudent
from qtool.config.training import Teacher as TeacherSection
from qtool.data.batch import Batch
from qtool.data.dataset import Dataset
from qtool.data.files import fingerprint_files
from qtool.data.fitting import fit
from qtool.data.split import SplitName
from qtool.errors import ConfigError, ModelError
from qtool.graph.copy_outputs import with_outputs
from qtool.graph.model_file import TensorInfo, inputs_of, read_runnable
from qtool.runs import sha256_of
from qtool.runtime.sessions import Arrays, Session
from qtool.training.distillation import (
    Teacher,
    stored_name,
    stored_teacher,
    stored_values,
)
from qtool.training.fit import Inputs, Work

SUM_TOLERANCE = 1e-4
"""How far from 1 the sum of values in [0, 1] may be that are taken for probabilities."""
ROWS = 1024
"""Rows that a teacher with inputs of its own is asked about at a time."""


def teacher_section(distill: Distillation | None) -> TeacherSection | None:
    """Returns the ONNX teacher of a section; None where there is none."""
    return distill.teacher if isinstance(distill, Distill | DistillStudent) else None


def teacher_content(distill: Distillation | None) -> dict[str, str] | None:
    """Returns the digests of the files of a teacher; None where there is none."""
    section = teacher_section(distill)
    if section is None:
        return None
    encoder = section.encoder
    found = {} if encoder is None else {"encoder": fingerprint_files([encoder])}
    # A file that is missing is named by what reads it.
    return {"onnx": sha256_of(section.onnx), **found} if section.onnx.is_file() else found


def teacher_of(distill: Distillation | None, work: Work) -> Teacher | None:
    """Returns the ONNX teacher of a section, None where there is none.

    Args:
        distill: the section.
        work: its rows hold what a teacher with inputs of its own says; its threads run another one.

    Raises:
        ConfigError: it has no output or no inner value of a given name.
        ModelError: the file is no model, or the runtime cannot load it.
    """
    section = teacher_section(distill)
    if section is None:
        return None
    features = _features(distill)
    if section.inputs:
        return stored_teacher(stored_values(work.rows.inputs), section.output, features)
    model = open_teacher(section, features, work.place.threads)

    def forward(inputs: Inputs, names: Sequence[str]) -> dict[str, Tensor]:
        device = next(iter(inputs.values())).device
        given = {name: tensor.detach().cpu().numpy() for name, tensor in inputs.items()}
        found = model.run(given, [*model.outputs, *names])
        return {name: torch.from_numpy(array).to(device) for name, array in found.items()}

    return Teacher(forward, section.output, model.outputs)


@dataclass(frozen=True)
class OnnxTeacher:
    """A teacher at work.

    Attributes:
        section: which model.
        where: the model, for messages.
        session: runs it.
        infos: its inputs.
        outputs: names of those that are learned from.
    """

    section: TeacherSection
    where: str
    session: Session
    infos: Mapping[str, TensorInfo]
    outputs: list[str]

    def run(self, inputs: Mapping[str, NDArray[Any]], names: Sequence[str]) -> Arrays:
        """Returns outputs and inner values as float32.

        Raises:
            ConfigError: an output holds no numbers, or is not what the section says.
            ModelError: an input is missing, the runtime fails, or a number is not finite.
        """
        missing = [name for name in self.session.input_names if name not in inputs]
        if missing:
            raise ModelError(
                self.where,
                f"takes {', '.join(missing)}, which the data does not give",
                f"only inputs of the model: {', '.join(inputs)}",
                "Say in teacher.inputs which columns form its inputs.",
            )
        found = self.session.run(inputs, names)
        for name, array in found.items():
            self._check(name, array)
        return {name: array.astype(np.float32, copy=False) for name, array in found.items()}

    def _check(self, name: str, array: object) -> None:
        """Tree ensembles also return labels, and a logit of the one class is infinite."""
        if not isinstance(array, np.ndarray) or array.dtype.kind != "f":
            kind = array.dtype if isinstance(array, np.ndarray) else f"a {type(array).__name__}"
            raise ConfigError(
                "distill.teacher",
                f"{name!r} of {self.where} holds {kind}",
                "a float tensor: logits, probabilities or numbers",
                f"Name another output in output_name: {', '.join(self.session.output_names)}.",
            )
        if not np.isfinite(array).all():
            raise ModelError(
                self.where,
                f"{name!r} holds {array[~np.isfinite(array)][0]}",
                "finite numbers",
                "Check teacher.inputs, or learn from its probabilities.",
            )
        if name != self.outputs[0]:
            return
        low, high = float(array.min(initial=0)), float(array.max(initial=0))
        if self.section.output == "probability" and (low < 0 or high > 1 + SUM_TOLERANCE):
            raise ConfigError(
                "distill.teacher.output",
                f"probability, and {name!r} of {self.where} goes from {low:.4g} to {high:.4g}",
                "values in [0, 1]",
                "Set output: logit.",
            )
        if self.section.output == "logit" and _are_probabilities(array):
            raise ConfigError(
                "distill.teacher.output",
                f"logit, and {name!r} of {self.where} holds values in [0, 1] whose sum is 1",
                "logits",
                "Set output: probability.",
            )


def open_teacher(section: TeacherSection, features: Sequence[str], threads: int) -> OnnxTeacher:
    """Opens the model of a section.

    Args:
        section: which model.
        features: inner values that are made outputs.
        threads: of its session.

    Raises:
        ConfigError: it has no output or no inner value of a given name.
        ModelError: the file is no model, or the runtime cannot load it.
    """
    where = f"the teacher {section.onnx}"
    model = read_runnable(section.onnx)
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
    infos = {info.name: info for info in inputs_of(model)}
    return OnnxTeacher(section, where, session, infos, outputs)


def scored_batches(
    context: Context, distill: Distillation | None
) -> Callable[[SplitName], Iterator[Batch] | None]:
    """Returns what yields the rows of a split with what the teacher says of them.

    None is yielded for a teacher that needs no inputs of its own.

    Raises:
        ConfigError: an output of the teacher cannot be learned from.
        DataError: a column of its inputs is missing, or a value cannot be used.
        ModelError: its inputs are not those of the section.
    """
    section = teacher_section(distill)
    if section is None or not section.inputs:
        return lambda split: None
    scorer = RowScorer(context, section, _features(distill))

    def scored(split: SplitName) -> Iterator[Batch]:
        batches = dataset(context).batches(split, ROWS)
        for batch, (_, found) in zip(batches, scorer.scores(split), strict=True):
            stored = {stored_name(name): array for name, array in found.items()}
            yield Batch(batch.rows, batch.labels, {**batch.inputs, **stored})

    return scored


def encoded_for(context: Context, section: TeacherSection) -> Dataset:
    """Returns the rows in the encoding of a teacher; without inputs of its own in the model's.

    Raises:
        DataError: a column is missing, or a value cannot be used.
    """
    if not section.inputs:
        return dataset(context)
    changed = {"inputs": _named_parts(section), "encoder": section.encoder}
    data, task = context.experiment.data.model_copy(update=changed), context.experiment.task
    fitted = fit(context.source, data, context.progress, task)
    return Dataset(context.source, data, fitted, task)


class RowScorer:
    """A teacher, and the rows in its encoding: that of its inputs, or without any the model's."""

    def __init__(
        self, context: Context, section: TeacherSection, features: Sequence[str] = ()
    ) -> None:
        """Opens the teacher and learns its encoding on the training split.

        Raises:
            ConfigError: it has no output of the given name.
            DataError: a column is missing, or a value cannot be used.
            ModelError: it takes other inputs.
        """
        self.teacher = open_teacher(section, features, threads=1)
        self._names = [*self.teacher.outputs, *features]
        self._data = encoded_for(context, section)
        self._check_inputs()

    def scores(self, split: SplitName) -> Iterator[tuple[Batch, Arrays]]:
        """Yields the rows of a split and what the teacher says of them, ``ROWS`` at a time."""
        for batch in self._data.batches(split, ROWS):
            yield batch, self.teacher.run(self._inputs(batch.inputs), self._names)

    def _inputs(self, encoded: Mapping[str, NDArray[Any]]) -> Arrays:
        found: Arrays = {}
        for name, parts in self.teacher.section.inputs.items():
            arrays = [encoded[part] for part in _part_names(name, parts)]
            joined = np.concatenate(arrays, axis=-1) if len(arrays) > 1 else arrays[0]
            found[name] = joined.astype(self.teacher.infos[name].dtype, copy=False)
        masks = {name: array for name, array in encoded.items() if name in self.teacher.infos}
        return {**masks, **found}

    def _check_inputs(self) -> None:
        where, infos = self.teacher.where, self.teacher.infos
        unknown = sorted(set(self.teacher.section.inputs) - set(infos))
        if unknown:
            raise ConfigError(
                "distill.teacher.inputs",
                f"{where} has no input {unknown[0]!r}",
                f"its inputs: {', '.join(infos)}",
            )
        row = next(self._data.batches("calibration", 1))
        for name, array in self._inputs(row.inputs).items():
            shape = infos[name].shape
            fits = len(shape) == array.ndim and all(
                not isinstance(size, int) or size == given
                for size, given in zip(shape[1:], array.shape[1:], strict=True)
            )
            if not fits:
                raise ConfigError(
                    f"distill.teacher.inputs.{name}",
                    f"makes {array.shape[1:]} for a row",
                    f"{shape[1:]}, as {where} takes it",
                    "Give the columns that it was trained on, in their order.",
                )


def _features(distill: Distillation | None) -> list[str]:
    return list(distill.features.values()) if isinstance(distill, Distill) else []


def _named_parts(section: TeacherSection) -> dict[str, Input]:
    """Returns every part of the inputs under a name of its own."""
    named: dict[str, Input] = {}
    for name, parts in section.inputs.items():
        listed = parts if isinstance(parts, list) else [parts]
        named |= dict(zip(_part_names(name, parts), listed, strict=True))
    return named


def _part_names(name: str, parts: Input | list[Input]) -> list[str]:
    return [f"{name}.{i}" for i in range(len(parts))] if isinstance(parts, list) else [name]


def _are_probabilities(array: NDArray[Any]) -> bool:
    if array.ndim != 2 or array.shape[1] < 2 or not len(array):
        return False
    inside = array.min() >= 0 and array.max() <= 1
    return bool(inside and np.abs(array.sum(axis=1) - 1).max() < SUM_TOLERANCE)
