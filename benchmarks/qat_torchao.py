"""torchao's PT2E quantization-aware training of one model, in an environment of its own.

``train_pt2e`` writes the FP32 model as a ``torch.export`` program, its rows and the recipe into a
folder and runs this file there with another Python, which needs torch, NumPy and torchao:
``python qat_torchao.py FOLDER``. What comes back are the outputs of the converted model and the
times of training steps. Both sides must have the same torch.

Seen with torchao 0.18.0 and torch 2.13.0: ``X86InductorQuantizer`` (which moved to
``torchao.quantization.pt2e.quantizer.x86_inductor_quantizer``) quantizes linear and conv2d; it
leaves conv1d and LSTM in float, so that of a TCN or an LSTM only the head is trained quantized.
"""

from __future__ import annotations

import copy
import dataclasses
import itertools
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from qat_fit import Recipe, Task, batches, fit, optimizer_of, predict, train_step
from torch import nn

if TYPE_CHECKING:
    from qat_rows import Splits

JOB, PROGRAM, ROWS, RESULT, OUTPUTS = "job.json", "fp32.pt2", "rows.npz", "result.json", "test.npy"
WARM_STEPS, TIMED_STEPS = 5, 30


@dataclass(frozen=True, eq=False)
class Pt2e:
    """A model that torchao trained and converted.

    Attributes:
        outputs: of the test rows, from the converted model, float32 (rows, outputs).
        step_ms: median of a training step.
        fp32_step_ms: of the same program without fake quantization, measured in turn with it.
        integer_weights: how many weights are quantized.
        versions: of torch and torchao.
    """

    outputs: NDArray[np.float32]
    step_ms: float
    fp32_step_ms: float
    integer_weights: int
    versions: str


@dataclass(frozen=True)
class NotRun:
    """Why there is no result."""

    reason: str


def train_pt2e(
    python: Path,
    module: nn.Module,
    splits: Splits,
    task: Task,
    recipe: Recipe,
    *,
    weight_bits: int,
    seed: int,
    threads: int = 1,
) -> Pt2e | NotRun:
    """Returns what torchao makes of ``module``, which stays as it is.

    Args:
        python: interpreter of an environment with torchao.
        module: trained in FP32; exported in eval mode, without dropout.
        splits: training rows, validation rows that choose the epoch, test rows that are scored.
        task: what the outputs are.
        recipe: of the quantization-aware training.
        weight_bits: 2 to 8; activations have 8.
        seed: of the order of the rows.
        threads: of torch.
    """
    batch = torch.export.Dim("batch")
    examples = {name: torch.from_numpy(array[:2]) for name, array in splits.training.inputs.items()}
    program = torch.export.export(
        copy.deepcopy(module).eval(),
        (),
        examples,
        dynamic_shapes={name: {0: batch} for name in examples},
    )
    job = {
        "task": task,
        "recipe": dataclasses.asdict(recipe),
        "weight_bits": weight_bits,
        "seed": seed,
        "threads": threads,
    }
    with tempfile.TemporaryDirectory() as directory:
        folder = Path(directory)
        torch.export.save(program, folder / PROGRAM)
        np.savez(folder / ROWS, **_named(splits))  # type: ignore[arg-type]
        (folder / JOB).write_text(json.dumps(job), encoding="utf-8")
        return _run(python, folder)


