"""What a layer costs on a target: a small model of the runtime's kernels, for the method ``auto``.

The time of a layer at one batch size is

    fixed + operations / rate + outputs * per_output + weight bytes / bandwidth      (microseconds)

with one set of constants per kind of kernel. They were fitted to ONNX Runtime 1.31 on one core of
a Xeon with AMX, and with AMX refused for the VNNI column (``benchmarks/blocks.py`` shows what comes
of the choices). For AVX2 and Arm the constants are estimates from instruction throughput. What
matters is where integer and float cross, and that is a question of factors, not of per cents.

A choice is made for the geometric mean over the batch sizes of the workload, so that no batch size
counts for more because it is larger.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass

import onnx_ir as ir

from qtool.graph.layers import (
    METHODS,
    Layer,
    layers_of,
    reason_of,
    stays_packed,
    value_at,
    why_not,
)
from qtool.graph.plan import Treatment
from qtool.graph.targets import Target

QUANTIZE_NS, REQUANTIZE_NS, RELU_NS = 0.25, 0.09, 0.12
"""Per element: QuantizeLinear; codes instead of floats from an integer product; a lone Relu."""
FLOAT_FIXED_US, FLOAT_GOPS = 1.2, 150.0
FLOAT_INPUT_NS = 0.2
"""Reading the rows of a float product, per element: what counts where there are few outputs."""
SMALL_PRODUCT_GOPS = 100.0
"""Float product of two activations: many small matrices."""
FLOAT_CONV_GOPS, FLOAT_CONV_OUTPUT_NS = 150.0, 0.2
UNPACKED_CONV_OUTPUT_NS = 0.4
"""More per output where the channels are no multiple of 4, as the special kernel wants them."""
BLOCK_GOPS, RECURRENT_GOPS, MOST_RECURRENT_GAIN = 170.0, 60.0, 4.0
"""MatMulNBits; a float LSTM or GRU; how much faster an integer LSTM gets."""
LOOKED_UP_US = 0.5
"""Dequantizing the rows of a packed table."""
FEW_ROWS = 8
"""A product of fewer rows has a fixed cost of its own."""
CACHE_BYTES, CACHE_GB_PER_S, MEMORY_GB_PER_S = 1_500_000, 150.0, 27.0
"""Weights up to this total stay in a core's second-level cache."""


@dataclass(frozen=True)
class Workload:
    """What the model will be asked.

    Attributes:
        batch_sizes: rows per call.
        shapes: value name → its shape for a batch of real rows.
        rows: rows of that batch.
    """

    batch_sizes: tuple[int, ...]
    shapes: Mapping[str, tuple[int, ...]]
    rows: int

    def elements(self, value: ir.Value | None, batch: int) -> float:
        """Returns how many elements ``value`` has at a batch size."""
        assert value is not None
        return math.prod(self.shapes[str(value.name)]) * batch / self.rows

    def width(self, value: ir.Value | None) -> int:
        """Returns the last dimension of ``value``."""
        assert value is not None
        shape = self.shapes[str(value.name)]
        return shape[-1] if shape else 1


@dataclass(frozen=True)
class IntegerKernels:
    """Constants of a target's integer kernels."""

    few_rows_fixed_us: float
    fixed_us: float
    gops: float
    conv_gops: float
    per_output_ns: float
    smallest_rows: int
    """A product with fewer rows takes as long as with these (matrix tiles)."""
    weight_only_rows: int
    """Up to so many rows 8-bit weight-only is as fast for sequences, and more exact."""
    lstm_units: int
    """From this many hidden units plus half the inputs the integer LSTM is the faster one at batch
    1; from five eighths of them where each call has at least ``FEW_ROWS`` rows."""


KERNELS = {
    "x86_amx": IntegerKernels(2.0, 1.3, 4000.0, 900.0, 0.33, 16, 4, 128),
    "x86_vnni": IntegerKernels(1.6, 1.2, 500.0, 900.0, 0.30, 1, 0, 128),
    "x86_avx2": IntegerKernels(1.6, 1.2, 250.0, 200.0, 0.35, 1, 0, 128),
    "arm_dotprod": IntegerKernels(1.6, 1.2, 300.0, 250.0, 0.35, 1, 0, 256),
}


def measured_values(model: ir.Model) -> tuple[str, ...]:
    """Returns the names of the values whose shapes a ``Workload`` must know."""
    layers = layers_of(model).values()
    values = [
        value
        for layer in layers
        for value in (*(layer.node.inputs[index] for index in layer.inputs), layer.output)
    ]
    return tuple(dict.fromkeys(str(value.name) for value in values if value is not None))


