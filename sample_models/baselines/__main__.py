"""What scikit-learn, or a rule of thumb, reaches on the rows and the split of a config.

    python -m sample_models.baselines configs/bank_static.yaml [--set data.source=bank.parquet]

Each baseline is fitted on the training split and judged on the evaluation split by the metrics of
the config, as the models are. The module beside this one with the name of the sample model has
them, else the one with the name of the task; its first line says which they are.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import sys
from pathlib import Path

import numpy as np

from qtool.commands.scoring import judging_columns, quantile_levels
from qtool.config.experiment import Experiment
from qtool.config.load import load
from qtool.config.model import TorchModel
from qtool.data.batch import Batch, join
from qtool.data.dataset import Dataset
from qtool.data.fitting import fit
from qtool.data.source import open_source
from qtool.data.split import SplitName
from qtool.evaluation.metrics.registry import metrics_of
from qtool.evaluation.sample import Sample
from qtool.progress import SilentProgress

PACKAGE = "sample_models.baselines"


def main() -> None:
    """Prints the metrics of every baseline of a config."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("config", type=Path)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    given = parser.parse_args()
    experiment = load(given.config, given.set).experiment
    section = experiment.evaluation
    data = _dataset(experiment)
    training = _rows(data, "training", ())
    evaluation = _rows(data, "evaluation", judging_columns(experiment))
    metrics = metrics_of(experiment.task, section, quantile_levels(experiment))
    module = importlib.import_module(f"{PACKAGE}.{_module(experiment)}")
    labels = np.empty((len(evaluation), 0)) if evaluation.labels is None else evaluation.labels
    for name, found in module.baselines(experiment, training, evaluation):
        predictions = np.asarray(found, np.float32)
        sample = Sample(evaluation.rows, labels, predictions, predictions, evaluation.columns)
        figures = (f"{one.title} {one.build(sample, sample.fp32)(None):.4f}" for one in metrics)
        sys.stdout.write(f"{name}: {', '.join(figures)}\n")


def _module(experiment: Experiment) -> str:
    model = experiment.model
    system = (
        model.torch.partition(":")[0].rpartition(".")[2] if isinstance(model, TorchModel) else ""
    )
    names = filter(None, (system, experiment.task))
    found = next((n for n in names if importlib.util.find_spec(f"{PACKAGE}.{n}")), None)
    if found is None:
        sys.exit(f"no baseline is known for {system or 'this model'} or {experiment.task}")
    return found


def _dataset(experiment: Experiment) -> Dataset:
    source = open_source(experiment.data.source)
    fitted = fit(source, experiment.data, SilentProgress(), experiment.task)
    return Dataset(source, experiment.data, fitted, experiment.task)


def _rows(data: Dataset, split: SplitName, columns: tuple[str, ...]) -> Batch:
    return join(list(data.batches(split, columns=columns)))


if __name__ == "__main__":
    main()
