"""``qtool sweep``: many configs, one after another, and what came of them on one page."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from qtool.commands.compare import EVALUATE, read_evaluation
from qtool.commands.doctor import diagnose
from qtool.config.load import load
from qtool.errors import StaleArtifactError, UsageError, reading
from qtool.evaluation.results import Evaluation
from qtool.report.sweep import Swept, to_sweep_html, to_sweep_json, to_sweep_markdown
from qtool.runs import write_text

PAGE, MARKDOWN, RECORD = "sweep.html", "sweep.md", "sweep.json"
GATES_FAILED = 1


def sweep(
    configs: Sequence[Path],
    overrides: Sequence[str],
    directory: Path,
    tell: Callable[[str], None],
) -> tuple[Swept, ...]:
    """Runs every config to its end, in a process of its own, and writes the page after each.

    What is up to date is not done again, so the same command goes on where it was interrupted. A
    config that fails does not keep the others from running.

    Args:
        configs: files, each with a name of its own.
        overrides: ``key=value`` texts, for all of them.
        directory: gets one run directory per config, and the page as HTML, Markdown and JSON.
        tell: takes a line when a config begins and ends.

    Raises:
        UsageError: two configs have one name.
        ConfigError: a config is wrong; before any is run.
        StaleArtifactError: the record of an earlier sweep is of another version.
    """
    names = _names(configs, overrides)
    earlier = _earlier(directory / RECORD)
    directory.mkdir(parents=True, exist_ok=True)
    found: dict[str, Swept] = {}
    for number, (name, config) in enumerate(names.items(), start=1):
        tell(f"{name}: {number} of {len(names)}")
        spent = earlier[name]["seconds"] if name in earlier else 0.0
        found[name] = _run(name, config, overrides, directory / name, spent)
        tell(f"{name}: {found[name].outcome}, {found[name].seconds:.0f} s")
        runs, machine = tuple(found.values()), diagnose()
        write_text(directory / PAGE, to_sweep_html(runs))
        write_text(directory / MARKDOWN, to_sweep_markdown(runs))
        write_text(directory / RECORD, to_sweep_json(runs, machine, earlier))
    return tuple(found.values())


def _names(configs: Sequence[Path], overrides: Sequence[str]) -> dict[str, Path]:
    """Returns the configs by the names of their experiments."""
    found: dict[str, Path] = {}
    for config in configs:
        name = load(config, overrides).experiment.name
        if name in found:
            raise UsageError(
                str(config), f"the name {name!r} again", "configs with different names",
                f"{found[name]} has it, too: their runs would be in one folder.",
            )  # fmt: skip
        found[name] = config
    return found


def _earlier(record: Path) -> dict[str, dict[str, Any]]:
    """Returns the runs of the sweeps of this directory before, by name."""
    if not record.is_file():
        return {}
    with reading("the record of a sweep", str(record)):
        runs: dict[str, dict[str, Any]] = json.loads(record.read_text(encoding="utf-8"))["runs"]
        return {name: {**run, "seconds": float(run["seconds"])} for name, run in runs.items()}


def _run(name: str, config: Path, overrides: Sequence[str], directory: Path, spent: float) -> Swept:
    settings = (word for override in overrides for word in ("--set", override))
    run = ("run", str(config), "--quiet", "--run-dir", str(directory), *settings)
    started = time.monotonic()
    done = subprocess.run(  # noqa: S603 - qtool itself
        (sys.executable, "-m", "qtool", *run),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    seconds = spent + time.monotonic() - started
    evaluated = done.returncode == 0 or (done.returncode == GATES_FAILED and not done.stderr)
    evaluation = _evaluation(directory) if evaluated else None
    return Swept(name, str(config), evaluation, seconds, done.returncode, done.stderr.strip())


def _evaluation(directory: Path) -> Evaluation:
    if not (directory / EVALUATE).is_dir():
        raise StaleArtifactError(str(directory), "no evaluation", "that of the run that just ended")
    return read_evaluation(directory)
