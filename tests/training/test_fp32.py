"""FP32 training: it learns, keeps the best epoch, and resumes to the bit."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from training.samples import Scorer, StopAfter, Stopped, make_rows, scorer

from qtool.config.losses import Focal, FunctionLoss
from qtool.config.training import Adversarial, Augment, Training
from qtool.data.memory_map import Rows
from qtool.errors import ConfigError, DataError, ModelError, StaleArtifactError
from qtool.progress import SilentProgress
from qtool.training.fit import Work
from qtool.training.fp32 import train_fp32
from qtool.training.objective import criterion

SECTION = Training(epochs=3, batch_size=64, learning_rate=5e-3, checkpoint_steps=4)
ROWS, VALIDATION = make_rows(600), make_rows(300, seed=2)


BCE = criterion(None, "binary_classification", "logit")


def train(
    module,
    folder,
    progress=None,
    section=SECTION,
    rows=ROWS,
    judge=BCE,
    validation=VALIDATION,
    **options,
):
    checkpoint = folder / "training.checkpoint"
    work = Work(rows, validation, 3, checkpoint, progress or SilentProgress(), **options)
    return train_fp32(module, section, judge, work)


def content(module):
    buffer = io.BytesIO()
    torch.save(module.state_dict(), buffer)
    return buffer.getvalue()


@pytest.mark.parametrize("outputs", [1, 2])
def test_it_learns(tmp_path, outputs):
    module = scorer(outputs)
    history = train(module, tmp_path)
    assert [record.epoch for record in history.epochs] == [0, 1, 2, 3]
    assert history.epochs[-1].validation_metric > 0.8 > history.epochs[0].validation_metric
    assert history.best.validation_loss < 0.9 * history.epochs[0].validation_loss


EVERYTHING = SECTION.model_copy(
    update={
        "ema": 0.9,
        "warmup_steps": 5,
        "clip_gradient": 1.0,
        "augment": Augment(
            noise={"numeric": 0.1}, adversarial=Adversarial(inputs=["numeric"], epsilon=0.1)
        ),
    }
)


@pytest.mark.parametrize("section", [SECTION, EVERYTHING], ids=["plain", "everything"])
@pytest.mark.parametrize("stop_after", [1, 4, 13])
def test_an_interrupted_run_ends_with_the_same_bytes(tmp_path, stop_after, section):
    undisturbed, resumed = scorer(), scorer()
    (tmp_path / "a").mkdir()
    history = train(undisturbed, tmp_path, section=section)
    with pytest.raises(Stopped):
        train(resumed, tmp_path / "a", StopAfter(stop_after), section)
    resumed = scorer()
    with pytest.raises(Stopped):
        train(resumed, tmp_path / "a", StopAfter(9), section)
    resumed = scorer()
    torch.rand(7)  # other code may have drawn numbers meanwhile
    assert train(resumed, tmp_path / "a", section=section).to_json() == history.to_json()
    assert content(resumed) == content(undisturbed)


@pytest.mark.parametrize("changes", [
    {"optimizer": "sgd", "learning_rate": 0.05},
    {"schedule": "linear", "warmup_steps": 4},
    {"schedule": "constant", "clip_gradient": 0.5},
    {"ema": 0.5},
    {"mixed_precision": True},
    {"loss": Focal(name="focal")},
    {"augment": Augment(noise={"numeric": 0.05})},
    {"augment": Augment(adversarial=Adversarial(inputs=["numeric"], epsilon=0.05, steps=3))},
], ids="-".join)  # fmt: skip
def test_it_learns_with_every_option(tmp_path, changes):
    section = Training(**{**SECTION.model_dump(), **changes})
    judge = criterion(section.loss, "binary_classification", "logit")
    history = train(scorer(), tmp_path, section=section, judge=judge)
    assert history.epochs[-1].validation_metric > 0.75 > history.epochs[0].validation_metric
    assert history.best.validation_loss < 0.95 * history.epochs[0].validation_loss


def test_the_average_is_judged_and_kept(tmp_path):
    """A learning rate that jumps about: the average of the weights is better than the last ones."""
    wild = {"learning_rate": 0.1, "schedule": "constant", "epochs": 4}
    (tmp_path / "a").mkdir()
    jumping = train(scorer(), tmp_path, section=SECTION.model_copy(update=wild))
    calm = SECTION.model_copy(update={**wild, "ema": 0.9})
    averaged = train(scorer(), tmp_path / "a", section=calm)
    assert averaged.epochs[-1].validation_loss < jumping.epochs[-1].validation_loss


def test_training_ends_early_when_nothing_gets_better(tmp_path):
    worse = SECTION.model_copy(update={"epochs": 9, "early_stopping": 2, "learning_rate": 3.0})
    history = train(scorer(), tmp_path, section=worse)
    assert len(history.epochs) < 10
    assert history.epochs[-1].epoch - history.best.epoch == 2


def test_the_metric_can_choose_the_epoch(tmp_path):
    section = SECTION.model_copy(update={"keep": "metric"})
    history = train(scorer(), tmp_path, section=section)
    assert history.best.validation_metric == max(r.validation_metric for r in history.epochs)
    one_class = Rows(VALIDATION.inputs, np.zeros_like(VALIDATION.labels))
    with pytest.raises(ConfigError, match="no auc: they are of one class"):
        train(scorer(), tmp_path / "no checkpoint", section=section, validation=one_class)
    nothing = criterion(FUNCTION, "representation", "logit")
    with pytest.raises(ConfigError, match="metric, which this loss has not"):
        train(scorer(), tmp_path, section=section, judge=nothing)


FUNCTION = FunctionLoss(
    name="function", function="user_losses:squared", pythonpath=Path(__file__).parent
)


CHILD = """
import sys, time
sys.path[:0] = sys.argv[2:]
from pathlib import Path
from test_fp32 import SECTION, scorer, train
from training.samples import StopAfter

