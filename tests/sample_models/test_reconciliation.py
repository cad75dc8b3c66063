from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.sample_models import built, prepared

from qtool.data.batch import Batch
from qtool.data.generators.bank_statements import SCHEMA
from qtool.data.generators.remittances import ledger_text, tokens
from sample_models.systems.reconciliation import assigned, posting

BANK, LEDGER, NUMBERS = 10, 8, 3
INPUTS = {"bank": {"shape": [BANK]}, "ledger": {"shape": [LEDGER]}, "numbers": {"shape": [NUMBERS]}}


@pytest.fixture
def matcher():
    return built("reconciliation", INPUTS, vocabulary=64, width=16, hidden=[8, 8])


def texts(rows):
    random = torch.Generator().manual_seed(0)
    given = {"numbers": torch.randn(rows, NUMBERS, generator=random)}
    for name, steps in (("bank", BANK), ("ledger", LEDGER)):
        lengths = torch.randint(2, steps + 1, (rows, 1), generator=random)
        mask = (torch.arange(steps) < lengths).float()
        found = torch.randint(1, 64, (rows, steps), generator=random)
        given |= {name: found * mask.long(), f"{name}_mask": mask}
    return given


def test_each_pair_is_scored_alone(matcher):
    given = texts(6)
    with torch.no_grad():
        scores = matcher(**given)
        alone = [matcher(**{name: part[[i]] for name, part in given.items()}) for i in range(6)]
    assert scores.shape == (6,)
    torch.testing.assert_close(scores, torch.cat(alone))


def test_what_stands_behind_the_mask_is_not_read(matcher):
    given = texts(6)
    given["bank_mask"][:, 5:] = 0
    given["ledger_mask"][:, 5:] = 0
    with torch.no_grad():
        scores = matcher(**given)
        given["bank"][:, 6:], given["ledger"][:, 6:] = 7, 9  # 5 is a neighbour of the last token
        torch.testing.assert_close(matcher(**given), scores)


def test_untrained_a_token_finds_itself_in_the_other_text(matcher):
    x, y = matcher.table(torch.tensor([[5, 9]])), matcher.table(torch.tensor([[9, 4, 7]]))
    mask = torch.ones(1, 3)
    found = matcher._aligned(x @ y.transpose(1, 2) * 50, mask, y)
    torch.testing.assert_close(found[0, 1], y[0, 0], atol=0.05, rtol=0.05)
    hidden = matcher._aligned(x @ y.transpose(1, 2) * 50, torch.tensor([[0.0, 1, 1]]), y)
    assert not torch.allclose(hidden[0, 1], y[0, 0], atol=0.05)


def pairs(statement, line, item, match=None):
    columns = {
        "statement": np.array(statement, object),
        "line": np.array(line, float),
        "item": np.array(item, float),
    }
    labels = None if match is None else np.array(match, np.int8)
    count = len(line)
    logits = np.zeros((count, 1), np.float32)
    return Batch(np.arange(count), labels, {"logits": logits}, columns)


def scored(logits):
    def predict(inputs):
        assert len(inputs["logits"]) == len(logits)
        return {"output": np.array(logits, np.float32)}

    return predict


def test_postings_and_their_cost_by_hand():
    rows = pairs(
        ["b", "b", "b", "a", "a", "a", "c"],
        [3, 3, 4, 1, 1, 2, 5],
        [7, 8, 8, 7, 8, 8, 9],
        [1, 0, 1, 1, 0, 0, 0],
    )
    high, low = 3.0, -3.0
    # a: line 1 has the right item and nothing else. b: both items of line 3 score, but line 4 needs
    # the second. c: nothing is posted, and nothing is to be.
    good = [high, high + 1, high, high, low, low, low]
    # a: the right pair is missed, a wrong one posted. c: a wrong posting.
    bad = [high, high + 1, high, low, low, high, high]
    found = posting(scored(good), scored(bad), rows, 0.8, false_match=25, missed=4)
    f1, cost = found["match_f1"], found["false_match_cost"]
    assert f1[0].tolist() == [1, 1, 1]
    assert f1[1].tolist() == [0, 1, 0]
    assert cost[0].tolist() == [0, 0, 0]
    assert cost[1].tolist() == [29 / 2, 0, 25]


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6))
def test_no_assignment_is_better(seed):
    random = np.random.default_rng(seed)
    lines, items = random.integers(1, 5, 2)
    kept = random.random((lines, items)) < 0.7
    kept[0, 0] = True
    line, item = np.nonzero(kept)
    scores = random.random(len(line))
    rows = pairs(["a"] * len(line), line, item)
    posted = assigned(scores, rows, [np.arange(len(line))], 0.4)
    assert (scores[posted] >= 0.4).all()
    assert len(set(line[posted])) == len(set(item[posted])) == posted.sum()

    gain = np.zeros((max(lines, items),) * 2)
    gain[line, item] = np.where(scores >= 0.4, scores, 0)
    order = np.arange(len(gain))
    best = max(gain[order, list(columns)].sum() for columns in permutations(order))
    assert scores[posted].sum() == pytest.approx(best)


def test_reconciliation_reads_online_retail(monkeypatch, tmp_path):
    lines = ["InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID,Country"]
    for number in range(20):
        country = "France" if number % 5 == 0 else "United Kingdom"
        start = f"{536365 + number},85123A,HOLDER,6,2010-12-{1 + number:02} 08:26:00"
        lines += [f"{start},2.55,{17850 + number % 7},{country}"] * 2
    lines += [
        "C536379,D,Discount,-1,2010-12-01 09:41:00,27.5,14527,United Kingdom",
        "536544,22960,JAM,1,2010-12-01 14:32:00,4.25,,United Kingdom",
    ]
    (tmp_path / "retail.csv").write_text("\n".join(lines) + "\n")
    table = prepared(monkeypatch, tmp_path, "reconciliation", tmp_path / "retail.csv")
    assert table.schema.equals(SCHEMA)
    rows = table.to_pylist()
    assert {row["item"] for row in rows} <= set(range(536365, 536385))
    assert {row["ledger_amount"] for row in rows} == {30.6}
    assert {row["kind"] for row in rows} > {"full", "foreign"}
    assert any(row["match"] for row in rows)
    first = next(row for row in rows if row["item"] == 536365)
    from qtool.data.generators.remittances import Invoice

    assert first["ledger"] == tokens(ledger_text(Invoice(536365, 17850, True, 0, 0.0)))
    assert first["statement"] == str(first["date"])
