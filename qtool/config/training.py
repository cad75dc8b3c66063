"""The ``training:`` and ``train_qat:`` sections, and what every training has in common."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, model_validator

from qtool.config.data import Input
from qtool.config.evaluation import Box
from qtool.config.losses import READ_OUTPUTS, Loss
from qtool.config.model import Output
from qtool.config.section import ConfigPath, Section

Keep = Literal["loss", "metric"]
Logger = Literal["tensorboard", "mlflow"]


class Adversarial(Section):
    """Rows moved along the gradient of the loss (FGSM, arXiv 1412.6572; PGD, arXiv 1706.06083).

    Either whole inputs are moved by up to ``epsilon``, or raw columns within what can be changed,
    as ``evaluation.robustness`` attacks them.
    """

    inputs: list[str] = Field([], description="float model inputs that are moved")
    epsilon: float | None = Field(
        None, gt=0, description="largest move of a value of inputs, as the model sees it"
    )
    mutable: list[Box] = Field([], description="raw columns that are moved, and how far")
    steps: int = Field(
        1, gt=0, description="1: FGSM; more: PGD with steps of 2.5 times the range / steps"
    )
    share: float = Field(0.5, gt=0, le=1, description="share of each batch that is moved")

    @model_validator(mode="after")
    def _moves_inputs_or_columns(self) -> Adversarial:
        if bool(self.inputs) == bool(self.mutable):
            raise ValueError("give inputs with epsilon, or mutable columns: one of them")
        if bool(self.inputs) != (self.epsilon is not None):
            raise ValueError("inputs and epsilon belong together; mutable columns have a range")
        return self


class FunctionAugment(Section):
    """A function of the user: ``augment(inputs, labels, **arguments) -> inputs, labels``."""

    function: str = Field(
        pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$", description="module:function, on tensors"
    )
    pythonpath: ConfigPath | None = Field(
        None, description="directory to import the module from (else: installed packages only)"
    )
    arguments: dict[str, Any] = Field({}, description="keyword arguments of that function")


class Augment(Section):
    """Changes to the rows that are trained on; the rows that judge are left alone."""

    noise: dict[str, Annotated[float, Field(gt=0)]] = Field(
        {}, description="model input -> standard deviation of the Gaussian noise that is added"
    )
    adversarial: Adversarial | None = None
    function: FunctionAugment | None = None


class Optimization(Section):
    """What FP32 training and QAT have in common."""

    batch_size: int = Field(512, gt=0, description="rows of one step, over all processes")
    loss: Loss | None = Field(None, description="left out: the usual one of the task")
    optimizer: Literal["adamw", "sgd"] = "adamw"
    momentum: float = Field(0.9, ge=0, lt=1, description="of sgd")
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    warmup_steps: int = Field(0, ge=0, description="steps in which the learning rate rises from 0")
    clip_gradient: float | None = Field(
        None, gt=0, description="largest norm of the gradient of all parameters"
    )
    ema: float | None = Field(
        None, gt=0, lt=1, description="decay of the moving average of the weights that is judged"
    )
    keep: Keep = Field("loss", description="which validation figure chooses the epoch that is kept")
    early_stopping: int | None = Field(
        None, gt=0, description="end after so many epochs without a better one"
    )
    augment: Augment = Augment()
    device: Literal["auto", "cpu", "cuda"] = Field(
        "auto", description="auto: a GPU when there is one"
    )
    log: list[Logger] = Field([], description="needs the extra of the same name")
    checkpoint_steps: int = Field(200, gt=0, description="steps between checkpoints")

    @model_validator(mode="after")
    def _momentum_has_its_optimizer(self) -> Optimization:
        default = type(self).model_fields["momentum"].default
        if self.momentum != default and self.optimizer != "sgd":
            raise ValueError(
                f"momentum is of sgd, and optimizer is {self.optimizer}, which does not read it. "
                "Remove momentum, or set optimizer: sgd"
            )
        return self

    def settings(self) -> dict[str, Any]:
        """Returns what the result depends on, as plain values.

        Where it is trained, who is told and where files lie is left out: the result is the same
        within rounding, and what the files hold is another matter.
        """
        return self.model_dump(
            mode="json",
            exclude={
                "device": True,
                "log": True,
                "loss": {"pythonpath"},
                "augment": {"function": {"pythonpath"}},
                "distill": {"teacher": {"onnx", "encoder"}},
            },
        )


def _parts_kind(value: object) -> str:
    return "parts" if isinstance(value, list) else "a part"


TeacherInput = Annotated[
    Annotated[Input, Tag("a part")] | Annotated[list[Input], Field(min_length=1), Tag("parts")],
    Discriminator(_parts_kind),
]


class Teacher(Section):
    """Any ONNX model, run by ONNX Runtime: a network, or a tree ensemble of its usual converter."""

    onnx: ConfigPath = Field(description="ONNX file, of any opset; a ZipMap at its end is left out")
    output: Output = Field("logit", description="what it returns")
    output_name: str | None = Field(None, description="which output; left out: the first")
    inputs: dict[str, TeacherInput] = Field(
        {},
        description="input of the teacher -> the columns that form it, as in `data.inputs`, or a "
        "list of such parts side by side; left out: it takes the inputs of the model",
    )
    encoder: ConfigPath | None = Field(
        None,
        description="saved encoder of `inputs`, whose parts are named input.0, input.1, …; left "
        "out: learned on the training split",
    )

    @model_validator(mode="after")
    def _encoder_has_its_inputs(self) -> Teacher:
        if self.encoder is not None and not self.inputs:
            raise ValueError("encoder is that of the teacher's own inputs, and there are none")
        return self


class Distillation(Section):
    """Learning from a teacher's outputs (Hinton et al. 2015, arXiv 1503.02531)."""

    weight: float = Field(
        1.0, ge=0, le=1, description="share of the distillation loss; the rest is from the labels"
    )
    temperature: float = Field(1.0, gt=0, description="softens the classes of teacher and student")


