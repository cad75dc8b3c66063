from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from support.sample_models import prepared

from qtool.data.generators.monthly_series import AHEAD, PAST, SCHEMA

LENGTH = PAST + AHEAD + AHEAD


def test_m3_reads_the_monash_file_and_tables_alike(monkeypatch, tmp_path):
    values = {"T1": np.arange(LENGTH) + 0.5, "T2": np.arange(PAST + AHEAD) + 100.25}
    short = np.ones(PAST + AHEAD - 1)
    lines = ["# a comment", "@frequency monthly", "@data"]
    for name, one in {**values, "T3": short}.items():
        start = "1990-03-31" if name == "T1" else "1982-01-31"
        lines.append(f"{name}:{start} 00-00-00:{','.join(map(str, one))}")
    (tmp_path / "m3.tsf").write_text("\n".join(lines) + "\n")
    found = prepared(monkeypatch, tmp_path, "cash_flow_m3", tmp_path / "m3.tsf")
    assert found.schema.equals(SCHEMA)
    # Of T1 the last window, and the one whose future ends where that of the last begins.
    rows = found.select(["series", "month"]).to_pylist()
    assert [(row["series"], row["month"]) for row in rows] == [("T1", -AHEAD), ("T1", 0), ("T2", 0)]
    first, last, _ = found.to_pylist()
    assert first["future"] == last["history"][-AHEAD:]
    assert last["future"][-1] == LENGTH - 0.5
    # The 36th month from March 1990 on is a February, the last one known August.
    np.testing.assert_allclose(first["year_sin"], np.sin(2 * np.pi / 12), atol=1e-6)
    np.testing.assert_allclose(last["year_sin"], np.sin(2 * np.pi * 7 / 12), atol=1e-6)

    described = {"sn": ["T1", "T2", "Q1"], "period": ["MONTHLY", "MONTHLY", "QUARTERLY"]}
    described["start"] = [1990 + 2 / 12, 1982.0, 1980.0]
    pq.write_table(pa.table(described), tmp_path / "series.parquet")
    long = [(name, value) for name, one in values.items() for value in one]
    names, numbers = zip(*long, strict=True)
    pq.write_table(pa.table({"sn": names, "value": numbers}), tmp_path / "values.parquet")
    for files in (("series", "values"), ("values", "series")):
        paths = [tmp_path / f"{file}.parquet" for file in files]
        other = prepared(monkeypatch, tmp_path, "cash_flow_m3", *paths)
        assert other.equals(found)
