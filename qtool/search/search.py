"""The search: which candidates are tried, in which order, and which of them is the answer.

1. Start. The fastest plan of the ladder, and the plans in which all layers are treated alike, are
   measured: predictions do not know what passes between layers.
2. Numbers. On the fastest of them, observers and tunings are tried one after another, and what
   makes the error of the predictions smaller is kept: none of this costs time later.
3. Places. The ladder is bisected for the fastest plan that passes the gates: along it the predicted
   error falls. Then single layers go back to their faster treatment, the one with most to gain
   first, as long as the gates hold. Tunings that take long follow, or come before where nothing
   passes without them.
4. Clock. The fastest candidates that pass are measured against FP32 and each other in one
   interleaved run; the fastest wins, of equally fast ones the smallest, then the most exact.

Every step can be the last: the best so far is told whenever it changes. Given the same trials and
the same measured times the order is the same, so a search that was interrupted goes on from the
trials on file.
"""

from __future__ import annotations

import glob
import math
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Protocol

from qtool.config.quantization import (
    AutoQuantization,
    EntropyObserver,
    LayerRule,
    MinMaxObserver,
    Observer,
    PercentileObserver,
    StaticQuantization,
)
from qtool.config.tuning import AdaRound, CorrectBias, Equalize, Gptq, Rewrite, Smooth, Tuning
from qtool.errors import ModelError
from qtool.graph.plan import Treatment
from qtool.search.analysis import Analysis, Choice
from qtool.search.ladder import (
    Assignment,
    Rung,
    error_of,
    ladder,
    share_of,
)
from qtool.search.treatments import rule_of
from qtool.search.trial import Candidate, Trial

BETTER = 0.97
"""A tuning is kept when it leaves at most this share of the error."""
AS_FAST = 0.99
"""Of the fastest speed: what is within the noise of one run, and may be more exact."""
AS_FP32 = 0.97
"""Of FP32's speed: a stored model runs FP32's kernels, and noise may take so much."""
AS_SMALL = 0.9
"""Of equally fast models, the most exact of those whose files are nearly as small."""
MOST_TIMED = 5
MOST_RETURNS = 6
MOST_OBSERVED = 3
"""Layers whose observer is tried one by one."""
OBSERVERS: tuple[Observer, ...] = (
    MinMaxObserver(method="min_max"),
    PercentileObserver(method="percentile"),
    EntropyObserver(method="entropy"),
)
REWRITES: tuple[Tuning, ...] = (Smooth(method="smooth"), Equalize(method="equalize"))
NUMBERS: tuple[Tuning, ...] = (Gptq(method="gptq"), CorrectBias(method="correct_bias"))
"""Tried once places are settled, or sooner where nothing passes without: they take longest."""
FASTEST = "the fastest plan"
LAST_RESORT = AdaRound(method="adaround")
"""Tried only where nothing else passes: it takes longer still."""


Change = Callable[[StaticQuantization], StaticQuantization]


class Bench(Protocol):
    """What builds and judges candidates."""

    @property
    def measures(self) -> bool:
        """Whether this CPU is the target, so that its clock says something."""

    def judge(self, candidate: Candidate) -> Trial:
        """Returns the trial of a candidate, without latency."""

    def time(self, trials: Sequence[Trial]) -> tuple[Trial, ...]:
        """Returns the trials with their latencies, of one interleaved run."""


@dataclass(frozen=True)
class Answer:
    """What a search found.

    Attributes:
        best: the fastest that passes; where none does, the one nearest to passing.
        found: whether ``best`` passes and is not slower than FP32.
        keep_fp32: whether models pass, but none is as fast as FP32.
        reason: of the answer, in words with the figures.
    """

    best: Trial
    found: bool
    keep_fp32: bool
    reason: str


