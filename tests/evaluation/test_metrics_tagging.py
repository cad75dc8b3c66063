from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest
from sklearn.metrics import accuracy_score

from qtool.config.evaluation import Evaluation
from qtool.config.task import IGNORED
from qtool.errors import ConfigError, DataError, ModelError
from qtool.evaluation.agreements import agreements
from qtool.evaluation.metrics import tagging
from qtool.evaluation.metrics.registry import metrics_of
from qtool.evaluation.metrics.tagging import entity_f1, token_accuracy
from qtool.evaluation.predictions import tags_of
from qtool.evaluation.sample import Sample

CLASSES = ("B-date", "B-total", "I-date", "I-total", "O")
Spans = set[tuple[int, int, int, str]]


def codes(rows: list[list[str]], classes: tuple[str, ...]) -> np.ndarray:
    steps = max(map(len, rows), default=0)
    padded = [[classes.index(tag) for tag in row] + [IGNORED] * (steps - len(row)) for row in rows]
    return np.array(padded, np.int32).reshape(len(rows), steps)


def sample_of(
    true: list[list[str]], found: list[list[str]], classes: tuple[str, ...] = CLASSES
) -> Sample:
    labels, tags = codes(true, classes), codes(found, classes)
    # What a model says of padding may be anything.
    tags = np.where(labels == IGNORED, 1, tags).astype(np.int16)
    return Sample(np.arange(len(true)), labels, tags, tags, classes=classes)


def f1(true: list[list[str]], found: list[list[str]], *classes: str) -> float:
    sample = sample_of(true, found, classes or CLASSES)
    return entity_f1(sample, sample.fp32)(None)


def conlleval(rows: list[list[str]]) -> Spans:
    """The entities by the rules of conlleval.pl 2004-01-26, startOfChunk and endOfChunk."""
    spans: Spans = set()
    for row, tags in enumerate(rows):
        begin, before, kind_before = -1, "O", ""
        for place, text in enumerate([*tags, "O"]):
            tag, _, kind = text.partition("-")
            ends = (before in "BI" and tag in "BO") or (before != "O" and kind != kind_before)
            starts = (
                tag == "B" or (before == "O" and tag == "I") or (tag != "O" and kind != kind_before)
            )
            if ends:
                spans.add((row, begin, place - 1, kind_before))
            if starts:
                begin = place
            before, kind_before = tag, kind
    return spans


def test_figures_of_seqeval() -> None:
    """The two examples of the README of seqeval 1.2.2, in its default mode."""
    names = ("B-MISC", "B-PER", "I-MISC", "I-PER", "O")
    person = ["B-PER", "I-PER", "O"]
    true = [["O", "O", "O", "B-MISC", "I-MISC", "I-MISC", "O"], person]
    found = [["O", "O", "B-MISC", "I-MISC", "I-MISC", "I-MISC", "O"], person]
    assert f1(true, found, *names) == 0.5
    assert f1([["B-NP", "I-NP", "O"]], [["I-NP", "I-NP", "O"]], "B-NP", "I-NP", "O") == 1


@pytest.mark.parametrize(
    ("true", "found", "expected"),
    [
        ("B-total I-total O B-date", "B-total I-total O B-date", 1),
        ("B-total I-total O B-date", "B-total O O B-date", 1 / 2),  # 1 of 2 and 2
        ("B-total I-total", "B-total B-total", 0),
        ("B-total I-total", "B-total I-date", 0),
        ("B-total", "B-date", 0),
        ("B-total O O", "B-total B-date B-date", 2 / 4),
        ("I-date I-total", "B-date B-total", 1),
        ("O B-total", "O O", 0),
    ],
)
def test_by_hand(true: str, found: str, expected: float) -> None:
    assert f1([true.split()], [found.split()]) == pytest.approx(expected)


def test_without_entities_it_is_not_defined() -> None:
    assert np.isnan(f1([["O", "O"], []], [["O", "O"], []]))
    assert np.isnan(f1([], []))


def test_tags_without_a_kind() -> None:
    assert f1([["B", "I", "B"]], [["B", "I", "I"]], "B", "I", "O") == 0
    assert f1([["B", "I", "O"]], [["I", "I", "O"]], "B", "I", "O") == 1


def test_an_entity_ends_with_its_row() -> None:
    rows = [["O", "I-date"], ["I-date", "O"]]
    assert f1(rows, rows) == 1
    assert f1(rows, [["O", "I-date"], ["O", "O"]]) == pytest.approx(2 / 3)


tags = st.lists(st.lists(st.tuples(*[st.sampled_from(CLASSES)] * 2), max_size=9), max_size=6)


@settings(max_examples=80, deadline=None)
@given(tags)
def test_equal_to_conlleval(pairs: list[list[tuple[str, str]]]) -> None:
    true, found = ([[pair[side] for pair in row] for row in pairs] for side in (0, 1))
    labelled, predicted = conlleval(true), conlleval(found)
    either = len(labelled) + len(predicted)
    expected = 2 * len(labelled & predicted) / either if either else float("nan")
    assert f1(true, found) == pytest.approx(expected, nan_ok=True)


def test_integers_are_entities_as_long_as_they_stay_the_same() -> None:
    labels = np.array([[0, 3, 3, 1, 1], [2, 2, 0, IGNORED, IGNORED]], np.int32)
    found = np.array([[0, 3, 3, 1, 0], [2, 2, 0, 7, 7]], np.int16)
    sample = Sample(np.arange(2), labels, found, found)
    assert entity_f1(sample, found)(None) == pytest.approx(2 * 2 / (3 + 3))


