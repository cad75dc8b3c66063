"""The ``model:`` section: which FP32 model, and how its output becomes a score."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, model_validator

from qtool.config.section import ConfigPath, Section

Output = Literal["logit", "probability"]


class OnnxModel(Section):
    """An FP32 ``.onnx`` file."""

    onnx: ConfigPath = Field(description="FP32 ONNX file")
    output: Output = Field(
        "logit", description="what the model returns: a logit (sigmoid/softmax gives the score)"
    )


class TorchModel(Section):
    """A PyTorch module made by a function of the user."""

    torch: str = Field(
        pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$",
        description="module:function that returns the torch.nn.Module",
    )
    arguments: dict[str, Any] = Field({}, description="keyword arguments of that function")
    pythonpath: ConfigPath | None = Field(
        None, description="directory to import the module from (else: installed packages only)"
    )
    checkpoint: ConfigPath | None = Field(
        None, description="state_dict saved by torch.save; loaded with weights_only=True"
    )
    trained: bool = Field(
        False, description="the function returns the module with its weights; it is not trained"
    )
    output: Output = Field("logit", description="what the model returns")
    outputs: list[str] | None = Field(
        None,
        min_length=1,
        description="outputs of forward that are exported, the first is judged; the others, and "
        "what only they need, are for the loss of training; left out: all",
    )

    @property
    def trains(self) -> bool:
        """Whether the weights come from ``training:``."""
        return self.checkpoint is None and not self.trained

    @model_validator(mode="after")
    def _weights_come_from_one_place(self) -> TorchModel:
        if self.trained and self.checkpoint is not None:
            raise ValueError("trained says that the function has the weights. Remove checkpoint")
        return self


def _kind(value: object) -> str | None:
    if isinstance(value, dict):
        named = [kind for kind in ("onnx", "torch") if kind in value]
        return f"{named[0]} model" if len(named) == 1 else None
    return "onnx model" if isinstance(value, OnnxModel) else "torch model"


Model = Annotated[
    Annotated[OnnxModel, Tag("onnx model")] | Annotated[TorchModel, Tag("torch model")],
    Discriminator(
        _kind,
        custom_error_type="model_kind",
        custom_error_message="expected exactly one of 'onnx' and 'torch'",
    ),
]
