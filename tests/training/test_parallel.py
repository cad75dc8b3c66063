"""Two processes, each with half of every mini-batch, end with the model of one process."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn
from training.test_fp32 import BCE, ROWS, SECTION, VALIDATION

from qtool.progress import SilentProgress
from qtool.training.fit import Work
from qtool.training.fp32 import train_fp32
from qtool.training.parallel import HERE, Parallel, Place, current, joined

PATHS = [str(Path(__file__).parent), str(Path(__file__).parents[1])]


def smooth():
    """Without dropout and batch normalization, whose batches are those of each process."""
    torch.manual_seed(5)
    return Smooth()


class Smooth(nn.Module):
    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(6, 3)
        self.body = nn.Sequential(nn.Linear(7, 16), nn.ReLU(), nn.Linear(16, 1))

    def forward(self, numeric, category):
        return self.body(torch.cat([numeric / 20, self.table(category)], dim=1))


def train(folder, place, module=None, **changes):
    module = module or smooth()
    history = train_fp32(
        module,
        SECTION.model_copy(update={"ema": 0.5, "clip_gradient": 1.0, **changes}),
        BCE,
        Work(ROWS, VALIDATION, 3, folder / "training.checkpoint", SilentProgress(), place),
    )
    return module, history


CHILD = """
import sys
sys.path[:0] = sys.argv[3:]
from pathlib import Path
import torch
from training.samples import scorer
from training.test_parallel import train, smooth
from qtool.training.parallel import Place, current, joined

folder, kind = Path(sys.argv[1]), sys.argv[2]
with joined() as parallel:
    module = scorer() if kind == "batch_norm" else smooth()
    if parallel.rank == 1:  # what rank 0 has counts
        for parameter in module.parameters():
            parameter.data.add_(1)
    changes = {"checkpoint_steps": 5}
    if kind == "stopped":
        changes["epochs"] = 3
    module, history = train(folder, Place(1, torch.device("cpu"), parallel), module, **changes)
    torch.save(module.state_dict(), folder / f"weights{parallel.rank}.pt")
    (folder / f"history{parallel.rank}.json").write_text(history.to_json())
"""


def launch(folder, code, *arguments):
    """Runs code in two processes."""
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    child = folder / "child.py"
    child.write_text(code)
    command = [sys.executable, *launcher, str(child), str(folder), *arguments, *PATHS]
    return subprocess.run(command, check=False, capture_output=True, text=True, timeout=120)


def two_processes(folder, kind="plain"):
    done = launch(folder, CHILD, kind)
    assert done.returncode == 0, done.stderr[-2000:]
    weights = [torch.load(folder / f"weights{rank}.pt") for rank in (0, 1)]
    assert (folder / "history0.json").read_text() == (folder / "history1.json").read_text()
    for name, tensor in weights[0].items():
        assert torch.equal(tensor, weights[1][name])
    return weights[0], json.loads((folder / "history0.json").read_text())


def test_two_processes_end_with_the_model_of_one(tmp_path):
    (tmp_path / "alone").mkdir()
    module, history = train(tmp_path / "alone", HERE)
    weights, together = two_processes(tmp_path)
    for name, tensor in module.state_dict().items():
        torch.testing.assert_close(weights[name], tensor, rtol=1e-3, atol=1e-5)
    losses = [epoch["validation_loss"] for epoch in together["epochs"]]
    assert losses == pytest.approx([r.validation_loss for r in history.epochs], rel=1e-4)


def test_batch_statistics_are_those_of_one_process(tmp_path):
    weights, history = two_processes(tmp_path, "batch_norm")
    assert history["epochs"][-1]["validation_metric"] > 0.8
    assert weights["body.0.running_mean"].abs().sum() > 0


THREADS = """
import sys
sys.path[:0] = sys.argv[2:]
from pathlib import Path
import torch
from qtool.training.parallel import joined

with joined() as parallel:
    parameters = torch.nn.Linear(2, 2).parameters()
    torch.optim.AdamW(parameters)  # imports what is imported with the first optimizer
threads = [path.read_text().strip() for path in Path("/proc/self/task").glob("*/comm")]
Path(sys.argv[1], f"threads{parallel.rank}").write_text(" ".join(threads))
"""


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="reads the threads from /proc")
def test_no_thread_of_the_group_outlives_it(tmp_path):
    """One that does may drop a tensor while Python ends, and that aborts the process."""
    done = launch(tmp_path, THREADS)
    assert done.returncode == 0, done.stderr[-2000:]
    for rank in (0, 1):
        assert "gloo" not in (tmp_path / f"threads{rank}").read_text()


LEFT_ALONE = """
import os, sys
sys.path[:0] = sys.argv[2:]
from pathlib import Path
from qtool.errors import OutputError
from qtool.training.parallel import joined

with joined() as parallel:
    if not parallel.first:
        os._exit(0)
    try:
        parallel.gather([1])
    except OutputError as error:
        Path(sys.argv[1], "message").write_text(str(error))
"""


def test_a_process_that_is_left_alone_says_so(tmp_path):
    launch(tmp_path, LEFT_ALONE)
    message = (tmp_path / "message").read_text()
    assert message.startswith("torchrun: a process does not get on with the others")


def test_alone_there_is_nothing_to_share():
    with joined() as parallel:
        assert parallel == Parallel() == current()
    assert parallel.gather([1, 2]) == [1, 2]
    assert Place().parallel.first
