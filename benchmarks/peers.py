"""Every sample model: qtool's ``static`` and ``auto`` against the tools that a user would try.

The peers are ONNX Runtime's static and dynamic quantization (defaults, and the settings that its
documentation names for x86), NNCF's ``quantize_with_accuracy_control`` with both presets (it may
lose as much of the metric as the config's gate allows) and AMD Quark (uint8 activations and int8
weights; also with AdaRound). Each runs in an environment of its own (``peers_environments.py``) and
gets the exported FP32 model and up to 4,096 calibration rows; ``skipped`` tells why one gives no
model. ``…-small`` are the same networks with at most 128 units, one row at a time.

All models are judged on the evaluation split: the difference of the metric that the config's first
gate limits, with its paired interval; ``changed``, the share of decisions (or of the ten nearest
neighbours) that differ from FP32's; ``output_error``, the mean squared change of the outputs as a
share of their variance. All are timed in one interleaved run with one thread; ``fp32`` is the
faster of the original and the prepared model.

``speed_against_best`` is the speed against the fastest of FP32 and all peers that are as accurate:
by the metric those that are not shown to be worse, by the error those with no larger one.
``gain_against_best`` is the upper end of the difference of the metric to the best peer that is not
slower: below 0 it is worse. ``error_against_best`` is the ratio of the errors to the most exact of
those. ``search_over_evaluation`` is the time of the search over that of one ``qtool evaluate``.
"""

from __future__ import annotations

import json
import math
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from harness import PROJECT, Row, arguments, options, report
from numpy.typing import NDArray
from peers_compare import FP32, Judge, accuracy_rows, best_rows, speed_row
from peers_environments import (
    PEERS,
    REQUIREMENTS,
    Asked,
    JudgeRows,
    Made,
    Skipped,
    interpreter,
    quantized,
)

from qtool.commands.auto import ANSWER, search_stage
from qtool.commands.calibrate import read_plan
from qtool.commands.context import Context, opened
from qtool.commands.evaluate import evaluate, int8_stage
from qtool.commands.prepare import MODEL, PARITY, dataset, fp32_stage, prepared_stage
from qtool.commands.quantize import INT8_MODEL
from qtool.commands.scoring import (
    BATCH_ROWS,
    Models,
    batch_rows,
    judging_columns,
    predictor,
    quantile_levels,
    scored,
)
from qtool.config.evaluation import Latency, Limit, Margin
from qtool.data.batch import Batch, join, labels_of
from qtool.data.sampling import calibration_rows
from qtool.errors import DataError, ModelError
from qtool.evaluation.decisions import operating_threshold
from qtool.evaluation.metrics.metric import Metric
from qtool.evaluation.metrics.registry import metrics_of
from qtool.evaluation.predictions import predictions
from qtool.evaluation.sample import Predictions, Sample
from qtool.evaluation.speed import open_calls
from qtool.runtime.latency import Timing, measure_opened, one_core
from qtool.runtime.sessions import Session

CALIBRATION_ROWS = 4096
"""What the peers get: calibrators that keep every activation need 7 GB for more."""
STATIC, AUTO = "static", "auto"
SMALL = ("target.batch_sizes=[1]", "evaluation.gates.size_ratio=null")
"""One row at a time, and no gate on the size of a file that is mostly graph."""


@dataclass(frozen=True)
class System:
    """A sample model: its name in cases, its static config, what differs from it."""

    name: str
    config: str
    overrides: tuple[str, ...] = ()


SYSTEMS = (
    System("fraud", "fraud_static"),
    System("credit", "credit_static"),
    System("bank", "bank_static"),
    System("cash-flow", "cash_flow_static"),
    System("retrieval", "retrieval_static"),
    System("fraud-small", "fraud_onnx", SMALL),
    System("credit-small", "credit_static", ("model.arguments.hidden=[64,64]", *SMALL)),
)
QUICK = System(
    "credit-quick",
    "credit_static",
    ("data.source.rows=3000", "model.arguments.hidden=[32,32]", "training.epochs=1", *SMALL),
)


@dataclass(frozen=True)
class Candidate:
    """A model that is compared: its file, and how many rows it scores at a time."""

    file: Path
    rows_at_once: int


def main() -> None:
    """Compares every system that is asked for and reports its rows."""
    parser = arguments(__doc__ or "")
    parser.add_argument("--systems", nargs="+", choices=[s.name for s in SYSTEMS], metavar="NAME")
    parser.add_argument("--peers", nargs="*", choices=list(PEERS), default=list(PEERS))
    parser.add_argument("--auto", action="store_true", help="also the method auto")
    parser.add_argument("--environments", type=Path, metavar="DIR", help="keep them there")
    parser.add_argument("--runs", type=Path, metavar="DIR", help="keep the run directories there")
    parser.add_argument("--limit-s", type=float, default=900.0, help="of one peer on one model")
    given = parser.parse_args()
    chosen = [s for s in SYSTEMS if given.systems is None or s.name in given.systems]
    section = Latency(blocks=5, block_ms=1.0) if given.quick else Latency()
    rows = []
    with _folder(given.environments) as environments, _folder(given.runs) as runs:
        pythons = {
            name: interpreter(REQUIREMENTS[name], environments / name)
            for name in dict.fromkeys(PEERS[peer].environment for peer in given.peers)
        }
        tools = {peer: pythons[PEERS[peer].environment] for peer in given.peers}
        for system in [QUICK] if given.quick else chosen:
            comparison = Comparison(system, runs / system.name, tools, section, given.limit_s)
            rows += comparison.rows(auto=given.auto)
    report(rows, given.json)


