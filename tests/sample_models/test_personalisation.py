from __future__ import annotations

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from support.online_retail import BAG, MUG, invoices, moment
from support.sample_models import built, prepared

from qtool.data.batch import Batch
from qtool.data.generators import shop_baskets
from qtool.data.generators.shop_orders import WORDS
from sample_models.baselines.personalisation import baselines
from sample_models.personalisation import sampled_softmax
from sample_models.prepare.personalisation import FEWEST_SALES, hashed
from sample_models.systems.personalisation import recommendations, top

INPUTS = {"history": {"shape": [4]}, "country": {"shape": [1], "cardinalities": [3]}}
ROWS = {
    "history": torch.tensor([[3, 5, 7, 0], [2, 4, 0, 0], [0, 0, 0, 0]]),
    "history_mask": torch.tensor([[1, 1, 1, 0], [1, 1, 0, 0], [0, 0, 0, 0]]),
    "last_words": torch.tensor([[4, 9], [1, 0], [0, 0]]),
    "country": torch.tensor([[1], [2], [0]]),
    "item": torch.tensor([[6], [3], [3]]),
    "words": torch.tensor([[8, 2], [4, 9], [4, 9]]),
    "about": torch.tensor([[1.0, 3.0], [0.5, 2.0], [0.5, 2.0]]),
    "is_customer": torch.tensor([[1.0], [1.0], [0.0]]),
}


@pytest.fixture
def towers():
    return built(
        "personalisation", INPUTS, items=10, words=10, width=8, hidden=[16, 16], embedding=4
    )


def test_the_vector_is_that_of_the_customer_or_of_the_item(towers):
    with torch.no_grad():
        outputs = towers(**ROWS)
    assert list(outputs) == ["embedding", "of_customer", "of_item"]
    torch.testing.assert_close(outputs["embedding"][:2], outputs["of_customer"][:2])
    torch.testing.assert_close(outputs["embedding"][2], outputs["of_item"][2])
    # The same item, in a row of a customer and of its own.
    torch.testing.assert_close(outputs["of_item"][1], outputs["of_item"][2])
    assert torch.isfinite(outputs["embedding"]).all()


def test_a_customer_is_answered_without_a_look_at_the_item(towers):
    other = {"item": torch.tensor([[1]] * 3), "words": torch.tensor([[5, 5]] * 3)}
    other["about"] = torch.zeros(3, 2)
    with torch.no_grad():
        here, there = (towers(**rows)["embedding"] for rows in (ROWS, ROWS | other))
    assert torch.equal(here[:2], there[:2])
    assert not torch.allclose(here[2], there[2])


def test_an_item_is_found_without_a_look_at_a_customer(towers):
    other = {name: ROWS[name].flip(0) for name in ("history", "history_mask", "country")}
    with torch.no_grad():
        here, there = (towers(**rows)["embedding"] for rows in (ROWS, ROWS | other))
    assert torch.equal(here[2], there[2])


def test_what_pads_a_history_changes_nothing(towers):
    longer = built(
        "personalisation", INPUTS | {"history": {"shape": [6]}}, items=10, words=10, width=8,
        hidden=[16, 16], embedding=4,
    )  # fmt: skip
    state = towers.state_dict()
    state["positions"] = torch.cat([state["positions"], torch.randn(2, 8)])
    longer.load_state_dict(state)
    padded = {
        name: torch.nn.functional.pad(ROWS[name], (0, 2)) for name in ("history", "history_mask")
    }
    with torch.no_grad():
        torch.testing.assert_close(
            towers(**ROWS)["of_customer"][:2], longer(**ROWS | padded)["of_customer"][:2]
        )


def test_the_loss_of_three_customers_by_hand():
    customer = torch.tensor([[2.0, 0.0], [0.0, 1.0], [0.0, 3.0], [9.0, 9.0]])
    item = torch.tensor([[1.0, 0.0], [0.0, 5.0], [0.0, 5.0], [9.0, 9.0]])
    labels = torch.tensor([4, 7, 7, 1])
    about = torch.tensor([[0.0, 1.0], [0.0, 2.0], [0.0, 2.0], [0.0, 9.0]])
    inputs = {"is_customer": torch.tensor([[1.0], [1.0], [1.0], [0.0]]), "about": about}
    outputs = {"of_customer": customer, "of_item": item, "embedding": item}
    loss = sampled_softmax(outputs, labels, inputs, temperature=0.5)
    # Logits less the logarithm of sales: 2 - 1 and twice 0 - 2; 0 - 1 and 2 - 2, the other row of
    # item 7 being no wrong answer. The last row is no customer's.
    first = np.log(np.exp(1) + 2 * np.exp(-2)) - 1
    others = np.log(np.exp(-1) + np.exp(0))
    assert loss.item() == pytest.approx((first + 2 * others) / 3, rel=1e-6)


