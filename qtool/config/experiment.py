"""One experiment: all sections of one YAML file, and what must hold between them."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from qtool.config.data import Data
from qtool.config.evaluation import Evaluation
from qtool.config.model import Model, OnnxModel
from qtool.config.quantization import Quantization, StaticQuantization
from qtool.config.section import Section
from qtool.config.training import Training, TrainQat


class Target(Section):
    """Where the INT8 model will run."""

    cpu: Literal["auto", "x86_amx", "x86_vnni", "x86_avx2", "arm_dotprod"] = Field(
        "auto", description="the kernels to write for; auto: those of this machine"
    )
    threads: int = Field(1, gt=0, description="threads of one inference session")
    batch_sizes: list[Annotated[int, Field(gt=0)]] = Field(
        [1, 32, 256], min_length=1, description="batch sizes whose latency is measured"
    )


class Export(Section):
    """What goes into the bundle."""

    encoder: Literal["graph", "file"] = Field(
        "file", description="graph: the model takes raw columns; file: encoder.json beside it"
    )


class Experiment(Section):
    """One experiment."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    task: Literal["binary_classification"] = "binary_classification"
    seed: int = Field(0, ge=0, lt=2**63)
    model: Model
    data: Data
    target: Target = Target()
    training: Training = Training()
    quantization: Quantization = StaticQuantization(method="static")
    train_qat: TrainQat | None = None
    evaluation: Evaluation = Evaluation()
    export: Export = Export()

    @model_validator(mode="after")
    def _sections_fit_together(self) -> Experiment:
        if self.train_qat is not None and not isinstance(self.quantization, StaticQuantization):
            raise ValueError(
                "train_qat applies to quantization.method static, whose activation ranges are "
                f"fixed; found {self.quantization.method}. Remove train_qat or choose static"
            )
        if self.data.label is None and self.train_qat is not None:
            raise ValueError("train_qat needs labels: name the column in data.label")
        if self.data.label is None and "minimum_class_share" in self.quantization.model_fields_set:
            raise ValueError(
                "quantization.minimum_class_share needs labels: name the column in data.label, or "
                "remove it for a sample that does not look at classes"
            )
        if isinstance(self.model, OnnxModel) and "training" in self.model_fields_set:
            raise ValueError(
                "training applies to a torch model; an ONNX model is trained already. "
                "Remove training, or fine-tune it with train_qat"
            )
        return self
