"""The fake-quant graph against the written model in ONNX Runtime, for every form of every layer."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from support.graphs import (
    attention,
    fraud_like,
    fraud_rows,
    mlp,
    recurrent,
    residual_convolutions,
    residual_mlp,
    sequence_dense,
)
from support.quantizing import parameters_for

from qtool.config.quantization import (
    DynamicQuantization,
    LayerRule,
    StaticQuantization,
    StorageQuantization,
    WeightOnlyQuantization,
)
from qtool.errors import ModelError
from qtool.evaluation.parity import session_with_codes
from qtool.graph.parameters import Parameters
from qtool.graph.plan import Plan, WeightPlan
from qtool.graph.writing.activations import codes_name
from qtool.graph.writing.writer import write
from qtool.torchgraph.fake_quant_graph import FakeQuantGraph
from qtool.torchgraph.importer import TorchGraph

STATIC = StaticQuantization(method="static")
PER_CHANNEL = StaticQuantization(method="static", per_channel=True)
DYNAMIC = DynamicQuantization(method="dynamic")
STORAGE = StorageQuantization(method="storage")
PRODUCTS = StaticQuantization(method="static", layers=[LayerRule(match="MatMul", method="static")])


def rows_of(*shape, rows=64, axis=0):
    size = list(shape)
    size.insert(axis, rows)
    return {"x": np.random.default_rng(9).standard_normal(size).astype(np.float32)}


def both(model, rows, section, change=lambda plan: plan):
    """Returns (simulated, runtime) values by name: codes of all activations, the output."""
    prepared, plan, parameters = parameters_for(model, rows, section)
    plan = change(plan)
    graph = FakeQuantGraph(TorchGraph(prepared), plan, parameters.activations)
    parameters = Parameters(
        parameters.constants, graph.activation_qparams(), graph.weight_qparams()
    )
    session = session_with_codes(write(prepared, plan, parameters, {}), plan)
    output = session.output_names[0]
    tensors = {name: torch.from_numpy(array) for name, array in rows.items()}
    codes = graph.codes(tensors, list(plan.activations))
    simulated = {codes_name(name): array for name, array in codes.items()}
    simulated[output] = graph(tensors)[output].detach().numpy()
    return output, simulated, session.run(rows, list(simulated))


def assert_codes_equal(simulated, actual, output, share=0.999):
    names = [name for name in actual if name != output]
    differences = [np.abs(simulated[n].astype(int) - actual[n].astype(int)) for n in names]
    assert max(difference.max() for difference in differences) <= 2
    equal = np.concatenate([(difference == 0).ravel() for difference in differences])
    assert equal.mean() >= share


def relative(simulated, actual):
    return np.sqrt(((simulated - actual) ** 2).mean() / (actual**2).mean())


STATIC_CASES = {
    "mlp": (mlp(), rows_of(8), STATIC),
    "mlp per channel": (mlp(), rows_of(8), PER_CHANNEL),
    "mlp sigmoid": (mlp("Sigmoid"), rows_of(8), STATIC),
    "tables and columns": (fraud_like(), fraud_rows(300), STATIC),
    "tables and one scale": (
        fraud_like(),
        fraud_rows(300),
        StaticQuantization(method="static", columns="shared"),
    ),
    "residual mlp": (residual_mlp(), rows_of(32), STATIC),
    "sequence": (sequence_dense(activation="Relu"), rows_of(5, 16), STATIC),
    "convolutions, relu": (residual_convolutions(), rows_of(4, 20), STATIC),
    "convolutions, leaky relu": (residual_convolutions("LeakyRelu"), rows_of(4, 20), STATIC),
    "convolutions, sigmoid": (residual_convolutions("Sigmoid"), rows_of(4, 20), STATIC),
    "convolutions, pool and concat": (residual_convolutions(pool=True), rows_of(4, 20), STATIC),
    "wide convolutions": (residual_convolutions(channels=128), rows_of(4, 20), STATIC),
    "attention, projections": (attention(), rows_of(6, 32), STATIC),
    "attention, products too": (attention(), rows_of(6, 32), PRODUCTS),
}


@pytest.mark.parametrize("case", STATIC_CASES.values(), ids=STATIC_CASES.keys())
def test_static_codes_equal_those_of_the_kernels(case):
    output, simulated, actual = both(*case)
    assert_codes_equal(simulated, actual, output)
    assert relative(simulated[output], actual[output]) < 2e-3


KERNEL_CASES = {
    "dynamic mlp": (mlp(), rows_of(8), DYNAMIC),
    "dynamic sequence": (sequence_dense(), rows_of(5, 16), DYNAMIC),
    "dynamic LSTM": (recurrent(hidden=20), rows_of(5, 6, axis=1), DYNAMIC),
    "dynamic bidirectional LSTM": (
        recurrent(hidden=20, bidirectional=True),
        rows_of(5, 6, axis=1),
        DYNAMIC,
    ),
    "stored LSTM": (recurrent(), rows_of(5, 6, axis=1), STORAGE),
    "stored GRU": (recurrent("GRU"), rows_of(5, 6, axis=1), STORAGE),
    "stored mlp": (mlp(), rows_of(8), STORAGE),
    **{
        f"weight-only {name}, {bits} bits, blocks of {block}": (
            model,
            rows,
            WeightOnlyQuantization(method="weight_only", bits=bits, block_size=block),
        )
        for bits in (8, 4)
        for name, model, rows, block in (
            ("mlp", mlp(), rows_of(8), 16),
            ("sequence", sequence_dense(), rows_of(5, 16), 32),
        )
    },
}


@pytest.mark.parametrize("case", KERNEL_CASES.values(), ids=KERNEL_CASES.keys())
def test_kernels_that_quantize_their_own_input(case):
    """There are no codes to compare; the rounding of weights and inputs is 1e-2 of the output."""
    output, simulated, actual = both(*case)
    # A sum in another order can move one code of the next layer's input.
    assert relative(simulated[output], actual[output]) < 1e-3


def test_narrow_channels():
    def narrow(plan: Plan) -> Plan:
        weights = {
            name: WeightPlan(weight.spec, weight.folds, narrow=(0,))
            for name, weight in plan.weights.items()
            if weight.spec.axis == 1
        }
        return dataclasses.replace(plan, weights=plan.weights | weights)

    output, simulated, actual = both(residual_mlp(), rows_of(32), PER_CHANNEL, narrow)
    assert_codes_equal(simulated, actual, output)


def test_training_keeps_narrow_channels_narrow():
    model, rows = fraud_like(), fraud_rows(200)
    prepared, plan, parameters = parameters_for(model, rows, PER_CHANNEL)
    weights = {
        name: dataclasses.replace(weight, narrow=(0,)) if weight.spec.axis == 1 else weight
        for name, weight in plan.weights.items()
    }
    plan = dataclasses.replace(plan, weights=weights)
    graph = FakeQuantGraph(TorchGraph(prepared), plan, parameters.activations)
    with torch.no_grad():
        for parameter in graph.graph.parameters():
            parameter.mul_(4 + torch.rand_like(parameter))
    trained, learned = graph.written_back(prepared)
    int8 = write(trained, plan, learned, {})
    codes = {
        name: int8.graph.initializers[f"{name}.codes"].const_value.numpy()
        for name, weight in plan.weights.items()
        if weight.narrow
    }
    assert codes
    assert all(np.abs(code[:, 0]).max() == 63 for code in codes.values())
    assert any(np.abs(code).max() == 127 for code in codes.values())
    session = session_with_codes(int8, plan)
    tensors = {name: torch.from_numpy(array) for name, array in rows.items()}
    simulated = {
        codes_name(name): found for name, found in graph.codes(tensors, plan.activations).items()
    }
    assert_codes_equal(simulated, session.run(rows, list(simulated)), output="")


def test_a_value_inside_of_a_kernel_cannot_be_captured():
    rows = rows_of(32)
    prepared, plan, parameters = parameters_for(residual_mlp(), rows, STATIC)
    graph = FakeQuantGraph(TorchGraph(prepared), plan, parameters.activations)
    adds = [node.outputs[0].name for node in prepared.graph if node.op_type == "Add"]
    folded = [name for name in adds if name not in plan.activations]
    assert folded
    with pytest.raises(ModelError, match=f"value '{folded[0]}': part of the kernel"):
        graph({"x": torch.from_numpy(rows["x"])}, capture=folded)


@pytest.mark.parametrize("bits", [4, 3, 2])
def test_fewer_bits(bits):
    def few(plan: Plan) -> Plan:
        weights = {
            name: dataclasses.replace(weight, spec=dataclasses.replace(weight.spec, bits=bits))
            for name, weight in plan.weights.items()
        }
        return dataclasses.replace(plan, weights=weights)

    output, simulated, actual = both(residual_convolutions(), rows_of(4, 20), STATIC, few)
    assert_codes_equal(simulated, actual, output)
