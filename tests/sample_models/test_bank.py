from __future__ import annotations

import pytest
import torch
from support.sample_models import built, prepared

from qtool.data.generators import bank_calls


def test_the_bank_model_scores_each_row_alone():
    inputs = {"numbers": {"shape": [3]}, "categories": {"shape": [2], "cardinalities": [4, 5]}}
    model = built("bank", inputs, width=16, hidden=[8, 8])
    numbers, categories = torch.randn(6, 3), torch.tensor([[1, 4]] * 6)
    with torch.no_grad():
        scores = model(numbers, categories)
        alone = torch.cat([model(numbers[[i]], categories[[i]]) for i in range(6)])
    assert scores.shape == (6,)
    torch.testing.assert_close(scores, alone)


def test_bank_reads_the_file_of_uci(monkeypatch, tmp_path):
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
    table = prepared(monkeypatch, tmp_path, "bank", tmp_path / "full.csv")
    assert table.schema.equals(bank_calls.SCHEMA)
    found = table.to_pylist()
    assert [(row["contacted"], row["pdays"], row["y"]) for row in found] == [(0, 0, 0), (1, 0, 1)]
    assert [row["age_group"] for row in found] == ["under 30", "60 and over"]
    assert found[1]["job"] == "student"


def test_it_is_one_file(monkeypatch, tmp_path):
    with pytest.raises(SystemExit):
        prepared(monkeypatch, tmp_path, "bank", "a.csv", "b.csv")
