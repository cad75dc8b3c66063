"""``qtool init``: a commented config, filled in from an ONNX model and a data file."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pyarrow as pa
import pyarrow.types as pat

from qtool.data.source import Source, open_source
from qtool.errors import DataError, UsageError
from qtool.graph.model_file import TensorInfo, inputs_of, outputs_of, read_model
from qtool.runs import write_text

LABELS = ("label", "target", "class", "y", "default", "fraud", "is_fraud", "outcome")
KEYS = ("id", "key", "uuid", "account_id", "customer_id", "card_id", "client_id")
SAMPLE_ROWS = 4096
YAML_WORDS = ("null", "true", "false", "yes", "no", "on", "off", "y", "n")
"""Names that YAML 1.1 reads as something else than text."""


def init(model: Path, data: Path, label: str | None, output: Path, *, force: bool) -> None:
    """Writes a config that runs ``model`` on ``data`` to ``output``.

    Raises:
        UsageError: ``output`` exists already.
        ModelError: the model cannot be read.
        DataError: the data cannot be read, or its columns do not tell which feed which input.
    """
    if output.exists() and not force:
        raise UsageError(str(output), "the file exists", "a new file", "Use --force or --output.")
    graph = read_model(model)
    source = open_source(data)
    label = _check_label(label, source) if label else _guess_label(source)
    key = _guess_key(source, label)
    features = [name for name in source.schema.names if name not in (label, key)]
    inputs = _match_inputs(inputs_of(graph), features, source)
    text = TEMPLATE.format(
        file=output,
        name=_quoted(_experiment_name(output.stem if output.stem != "config" else model.stem)),
        model=_quoted(_relative(model, output)),
        result=_quoted(outputs_of(graph)[0].name),
        kind=_guess_output(outputs_of(graph)[0]),
        data=_quoted(_relative(data, output)),
        label=_quoted(label),
        inputs="\n".join(inputs),
        split=f"{{by: hash, key: {_quoted(key)}, " if key else "{by: hash, ",
    )
    write_text(output, text)


TEMPLATE = """\
# qtool run {file}
name: {name}
task: binary_classification

model:
  onnx: {model}
  output: {kind}   # what {result} holds: logit (qtool applies the sigmoid) or probability

data:
  source: {data}   # a file, a glob or a directory: Parquet, CSV or NPZ
  label: {label}   # 0 or 1
  inputs:                     # model input -> the columns that form it, in the model's order
{inputs}
  split: {split}calibration: 0.1, evaluation: 0.3}}   # or {{by: time, column: ...}}

target:
  cpu: auto                   # or x86_amx, x86_vnni, x86_avx2, arm_dotprod: where it will run
  threads: 1
  batch_sizes: [1, 32, 256]   # the batch sizes you serve

quantization:
  method: static              # or dynamic
  observer: {{method: mse}}     # or min_max, percentile
  samples: 16384              # calibration rows

evaluation:
  decision: {{threshold: {{at: score, value: 0.5}}}}   # or at: approval_rate, false_positive_rate
  gates: {{auc_change: 0.001, decision_flips: 0.005}}   # exit code 1 when one fails
"""


def _relative(path: Path, output: Path) -> str:
    """Paths in a config start at its own directory."""
    return Path(os.path.relpath(path.resolve(), output.resolve().parent)).as_posix()


def _check_label(label: str, source: Source) -> str:
    if label not in source.schema.names:
        raise DataError(
            f"{source.name}: column '{label}'",
            "missing",
            f"one of {', '.join(source.schema.names)}",
        )
    return label


def _guess_label(source: Source) -> str:
    named = [name for name in source.schema.names if name.lower() in LABELS]
    candidates = named or _binary_columns(source)
    if len(candidates) != 1:
        found = f"{len(candidates)} candidates ({', '.join(candidates)})" if candidates else "none"
        raise DataError(
            f"{source.name}: label column", found, "exactly one", "Name it with --label."
        )
    return candidates[0]


def _binary_columns(source: Source) -> list[str]:
    batch = next(source.batches(source.schema.names, SAMPLE_ROWS))
    found = []
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        if pat.is_boolean(column.type) or (
            pat.is_integer(column.type) and set(column.unique().to_pylist()) == {0, 1}
        ):
            found.append(name)
    return found


def _guess_key(source: Source, label: str) -> str | None:
    for name in source.schema.names:
        if name.lower() in KEYS and name != label:
            return str(name)
    return None


def _match_inputs(infos: tuple[TensorInfo, ...], features: list[str], source: Source) -> list[str]:
    """Returns the YAML lines of ``data.inputs``.

    One input takes all usable columns in the order of the file; a float and an integer input share
    them by type.
    """
    numeric = [name for name in features if _is_number(source.schema.field(name).type)]
    if len(infos) == 1 and infos[0].dtype == "float32":
        return [_input(infos[0], numeric, source)]
    floats = [info for info in infos if info.dtype == "float32"]
    codes = [info for info in infos if info.dtype == "int64"]
    if len(infos) == 2 and len(floats) == 1 and len(codes) == 1:
        integers = [name for name in numeric if pat.is_integer(source.schema.field(name).type)]
        width = codes[0].shape[1] if len(codes[0].shape) == 2 else None
        categorical = integers if not isinstance(width, int) else integers[-width:]
        rest = [name for name in numeric if name not in categorical]
        return [_input(floats[0], rest, source), _input(codes[0], categorical, source)]
    described = ", ".join(f"{info.name}: {info.dtype} {info.shape}" for info in infos)
    raise DataError(
        f"{source.name}: inputs",
        f"the model takes {described}",
        "one float32 input, or one float32 and one int64 input",
        "Write data.inputs by hand; docs/configuration.md shows how.",
    )


def _input(info: TensorInfo, columns: list[str], source: Source) -> str:
    width = info.shape[1] if len(info.shape) == 2 else None
    if isinstance(width, int) and width != len(columns):
        raise DataError(
            f"{source.name}: input '{info.name}'",
            f"{len(columns)} usable columns ({', '.join(columns)})",
            f"the {width} columns of the model",
            "Keep only the model's columns in the file, or write data.inputs by hand.",
        )
    listed = ", ".join(_quoted(name) for name in columns)
    if info.dtype == "int64":
        return f"    {_quoted(info.name)}: {{kind: categorical, encode: none, columns: [{listed}]}}"
    name = _quoted(info.name)
    return f"    {name}: {{columns: [{listed}]}}   # add scale: standard if the model expects it"


def _experiment_name(stem: str) -> str:
    """Returns ``stem`` with only what ``name:`` may hold."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", stem).lstrip("._-") or "experiment"


def _quoted(text: str) -> str:
    """Returns ``text`` as YAML reads it back: as it is where YAML cannot take it for else."""
    plain = re.fullmatch(r"(\.\./)*[A-Za-z_][\w./-]*", text) and text.lower() not in YAML_WORDS
    # A JSON string is a double-quoted YAML string.
    return text if plain else json.dumps(text, ensure_ascii=False)


def _is_number(kind: pa.DataType) -> bool:
    return bool(pat.is_integer(kind) or pat.is_floating(kind) or pat.is_boolean(kind))


def _guess_output(info: TensorInfo) -> str:
    return "probability" if "prob" in info.name.lower() else "logit"
