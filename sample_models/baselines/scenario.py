"""The expected volatility, ridge regression on cubic features, and boosted trees."""

from __future__ import annotations

import numpy as np
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import PolynomialFeatures, StandardScaler

from qtool.config.experiment import Experiment
from qtool.data.batch import Batch, labels_of
from qtool.data.generators.heston import Market
from sample_models.baselines.found import Arrays, Found


def baselines(experiment: Experiment, training: Batch, evaluation: Batch) -> Found:
    """Yields implied volatilities in volatility points, (rows, 1).

    The regressions see the numbers without unit that the model computes, and learn what it learns:
    the implied volatility over the expected one.
    """
    known, level = _features(training)
    ratio = labels_of(training).reshape(-1) / level
    asked, expected = _features(evaluation)
    yield "expected volatility", expected[:, None]
    for name, model in (
        ("cubic ridge", make_pipeline(StandardScaler(), PolynomialFeatures(3), Ridge(alpha=1e-3))),
        ("boosted trees", HistGradientBoostingRegressor(max_iter=400, max_leaf_nodes=63)),
    ):
        model.fit(known, ratio)
        yield name, (model.predict(asked) * expected)[:, None]


def _features(batch: Batch) -> tuple[Arrays, Arrays]:
    """Returns (rows, 6), as the model computes them but for scale, and volatilities in points."""
    option = batch.inputs["option"].astype(np.float64)
    log_moneyness, maturity, rate, v0, kappa, theta, sigma, rho = option.T
    variance = Market(v0, kappa, theta, sigma, rho).mean_variance(maturity)
    unit = np.sqrt(variance * maturity)
    features = [
        (log_moneyness - rate * maturity) / unit,
        (v0 - theta) / variance,
        np.log(kappa * maturity),
        np.log(sigma * maturity / unit),
        rho,
        np.log(unit),
    ]
    return np.stack(features, axis=1), 100 * np.sqrt(variance)
