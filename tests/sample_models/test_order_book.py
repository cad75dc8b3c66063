from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from support.sample_models import built, prepared

from qtool.data.batch import Batch
from qtool.data.generators import order_books
from qtool.data.generators.order_books import AHEAD, LEVELS, PAST, STRIDE
from sample_models.baselines.order_book import baselines, features
from sample_models.order_book import mirrored

COLUMNS = 4 * LEVELS


@pytest.fixture(params=["lstm", "tcn"])
def network(request):
    inputs = {"book": {"shape": [PAST, COLUMNS]}}
    return built("order_book", inputs, channels=4, branches=4, hidden=8, head=request.param)


def test_each_window_is_scored_alone(network):
    book = torch.randn(3, PAST, COLUMNS)
    with torch.no_grad():
        scores = network(book)
        alone = torch.cat([network(one[None]) for one in book])
    assert scores.shape == (3, 3)
    torch.testing.assert_close(scores, alone)


def test_a_level_is_read_as_price_and_volume(network):
    # The first convolution joins columns 0 and 1, 2 and 3, …: a volume is seen with its own price.
    first = network.levels[0]
    book = torch.zeros(1, 1, PAST, COLUMNS)
    book[..., 5] = 1.0
    with torch.no_grad():
        moved = (first(book) - first(torch.zeros_like(book))).abs().amax((0, 1, 2))
    assert moved.nonzero().flatten().tolist() == [2]


def test_exchanged_sides_turn_the_label_round():
    book = torch.arange(2 * COLUMNS, dtype=torch.float32).reshape(2, 1, COLUMNS)
    labels = torch.tensor([0, 1])
    inputs, turned = mirrored({"book": book}, labels, share=1.0)
    assert turned.tolist() == [2, 1]
    assert inputs["book"][0, 0, :8].tolist() == [-2, 3, 0, 1, -6, 7, -4, 5]
    again, back = mirrored(inputs, turned, share=1.0)
    assert torch.equal(again["book"], book)
    assert torch.equal(back, labels)
    kept, same = mirrored({"book": book}, labels, share=0.0)
    assert torch.equal(kept["book"], book)
    assert torch.equal(same, labels)


def test_it_reads_the_depth_of_obanalytics(monkeypatch, tmp_path):
    steps = PAST + AHEAD + 1 + STRIDE
    rows = [(0, 23_600 + side * level, 1e8, side) for level in range(1, 11) for side in (-1, 1)]
    # Two minutes later the best ask's volume counts the steps.
    rows += [(120_000 + step, 23_601, 1e8 * step, 1) for step in range(1, steps + 1)]
    times, ticks, volumes, sides = zip(*rows, strict=True)
    depth = {
        "timestamp": pa.array(np.array(times, "datetime64[ms]").astype("datetime64[us]")),
        "price": np.array(ticks) / 100,
        "volume": volumes,
        "side": ["bid" if side < 0 else "ask" for side in sides],
    }
    pq.write_table(pa.table(depth), tmp_path / "depth.parquet")
    found = prepared(monkeypatch, tmp_path, "order_book", tmp_path / "depth.parquet")
    assert found.schema.equals(order_books.SCHEMA)
    first, second = found.to_pylist()
    assert [step[1] for step in first["book"]] == list(range(1, PAST + 1))
    assert second["book"][0][1] == 1 + STRIDE
    # Levels one tick apart, the best 1 tick from the mid-price: 1e4 / 23,600 basis points.
    expected = [1e4 / 23_600, PAST, -1e4 / 23_600, 1, 2e4 / 23_600, 1, -2e4 / 23_600, 1]
    assert first["book"][-1][:8] == pytest.approx(expected, rel=1e-5)
    assert first["spread"] == pytest.approx(2e4 / 23_600, rel=1e-5)
    assert (first["direction"], first["next_bps"]) == (1, 0)


def batch(rows, seed):
    random = np.random.default_rng(seed)
    labels = random.integers(0, 3, rows)
    book = random.standard_normal((rows, PAST, COLUMNS)).astype(np.float32)
    book[:, -1, 3] += 3.0 * (labels - 1)  # the best bid's volume tells
    return Batch(np.arange(rows), labels, {"book": book})


def test_the_baselines_find_imbalance():
    training, evaluation = batch(400, 0), batch(200, 1)
    assert features(evaluation)[0, 0] == pytest.approx(
        evaluation.inputs["book"][0, -1, 3] - evaluation.inputs["book"][0, -1, 1]
    )
    for _, predictions in baselines(None, training, evaluation):
        assert predictions.sum(axis=1) == pytest.approx(np.ones(200))
        assert (predictions.argmax(axis=1) == evaluation.labels).mean() > 0.6
