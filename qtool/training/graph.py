"""Training of a float graph that was made of another one, which it is judged beside."""

from __future__ import annotations

from qtool.config.training import FineTune, TrainQat
from qtool.history import History
from qtool.torchgraph.importer import TorchGraph
from qtool.training.distillation import Forward, Taught, Teacher
from qtool.training.fit import Fit, Work
from qtool.training.loop import fit
from qtool.training.objective import Criterion


def taught_beside(
    forward: Forward,
    fp32: TorchGraph,
    section: FineTune | TrainQat,
    criterion: Criterion,
    work: Work,
    teacher: Teacher | None,
) -> tuple[Taught, Taught]:
    """Returns what is minimised of a graph, and the same of the FP32 graph that it was made of.

    Args:
        forward: runs the graph that is trained.
        fp32: is moved to where it is trained; the teacher when there is no other.
        section: what is learned, and how.
        criterion: loss and metric.
        work: place of the training.
        teacher: another teacher than ``fp32``.
    """
    fp32.to(work.place.device)
    learn_from = teacher or Teacher(fp32, criterion.output, fp32.output_names)
    taught, reference = (
        Taught(each, criterion, learn_from, section.distill, fp32.output_names)
        for each in (forward, fp32)
    )
    return taught, reference


def fine_tune(
    graph: TorchGraph,
    fp32: TorchGraph,
    section: FineTune,
    criterion: Criterion,
    work: Work,
    teacher: Teacher | None = None,
) -> History:
    """Trains the weights of a pruned graph in place and returns the history.

    Epoch 0, the graph before training, can be the one that is kept.

    Args:
        graph: the pruned graph.
        fp32: the graph before: the reference of the history, and the teacher when there is no
            other.
        section: the ``pruning.fine_tune:`` section.
        criterion: loss and metric.
        work: rows, seed, place and files.
        teacher: another teacher than ``fp32``.

    Raises:
        ConfigError: an option does not fit the task.
        ModelError: an output of another shape, or a loss that is not finite.
        StaleArtifactError: the checkpoint is damaged or belongs to another run.
    """
    taught, reference = taught_beside(graph, fp32, section, criterion, work, teacher)
    group = {
        "params": list(graph.parameters()),
        "initial_lr": section.learning_rate,
        "weight_decay": section.weight_decay,
    }
    run = Fit(
        "train pruned",
        graph,
        taught.objective,
        [group],
        section,
        work,
        reference=reference.judge,
    )
    return fit(run)
