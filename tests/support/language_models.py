"""Language models with a cache in the graph, run in one call and in many."""

from __future__ import annotations

import numpy as np
import onnxruntime as ort


def session(model):
    return ort.InferenceSession(model, providers=["CPUExecutionProvider"])


def generated(model, tokens, first):
    """Returns the logits of one call, and those of ``first`` tokens and then one by one."""
    caches = [value for value in model.get_inputs() if value.name.startswith("past_")]
    empty = {
        value.name: np.zeros((len(tokens), value.shape[1], 0, value.shape[3]), np.float32)
        for value in caches
    }
    whole, _ = call(model, tokens, empty)
    logits, cache = call(model, tokens[:, :first], empty)
    pieces = [logits]
    for step in range(first, tokens.shape[1]):
        logits, cache = call(model, tokens[:, step : step + 1], cache)
        pieces.append(logits)
    return whole, np.concatenate(pieces, axis=1)


def call(model, tokens, cache):
    names = [output.name for output in model.get_outputs()]
    found = dict(zip(names, model.run(None, {"tokens": tokens, **cache}), strict=True))
    return found.pop("logits"), {name.replace("present", "past"): x for name, x in found.items()}
