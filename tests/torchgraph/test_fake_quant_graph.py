"""The planned graph against the same arithmetic written with ``numerics.affine``."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from torchgraph.graphs import minmax_activations, scoring_inputs, scoring_model, scoring_plan

from qtool.errors import ConfigError, ModelError, StaleArtifactError
from qtool.numerics.affine import QuantSpec, fake_quantize, quantize, quantize_columns
from qtool.torchgraph.fake_quant_graph import FakeQuantGraph
from qtool.torchgraph.frozen import Frozen
from qtool.torchgraph.importer import TorchGraph


def quantized(rows=300, learn_scales=True, **options):
    graph, plan, inputs = TorchGraph(scoring_model()), scoring_plan(**options), scoring_inputs(rows)
    activations = minmax_activations(graph, plan, inputs)
    return FakeQuantGraph(graph, plan, activations, learn_scales=learn_scales), inputs


def integer_simulation(graph, inputs):
    """Returns codes and outputs by integer accumulation, as the runtime's kernels compute."""
    weights, plan = graph.weights(), graph.plan
    activations, params = graph.activation_qparams(), graph.weight_qparams()
    if "table.weight" in params:
        weights["table.weight"] = fake_quantize(weights["table.weight"], params["table.weight"])
    row = weights["table.weight"][inputs["category"].numpy()]
    x = np.concatenate([inputs["numeric"].numpy(), row], axis=1)
    codes = {"joined": quantize_columns(x, activations["joined"])}
    for layer, name, following in [("fc1", "joined", "h1"), ("fc2", "h1", "h2"), ("fc3", "h2", "")]:
        weight, scale = weights[f"{layer}.weight"], activations[name].scale
        if plan.weights[f"{layer}.weight"].folds:
            weight, scale = scale[:, None] * weight, np.float32(1)
        weight_params = params[f"{layer}.weight"]
        weight_codes = quantize(weight, weight_params).astype(np.int64)
        bias_scale = np.asarray(scale * weight_params.scale, np.float32)
        bias = np.rint(weights[f"{layer}.bias"] / bias_scale).astype(np.int64)
        centred = codes[name].astype(np.int64) - activations[name].zero_point.astype(np.int64)
        out = ((centred @ weight_codes + bias) * bias_scale.astype(np.float64)).astype(np.float32)
        if following:
            codes[following] = quantize(np.maximum(out, 0), activations[following])
    return codes, out


@pytest.mark.parametrize(
    "options",
    [{}, {"per_channel": True}, {"stored_table": True}, {"weight_bits": 4}],
    ids=["per tensor", "per channel", "stored table", "4 bits"],
)
def test_codes_equal_integer_arithmetic(options):
    graph, inputs = quantized(**options)
    expected, output = integer_simulation(graph, inputs)
    found = graph.codes(inputs, list(expected))
    for name, codes in expected.items():
        assert found[name].dtype == codes.dtype
        # A value halfway between two codes may fall on either side after float32 sums.
        difference = np.abs(found[name].astype(int) - codes.astype(int))
        assert difference.max() <= 1
        assert (difference == 0).mean() > 0.999
    np.testing.assert_array_equal(found["joined"], expected["joined"])
    step = graph.weight_qparams()["fc3.weight"].scale.max() * graph.activation_qparams()["h2"].scale
    assert np.abs(graph(inputs)["output"].detach().numpy() - output).max() <= 130 * step


def test_quantization_changes_the_output_a_little():
    graph, inputs = quantized()
    float_output = graph.graph(inputs)["output"]
    difference = (graph(inputs)["output"] - float_output).abs().max()
    assert 0 < difference < 0.05 * float_output.abs().max()


def with_output(name, treatment):
    """The scoring graph that also returns ``h1``, made by a Relu of the given treatment."""
    model = scoring_model()
    model.graph.outputs.append(
        next(node for node in model.graph if node.name == "relu1").outputs[0]
    )
    graph, inputs, plan = TorchGraph(model), scoring_inputs(50), scoring_plan()
    nodes = tuple(
        dataclasses.replace(node, treatment=treatment) if node.name == "relu1" else node
        for node in plan.nodes
    )
    plan = dataclasses.replace(plan, nodes=nodes)
    activations = minmax_activations(graph, plan, inputs)
    values = FakeQuantGraph(graph, plan, activations)(inputs)[name].detach().numpy()
    return values, fake_quantize(values, activations[name])


def test_an_output_stays_float_beside_the_codes_that_others_read():
    values, rounded = with_output("h1", "float")
    assert not np.array_equal(values, rounded)


def test_an_output_that_exists_as_codes_only_is_dequantized():
    values, rounded = with_output("h1", "static")
    np.testing.assert_array_equal(values, rounded)


def test_a_relu_is_left_to_the_lower_bound_of_its_codes():
    graph, inputs = quantized()
    names = [step.name for step in graph._planned.steps]
    assert "relu1" not in names
    hidden = graph(inputs, capture=["h1"])["h1"].detach().numpy()
    assert hidden.min() == 0
    assert hidden.max() > 0