class Slow(StopAfter):
    def advance(self, amount=1, status=""):
        time.sleep(0.05)

module = scorer()
train(module, Path(sys.argv[1]), Slow(0))
"""


def test_a_killed_process_goes_on_with_the_same_bytes(tmp_path):
    here, root = Path(__file__).parent, Path(__file__).parents[2]
    paths = [str(here), str(here.parent), str(root)]
    child = subprocess.Popen([sys.executable, "-c", CHILD, str(tmp_path), *paths])
    checkpoint = tmp_path / "training.checkpoint"
    deadline = time.monotonic() + 60
    while not checkpoint.exists() and time.monotonic() < deadline:
        assert child.poll() is None
        time.sleep(0.01)
    os.kill(child.pid, signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL
    killed, undisturbed = scorer(), scorer()
    (tmp_path / "b").mkdir()
    assert train(killed, tmp_path).to_json() == train(undisturbed, tmp_path / "b").to_json()
    assert content(killed) == content(undisturbed)


def test_a_finished_run_is_not_trained_again(tmp_path):
    first = train(scorer(), tmp_path)
    module = scorer()
    assert train(module, tmp_path, StopAfter(1)) == first
    assert not module.training


@pytest.mark.parametrize("position", [5, 2000, -5])
def test_a_damaged_checkpoint_is_refused(tmp_path, position):
    train(scorer(), tmp_path)
    path = tmp_path / "training.checkpoint"
    damaged = bytearray(path.read_bytes())
    damaged[position] ^= 1
    path.write_bytes(damaged)
    with pytest.raises(StaleArtifactError, match="a damaged checkpoint"):
        train(scorer(), tmp_path)


def test_the_checkpoint_of_another_run_is_refused(tmp_path):
    train(scorer(), tmp_path)
    other = SECTION.model_copy(update={"learning_rate": 1e-4})
    with pytest.raises(StaleArtifactError, match=r"run \(learning_rate: .*\); .* 0\.0001\."):
        train(scorer(), tmp_path, section=other)


def test_a_loss_that_is_not_finite_says_where(tmp_path):
    inputs = {**ROWS.inputs, "numeric": ROWS.inputs["numeric"].copy()}
    inputs["numeric"][:, 1] = np.nan
    with pytest.raises(ModelError, match=r"train FP32, epoch 1, step 1: the loss is nan.*Lower"):
        train(scorer(), tmp_path, rows=Rows(inputs, ROWS.labels))


def test_more_warm_up_than_training_is_refused(tmp_path):
    section = SECTION.model_copy(update={"warmup_steps": 10_000})
    with pytest.raises(ConfigError, match="warmup_steps: 10000 in a training of"):
        train(scorer(), tmp_path, section=section)


def test_a_loss_without_a_gradient_is_refused(tmp_path):
    constant = FUNCTION.model_copy(update={"function": "user_losses:constant"})
    judge = criterion(constant, "binary_classification", "logit")
    with pytest.raises(ModelError, match="depends on nothing that is trained"):
        train(scorer(), tmp_path, judge=judge)


def test_faults_that_show_in_training_only_are_placed_in_the_users_code(tmp_path):
    class Faulty(Scorer):
        def forward(self, numeric, category):
            if self.training:
                raise KeyError("amount")
            return super().forward(numeric, category)

    with pytest.raises(ModelError, match=r"test_fp32.py:\d+ raised KeyError: 'amount'"):
        train(Faulty(), tmp_path)


def test_mixed_precision_is_judged_in_float32(tmp_path):
    """Epoch 0 is the same model, whatever it will be trained with."""
    losses = []
    for mixed in (False, True):
        (tmp_path / str(mixed)).mkdir()
        section = SECTION.model_copy(update={"mixed_precision": mixed})
        losses.append(train(scorer(), tmp_path / str(mixed), section=section).epochs[0])
    assert losses[0] == losses[1]


def test_a_last_batch_of_one_row_is_left_out(tmp_path):
    rows = Rows({name: array[:65] for name, array in ROWS.inputs.items()}, ROWS.labels[:65])
    assert len(train(scorer(), tmp_path, rows=rows).epochs) == 4


def test_one_row_cannot_be_trained_on(tmp_path):
    rows = Rows({name: array[:1] for name, array in ROWS.inputs.items()}, ROWS.labels[:1])
    with pytest.raises(DataError, match="1 rows; expected at least 2"):
        train(scorer(), tmp_path, rows=rows)


def test_a_module_without_parameters_is_refused(tmp_path):
    with pytest.raises(ModelError, match="no parameter"):
        train(nn.Identity(), tmp_path)


def test_settings_of_the_process_come_back(tmp_path):
    before = torch.get_num_threads(), torch.get_rng_state()
    train(scorer(), tmp_path)
    assert torch.get_num_threads() == before[0]
    assert not torch.are_deterministic_algorithms_enabled()
