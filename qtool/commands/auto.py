"""The method ``auto``: a search whose answer is an ordinary ``quantization`` section.

``settled`` puts the answer in the place of the section, and everything after it works as if the
user had written it. While the search runs, ``best/`` in the run directory holds the best model so
far with its evidence; the trials lie beside the unfinished stage, and a search that was interrupted
goes on from them.
"""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING

from qtool.commands.context import Context
from qtool.commands.prepare import MODEL, data_content, prepared_stage, require_label, versions
from qtool.config.document import write_document
from qtool.config.quantization import AutoQuantization
from qtool.config.tuning import Rewrite
from qtool.errors import GateFailedError, reading
from qtool.evaluation.results import SearchResult, SearchTrial
from qtool.graph.layers import layers_of
from qtool.graph.model_file import read_model, size_bytes
from qtool.graph.rules import apply_rules
from qtool.runs import Run, content, write_text
from qtool.runtime.cpu import detect
from qtool.search.search import Answer, Search
from qtool.search.trial import Trial, from_lines, to_line

if TYPE_CHECKING:
    from qtool.commands.workbench import Workbench

STAGE, BEST, BUILT = "search", "best", "built"
TRIALS, ANSWER, SECTION, TRIAL = "trials.jsonl", "answer.json", "quantization.yaml", "trial.json"


def settled(context: Context, *, train: bool = False) -> Context:
    """Returns the experiment with the answer of its search in place of the method ``auto``.

    Args:
        context: any experiment; without the method ``auto`` it is returned as it is.
        train: quantization-aware training is what was asked for; otherwise it follows only where no
            model passes without it.

    Raises:
        GateFailedError: no model passes the gates, or FP32 is faster than all that do.
    """
    section, experiment = context.experiment.quantization, context.experiment
    if not isinstance(section, AutoQuantization):
        return context
    folder = search_stage(context)
    answer = _answer(folder)
    found, training = answer.best.candidate.section, experiment.train_qat
    helps = training is not None and section.finish_with_qat and not answer.keep_fp32
    if not (train or answer.found or helps):
        nearest = "" if answer.keep_fp32 else f"The nearest model is in {folder}."
        raise GateFailedError("quantization.method auto", answer.reason, action=nearest)
    if train or not answer.found:
        # Training learns the numbers that the other tunings choose.
        rewrites = [tuning for tuning in found.tuning if isinstance(tuning, Rewrite)]
        found = found.model_copy(update={"tuning": rewrites})
    else:
        training = None
    changed = experiment.model_copy(update={"quantization": found, "train_qat": training})
    return context.of(changed, searched=True)


def searched(context: Context) -> SearchResult | None:
    """Returns what the search of a run did; None where there was none."""
    if not context.searched:
        return None
    folder = context.run.directory / STAGE
    answer, record = _answer(folder), json.loads((folder / ANSWER).read_text(encoding="utf-8"))
    fp32 = record["fp32_bytes"]
    return SearchResult(
        answer.reason,
        record["seconds"],
        record["rows"],
        tuple(
            SearchTrial(
                trial.candidate.origin,
                trial.error,
                trial.size_bytes / fp32,
                trial.speedup,
                1 / trial.candidate.predicted,
                trial.feasible,
                trial.candidate.key == answer.best.candidate.key,
            )
            for trial in _trials(folder)
            if not trial.reason
        ),
    )


def searched_content(context: Context) -> str | None:
    """Returns the digest of the search of a run; None where there was none."""
    return content(context.run.directory / STAGE) if context.searched else None


