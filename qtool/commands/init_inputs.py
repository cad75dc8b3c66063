"""Which columns feed which model input, guessed from names, types and shapes for ``qtool init``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from qtool.data.columns import is_integer, is_number
from qtool.data.list_types import list_shape
from qtool.data.source import Source
from qtool.errors import DataError
from qtool.graph.model_file import TensorInfo

INTEGERS = ("int64", "int32")


@dataclass(frozen=True)
class Guess:
    """One entry of ``data.inputs``, its options in the order in which they are written.

    ``scalable``: whether it is made of floats, which a model may expect scaled.
    """

    name: str
    options: dict[str, Any]
    scalable: bool


@dataclass(frozen=True)
class _Features:
    """Columns that are neither label nor key, by what they hold."""

    source: Source
    floats: tuple[str, ...]
    integers: tuple[str, ...]
    lists: tuple[str, ...]

    @property
    def numbers(self) -> list[str]:
        """Columns of one number per row, in the order of the source."""
        return [name for name in self.source.schema.names if name in self.floats + self.integers]


def guess_inputs(
    infos: Sequence[TensorInfo], features: Sequence[str], source: Source
) -> list[Guess]:
    """Returns the entry of every model input that is not a mask.

    Lists go to the inputs of their name or rank. One input takes all other usable columns in the
    order of the file; a float and an integer input share them by type.

    Raises:
        DataError: the columns do not tell which feed which input.
    """
    held = _features(features, source)
    masks = [info for info in infos if _is_mask(info, held)]
    tables, nested = [], []
    left = list(held.lists)
    for info in (each for each in infos if each not in masks):
        guess = _nested(info, left, held)
        if guess is None:
            tables.append(info)
        else:
            nested.append(guess)
            left = [name for name in left if name not in guess.options["columns"]]
    sequences = [guess for guess in nested if guess.options["kind"] == "sequence"]
    for mask in masks:
        guess = _masked(mask, masks, sequences)
        if guess is None:
            raise _unclear(infos, source)
        guess.options["mask"] = mask.name
        if mask.dtype != "int64":
            guess.options["mask_dtype"] = mask.dtype
    found = {guess.name: guess for guess in nested + _tabular(tables, held, infos)}
    return [found[info.name] for info in infos if info.name in found]


def _masked(mask: TensorInfo, masks: list[TensorInfo], sequences: list[Guess]) -> Guess | None:
    """Returns the sequence that ``mask`` is named after, or the first one for the only mask."""
    named = [
        guess
        for guess in sequences
        if mask.name in (f"{guess.name}_mask", f"mask_{guess.name}", f"{guess.name}mask")
    ]
    if named:
        return named[0]
    return sequences[0] if sequences and len(masks) == 1 else None


def _features(names: Sequence[str], source: Source) -> _Features:
    kinds = {name: source.schema.field(name).type for name in names}
    # A column of nothing but nulls has the type null.
    usable = {name: kind for name, kind in kinds.items() if str(kind) != "null"}
    numbers = {name: kind for name, kind in usable.items() if is_number(kind)}
    integers = tuple(name for name, kind in numbers.items() if is_integer(kind))
    return _Features(
        source=source,
        floats=tuple(name for name in numbers if name not in integers),
        integers=integers,
        lists=tuple(name for name, kind in kinds.items() if list_shape(kind)[0]),
    )


def _is_mask(info: TensorInfo, held: _Features) -> bool:
    named = info.name in held.source.schema.names
    return "mask" in info.name.lower() and len(info.shape) == 2 and bool(held.lists) and not named


def _nested(info: TensorInfo, lists: Sequence[str], held: _Features) -> Guess | None:
    """Returns the lists that have the input's name, else those of its rank and kind of number."""
    named = [name for name in lists if name == info.name]
    for column in named or lists:
        shape, element = list_shape(held.source.schema.field(column).type)
        if len(shape) != len(info.shape) - 1 or not _takes(info, is_integer(element)):
            continue
        fits = all(
            not isinstance(wanted, int) or size in (None, wanted)
            for size, wanted in zip(shape, info.shape[1:], strict=True)
        )
        if fits:
            kind = "tensor" if None not in shape else "sequence"
            return _guess(info, kind, [column], is_integer(element))
    flat = [name for name in lists if len(_shape_of(name, held)) == 1]
    width = info.shape[2] if len(info.shape) == 3 else None
    if flat and info.dtype == "float32" and width in (None, len(flat)) and len(info.shape) == 3:
        return _guess(info, "sequence", flat, integers=False)
    return None


def _takes(info: TensorInfo, integers: bool) -> bool:
    return info.dtype in INTEGERS if integers else info.dtype == "float32"


def _shape_of(column: str, held: _Features) -> tuple[int | None, ...]:
    return list_shape(held.source.schema.field(column).type)[0]


def _guess(info: TensorInfo, kind: str, columns: list[str], integers: bool) -> Guess:
    options: dict[str, Any] = {"kind": kind, "columns": columns}
    if integers and info.dtype != "int64":
        options["dtype"] = info.dtype
    if kind == "sequence":
        if isinstance(info.shape[1], int):
            options["length"] = info.shape[1]
        if len(info.shape) == 3 and len(columns) == 1:
            options["stack"] = True
    return Guess(info.name, options, scalable=not integers)


def _tabular(tables: list[TensorInfo], held: _Features, infos: Sequence[TensorInfo]) -> list[Guess]:
    numbers = held.numbers
    if not tables:
        return []
    if len(tables) == 1 and tables[0].dtype == "float32" and len(tables[0].shape) == 2:
        return [_table(tables[0], numbers, held.source)]
    floats = [info for info in tables if info.dtype == "float32" and len(info.shape) == 2]
    codes = [info for info in tables if info.dtype in INTEGERS and len(info.shape) == 2]
    if len(tables) == 1 and len(codes) == 1:
        return [_table(codes[0], list(held.integers), held.source)]
    if len(tables) == 2 and len(floats) == 1 and len(codes) == 1:
        width = codes[0].shape[1]
        integers = list(held.integers)
        categorical = integers if not isinstance(width, int) else integers[-width:]
        rest = [name for name in numbers if name not in categorical]
        return [_table(floats[0], rest, held.source), _table(codes[0], categorical, held.source)]
    raise _unclear(infos, held.source)


def _table(info: TensorInfo, columns: list[str], source: Source) -> Guess:
    width = info.shape[1]
    if isinstance(width, int) and width != len(columns):
        raise DataError(
            f"{source.name}: input '{info.name}'",
            f"{len(columns)} usable columns ({', '.join(columns)})",
            f"the {width} columns of the model",
            "Keep only the model's columns in the file, or write data.inputs by hand.",
        )
    if info.dtype == "float32":
        return Guess(info.name, {"columns": columns}, scalable=True)
    options: dict[str, Any] = {"kind": "categorical", "encode": "none", "columns": columns}
    if info.dtype != "int64":
        options["dtype"] = info.dtype
    return Guess(info.name, options, scalable=False)


def _unclear(infos: Sequence[TensorInfo], source: Source) -> DataError:
    described = ", ".join(f"{info.name}: {info.dtype} {info.shape}" for info in infos)
    return DataError(
        f"{source.name}: inputs",
        f"the model takes {described}",
        "one float32 input, or one float32 and one int64 input, or lists that fit each input",
        "Write data.inputs by hand; docs/configuration.md shows how.",
    )
