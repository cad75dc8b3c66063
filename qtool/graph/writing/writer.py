"""Writes the INT8 graph: plan and parameters become the forms that the runtime's kernels run fast.

The forms (ONNX Runtime 1.31) are described in the files of this package; what the runtime makes of
them is read back after every write (``evaluation.coverage``).
"""

from __future__ import annotations

import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass

from qtool.graph.parameters import Parameters, with_constants
from qtool.graph.plan import Plan
from qtool.graph.writing.activations import quantize_activations
from qtool.graph.writing.conv import write_convolutions
from qtool.graph.writing.dense import write_dense
from qtool.graph.writing.editor import Editor
from qtool.graph.writing.recurrent import write_recurrent
from qtool.graph.writing.storage import write_stored

METADATA_PREFIX = "qtool."


def write(
    model: ir.Model, plan: Plan, parameters: Parameters, metadata: dict[str, str]
) -> ir.Model:
    """Returns the INT8 form of the prepared ``model``, which stays as it is.

    Args:
        model: the prepared graph that ``plan`` was made for.
        plan: who is quantized, how.
        parameters: the numbers.
        metadata: stored in the file's metadata properties, each key with the prefix ``qtool.``.
    """
    # A form that adds a bias in float reads it from the graph.
    written = with_constants(model, parameters.changed(model))
    editor = Editor(written, plan, parameters)
    write_stored(editor)
    quantize_activations(editor)
    write_dense(editor)
    write_convolutions(editor)
    write_recurrent(editor)
    RemoveUnusedNodesPass()(written)
    written.metadata_props.update({METADATA_PREFIX + key: text for key, text in metadata.items()})
    return written
