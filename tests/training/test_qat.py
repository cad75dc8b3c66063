"""QAT: a coarse model gets better on its own criterion, and closer to its teacher."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from training.samples import StopAfter, Stopped, fitted_pair, fitted_weights, make_rows

from qtool.config.training import Distill, TrainQat
from qtool.progress import SilentProgress
from qtool.training.qat import train_qat

ROWS, VALIDATION = make_rows(2000), make_rows(1000, seed=2)
SECTION = TrainQat(epochs=3, batch_size=128, learning_rate=2e-3, checkpoint_steps=7)


@pytest.fixture(scope="module")
def weights():
    return fitted_weights()


def train(graph, teacher, folder, section=SECTION, progress=None, **options):
    return train_qat(
        graph,
        teacher,
        ROWS,
        VALIDATION,
        section,
        seed=3,
        checkpoint=folder / "qat.checkpoint",
        progress=progress or SilentProgress(),
        **options,
    )


def scores(graph):
    inputs = {name: torch.from_numpy(array) for name, array in VALIDATION.inputs.items()}
    with torch.no_grad():
        return torch.sigmoid(graph(inputs)["output"]).numpy()


@pytest.mark.parametrize("learn_scales", [True, False])
def test_training_beats_post_training_quantization(weights, tmp_path, learn_scales):
    _, graph = fitted_pair(weights, learn_scales=learn_scales)
    section = SECTION.model_copy(update={"learn_scales": learn_scales})
    history = train(graph, None, tmp_path, section)
    assert history.best.validation_loss < 0.97 * history.epochs[0].validation_loss
    assert history.best.validation_auc > history.epochs[0].validation_auc


def test_distillation_brings_scores_closer_to_the_teacher(weights, tmp_path):
    teacher, graph = fitted_pair(weights)
    before = np.abs(scores(graph) - scores(teacher)).mean()
    section = SECTION.model_copy(update={"distill": Distill(weight=1.0)})
    train(graph, teacher, tmp_path, section)
    assert np.abs(scores(graph) - scores(teacher)).mean() < 0.7 * before


def test_learned_scales_move_and_stay_positive(weights, tmp_path):
    _, graph = fitted_pair(weights)
    before = graph.activation_qparams() | graph.weight_qparams()
    train(graph, None, tmp_path)
    after = graph.activation_qparams() | graph.weight_qparams()
    assert all((params.scale > 0).all() for params in after.values())
    assert any((after[name].scale != before[name].scale).any() for name in after)


def test_an_interrupted_run_ends_with_the_same_bytes(weights, tmp_path):
    section = SECTION.model_copy(update={"distill": Distill(weight=0.5)})
    teacher, undisturbed = fitted_pair(weights)
    (tmp_path / "a").mkdir()
    history = train(undisturbed, teacher, tmp_path, section)
    with pytest.raises(Stopped):
        train(fitted_pair(weights)[1], teacher, tmp_path / "a", section, StopAfter(24))
    _, resumed = fitted_pair(weights)
    assert train(resumed, teacher, tmp_path / "a", section) == history
    for name, tensor in undisturbed.state_dict().items():
        assert torch.equal(tensor, resumed.state_dict()[name])


def test_training_never_ends_worse_than_it_began(weights, tmp_path):
    _, graph = fitted_pair(weights, bits=8)
    before = scores(graph)
    history = train(graph, None, tmp_path, SECTION.model_copy(update={"learning_rate": 5.0}))
    assert history.best.epoch == 0
    np.testing.assert_array_equal(scores(graph), before)


def test_distillation_needs_a_teacher(weights, tmp_path):
    section = SECTION.model_copy(update={"distill": Distill()})
    with pytest.raises(ValueError, match="teacher"):
        train(fitted_pair(weights)[1], None, tmp_path, section)
