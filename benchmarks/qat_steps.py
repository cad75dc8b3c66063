"""How long one training step takes: native module, imported graph, fake-quant graph, compiled."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import onnx_ir as ir
import torch
from harness import Row
from torch import Tensor, nn

from qtool.data.memory_map import Rows
from qtool.torchgraph.compiled import compiled
from qtool.torchgraph.fake_quant_graph import FakeQuantGraph
from qtool.torchgraph.importer import TorchGraph
from qtool.training.batches import take
from qtool.training.parallel import CPU

BATCH_ROWS = 256
WARM_UP, ROUNDS = 3, 25
Step = Callable[[], None]


def step_rows(
    case: str, module: nn.Module, prepared: ir.Model, graph: FakeQuantGraph, rows: Rows
) -> list[Row]:
    """Returns the rows of one model: medians of the ratios of interleaved steps.

    Args:
        case: name of the rows.
        module: the native module.
        prepared: the same model as a graph.
        graph: its fake-quant graph.
        rows: the first of them are trained on, again and again.
    """
    inputs, _ = take(rows, slice(0, BATCH_ROWS), CPU)
    fp32 = TorchGraph(prepared)
    eager = stepper(fp32, lambda: first(fp32(inputs)))
    native = stepper(module.train(), lambda: first(module(**inputs)))
    ratios = {
        ("imported_step_over_native", ""): ratio(eager, native),
        ("step_time_over_fp32", "eager"): ratio(
            stepper(graph, lambda: first(graph(inputs))), eager
        ),
    }
    (quantized, why_not), (plain, _) = compiled(graph), compiled(fp32)
    if why_not is None:
        step = stepper(graph, lambda: first(quantized(inputs)))
        fastest = max(ratio(step, eager), ratio(step, stepper(fp32, lambda: first(plain(inputs)))))
        ratios["step_time_over_fp32", "compiled"] = fastest
    notes = f"batches of {len(next(iter(inputs.values())))} rows"
    return [Row(case, metric, value, "x", peer, notes) for (metric, peer), value in ratios.items()]


def stepper(module: nn.Module, forward: Callable[[], Tensor]) -> Step:
    """Returns one step of AdamW on the mean square of the output."""
    optimizer = torch.optim.AdamW(module.parameters(), 1e-6, fused=True)

    def step() -> None:
        loss = forward().square().mean()
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    return step


def ratio(slow: Step, fast: Step) -> float:
    """Returns the median over rounds of the time of ``slow`` over that of ``fast``."""
    torch.set_num_threads(1)
    for _ in range(WARM_UP):
        slow()
        fast()
    return statistics.median(timed(slow) / timed(fast) for _ in range(ROUNDS))


def timed(step: Step) -> float:
    """Returns seconds."""
    start = time.perf_counter()
    step()
    return time.perf_counter() - start


def first(outputs: Tensor | dict[str, Tensor]) -> Tensor:
    """Returns the only output."""
    return outputs if isinstance(outputs, Tensor) else next(iter(outputs.values()))