def fastest_methods(
    layers: Mapping[ir.Node, Layer], target: Target, workload: Workload
) -> dict[ir.Node, tuple[Treatment, str]]:
    """Returns the fastest method of every layer on ``target``, with the reason."""
    kernels = KERNELS[target.name]
    float_bytes = sum(
        _weight_count(layer) * 4 for layer in layers.values() if layer.kind != "table"
    )

    def gain(group: Collection[Layer]) -> float:
        """FP32 time over integer time, the geometric mean over the batch sizes."""
        logarithms = [
            math.log(sum(_float_us(layer, workload, batch, float_bytes) for layer in group))
            - math.log(
                sum(_integer_us(layer, kernels, workload, batch, float_bytes) for layer in group)
            )
            for batch in workload.batch_sizes
        ]
        return math.exp(sum(logarithms) / len(logarithms))

    # What one convolution leaves as codes the next one reads, so they are decided together; only
    # the first ones can be float at the price of quantizing their output instead of their input.
    first = {node for node, layer in layers.items() if layer.kind == "conv" and _is_first(node)}
    convolutions = [layer for node, layer in layers.items() if layer.kind == "conv"]
    convolutions_gain = gain(convolutions) if convolutions else 1.0
    found: dict[ir.Node, tuple[Treatment, str]] = {}
    for node, layer in layers.items():
        if layer.kind == "table":
            found[node] = "storage", reason_of(layer, "storage")
        elif layer.kind == "gru":
            found[node] = (
                "storage",
                f"{why_not(layer, 'static')}: stored as int8, computed in float",
            )
        elif layer.kind == "lstm":
            found[node] = _lstm(layer, kernels, workload)
        else:
            layer_gain = convolutions_gain if layer.kind == "conv" else gain([layer])
            if node in first:
                layer_gain = min(layer_gain, gain([layer]))
            found[node] = _by_gain(layer, layer_gain, kernels, workload)
    return found


def _by_gain(
    layer: Layer, gain: float, kernels: IntegerKernels, workload: Workload
) -> tuple[Treatment, str]:
    batches = ", ".join(map(str, workload.batch_sizes))
    predicted = f"predicted {gain:.1f} x FP32 at batch {batches}"
    most_rows = max(_rows(layer, workload, batch) for batch in workload.batch_sizes)
    tokens = layer.node.op_type == "MatMul" and layer.kind == "dense"
    if gain > 1 and tokens and most_rows <= kernels.weight_only_rows:
        return "weight_only", f"as fast as integers at {most_rows:.0f} rows, and more exact"
    if gain > 1:
        return "static", f"{METHODS[layer.kind]['static']}; {predicted}"
    if layer.kind == "product":
        return "float", f"integer product: {predicted}"
    return "storage", f"integer kernel: {predicted}; stored as int8, computed in float"


def _lstm(layer: Layer, kernels: IntegerKernels, workload: Workload) -> tuple[Treatment, str]:
    _, gates, inputs = _shape(layer.weight())
    units = gates // 4 + inputs // 2
    many_rows = min(workload.batch_sizes) >= FEW_ROWS
    needed = kernels.lstm_units * 5 // 8 if many_rows else kernels.lstm_units
    missing = why_not(layer, "dynamic")
    if missing is None and units >= needed:
        return "dynamic", METHODS["lstm"]["dynamic"]
    reason = missing or f"the integer LSTM is slower at {gates // 4} units and {inputs} inputs"
    return "storage", f"{reason}: stored as int8, computed in float"


def _float_us(layer: Layer, workload: Workload, batch: int, float_bytes: int) -> float:
    rate = {"dense": FLOAT_GOPS, "product": SMALL_PRODUCT_GOPS, "conv": FLOAT_CONV_GOPS}[layer.kind]
    operations = 2 * _multiplications(layer, workload, batch) / rate / 1e3
    inputs = sum(workload.elements(layer.node.inputs[index], batch) for index in layer.inputs)
    extra = (_chained_elements(layer, workload, batch) * RELU_NS + inputs * FLOAT_INPUT_NS) / 1e3
    if layer.kind == "conv":
        written = FLOAT_CONV_OUTPUT_NS + (QUANTIZE_NS if _is_first(layer.node) else 0.0)
        extra += workload.elements(layer.output, batch) * written / 1e3
    loading = _loading_us(_weight_count(layer) * 4, float_bytes)
    return FLOAT_FIXED_US + operations + extra + loading


