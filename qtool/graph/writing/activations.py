"""Writes the planned activations: codes, and their dequantized values for those who read them.

* A value that exists in float32: QuantizeLinear, then DequantizeLinear for its readers, which the
  runtime fuses into them.
* A column-wise input: each part → Mul(1/scale) → Add(zero_point) → QuantizeLinear(1, 0); tables
  are stored as codes; the parts are concatenated as codes. With one scale for all columns each part
  is quantized by itself where tables join it.
* A value that a node moves on codes: the same operator on the codes of its input.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from qtool.graph.code_regions import moves_codes
from qtool.graph.tables import absorbed_tables, column_count
from qtool.graph.writing.editor import Editor
from qtool.numerics.affine import QuantParams, dequantize, quantize, quantize_columns

REAL_ONE = np.float32(1)
STORAGE_BITS = 8


def codes_name(activation: str) -> str:
    """Returns the name of the codes of a planned activation in the INT8 graph."""
    return f"{activation}.q_output"


def quantize_activations(editor: Editor) -> None:
    """Gives every planned activation its codes, and its readers the quantized value."""
    tables = absorbed_tables(editor.model, editor.plan)
    for name, params in editor.parameters.activations.items():
        value = editor.values[name]
        producer = value.producer()
        planned = editor.planned(producer)
        only_codes = planned is not None and planned.leaves_codes
        readers = _readers(editor, value, everyone=only_codes)
        if producer is not None and only_codes and moves_codes(producer):
            real = _real(editor, _moved(editor, producer, value, params), name, params)
        elif params.spec.axis == 1:
            codes = _column_codes(editor, value, params, tables.get(name, {}))
            zero = np.zeros((), params.spec.dtype)
            real = editor.after(codes, "DequantizeLinear", f"{name}.dq", REAL_ONE, zero)
        elif name in tables:
            real = _real(editor, _column_codes(editor, value, params, tables[name]), name, params)
        else:
            numbers = (params.scale, params.zero_point)
            source = value if params.spec.bits == STORAGE_BITS else _clipped(editor, value, params)
            codes = editor.after(source, "QuantizeLinear", f"{name}.q", *numbers)
            real = _real(editor, codes, name, params)
        for node, index in readers:
            node.replace_input_with(index, real)
        if only_codes:
            _replace_output(editor, value, real)


def _clipped(editor: Editor, value: ir.Value, params: QuantParams) -> ir.Value:
    """QuantizeLinear clamps at 8 bits only; codes of fewer bits need their real ends cut before."""
    codes = np.array([params.spec.qmin, params.spec.qmax], params.spec.dtype)
    low, high = dequantize(codes, params)
    return editor.after(value, "Clip", f"{value.name}.clipped", low, high)


def _real(editor: Editor, codes: ir.Value, name: str, params: QuantParams) -> ir.Value:
    numbers = (params.scale, params.zero_point)
    return editor.after(codes, "DequantizeLinear", f"{name}.dq", *numbers)


def _readers(editor: Editor, value: ir.Value, *, everyone: bool) -> list[tuple[ir.Node, int]]:
    found = []
    for use in value.uses():
        planned = editor.planned(use.node)
        if everyone or (planned is not None and planned.treatment == "static"):
            found.append((use.node, use.idx))
    return found


def _replace_output(editor: Editor, value: ir.Value, real: ir.Value) -> None:
    """A graph output that exists as codes only becomes their dequantized value."""
    for index, output in enumerate(editor.graph.outputs):
        if output is value:
            editor.graph.outputs[index] = real
            real.name, value.name = value.name, f"{value.name}.float"
            real.type, real.shape = value.type, value.shape


def _moved(
    editor: Editor,
    producer: ir.Node,
    value: ir.Value,
    params: QuantParams,
) -> ir.Value:
    """The operator of ``producer`` once more, on codes; all its outputs are made together."""
    index = list(producer.outputs).index(value)
    done = editor.nodes.get(f"{producer.name}.q")
    if done is None:
        source = producer.inputs[0]
        assert source is not None
        # By now the node reads the dequantized value of its input, whose codes are known.
        (known, *_) = editor.quantization_of(source)
        inputs: list[ir.Value | None] = [known, *producer.inputs[1:]]
        if producer.op_type == "Pad":
            zero = editor.add(f"{producer.name}.q.zero_point", params.zero_point)
            inputs = [*inputs[:2], zero, *inputs[3:]]
        done = ir.node(
            producer.op_type,
            inputs,
            dict(producer.attributes),
            num_outputs=len(producer.outputs),
            name=f"{producer.name}.q",
        )
        for old, new in zip(producer.outputs, done.outputs, strict=True):
            new.name = codes_name(str(old.name))
        editor.nodes[f"{producer.name}.q"] = done
        editor.graph.insert_after(producer, done)
    return done.outputs[index]


def _column_codes(
    editor: Editor, value: ir.Value, params: QuantParams, tables: dict[str, str]
) -> ir.Value:
    concat = value.producer()
    if concat is None or not tables:
        return _scaled_codes(editor, value, params, str(value.name))
    codes, start = [], 0
    for index, part in enumerate(concat.inputs):
        assert part is not None
        columns = slice(start, start + column_count(part))
        start = columns.stop
        part_params = params
        if params.spec.axis == 1:
            scale, zero_point = params.scale[columns], params.zero_point[columns]
            part_params = QuantParams(params.spec, scale, zero_point)
        if part.name in tables:
            codes.append(_table_codes(editor, part, part_params))
        else:
            codes.append(_scaled_codes(editor, part, part_params, f"{value.name}.{index}"))
    joined = ir.node("Concat", codes, {"axis": 1}, name=f"{value.name}.codes")
    joined.outputs[0].name = codes_name(str(value.name))
    editor.graph.insert_after(concat, joined)
    return joined.outputs[0]


def _table_codes(editor: Editor, part: ir.Value, params: QuantParams) -> ir.Value:
    gather = part.producer()
    assert gather is not None
    assert gather.inputs[0] is not None
    name = str(gather.inputs[0].name)
    rounded = quantize_columns if params.spec.axis == 1 else quantize
    table = rounded(editor.parameters.constants[name], params)
    inputs = [editor.add(f"{name}.codes", table), gather.inputs[1]]
    lookup = ir.node("Gather", inputs, name=f"{gather.name}.q")
    lookup.outputs[0].name = codes_name(str(part.name))
    editor.graph.insert_after(gather, lookup)
    return lookup.outputs[0]


def _scaled_codes(editor: Editor, value: ir.Value, params: QuantParams, name: str) -> ir.Value:
    if params.spec.axis is None:
        return editor.after(value, "QuantizeLinear", f"{name}.q", params.scale, params.zero_point)
    scaled = editor.after(value, "Mul", f"{name}.scaled", REAL_ONE / params.scale)
    offset = params.zero_point.astype(np.float32)
    moved = editor.after(scaled, "Add", f"{name}.offset", offset)
    if params.spec.bits < STORAGE_BITS:  # where QuantizeLinear clamps
        ends = (np.float32(params.spec.qmin), np.float32(params.spec.qmax))
        moved = editor.after(moved, "Clip", f"{name}.clipped", *ends)
    zero = np.zeros((), params.spec.dtype)
    return editor.after(moved, "QuantizeLinear", f"{name}.q", REAL_ONE, zero)
