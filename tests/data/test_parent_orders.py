from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qtool.config.data import GeneratorSource
from qtool.data.generators.execution import (
    MEMORY,
    PACES,
    RISK_AVERSION,
    STEPS,
    STRENGTH,
    Solution,
    actions,
    almgren_chriss,
    rouwenhorst,
    share_sold,
    step_cost,
)
from qtool.data.generators.parent_orders import (
    COLUMNS,
    DECISIONS,
    MOST_SOLD,
    ORDERS,
    SCHEMA,
    ParentOrders,
    features,
)
from qtool.data.source import open_source

SPREAD, VOLATILITY = 3.0, 150.0


def table(source: ParentOrders, batch_rows: int = 8192) -> pa.Table:
    return pa.Table.from_batches(source.batches(SCHEMA.names, batch_rows))


@pytest.fixture(scope="module")
def orders():
    return table(ParentOrders(24 * ORDERS * DECISIONS, seed=7))


def column(orders, name):
    return orders[name].to_numpy().astype(np.float64).reshape(-1, DECISIONS)


def cost_of(left_after, volatility=VOLATILITY):
    """Cost of a schedule without a signal; ``left_after`` each of its steps."""
    cost, remaining = 0.0, 1.0
    for left in left_after:
        share = 1 - left / remaining if remaining > 0 else 0.0
        cost += step_cost(remaining, share, SPREAD, volatility, 0.0)
        remaining = left
    return cost


def test_one_step_by_hand():
    # A quarter of 0.8 is sold: 0.2, of a spread of 2; 0.6 stays, and the price falls by 5.
    sold = 2 * (0.5 * 0.2 + 100 * 0.2**2 + 10 * 0.2 * 0.6)
    risk = RISK_AVERSION * 100**2 * 0.6**2
    assert step_cost(0.8, 0.25, 2.0, 100.0, -5.0) == pytest.approx(sold + risk + 5 * 0.6)
    assert step_cost(0.8, 0.25, 2.0, 100.0, -5.0, 0.0) == pytest.approx(sold + 5 * 0.6)


def test_paces_are_shares_of_what_is_left():
    assert share_sold(PACES.index(1.0), 4) == 0.25
    assert share_sold(PACES.index(5.0), 4) == 1.0
    assert share_sold(0, 1) == 1.0
    assert [PACES[action] for action in actions(2)] == [0.0, 0.5, 0.75, 1.0, 1.25, 1.5, 2.0]
    assert actions(1) == [0]


def test_the_schedule_of_almgren_and_chriss_cannot_be_made_better():
    best = almgren_chriss(6, SPREAD, VOLATILITY)
    assert best[-1] == 0
    cost = cost_of(best)
    random = np.random.default_rng(0)
    for _ in range(20):
        other = best + np.append(0.02 * random.standard_normal(5), 0)
        assert cost_of(other) > cost


@pytest.mark.parametrize("volatility", [20.0, 150.0, 400.0])
def test_without_a_signal_the_exact_costs_are_those_of_almgren_and_chriss(volatility):
    solution = Solution(np.array([SPREAD]), np.array([volatility]), strength=1e-9)
    remaining, path = np.ones(1), []
    for steps_left in range(STEPS, 0, -1):
        costs = solution.costs(steps_left, remaining, np.zeros(1))[0]
        if steps_left == STEPS:
            best = costs.min()
        remaining = remaining * (1 - share_sold(int(costs.argmin()), steps_left))
        path.append(remaining[0])
    # Only paces of a list can be chosen, which costs a little more.
    analytic = almgren_chriss(STEPS, SPREAD, volatility)
    assert cost_of(analytic, volatility) <= cost_of(path, volatility)
    assert best == pytest.approx(cost_of(path, volatility), rel=1e-3)
    assert best == pytest.approx(cost_of(analytic, volatility), rel=0.01)
    assert np.abs(path - analytic).max() < 0.05


def test_the_last_two_steps_with_a_signal_by_hand():
    solution = Solution(np.array([SPREAD]), np.array([VOLATILITY]))
    signal = 4.0
    costs = solution.costs(2, np.array([0.5]), np.array([signal]))[0]
    for action in actions(2):
        share = share_sold(action, 2)
        left = 0.5 * (1 - share)
        now = step_cost(0.5, share, SPREAD, VOLATILITY, signal)
        last = step_cost(left, 1.0, SPREAD, VOLATILITY, 0.0)
        assert costs[action] == pytest.approx((now + last) / 0.5)


