from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from support.sample_models import built, prepared

from qtool.data.batch import Batch
from qtool.data.generators import parent_orders
from qtool.data.generators.execution import (
    MEMORY,
    PACES,
    RISK_AVERSION,
    STEPS,
    STRENGTH,
    actions,
    almgren_chriss,
    share_sold,
    step_cost,
)
from qtool.data.generators.parent_orders import (
    COLUMNS,
    DECISIONS,
    FEATURES,
    ParentOrders,
    features,
)
from sample_models.baselines.tree_search import baselines, closed_form
from sample_models.systems.tree_search import (
    EXPLORATION,
    Estimates,
    State,
    after,
    best_pace,
    chosen,
    execution,
    regret,
    search,
    sell,
)
from sample_models.tree_search import search_loss

SPREAD, VOLATILITY = 3.0, 300.0
LONG = State(1.0, 8, VOLATILITY, SPREAD, 0.0, (0.0,) * 5)


def informed(states):
    """Knows what paces cost without a signal, and prefers those of about the least cost."""
    costs = closed_form(features(states))
    value = costs.min(axis=1)
    return Estimates(value[:, None] - costs, costs, value)


def opinionated(states):
    """Different for every state, and for every pace."""
    noise = np.sin(np.outer(1 + 50 * states[:, 0] + states[:, 1], np.arange(1, 10)))
    value = 20 * (1 + states[:, 0]) * (1 + 0.2 * noise[:, 0])
    return Estimates(2 * noise, value[:, None] * (1 + 0.1 * noise), value)


class Plain:
    """PUCT, one simulation after another, as the papers write it; a node is the paces up to it."""

    def __init__(self, evaluate):
        self.evaluate = evaluate
        self.prior, self.guess, self.visits, self.means = {}, {}, {}, {}

    def expand(self, node, state):
        remaining, steps, volatility, spread, signal, returns = state
        row = np.array([[remaining, steps, volatility, spread, signal, *returns]])
        policy, costs, value = (one[0] for one in self.evaluate(row))
        odds = {pace: math.exp(policy[pace]) for pace in actions(steps)}
        for pace, odd in odds.items():
            self.prior[(*node, pace)] = odd / sum(odds.values())
            self.guess[(*node, pace)] = remaining * costs[pace]
            self.visits[(*node, pace)] = 0
        return remaining * value

    def cost(self, node, state):
        """Simulates from a node, and returns what it cost until the end."""
        remaining, steps, volatility, spread, signal, returns = state
        if steps == 1:
            return spread * (0.5 * remaining + 100 * remaining**2)
        ways = [(*node, pace) for pace in actions(steps)]
        if ways[0] not in self.prior:
            return self.expand(node, state)
        visits = sum(self.visits[way] for way in ways)

        def bound(way):
            tried = self.visits[way]
            mean = self.means[way] if tried else self.guess[way]
            span = self.high - self.low
            worth = (self.high - mean) / span if span > 0 else 0.0
            return worth + EXPLORATION * self.prior[way] * math.sqrt(max(visits, 1)) / (1 + tried)

        way = max(ways, key=bound)
        sold = remaining * share_sold(way[-1], steps)
        left = remaining - sold
        now = spread * (0.5 * sold + 100 * sold**2 + 10 * sold * left) - signal * left
        now += RISK_AVERSION * (volatility * left) ** 2
        then = (left, steps - 1, volatility, spread, MEMORY * signal, (signal, *returns[:-1]))
        found = now + self.cost(way, then)
        self.visits[way] += 1
        mean = self.means.get(way, 0.0)
        self.means[way] = mean + (found - mean) / self.visits[way]
        self.low, self.high = min(self.low, self.means[way]), max(self.high, self.means[way])
        return found

    def search(self, state, simulations):
        self.low, self.high = math.inf, -math.inf
        self.expand((), state)
        for _ in range(simulations):
            self.cost((), state)
        return [self.visits[pace,] for pace in actions(state[1])]


@pytest.mark.parametrize("signal", [-6.0, 0.0, 9.0])
@pytest.mark.parametrize("steps_left", [2, 5, 20])
def test_leaf_by_leaf_it_is_a_plain_search(signal, steps_left):
    state = LONG._replace(signal=signal, steps_left=steps_left, remaining=0.7)
    expected = Plain(opinionated).search(tuple(state), 60)
    root = search(state, opinionated, simulations=60, leaves=1)
    assert root.visits == expected
    best = max(zip(expected, root.prior, root.paces, strict=True))[2]
    assert chosen(root) == best


