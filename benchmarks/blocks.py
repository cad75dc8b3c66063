"""Every block of a finance model: qtool's ``fastest`` form, FP32, and ONNX Runtime's own tools.

A case is a block and a batch size (``tcn-c64-b1``: 64 channels, batch 1). ``fp32`` is the faster of
the exported and the prepared model; the note names it. ``ort-static`` and ``ort-dynamic`` are
``quantize_static`` and ``quantize_dynamic`` with defaults on the exported model, ``…-best`` the
fastest of the settings in benchmarks/peers_ort.py whose error is below 0.2, after
``quant_pre_process``; ``crashed`` says where a peer made no model. A speed-up is the median over
interleaved rounds of the peer's latency divided by that of qtool's model: above 1, qtool is faster.
``error`` is the root mean square of the change of the outputs on rows that were not used for
calibration, divided by their standard deviation. One core, one thread.

The weights are random (He et al. 2015), so errors rank the tools and say nothing of a task.
``fp32-conv2d`` is, where there is one, the same network exported with 2-D convolutions: ONNX
Runtime computes those faster than 1-D ones in FP32, and who trains such a network may write it so.
"""

from __future__ import annotations

import fnmatch
import logging
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir
from block_models import BLOCKS, CONV2D, Block
from harness import Row, arguments, report
from numpy.typing import NDArray
from peers_ort import DYNAMIC_SETTINGS, STATIC_SETTINGS, ort_dynamic, ort_static, pre_processed

from qtool.calibration.calibrate import observe, ranges
from qtool.calibration.saturation import avoid_saturation
from qtool.calibration.settle import settle_columns
from qtool.config.quantization import FastestQuantization
from qtool.graph.costs import Workload, measured_values
from qtool.graph.model_file import model_bytes
from qtool.graph.parameters import derive
from qtool.graph.planner import make_plan
from qtool.graph.prepare.pipeline import prepare
from qtool.graph.targets import TARGETS
from qtool.graph.writing.writer import write
from qtool.numerics.observers import observer
from qtool.progress import SilentProgress
from qtool.runtime.cpu import resolve_target
from qtool.runtime.latency import Timing, measure, one_core, ratio
from qtool.runtime.sessions import Session
from qtool.runtime.shapes import shapes_of

Inputs = Mapping[str, NDArray[Any]]
CASES: dict[str, tuple[int, ...]] = {
    "mlp-512x3": (1, 32, 256),
    "mlp-30-512x3": (32,),
    "mlp-64x3": (1,),
    "mlp-silu": (64,),
    "mlp-gelu": (64,),
    "mlp-tanh": (64,),
    "mlp-sigmoid": (64,),
    "mlp-leakyrelu": (64,),
    "mlp-layernorm": (64,),
    "mlp-batchnorm": (64,),
    "mlp-3d": (8,),
    "residual-mlp-128-512x3": (64,),
    "encoder-d128x2-s60": (1,),
    "encoder-d384x6-s128": (1, 8),
    "encoder-d768x2-s128": (8,),
    "encoder-prenorm-d256x4-s64": (1,),
    "encoder-masked-d256x2-s64": (1,),
    "encoder-torch-d256x2-s64": (1,),
    "tcn-c32": (1, 32),
    "tcn-c64": (1, 32),
    "tcn-c128": (1, 32),
    "deeplob-relu": (1, 32),
    "deeplob-leakyrelu": (1, 32),
    "separable-c128": (1,),
    "lstm-h64": (1, 32),
    "lstm-h128": (1, 32),
    "lstm-h256": (1, 32),
    "lstm-h512": (1,),
    "gru-h128": (1,),
    "gru-h256": (1, 32),
    "embedding-26x20k": (1, 32, 256),
    "dlrm-8x5k": (32,),
    "two-tower": (32,),
    "decoder-d512x4-s1": (1,),
    "decoder-d512x4-s64": (1,),
}
"""Block → batch sizes that matter for it."""
TOLERABLE_ERROR = 0.2
"""A peer's setting with a larger error is no competitor, however fast."""
TABULAR_ROWS, SEQUENCE_ROWS = 512, 64
"""Calibration rows: a sequence has as many values as its steps."""
JUDGED_ROWS = 128
CALIBRATION_SEED, JUDGED_SEED, TIMED_SEED = 1, 2, 3
CALIBRATION_BATCH = 16
QUICK_BLOCKS = ("mlp-64x3", "mlp-3d")


