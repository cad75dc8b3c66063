"""The sample models as configs build them, and what brings public files into their columns."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from qtool.config.model import TorchModel
from qtool.data.generators import bank_calls, cash_machines, report_questions
from qtool.training.module import build_module

ROOT = Path(__file__).parents[1]
PAST, AHEAD = cash_machines.PAST, cash_machines.AHEAD


@pytest.fixture
def prepare(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT))
    from sample_models import prepare

    return prepare


def built(name, inputs, **arguments):
    torch.manual_seed(0)
    section = TorchModel(torch=f"sample_models.{name}:build", pythonpath=ROOT, arguments=arguments)
    return build_module(section, inputs).eval()


def written(prepare, monkeypatch, tmp_path, *arguments):
    output = tmp_path / "out.parquet"
    monkeypatch.setattr(sys, "argv", ["prepare.py", *map(str, arguments), str(output)])
    prepare.main()
    return pq.read_table(output)


def test_the_bank_model_scores_each_row_alone():
    inputs = {"numbers": {"shape": [3]}, "categories": {"shape": [2], "cardinalities": [4, 5]}}
    model = built("bank", inputs, width=16, hidden=[8, 8])
    numbers, categories = torch.randn(6, 3), torch.tensor([[1, 4]] * 6)
    with torch.no_grad():
        scores = model(numbers, categories)
        alone = torch.cat([model(numbers[[i]], categories[[i]]) for i in range(6)])
    assert scores.shape == (6,)
    torch.testing.assert_close(scores, alone)


@pytest.fixture
def forecaster():
    inputs = {"history": {"shape": [PAST]}, "calendar": {"shape": [2]}}
    return built("cash_flow", inputs, days=AHEAD, quantiles=3, channels=8, layers=3)


def test_forecasts_grow_with_the_history(forecaster):
    history, calendar = torch.rand(4, PAST) + 0.5, torch.randn(4, 2)
    with torch.no_grad():
        forecast = forecaster(history, calendar)
        assert forecast.shape == (4, AHEAD * 3)
        torch.testing.assert_close(forecaster(10 * history, calendar), 10 * forecast)
        assert torch.isfinite(forecaster(0 * history, calendar)).all()


def test_without_what_was_learned_the_forecast_is_the_mean_of_the_weekday(forecaster):
    torch.nn.init.zeros_(forecaster.head.weight)
    torch.nn.init.zeros_(forecaster.head.bias)
    weeks = torch.arange(PAST // 7)[:, None] + 10.0 * torch.arange(7)
    history = weeks.reshape(1, PAST)
    with torch.no_grad():
        forecast = forecaster(history, torch.zeros(1, 2)).reshape(AHEAD, 3)
    expected = ((PAST // 7 - 1) / 2 + 10.0 * torch.arange(7)).repeat(AHEAD // 7)
    torch.testing.assert_close(forecast, expected[:, None].expand(AHEAD, 3))


@pytest.fixture
def encoder():
    return built("retrieval", {"tokens": {"shape": [8]}}, vocabulary=512, embedding=256, width=16)


def test_padding_changes_no_embedding(encoder):
    tokens = torch.tensor([[7, 300, 12, 0, 0, 0, 0, 0], [7, 300, 12, 5, 6, 8, 1, 2]])
    mask = torch.tensor([[1, 1, 1, 0, 0, 0, 0, 0]] * 2)
    with torch.no_grad():
        padded, filled = encoder(tokens, mask)
    torch.testing.assert_close(padded, filled)


def test_untrained_it_ranks_by_shared_words_the_rare_ones_first(encoder):
    texts = [[500, 4], [500, 9], [9, 4], [17, 40]]
    tokens = torch.zeros(4, 8, dtype=torch.int64)
    for row, text in enumerate(texts):
        tokens[row, :2] = torch.tensor(text)
    with torch.no_grad():
        vectors = torch.nn.functional.normalize(encoder(tokens, (tokens > 0).long()), dim=1)
    similar = (vectors @ vectors[0])[1:]
    assert similar.argsort(descending=True).tolist() == [0, 1, 2]
    assert abs(similar[2]) < 0.3


def test_bank_reads_the_file_of_uci(prepare, monkeypatch, tmp_path):
    texts = {"job": "student", "marital": "single", "education": "basic.9y", "default": "no"}
    texts |= {"housing": "yes", "loan": "no", "contact": "cellular", "month": "mar"}
    texts |= {"day_of_week": "fri", "poutcome": "nonexistent"}
    counts = {"duration": 210, "campaign": 2, "previous": 0}
    indicators = dict.fromkeys(bank_calls.INDICATORS, 1.5)
    rows = [
        {"age": 23, **texts, **counts, "pdays": 999, **indicators, "y": "no"},
        {"age": 61, **texts, **counts, "pdays": 0, **indicators, "y": "yes"},
    ]
    lines = [";".join(f'"{name}"' for name in rows[0])]
    lines += [
        ";".join(f'"{value}"' if isinstance(value, str) else str(value) for value in row.values())
        for row in rows
    ]
    (tmp_path / "full.csv").write_text("\n".join(lines) + "\n")
    table = written(prepare, monkeypatch, tmp_path, "bank", tmp_path / "full.csv")
    assert table.schema.equals(bank_calls.SCHEMA)
    found = table.to_pylist()
    assert [(row["contacted"], row["pdays"], row["y"]) for row in found] == [(0, 0, 0), (1, 0, 1)]
    assert [row["age_group"] for row in found] == ["under 30", "60 and over"]
    assert found[1]["job"] == "student"


def test_gaps_get_the_same_weekday_of_the_week_before(prepare):
    amounts = np.arange(21.0)[:, None].repeat(2, axis=1)
    amounts[[2, 10, 17], 0] = np.nan
    filled = prepare.without_gaps(amounts)
    assert np.isnan(amounts).sum() == 3
    # Day 2 is in the first week, day 17 follows a gap that was filled with day 3.
    assert filled[[2, 10, 17], 0].tolist() == [9, 3, 3]
    known = ~np.isnan(amounts)
    np.testing.assert_array_equal(filled[known], amounts[known])


def test_cash_flow_reads_the_monash_file_and_a_wide_table_alike(prepare, monkeypatch, tmp_path):
    days = PAST + AHEAD + 3
    amounts = np.random.default_rng(0).random((days, 2)).round(3)
    series = [[str(amount) for amount in one] for one in amounts.T]
    series[1][9] = "?"
    lines = ["# a comment", "@relation NN5", "@frequency daily", "@data"]
    lines += [f"T{i}:1996-03-18 00-00-00:{','.join(one)}" for i, one in enumerate(series, 1)]
    (tmp_path / "nn5.tsf").write_text("\n".join(lines) + "\n")
    found = written(prepare, monkeypatch, tmp_path, "cash_flow", tmp_path / "nn5.tsf")
    assert found.schema.equals(cash_machines.SCHEMA)
    assert found["machine"].to_pylist() == ["T1", "T2"]
    assert found["history"][1].as_py()[9 - 3] == np.float32(amounts[9 - 7, 1])

    wide = {"date": np.datetime64("1996-03-18", "us") + np.arange(days) * np.timedelta64(1, "D")}
    for number, one in enumerate(series, 1):
        wide[f"T{number}"] = [None if text == "?" else float(text) for text in one]
    pq.write_table(pa.table(wide), tmp_path / "wide.parquet")
    other = written(prepare, monkeypatch, tmp_path, "cash_flow", tmp_path / "wide.parquet")
    assert other.equals(found)


REPORT = {
    "table": {"uid": "t1", "table": [["", "2019", "2018"], ["Total sales", "1,496.5", "1,202.9"]]},
    "paragraphs": [
        {"uid": "p1", "order": 1, "text": "Our sales are of fixed price contracts."},
        {"uid": "p2", "order": 2, "text": "Contracts are paid in 2019."},
    ],
    "questions": [
        {"question": "What were total sales in 2019?", "answer_from": "table-text",
         "rel_paragraphs": ["2"]},
        {"question": "When are contracts paid?", "answer_from": "text", "rel_paragraphs": ["2"]},
    ],
}  # fmt: skip


def test_retrieval_reads_tat_qa(prepare, monkeypatch, tmp_path):
    (tmp_path / "dev.json").write_text(json.dumps([REPORT]))
    table = written(prepare, monkeypatch, tmp_path, "retrieval", tmp_path / "dev.json")
    assert table.schema.equals(report_questions.SCHEMA)
    rows = table.to_pylist()
    assert [(row["passage"], row["is_question"]) for row in rows] == [
        ("t1", False), ("p1", False), ("p2", False), ("t1", True), ("p2", True)
    ]  # fmt: skip
    # From 3 on: 2019, are, contracts, sales, in, paid, total; the others occur once.
    assert rows[0]["tokens"] == [2, 3, 9, 6]
    assert rows[4]["tokens"] == [1, 4, 5, 8]


def test_words_are_letters_and_years(prepare):
    text = "At 31 December 2019, sales of $2,019 (2018: 20.19) rose 1,996.5 m; note-7B."
    found = ["at", "december", "2019", "sales", "of", "2018", "rose", "m", "note", "b"]
    assert prepare.words(text) == found


def test_one_file_but_for_retrieval(prepare, monkeypatch, tmp_path):
    with pytest.raises(SystemExit):
        written(prepare, monkeypatch, tmp_path, "bank", "a.csv", "b.csv")


def test_rows_without_a_partner_become_excerpts_of_longer_ones(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT))
    from sample_models.retrieval import excerpts

    lengths = torch.tensor([30, 5, 25, 4, 10, 9])
    labels = torch.tensor([1, 2, 3, 4, 7, 7])  # the last two have each other
    mask = (torch.arange(32) < lengths[:, None]).long()
    tokens = torch.arange(100, 6 * 32 + 100).reshape(6, 32) * mask
    torch.manual_seed(3)
    inputs, found = excerpts({"tokens": tokens, "mask": mask}, labels)
    assert found.tolist() == [1, 1, 3, 3, 7, 7]
    kept = [0, 2, 4, 5]
    assert torch.equal(inputs["tokens"][kept], tokens[kept])
    assert torch.equal(inputs["mask"][kept], mask[kept])
    for excerpt, source in ((1, 0), (3, 2)):
        asked, *words = inputs["tokens"][excerpt][inputs["mask"][excerpt] == 1].tolist()
        assert asked == 1
        assert 6 <= len(words) <= 20
        assert words == list(range(words[0], words[0] + len(words)))
        assert set(words) <= set(tokens[source, 1:].tolist())
        assert (inputs["tokens"][excerpt] > 0).sum() == 1 + len(words)
    assert labels.tolist() == [1, 2, 3, 4, 7, 7]  # the rows that are kept for the next epoch


def test_the_loss_of_questions_and_passages_by_hand(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT))
    from sample_models.retrieval import question_loss

    # Questions along the first and the second axis, passages alike and one that nobody asks for.
    embeddings = torch.tensor([[2.0, 0.0], [0.0, 1.0], [3.0, 0.0], [0.0, 4.0], [-1.0, 0.0]])
    tokens = torch.tensor([[1, 5], [1, 6], [2, 5], [2, 6], [2, 7]])
    labels = torch.tensor([1, 2, 1, 2, 3])
    loss = question_loss({"e": embeddings}, labels, {"tokens": tokens}, temperature=1.0)
    # Similarities of the questions: 1, 0, -1 and 0, 1, 0; of the asked passages: 1, 0 and 0, 1.
    e = np.e
    there = (np.log(1 + 1 / e + 1 / e**2) + np.log(1 + 2 / e)) / 2
    back = np.log(1 + 1 / e)
    assert loss.item() == pytest.approx((there + back) / 2, rel=1e-6)


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
    monkeypatch.syspath_prepend(str(ROOT))
    from sample_models import baselines

    path = str(ROOT / "configs" / f"{config}.yaml")
    monkeypatch.setattr(sys, "argv", ["baselines.py", path, "--set", f"data.source.rows={rows}"])
    baselines.main()
    found = dict(line.split(": ", 1) for line in capsys.readouterr().out.splitlines())
    assert list(found) == names
    for figures in found.values():
        values = [float(figure.rsplit(" ", 1)[1]) for figure in figures.split(", ")]
        assert len(values) >= 4
        assert np.isfinite(values).all()


def test_bm25_of_two_passages_by_hand(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT))
    from sample_models.baselines import _bm25

    tokens = np.array([[2, 5, 6, 0, 0], [2, 5, 7, 8, 9], [1, 5, 6, 0, 0], [1, 7, 0, 0, 0]])
    vectors = _bm25(tokens, np.array([False, False, True, True]))
    lengths = np.linalg.norm(vectors[:2], axis=1)
    assert lengths[0] == pytest.approx(lengths[1])  # so that the cosine is the product
    products = vectors[2:] @ vectors[:2].T
    # Word 5 is in both passages, 6 and 7 are in one; lengths are 2 and 4, 3 on average.
    both, one = np.log1p(0.5 / 2.5), np.log1p(1.5 / 1.5)
    short, long = 1 / (1 + 1.2 * (0.25 + 0.75 * 2 / 3)), 1 / (1 + 1.2 * (0.25 + 0.75 * 4 / 3))
    expected = [[(both + one) * short, both * long], [0, one * long]]
    np.testing.assert_allclose(products, expected, rtol=1e-12)
