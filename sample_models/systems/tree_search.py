"""Monte Carlo tree search that sells orders, guided by ``sample_models/tree_search.py``.

PUCT as in AlphaZero (Silver et al. 2017, arXiv 1712.01815): a simulation descends by the pace that
looks best, weighing what is known of it against how little it was tried and how likely the policy
calls it; the state it ends in is evaluated by the network, and its value goes back up. Networks are
fast in batches, so that several simulations descend before one evaluation; a virtual loss keeps
them apart (Chaslot, Winands and van den Herik 2008, "Parallel Monte-Carlo tree search"). Changes:
costs, which have no bounds, are scaled to those seen in the tree (MuZero, Schrittwieser et al.
2020, arXiv 1911.08265, equation 5); paces not yet tried are worth what the network says of them,
not nothing; and the tree plans with the expected signal, as a new search follows each real step.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from qtool.data.batch import Batch
from qtool.data.generators.execution import (
    MEMORY,
    Floats,
    actions,
    share_sold,
    step_cost,
)
from qtool.data.generators.parent_orders import COLUMNS, DECISIONS, features
from qtool.evaluation.system import Predict

EXPLORATION = 1.25
"""c_init of MuZero."""


class State(NamedTuple):
    """What is left of an order, and its market; basis points as in ``parent_orders``."""

    remaining: float
    steps_left: int
    volatility: float
    spread: float
    signal: float
    returns: tuple[float, ...]


class Estimates(NamedTuple):
    """What a network says of states: logits, costs of the paces and of the best, per unit left."""

    policy: Floats
    costs: Floats
    value: Floats


Evaluate = Callable[[Floats], Estimates]
"""States, (n, COLUMNS of ``parent_orders``) → estimates of (n, paces), (n, paces) and (n,)."""


@dataclass(eq=False)
class Node:
    """A state that was evaluated, and for each pace that sells another share what came of it.

    Attributes:
        state: of the order.
        value: cost until the end, basis points of the order, as the network said.
        paces: numbers of the paces.
        prior: policy over them.
        steps: cost of the step, basis points of the order.
        guesses: cost until the end of each way, likewise.
        visits: simulations that went this way.
        totals: sum of the costs that they found.
        waiting: of them those that have not come back.
        children: where the paces lead, if they were tried.
    """

    state: State
    value: float
    paces: list[int]
    prior: list[float]
    steps: list[float]
    guesses: list[float]
    visits: list[int]
    totals: list[float]
    waiting: list[int]
    children: list[Node | None]


@dataclass
class Bounds:
    """The least and the largest cost seen in a tree."""

    low: float = math.inf
    high: float = -math.inf

    def see(self, cost: float) -> None:
        """Takes note of a cost."""
        self.low, self.high = min(self.low, cost), max(self.high, cost)


def search(state: State, evaluate: Evaluate, simulations: int, leaves: int) -> Node:
    """Returns the root of a tree after the simulations.

    Args:
        state: where the order stands, with two steps left or more.
        evaluate: the network.
        simulations: in all.
        leaves: simulations that descend before they are evaluated together.
    """
    (root,) = _nodes([state], evaluate)
    bounds = Bounds()
    for first in range(0, simulations, leaves):
        paths = [_descend(root, bounds) for _ in range(min(leaves, simulations - first))]
        _evaluate(paths, evaluate)
        for path in paths:
            _back_up(path, bounds)
    return root


def chosen(root: Node) -> int:
    """Returns the pace that was tried most, of equals the one that the policy prefers."""
    best = max(range(len(root.paces)), key=lambda i: (root.visits[i], root.prior[i]))
    return root.paces[best]


def after(state: State, pace: int) -> State:
    """Returns the state that a pace is expected to lead to."""
    share = share_sold(pace, state.steps_left)
    return state._replace(
        remaining=state.remaining * (1 - share),
        steps_left=state.steps_left - 1,
        signal=MEMORY * state.signal,
        returns=(state.signal, *state.returns[:-1]),
    )


def last_cost(state: State) -> float:
    """Returns the cost of selling all that is left."""
    return float(step_cost(state.remaining, 1.0, state.spread, state.volatility, 0.0))


Path = list[tuple[Node, int]]
"""Nodes from the root on, and the way taken from each."""


def _descend(root: Node, bounds: Bounds) -> Path:
    """Returns the way to a state that was not evaluated, or to the last step."""
    node: Node | None = root
    path = []
    while node is not None:
        way = _best_way(node, bounds)
        node.waiting[way] += 1
        path.append((node, way))
        node = node.children[way]
    return path


def _best_way(node: Node, bounds: Bounds) -> int:
    """Returns the way of the largest upper confidence bound, the first of equals."""
    span = bounds.high - bounds.low
    tried = sum(node.visits) + sum(node.waiting)
    wide = EXPLORATION * math.sqrt(max(tried, 1))
    best, way = -math.inf, 0
    for i, prior in enumerate(node.prior):
        visits, waiting = node.visits[i], node.waiting[i]
        # Those who have not come back count as if they had found the worst.
        total = node.totals[i] + waiting * bounds.high if waiting else node.totals[i]
        mean = total / (visits + waiting) if visits + waiting else node.guesses[i]
        worth = (bounds.high - mean) / span if span > 0 else 0.0
        bound = worth + wide * prior / (1 + visits + waiting)
        if bound > best:
            best, way = bound, i
    return way


def _evaluate(paths: list[Path], evaluate: Evaluate) -> None:
    """Adds the states that the paths lead to; several paths may lead to one."""
    wanted = {}
    for path in paths:
        node, way = path[-1]
        if node.state.steps_left > 2:
            wanted[id(node), way] = (node, way)
    states = [after(node.state, node.paces[way]) for node, way in wanted.values()]
    if states:
        for (node, way), child in zip(wanted.values(), _nodes(states, evaluate), strict=True):
            node.children[way] = child


def _back_up(path: Path, bounds: Bounds) -> None:
    node, way = path[-1]
    child = node.children[way]
    cost = last_cost(after(node.state, node.paces[way])) if child is None else child.value
    for node, way in reversed(path):
        cost += node.steps[way]
        node.totals[way] += cost
        node.visits[way] += 1
        node.waiting[way] -= 1
        bounds.see(node.totals[way] / node.visits[way])


def _nodes(states: list[State], evaluate: Evaluate) -> Iterator[Node]:
    found = evaluate(np.array([(*state[:5], *state.returns) for state in states]))
    for state, *estimates in zip(states, *found, strict=True):
        yield _node(state, *estimates)


def _node(state: State, policy: Floats, costs: Floats, value: float) -> Node:
    paces = actions(state.steps_left)
    odds = np.exp(policy[paces] - policy[paces].max())
    ways = len(paces)
    shares = (share_sold(pace, state.steps_left) for pace in paces)
    market = state.spread, state.volatility, state.signal
    return Node(
        state,
        state.remaining * float(value),
        paces,
        (odds / odds.sum()).tolist(),
        [float(step_cost(state.remaining, share, *market)) for share in shares],
        (state.remaining * costs[paces]).tolist(),
        [0] * ways,
        [0.0] * ways,
        [0] * ways,
        [None] * ways,
    )


def _estimates(model: Predict, name: str) -> Evaluate:
    """Returns what asks a model whose input has that name."""

    def evaluate(states: Floats) -> Estimates:
        found = model({name: features(states).astype(np.float32)})
        return Estimates(found["policy"], found["costs"], found["value"][:, 0])

    return evaluate


@dataclass(frozen=True)
class Episode:
    """An order that was sold.

    Attributes:
        states: before each decision.
        paces: that were chosen.
        shortfall: what was paid, basis points of the order at the price of arrival.
    """

    states: list[State]
    paces: list[int]
    shortfall: float


def sell(states: list[State], returns: Floats, decide: Callable[[State], int]) -> Episode:
    """Returns what becomes of an order.

    Args:
        states: of every decision, in order; what is left is that of the first.
        returns: that follow them, basis points.
        decide: returns a pace.
    """
    left, shortfall = states[0].remaining, 0.0
    seen, paces = [], []
    for state, drift in zip(states, returns, strict=True):
        here = state._replace(remaining=left)
        pace = decide(here)
        share = share_sold(pace, here.steps_left)
        shortfall += float(step_cost(left, share, here.spread, 0.0, float(drift), 0.0))
        seen.append(here)
        paces.append(pace)
        left *= 1 - share
    shortfall += last_cost(seen[-1]._replace(remaining=left))
    return Episode(seen, paces, shortfall)


def execution(
    fp32: Predict, int8: Predict, rows: Batch, simulations: int = 64, leaves: int = 16
) -> dict[str, tuple[Floats, Floats]]:
    """Returns the figures of both models, each of which sells every order on the same prices.

    ``action_agreement``: share of an order's decisions in which the search chooses the pace that
    the search with FP32 chooses in the same state. ``shortfall``: implementation shortfall (Perold
    1988), basis points. ``simulations_per_second``: of the searches with each model.

    Args:
        fp32: the model that is replaced.
        int8: the model that replaces it.
        rows: decisions in the columns of ``parent_orders``, those of an order together; of them
            whole orders are sold. Columns: ``order``, ``next_return`` and those of a state.
        simulations: of every search.
        leaves: evaluated together.
    """
    (name,) = rows.inputs
    known = np.stack([rows.columns[column] for column in COLUMNS], axis=1)
    searches = {"fp32": _Search(_estimates(fp32, name), simulations, leaves)}
    searches["int8"] = _Search(_estimates(int8, name), simulations, leaves)
    same, paid = [], []
    for first in _whole_orders(rows.columns["order"]):
        here = slice(first, first + DECISIONS)
        states = [_state(row) for row in known[here]]
        returns = rows.columns["next_return"][here]
        sold = {key: sell(states, returns, one.decide) for key, one in searches.items()}
        both = zip(sold["fp32"].states, sold["fp32"].paces, strict=True)
        same.append(np.mean([searches["int8"].decide(state) == pace for state, pace in both]))
        paid.append((sold["fp32"].shortfall, sold["int8"].shortfall))
    speeds = (np.array([one.simulations_per_second]) for one in searches.values())
    return {
        "action_agreement": (np.ones(len(same)), np.array(same)),
        "shortfall": (np.array(paid)[:, 0], np.array(paid)[:, 1]),
        "simulations_per_second": (next(speeds), next(speeds)),
    }


@dataclass
class _Search:
    """Decides by searches; of states that come again, the first one is remembered."""

    evaluate: Evaluate
    simulations: int
    leaves: int
    decided: dict[State, int] = field(default_factory=dict)
    seconds: float = 0.0

    def decide(self, state: State) -> int:
        if state not in self.decided:
            start = time.perf_counter()
            root = search(state, self.evaluate, self.simulations, self.leaves)
            self.seconds += time.perf_counter() - start
            self.decided[state] = chosen(root)
        return self.decided[state]

    @property
    def simulations_per_second(self) -> float:
        return self.simulations * len(self.decided) / self.seconds


def _state(row: Floats) -> State:
    remaining, steps_left, volatility, spread, signal, *returns = row.tolist()
    return State(remaining, round(steps_left), volatility, spread, signal, tuple(returns))


def _whole_orders(orders: NDArray[np.generic]) -> list[int]:
    """Returns where orders begin that have all of their decisions."""
    starts = range(len(orders) - DECISIONS + 1)
    whole = (
        first
        for first in starts
        if (first == 0 or orders[first] != orders[first - 1])
        and orders[first + DECISIONS - 1] == orders[first]
    )
    return list(whole)


def regret(labels: Floats, predictions: Floats) -> float:
    """Returns what the pace of least predicted cost costs more than the best, basis points.

    Args:
        labels: exact costs of what is left, (rows, paces).
        predictions: likewise.
    """
    found = labels[np.arange(len(labels)), predictions.argmin(axis=1)]
    return float((found - labels.min(axis=1)).mean())


regret.better = "lower"  # type: ignore[attr-defined]


def best_pace(labels: Floats, predictions: Floats) -> float:
    """Returns the share of rows whose best pace has the least predicted cost."""
    found = labels[np.arange(len(labels)), predictions.argmin(axis=1)]
    return float((found <= labels.min(axis=1)).mean())
