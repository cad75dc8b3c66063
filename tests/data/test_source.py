from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
import pytest

from qtool.config.data import GeneratorSource
from qtool.data.source import GENERATORS, OPENERS, open_source
from qtool.errors import DataError


def table(first: int = 0, rows: int = 10) -> pa.Table:
    numbers = np.arange(first, first + rows)
    return pa.table({"a": numbers, "b": numbers / 4, "c": [f"t{n}" for n in numbers]})


def write(path: Path, content: pa.Table) -> Path:
    if path.suffix == ".parquet":
        pq.write_table(content, path, row_group_size=4)
    elif path.suffix == ".csv":
        pacsv.write_csv(content, path)
    else:
        np.savez(path, **{name: content[name].to_numpy() for name in ("a", "b")})
    return path


@pytest.mark.parametrize("suffix", OPENERS)
def test_every_format_streams_the_asked_columns_in_file_order(tmp_path: Path, suffix: str) -> None:
    for part, first in (("2", 10), ("1", 0), ("3", 20)):
        write(tmp_path / f"part-{part}{suffix}", table(first))
    for path in (tmp_path, tmp_path / f"part-*{suffix}"):
        batches = list(open_source(path).batches(["b", "a"], 3))
        assert {batch.num_rows for batch in batches} <= {1, 2, 3}
        result = pa.Table.from_batches(batches)
        assert result.column_names == ["b", "a"]
        assert result["a"].to_pylist() == list(range(30))
        assert result["b"].to_pylist() == [n / 4 for n in range(30)]


@pytest.mark.parametrize("suffix", OPENERS)
def test_fingerprint_is_the_sha256_of_the_contents(tmp_path: Path, suffix: str) -> None:
    path = write(tmp_path / f"data{suffix}", table())
    assert open_source(path).fingerprint() == hashlib.sha256(path.read_bytes()).hexdigest()


def test_generator_fingerprint_depends_on_rows_and_seed() -> None:
    def fingerprint(rows: int, seed: int) -> str:
        section = GeneratorSource(generator="card_transactions", rows=rows, seed=seed)
        return open_source(section).fingerprint()

    assert fingerprint(10, 1) == fingerprint(10, 1)
    assert len({fingerprint(10, 1), fingerprint(11, 1), fingerprint(10, 2)}) == 3


def test_every_generator_of_the_config_exists() -> None:
    for name in GENERATORS:
        assert open_source(GeneratorSource(generator=name, rows=5)).schema.names


def test_a_file_whose_name_looks_like_a_glob(tmp_path: Path) -> None:
    assert open_source(write(tmp_path / "data[1].parquet", table())).schema.names == ["a", "b", "c"]


