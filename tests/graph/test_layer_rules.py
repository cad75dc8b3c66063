"""Rules for single layers: what each says of the method, of the ranges and of the weights."""

from __future__ import annotations

import numpy as np
import pytest
from pydantic import ValidationError
from support.graphs import attention, fraud_like, mlp
from support.quantizing import parameters_for

from qtool.config.quantization import (
    DynamicQuantization,
    LayerRule,
    MinMaxObserver,
    PercentileObserver,
    StaticQuantization,
    WeightOnlyQuantization,
)
from qtool.errors import ConfigError
from qtool.graph.plan import Plan
from qtool.graph.planner import make_plan
from qtool.graph.prepare.pipeline import prepare
from qtool.graph.targets import TARGETS

WIDE = MinMaxObserver(method="min_max")
NARROW = PercentileObserver(method="percentile", percentile=90)


def static(*rules, **options):
    return StaticQuantization(method="static", layers=list(rules), **options)


def plan_of(model, section):
    return make_plan(prepare(model), "sha", section, TARGETS["x86_vnni"])


def test_a_layer_has_the_observer_of_its_rule():
    rule = LayerRule(match="body.1", observer=NARROW)
    plan = plan_of(fraud_like(), static(rule, observer=WIDE))
    assert plan.observers == {"r0": NARROW}
    assert Plan.from_json(plan.to_json(), "plan.json") == plan
    node = next(node for node in plan.nodes if node.name == "body.1")
    assert node.treatment == "static"
    assert "rule" not in node.reason


def test_the_observer_of_a_rule_decides_the_range():
    model = mlp()
    gemms = [node for node in prepare(model).graph if node.op_type == "Gemm"]
    layer, name = gemms[1].name, gemms[1].inputs[0].name
    value = model.graph.inputs[0]
    random = np.random.default_rng(0)
    given = {value.name: random.normal(size=(500, value.shape[1])).astype(np.float32) ** 3}
    width = {
        word: float(parameters_for(model, given, section)[2].activations[name].scale)
        for word, section in (
            ("wide", static(observer=WIDE)),
            ("ruled", static(LayerRule(match=layer, observer=NARROW), observer=WIDE)),
            ("narrow", static(observer=NARROW)),
        )
    }
    assert width["ruled"] == width["narrow"] < width["wide"]


def test_of_each_thing_the_last_rule_that_says_it_holds():
    rules = (
        LayerRule(match="*", method="static", observer=WIDE),
        LayerRule(match="head", observer=NARROW),
        LayerRule(match="body.0", method="float"),
    )
    plan = plan_of(fraud_like(), static(*rules[:2], rules[2]))
    reasons = {node.name: node.reason for node in plan.nodes}
    assert plan.observers == {"r0": WIDE, "r1": NARROW}
    assert reasons["head"] == "rule '*'"
    assert reasons["body.0"] == "rule 'body.0'"


def test_weights_of_one_layer_have_the_bits_of_its_rule():
    rules = (
        LayerRule(match="body.0", method="weight_only", bits=4, block_size=16),
        LayerRule(match="head", method="weight_only"),
    )
    weights = plan_of(fraud_like(), static(*rules)).weights
    assert (weights["body.0.weight"].spec.bits, weights["body.0.weight"].spec.block) == (4, 16)
    assert (weights["head.weight"].spec.bits, weights["head.weight"].spec.block) == (8, 128)
    assert weights["body.1.weight"].spec.block is None


@pytest.mark.parametrize(
    ("section", "found"),
    [
        (
            DynamicQuantization(method="dynamic", layers=[LayerRule(match="*", observer=WIDE)]),
            "a rule sets observer, and none of its layers is static",
        ),
        (
            static(LayerRule(match="body.0", bits=4)),
            "a rule sets bits, and none of its layers is weight_only",
        ),
        (
            static(LayerRule(match="head", method="float", block_size=16)),
            "a rule sets block_size, and none of its layers is weight_only",
        ),
        (static(LayerRule(match="Relu", observer=WIDE)), "matches no layer that can be quantized"),
    ],
)
def test_what_a_rule_says_in_vain_is_an_error(section, found):
    with pytest.raises(ConfigError, match=found):
        plan_of(fraud_like(), section)


def test_two_observers_for_one_activation_are_an_error():
    model = prepare(attention())
    query = [node for node in model.graph if node.op_type == "MatMul"]
    readers = {}
    for node in query:
        readers.setdefault(node.inputs[0].name, []).append(node.name)
    first, second = next(names for names in readers.values() if len(names) > 1)[:2]
    rules = LayerRule(match=first, observer=WIDE), LayerRule(match=second, observer=NARROW)
    with pytest.raises(ConfigError, match="two observers for"):
        make_plan(model, "sha", static(*rules), TARGETS["x86_vnni"])


def test_a_rule_that_changes_nothing_is_an_error():
    with pytest.raises(ValidationError, match="a rule that changes nothing"):
        LayerRule(match="*")


def test_rewrites_come_before_numbers():
    tuning = [{"method": "gptq"}, {"method": "smooth"}]
    with pytest.raises(ValidationError, match="Put them first"):
        WeightOnlyQuantization.model_validate({"method": "weight_only", "tuning": tuning})
