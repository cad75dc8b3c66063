"""A run that is killed at any moment goes on to the same bytes as one that was left alone.

``QTOOL_KILLS=10`` kills more often than the three times of every day.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import time

import pytest
from support.cli import ROOT, started, succeeded
from support.project import tree

KILLS = int(os.environ.get("QTOOL_KILLS", "3"))
CONFIG = ROOT / "configs" / "fraud_qat.yaml"
SETTINGS = (
    "data.source.rows=3000",
    "model.arguments.hidden=[16, 16]",
    "training={epochs: 2, batch_size: 128, checkpoint_steps: 4}",
    "train_qat={epochs: 2, batch_size: 128, checkpoint_steps: 4}",
    "evaluation.latency.enabled=false",
    "evaluation.gates=null",
)
"""Both trainings take a good part of the run and write many checkpoints."""


def arguments(directory):
    settings = (word for setting in SETTINGS for word in ("--set", setting))
    return ("run", CONFIG, "--run-dir", directory, "--quiet", *settings)


def moments(kills):
    """One share of the run's duration for each kill, anywhere in its own part of the run."""
    generator = random.Random(20)
    return [(index + generator.random()) / kills for index in range(kills)]


def begin(directory):
    """Starts a run in a process of its own; returns it when its first stage is at work."""
    process = started(*arguments(directory), cwd=directory.parent)
    while not (directory / ".partial").exists():
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.005)
    return process


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """The files of a run that was left alone, and how many seconds it worked."""
    directory = tmp_path_factory.mktemp("undisturbed") / "run"
    process = begin(directory)
    since = time.monotonic()
    _, errors = process.communicate()
    assert (process.returncode, errors) == (0, "")
    return tree(directory), time.monotonic() - since


def kill_after(seconds, directory):
    """Kills a run ``seconds`` into its work, earlier if it is faster than that."""
    process = begin(directory)
    try:
        process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
    if process.returncode != -signal.SIGKILL:
        shutil.rmtree(directory)
        kill_after(seconds / 2, directory)


@pytest.mark.skipif(os.name != "posix", reason="only POSIX kills without a word")
@pytest.mark.parametrize("share", moments(KILLS), ids="{:.0%}".format)
def test_a_killed_run_ends_with_the_same_bytes(undisturbed, tmp_path, share):
    files, duration = undisturbed
    directory = tmp_path / "run"
    kill_after(share * duration, directory)
    left = tree(directory)
    # A stage that is in place is complete; work that is not done lies hidden.
    stages = {name.partition("/")[0] for name in left if not name.startswith(".")}
    complete = {name for name in files if name.partition("/")[0] in stages}
    assert {name for name in left if not name.startswith(".")} == complete
    assert all(left[name] == files[name] for name in complete)
    succeeded(*arguments(directory))
    assert tree(directory) == files
