from __future__ import annotations

import pytest
from support.graphs import fraud_like, mlp

from qtool.config.quantization import DynamicQuantization, LayerRule, StaticQuantization
from qtool.errors import ConfigError, StaleArtifactError
from qtool.graph.plan import Plan
from qtool.graph.planner import make_plan
from qtool.graph.prepare.pipeline import prepare
from qtool.graph.tables import absorbed_tables
from qtool.graph.targets import TARGETS

STATIC = StaticQuantization(method="static")


def plan_of(model, section=STATIC, target="x86_amx"):
    return make_plan(prepare(model), "sha", section, TARGETS[target])


def treatments(plan):
    return {node.name: node.treatment for node in plan.nodes}


def test_static_plan_of_a_fraud_model():
    plan = plan_of(fraud_like())
    assert {
        node.name for node in plan.nodes if (node.op_type, node.treatment) == ("Gemm", "static")
    } == {
        "body.0",
        "body.1",
        "head",
    }
    assert {node.treatment for node in plan.nodes if node.op_type in ("Relu", "Concat")} == {
        "static"
    }
    assert "float" not in treatments(plan).values()
    assert {name for name, t in treatments(plan).items() if t == "storage"} == {
        "table.0",
        "table.1",
    }
    # The features are scaled column by column; what ReLU makes is scaled as a whole.
    assert {name: spec.axis for name, spec in plan.activations.items()} == {
        "features": 1,
        "r0": None,
        "r1": None,
    }
    assert plan.weights["body.0.weight"].folds == "features"
    assert plan.weights["body.1.weight"].folds is None
    assert "table.0.weight" not in plan.weights  # stored in the codes of the features
    assert plan.biases["head.bias"] == ("r1", "head.weight")


def test_every_node_has_a_reason():
    plan = plan_of(fraud_like())
    assert len(plan.nodes) == len(list(prepare(fraud_like()).graph))
    assert all(node.reason for node in plan.nodes)


def test_dynamic_plan_needs_no_activations():
    plan = plan_of(fraud_like(), DynamicQuantization(method="dynamic"))
    assert not plan.activations
    assert set(treatments(plan).values()) == {"dynamic", "storage", "float", "unchanged"}
    assert plan.weights["table.0.weight"].spec.axis == 1


@pytest.mark.parametrize("match", ["head", "he*", "Gemm"])
def test_a_rule_keeps_layers_in_float(match):
    section = StaticQuantization(method="static", layers=[LayerRule(match=match, method="float")])
    plan = plan_of(fraud_like(), section)
    assert treatments(plan)["head"] == "float"
    assert "head.weight" not in plan.weights
    reason = next(node.reason for node in plan.nodes if node.name == "head")
    assert reason == f"rule '{match}'"


def test_a_rule_that_matches_nothing_is_an_error():
    section = StaticQuantization(method="static", layers=[LayerRule(match="haed", method="float")])
    with pytest.raises(ConfigError, match=r"'haed' matches no node.*body.0 \(dense\), body.1"):
        plan_of(fraud_like(), section)


@pytest.mark.parametrize(
    ("target", "dtype", "bits"), [("x86_avx2", "uint8", 8), ("arm_dotprod", "int8", 8)]
)
def test_targets_choose_dtype_and_weight_bits(target, dtype, bits):
    plan = plan_of(mlp(), target=target)
    assert {spec.dtype for spec in plan.activations.values()} == {dtype}
    assert {weight.spec.bits for weight in plan.weights.values()} == {bits}


def test_dynamic_weights_have_seven_bits_where_saturation_cannot_be_foreseen():
    plan = plan_of(mlp(), DynamicQuantization(method="dynamic"), target="x86_avx2")
    assert {weight.spec.bits for weight in plan.weights.values()} == {7}


def test_a_plan_survives_its_file():
    plan = plan_of(fraud_like())
    assert Plan.from_json(plan.to_json(), "plan.json") == plan


def test_a_file_that_is_no_plan_is_refused():
    with pytest.raises(StaleArtifactError, match=r"plan\.json: not a plan"):
        Plan.from_json('{"method": "static"}', "plan.json")


def test_a_table_ruled_to_float_is_not_stored_as_codes():
    section = StaticQuantization(
        method="static", layers=[LayerRule(match="table.0", method="float")]
    )
    plan = plan_of(fraud_like(), section)
    model = prepare(fraud_like())
    assert treatments(plan)["table.0"] == "float"
    assert absorbed_tables(model, plan) == {"features": {"row1": "table.1.weight"}}


def test_one_scale_for_all_columns_also_where_tables_are_joined():
    plan = plan_of(fraud_like(), StaticQuantization(method="static", columns="shared"))
    assert plan.activations["features"].axis is None
    assert plan.weights["body.0.weight"].folds is None
    assert "table.0.weight" not in plan.weights  # stored in the codes of the features
    assert len(absorbed_tables(prepare(fraud_like()), plan)["features"]) == 2
