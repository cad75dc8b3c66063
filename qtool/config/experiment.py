"""One experiment: all sections of one YAML file, and what must hold between them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from qtool.config.data import CategoricalInput, Data, Input, NumericInput
from qtool.config.evaluation import Evaluation, Several, once
from qtool.config.model import Model, OnnxModel
from qtool.config.pruning import Pruning
from qtool.config.quantization import AutoQuantization, Quantization, StaticQuantization
from qtool.config.section import Section
from qtool.config.task import CLASSIFICATION, LABELLED, Task
from qtool.config.training import Training, TrainQat
from qtool.config.tuning import Rewrite

JUDGED: dict[str, tuple[Task, ...]] = {
    "decision": ("binary_classification",),
    "fairness": ("binary_classification",),
    "reason_codes": ("binary_classification",),
    "monotonicity": ("binary_classification", "regression"),
    "trading": ("multiclass_classification",),
    "forecast": ("regression",),
    "risk": ("regression",),
    "retrieval": ("representation",),
    "segmentation": ("representation",),
    "robustness": (*CLASSIFICATION, "regression"),
}
"""Keys of ``evaluation`` that only some tasks have."""


BatchSize = Annotated[int, Field(gt=0, le=1_000_000)]
"""Its rows are held at once."""


class Target(Section):
    """Where the INT8 model will run."""

    cpu: Literal["auto", "x86_amx", "x86_vnni", "x86_avx2", "arm_dotprod"] = Field(
        "auto", description="the kernels to write for; auto: those of this machine"
    )
    threads: Several = Field(1, description="threads of one inference session")
    batch_sizes: Annotated[list[BatchSize], AfterValidator(once)] = Field(
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
    task: Task = Field("binary_classification", description="what `data.label` holds")
    seed: int = Field(0, ge=0, lt=2**63)
    model: Model
    data: Data
    target: Target = Target()
    training: Training = Training()
    pruning: Pruning | None = None
    quantization: Quantization = StaticQuantization(method="static")
    train_qat: TrainQat | None = None
    evaluation: Evaluation = Evaluation()
    export: Export = Export()

    @model_validator(mode="after")
    def _label_fits_the_task(self) -> Experiment:
        if self.task == "language_model" and self.data.label is not None:
            raise ValueError(
                "task language_model takes its labels from its input, the tokens. Remove data.label"
            )
        if isinstance(self.data.label, list) and self.task != "regression":
            raise ValueError(
                "data.label may be a list of columns for task regression only; "
                f"found task {self.task}. Name one column"
            )
        return self

    @model_validator(mode="after")
    def _evaluation_fits_the_task(self) -> Experiment:
        for key in self.evaluation.model_fields_set & JUDGED.keys():
            tasks = JUDGED[key]
            if self.task not in tasks and getattr(self.evaluation, key) is not None:
                raise ValueError(
                    f"evaluation.{key} applies to {' and '.join(tasks)}; found task {self.task}. "
                    "Remove it"
                )
        return self

    @model_validator(mode="after")
    def _varied_columns_are_inputs(self) -> Experiment:
        section, parts = self.evaluation, self.data.inputs.values()
        single = [part for part in parts if isinstance(part, NumericInput | CategoricalInput)]
        if section.reason_codes is not None and len(single) < len(parts):
            raise ValueError(
                "evaluation.reason_codes explains columns of one value per row, and data.inputs "
                "has columns of lists. Remove it"
            )
        numeric = [part for part in single if isinstance(part, NumericInput)]
        steady, moved = section.monotonicity, section.robustness
        self._check_known("monotonicity.columns", list(steady.columns) if steady else [], single)
        self._check_known("robustness.mutable", moved.mutable_columns if moved else [], numeric)
        return self

    def _check_known(self, key: str, columns: Sequence[str], parts: Sequence[Input]) -> None:
        known = [column for part in parts for column in part.columns]
        unknown = next((column for column in columns if column not in known), None)
        if unknown is not None:
            kinds = " or ".join(dict.fromkeys(part.kind for part in parts))
            raise ValueError(
                f"evaluation.{key} names {unknown!r}; expected columns of a {kinds} input: "
                f"{', '.join(known)}"
            )

    @model_validator(mode="after")
    def _numbers_are_tuned_once(self) -> Experiment:
        section = self.quantization
        chosen = [one.method for one in section.tuning if not isinstance(one, Rewrite)]
        if self.train_qat is not None and chosen and not isinstance(section, AutoQuantization):
            raise ValueError(
                f"quantization.tuning has {chosen[0]}, and train_qat learns these numbers. "
                "Remove one of them"
            )
        return self

    @model_validator(mode="after")
    def _sections_fit_together(self) -> Experiment:
        if self.data.label is None and self.train_qat is not None and self.task in LABELLED:
            raise ValueError("train_qat needs labels: name the column in data.label")
        share_is_set = "minimum_class_share" in self.quantization.model_fields_set
        if self.data.label is None and share_is_set and self.task in CLASSIFICATION:
            raise ValueError(
                "quantization.minimum_class_share needs labels: name the column in data.label, or "
                "remove it for a sample that does not look at classes"
            )
        if self.task not in CLASSIFICATION and share_is_set:
            raise ValueError(
                "quantization.minimum_class_share applies to classification, "
                f"and task {self.task} has no classes. Remove it"
            )
        if isinstance(self.model, OnnxModel) and "training" in self.model_fields_set:
            raise ValueError(
                "training applies to a torch model; an ONNX model is trained already. "
                "Remove training, or fine-tune it with train_qat"
            )
        return self
