"""What the search tries and answers, on a bench whose models are made of numbers."""

from __future__ import annotations

import dataclasses
import math

import pytest
from search.analyses import analysis_of, layer

from qtool.config.quantization import AutoQuantization, LayerRule
from qtool.errors import ModelError
from qtool.evaluation.results import GateResult, LatencyResult
from qtool.search.analysis import Option
from qtool.search.ladder import ladder
from qtool.search.search import Search
from qtool.search.trial import Trial, from_lines, to_line

TIMES = {"static": 0.3, "dynamic": 0.6, "storage": 1.0, "float": 1.0}
ERRORS = {"static": 1.0, "dynamic": 0.4, "storage": 0.01, "float": 0.0}
LAYERS = 8


def layers():
    """Layer i is 2^i times as sensitive as layer 0."""
    return [
        layer(
            f"fc{i}",
            weights=100,
            **{m: (TIMES[m] / LAYERS, 2**i * ERRORS[m]) for m in TIMES},
        )
        for i in range(LAYERS)
    ]


class PaperBench:
    """Errors add up; ``factors``: tuning or observer → what it does to the error."""

    def __init__(self, limit, factors=None, speed=1.0):
        self.limit, self.factors, self.speed = limit, factors or {}, speed
        self.judged, self.timed, self.measures = [], [], True

    def judge(self, candidate):
        self.judged.append(candidate)
        methods = {rule.match: rule.method for rule in candidate.section.layers}
        error = sum(2**i * ERRORS[methods[f"fc{i}"]] for i in range(LAYERS))
        names = [t.method for t in candidate.section.tuning] + [candidate.section.observer.method]
        error *= math.prod(self.factors.get(name, 1.0) for name in names)
        verdict = "pass" if error <= self.limit else "fail"
        gate = GateResult("flips", verdict, error, error, self.limit, 0.95, f"{error:.3g} flips")
        return Trial(candidate, error, (), (gate,), 100, 0.1, (), 1000)

    def time(self, trials):
        self.timed.append(trials)
        found = []
        for trial in trials:
            methods = [rule.method for rule in trial.candidate.section.layers]
            us = 100 * self.speed * sum(TIMES[m] for m in methods) / LAYERS
            latency = LatencyResult(1, 1, "prepared", (100.0,), (us,), 100 / us, 100 / us, 100 / us)
            found.append(dataclasses.replace(trial, latency=(latency,)))
        return tuple(found)


def search_on(bench, known=(), section=None, enough=lambda: False, saved=None, fixed=()):
    section = section or AutoQuantization(method="auto")
    save = (lambda trial: None) if saved is None else saved.append
    return Search(bench, analysis_of(*layers()), section, fixed, known, save, enough)


def methods_of(trial):
    return {rule.match: rule.method for rule in trial.candidate.section.layers}


def test_the_fastest_plan_is_the_answer_when_it_passes():
    answer = search_on(PaperBench(limit=1000)).run()
    assert answer.found
    assert set(methods_of(answer.best).values()) == {"static"}
    assert "3.33 times the speed of FP32" in answer.reason


@pytest.mark.parametrize("limit", [200, 120, 60, 20, 3])
def test_the_answer_is_at_least_as_fast_as_the_first_rung_that_passes(limit):
    bench = PaperBench(limit)
    answer = search_on(bench).run()
    assert answer.found
    first = next(rung for rung in ladder(analysis_of(*layers()), ()) if rung.error <= limit)
    assert 1 / answer.best.speedup <= first.time + 1e-9
    assert answer.best.error <= limit


def test_bisection_tries_few_of_the_rungs():
    bench = PaperBench(limit=20)
    search = search_on(bench)
    search.run()
    rungs = [one for one in bench.judged if one.places.startswith("rung")]
    assert len(rungs) <= math.ceil(math.log2(len(search.rungs))) + 1


def test_a_tuning_that_helps_is_kept_and_one_that_harms_is_not():
    bench = PaperBench(limit=200, factors={"smooth": 0.5, "gptq": 2.0, "percentile": 0.5})
    answer = search_on(bench).run()
    assert set(methods_of(answer.best).values()) == {"static"}
    assert [tuning.method for tuning in answer.best.candidate.section.tuning] == ["smooth"]
    assert answer.best.candidate.section.observer.method == "percentile"


def test_a_stored_model_is_the_answer_where_integers_are_slower():
    class Slow(PaperBench):
        def time(self, trials):
            found = super().time(trials)
            return tuple(
                one
                if set(methods_of(one).values()) == {"storage"}
                else dataclasses.replace(
                    one, latency=tuple(dataclasses.replace(x, speedup=0.7) for x in one.latency)
                )
                for one in found
            )

    answer = search_on(Slow(limit=1000)).run()
    assert answer.found
    assert set(methods_of(answer.best).values()) == {"storage"}


def test_fp32_is_kept_where_all_that_pass_are_slower():
    answer = search_on(PaperBench(limit=1000, speed=4.0)).run()
    assert not answer.found
    assert answer.keep_fp32
    assert answer.reason.startswith("keep FP32: the fastest of")