class Search:
    """One search, on one model."""

    def __init__(
        self,
        bench: Bench,
        analysis: Analysis,
        section: AutoQuantization,
        fixed: Collection[str],
        known: Sequence[Trial],
        save: Callable[[Trial], None],
        enough: Callable[[], bool],
    ) -> None:
        """Prepares the ladder.

        Args:
            bench: builds and judges.
            analysis: of the prepared model.
            section: rules and tunings that hold for every candidate, and what may be tried.
            fixed: layers whose treatment the rules give.
            known: trials of an interrupted search.
            save: called with every trial when it is judged and when it is timed.
            enough: whether the time is over.

        Raises:
            ModelError: there is no layer whose treatment could be chosen.
        """
        self.bench, self.section = bench, section
        self.analysis = _with_bits(analysis, section.weight_bits)
        self.save, self.enough = save, enough
        self.trials: dict[str, Trial] = {trial.candidate.key: trial for trial in known}
        self.free = [layer for layer in self.analysis.layers if layer.name not in fixed]
        self.by_name = {layer.name: layer for layer in self.free}
        self.rungs = [rung for rung in ladder(self.analysis, fixed) if not _all_float(rung)]
        if not self.rungs:
            raise ModelError(
                "the FP32 model",
                "nothing to search",
                "a layer with constant float32 weights that quantization.layers leaves open",
            )

    def run(self) -> Answer:
        """Returns the answer.

        Raises:
            ModelError: no plan can be built.
        """
        start = self._start()
        numbers = self._numbers(start, self._quick_changes(start))
        if not numbers.feasible and start.candidate.section.columns != self.section.columns:
            # The speed of one scale for all columns is worth nothing then.
            back = partial(_with, columns=self.section.columns)
            numbers = self._numbers(numbers, [back])
        if not numbers.feasible:
            numbers = self._numbers(numbers, _thorough_changes())
        placed = self._places(numbers)
        if placed.feasible:
            self._numbers(placed, _thorough_changes())
        elif not self.enough() and not any(trial.feasible for trial in self.trials.values()):
            self._numbers(numbers, [partial(_tuned, tuning=LAST_RESORT)])
        return self._answer()

    def best(self) -> Trial:
        """Returns the best so far: timed before not timed, then passing, fast, exact."""
        return min(self.trials.values(), key=_rank)

    # Start.

    def _start(self) -> Trial:
        """Returns the fastest of the plans that need no search, measured."""
        plain, fastest = self._plain(), self.rungs[0]
        rungs = {
            FASTEST: fastest,
            "everything static": self._uniform("static"),
            "everything dynamic": self._uniform("dynamic"),
            "everything stored": self._stored(),
        }
        candidates = [self._candidate(rung, plain, origin) for origin, rung in rungs.items()]
        if plain.columns == "auto":
            # Column scales cost time as well as they win accuracy.
            shared = _with(candidates[1].section, columns="shared")
            candidates.append(Candidate(shared, "everything static", candidates[1].predicted))
        tried: dict[tuple[float, int], Trial] = {}
        found = [self._try(candidate) for candidate in candidates]
        if all(trial.reason for trial in found):
            raise ModelError("the method auto", f"no plan can be built: {found[0].reason}")
        for trial in found:
            if trial.reason:
                continue
            tried.setdefault((trial.error, trial.size_bytes), trial)  # the same model but once
        self._time(list(tried.values()))
        keys = [trial.candidate.key for trial in tried.values()]
        return max((self.trials[key] for key in keys), key=_speed)

    def _uniform(self, method: Treatment) -> Rung:
        """Returns the plan with one treatment for all layers that can have it."""
        assignment = {
            layer.name: self.rungs[0].assignment[layer.name]
            if method in layer.refused
            else (method, 8)
            for layer in self.free
        }
        time = share_of(assignment, self.analysis)
        return Rung(assignment, time, math.nan, "")

    # Numbers.

    def _plain(self) -> StaticQuantization:
        given = self.section.model_dump(
            exclude={"method", "seconds", "rows", "weight_bits", "finish_with_qat"}
        )
        return StaticQuantization.model_validate({**given, "method": "static"})

    def _numbers(self, start: Trial, changes: Iterable[Change]) -> Trial:
        """Returns the best of a trial after each of the changes that help."""
        best, candidate = start, start.candidate
        predicted = 1 / _speed(start)
        for change in changes:
            if self.enough():
                break
            section = change(best.candidate.section)
            if section == best.candidate.section:
                continue
            trial = self._try(Candidate(section, candidate.places, predicted))
            if trial.error < BETTER * best.error and trial.violation <= best.violation:
                best = trial
        return best

    def _quick_changes(self, start: Trial) -> Iterator[Change]:
        static = self._static_layers(start.candidate.section)
        if static:
            for observer in OBSERVERS:
                yield partial(_with, observer=observer)
        for tuning in REWRITES:
            yield partial(_tuned, tuning=tuning)
        for layer in static[:MOST_OBSERVED]:
            for observer in OBSERVERS:
                yield partial(_observed, name=layer, observer=observer)

    def _static_layers(self, section: StaticQuantization) -> list[str]:
        """Returns the static layers that a candidate names, the most harmful first."""
        named = {rule.match for rule in section.layers if rule.method == "static"}
        layers = [layer for layer in self.free if glob.escape(layer.name) in named]
        layers.sort(key=lambda layer: -error_of(layer.option("static")))
        return [glob.escape(layer.name) for layer in layers]

    # Places.

    def _places(self, numbers: Trial) -> Trial:
        """Returns the fastest plan that passes; what it is given where none does."""
        if numbers.feasible:
            return self._more_exact_for_nothing(numbers)
        low, high = 0, len(self.rungs)  # ``low`` does not pass, ``high`` may
        passing: Trial | None = None
        while high - low > 1 and not self.enough():
            middle = (low + high) // 2
            trial = self._try(self._at(middle, numbers))
            if trial.feasible:
                high, passing = middle, trial
            else:
                low = middle
        return numbers if passing is None else self._return_layers(passing)

    def _more_exact_for_nothing(self, numbers: Trial) -> Trial:
        """Tries the most exact plan whose predicted time is within the noise of the fastest."""
        alike = [
            index
            for index, rung in enumerate(self.rungs)
            if rung.time * AS_FAST <= self.rungs[0].time
        ]
        if alike[-1] > 0 and not self.enough():
            self._try(self._at(alike[-1], numbers))
        return numbers

    def _return_layers(self, passing: Trial) -> Trial:
        best = passing
        fastest = {glob.escape(n): method for n, (method, _) in self.rungs[0].assignment.items()}
        slower = [
            layer.name
            for layer in self.free
            for rule in best.candidate.section.layers
            if rule.match == glob.escape(layer.name) and fastest[rule.match] != rule.method
        ]
        for name in sorted(slower, key=self._gain_per_error, reverse=True)[:MOST_RETURNS]:
            if self.enough():
                break
            fast = {name: self.rungs[0].assignment[name]}
            section = _with(best.candidate.section, layers=_placed(best, fast))
            predicted = best.candidate.predicted - self._gain(name)
            trial = self._try(Candidate(section, f"{name} as in {FASTEST}", predicted))
            if trial.feasible:
                best = trial
        return best

    def _gain(self, name: str) -> float:
        """Returns the time that the fastest treatment of a layer saves, a share of FP32's."""
        return 1 - share_of({name: self.rungs[0].assignment[name]}, self.analysis)

    def _gain_per_error(self, name: str) -> float:
        error = error_of(self.by_name[name].option(*self.rungs[0].assignment[name]))
        return self._gain(name) / max(error, 1e-30)

    # Candidates.

    def _at(self, index: int, numbers: Trial) -> Candidate:
        rung = self.rungs[index]
        places = f"rung {index} of {len(self.rungs) - 1} ({rung.change})"
        return self._candidate(rung, numbers.candidate.section, places)

    def _candidate(self, rung: Rung, numbers: StaticQuantization, places: str) -> Candidate:
        """Returns the candidate with the places of a rung and the numbers of a section."""
        observers = {rule.match: rule.observer for rule in numbers.layers if rule.observer}
        section = _with(numbers, layers=[*self.section.layers, *_rules(rung.assignment)])
        for rule in section.layers:
            if rule.method == "static" and rule.match in observers:
                section = _observed(section, rule.match, observers[rule.match])
        return Candidate(section, places, rung.time)

    def _stored(self) -> Rung:
        """Returns the plan that stores what can be stored, and computes all in float."""
        assignment: dict[str, Choice] = {
            layer.name: ("float", 32) if "storage" in layer.refused else ("storage", 8)
            for layer in self.free
        }
        return Rung(assignment, 1.0, math.nan, "")

    def _try(self, candidate: Candidate) -> Trial:
        if candidate.key not in self.trials:
            trial = self.bench.judge(candidate)
            self.trials[candidate.key] = trial
            self.save(trial)
        return self.trials[candidate.key]

    # Clock.

    def _time(self, trials: Sequence[Trial]) -> None:
        """Measures trials beside each other, unless all of them were, or it cannot be done here."""
        if not self.bench.measures or all(trial.latency for trial in trials):
            return
        for trial in self.bench.time(trials):
            self.trials[trial.candidate.key] = trial
            self.save(trial)

    def _answer(self) -> Answer:
        passing = sorted(
            (trial for trial in self.trials.values() if trial.feasible),
            key=lambda trial: (trial.candidate.predicted, trial.error),
        )
        if not passing:
            nearest = min(self.trials.values(), key=lambda trial: (trial.violation, trial.error))
            return Answer(nearest, False, False, _why_none(nearest, len(self.trials)))
        chosen = _spread(passing)
        self._time(chosen)
        timed = [self.trials[trial.candidate.key] for trial in chosen]
        still = [trial for trial in timed if trial.feasible]  # of gates on time, too
        if not still:
            nearest = min(timed, key=lambda trial: trial.violation)
            return Answer(nearest, False, False, _why_none(nearest, len(self.trials)))
        fastest = max(map(_speed, still))
        alike = [trial for trial in still if _speed(trial) >= AS_FAST * fastest]
        smallest = min(trial.size_bytes for trial in alike)
        best = min(
            (trial for trial in alike if trial.size_bytes * AS_SMALL <= smallest),
            key=lambda trial: trial.error,
        )
        if _speed(best) < AS_FP32:
            return Answer(best, False, True, _why_fp32(best, len(timed)))
        return Answer(best, True, False, _why_best(best, len(self.trials), len(timed)))


