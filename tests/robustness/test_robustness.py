"""Every attack and stress on both models, judged in one table."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch
from robustness.applicants import BOXES, ENCODER, REFERENCE, WEIGHTS, batch_of, scores
from sklearn.metrics import roc_auc_score
from support.graphs import fraud_like, fraud_rows
from support.quantizing import parameters_for

from qtool.config.evaluation import Box, Robustness
from qtool.config.quantization import StaticQuantization
from qtool.data.batch import Batch
from qtool.data.encoding import Encoder
from qtool.data.tabular import CategoricalEncoding, NumericEncoding
from qtool.errors import ConfigError
from qtool.evaluation.results import MetricChange
from qtool.graph.writing.writer import write
from qtool.progress import SilentProgress
from qtool.robustness.gradient import white_box
from qtool.robustness.robustness import FP32_GRADIENTS, Judge, Model, Subject, robustness
from qtool.runtime.sessions import Session, to_scores
from qtool.torchgraph.fake_quant_graph import FakeQuantGraph
from qtool.torchgraph.importer import TorchGraph
from qtool.training.objective import criterion

BCE = criterion(None, "binary_classification", "logit").loss
COARSE = 0.5
SECTION = Robustness(
    mutable=BOXES, budgets=[0.5, 1.0], queries=6, steps=4, noise=[0.1, 0.5], missing=[0.3]
)


def auc(sample):
    values = [roc_auc_score(sample.labels, scores) for scores in (sample.fp32, sample.int8)]
    return MetricChange(
        name="auc",
        title="AUC",
        better="higher",
        fp32=values[0],
        int8=values[1],
        low=0.0,
        high=0.0,
        error=0.0,
        confidence=0.95,
        interval="",
        rows=len(sample),
    )


JUDGE = Judge(auc, lambda predictions: predictions >= 0.5)


def linear(inputs):
    return {"logit": inputs["numbers"] @ torch.tensor(WEIGHTS, dtype=torch.float32)}


def subject(batch=None, int8_graph=True, judge=JUDGE):
    attack = white_box(linear, BCE)
    return Subject(
        "binary_classification",
        batch or batch_of(1500),
        REFERENCE,
        ENCODER,
        Model(scores, attack),
        Model(lambda inputs: scores(inputs, coarse=COARSE), attack if int8_graph else None),
        judge,
    )


def measured(subject, section=SECTION, seed=0):
    results = robustness(subject, section, seed, SilentProgress())
    return {(result.kind, result.level): result for result in results}


def test_each_attack_and_stress_has_its_result():
    found = measured(subject())
    attacks = ["fgsm", "pgd", "transfer", "black_box"]
    expected = [(kind, level) for kind in attacks for level in (0.5, 1.0)]
    stresses = [("noise", 0.1), ("noise", 0.5), ("missing", 0.3)]
    assert list(found) == [("none", 0), *expected, *stresses]
    del found["none", 0]
    for result in found.values():
        assert result.rows == 1500
        assert result.low <= result.difference <= result.high
        turned = (result.succeeded_int8 - result.succeeded_fp32) / 1500
        assert result.difference == pytest.approx(turned)
        assert not result.note
    assert found["pgd", 0.5].succeeded_fp32 < found["pgd", 1.0].succeeded_fp32
    assert found["noise", 0.1].succeeded_int8 < found["noise", 0.5].succeeded_int8


def test_the_first_result_is_of_the_same_rows_before_any_attack():
    whole = subject()
    before = measured(whole)["none", 0]
    for found, predict in (
        (before.metric.fp32, whole.fp32.predict),
        (before.metric.int8, whole.int8.predict),
    ):
        assert found == roc_auc_score(whole.batch.labels, predict(whole.batch.inputs))
    assert (before.rows, before.succeeded_fp32, before.succeeded_int8) == (1500, 0, 0)
    assert math.isnan(before.difference)


def test_a_linear_model_falls_to_every_attack_alike():
    """The corners that gradients lead to are the worst rows, and six queries find them."""
    found = measured(subject())
    turned = {found[kind, 1.0].succeeded_fp32 for kind in ("fgsm", "pgd", "black_box", "transfer")}
    assert len(turned) == 1
    assert found["pgd", 1.0].metric.fp32 < found["noise", 0.5].metric.fp32


def test_the_same_seed_gives_the_same_results_and_another_one_others():
    kinds = SECTION.model_copy(update={"attacks": ["black_box"], "queries": 9})
    assert measured(subject(), kinds) == measured(subject(), kinds)
    assert measured(subject(), kinds) != measured(subject(), kinds, seed=1)


def test_without_a_graph_of_int8_it_is_said_whose_gradients_lead():
    found = measured(subject(int8_graph=False))
    noted = {kind for (kind, _), result in found.items() if result.note == FP32_GRADIENTS}
    assert noted == {"fgsm", "pgd"}


def test_without_decisions_only_the_metric_is_compared():
    found = measured(subject(judge=dataclasses.replace(JUDGE, decide=None)))
    assert all(math.isnan(result.difference) for result in found.values())
    assert found["pgd", 1.0].metric.fp32 < found["pgd", 0.5].metric.fp32


def test_an_attack_that_can_move_no_row_is_refused():
    outside = Box(columns=["income"], range=1, low=1e9, high=2e9)
    section = Robustness(mutable=[outside], attacks=["black_box"])
    with pytest.raises(ConfigError, match="none of 1500 rows can be moved"):
        measured(subject(), section)
    both = Robustness(mutable=[outside, BOXES[1]], attacks=["black_box"], queries=2)
    assert len(measured(subject(), both)) == 2


def test_columns_that_are_never_missing_are_noted():
    codes = CategoricalEncoding(("region",), None)
    encoder = Encoder({"numbers": ENCODER.inputs["numbers"], "codes": codes})
    without = dataclasses.replace(subject(), encoder=encoder)
    assert "region" in measured(without)["missing", 0.3].note


def test_tasks_without_labels_are_refused():
    with pytest.raises(ConfigError, match="the task representation"):
        measured(dataclasses.replace(subject(), task="representation"))


def test_int8_in_onnx_runtime_is_attacked_through_its_fake_quant_graph():
    """Codes at the ends of their range have no gradient, which must not look like robustness."""
    quantization = StaticQuantization(method="static")
    prepared, plan, numbers = parameters_for(fraud_like(), fraud_rows(2000), quantization)
    fp32, fake = (
        TorchGraph(prepared),
        FakeQuantGraph(TorchGraph(prepared), plan, numbers.activations, numbers.weights),
    )
    sessions = Session(prepared, "FP32"), Session(write(prepared, plan, numbers, {}), "INT8")
    names = [f"n{index}" for index in range(6)]
    zeros, ones = np.zeros(6, np.float32), np.ones(6, np.float32)
    identity = NumericEncoding(tuple(names), (1,) * 6, None, zeros > 0, zeros, ones, None)
    encoder = Encoder({"numeric": identity, "codes": CategoricalEncoding(("a", "b"), None)})

    def against(session, attack):
        def predict(inputs):
            return to_scores(session.run(inputs)["output"], "logit", session.where)

        return Model(predict, attack)

    first = against(sessions[0], white_box(fp32, BCE))
    second = against(sessions[1], white_box(fake, BCE, fp32))
    masked = against(sessions[1], white_box(fake, BCE))
    inputs = fraud_rows(1000)
    scored = first.predict(inputs)
    middle = np.median(scored)
    columns = {name: inputs["numeric"][:, i].astype(float) for i, name in enumerate(names)}
    batch = Batch(np.arange(1000), (scored >= middle).astype(np.int8), inputs, columns)
    judge = Judge(auc, lambda predictions: predictions >= middle)
    tested = Subject(
        "binary_classification", batch, fraud_rows(2000, 2), encoder, first, second, judge
    )
    boxes = [
        Box(columns=["n0", "n3", "n4"], range=0.3),
        Box(columns=["n1", "n2"], range=1, unit="raw", integer=True),
    ]
    section = Robustness(mutable=boxes, queries=60)
    found = measured(tested, section)
    hidden = measured(dataclasses.replace(tested, int8=masked), section)
    turned = {kind: result.succeeded_int8 for (kind, _), result in found.items()}
    assert turned["transfer"] > 300
    assert turned["pgd"] >= 0.97 * turned["transfer"]
    assert turned["black_box"] >= turned["pgd"]
    assert hidden["pgd", 1.0].succeeded_int8 < 0.9 * turned["pgd"]