def main() -> None:
    """Measures every case that is asked for and reports its rows."""
    parser = arguments(__doc__ or "")
    parser.add_argument("--cases", default="*", metavar="GLOB", help="such as 'encoder-*-b8'")
    given = parser.parse_args()
    logging.disable(logging.WARNING)  # the peers' advice, which their best settings follow
    rows = []
    for name, batch_sizes in chosen_cases(given.cases, quick=given.quick).items():
        rows += block_rows(name, batch_sizes, quick=given.quick)
        sys.stderr.write(f"{name} done\n")
    report(rows, given.json)


def chosen_cases(pattern: str, *, quick: bool) -> dict[str, tuple[int, ...]]:
    """Returns the batch sizes to measure of every block with a case that matches ``pattern``.

    Raises:
        ValueError: no case matches.
    """
    chosen = {
        name: tuple(size for size in sizes if fnmatch.fnmatchcase(f"{name}-b{size}", pattern))
        for name, sizes in CASES.items()
        if not quick or name in QUICK_BLOCKS
    }
    if not any(chosen.values()):
        raise ValueError(f"no case matches {pattern!r}; the blocks are {', '.join(CASES)}")
    return {name: sizes for name, sizes in chosen.items() if sizes}


def block_rows(name: str, batch_sizes: tuple[int, ...], *, quick: bool) -> list[Row]:
    """Returns the rows of one block at the given batch sizes."""
    block = BLOCKS[name]()
    sample = calibration_rows(block)
    prepared = prepare(block.model)
    fp32 = {"original": model_bytes(block.model), "prepared": model_bytes(prepared)}
    if name in CONV2D and not quick:
        fp32["fp32-conv2d"] = model_bytes(prepare(CONV2D[name]().model))
    candidates, failures = peer_models(fp32["original"], sample, quick=quick)
    rows: list[Row] = []
    for size in batch_sizes:
        case = f"{name}-b{size}"
        qtool = model_bytes(qtool_model(prepared, sample, size))
        models = {**fp32, "qtool": qtool, **candidates}
        rows += case_rows(case, models, block, size, quick=quick)
        rows += [
            Row(case, "crashed", 1.0, "", peer, reason)
            for peer, reason in failures.items()
            if not any(made.partition("|")[0] == peer for made in candidates)
        ]
    return rows


def calibration_rows(block: Block) -> Inputs:
    """Returns the rows that qtool and its peers calibrate on."""
    tabular = all(array.ndim == 2 for array in block.rows(1, CALIBRATION_SEED).values())
    return block.rows(TABULAR_ROWS if tabular else SEQUENCE_ROWS, CALIBRATION_SEED)


def qtool_model(prepared: ir.Model, sample: Inputs, batch_size: int) -> ir.Model:
    """Returns qtool's ``fastest`` form of a prepared model for this machine and a batch size."""
    section = FastestQuantization(method="fastest")
    shapes = shapes_of(prepared, measured_values(prepared), sample)
    rows = len(next(iter(sample.values())))
    workload = Workload((batch_size,), shapes, rows)
    plan = make_plan(prepared, "", section, TARGETS[resolve_target("auto")], workload)
    batches = (
        {name: array[start : start + CALIBRATION_BATCH] for name, array in sample.items()}
        for start in range(0, rows, CALIBRATION_BATCH)
    )
    chosen = observer(section.observer)
    seen = observe(prepared, plan, batches, rows, SilentProgress())
    plan, seen = settle_columns(prepared, plan, seen, chosen)
    found = ranges(plan, seen, chosen)
    plan = avoid_saturation(prepared, plan, found, sample)
    return write(prepared, plan, derive(prepared, plan, found), {})


