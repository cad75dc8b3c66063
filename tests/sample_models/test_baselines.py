from __future__ import annotations

import sys

import numpy as np
import pytest
from support.cli import ROOT

from sample_models.baselines.__main__ import main


@pytest.mark.parametrize(
    ("config", "rows", "names"),
    [
        ("bank_static", 2_000, ["boosted trees", "logistic regression"]),
        ("cash_flow_static", 6_000, ["last week", "mean of eight weeks", "ridge regression"]),
        ("retrieval_static", 600, ["TF-IDF", "BM25"]),
    ],
)
def test_baselines_are_judged_by_the_metrics_of_the_config(
    monkeypatch, capsys, config, rows, names
):
    path = str(ROOT / "configs" / f"{config}.yaml")
    monkeypatch.setattr(sys, "argv", ["baselines", path, "--set", f"data.source.rows={rows}"])
    main()
    found = dict(line.split(": ", 1) for line in capsys.readouterr().out.splitlines())
    assert list(found) == names
    for figures in found.values():
        values = [float(figure.rsplit(" ", 1)[1]) for figure in figures.split(", ")]
        assert len(values) >= 4
        assert np.isfinite(values).all()