def search_stage(context: Context) -> Path:
    """Searches: folder with all trials, the answer, its section and its model.

    Raises:
        ConfigError: labels are missing that the gates need.
    """
    section, experiment = context.experiment.quantization, context.experiment
    assert isinstance(section, AutoQuantization)
    require_label(experiment, "the search for the fastest model that passes its gates")
    prepared = prepared_stage(context)
    # They load what no other method needs: torch, and with quantize the metrics.
    from qtool.commands.analyze import analysis_content, analysis_of
    from qtool.commands.workbench import Workbench

    analysis = analysis_of(context)

    def make(folder: Path) -> None:
        (folder / BUILT).mkdir(exist_ok=True)
        bench = Workbench(context, section, folder / BUILT)
        known = _trials(folder) if (folder / TRIALS).is_file() else ()
        write_text(folder / TRIALS, "".join(to_line(trial) + "\n" for trial in known))
        # What an interrupted search has used of its time is used.
        started = time.monotonic() - sum(trial.seconds for trial in known)
        best, shown = "", started
        with context.progress.task("search", total=section.seconds) as task:

            def save(trial: Trial) -> None:
                nonlocal best, shown
                with (folder / TRIALS).open("a", encoding="utf-8") as file:
                    file.write(to_line(trial) + "\n")
                so_far = search.best()
                before, shown = shown, time.monotonic()
                task.advance(shown - before, _status(len(search.trials), so_far))
                if best != so_far.candidate.key:
                    best = so_far.candidate.key
                    _keep(context, bench, so_far)

            def enough() -> bool:
                return time.monotonic() - started > section.seconds

            fixed = _fixed(prepared / MODEL, section)
            search = Search(bench, analysis, section, fixed, known, save, enough)
            answer = search.run()
        _keep(context, bench, answer.best)
        copy_model(bench.folder_of(answer.best.candidate), folder)
        shutil.rmtree(folder / BUILT)
        write_text(folder / SECTION, _as_yaml(answer))
        record = {
            "key": answer.best.candidate.key,
            "found": answer.found,
            "keep_fp32": answer.keep_fp32,
            "reason": answer.reason,
            "seconds": time.monotonic() - started,
            "rows": bench.rows,
            "fp32_bytes": size_bytes(bench.original),
        }
        write_text(folder / ANSWER, json.dumps(record, indent=2) + "\n")

    key = context.key(
        model=content(prepared),
        data=data_content(context),
        section=section.model_dump(mode="json"),
        target=experiment.target.model_dump(mode="json"),
        evaluation=experiment.evaluation.model_dump(mode="json", exclude={"pythonpath"}),
        analysis=analysis_content(context),
        output=experiment.model.output,
        cpu=detect().name,
        versions=versions("onnxruntime", "onnx-ir", "numpy", "scikit-learn", "scipy"),
    )
    return context.run.stage(STAGE, key, make, resume_from=TRIALS, force=context.run.force)


def _keep(context: Context, bench: Workbench, trial: Trial) -> None:
    """Leaves the best model so far, with its evidence, where a user finds it."""

    def make(folder: Path) -> None:
        copy_model(bench.folder_of(trial.candidate), folder)
        write_text(folder / TRIAL, to_line(trial) + "\n")

    # A run of its own: the best may become one again that it was before.
    Run(context.run.directory, force=False, tell=lambda line: None).stage(
        BEST, {"trial": to_line(trial)}, make
    )


def copy_model(built: Path, folder: Path) -> None:
    """Copies a model, the files of its weights where it is large, its plan and its coverage."""
    for file in built.iterdir():
        shutil.copy(file, folder / file.name)


def _fixed(model: Path, section: AutoQuantization) -> set[str]:
    """Returns the layers whose treatment the rules give."""
    graph = read_model(model)
    ruled = apply_rules(graph, layers_of(graph), section.layers)
    return {str(node.name) for node, rule in ruled.items() if rule.method is not None}


def _trials(folder: Path) -> tuple[Trial, ...]:
    file = folder / TRIALS
    with file.open(encoding="utf-8") as lines:
        return from_lines(lines, str(file))


def _answer(folder: Path) -> Answer:
    file = folder / ANSWER
    with reading("the answer of a search", str(file)):
        record = json.loads(file.read_text(encoding="utf-8"))
        best = next(t for t in _trials(folder) if t.candidate.key == record["key"])
        return Answer(best, record["found"], record["keep_fp32"], record["reason"])


def _as_yaml(answer: Answer) -> str:
    section = answer.best.candidate.section.model_dump(mode="json", exclude_none=True)
    return f"# {answer.reason}\n{write_document({'quantization': section})}"


def _status(trials: int, best: Trial) -> str:
    words = "passes" if best.feasible else f"{len(best.failing)} gates do not pass"
    return f"{trials} tried; best: {best.candidate.origin}, {words}"