def test_where_nothing_passes_the_nearest_is_named_after_the_last_resort():
    bench = PaperBench(limit=1e-6)
    answer = search_on(bench).run()
    assert not answer.found
    assert not answer.keep_fp32
    assert set(methods_of(answer.best).values()) <= {"storage", "float"}
    assert any("adaround" in one.origin for one in bench.judged)
    assert "none of" in answer.reason
    assert "flips" in answer.reason


def test_an_interrupted_search_goes_on_from_its_trials():
    saved, whole = [], PaperBench(limit=60)
    first = search_on(whole, saved=saved).run()
    lines = [to_line(trial) + "\n" for trial in saved]
    for cut in (1, 5, len(lines) - 1, len(lines)):
        known = from_lines([*lines[:cut], '{"candidate": {"sec'], "trials")
        bench = PaperBench(limit=60)
        again = search_on(bench, known=known).run()
        assert again.best.candidate == first.best.candidate
        assert len(bench.judged) + len(known) == len(whole.judged)


def test_without_time_the_first_candidates_are_judged_and_measured():
    bench = PaperBench(limit=1000)
    answer = search_on(bench, enough=lambda: True).run()
    assert answer.found
    assert {one.origin for one in bench.judged} == {
        "the fastest plan",  # in which everything is static
        "everything static, columns shared",
        "everything dynamic",
        "everything stored",
    }


def test_rules_hold_for_every_candidate():
    section = AutoQuantization(method="auto", layers=[LayerRule(match="fc7", method="float")])
    bench = PaperBench(limit=60)
    search_on(bench, section=section, fixed={"fc7"}).run()
    assert all(one.section.layers[0] == section.layers[0] for one in bench.judged)
    assert all([r.match for r in one.section.layers].count("fc7") == 1 for one in bench.judged)


def test_names_with_wildcards_are_meant_literally():
    odd = layer("a[0]*", weights=1, static=(0.1, 0.1), float=(0.3, 0.0))
    section = AutoQuantization(method="auto")
    search = Search(PaperBench(1), analysis_of(odd), section, (), (), lambda t: None, lambda: True)
    candidate = search._candidate(search.rungs[0], search._plain(), "")
    assert candidate.section.layers[0].match == "a[[]0][*]"


def test_what_cannot_be_built_is_passed_over():
    class Picky(PaperBench):
        def judge(self, candidate):
            trial = super().judge(candidate)
            if candidate.section.tuning:
                return dataclasses.replace(trial, error=math.inf, gates=(), reason="cannot")
            return trial

    saved = []
    answer = search_on(Picky(limit=1000), saved=saved).run()
    assert answer.found
    assert not answer.best.candidate.section.tuning
    known = from_lines([to_line(trial) + "\n" for trial in saved], "trials")
    assert sum(trial.violation == math.inf for trial in known) >= 2

    class Broken(PaperBench):
        def judge(self, candidate):
            return dataclasses.replace(super().judge(candidate), reason="cannot")

    with pytest.raises(ModelError, match="no plan can be built: cannot"):
        search_on(Broken(limit=1)).run()


def test_a_model_without_open_layers_is_refused():
    names = {f"fc{i}" for i in range(LAYERS)}
    with pytest.raises(ModelError, match="nothing to search"):
        search_on(PaperBench(1), fixed=names)


def test_a_target_that_is_not_here_is_searched_by_prediction():
    bench = PaperBench(limit=60)
    bench.measures = False
    answer = search_on(bench).run()
    assert answer.found
    assert not bench.timed
    assert "predicted from the table of costs" in answer.reason
    assert answer.best.error <= 60


@pytest.mark.parametrize(("bits", "found"), [([8, 4], {8, 4}), ([8], {8}), ([], set())])
def test_weight_only_layers_have_the_bits_of_the_config(bits, found):
    both = [Option("weight_only", b, 0.1 / b, math.nan, {1: 10.0 * b}, timed=True) for b in (8, 4)]
    one = layer("fc", weights=9, static=(0.9, 0.5), float=(0.95, 0.0))
    one = dataclasses.replace(one, options=(*one.options, *both))
    section = AutoQuantization(method="auto", weight_bits=bits)
    search = Search(
        PaperBench(1), analysis_of(one), section, (), (), lambda trial: None, lambda: True
    )
    used = {choice for rung in search.rungs for choice in rung.assignment.values()}
    assert {bits for method, bits in used if method == "weight_only"} <= found
    assert {o.bits for o in search.analysis.layers[0].options if o.method == "weight_only"} == found


def test_a_weight_only_layer_names_its_bits():
    # Those of the section would hold otherwise.
    one = layer("fc", weights=9, weight_only=(0.5, 0.1), float=(0.9, 0.0))
    section = AutoQuantization(method="auto", bits=4)
    search = Search(PaperBench(1), analysis_of(one), section, (), (), lambda t: None, lambda: True)
    (rule,) = search._candidate(search.rungs[0], search._plain(), "").section.layers
    assert (rule.method, rule.bits) == ("weight_only", 8)
