from __future__ import annotations

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from sklearn.cluster import KMeans
from support.online_retail import BAG, MUG, invoices, moment
from support.sample_models import built, prepared

from qtool.data.batch import Batch
from qtool.data.generators import shop_customers
from qtool.data.generators.shop_orders import GROUPS
from sample_models.prepare.segmentation import group_of, read_orders
from sample_models.segmentation import restored_loss
from sample_models.systems.segmentation import nearest, segments


def test_the_vector_does_not_depend_on_what_is_hidden_in_training():
    model = built("segmentation", {"profile": {"shape": [5]}}, hidden=[8, 8], embedding=3)
    profile = torch.randn(7, 5)
    with torch.no_grad():
        outputs = model(profile)
        again = model(profile)
    assert list(outputs) == ["embedding", "restored"]
    assert outputs["embedding"].shape == (7, 3)
    assert outputs["restored"].shape == profile.shape
    torch.testing.assert_close(outputs["embedding"], again["embedding"])
    model.train()
    with torch.no_grad():
        assert not torch.equal(model(profile)["embedding"], outputs["embedding"])


def test_the_loss_is_of_the_profile_as_it_is():
    outputs = {"embedding": torch.zeros(1, 2), "restored": torch.tensor([[1.0, 2.0]])}
    loss = restored_loss(outputs, None, {"profile": torch.tensor([[1.0, 5.0]])})
    assert loss.item() == 4.5


def test_the_nearest_centres_are_those_of_scikit_learn():
    random = np.random.default_rng(0)
    vectors = random.standard_normal((600, 16)).astype(np.float32)
    fitted = KMeans(6, random_state=0).fit(vectors)
    np.testing.assert_array_equal(nearest(vectors, fitted.cluster_centers_), fitted.labels_)
    other = random.standard_normal((500, 16)).astype(np.float32)
    np.testing.assert_array_equal(nearest(other, fitted.cluster_centers_), fitted.predict(other))


def test_figures_of_two_segments_by_hand():
    profile = np.array([[0.0], [1.0], [10.0], [11.0]], np.float32)
    spend = np.expm1([1.0, 3.0, 5.0, 5.0])
    rows = Batch(np.arange(4), None, {"profile": profile}, {"spend_next_90d": spend})

    def fp32(inputs):
        return {"embedding": inputs["profile"]}

    def int8(inputs):  # the second customer is taken for one of the other segment
        return {"embedding": np.where(inputs["profile"] == 1, 9, inputs["profile"])}

    found = segments(fp32, int8, rows, clusters=2)
    before, after = found["spend_error"]
    np.testing.assert_allclose(before, [1, 1, 0, 0])
    np.testing.assert_allclose(after, [1, 4, 0, 0])
    # Customer 0: 1 to its own segment, 10.5 to the other one.
    before, after = found["silhouette"]
    assert before[0] == pytest.approx(1 - 1 / 10.5)
    assert after[0] == 0  # alone
    assert after[1] == pytest.approx(1 - 1.5 / 9)


def test_segmentation_reads_online_retail(monkeypatch, tmp_path):
    uk, france = "United Kingdom", "France"
    table = invoices(
        ("536365", *BAG, 10, moment(0), 2.0, 17850, uk),
        ("536366", *MUG, 4, moment(30), 5.0, 17850, uk),
        ("C536367", *BAG, -10, moment(31), 2.0, 17850, uk),
        ("536368", *BAG, 5, moment(60), 2.0, 17850, uk),
        ("536369", *BAG, 5, moment(61), 2.0, 12583, france),
        ("536370", "POST", "POSTAGE", 1, moment(61), 18.0, 12583, france),
        ("536371", *MUG, 1, moment(62), 5.0, None, uk),
        ("536372", *MUG, 20, moment(150), 5.0, 17850, uk),
    )
    pq.write_table(table, tmp_path / "online_retail.parquet")
    found = prepared(monkeypatch, tmp_path, "segmentation", tmp_path / "online_retail.parquet")
    assert found.schema.equals(shop_customers.SCHEMA)
    rows = found.to_pylist()
    # Customer 12583 has one order only.
    assert {row["customer"] for row in rows} == {"17850"}
    assert len(rows) == len(shop_customers.SNAPSHOTS)
    first = rows[0]
    assert first["date"].isoformat() == "2011-03-15"
    assert (first["orders"], first["credit_notes"], first["spend"]) == (3, 1, 50)
    assert (first["abroad"], first["spend_next_90d"]) == (0, 100)
    assert first["returned_share"] == pytest.approx(0.4)
    assert first["recency_days"] == pytest.approx(104 - 60 - 10 / 24, rel=1e-6)


def test_lines_keep_the_order_of_their_entry(tmp_path):
    lines = [("536365", code, name, 1, moment(0), 1.0, 17850, "EIRE") for code, name in (MUG, BAG)]
    lines.append(("536364", *BAG, 1, moment(3), 1.0, 12583, "EIRE"))
    pq.write_table(invoices(*lines), tmp_path / "file.parquet")
    found = read_orders(tmp_path / "file.parquet")
    assert found.customers.tolist() == ["12583", "17850"]
    assert [found.descriptions[i - 1] for i in found.lines.product] == [BAG[1], MUG[1], BAG[1]]
    assert found.lines.customer.tolist() == [0, 1, 1]


@pytest.mark.parametrize(
    ("text", "group"),
    [
        ("jumbo bag red retrospot", "bags"),
        ("STRAWBERRY CERAMIC MUG", "kitchen"),
        ("CHRISTMAS GIFT BAG", "christmas"),
        ("FELTCRAFT", "other"),
    ],
)
def test_groups_follow_from_words(text, group):
    assert GROUPS[group_of(text)] == group
