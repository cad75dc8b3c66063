"""``qtool init``: a commented config, filled in from an ONNX model and a data file."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pyarrow.types as pat

from qtool.commands.init_inputs import Guess, guess_inputs
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
    inputs = [_line(guess) for guess in guess_inputs(inputs_of(graph), features, source)]
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


def _line(guess: Guess) -> str:
    """Returns the YAML line of one entry of ``data.inputs``."""
    options = ", ".join(f"{key}: {_value(value)}" for key, value in guess.options.items())
    comment = "   # add scale: standard if the model expects it" if guess.scalable else ""
    return f"    {_quoted(guess.name)}: {{{options}}}{comment}"


def _value(value: object) -> str:
    if isinstance(value, list):
        return f"[{', '.join(_quoted(name) for name in value)}]"
    return _quoted(value) if isinstance(value, str) else json.dumps(value)


def _experiment_name(stem: str) -> str:
    """Returns ``stem`` with only what ``name:`` may hold."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", stem).lstrip("._-") or "experiment"


def _quoted(text: str) -> str:
    """Returns ``text`` as YAML reads it back: as it is where YAML cannot take it for else."""
    plain = re.fullmatch(r"(\.\./)*[A-Za-z_][\w./-]*", text) and text.lower() not in YAML_WORDS
    # A JSON string is a double-quoted YAML string.
    return text if plain else json.dumps(text, ensure_ascii=False)


def _guess_output(info: TensorInfo) -> str:
    return "probability" if "prob" in info.name.lower() else "logit"
