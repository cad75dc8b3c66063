"""Prepare: from any FP32 graph to its canonical form, with the same outputs to float rounding.

The generic clean-up is onnxscript's: inlining of functions, constant folding, dead code,
identities, dropout, Flatten, pairs of transpositions, paddings in front of a Conv, common
subexpressions. The passes of this package are what the plan relies on, or what ONNX Runtime
computes faster. What they do not know, they leave: control flow, operators of other domains.
"""

from __future__ import annotations

import onnx_ir as ir
from onnx_ir.passes import common
from onnxscript import optimizer

from qtool.graph.prepare.accepted import check_accepted
from qtool.graph.prepare.affine import affine
from qtool.graph.prepare.constants import register_constants
from qtool.graph.prepare.conv import conv
from qtool.graph.prepare.dense import dense
from qtool.graph.prepare.names import names
from qtool.graph.prepare.opset import convert_opset, drop_newer_attributes
from qtool.graph.prepare.ownership import own_constants
from qtool.graph.prepare.residual import residual
from qtool.graph.prepare.scales import scales
from qtool.graph.prepare.shapes import forget_shapes, infer_shapes

PASSES = (dense, scales, conv, own_constants, affine, residual, names)
OLDEST_IR = 8
"""Of the files that are written; before version 4 every weight had to be an input."""
FOLDED_ELEMENTS = 1 << 40
"""Constants are folded whatever their size: else a transposed or weight-normalized weight would be
no constant, and its layer not quantized. What would make the model larger is not folded."""


def prepare(model: ir.Model) -> ir.Model:
    """Returns the canonical form of ``model``, which stays as it is.

    Raises:
        ModelError: the model is quantized already, was exported for training, or has an operator of
            an old opset that cannot be converted.
    """
    check_accepted(model)
    prepared = convert_opset(model.clone())
    # Files of IR version 3 list their weights as inputs too, where no pass may change them.
    common.RemoveInitializersFromInputsPass()(prepared)
    prepared.ir_version = max(prepared.ir_version, OLDEST_IR)
    forget_shapes(prepared)
    optimizer.optimize(prepared, input_size_limit=FOLDED_ELEMENTS)
    register_constants(prepared)
    drop_newer_attributes(prepared)
    infer_shapes(prepared)
    for one_pass in PASSES:
        one_pass(prepared)
    common.RemoveUnusedNodesPass()(prepared)
    common.ClearMetadataAndDocStringPass()(prepared)
    infer_shapes(prepared)
    return prepared
