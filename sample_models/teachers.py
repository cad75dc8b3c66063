"""The teacher of a config: boosted trees on its training rows, as ONNX by their usual converter.

    python -m sample_models.teachers configs/fraud_student.yaml [--set KEY=VALUE]

It writes the file that ``training.distill.teacher.onnx`` names, and the encoder that ``encoder``
beside it names: the columns and their encoding are those of ``inputs`` there. Boosting stops when
the calibration rows say so (LightGBM, Ke et al. 2017, NeurIPS 30), never by the evaluation rows.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qtool.commands.context import Context
from qtool.commands.teacher import encoded_for
from qtool.config.load import load
from qtool.data.batch import join, labels_of
from qtool.data.dataset import Dataset
from qtool.data.encoder_file import encoder_to_json
from qtool.data.split import SplitName
from qtool.progress import SilentProgress
from qtool.runs import Run, write_bytes, write_text

TREES, LEAVES, PATIENCE = 400, 31, 30
LEARNING_RATE = 0.05


def main() -> None:
    """Trains the teacher of a config and writes it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("config", type=Path)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    given = parser.parse_args()
    loaded = load(given.config, given.set)
    experiment = loaded.experiment
    distill = experiment.training.distill
    if distill is None:
        sys.exit(f"{given.config} has no training.distill")
    section = distill.teacher
    run = Run(Path(), force=False, tell=lambda line: None)
    context = Context(experiment, loaded.written, run, SilentProgress())
    # A teacher is made before its encoder is there.
    data = encoded_for(context, section.model_copy(update={"encoder": None}))
    training, calibration = _rows(data, "training"), _rows(data, "calibration")
    model = boosted(training, calibration)
    write_bytes(section.onnx, model)
    if section.encoder is not None:
        write_text(section.encoder, encoder_to_json(data.fitted.encoder))
    sys.stdout.write(f"{section.onnx}: {len(model):,} bytes\n")


def boosted(
    training: tuple[NDArray[Any], NDArray[Any]], calibration: tuple[NDArray[Any], NDArray[Any]]
) -> bytes:
    """Returns LightGBM's classifier as an ONNX file: input ``input``, output ``probabilities``.

    Args:
        training: float32 (rows, columns) and labels (rows,).
        calibration: the same, on which boosting stops.
    """
    import lightgbm
    from onnxmltools import convert_lightgbm
    from onnxmltools.convert.common.data_types import FloatTensorType

    model = lightgbm.LGBMClassifier(
        n_estimators=TREES,
        num_leaves=LEAVES,
        learning_rate=LEARNING_RATE,
        min_child_samples=100,
        subsample=0.8,
        subsample_freq=1,
        random_state=0,
        deterministic=True,
        force_row_wise=True,
        n_jobs=1,
        verbose=-1,
    )
    stop = lightgbm.early_stopping(PATIENCE, verbose=False)
    rows, labels = calibration
    model.fit(*training, eval_X=rows, eval_y=labels, eval_metric="auc", callbacks=[stop])
    types = [("input", FloatTensorType([None, training[0].shape[1]]))]
    # Without a name the converter draws one.
    converted = convert_lightgbm(model.booster_, "boosted_trees", types, zipmap=False)
    return bytes(converted.SerializeToString(deterministic=True))


def _rows(data: Dataset, split: SplitName) -> tuple[NDArray[Any], NDArray[Any]]:
    """Returns the columns of a teacher with one input, and the labels."""
    batch = join(list(data.batches(split)))
    parts = [np.asarray(array, np.float32) for array in batch.inputs.values()]
    return np.concatenate(parts, axis=1), labels_of(batch)


if __name__ == "__main__":
    main()