def _run(python: Path, folder: Path) -> Pt2e | NotRun:
    command = [str(python), __file__, str(folder)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        return NotRun(f"{python}: {error.strerror}")
    if done.returncode != 0:
        told = done.stderr.strip().splitlines()
        return NotRun(told[-1] if told else f"{python} ended with status {done.returncode}")
    result = json.loads((folder / RESULT).read_text(encoding="utf-8"))
    return Pt2e(np.load(folder / OUTPUTS), **result)


def _named(splits: Splits) -> dict[str, NDArray[Any]]:
    """Returns every array of the splits by ``split/input``, labels under the empty input name."""
    parts = zip(("training", "validation", "test"), splits.all(), strict=True)
    return {
        f"{split}/{name}": array
        for split, rows in parts
        for name, array in {**rows.inputs, "": rows.labels}.items()
    }


def _rows(
    arrays: Mapping[str, NDArray[Any]], split: str
) -> tuple[dict[str, NDArray[Any]], NDArray[Any]]:
    named = {key.partition("/")[2]: arrays[key] for key in arrays if key.startswith(f"{split}/")}
    labels = named.pop("")
    return named, labels


def work(folder: Path) -> None:
    """Trains and converts what lies in ``folder`` and writes the result there."""
    # In this function only: the benchmark's own environment has no torchao.
    import torchao  # type: ignore[import-not-found]
    from torchao.quantization.pt2e import (  # type: ignore[import-not-found]
        disable_observer,
        enable_observer,
        move_exported_model_to_eval,
        move_exported_model_to_train,
    )
    from torchao.quantization.pt2e.quantize_pt2e import (  # type: ignore[import-not-found]
        convert_pt2e,
        prepare_qat_pt2e,
    )
    from torchao.quantization.pt2e.quantizer import (  # type: ignore[import-not-found]
        x86_inductor_quantizer as x86,
    )

    job = json.loads((folder / JOB).read_text(encoding="utf-8"))
    torch.set_num_threads(job["threads"])
    recipe, task = Recipe(**job["recipe"]), job["task"]
    arrays = dict(np.load(folder / ROWS))
    training, validation, test = (
        _rows(arrays, split) for split in ("training", "validation", "test")
    )
    program = torch.export.load(folder / PROGRAM)
    config = x86.get_default_x86_inductor_quantization_config(is_qat=True)
    largest = 2 ** (job["weight_bits"] - 1) - 1
    weight = dataclasses.replace(config.weight, quant_min=-largest - 1, quant_max=largest)
    quantizer = x86.X86InductorQuantizer().set_global(dataclasses.replace(config, weight=weight))
    model = prepare_qat_pt2e(program.module(), quantizer)

    def set_training(module: nn.Module, training: bool) -> None:
        # Without the second half the ranges would follow the rows that only judge.
        if training:
            move_exported_model_to_train(module)
            module.apply(enable_observer)
        else:
            move_exported_model_to_eval(module)
            module.apply(disable_observer)

    set_training(model, True)
    step_ms, fp32_step_ms = step_times(
        [copy.deepcopy(model), program.module()], training, task, recipe
    )
    fit(model, training, validation, task, recipe, job["seed"], set_training)
    converted = convert_pt2e(model)
    np.save(folder / OUTPUTS, predict(converted, test[0]))
    weights = [node for node in converted.graph.nodes if "dequantize_per_channel" in node.name]
    result = {
        "step_ms": step_ms,
        "fp32_step_ms": fp32_step_ms,
        "integer_weights": len(weights),
        "versions": f"torch {torch.__version__}, torchao {torchao.__version__}",
    }
    (folder / RESULT).write_text(json.dumps(result), encoding="utf-8")


def step_times(
    modules: list[nn.Module],
    training: tuple[dict[str, NDArray[Any]], NDArray[Any]],
    task: Task,
    recipe: Recipe,
) -> list[float]:
    """Returns the median milliseconds of a training step of each module, measured in turns."""
    optimizers = [optimizer_of(module, recipe) for module in modules]
    times: list[list[float]] = [[] for _ in modules]
    passes = (batches(training, recipe.batch_rows, seed=seed) for seed in itertools.count())
    steps = itertools.chain.from_iterable(passes)
    for inputs, labels in itertools.islice(steps, WARM_STEPS + TIMED_STEPS):
        for module, optimizer, taken in zip(modules, optimizers, times, strict=True):
            start = time.perf_counter()
            train_step(module, inputs, labels, task, optimizer)
            taken.append((time.perf_counter() - start) * 1e3)
    return [float(np.median(taken[WARM_STEPS:])) for taken in times]


if __name__ == "__main__":
    work(Path(sys.argv[1]))
