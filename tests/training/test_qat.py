"""QAT: a coarse model gets better on its own criterion, and closer to its teacher."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from training.samples import StopAfter, Stopped, fitted_pair, fitted_weights, make_rows

from qtool.config.training import Distill, Progressive, TrainQat
from qtool.errors import ConfigError
from qtool.progress import SilentProgress
from qtool.training.fit import Work
from qtool.training.objective import criterion
from qtool.training.qat import Teacher, train_qat

ROWS, VALIDATION = make_rows(2000), make_rows(1000, seed=2)
SECTION = TrainQat(epochs=3, batch_size=128, learning_rate=2e-3, checkpoint_steps=7)


@pytest.fixture(scope="module")
def weights():
    return fitted_weights()


BCE = criterion(None, "binary_classification", "logit")


def train(graph, fp32, folder, section=SECTION, progress=None, **options):
    checkpoint = folder / "qat.checkpoint"
    work = Work(ROWS, VALIDATION, 3, checkpoint, progress or SilentProgress())
    return train_qat(graph, fp32, section, BCE, work, **options)


def scores(graph):
    inputs = {name: torch.from_numpy(array) for name, array in VALIDATION.inputs.items()}
    with torch.no_grad():
        return torch.sigmoid(graph(inputs)["output"]).numpy()


@pytest.mark.parametrize("learn_scales", [True, False])
def test_training_beats_post_training_quantization(weights, tmp_path, learn_scales):
    fp32, graph = fitted_pair(weights, learn_scales=learn_scales)
    section = SECTION.model_copy(update={"learn_scales": learn_scales})
    history = train(graph, fp32, tmp_path, section)
    assert history.best.validation_loss < 0.97 * history.epochs[0].validation_loss
    assert history.best.validation_metric > history.epochs[0].validation_metric
    assert history.fp32_loss < history.epochs[0].validation_loss
    assert history.metric == "auc"


def test_distillation_brings_scores_closer_to_the_teacher(weights, tmp_path):
    teacher, graph = fitted_pair(weights)
    before = np.abs(scores(graph) - scores(teacher)).mean()
    section = SECTION.model_copy(update={"distill": Distill(weight=1.0)})
    train(graph, teacher, tmp_path, section)
    assert np.abs(scores(graph) - scores(teacher)).mean() < 0.7 * before


def test_learned_scales_move_and_stay_positive(weights, tmp_path):
    fp32, graph = fitted_pair(weights)
    before = graph.activation_qparams() | graph.weight_qparams()
    train(graph, fp32, tmp_path)
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
    fp32, graph = fitted_pair(weights, bits=8)
    before = scores(graph)
    history = train(graph, fp32, tmp_path, SECTION.model_copy(update={"learning_rate": 5.0}))
    assert history.best.epoch == 0
    np.testing.assert_array_equal(scores(graph), before)


def test_features_come_closer_to_those_of_the_teacher(weights, tmp_path):
    names = {"h2": "h2"}
    distances = []
    for distill in (Distill(), Distill(features=names, feature_weight=10.0)):
        fp32, graph = fitted_pair(weights)
        folder = tmp_path / str(len(distances))
        folder.mkdir()
        train(graph, fp32, folder, SECTION.model_copy(update={"distill": distill}))
        inputs = {name: torch.from_numpy(array) for name, array in VALIDATION.inputs.items()}
        with torch.no_grad():
            own, other = (g(inputs, ["h2"])["h2"] for g in (graph, fp32))
        distances.append((own - other).square().mean().item())
    assert distances[1] < 0.8 * distances[0]


def test_another_teacher_is_learned_from(weights, tmp_path):
    """It says the opposite of the truth, as probabilities; so does its pupil in the end."""
    fp32, graph = fitted_pair(weights)

    def opposite(inputs, names):
        return {"probability": torch.sigmoid(-fp32(inputs)["output"])}

    section = SECTION.model_copy(update={"distill": Distill(weight=1.0), "learning_rate": 0.02})
    train(graph, fp32, tmp_path, section, teacher=Teacher(opposite, "probability", ["probability"]))
    assert np.corrcoef(scores(graph)[:, 0], scores(fp32)[:, 0])[0, 1] < -0.5


def test_scales_are_frozen_at_the_end(weights, tmp_path):
    """Frozen from the start, they stay; frozen from the second epoch, they move before."""
    moved = []
    for start in (0.0, 1.0):
        fp32, graph = fitted_pair(weights)
        folder = tmp_path / str(start)
        folder.mkdir()
        stages = Progressive(freeze_scales_from=start)
        section = SECTION.model_copy(update={"progressive": stages, "keep": "loss"})
        train(graph, fp32, folder, section)
        moved.append(graph.log_scale_factors.abs().max().item())
    assert moved[0] == 0 < moved[1]


def test_quantization_sets_in_when_it_is_told_to(weights, tmp_path):
    fp32, graph = fitted_pair(weights)
    switched, steps, judged = [(True, True)], [], []
    quantize = graph.quantize

    def recorded(*, weights, activations):
        switched.append((weights, activations))
        quantize(weights=weights, activations=activations)

    graph.quantize = recorded
    graph.register_forward_pre_hook(
        lambda module, _: (steps if module.training else judged).append(switched[-1])
    )
    stages = Progressive(weights_from=0.5, activations_from=1.0)
    train(graph, fp32, tmp_path, SECTION.model_copy(update={"progressive": stages, "epochs": 2}))
    assert steps == [(False, False)] * 8 + [(True, False)] * 8 + [(True, True)] * 16
    assert set(judged) == {(True, True)}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"activations_from": 3.0}, "quantization would set in at epoch 3 of 3"),
        ({"freeze_scales_from": 3.0}, "scales would freeze at epoch 3 of 3"),
        ({"weights_from": 2.0}, "early_stopping: 2 epochs could end training before"),
    ],
)
def test_stages_that_training_may_not_reach_are_refused(options, message):
    with pytest.raises(ValidationError, match=message):
        TrainQat(epochs=3, early_stopping=2, progressive=Progressive(**options))


def test_a_compiled_graph_is_trained_through_its_own_call(weights, tmp_path):
    """What torch.compile returns has no truth value: it asks the original for its length."""

    class Compiled:
        calls = 0

        def __len__(self):
            raise TypeError

        def __call__(self, inputs, names):
            self.calls += 1
            return graph(inputs, names)

    fp32, graph = fitted_pair(weights)
    compiled = Compiled()
    train(graph, fp32, tmp_path, SECTION, forward=compiled)
    assert compiled.calls == 3 * 16 + 4  # steps, and once for each judgement


def test_features_of_other_shapes_are_refused(weights, tmp_path):
    fp32, graph = fitted_pair(weights)
    section = SECTION.model_copy(update={"distill": Distill(features={"output": "numeric"})})
    with pytest.raises(ConfigError, match=r"'output' has the shape \(\d+, 1\), 'numeric'"):
        train(graph, fp32, tmp_path, section)