def _spread(passing: Sequence[Trial]) -> list[Trial]:
    """Returns the trials that are worth the clock: the most exact of each predicted time."""
    # Numbers that change nothing give the same model again.
    models = {(trial.error, trial.size_bytes): trial for trial in reversed(passing)}
    passing = [trial for trial in passing if trial in models.values()]
    best: dict[float, Trial] = {}
    for trial in passing:
        key = round(trial.candidate.predicted, 4)
        if key not in best or trial.error < best[key].error:
            best[key] = trial
    chosen = list(best.values())[:MOST_TIMED]
    # A rewrite may add a node, which no prediction knows; a stored model is as fast as FP32.
    plain = [trial for trial in passing if not _rewrites(trial)]
    stored = [trial for trial in passing if not _computes_in_integers(trial)]
    sure = [found[0] for found in (plain, stored) if found and found[0] not in chosen]
    return [*chosen[: MOST_TIMED - len(sure)], *sure]


def _rewrites(trial: Trial) -> bool:
    return any(isinstance(tuning, Rewrite) for tuning in trial.candidate.section.tuning)


def _computes_in_integers(trial: Trial) -> bool:
    return any(rule.method in ("static", "dynamic") for rule in trial.candidate.section.layers)


def _rank(trial: Trial) -> tuple[float, float, float]:
    speed = trial.speedup if trial.latency else -math.inf
    return trial.violation, -speed, trial.error