def test_leaves_are_evaluated_together_and_all_come_back():
    asked = []

    def counted(states):
        asked.append(len(states))
        return opinionated(states)

    root = search(LONG, counted, simulations=50, leaves=16)
    assert len(asked) == 1 + 4  # the root, then 16, 16, 16 and 2
    assert max(asked) > 8
    assert sum(root.visits) == 50
    nodes = [root]
    for node in nodes:
        assert node.waiting == [0] * len(node.paces)
        nodes += [child for child in node.children if child is not None]
    assert sum(asked) == len(nodes)


def priced(left):
    """Cost of a schedule with the price of risk, ``left`` before each step and 0 at the end."""
    pairs = list(pairwise([*left, 0.0]))
    return sum(step_cost(x, 1 - y / x, SPREAD, VOLATILITY, 0.0) for x, y in pairs)


@pytest.mark.parametrize("leaves", [1, 8])
def test_without_a_signal_it_comes_near_the_schedule_of_almgren_and_chriss(leaves):
    def schedule(simulations):
        def decide(state):
            return chosen(search(state, informed, simulations, leaves))

        states = [LONG._replace(steps_left=left) for left in range(8, 1, -1)]
        sold = sell(states, np.zeros(7), decide)
        last = sold.states[-1]
        return [state.remaining for state in (*sold.states, after(last, sold.paces[-1]))]

    analytic = [1.0, *almgren_chriss(8, SPREAD, VOLATILITY)[:-1]]
    evenly = [left / 8 for left in range(8, 0, -1)]
    many = schedule(200)
    assert priced(analytic) <= priced(many) < 1.01 * priced(analytic)
    assert priced(evenly) > 1.03 * priced(analytic)
    assert np.abs(np.subtract(many, analytic)).max() < 0.1


def test_what_an_order_pays_is_counted_by_hand():
    states = [LONG._replace(steps_left=left) for left in (3, 2)]
    sold = sell(states, np.array([10.0, -20.0]), lambda state: PACES.index(1.0))
    third = 1 / 3
    impact = 100 * third**2 * 3 + 10 * third * (2 * third + third)
    expected = SPREAD * (0.5 + impact) - 10 * 2 * third + 20 * third
    assert sold.shortfall == pytest.approx(expected)
    assert [state.remaining for state in sold.states] == [1, pytest.approx(2 / 3)]


def model(noise):
    """A model on features, as the system is given it; it knows the cost of the even pace."""

    def predict(inputs):
        state = inputs["state"].astype(np.float64)
        known = closed_form(state)
        costs = known + noise * np.sin(31 * state[:, :1] + np.arange(9))
        best = costs.min(axis=1, keepdims=True)
        return {"costs": costs, "policy": best - costs, "value": best}

    return predict


@pytest.fixture(scope="module")
def rows():
    made = pa.Table.from_batches(ParentOrders(4 * DECISIONS + 7, seed=7).batches(
        ["order", "next_return", *COLUMNS], 8192
    ))  # fmt: skip
    columns = {name: made[name].to_numpy() for name in made.column_names}
    start = 5  # what is left of the first order is no order
    columns = {name: values[start:] for name, values in columns.items()}
    count = len(columns["order"])
    return Batch(
        np.arange(count), None, {"state": np.zeros((count, FEATURES), np.float32)}, columns
    )


def test_the_figures_of_equal_models_are_equal(rows):
    found = execution(model(0.0), model(0.0), rows, simulations=12, leaves=4)
    assert found["action_agreement"][1].tolist() == [1, 1, 1]  # whole orders
    np.testing.assert_array_equal(*found["shortfall"])
    assert found["simulations_per_second"][0][0] > 0


def test_another_model_chooses_otherwise_and_pays_otherwise(rows):
    agreement, shortfall = (
        execution(model(0.0), model(20.0), rows, simulations=12, leaves=4)[name]
        for name in ("action_agreement", "shortfall")
    )
    assert agreement[0].tolist() == [1, 1, 1]
    assert (agreement[1] < 1).all()
    assert (shortfall[0] != shortfall[1]).all()


def test_regret_and_best_pace_by_hand():
    labels = np.array([[3.0, 1.0, 2.0], [5.0, 5.0, 9.0]])
    predictions = np.array([[9.0, 8.0, 7.0], [1.0, 2.0, 3.0]])
    assert regret(labels, predictions) == pytest.approx(0.5)
    assert best_pace(labels, predictions) == 0.5
    assert regret.better == "lower"