def test_tokens_that_do_not_count_are_left_out_of_both() -> None:
    # A second piece of a word between two words: the entity goes on over it.
    labels = np.array([[1, IGNORED, 3, 4]], np.int32)
    for piece in (0, 3, 4):
        found = np.array([[1, piece, 3, 4]], np.int16)
        sample = Sample(np.arange(1), labels, found, found, classes=CLASSES)
        assert entity_f1(sample, found)(None) == 1
        assert token_accuracy(sample, found)(None) == 1


@settings(max_examples=30, deadline=None)
@given(tags, st.integers(0, 2**32 - 1))
def test_weights_repeat_rows(pairs: list[list[tuple[str, str]]], seed: int) -> None:
    sample = sample_of(*([[pair[side] for pair in row] for row in pairs] for side in (0, 1)))
    counts = np.random.default_rng(seed).integers(0, 4, len(sample))
    repeated = sample.take(np.repeat(np.arange(len(sample)), counts))
    for metric in tagging.METRICS:
        found = metric.build(sample, sample.fp32)(counts.astype(np.float64))
        again = metric.build(repeated, repeated.fp32)(None)
        assert found == pytest.approx(again, rel=1e-12, nan_ok=True)


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = np.random.default_rng(0)
    true, found = (
        [[CLASSES[tag] for tag in row] for row in generator.integers(0, 5, (50, 8))] for _ in "ab"
    )
    whole = f1(true, found)
    monkeypatch.setattr(tagging, "BLOCK_ROWS", 7)
    assert f1(true, found) == whole


def test_token_accuracy_equals_scikit_learn() -> None:
    generator = np.random.default_rng(1)
    labels = generator.integers(0, 4, (30, 6)).astype(np.int32)
    labels[generator.random(labels.shape) < 0.3] = IGNORED
    found = generator.integers(0, 4, (30, 6)).astype(np.int16)
    sample = Sample(np.arange(30), labels, found, found)
    counted = labels != IGNORED
    expected = accuracy_score(labels[counted], found[counted])
    assert token_accuracy(sample, found)(None) == pytest.approx(expected, rel=1e-12)


def test_a_tag_without_a_text_is_refused() -> None:
    sample = sample_of([["O"]], [["O"]])
    with pytest.raises(ModelError, match="the tag 5; expected one of the 5 tags"):
        entity_f1(sample, np.array([[5]], np.int16))


def test_usual_metrics() -> None:
    found = metrics_of("sequence_tagging", Evaluation(), None)
    assert [metric.name for metric in found] == ["entity_f1", "token_accuracy"]
    with pytest.raises(ConfigError, match="one of entity_f1, token_accuracy, module:function"):
        metrics_of("sequence_tagging", Evaluation(metrics=["accuracy"]), None)


def test_the_tag_of_the_largest_output() -> None:
    output = np.array([[[0.1, 0.7, 0.2], [0.4, 0.2, 0.4]]], np.float32)
    found = tags_of(output, np.array([[1, IGNORED]], np.int32), "the model")
    assert (found.dtype, found.tolist()) == (np.int16, [[1, 0]])
    wide = np.zeros((1, 2, 2**15 + 1), np.float32)
    wide[0, 0, -1] = 1
    found = tags_of(wide, np.zeros((1, 2), np.int32), "the model")
    assert (found.dtype, found.tolist()) == (np.int32, [[2**15, 0]])


@pytest.mark.parametrize(
    ("shape", "value", "message"),
    [
        ((2, 3), 0, r"shape \(2, 3\) for tags of shape \(2, 3\); expected \(rows, steps, tags\)"),
        ((2, 4, 3), 0, r"shape \(2, 4, 3\)"),
        ((2, 3, 2), 0, "2 tags, and a token with the tag 2"),
        ((2, 3, 3), np.nan, "NaN"),
    ],
)
def test_outputs_that_do_not_fit_are_refused(shape, value, message: str) -> None:
    labels = np.array([[0, 1, 2], [0, IGNORED, IGNORED]], np.int32)
    with pytest.raises(ModelError, match=message):
        tags_of(np.full(shape, value, np.float32), labels, "the model")


def test_agreement_of_tags_in_rows() -> None:
    labels = np.array([[1, 1, 1, 1], [0, 0, IGNORED, IGNORED], [IGNORED] * 4], np.int32)
    fp32 = np.array([[1, 2, 1, 1], [0, 0, 5, 5], [1, 1, 1, 1]], np.int16)
    int8 = np.array([[1, 2, 0, 1], [0, 0, 4, 4], [2, 2, 2, 2]], np.int16)
    sample = Sample(np.arange(3), labels, fp32, int8)
    (found,) = agreements(sample, "sequence_tagging", Evaluation())
    assert (found.name, found.units, found.count) == ("tag_agreement", "tokens", 6)
    assert found.share == pytest.approx(5 / 6)
    assert found.low < 5 / 6 < found.high <= 1
    with pytest.raises(DataError, match="without a token"):
        agreements(sample.take(np.array([2])), "sequence_tagging", Evaluation())


def test_rows_without_a_difference_count_as_rows() -> None:
    tags = np.zeros((30, 20), np.int16)
    sample = Sample(np.arange(30), np.zeros((30, 20), np.int32), tags, tags)
    (found,) = agreements(sample, "sequence_tagging", Evaluation())
    exact = binomtest(30, 30).proportion_ci(0.95, method="exact")
    assert (found.low, found.high) == pytest.approx((exact.low, 1))
