"""Prepare: from any FP32 graph to its canonical form, with the same outputs to float rounding.

The generic clean-up (inlining, constant folding, dead code, batch norm into its Gemm or Conv,
identities, common subexpressions, shapes) is onnxscript's; the passes of this package are what the
plan relies on.
"""

from __future__ import annotations

import onnx_ir as ir
from onnx_ir.passes import common
from onnxscript import optimizer

from qtool.graph.model_file import model_bytes, model_from_bytes
from qtool.graph.prepare.gemm import gemm
from qtool.graph.prepare.names import names

PASSES = (gemm, names)


def prepare(model: ir.Model) -> ir.Model:
    """Returns the canonical form of ``model``, which stays as it is."""
    prepared = model_from_bytes(model_bytes(model))
    # Files of IR version 3 list their weights as inputs too, where no pass may change them.
    common.RemoveInitializersFromInputsPass()(prepared)
    _forget_shapes(prepared)
    optimizer.optimize(prepared)
    common.ShapeInferencePass()(prepared)
    for one_pass in PASSES:
        one_pass(prepared)
    common.RemoveUnusedNodesPass()(prepared)
    common.ClearMetadataAndDocStringPass()(prepared)
    common.ShapeInferencePass()(prepared)
    return prepared


def _forget_shapes(model: ir.Model) -> None:
    """Drops the shapes of inner values: exporters leave stale ones behind."""
    outputs = set(model.graph.outputs)
    for node in model.graph:
        for value in node.outputs:
            if value not in outputs:
                value.shape = None