def test_the_chain_has_the_memory_and_the_variance_of_the_signal():
    values, chain = rouwenhorst(15, MEMORY)
    np.testing.assert_allclose(chain.sum(axis=1), 1)
    np.testing.assert_allclose(chain @ values, MEMORY * values, atol=1e-12)
    stationary = np.linalg.matrix_power(chain, 200)[0]
    assert stationary @ values**2 == pytest.approx(1)


def test_a_config_opens_it():
    source = open_source(GeneratorSource(generator="parent_orders", rows=10, seed=3))
    assert source == ParentOrders(rows=10, seed=3)
    assert table(source).schema == SCHEMA


@settings(max_examples=4, deadline=None)
@given(batch_rows=st.integers(50, 3000), rows=st.integers(1, 2500))
def test_the_size_of_the_batches_changes_nothing(batch_rows, rows):
    source = ParentOrders(rows, seed=7)
    batches = list(source.batches(["order", "costs"], batch_rows))
    assert max(batch.num_rows for batch in batches) <= batch_rows
    made = pa.Table.from_batches(batches)
    assert made.num_rows == rows
    assert made.equals(table(source).select(["order", "costs"]))


def test_seed_and_rows_decide_the_fingerprint():
    sources = [ParentOrders(10, 7), ParentOrders(11, 7), ParentOrders(10, 8)]
    assert len({source.fingerprint() for source in sources}) == 3
    assert table(sources[0]) != table(sources[2])


def test_decisions_of_an_order_follow_each_other(orders):
    names = np.array(orders["order"].to_pylist()).reshape(-1, DECISIONS)
    assert (names == names[:, :1]).all()
    assert len(set(names[:, 0])) == len(names)
    assert (np.diff(orders["started"].to_numpy().astype(int)) >= 0).all()
    steps, remaining = column(orders, "steps_left"), column(orders, "remaining")
    assert (steps == np.arange(STEPS, 1, -1)).all()
    assert (remaining[:, 0] == 1).all()
    shares = 1 - remaining[:, 1:] / remaining[:, :-1]
    allowed = np.minimum(np.array(PACES) / steps[:, :-1, None], MOST_SOLD)
    assert np.abs(shares[:, :, None] - allowed).min(axis=2).max() < 1e-5
    # What follows one decision is what the next one has seen last.
    np.testing.assert_array_equal(
        column(orders, "return_1")[:, 1:], column(orders, "next_return")[:, :-1]
    )
    np.testing.assert_array_equal(
        column(orders, "return_2")[:, 1:], column(orders, "return_1")[:, :-1]
    )


def test_costs_and_features_are_those_of_the_row(orders):
    (row,) = orders.slice(25, 1).to_pylist()
    solution = Solution(np.array([row["spread"]]), np.array([row["volatility"]]))
    state = np.array([row["remaining"]]), np.array([row["signal"]])
    costs = solution.costs(int(row["steps_left"]), *state)[0]
    assert row["costs"] == pytest.approx(costs, rel=1e-4)
    known = np.array([[row[name] for name in COLUMNS]])
    assert row["state"] == pytest.approx(features(known)[0], rel=1e-4, abs=1e-5)


def test_statistics_are_those_of_the_docstring(orders):
    volatility = column(orders, "volatility")[:, 0]
    low, middle, high = np.percentile(volatility, [5, 50, 95])
    assert (low, middle, high) == (
        pytest.approx(72, abs=8), pytest.approx(127, abs=8), pytest.approx(240, abs=25)
    )  # fmt: skip
    assert np.median(column(orders, "spread")) == pytest.approx(3.0, abs=0.25)
    scaled = column(orders, "signal") / volatility[:, None]
    assert scaled.std() == pytest.approx(STRENGTH, rel=0.06)
    memory = np.corrcoef(scaled[:, 1:].ravel(), scaled[:, :-1].ravel())[0, 1]
    assert memory == pytest.approx(MEMORY, abs=0.03)
    shocks = column(orders, "next_return") / volatility[:, None] - scaled
    assert (np.abs(shocks) > 3).mean() == pytest.approx(0.02, abs=0.006)
    costs = np.stack(orders["costs"].to_numpy())
    chosen = np.bincount(costs.argmin(axis=1), minlength=len(PACES)) / len(costs)
    assert chosen.min() > 0.005
    assert chosen.max() < 0.3
