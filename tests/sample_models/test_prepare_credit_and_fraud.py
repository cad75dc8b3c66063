from __future__ import annotations

import pyarrow as pa
import pyarrow.csv as pa_csv
import pytest
from support.sample_models import prepared

from qtool.data.generators import company_accounts, insurance_claims


def test_bankruptcy_reads_the_arff_file_and_a_table_alike(monkeypatch, tmp_path):
    rows = [[str(number / 8) for number in range(1, 65)] for _ in range(2)]
    rows[1][36] = rows[1][26] = "?"
    head = ["@relation accounts", *(f"@attribute Attr{n} numeric" for n in range(1, 65))]
    lines = [*head, "@attribute class {0,1}", "@data"]
    lines += [",".join([*row, str(label)]) for row, label in zip(rows, (0, 1), strict=True)]
    (tmp_path / "5year.arff").write_text("\n".join(lines) + "\n")
    found = prepared(monkeypatch, tmp_path, "credit_bankruptcy", tmp_path / "5year.arff")
    assert found.schema.equals(company_accounts.SCHEMA)
    first, second = found.to_pylist()
    # In per cent, but for days.
    assert (first["Attr1"], first["Attr20"], first["class"]) == (12.5, 2.5, 0)
    assert (second["Attr37"], second["Attr27"], second["class"]) == (None, None, 1)
    assert [second[f"missing_{n}"] for n in company_accounts.GAPS] == [0, 0, 1, 0, 1, 0, 0]

    names = [*company_accounts.RATIOS, "class"]
    values = [[None if text == "?" else float(text) for text in row] for row in rows]
    columns = zip(*[[*row, label] for row, label in zip(values, (0, 1), strict=True)], strict=True)
    pa_csv.write_csv(pa.table(dict(zip(names, columns, strict=True))), tmp_path / "table.csv")
    other = prepared(monkeypatch, tmp_path, "credit_bankruptcy", tmp_path / "table.csv")
    assert other.equals(found)


def test_claims_keep_the_columns_of_the_generator(monkeypatch, tmp_path):
    source = insurance_claims.InsuranceClaims(20, seed=3)
    made = pa.Table.from_batches(source.batches(source.schema.names, 8))
    mixed = made.select(made.column_names[::-1]).append_column("more", pa.array(range(20)))
    pa_csv.write_csv(mixed, tmp_path / "fraud_oracle.csv")
    found = prepared(monkeypatch, tmp_path, "fraud_claims", tmp_path / "fraud_oracle.csv")
    assert found.equals(made)


def test_one_file(monkeypatch, tmp_path):
    with pytest.raises(SystemExit):
        prepared(monkeypatch, tmp_path, "fraud_claims", "a.csv", "b.csv")