def test_hidden_and_marker_files_are_no_data(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", table())
    (tmp_path / "_SUCCESS").touch()
    hidden = tmp_path / ".ipynb_checkpoints"
    hidden.mkdir()
    write(hidden / "a-checkpoint.parquet", table())
    assert sum(batch.num_rows for batch in open_source(tmp_path).batches(["a"], 100)) == 10


@pytest.mark.parametrize("name", ["absent.parquet", "absent-*.parquet", "[absent"])
def test_nothing_found(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError, match=r"no such file|matches no file"):
        open_source(tmp_path / name)


def test_empty_directory(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="without data files"):
        open_source(tmp_path)


def test_mixed_formats(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", table())
    write(tmp_path / "b.csv", table())
    with pytest.raises(DataError, match=r"\.csv, \.parquet"):
        open_source(tmp_path)


@pytest.mark.parametrize(
    ("name", "found"), [("a.xlsx", r"extension \.xlsx"), ("a", "no extension")]
)
def test_unknown_format(tmp_path: Path, name: str, found: str) -> None:
    (tmp_path / name).write_text("x")
    with pytest.raises(DataError, match=found):
        open_source(tmp_path / name)


@pytest.mark.parametrize("suffix", OPENERS)
@pytest.mark.parametrize("content", [b"", b"\x00\xff\xfe broken \x80"])
def test_damaged_files(tmp_path: Path, suffix: str, content: bytes) -> None:
    path = tmp_path / f"data{suffix}"
    path.write_bytes(content)
    with pytest.raises(DataError, match="data"):
        open_source(path)


def test_truncated_parquet(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", table(rows=1000))
    source = open_source(path)
    content = bytearray(path.read_bytes())
    content[4:600] = bytes(596)
    path.write_bytes(content)
    with pytest.raises(DataError, match="cannot be read"):
        list(source.batches(["a", "b", "c"], 10))


@pytest.mark.parametrize("suffix", OPENERS)
def test_no_rows(tmp_path: Path, suffix: str) -> None:
    with pytest.raises(DataError, match="no rows"):
        open_source(write(tmp_path / f"data{suffix}", table(rows=0)))


@pytest.mark.parametrize("suffix", OPENERS)
def test_files_with_other_columns(tmp_path: Path, suffix: str) -> None:
    write(tmp_path / f"a{suffix}", table())
    names = {".npz": ["b", "a", "c"]}.get(suffix, ["a", "other", "c"])
    write(tmp_path / f"b{suffix}", table().rename_columns(names))
    with pytest.raises(DataError, match="other columns or types"):
        open_source(tmp_path)


def test_files_with_other_types(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", table())
    write(tmp_path / "b.parquet", table().set_column(0, "a", table()["a"].cast(pa.float64())))
    with pytest.raises(
        DataError, match=r"b\.parquet: other columns or types than .*a\.parquet: a;"
    ):
        open_source(tmp_path)


def test_no_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "a.parquet", table())

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", refuse)
        with pytest.raises(DataError, match=r"a\.parquet: no permission to read"):
            open_source(path)
    monkeypatch.setattr("os.scandir", refuse)
    with pytest.raises(DataError, match="no permission to read"):
        open_source(tmp_path)


def test_csv_types_hold_for_every_row(tmp_path: Path) -> None:
    rows = 60_000  # several blocks of Arrow's reader
    path = tmp_path / "late.csv"
    lines = [f"{n},{n},{n},,2024-01-01,True, {n}\n" for n in range(rows)]
    lines[50_000] = "1,2.5,oops,,2024-01-01 10:00:00,false,7 \n"
    path.write_text("whole,real,text,empty,time,flag,spaced\n" + "".join(lines))
    schema = open_source(path).schema
    types = dict(zip(schema.names, map(str, schema.types), strict=True))
    assert types == {
        "whole": "int64",
        "real": "double",
        "text": "string",
        "empty": "double",
        "time": "timestamp[us]",
        "flag": "bool",
        "spaced": "int64",
    }
    table = pa.Table.from_batches(open_source(path).batches(schema.names, 999))
    assert table["real"][50_000].as_py() == 2.5
    assert table["spaced"].to_pylist()[:2] == [0, 1]


def test_csv_null_words_are_values_only_in_text(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text('n,country\n1,NA\nNA,"D\nE"\n')
    (batch,) = open_source(path).batches(["n", "country"], 10)
    assert batch.to_pydict() == {"n": [1, None], "country": ["NA", "D\nE"]}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a;b\n1;2\n", "separated by ';'"),
        ("a,a\n1,2\n", "occur twice: a"),
        ("a,b\n1,2\n3\n", "Expected 2 columns"),
    ],
)
def test_csv_that_is_not_as_expected(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "a.csv"
    path.write_text(text)
    with pytest.raises(DataError, match=message):
        open_source(path)


@pytest.mark.parametrize("shape", [(4, 3), (4, 2, 3), (4, 2, 3, 1)])
def test_npz_arrays_of_any_rank_are_lists_of_lists(tmp_path: Path, shape: tuple[int, ...]) -> None:
    values = np.arange(np.prod(shape), dtype=np.int32).reshape(shape)
    np.savez(tmp_path / "a.npz", a=values)
    source = open_source(tmp_path / "a.npz")
    rows = [row for batch in source.batches(["a"], 3) for row in batch.column("a").to_pylist()]
    assert rows == values.tolist()


def test_npz_matrices_are_lists(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    matrix = np.arange(12, dtype=np.float32).reshape(4, 3)
    np.savez(path, matrix=matrix, words=np.array(["a", "b", "c", "d"]))
    source = open_source(path)
    assert str(source.schema.field("matrix").type) == "fixed_size_list<item: float>[3]"
    (batch,) = source.batches(["matrix", "words"], 10)
    assert batch["matrix"].to_pylist() == matrix.tolist()
    assert batch["words"].to_pylist() == ["a", "b", "c", "d"]


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"a": np.zeros(3), "b": np.zeros(4)}, "one number of rows"),
        ({"a": np.array([{}, {}], object)}, "without Python objects"),
        ({"a": np.zeros(())}, r"arrays with one number of rows|shape \(\)"),
        ({"a": np.zeros((2, 0))}, r"shape \(2, 0\)"),
        ({}, r"\(none\)"),
    ],
)
def test_npz_that_is_no_table(tmp_path: Path, arrays: dict[str, np.ndarray], message: str) -> None:
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(DataError, match=message):
        open_source(tmp_path / "a.npz")
