"""Fraud and credit models of 3 x 512 units: FP32, qtool and ONNX Runtime's own tools.

Every case of qtool is a ``qtool run`` (static, dynamic, quantization-aware) on one trained FP32
model. The peers ``ort-static`` and ``ort-dynamic`` get that prepared model and the same calibration
rows, with the defaults of their tools. All models of a data set are timed in one interleaved run on
one core, each with one thread; a speed-up is the median over its rounds of the peer's latency
divided by the case's. ``fp32`` is the faster of the original and the prepared model.

With ``--data DIR`` the data are DIR/taiwan_credit_default/*.parquet (UCI "default of credit card
clients", Yeh and Lien 2009) and DIR/ulb_creditcard_sample/*.parquet (ULB card fraud, Dal Pozzolo et
al. 2015). Without it qtool's generators take their place, and the cases are named ``generated-…``.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from harness import BENCHMARKS, PROJECT, Row, arguments, options, report
from numpy.typing import NDArray
from peers_ort import ort_dynamic, ort_static

from qtool.commands.context import Context, opened
from qtool.commands.evaluate import int8_stage
from qtool.commands.prepare import MODEL, dataset, fp32_stage, prepared_stage
from qtool.commands.quantize import INT8_MODEL
from qtool.commands.run import run
from qtool.config.evaluation import Latency
from qtool.config.quantization import StaticQuantization
from qtool.data.batch import Batch, join, labels_of
from qtool.data.sampling import calibration_rows
from qtool.evaluation.decisions import decision_change
from qtool.evaluation.results import DecisionChange, Evaluation
from qtool.evaluation.sample import Sample
from qtool.runtime.latency import Timing, measure, one_core, ratio
from qtool.runtime.sessions import Session, to_scores
from qtool.statistics.delong import delong

METHODS = ("static", "dynamic", "qat")
PEER_OF = {"static": "ort-static", "dynamic": "ort-dynamic", "qat": "ort-static"}
BATCH_SIZES = (1, 32, 256)
SCORED = {"ort-static": 1024, "ort-dynamic": max(BATCH_SIZES)}
"""Rows scored at a time, as ``qtool evaluate`` does: ranges of a dynamic model depend on it."""
# Real data sets: case name → (prefix of its configs, folder below --data).
REAL = {"credit": "taiwan_credit_default", "ulb": "ulb_creditcard_sample"}
GENERATED = {
    "generated-credit": BENCHMARKS / "configs" / "credit",
    "generated-fraud": PROJECT / "configs" / "fraud",
}
QUICK = ("data.source.rows=3000", "model.arguments.hidden=[32,32]", "training.epochs=1")
NO_LATENCY = "evaluation.latency.enabled=false"  # measured here, together with the peers


@dataclass(frozen=True)
class System:
    """One data set: its name, the prefix of its three configs, and overrides for all of them."""

    name: str
    configs: Path
    overrides: tuple[str, ...]


@dataclass(frozen=True)
class Trained:
    """What the peers start from: the FP32 model in both forms, and rows to calibrate and score."""

    original: bytes
    prepared: bytes
    calibration: Batch
    evaluation: Batch
    output: str


def main() -> None:
    """Runs every system and reports its rows."""
    parser = arguments(__doc__ or "")
    parser.add_argument(
        "--data", type=Path, metavar="DIR", help="folder of the real data sets; see the docstring"
    )
    given = parser.parse_args()
    section = Latency(blocks=5, block_ms=1.0) if given.quick else Latency(blocks=60)
    rows = [
        row
        for system in systems(given.data, quick=given.quick)
        for row in system_rows(system, section)
    ]
    report(rows, given.json)


def systems(data: Path | None, *, quick: bool) -> list[System]:
    """Returns the real systems where ``data`` is given, else the generated ones."""
    small = QUICK if quick else ()
    if data is None:
        return [System(name, configs, small) for name, configs in GENERATED.items()]
    return [
        System(
            name,
            BENCHMARKS / "configs" / name,
            # Rows belong to a generator; a file is taken whole.
            (f"data.source={data.resolve() / folder / '*.parquet'}", *small[1:]),
        )
        for name, folder in REAL.items()
    ]


def system_rows(system: System, section: Latency) -> list[Row]:
    """Runs the three methods and both peers on one system; returns all its rows."""
    with tempfile.TemporaryDirectory() as directory:
        results, models, trained = run_methods(system, Path(directory))
    models["ort-static"] = ort_static(trained.prepared, trained.calibration.inputs)
    models["ort-dynamic"] = ort_dynamic(trained.prepared)
    rows: list[Row] = []
    for method, evaluation in results.items():
        rows += _qtool_rows(f"{system.name}-{method}", evaluation, len(models[method]), trained)
    for peer, batch_rows in SCORED.items():
        scores = _peer_scores(models[peer], trained, batch_rows)
        rows += _peer_rows(
            f"{system.name}-{peer}", scores, results["static"], len(models[peer]), trained
        )
    return rows + _speed_rows(system.name, models, trained, section)


def run_methods(
    system: System, directory: Path
) -> tuple[dict[str, Evaluation], dict[str, bytes], Trained]:
    """Runs qtool with every method in one run directory, so that FP32 is trained once.

    Returns:
        Evaluations and INT8 models by method, and what the peers start from.
    """
    results, models, trained = {}, {}, None
    for method in METHODS:
        config = system.configs.with_name(f"{system.configs.name}_{method}.yaml")
        with opened(config, options(directory, (*system.overrides, NO_LATENCY))) as context:
            results[method] = run(context).evaluation
            models[method] = (int8_stage(context) / INT8_MODEL).read_bytes()
            section = context.experiment.quantization
            if isinstance(section, StaticQuantization) and trained is None:
                assert section.samples != "auto"  # the peers are to have the same rows
                trained = Trained(
                    (fp32_stage(context) / MODEL).read_bytes(),
                    (prepared_stage(context) / MODEL).read_bytes(),
                    join(list(_calibration(context, section.samples, section))),
                    join(list(dataset(context).batches("evaluation"))),
                    context.experiment.model.output,
                )
    assert trained is not None
    return results, models, trained


def _calibration(context: Context, samples: int, section: StaticQuantization) -> Iterator[Batch]:
    data, seed = dataset(context), context.experiment.seed
    share = section.minimum_class_share
    return calibration_rows(data, samples, share, seed, data.section.batch_rows)


def _qtool_rows(case: str, evaluation: Evaluation, size: int, trained: Trained) -> list[Row]:
    change = next(metric for metric in evaluation.metrics if metric.name == "auc")
    assert evaluation.decisions is not None
    rows = [Row(case, "auc_fp32", change.fp32, "AUC")]
    rows += _accuracy_rows(case, change.change, evaluation.decisions, size, trained)
    parity = evaluation.parity
    if parity is not None:
        counted = f"{parity.codes:,} codes of {parity.rows:,} rows"
        rows.append(Row(case, "equal_codes_share", parity.equal_share, "share", notes=counted))
    return rows


def _peer_rows(
    case: str, sample: Sample, evaluation: Evaluation, size: int, trained: Trained
) -> list[Row]:
    asked = evaluation.decisions
    assert asked is not None
    change = delong(sample.labels, sample.fp32, sample.int8).difference
    decisions = decision_change(sample, asked.threshold, asked.threshold_rule)
    return _accuracy_rows(case, change, decisions, size, trained)


def _accuracy_rows(
    case: str, auc_change: float, decisions: DecisionChange, size: int, trained: Trained
) -> list[Row]:
    flips = f"{decisions.to_flagged + decisions.to_passed:,} of {decisions.rows:,}"
    original = len(trained.original)
    sizes = f"{size:,} of {original:,} bytes"
    return [
        Row(case, "auc_change", auc_change, "AUC", "fp32"),
        Row(case, "decision_flips", decisions.flip_share, "share", "fp32", flips),
        Row(case, "size_ratio", size / original, "share", "fp32", sizes),
    ]


def _peer_scores(model: bytes, trained: Trained, batch_rows: int) -> Sample:
    rows = trained.evaluation
    fp32, int8 = (_scores(content, trained, batch_rows) for content in (trained.prepared, model))
    return Sample(rows.rows, labels_of(rows), fp32, int8)


def _scores(model: bytes, trained: Trained, batch_rows: int) -> NDArray[np.float32]:
    session, rows = Session(model, "a peer"), trained.evaluation
    starts = range(0, len(rows), batch_rows)
    pieces = [session.run(rows.take(slice(s, s + batch_rows)).inputs) for s in starts]
    outputs = np.concatenate([piece[session.output_names[0]] for piece in pieces])
    return to_scores(outputs, trained.output, session.where)


def _speed_rows(
    system: str, models: Mapping[str, bytes], trained: Trained, section: Latency
) -> list[Row]:
    sessions = {name: Session(model, name) for name, model in models.items()}
    fp32 = {"original": trained.original, "prepared": trained.prepared}
    sessions |= {name: Session(model, name) for name, model in fp32.items()}
    rows: list[Row] = []
    for size in BATCH_SIZES:
        inputs = trained.evaluation.inputs
        batch = {name: np.resize(x, (size, *x.shape[1:])) for name, x in inputs.items()}
        calls: dict[str, Callable[[], None]] = {
            name: session.bound(batch) for name, session in sessions.items()
        }
        with one_core(True):
            times = measure(calls, rounds=section.blocks, block_ms=section.block_ms)
        times["fp32"] = min((times.pop(name) for name in fp32), key=_median_us)
        for name in models:
            case = f"{system}-{name}-b{size}"
            peers = ["fp32", PEER_OF[name]] if name in PEER_OF else ["fp32"]
            rows += _speedups(case, name, peers, times)
    return rows


def _speedups(case: str, name: str, peers: Sequence[str], times: Mapping[str, Timing]) -> list[Row]:
    rows = []
    for peer in peers:
        found = ratio(times[peer], times[name])
        told = f"{found.low:.2f} to {found.high:.2f}; {_median_us(times[name]):.1f} us"
        rows.append(Row(case, "speedup", found.value, "x", peer, told))
    return rows


def _median_us(timing: Timing) -> float:
    return float(np.median(timing.rounds))


if __name__ == "__main__":
    main()
