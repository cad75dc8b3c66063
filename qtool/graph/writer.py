"""Writes the INT8 graph: plan and parameters become Q/DQ nodes that the runtime fuses.

Forms (ONNX Runtime 1.31, checked on the optimised graph after every write by ``runtime.kernels``):

* static Gemm: DequantizeLinear on activation, int8 weight and int32 bias in front of Gemm → QGemm;
  its output is requantized only where another static Gemm reads it, else it leaves the kernel as
  float32.
* column-wise input: each part → Mul(1/scale) → Add(zero_point) → QuantizeLinear(1, 0); tables are
  stored as codes; the parts are concatenated as codes; the zero points are taken out of the int32
  bias: Σ_k (c_k - z_k) q_k = Σ_k c_k q_k - Σ_k z_k q_k.
* static Gemm with float32 output in front of an activation that the runtime would fuse into a
  *float* Gemm first: com.microsoft.QGemm itself.
* dynamic Gemm: com.microsoft.DynamicQuantizeMatMul with the bias inside.
* stored table: Gather(int8) → Cast → Mul(scale of each column).
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray
from onnx_ir.passes.common import RemoveUnusedNodesPass

from qtool.graph.model_file import model_bytes, model_from_bytes
from qtool.graph.parameters import Parameters, fold
from qtool.graph.plan import Plan, WeightPlan
from qtool.graph.planner import absorbed_tables, column_count
from qtool.numerics.affine import QuantParams, quantize, quantize_columns

MICROSOFT = "com.microsoft"
FUSED_ACTIVATIONS = frozenset(
    {
        "Elu",
        "HardSigmoid",
        "LeakyRelu",
        "Relu",
        "Selu",
        "Sigmoid",
        "Softplus",
        "Softsign",
        "Tanh",
        "ThresholdedRelu",
    }
)
"""What ONNX Runtime 1.31 (GemmActivationFusion) fuses into a float Gemm, before Q/DQ."""
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
    written = model_from_bytes(model_bytes(model))
    writer = _Writer(written, plan, parameters)
    if plan.method == "static":
        writer.quantize_activations()
        writer.static_gemms()
    else:
        writer.dynamic_gemms()
    writer.stored_tables()
    writer.drop_unused()
    written.metadata_props.update({METADATA_PREFIX + key: text for key, text in metadata.items()})
    return written


def codes_name(activation: str) -> str:
    """Returns the name of the codes of a planned activation in the INT8 graph."""
    return f"{activation}.q_output"


class _Writer:
    """The graph under construction, with the few steps that all forms share."""

    def __init__(self, model: ir.Model, plan: Plan, parameters: Parameters) -> None:
        self.model, self.graph = model, model.graph
        self.plan, self.parameters = plan, parameters
        self.nodes = {str(node.name): node for node in model.graph}
        self.absorbed = absorbed_tables(model, plan)

    # --- activations ---------------------------------------------------------------------------

    def quantize_activations(self) -> None:
        """Replaces every planned activation by its dequantized codes, for all its consumers."""
        values = self._values()
        for name, params in self.parameters.activations.items():
            value = values[name]
            uses = [(use.node, use.idx) for use in value.uses()]
            if params.spec.axis == 1:
                codes = self._column_codes(value, params)
                one = np.float32(1)
                zero = np.zeros((), params.spec.dtype)
                real = self._after(codes, "DequantizeLinear", f"{name}.dq", one, zero)
            else:
                numbers = (params.scale, params.zero_point)
                codes = self._after(value, "QuantizeLinear", f"{name}.q", *numbers)
                real = self._after(codes, "DequantizeLinear", f"{name}.dq", *numbers)
            for node, index in uses:
                node.replace_input_with(index, real)

    def _column_codes(self, value: ir.Value, params: QuantParams) -> ir.Value:
        concat = value.producer()
        tables = self.absorbed.get(str(value.name), {})
        if concat is None or not tables:
            return self._scaled_codes(value, params, str(value.name))
        codes, start = [], 0
        for index, part in enumerate(concat.inputs):
            assert part is not None
            columns = slice(start, start + column_count(part))
            start = columns.stop
            part_params = QuantParams(
                params.spec, params.scale[columns], params.zero_point[columns]
            )
            if part.name in tables:
                codes.append(self._table_codes(part, part_params))
            else:
                codes.append(self._scaled_codes(part, part_params, f"{value.name}.{index}"))
        joined = ir.node("Concat", codes, {"axis": 1}, name=f"{value.name}.codes")
        joined.outputs[0].name = codes_name(str(value.name))
        self.graph.insert_after(concat, joined)
        return joined.outputs[0]

    def _table_codes(self, part: ir.Value, params: QuantParams) -> ir.Value:
        gather = part.producer()
        assert gather is not None
        assert gather.inputs[0] is not None
        name = str(gather.inputs[0].name)
        table = quantize_columns(self.parameters.constants[name], params)
        lookup = ir.node(
            "Gather", [self._add(f"{name}.codes", table), gather.inputs[1]], name=f"{gather.name}.q"
        )
        lookup.outputs[0].name = f"{part.name}.q_output"
        self.graph.insert_after(gather, lookup)
        return lookup.outputs[0]

    def _scaled_codes(self, value: ir.Value, params: QuantParams, name: str) -> ir.Value:
        scaled = self._after(value, "Mul", f"{name}.scaled", np.float32(1) / params.scale)
        offset = params.zero_point.astype(np.float32)
        moved = self._after(scaled, "Add", f"{name}.offset", offset)
        zero = np.zeros((), params.spec.dtype)
        return self._after(moved, "QuantizeLinear", f"{name}.q", np.float32(1), zero)

    # --- dense layers --------------------------------------------------------------------------

    def static_gemms(self) -> None:
        """Gives every static Gemm its int8 weight and int32 bias."""
        for bias_name, (activation, weight_name) in self.plan.biases.items():
            planned = self.plan.weights[weight_name]
            params = self.parameters.weights[weight_name]
            codes = self._weight_codes(weight_name, planned)
            activation_params = self.parameters.activations[activation]
            folded = planned.folds is not None
            input_scale = np.float32(1) if folded else activation_params.scale
            bias_scale = np.asarray(input_scale * params.scale, np.float32)
            steps = np.rint(self.parameters.constants[bias_name] / bias_scale)
            # Beyond int64 the cast would turn a large bias into one of the other sign.
            bias = np.clip(steps, -(2.0**62), 2.0**62).astype(np.int64)
            if folded:
                zero_points = activation_params.zero_point.astype(np.int64)
                bias = bias - zero_points @ codes.astype(np.int64)
            limit = np.iinfo(np.int32)
            bias32 = np.clip(bias, limit.min, limit.max).astype(np.int32)
            node = self._reader(weight_name)
            if _would_fuse_as_float(node):
                self._to_qgemm(node, weight_name, codes, params, bias32)
                continue
            axis = {} if params.spec.axis is None else {"axis": 1}
            weight = self._dequantized(
                node, weight_name, codes, params.scale, params.zero_point, axis
            )
            bias_axis = {} if params.spec.axis is None else {"axis": 0}
            zero = np.zeros(bias_scale.shape, np.int32)
            node.replace_input_with(1, weight)
            node.replace_input_with(
                2, self._dequantized(node, bias_name, bias32, bias_scale, zero, bias_axis)
            )

    def _to_qgemm(
        self,
        node: ir.Node,
        weight_name: str,
        codes: NDArray[np.integer],
        params: QuantParams,
        bias: NDArray[np.int32],
    ) -> None:
        """Replaces ``node`` by QGemm(a, a_scale, a_zero, b, b_scale, b_zero, bias) → float32."""
        dequantize = node.inputs[0].producer() if node.inputs[0] is not None else None
        assert dequantize is not None
        assert dequantize.op_type == "DequantizeLinear"
        fused = ir.node(
            "QGemm",
            [
                *dequantize.inputs,
                self._add(f"{weight_name}.codes", codes),
                self._add(f"{weight_name}.scale", params.scale),
                self._add(f"{weight_name}.zero_point", params.zero_point),
                self._add(f"{node.name}.bias.codes", bias),
            ],
            domain=MICROSOFT,
            name=node.name,
        )
        self._replace(node, fused)

    def dynamic_gemms(self) -> None:
        """Replaces every dynamic Gemm by the runtime's fused operator."""
        for planned in self.plan.nodes:
            if planned.treatment != "dynamic":
                continue
            node = self.nodes[planned.name]
            name = _name(node.inputs[1])
            params = self.parameters.weights[name]
            codes = self._weight_codes(name, self.plan.weights[name])
            fused = ir.node(
                "DynamicQuantizeMatMul",
                [
                    node.inputs[0],
                    self._add(f"{name}.codes", codes),
                    self._add(f"{name}.scale", params.scale),
                    self._add(f"{name}.zero_point", params.zero_point),
                    node.inputs[2],
                ],
                domain=MICROSOFT,
                name=node.name,
            )
            self._replace(node, fused)

    def stored_tables(self) -> None:
        """Stores every table of treatment ``storage`` that no column-wise input absorbs as int8."""
        for planned in self.plan.nodes:
            node = self.nodes[planned.name]
            if planned.treatment != "storage" or _name(node.inputs[0]) not in self.plan.weights:
                continue
            name = _name(node.inputs[0])
            params = self.parameters.weights[name]
            uses = [(use.node, use.idx) for use in node.outputs[0].uses()]
            table = self.graph.initializers.get(f"{name}.codes") or self._add(
                f"{name}.codes", quantize(self.parameters.constants[name], params)
            )
            node.replace_input_with(0, table)
            output = node.outputs[0]
            output.dtype = ir.DataType.INT8
            real = ir.node(
                "Cast", [output], {"to": int(ir.DataType.FLOAT)}, name=f"{node.name}.cast"
            )
            self.graph.insert_after(node, real)
            scaled = self._after(real.outputs[0], "Mul", f"{node.name}.scaled", params.scale)
            for user, index in uses:
                user.replace_input_with(index, scaled)

    def drop_unused(self) -> None:
        """Removes what the new nodes replaced."""
        RemoveUnusedNodesPass()(self.model)

    # --- small steps ---------------------------------------------------------------------------

    def _weight_codes(self, name: str, planned: WeightPlan) -> NDArray[np.integer]:
        real = fold(self.parameters.constants[name], planned.folds, self.parameters.activations)
        return quantize(real, self.parameters.weights[name])

    def _replace(self, node: ir.Node, fused: ir.Node) -> None:
        ir.convenience.replace_nodes_and_values(
            self.graph, node, [node], [fused], [node.outputs[0]], [fused.outputs[0]]
        )
        self.model.opset_imports.setdefault(MICROSOFT, 1)

    def _reader(self, initializer: str) -> ir.Node:
        (use,) = self.graph.initializers[initializer].uses()  # prepare gives each Gemm its own
        return use.node

    def _dequantized(
        self,
        before: ir.Node,
        name: str,
        codes: NDArray[np.integer],
        scale: NDArray[np.float32],
        zero_point: NDArray[np.integer],
        attributes: dict[str, int],
    ) -> ir.Value:
        inputs = [
            self._add(f"{name}.codes", codes),
            self._add(f"{name}.scale", np.asarray(scale)),
            self._add(f"{name}.zero_point", np.asarray(zero_point)),
        ]
        node = ir.node("DequantizeLinear", inputs, attributes, name=f"{name}.dq")
        node.outputs[0].name = f"{name}.dq_output"
        self.graph.insert_before(before, node)
        return node.outputs[0]

    def _after(
        self, value: ir.Value, op_type: str, name: str, *constants: NDArray[np.generic] | np.generic
    ) -> ir.Value:
        """Adds ``op_type(value, *constants)`` right after ``value`` is made; returns its output."""
        inputs = [value] + [
            self._add(f"{name}.{index}", np.asarray(array)) for index, array in enumerate(constants)
        ]
        node = ir.node(op_type, inputs, name=name)
        node.outputs[0].name = f"{name}_output"
        producer = value.producer()
        if producer is None:
            self.graph.insert_before(self.graph[0], node)
        else:
            self.graph.insert_after(producer, node)
        return node.outputs[0]

    def _add(self, name: str, array: NDArray[np.generic]) -> ir.Value:
        value = ir.val(name, const_value=ir.tensor(array, name=name))
        self.graph.register_initializer(value)
        return value

    def _values(self) -> dict[str, ir.Value]:
        values = {str(value.name): value for value in self.graph.inputs}
        for node in self.graph:
            values.update({str(value.name): value for value in node.outputs})
        return values


def _would_fuse_as_float(node: ir.Node) -> bool:
    uses = list(node.outputs[0].uses())
    if len(uses) != 1 or uses[0].node.op_type not in FUSED_ACTIVATIONS:
        return False
    # Relu → QuantizeLinear is the one case that the runtime requantizes inside the integer GEMM.
    following = uses[0].node
    after = [use.node.op_type for use in following.outputs[0].uses()]
    return not (following.op_type == "Relu" and after == ["QuantizeLinear"])


def _name(value: ir.Value | None) -> str:
    assert value is not None
    return str(value.name)
