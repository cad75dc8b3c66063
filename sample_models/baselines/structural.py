"""The same graph in semopy, least squares and boosted trees, equation by equation."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.linear_model import LinearRegression

from qtool.config.experiment import Experiment
from qtool.data.batch import Batch, labels_of
from qtool.data.generators.macro_quarters import LAGS, VARIABLES, read_by
from sample_models.baselines.found import Arrays, Found

LAGGED = tuple(f"{name}_{lag}" for lag in range(1, LAGS + 1) for name in VARIABLES)
NAMES = (*VARIABLES, *LAGGED)
"""Of the columns of ``causes`` and ``lags``, as semopy knows them."""


def baselines(experiment: Experiment, training: Batch, evaluation: Batch) -> Found:
    """Yields expected values (rows, variables)."""
    known, asked = _columns(training), _columns(evaluation)
    paths = semopy_paths(known)
    coefficients = np.array([[paths.get((name, one), 0.0) for one in NAMES] for name in VARIABLES])
    centre = known.mean(axis=0)
    yield "semopy", (asked - centre) @ coefficients.T + centre[: len(VARIABLES)]
    for title, regressor in (
        ("least squares", LinearRegression),
        ("boosted trees", lambda: HistGradientBoostingRegressor(max_leaf_nodes=8)),
    ):
        found = np.empty((len(evaluation), len(VARIABLES)))
        for at, variable in enumerate(VARIABLES):
            reads = read_by(variable)
            model = regressor().fit(known[:, reads], labels_of(training)[:, at])
            found[:, at] = model.predict(asked[:, reads])
        yield title, found


def semopy_paths(rows: Arrays) -> dict[tuple[str, str], float]:
    """Returns the path coefficients of (effect, cause) that semopy finds.

    Source: Meshcheryakov, Igolkina and Samsonova 2021, "semopy 2", arXiv 2106.01140, with its
    usual objective, the maximum likelihood of Wishart's distribution.
    """
    import semopy

    equations = (f"{name} ~ {' + '.join(NAMES[i] for i in read_by(name))}" for name in VARIABLES)
    model = semopy.Model("\n".join(equations))
    model.fit(pa.table(list(rows.T), names=list(NAMES)).to_pandas())
    found = model.inspect()
    found = found[found["op"] == "~"]
    return dict(zip(zip(found["lval"], found["rval"], strict=True), found["Estimate"], strict=True))


def _columns(batch: Batch) -> Arrays:
    return np.hstack([batch.inputs["causes"], batch.inputs["lags"]]).astype(np.float64)
