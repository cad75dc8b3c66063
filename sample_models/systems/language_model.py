"""Text that goes on by itself: greedy generation, one token a call, with the cache of the graph."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qtool.data.batch import Batch
from qtool.evaluation.system import Predict

TOKENS, PAST, PRESENT = "tokens", "past_", "present_"
"""The input of tokens, and what inputs and outputs of the cache begin with."""
PADDING = 0

Floats = NDArray[np.float64]
Cache = dict[str, NDArray[Any]]


def generation(
    fp32: Predict, int8: Predict, rows: Batch, prompt: int, length: int, prompts: int
) -> dict[str, tuple[Floats, Floats]]:
    """Returns how INT8 goes on with the text that FP32 writes.

    FP32 continues each prompt with its most likely tokens. INT8 is given the same tokens one by
    one, and is asked at each for its own choice: up to the first other one this is the text that it
    would write itself.

    Args:
        fp32: the model that is replaced; its inputs are ``tokens`` and the cache, its first output
            the logits.
        int8: the model that replaces it.
        rows: texts; those shorter than a prompt are left out.
        prompt: tokens of a prompt, the first of a row.
        length: tokens that are written; prompt and they fit into the context.
        prompts: how many there are at most.

    Returns:
        ``token_agreement_generated``, the share of the same choices, and
        ``tokens_before_difference``, both (prompts,), where FP32 agrees with itself;
        ``tokens_per_second`` (1,), batch 1, without the prompts.

    Raises:
        ValueError: no row is as long as a prompt.
    """
    agreement, before = [], []
    seconds = np.zeros(2)
    for start in _prompts(rows, prompt, prompts):
        written, taken = continued(fp32, rows, start, length)
        chosen, taken_int8 = followed(int8, rows, start, written)
        same = np.array(chosen) == np.array(written)
        agreement.append(same.mean())
        before.append(length if same.all() else same.argmin())
        seconds += taken, taken_int8
    if not agreement:
        raise ValueError(f"no row has {prompt} tokens")
    count = len(agreement)
    speed = count * (length - 1) / seconds
    return {
        "token_agreement_generated": (np.ones(count), np.array(agreement)),
        "tokens_before_difference": (np.full(count, float(length)), np.array(before, np.float64)),
        "tokens_per_second": (speed[:1], speed[1:]),
    }


def continued(
    model: Predict, rows: Batch, prompt: NDArray[np.int64], length: int
) -> tuple[list[int], float]:
    """Returns the most likely tokens after a prompt, and the seconds of all but the first.

    Args:
        model: as in ``generation``.
        rows: with the empty cache.
        prompt: int64 (1, steps).
        length: tokens to write.
    """
    token, cache = _step(model, prompt, _empty(rows))
    written = [token]
    started = time.perf_counter()
    while len(written) < length:
        token, cache = _step(model, np.array([[token]], np.int64), cache)
        written.append(token)
    return written, time.perf_counter() - started


def followed(
    model: Predict, rows: Batch, prompt: NDArray[np.int64], written: list[int]
) -> tuple[list[int], float]:
    """Returns what a model would write at each place of a text, and the seconds as above."""
    token, cache = _step(model, prompt, _empty(rows))
    chosen = [token]
    started = time.perf_counter()
    for given in written[:-1]:
        token, cache = _step(model, np.array([[given]], np.int64), cache)
        chosen.append(token)
    return chosen, time.perf_counter() - started


def _step(model: Predict, tokens: NDArray[np.int64], cache: Cache) -> tuple[int, Cache]:
    """Returns the most likely next token, and the cache with the given ones."""
    outputs = model({TOKENS: tokens, **cache})
    logits = next(iter(outputs.values()))
    present = {name: outputs[PRESENT + name.removeprefix(PAST)] for name in cache}
    return int(logits[0, -1].argmax()), present


def _empty(rows: Batch) -> Cache:
    return {name: array[:1] for name, array in rows.inputs.items() if name.startswith(PAST)}


def _prompts(rows: Batch, prompt: int, prompts: int) -> Iterator[NDArray[np.int64]]:
    tokens = rows.inputs[TOKENS]
    long_enough = np.flatnonzero((tokens[:, :prompt] != PADDING).sum(axis=1) == prompt)
    for row in long_enough[:prompts]:
        yield tokens[row : row + 1, :prompt]
