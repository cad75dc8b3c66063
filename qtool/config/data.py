"""The ``data:`` section: where rows come from, which columns feed which input, and the splits."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Discriminator, Field, Tag, model_validator

from qtool.config.section import ConfigPath, Section


class GeneratorSource(Section):
    """Rows made by one of qtool's seeded generators."""

    generator: Literal["card_transactions", "credit_clients"] = Field(description="which generator")
    rows: int = Field(200_000, gt=0)
    seed: int = Field(7, ge=0, lt=2**63)


class NumericInput(Section):
    """Numeric columns that form one float32 tensor of shape (batch, columns)."""

    kind: Literal["numeric"] = "numeric"
    columns: list[str] = Field(min_length=1)
    scale: Literal["standard", "min_max", "none"] = Field(
        "none", description="learned on the training split: (x - mean) / std, or to [0, 1]"
    )
    log: list[str] = Field(
        [], description="columns replaced by sign(x) * log(1 + |x|) before scaling (heavy tails)"
    )
    clip: float | None = Field(
        None, gt=0, description="after scaling, limit values to [-clip, clip]"
    )
    missing: Literal["error", "mean", "zero"] = Field(
        "error", description="what a null or NaN becomes, before scaling"
    )

    @model_validator(mode="after")
    def _log_names_columns(self) -> NumericInput:
        unknown = sorted(set(self.log) - set(self.columns))
        if unknown:
            raise ValueError(f"log names {unknown}, which are not in columns")
        return self


class CategoricalInput(Section):
    """Categorical columns that form one int64 tensor of shape (batch, columns)."""

    kind: Literal["categorical"]
    columns: list[str] = Field(min_length=1)
    encode: Literal["learn", "none"] = Field(
        "learn",
        description="learn: codes 1.. by value, 0 for missing or unseen; none: already codes",
    )


def _input_kind(value: object) -> str:
    if isinstance(value, dict):
        return str(value.get("kind", "numeric"))
    return str(getattr(value, "kind", "numeric"))


Input = Annotated[
    Annotated[NumericInput, Tag("numeric")] | Annotated[CategoricalInput, Tag("categorical")],
    Discriminator(_input_kind),
]


class HashSplit(Section):
    """Splits by a hash of a key, so that rows with one key stay together and never move."""

    by: Literal["hash"]
    key: str | None = Field(None, description="column; without it the row number is hashed")
    calibration: float = Field(0.1, gt=0, lt=1)
    evaluation: float = Field(0.3, gt=0, lt=1)


class TimeSplit(Section):
    """Splits by time: training first, then calibration, evaluation last."""

    by: Literal["time"]
    column: str
    calibration: float = Field(0.1, gt=0, lt=1)
    evaluation: float = Field(0.3, gt=0, lt=1)


Split = Annotated[HashSplit | TimeSplit, Field(discriminator="by")]


def _source_kind(value: object) -> str:
    return "generated rows" if isinstance(value, dict | GeneratorSource) else "files on disk"


Source = Annotated[
    Annotated[ConfigPath, Tag("files on disk")] | Annotated[GeneratorSource, Tag("generated rows")],
    Discriminator(_source_kind),
]


class Data(Section):
    """Rows, columns and splits."""

    source: Source = Field(
        description="Parquet, CSV or NPZ: a file, a glob or a directory; or a generator"
    )
    label: str = Field(description="column with 0 (negative) and 1 (positive)")
    inputs: dict[str, Input] = Field(
        min_length=1, description="model input name -> the columns that form it"
    )
    split: Split = Field(default_factory=lambda: HashSplit(by="hash"))
    encoder: ConfigPath | None = Field(
        None, description="a saved encoder.json to use instead of learning one"
    )
    batch_rows: int = Field(8192, gt=0, description="rows read and encoded at a time")

    @model_validator(mode="after")
    def _fractions_leave_training_rows(self) -> Data:
        if self.split.calibration + self.split.evaluation >= 1:
            raise ValueError("split.calibration + split.evaluation must be below 1")
        return self
