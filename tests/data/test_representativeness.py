from __future__ import annotations

import json

import numpy as np
import pytest

from qtool.data.column_fit import ColumnFit, Representativeness
from qtool.data.dataset import Dataset
from qtool.data.fitting import fit
from qtool.data.representativeness import representativeness
from qtool.data.representativeness_file import (
    representativeness_from_json,
    representativeness_to_json,
)
from qtool.data.sampling import calibration_rows
from qtool.errors import StaleArtifactError
from qtool.evaluation.decisions import psi as psi_of_scores
from qtool.progress import SilentProgress
from qtool.report.console import console_representativeness
from qtool.report.tables import representativeness_table

SILENT = SilentProgress()
ROWS = 4_000
INPUTS = {
    "x": {"columns": ["steady", "late", "flat", "gaps"], "missing": "zero"},
    "z": {"kind": "categorical", "columns": ["country", "rare"]},
    "s": {"kind": "sequence", "columns": ["steps"], "mask": "m", "length": 6},
}
SPLIT = {"by": "time", "column": "t", "calibration": 0.25, "evaluation": 0.5}


@pytest.fixture
def dataset(make_source, make_data) -> Dataset:
    """Rows 0..999 train, 1000..1999 calibrate, the others evaluate; some columns change by time."""
    random = np.random.default_rng(0)
    early = np.arange(ROWS) < 2_000
    steady = random.normal(size=ROWS).astype(np.float32)
    rare = np.where(np.arange(ROWS) % 100 == 3, "b", "a").astype(object)
    rare[1_000:2_000] = "a"
    lengths = random.integers(1, 5, ROWS)
    columns = {
        "steady": steady,
        "late": np.where(early, steady, steady + 3),
        "flat": np.where(np.arange(ROWS) // 1_000 == 1, 7.0, steady),
        "gaps": [None if n % 4 == 0 else 1.5 * n for n in range(ROWS)],
        "country": random.choice(["DE", "FR", "NA"], ROWS),
        "rare": rare,
        "steps": [random.normal(size=n).astype(np.float32).tolist() for n in lengths],
        "t": np.arange(ROWS),
    }
    source, data = make_source(columns, (97, 400)), make_data(INPUTS, label=None, split=SPLIT)
    return Dataset(source, data, fit(source, data, SILENT))


def report(dataset: Dataset, samples: int | None = None, batch_rows: int = 64):
    rows = calibration_rows(dataset, samples, 0.1, 0, batch_rows)
    return representativeness(dataset, rows, SILENT)


def by_name(found: Representativeness) -> dict[str, ColumnFit]:
    return {f"{fit.input}.{fit.column}": fit for fit in found.columns}


def test_what_changes_is_found_and_nothing_else(dataset: Dataset) -> None:
    found = report(dataset)
    fits = by_name(found)
    assert found.rows == {"training": 1_000, "calibration": 1_000, "evaluation": 2_000}
    warned = {name: " ".join(fit.warnings) for name, fit in fits.items() if fit.warnings}
    # gaps rises with time, so that it differs as well.
    assert set(warned) == {"x.late", "x.flat", "x.gaps", "z.rare"}
    assert "differs from evaluation" in warned["x.late"]
    assert "beyond the sample's range" in warned["x.late"]
    assert "constant" in warned["x.flat"]
    assert warned["z.rare"] == "unseen classes: 1, 1.0% of evaluation constant"
    assert found.columns[-1].warnings == ()


def test_figures_equal_those_of_the_whole_arrays(dataset: Dataset) -> None:
    fits = by_name(report(dataset))
    late = dataset.source.table["late"].to_numpy().astype(np.float32)
    training, sample, evaluation = late[:1_000], late[1_000:2_000], late[2_000:]
    fit = fits["x.late"]
    assert fit.psi_training == pytest.approx(psi_of_scores(training, sample), abs=1e-12)
    assert (fit.low, fit.high) == (sample.min(), sample.max())
    outside = ((evaluation < sample.min()) | (evaluation > sample.max())).mean()
    assert fit.outside_evaluation == outside
    assert fits["x.gaps"].missing_training == fits["x.gaps"].missing_evaluation == 0.25
    assert (fits["z.rare"].classes, fits["z.rare"].examples) == (2, ("b",))
    assert fits["z.country"].unseen_classes == 0
    assert (fits["s.length"].low, fits["s.length"].high) == (1, 4)
    values = np.concatenate(dataset.source.table["steps"].to_pylist()[1_000:2_000])
    assert fits["s.steps"].high == np.float32(values.max())


@pytest.mark.parametrize("batch_rows", [17, 333, 10_000])
def test_batch_size_changes_nothing(dataset: Dataset, make_data, batch_rows: int) -> None:
    expected = representativeness_to_json(report(dataset, 200))
    data = make_data(INPUTS, label=None, split=SPLIT, batch_rows=batch_rows)
    other = Dataset(dataset.source, data, dataset.fitted)
    assert representativeness_to_json(report(other, 200, batch_rows)) == expected


@pytest.mark.parametrize("samples", [1, 30])
def test_few_rows_do_not_warn_of_chance(dataset: Dataset, samples: int) -> None:
    found = report(dataset, samples)
    steady = by_name(found)["x.steady"]
    assert not any("PSI" in warning for warning in steady.warnings)
    assert steady.outside_evaluation > 0.01  # but the range of so few rows is too small
    assert found.rows["calibration"] == samples


def test_without_any_row(dataset: Dataset) -> None:
    assert representativeness(dataset, iter(()), SILENT).columns == ()


def test_file_and_table(dataset: Dataset) -> None:
    found = report(dataset)
    text = representativeness_to_json(found)
    assert json.loads(text)["columns"][0]["warnings"]
    assert representativeness_from_json(text, "r.json") == found
    table = representativeness_table(found, 3)
    assert [row[1] for row in table.rows] == [fit.column for fit in found.columns[:3]]
    assert all(len(row) == len(table.header) for row in table.rows)
    with pytest.raises(StaleArtifactError, match="not a report"):
        representativeness_from_json("{}", "r.json")


def test_console(dataset: Dataset) -> None:
    from io import StringIO

    from rich.console import Console

    out = StringIO()
    Console(file=out, width=160).print(console_representativeness(report(dataset)))
    assert "4 of 8 columns with warnings" in out.getvalue()
    assert "Calibration sample, 1,000 rows" in out.getvalue()