@contextmanager
def _folder(given: Path | None) -> Iterator[Path]:
    """Yields the given folder, made where it is not there, or one that is removed at the end."""
    if given is not None:
        given.mkdir(parents=True, exist_ok=True)
        yield given.resolve()
        return
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


@dataclass(frozen=True)
class Comparison:
    """One system and what it is compared with.

    Attributes:
        system: the sample model.
        run_dir: of qtool, whose stages are kept; the peers' folders lie in ``peers`` below it.
        tools: peer → the Python of its environment, or why there is none.
        section: how latency is measured.
        limit_s: seconds for one peer.
    """

    system: System
    run_dir: Path
    tools: Mapping[str, Path | Skipped]
    section: Latency
    limit_s: float

    def rows(self, *, auto: bool) -> list[Row]:
        """Makes all models, judges and times them; returns the rows."""
        with self._opened() as context:
            candidates = {STATIC: _served(context, int8_stage(context))}
            context.run.discard("evaluate", "it is timed")
            started = time.monotonic()
            evaluate(context)
            evaluation_s = time.monotonic() - started
            judge = _judge(context, candidates[STATIC].file)
            asked = _asked(context, judge.metric)
            original, prepared = (stage(context) / MODEL for stage in (fp32_stage, prepared_stage))
        rows: list[Row] = []
        if auto:
            candidates[AUTO], told = self._searched(evaluation_s)
            rows += told
        made, told = self._peers(asked)
        # The INT8 models of dynamic tools are judged at the largest batch that is served.
        largest = max(judge.experiment.target.batch_sizes)
        candidates |= {
            name: Candidate(model, largest if PEERS[name].dynamic else BATCH_ROWS)
            for name, model in made.items()
        }
        with self._opened() as context:
            scores, unread = _scores(context, candidates, judge.sample)
        rows += [*told, *(_skipped(self._case(name), reason) for name, reason in unread.items())]
        for name, found in scores.items():
            size = candidates[name].file.stat().st_size
            rows += accuracy_rows(self._case(name), judge, found, size, original.stat().st_size)
        files = {"original": original, "prepared": prepared}
        files |= {name: candidates[name].file for name in scores}
        return rows + self._speed_rows(judge, scores, self._times(judge, asked.rows, files))

    def _case(self, name: str) -> str:
        return f"{self.system.name}-{name}"

    @contextmanager
    def _opened(self, *more: str) -> Iterator[Context]:
        config = PROJECT / "configs" / f"{self.system.config}.yaml"
        with opened(config, options(self.run_dir, (*self.system.overrides, *more))) as context:
            yield context

    def _searched(self, evaluation_s: float) -> tuple[Candidate, list[Row]]:
        """Returns what ``auto`` answers, and how long it took."""
        # The gate on codes is about the static model: auto may choose forms without any.
        overrides = ("quantization.method=auto", "evaluation.gates.equal_codes=null")
        with self._opened(*overrides) as context:
            folder = search_stage(context)
            answer = json.loads((folder / ANSWER).read_text(encoding="utf-8"))
            found = _served(context, folder)
            if answer["keep_fp32"]:
                found = Candidate(prepared_stage(context) / MODEL, BATCH_ROWS)
        seconds = f"{answer['seconds']:.0f} s; evaluation {evaluation_s:.1f} s; {answer['reason']}"
        value = answer["seconds"] / evaluation_s
        row = Row(self._case(AUTO), "search_over_evaluation", value, "x", notes=seconds)
        return found, [row]

    def _peers(self, asked: Asked) -> tuple[dict[str, Path], list[Row]]:
        """Returns the peers' models, and rows with their times or why there is none."""
        models: dict[str, Path] = {}
        rows = []
        for name, python in self.tools.items():
            folder = self.run_dir / "peers" / name
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            found: Made | Skipped = (
                python
                if isinstance(python, Skipped)
                else quantized(PEERS[name], python, asked, folder, self.limit_s)
            )
            if isinstance(found, Skipped):
                rows.append(_skipped(self._case(name), found.reason))
            else:
                rows.append(Row(self._case(name), "made", found.seconds, "s"))
                models[name] = found.model
        return models, rows

    def _times(
        self, judge: Judge, rows: Mapping[str, NDArray[Any]], files: Mapping[str, Path]
    ) -> dict[int, dict[str, Timing]]:
        """Returns batch size → model → latencies, of one interleaved run."""
        batches = {
            size: {name: np.resize(array, (size, *array.shape[1:])) for name, array in rows.items()}
            for size in judge.experiment.target.batch_sizes
        }
        opening = partial(open_calls, batches, 1)
        with one_core(True):
            return measure_opened(
                {name: partial(opening, name, path) for name, path in files.items()},
                rounds=self.section.blocks,
                block_ms=self.section.block_ms,
            )

    def _speed_rows(
        self,
        judge: Judge,
        scores: Mapping[str, Predictions],
        times: Mapping[int, Mapping[str, Timing]],
    ) -> list[Row]:
        rows = []
        for size, found in times.items():
            forms = (found["original"], found["prepared"])
            all_times = {**found, FP32: min(forms, key=lambda one: float(np.median(one.rounds)))}
            rows += [
                speed_row(f"{self._case(name)}-b{size}", found[name], all_times[FP32])
                for name in scores
            ]
            peers = {name: each for name, each in scores.items() if name in PEERS}
            for subject in (STATIC, AUTO):
                if subject in scores:
                    others = {FP32: judge.sample.fp32, subject: scores[subject], **peers}
                    case = f"{self._case(subject)}-b{size}"
                    rows += best_rows(case, subject, others, judge, all_times)
        return rows