def test_a_batch_of_items_has_no_loss():
    outputs = {"of_customer": torch.ones(2, 2), "of_item": torch.ones(2, 2)}
    inputs = {"is_customer": torch.zeros(2, 1), "about": torch.zeros(2, 2)}
    assert sampled_softmax(outputs, torch.tensor([1, 2]), inputs).item() == 0


def test_the_first_items_by_cosine():
    items = np.array([[0.1, 0.0], [5.0, 5.0], [0.0, 9.0]])
    best = top(np.array([[1.0, 0.1], [0.0, 1.0]]), items, 2)
    assert [set(row) for row in best.tolist()] == [{0, 1}, {1, 2}]


def test_figures_of_recommendations_by_hand():
    vectors = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0], [0.0, 1.0]], np.float32)
    columns = {
        "is_customer": np.array([0.0, 0, 1, 1]),
        "item": np.array([1.0, 2, 1, 1]),
        "price": np.array([3.0, 8, 3, 3]),
        "sales": np.array([2.0, 0, 2, 2]),
    }
    rows = Batch(np.arange(4), None, {"x": vectors}, columns)

    def fp32(inputs):
        return {"embedding": inputs["x"]}

    def int8(inputs):
        return {"embedding": inputs["x"] * np.array([[1], [1], [1], [-1]], np.float32)}

    found = recommendations(fp32, int8, rows, shown=1)
    before, after = found["revenue"]
    assert (before.tolist(), after.tolist()) == ([3, 0], [3, 3])
    before, after = found["novelty"]
    # Shares of 3/4 and 1/4, one more sale of each.
    np.testing.assert_allclose(before, [-np.log2(0.75), 2])
    np.testing.assert_allclose(after, [-np.log2(0.75)] * 2)


def batch(history, item, asks):
    return Batch(
        np.arange(len(item)), np.array(item),
        {
            "history": np.array(history),
            "item": np.array(item)[:, None],
            "is_customer": np.array(asks, np.float32)[:, None],
        },
    )  # fmt: skip


def test_baselines_rank_by_hand(monkeypatch):
    monkeypatch.setattr("sample_models.baselines.personalisation.FACTORS", 2)
    training = batch([[1, 0], [1, 0], [3, 4], [4, 0]], [2, 2, 2, 3], [1] * 4)
    evaluation = batch([[0, 0]] * 4 + [[1, 0], [4, 0]], [1, 2, 3, 4, 2, 3], [0] * 4 + [1] * 2)
    found = dict(baselines(None, training, evaluation))
    assert list(found) == ["popularity", "item-to-item cosine", "truncated SVD"]

    def ranked(vectors):
        unit = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
        return (unit[4:] @ unit[:4].T).round(6)

    assert ranked(found["popularity"])[0].argsort()[::-1][:2].tolist() == [1, 2]
    cosine = ranked(found["item-to-item cosine"])
    # Item 1 is with 2 in both of its histories, 4 with 3 in both and with 2 in one.
    assert cosine[0].argmax() == 1
    assert cosine[1].argsort()[::-1][:2].tolist() == [2, 1]
    assert cosine[1, 2] / cosine[1, 1] == pytest.approx((2 / 2) / (1 / np.sqrt(6)), rel=1e-5)


def test_words_are_numbered_by_their_hash():
    found = hashed("Set of 3 BAGS, red & red")
    assert len(found) == 5
    assert found[3] == found[4]
    assert found.min() >= 1
    assert found.max() < WORDS
    np.testing.assert_array_equal(found[:3], hashed("set OF bags"))


def test_personalisation_reads_online_retail(monkeypatch, tmp_path):
    products = [(f"{21000 + i}", f"MUG NUMBER {'ABCDE'[i]}") for i in range(5)]
    lines = []
    for order in range(20):
        for code, name in products:
            lines.append((f"{536365 + order}", code, name, 2, moment(order), 1.5, 17850, "EIRE"))
        lines.append(lines[-1])
    lines.append(("536999", *BAG, 1, moment(19, 12), 1.0, 17850, "EIRE"))
    lines.append(("537000", *MUG, -1, moment(19, 13), 1.0, 17850, "EIRE"))
    pq.write_table(invoices(*lines), tmp_path / "file.parquet")
    found = prepared(monkeypatch, tmp_path, "personalisation", tmp_path / "file.parquet")
    assert found.schema.equals(shop_baskets.SCHEMA)
    rows = found.to_pylist()
    items = [row for row in rows if not row["is_customer"]]
    # The bag is sold too seldom, the mug only came back; both catalogues have the five others.
    assert [row["item"] for row in items] == [1, 2, 3, 4, 5] * 2
    assert items[0]["sales"] == 13 >= FEWEST_SALES
    customers = rows[len(items) :]
    assert len(customers) == 2 + 19 * 5
    assert customers[0]["history"] == [3, 2, 1]
    assert (customers[0]["item"], customers[0]["wanted"]) == (4, 4)
    assert customers[-1]["customer"] == "17850"
    assert customers[-1]["country"] == "EIRE"