def gradients(weights, activations):
    graph, inputs = quantized()
    graph.quantize(weights=weights, activations=activations)
    graph(inputs)["output"].sum().backward()
    scales = dict(
        zip(graph._params, torch.split(graph.log_scale_factors.grad, graph._sizes), strict=True)
    )
    return {name: bool(grad.any()) for name, grad in scales.items()}


def test_switches():
    graph, inputs = quantized()
    both, plain = graph(inputs)["output"], graph.graph(inputs)["output"]
    graph.quantize(weights=False, activations=False)
    assert torch.equal(graph(inputs)["output"], plain)
    found = []
    for weights, activations in ((True, False), (False, True)):
        graph.quantize(weights=weights, activations=activations)
        found.append(graph(inputs)["output"])
        assert not torch.equal(found[-1], plain)
        assert not torch.equal(found[-1], both)
    graph.quantize(weights=True, activations=True)
    assert torch.equal(graph(inputs)["output"], both)
    # The first layer's weight is quantized in the scales of its input, so that these stay.
    assert gradients(weights=True, activations=False) == {
        "joined": True,
        "h1": False,
        "h2": False,
        "fc1.weight": True,
        "fc2.weight": True,
        "fc3.weight": True,
    }
    assert gradients(weights=False, activations=True)["fc2.weight"] is False


def test_frozen_scales_stay():
    graph, inputs = quantized()
    optimizer = torch.optim.AdamW(graph.parameters(), lr=0.1)
    graph(inputs)["output"].square().sum().backward()
    optimizer.step()
    learned = graph.activation_qparams()["h1"].scale
    graph.freeze_scales()
    optimizer.zero_grad()
    graph(inputs)["output"].square().sum().backward()
    optimizer.step()
    assert graph.activation_qparams()["h1"].scale == learned


def test_shared_scales_are_one_parameter():
    graph, plan, inputs = TorchGraph(scoring_model()), scoring_plan(), scoring_inputs(300)
    activations = minmax_activations(graph, plan, inputs)
    activations["h2"] = activations["h1"]
    fake = FakeQuantGraph(graph, dataclasses.replace(plan, shares={"h2": "h1"}), activations)
    before = FakeQuantGraph(graph, plan, activations)
    assert len(fake.log_scale_factors) == len(before.log_scale_factors) - 1
    assert torch.equal(fake(inputs)["output"], before(inputs)["output"])
    for each in (fake, before):
        each(inputs)["output"].sum().backward()
    of = list(before._params)
    apart = dict(zip(of, torch.split(before.log_scale_factors.grad, before._sizes), strict=True))
    joint = dict(
        zip(fake._params, torch.split(fake.log_scale_factors.grad, fake._sizes), strict=True)
    )
    torch.testing.assert_close(joint["h1"], apart["h1"] + apart["h2"])


def test_initial_parameters_come_back_to_the_bit():
    graph, inputs = quantized()
    activations = minmax_activations(graph.graph, graph.plan, inputs)
    for name, params in graph.activation_qparams().items():
        assert params.spec == activations[name].spec
        np.testing.assert_array_equal(params.scale, activations[name].scale)
        np.testing.assert_array_equal(params.zero_point, activations[name].zero_point)
        assert params.scale.dtype == np.float32
    assert graph.weight_qparams()["fc2.weight"].scale.shape == ()


def test_scales_learn_and_stay_positive():
    graph, inputs = quantized()
    optimizer = torch.optim.Adam(graph.parameters(), lr=0.5)
    for _ in range(5):
        optimizer.zero_grad()
        graph(inputs)["output"].square().sum().backward()
        optimizer.step()
    assert graph.log_scale_factors.grad.abs().min() > 0
    for params in (graph.activation_qparams() | graph.weight_qparams()).values():
        assert (params.scale > 0).all()


def test_fixed_scales_get_no_gradient():
    graph, inputs = quantized(learn_scales=False)
    graph(inputs)["output"].sum().backward()
    assert graph.log_scale_factors.grad is None
    assert all(parameter.grad is not None for parameter in graph.graph.parameters())


def test_a_frozen_node_may_not_be_quantized():
    frozen = Frozen(("fc2",), lambda model, where: dict)
    graph, inputs = TorchGraph(scoring_model(), frozen=frozen), scoring_inputs(9)
    activations = minmax_activations(TorchGraph(scoring_model()), scoring_plan(), inputs)
    with pytest.raises(ConfigError, match=r"train_qat.frozen: node 'fc2'.*planned as static"):
        FakeQuantGraph(graph, scoring_plan(), activations)


def test_a_plan_of_another_graph_is_refused():
    graph, _ = quantized()
    activations = graph.activation_qparams() | {"elsewhere": graph.activation_qparams()["h1"]}
    renamed = {**graph.plan.activations, "elsewhere": graph.plan.activations["h1"]}
    plan = dataclasses.replace(graph.plan, activations=renamed)
    with pytest.raises(ModelError, match="elsewhere"):
        FakeQuantGraph(graph.graph, plan, activations)


def test_parameters_of_another_plan_are_refused():
    graph, _ = quantized()
    other = {**graph.plan.activations, "h1": QuantSpec("int8", symmetric=False)}
    plan = dataclasses.replace(graph.plan, activations=other)
    with pytest.raises(StaleArtifactError, match="activation 'h1'"):
        FakeQuantGraph(graph.graph, plan, graph.activation_qparams())