def _served(context: Context, folder: Path) -> Candidate:
    return Candidate(folder / INT8_MODEL, batch_rows(context.experiment, read_plan(folder)))


def _judge(context: Context, int8: Path) -> Judge:
    experiment = context.experiment
    models = Models(
        fp32_stage(context) / MODEL,
        prepared_stage(context) / MODEL,
        int8,
        read_plan(int8.parent),
        (),
        int8.parent / PARITY,
        None,
    )
    sample = scored(context, models, "evaluation", judging_columns(experiment))
    threshold = None
    if experiment.task == "binary_classification":
        known = scored(context, models, "calibration")
        section = experiment.evaluation.decision.threshold
        threshold = operating_threshold(section, known.labels, known.fp32)[0]
    return Judge(experiment, _gated(context)[0], sample, threshold)


def _gated(context: Context) -> tuple[Metric, float]:
    """Returns the metric that the first gate on one limits, and by how much it may drop.

    Raises:
        ValueError: no gate is on a metric.
    """
    experiment = context.experiment
    section = experiment.evaluation
    named = {m.name: m for m in metrics_of(experiment.task, section, quantile_levels(experiment))}
    for gate, limit in section.gates.items():
        metric, _, kind = gate.rpartition("_")
        if metric in named and kind in ("drop", "change") and limit is not None:
            return named[metric], _number(limit)
    raise ValueError(f"{experiment.name}: no gate limits the change of a metric")


def _number(limit: Limit) -> float:
    return limit.margin if isinstance(limit, Margin) else limit


def _asked(context: Context, metric: Metric) -> Asked:
    experiment = context.experiment
    data, columns = dataset(context), judging_columns(experiment)
    chosen = join(
        list(
            calibration_rows(data, CALIBRATION_ROWS, 0.1, experiment.seed, data.section.batch_rows)
        )
    )
    only = data.batches("calibration", data.section.batch_rows, chosen.rows, columns=columns)
    batch = join(list(only))
    return Asked(
        fp32_stage(context) / MODEL,
        batch.inputs,
        _gated(context)[1],
        _on_rows(context, batch, metric),
    )


def _on_rows(context: Context, batch: Batch, metric: Metric) -> JudgeRows:
    """Returns what judges a model's first output for some rows of a batch; higher is better."""
    task, kind = context.experiment.task, context.experiment.model.output
    sign = -1.0 if metric.better == "lower" else 1.0

    def judged(places: NDArray[np.int64], outputs: NDArray[Any]) -> float:
        try:
            found = predictions(task, kind, outputs, len(places), "a peer's model")
            labels = labels_of(batch)[places]
            columns = {name: values[places] for name, values in batch.columns.items()}
            sample = Sample(batch.rows[places], labels, found, found, columns)
            return sign * metric.build(sample, found)(None)
        except (DataError, ModelError):  # rows of one class, or outputs that are no numbers
            return math.nan

    return judged


def _scores(
    context: Context, candidates: Mapping[str, Candidate], sample: Sample
) -> tuple[dict[str, Predictions], dict[str, str]]:
    """Returns the predictions of each model for the rows of ``sample``, or why it has none."""
    found: dict[str, Predictions] = {}
    unread: dict[str, str] = {}
    data = dataset(context)
    for name, candidate in candidates.items():
        try:
            predict = predictor(context.experiment, Session(candidate.file, name))
            batches = data.batches("evaluation", candidate.rows_at_once)
            pieces = [(batch.rows, predict(batch)) for batch in batches]
        except ModelError as error:
            unread[name] = str(error)
            continue
        rows, scores = (np.concatenate(parts) for parts in zip(*pieces, strict=True))
        order = np.argsort(rows)
        found[name] = scores[order[np.searchsorted(rows, sample.rows, sorter=order)]]
    return found, unread


def _skipped(case: str, reason: str) -> Row:
    return Row(case, "skipped", 1.0, "", notes=reason)


if __name__ == "__main__":
    main()
