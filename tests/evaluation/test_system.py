from __future__ import annotations

import math

import numpy as np
import pytest

from qtool.config.evaluation import Evaluation, Resampling, System
from qtool.data.batch import Batch
from qtool.errors import ModelError
from qtool.evaluation.system import system_figures

SOURCE = """
import numpy as np

def play(fp32, int8, rows, bets=1.0):
    one, two = (model(rows.inputs)["y"] * bets for model in (fp32, int8))
    return {"profit": (one, two), "plays_per_second": ([100.0], [250.0])}

def forgets(fp32, int8, rows):
    return {"profit": ([1.0], [1.0])}

def scalar(fp32, int8, rows):
    return {"profit": (1.0, 2.0), "plays_per_second": ([1.0], [1.0])}

def uneven(fp32, int8, rows):
    return {"profit": ([1.0, 2.0], [2.0]), "plays_per_second": ([1.0], [1.0])}

def broke(fp32, int8, rows):
    return {"profit": ([1.0], [np.nan]), "plays_per_second": ([1.0], [1.0])}

def number(fp32, int8, rows):
    return {"profit": 3.0, "plays_per_second": ([1.0], [1.0])}

def nothing(fp32, int8, rows):
    return None
"""
ROWS = 40


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    found = tmp_path_factory.mktemp("casino")
    (found / "casino_of_a_test.py").write_text(SOURCE)
    return found


@pytest.fixture
def played(folder):
    rows = Batch(np.arange(ROWS), None, {"x": np.arange(float(ROWS))})

    def play(function="play", moved=None, **arguments):
        section = System(
            function=f"casino_of_a_test:{function}",
            pythonpath=folder,
            figures={"profit": "higher"},
            timed={"plays_per_second": "higher"},
            arguments=arguments,
        )
        changes = np.zeros(ROWS) if moved is None else moved
        return system_figures(
            lambda inputs: {"y": inputs["x"]},
            lambda inputs: {"y": inputs["x"] + changes},
            rows,
            section,
            Resampling(),
            seed=0,
        )

    return play


def test_figures_are_means_of_paired_units(played):
    moved = np.tile([0.5, -0.25], ROWS // 2)
    found = played(moved=moved, bets=2.0)
    profit, speed = found["profit"], found["plays_per_second"]
    assert (profit.fp32, profit.change) == pytest.approx((ROWS - 1, 0.25))
    assert profit.rows == ROWS
    # Paired: the spread of the changes, 0.75, counts; that of the profits does not.
    error = 0.75 / math.sqrt(ROWS)
    assert profit.error == pytest.approx(error, rel=0.1)
    assert profit.low == pytest.approx(0.25 - 2 * error, abs=0.08)
    assert profit.high == pytest.approx(0.25 + 2 * error, abs=0.08)
    assert (speed.title, speed.fp32, speed.int8) == ("Plays per second", 100, 250)
    assert math.isnan(speed.low)


def test_where_nothing_moves_units_say_how_sure_that_is(played):
    profit = played()["profit"]
    assert profit.change == 0
    assert profit.low < 0 < profit.high


@pytest.mark.parametrize(
    ("function", "words"),
    [
        ("forgets", "returned ['profit']"),
        ("scalar", "'profit' has the shapes () and ()"),
        ("uneven", "'profit' has the shapes (2,) and (1,)"),
        ("broke", "'profit' holds NaN or infinity"),
        ("number", "'profit' is a float"),
        ("nothing", "returned a NoneType"),
        ("ply", "Did you mean 'play'?"),
    ],
)
def test_what_does_not_fit_is_named(played, function, words):
    with pytest.raises(ModelError) as found:
        played(function)
    assert words in str(found.value)


def test_no_figure_has_two_names():
    section = {"function": "a:b", "figures": {"auc": "higher"}}
    with pytest.raises(ValueError, match="'auc' is named twice"):
        Evaluation(system=section, metrics=["auc"])
    with pytest.raises(ValueError, match="'speed' is named twice"):
        System(function="a:b", figures={"speed": "higher"}, timed={"speed": "higher"})