def _why_none(nearest: Trial, trials: int) -> str:
    failing = "; ".join(f"{gate.name}: {gate.text}" for gate in nearest.failing)
    return f"none of {trials} models passes the gates; the nearest: {failing}"


def _why_fp32(best: Trial, timed: int) -> str:
    return (
        f"keep FP32: the fastest of {timed} models that pass runs at {_speed(best):.2f} times the "
        f"speed of FP32 ({_by_batch(best)})"
    )


def _why_best(best: Trial, trials: int, timed: int) -> str:
    return (
        f"{_speed(best):.2f} times the speed of FP32 ({_by_batch(best)}), the fastest of {timed} "
        f"that were compared, of {trials} tried"
    )


def _speed(trial: Trial) -> float:
    """Returns the measured speed over FP32, the predicted one where none was measured."""
    return trial.speedup if trial.latency else 1 / trial.candidate.predicted


def _by_batch(trial: Trial) -> str:
    if not trial.latency:
        return "predicted from the table of costs of the target"
    return ", ".join(f"batch {one.batch_size}: {one.speedup:.2f}" for one in trial.latency)


def _with_bits(analysis: Analysis, bits: Collection[int]) -> Analysis:
    """Returns the analysis without weight-only treatments of other bits."""
    layers = tuple(
        replace(
            layer,
            options=tuple(
                option
                for option in layer.options
                if option.method != "weight_only" or option.bits in bits
            ),
        )
        for layer in analysis.layers
    )
    return replace(analysis, layers=layers)


def _all_float(rung: Rung) -> bool:
    return all(method == "float" for method, _ in rung.assignment.values())


def _thorough_changes() -> Iterator[Change]:
    return (partial(_tuned, tuning=tuning) for tuning in NUMBERS)


def _with(section: StaticQuantization, **changes: object) -> StaticQuantization:
    return section.model_copy(update=changes)


def _inserted(tunings: Sequence[Tuning], tuning: Tuning) -> list[Tuning]:
    """Returns the tunings with one more: rewrites first, the correction of biases last."""
    if any(one.method == tuning.method for one in tunings):
        return list(tunings)
    order = {"smooth": 0, "equalize": 1, "clip_weights": 2, "gptq": 3, "adaround": 4}
    # GPTQ and AdaRound choose the same numbers.
    kept = [one for one in tunings if {one.method, tuning.method} != {"gptq", "adaround"}]
    return sorted([*kept, tuning], key=lambda one: order.get(one.method, 5))


def _rules(assignment: Assignment) -> list[LayerRule]:
    """Returns one rule per layer."""
    return [rule_of(name, choice) for name, choice in assignment.items()]


def _tuned(section: StaticQuantization, tuning: Tuning) -> StaticQuantization:
    return _with(section, tuning=_inserted(section.tuning, tuning))


def _observed(
    section: StaticQuantization, name: str, observer: Observer | None
) -> StaticQuantization:
    """Returns the section with another observer for the rule of one layer."""
    rules = [
        rule.model_copy(update={"observer": observer}) if rule.match == name else rule
        for rule in section.layers
    ]
    return _with(section, layers=rules)


def _placed(trial: Trial, places: Assignment) -> list[LayerRule]:
    """Returns the rules of a candidate with other places for some layers."""
    others = {rule.match: rule for rule in _rules(places)}
    return [others.get(rule.match, rule) for rule in trial.candidate.section.layers]