class DistillStudent(Distillation):
    """Distillation of a teacher into another model, while that is trained in FP32."""

    teacher: Teacher


class Distill(Distillation):
    """Distillation into a graph that was made of the FP32 model, which can be the teacher."""

    teacher: Teacher | None = Field(None, description="left out: the FP32 model itself")
    features: dict[str, str] = Field(
        {}, description="value of the trained graph -> value of the teacher that it is to resemble"
    )
    feature_weight: float = Field(
        1.0, gt=0, description="weight of their relative squared difference, beside the loss"
    )


class Taught(Optimization):
    """A training whose loss may be that of a teacher."""

    distill: DistillStudent | Distill | None = None

    @model_validator(mode="after")
    def _loss_has_a_part(self) -> Taught:
        taught = self.distill is not None and self.distill.weight == 1
        if taught and self.loss is not None and not isinstance(self.loss, READ_OUTPUTS):
            raise ValueError(
                f"loss {self.loss.name} has no part in the training: distill.weight is 1, so all "
                "is learned from the teacher. Remove loss, or set distill.weight below 1"
            )
        return self

    @model_validator(mode="after")
    def _rows_stay_the_teachers(self) -> Taught:
        teacher = None if self.distill is None else self.distill.teacher
        if teacher is not None and teacher.inputs and self.augment.function is not None:
            raise ValueError(
                "augment.function may mix rows, and a teacher with inputs of its own is asked once "
                "for every row as the data hold it. Remove one of them"
            )
        return self


class Training(Taught):
    """FP32 training of a torch model that has no checkpoint."""

    epochs: int = Field(5, gt=0)
    learning_rate: float = Field(1e-3, gt=0)
    weight_decay: float = Field(1e-4, ge=0)
    mixed_precision: bool = Field(
        False, description="matrix products in bfloat16; weights stay in float32"
    )
    distill: DistillStudent | None = None


class FineTune(Taught):
    """Fine-tuning of the pruned graph in FP32."""

    epochs: int = Field(3, gt=0)
    learning_rate: float = Field(1e-3, gt=0)
    weight_decay: float = Field(0.0, ge=0)
    distill: Distill | None = None


class Progressive(Section):
    """When quantization sets in and when it settles, in epochs from the start."""

    weights_from: float = Field(0.0, ge=0, description="before it, weights train in float32")
    activations_from: float = Field(0.0, ge=0, description="before it, activations are float32")
    freeze_scales_from: float | None = Field(
        None, ge=0, description="from then on, scales stay and only weights are trained"
    )


class TrainQat(Taught):
    """Quantization-aware fine-tuning on the graph that is deployed."""

    epochs: int = Field(3, gt=0)
    learning_rate: float = Field(1e-4, gt=0)
    weight_decay: float = Field(0.0, ge=0)
    learn_scales: bool = Field(
        True, description="learn the step sizes (LSQ, arXiv 1902.08153); false keeps the calibrated"
    )
    distill: Distill | None = None
    progressive: Progressive = Progressive()
    frozen: list[str] = Field(
        [],
        description="globs on node names or operators that are not trained, for operators that "
        "qtool cannot train",
    )
    compile: bool = Field(
        False, description="torch.compile: faster steps after a minute; needs a C++ compiler"
    )

    @model_validator(mode="after")
    def _stages_lie_within_training(self) -> TrainQat:
        stages = self.progressive
        latest = max(stages.weights_from, stages.activations_from)
        if latest >= self.epochs:
            raise ValueError(
                f"progressive: quantization would set in at epoch {latest:g} of {self.epochs}; "
                "it must be before the end of training"
            )
        if self.early_stopping is not None and self.early_stopping <= latest:
            raise ValueError(
                f"early_stopping: {self.early_stopping} epochs could end training before "
                f"quantization sets in at epoch {latest:g} (progressive); it must be more"
            )
        if stages.freeze_scales_from is not None and stages.freeze_scales_from >= self.epochs:
            raise ValueError(
                f"progressive: scales would freeze at epoch {stages.freeze_scales_from:g} of "
                f"{self.epochs}; it must be before the end of training"
            )
        return self


AnyTraining = Training | FineTune | TrainQat
"""The sections that the training loop carries out."""
