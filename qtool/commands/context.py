"""What the stages of one experiment share: config, run directory, progress, opened data."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtool import __version__
from qtool.config.experiment import Experiment
from qtool.config.load import load
from qtool.progress import Progress
from qtool.runs import Run, locked

if TYPE_CHECKING:
    from qtool.data.source import Source
    from qtool.graph.targets import Target


@dataclass(frozen=True)
class Options:
    """What the command line says besides the config file."""

    overrides: Sequence[str]
    run_dir: Path | None
    force: bool
    progress: Progress
    tell: Any


@dataclass(frozen=True)
class Context:
    """One experiment at work.

    Attributes:
        experiment: the validated config.
        written: the merged config values as they were written, paths as the user gave them.
        run: the run directory.
        progress: where long work reports.
        searched: whether ``experiment`` has the answer of a search.
    """

    experiment: Experiment
    written: dict[str, Any]
    run: Run
    progress: Progress
    searched: bool = False

    @cached_property
    def source(self) -> Source:
        """The rows."""
        from qtool.data.source import open_source

        return open_source(self.experiment.data.source)

    @cached_property
    def data_sha256(self) -> str:
        """Digest of the content of the rows."""
        return self.source.fingerprint()

    @cached_property
    def target(self) -> Target:
        """The profile to write for."""
        from qtool.graph.targets import TARGETS
        from qtool.runtime.cpu import resolve_target

        return TARGETS[resolve_target(self.experiment.target.cpu)]

    def of(self, experiment: Experiment, *, searched: bool = False) -> Context:
        """Returns the same run with another experiment on the same rows."""
        changed = replace(self, experiment=experiment, searched=searched)
        # What is known of the rows stays true, and would take a pass over them to find again.
        for name in ("source", "data_sha256"):
            if name in self.__dict__:
                changed.__dict__[name] = self.__dict__[name]
        return changed

    def key(self, **inputs: Any) -> dict[str, Any]:
        """Returns the key of a stage: its inputs and the versions that every result depends on."""
        return {"qtool": __version__, "seed": self.experiment.seed, **inputs}


def together() -> bool:
    """Whether torchrun started this process beside others."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


def following() -> bool:
    """Whether this is not the first of the processes that torchrun started."""
    return together() and int(os.environ.get("RANK", "0")) > 0


@contextmanager
def opened(config: Path, options: Options) -> Iterator[Context]:
    """Loads the config and holds the lock of its run directory while the body works.

    Raises:
        ConfigError: the config is wrong.
        UsageError: another qtool works in the run directory.
    """
    loaded = load(config, options.overrides)
    directory = options.run_dir or Path("runs") / loaded.experiment.name
    # Of processes that train together, the first one holds the lock for all.
    with nullcontext() if following() else locked(directory):
        run = Run(directory, options.force, options.tell)
        yield Context(loaded.experiment, loaded.written, run, options.progress)