def _integer_us(
    layer: Layer, kernels: IntegerKernels, workload: Workload, batch: int, float_bytes: int
) -> float:
    inputs = sum(workload.elements(layer.node.inputs[index], batch) for index in layer.inputs)
    chained = _chained_elements(layer, workload, batch)
    outputs = workload.elements(layer.output, batch)
    rows = _rows(layer, workload, batch)
    gops = kernels.conv_gops if layer.kind == "conv" else kernels.gops
    idle = 1.0 if layer.kind == "conv" else max(1.0, kernels.smallest_rows / rows)
    per_output_ns = kernels.per_output_ns
    if layer.kind == "conv":
        # Codes come from the convolution before, except in the first one.
        inputs = inputs if _is_first(layer.node) else 0.0
        if _shape(layer.weight())[1] % 4:
            per_output_ns += UNPACKED_CONV_OUTPUT_NS
    few_rows = layer.kind != "conv" and rows < FEW_ROWS
    return (
        (kernels.few_rows_fixed_us if few_rows else kernels.fixed_us)
        + 2 * _multiplications(layer, workload, batch) * idle / gops / 1e3
        + outputs * per_output_ns / 1e3
        + ((inputs - chained) * QUANTIZE_NS + chained * REQUANTIZE_NS) / 1e3
        + _loading_us(_weight_count(layer), float_bytes // 4)
    )


def _is_first(node: ir.Node) -> bool:
    """Whether no other convolution lies before ``node`` without another layer between them."""
    waiting, seen = [node.inputs[0]], set()
    while waiting:
        value = waiting.pop()
        producer = None if value is None else value.producer()
        if producer is None or producer in seen:
            continue
        seen.add(producer)
        if producer.op_type == "Conv":
            return False
        if producer.op_type not in ("LSTM", "GRU", "Gemm", "MatMul"):
            waiting.extend(producer.inputs)
    return True


def _chained_elements(layer: Layer, workload: Workload, batch: int) -> float:
    """Elements of an input that another dense layer leaves through a Relu, or a residual Add.

    Between two integer layers the Relu is folded, and codes pass instead of floats.
    """
    if layer.node.op_type != "Gemm":
        return 0.0
    value = value_at(layer.node, 0)
    relu = value.producer()
    if relu is None or relu.op_type != "Relu" or relu.inputs[0] is None:
        return 0.0
    producer = relu.inputs[0].producer()
    chained = producer is not None and producer.op_type in ("Gemm", "Add")
    return workload.elements(value, batch) if chained else 0.0


def _rows(layer: Layer, workload: Workload, batch: int) -> float:
    """Rows of a matrix product."""
    return workload.elements(layer.output, batch) / max(1, workload.width(layer.output))


def _multiplications(layer: Layer, workload: Workload, batch: int) -> float:
    """Multiply-adds of one call."""
    outputs = workload.elements(layer.output, batch)
    if layer.kind == "conv":
        return outputs * math.prod(_shape(layer.weight())[1:])
    return outputs * workload.width(layer.node.inputs[0])


def _weight_count(layer: Layer) -> int:
    return sum(math.prod(_shape(value_at(layer.node, index))) for index in layer.weights)


def _shape(initializer: ir.Value) -> tuple[int, ...]:
    assert initializer.const_value is not None
    return tuple(int(size) for size in initializer.const_value.shape)  # type: ignore[arg-type]


def _loading_us(count: int, total: int) -> float:
    bandwidth = CACHE_GB_PER_S if total <= CACHE_BYTES else MEMORY_GB_PER_S
    return count / bandwidth / 1e3


def table_us(
    layer: Layer, method: Treatment, bits: int, target: Target, workload: Workload, batch: int
) -> float:
    """Returns what a layer takes under a method, by the constants of this module.

    The weights of a weight-only kernel are loaded with their bits and multiplied at
    ``BLOCK_GOPS``; of recurrent layers and tables the constants are rougher.

    Args:
        layer: of the prepared graph.
        method: one that the layer can have.
        bits: of its weights.
        target: the CPU.
        workload: shapes.
        batch: rows per call.
    """
    kernels, float_bytes = KERNELS[target.name], 4 * _weight_count(layer)
    if layer.kind == "table":
        packed = LOOKED_UP_US if method == "storage" and stays_packed(layer) else 0.0
        return FLOAT_FIXED_US + workload.elements(layer.output, batch) * RELU_NS / 1e3 + packed
    if layer.kind in ("lstm", "gru"):
        gain = _recurrent_gain(layer, kernels) if method == "dynamic" else 1.0
        return _recurrent_us(layer, workload, batch) / gain
    if method in ("static", "dynamic"):
        integer = _integer_us(layer, kernels, workload, batch, float_bytes)
        if method == "static":
            return integer
        # Another pass for the range, and no codes from the layer before.
        return integer + workload.elements(layer.node.inputs[0], batch) * QUANTIZE_NS / 1e3
    if method == "weight_only":
        operations = 2 * _multiplications(layer, workload, batch) / BLOCK_GOPS / 1e3
        loading = _loading_us(_weight_count(layer) * bits // 8, float_bytes * bits // 32)
        return kernels.few_rows_fixed_us + operations + loading
    return _float_us(layer, workload, batch, float_bytes)


def _recurrent_us(layer: Layer, workload: Workload, batch: int) -> float:
    """Float LSTM or GRU: every step multiplies inputs and hidden units with all gates."""
    directions, gates, inputs = _shape(layer.weight())
    steps = workload.elements(layer.node.inputs[0], batch) / inputs
    hidden = _shape(value_at(layer.node, 2))[2]
    return 2 * steps * directions * gates * (inputs + hidden) / RECURRENT_GOPS / 1e3


def _recurrent_gain(layer: Layer, kernels: IntegerKernels) -> float:
    """Measured at 64, 128, 256 and 512 units: 0.8, 1.2, 2.2 and 3 to 7."""
    _, gates, inputs = _shape(layer.weight())
    return min((gates // 4 + inputs // 2) / kernels.lstm_units, MOST_RECURRENT_GAIN)