def peer_models(
    fp32: bytes, sample: Inputs, *, quick: bool
) -> tuple[dict[str, bytes], dict[str, str]]:
    """Returns the peers' models by ``name`` or ``name|settings``, and why peers made none.

    Args:
        fp32: the exported model.
        sample: calibration rows.
        quick: only the peers' defaults.
    """
    models: dict[str, bytes] = {}
    failures: dict[str, str] = {}

    def attempt(name: str, make: Callable[[], bytes]) -> None:
        try:
            made = make()
            Session(made, name)
        except Exception as error:  # whatever a peer raises is what its user would see
            reason = str(error).strip().partition("\n")[0][:80]
            failures[name.partition("|")[0]] = f"{type(error).__name__}: {reason}"
        else:
            models[name] = made

    attempt("ort-static", lambda: ort_static(fp32, sample))
    attempt("ort-dynamic", lambda: ort_dynamic(fp32))
    if quick:
        return models, failures
    try:
        ready = pre_processed(fp32)
    except Exception as error:
        failures["quant_pre_process"] = type(error).__name__
        ready = fp32
    for name, settings in STATIC_SETTINGS.items():
        attempt(f"ort-static-best|{name}", lambda s=settings: ort_static(ready, sample, **s))  # type: ignore[misc]
    for name, settings in DYNAMIC_SETTINGS.items():
        attempt(f"ort-dynamic-best|{name}", lambda s=settings: ort_dynamic(ready, **s))  # type: ignore[misc]
    return models, failures


def case_rows(
    case: str, models: Mapping[str, bytes], block: Block, batch_size: int, *, quick: bool
) -> list[Row]:
    """Returns speed-ups, errors and size of one case."""
    sessions = {name: Session(model, name) for name, model in models.items()}
    batch, judged = block.rows(batch_size, TIMED_SEED), block.rows(JUDGED_ROWS, JUDGED_SEED)
    with one_core(True):
        times = measure(
            {name: session.bound(batch) for name, session in sessions.items()},
            rounds=3 if quick else 25,
            block_ms=2.0 if quick else 15.0,
        )
    expected = _outputs(sessions["original"], judged)
    errors = {name: _error(_outputs(s, judged), expected) for name, s in sessions.items()}
    rows = []
    for peer, name in competitors(times, errors).items():
        rows.append(_speedup(case, peer, name, times))
        if not peer.startswith("fp32"):
            rows.append(Row(case, "error", errors[name], "share", peer))
    size = len(models["qtool"]) / len(models["original"])
    return [
        *rows,
        Row(case, "error", errors["qtool"], "share"),
        Row(case, "size_ratio", size, "share", "fp32"),
    ]


def competitors(times: Mapping[str, Timing], errors: Mapping[str, float]) -> dict[str, str]:
    """Returns peer → the model that stands for it: the fastest of its settings that can be used."""
    found = {"fp32": _fastest(times, ("original", "prepared"))}
    found |= {name: name for name in ("fp32-conv2d", "ort-static", "ort-dynamic") if name in times}
    for peer in ("ort-static-best", "ort-dynamic-best"):
        made = [name for name in times if name.partition("|")[0] == peer]
        usable = [name for name in made if errors[name] <= TOLERABLE_ERROR]
        if usable:
            found[peer] = _fastest(times, usable)
        elif made:
            found[peer] = min(made, key=lambda name: errors[name])
    return found


def _speedup(case: str, peer: str, name: str, times: Mapping[str, Timing]) -> Row:
    found = ratio(times[name], times["qtool"])
    us = f"{np.median(times['qtool'].rounds):.1f} us"
    which = name if peer == "fp32" else name.partition("|")[2]
    told = [f"{found.low:.2f} to {found.high:.2f}", us, *([which] if which else [])]
    return Row(case, "speedup", found.value, "x", peer, "; ".join(told))


def _fastest(times: Mapping[str, Timing], names: Sequence[str]) -> str:
    return min(names, key=lambda name: float(np.median(times[name].rounds)))


def _outputs(session: Session, inputs: Inputs) -> NDArray[np.float64]:
    outputs = session.run(inputs)[session.output_names[0]]
    return outputs.astype(np.float64)


def _error(found: NDArray[np.float64], expected: NDArray[np.float64]) -> float:
    spread = np.sqrt(((expected - expected.mean(axis=0)) ** 2).mean())
    return float(np.sqrt(((found - expected) ** 2).mean()) / spread)


if __name__ == "__main__":
    main()