def test_the_loss_by_hand():
    labels = torch.tensor([[10.0, 10.0, 30.0]])
    outputs = {
        "costs": torch.tensor([[10.0, 35.0, 30.0]]),
        "policy": torch.tensor([[0.0, 0.0, 0.0]]),
        "value": torch.tensor([[15.0]]),
    }
    loss = search_loss(outputs, labels, {}, temperature=1.0)
    # Huber at 25 / 25 and at 5 / 25; a third for each pace, of which two are as good.
    assert loss.item() == pytest.approx(math.log(3) + 0.5 / 3 + 0.02, rel=1e-4)


def test_the_network_returns_what_the_search_asks_for():
    network = built("tree_search", {"state": {"shape": [FEATURES]}}, width=8, blocks=2)
    states = torch.randn(5, FEATURES)
    with torch.no_grad():
        found = network(states)
        alone = network(states[2:3])
    assert {name: tuple(one.shape) for name, one in found.items()} == {
        "costs": (5, 9), "policy": (5, 9), "value": (5, 1)
    }  # fmt: skip
    torch.testing.assert_close(alone["costs"], found["costs"][2:3])


def test_daily_bars_become_orders(monkeypatch, tmp_path):
    days = np.datetime64("2013-02-08") + np.arange(90)
    random = np.random.default_rng(0)
    names = [f"S{number:02}" for number in range(14)]
    prices = 50 * np.exp(np.cumsum(0.015 * random.standard_normal((90, 14)), axis=0))
    bars = {
        "date": np.tile(days.astype("datetime64[ms]"), 14),
        "close": prices.T.reshape(-1),
        "Name": np.repeat(names, 90),
    }
    short = {"date": days[:5].astype("datetime64[ms]"), "close": np.ones(5), "Name": ["T"] * 5}
    both = {name: np.concatenate([bars[name], short[name]]) for name in bars}
    pq.write_table(pa.table(both), tmp_path / "bars.parquet")
    found = prepared(monkeypatch, tmp_path, "tree_search", tmp_path / "bars.parquet")
    assert found.schema.equals(parent_orders.SCHEMA)
    rows = found.to_pylist()
    assert len(rows) == 3 * 12 * DECISIONS  # days 60, 65 and 70
    first = rows[0]
    assert first["order"] == f"S00 {days[60]}"
    returns = 1e4 * np.diff(np.log(prices[:, 0]))
    seen = [first[f"return_{day}"] for day in range(1, 6)]
    assert seen == pytest.approx(returns[59:54:-1], rel=1e-5)
    assert first["next_return"] == pytest.approx(returns[60], rel=1e-5)
    assert first["signal"] == pytest.approx(-STRENGTH * math.sqrt(5) * np.mean(seen), rel=1e-4)
    assert first["spread"] == pytest.approx(100 / prices[60, 0] + 0.01 * first["volatility"])
    assert rows[DECISIONS]["order"] == f"S01 {days[60]}"
    assert rows[-1]["steps_left"] == 2


def test_the_baselines_know_the_problem(monkeypatch):
    monkeypatch.setattr("sample_models.baselines.tree_search.ROUNDS", 5)
    made = pa.Table.from_batches(ParentOrders(64 * DECISIONS, 7).batches(["state", "costs"], 8192))
    state, costs = (np.stack(made[name].to_numpy()) for name in ("state", "costs"))
    batch = Batch(np.arange(len(costs)), costs, {"state": state})
    found = dict(baselines(None, batch, batch))
    assert list(found) == ["even pace", "Almgren-Chriss", "boosted trees"]
    assert (found["even pace"].argmin(axis=1) == PACES.index(1.0)).all()
    scores = {name: regret(costs, predictions) for name, predictions in found.items()}
    assert scores["Almgren-Chriss"] < scores["even pace"]


def test_all_steps_have_a_closed_form():
    state = features(
        np.array([[0.5, left, 150.0, 3.0, 0.0, *[0.0] * 5] for left in range(2, STEPS + 1)])
    )
    assert np.isfinite(closed_form(state)).all()
    # Of two steps: half now, half then, and the risk of a night.
    by_hand = 3 * (0.5 + 100 * 0.5 * 0.5 + 10 * 0.5 * 0.5 * 0.5)
    by_hand += RISK_AVERSION * 150**2 * 0.25 * 0.5
    assert closed_form(state)[0, PACES.index(1.0)] == pytest.approx(by_hand)
