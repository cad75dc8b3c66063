"""The torch graphs of both models, for attacks that follow gradients; loaded for these only."""

from __future__ import annotations

from qtool.commands.context import Context
from qtool.commands.prepare import MODEL, prepared_stage
from qtool.commands.quantize import planned, starting_point
from qtool.commands.tuning import tuned_numbers
from qtool.config.training import Training, TrainQat
from qtool.graph.model_file import read_model
from qtool.robustness.attack import Attack
from qtool.robustness.gradient import white_box
from qtool.torchgraph.fake_quant_graph import FakeQuantGraph
from qtool.torchgraph.importer import TorchGraph
from qtool.training.objective import criterion


def white_boxes(context: Context) -> tuple[Attack, Attack | None]:
    """Returns the attacks on FP32 and on INT8; None for INT8 after quantization-aware training.

    Of a trained model only what is deployed was kept, not the float weights that gradients need.
    """
    experiment = context.experiment
    section: Training | TrainQat = experiment.train_qat or experiment.training
    loss = criterion(section.loss, experiment.task, experiment.model.output).loss
    fp32 = TorchGraph(read_model(prepared_stage(context) / MODEL), trainable=False)
    attack = white_box(fp32, loss)
    if experiment.train_qat is not None:
        return attack, None
    original, plan, calibrated = planned(context)
    model, numbers = starting_point(original, plan, calibrated)
    numbers, _ = tuned_numbers(context, model, plan, numbers)
    graph = FakeQuantGraph(TorchGraph(model), plan, numbers.activations, numbers.weights)
    return attack, white_box(graph.eval(), loss, spare=fp32)
