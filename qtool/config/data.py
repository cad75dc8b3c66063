"""The ``data:`` section: where rows come from, which columns feed which input, and the splits."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Discriminator, Field, Tag, model_validator

from qtool.config.section import ConfigPath, Section


class GeneratorSource(Section):
    """Rows made by one of qtool's seeded generators."""

    generator: Literal[
        "bank_calls",
        "bank_statements",
        "card_components",
        "card_transactions",
        "cash_machines",
        "company_accounts",
        "credit_clients",
        "customer_messages",
        "finance_text",
        "heston_options",
        "insurance_claims",
        "macro_quarters",
        "market_regimes",
        "monthly_series",
        "order_books",
        "parent_orders",
        "receipts",
        "report_questions",
        "shop_baskets",
        "shop_customers",
    ] = Field(description="which generator")
    rows: int = Field(200_000, gt=0)
    seed: int = Field(7, ge=0, lt=2**63)


class Scaled(Section):
    """Numeric columns and what is done to their values before the model sees them."""

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

    @property
    def changes_values(self) -> bool:
        """Whether the model sees other numbers than the columns hold."""
        return bool(self.scale != "none" or self.log or self.clip or self.missing != "error")

    @model_validator(mode="after")
    def _log_names_columns(self) -> Scaled:
        unknown = sorted(set(self.log) - set(self.columns))
        if unknown:
            raise ValueError(f"log names {unknown}, which are not in columns")
        return self


class NumericInput(Scaled):
    """Numeric columns that form one float32 tensor of shape (batch, columns)."""

    kind: Literal["numeric"] = "numeric"


class CategoricalInput(Section):
    """Categorical columns that form one integer tensor of shape (batch, columns)."""

    kind: Literal["categorical"]
    columns: list[str] = Field(min_length=1)
    encode: Literal["learn", "none"] = Field(
        "learn",
        description="learn: codes 1.. by value, 0 for missing or unseen; none: already codes",
    )
    dtype: Literal["int64", "int32"] = Field("int64", description="what the model's input takes")


Dtype = Literal["float32", "int64", "int32", "bool"]
STEPS = "steps"
"""Axis of a sequence of any length."""


class Nested(Scaled):
    """Columns with more than one value per row, which keep their shape."""

    dtype: Dtype | None = Field(
        None,
        description="what the model's input takes; left out: int64 for integers, bool for "
        "booleans, float32 for other numbers and for all that is scaled",
    )

    @model_validator(mode="after")
    def _only_floats_are_scaled(self) -> Nested:
        if self.changes_values and self.dtype not in (None, "float32"):
            raise ValueError(
                f"dtype {self.dtype} cannot be combined with scale, log, clip or missing, "
                "which make float32"
            )
        return self


class SequenceInput(Nested):
    """List columns, padded and cut to one length: a tensor (batch, length) or (batch, length, k).

    One column of lists of numbers gives (batch, length). Several columns are the k numbers of each
    step, and so are lists of fixed-size lists.
    """

    kind: Literal["sequence"]
    length: int | None = Field(
        None, gt=0, description="steps; left out: those of the longest row of the data"
    )
    keep: Literal["first", "last"] = Field(
        "first", description="which steps of a row that is longer than length"
    )
    pad: float = Field(0.0, description="fills what is shorter, at the end; after scaling")
    stack: bool = Field(
        False, description="(batch, length, 1) for one column, as the others have (…, k)"
    )
    mask: str | None = Field(
        None, description="model input (batch, length) that gets 1 for a step and 0 for padding"
    )
    mask_dtype: Dtype = Field("int64", description="what that input takes")
    any_length: bool = Field(
        False,
        description="a torch model is exported for rows of any number of steps, not of length only",
    )


class TensorInput(Nested):
    """One column whose rows are arrays of one shape: a tensor (batch, ...)."""

    kind: Literal["tensor"]
    columns: list[str] = Field(min_length=1, max_length=1)
    shape: list[Annotated[int, Field(gt=0)]] | None = Field(
        None, description="of one row; needed where the column's lists have no fixed size"
    )


Size = Annotated[
    Annotated[int, Field(strict=True, gt=0), Tag("a size")]
    | Annotated[str, Field(pattern=r"^[a-z]\w*$"), Tag("a name")],
    Discriminator(lambda value: "a name" if isinstance(value, str) else "a size"),
]


class ConstantInput(Section):
    """A tensor (batch, ...) that is the same for every row: the state from which a row starts.

    An axis with a name instead of a size is empty here, and may have any size in the graph that is
    exported from a torch model: such as the steps of a cache of keys and values.
    """

    kind: Literal["constant"]
    shape: list[Size] = Field(description="of one row; a name: an axis that is empty at the start")
    value: float = Field(0.0, description="of all elements")
    dtype: Dtype = Field("float32", description="what the model's input takes")

    @property
    def columns(self) -> list[str]:
        """None: it is made of no column."""
        return []

    @property
    def sizes(self) -> tuple[int, ...]:
        """Of the axes of one row; 0 where an axis has a name."""
        return tuple(size if isinstance(size, int) else 0 for size in self.shape)

    @model_validator(mode="after")
    def _value_fits_the_dtype(self) -> ConstantInput:
        if self.dtype != "float32" and self.value % 1:
            raise ValueError(f"value {self.value} is no {self.dtype}")
        return self


def _input_kind(value: object) -> str:
    if isinstance(value, dict):
        return str(value.get("kind", "numeric"))
    return str(getattr(value, "kind", "numeric"))


Input = Annotated[
    Annotated[NumericInput, Tag("numeric")]
    | Annotated[CategoricalInput, Tag("categorical")]
    | Annotated[SequenceInput, Tag("sequence")]
    | Annotated[TensorInput, Tag("tensor")]
    | Annotated[ConstantInput, Tag("constant")],
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


def _label_kind(value: object) -> str:
    return "columns" if isinstance(value, list) else "a column"


Label = Annotated[
    Annotated[str, Tag("a column")] | Annotated[list[str], Field(min_length=1), Tag("columns")],
    Discriminator(_label_kind),
]


class Data(Section):
    """Rows, columns and splits."""

    source: Source = Field(
        description="Parquet, CSV or NPZ: a file, a glob or a directory; or a generator"
    )
    label: Label | None = Field(
        None,
        description="column with what `task` asks for, or a list of columns for several targets "
        "of regression; calibrate and quantize work without it",
    )
    inputs: dict[str, Input] = Field(
        min_length=1, description="model input name -> the columns that form it"
    )
    split: Split = Field(default_factory=lambda: HashSplit(by="hash"))
    encoder: ConfigPath | None = Field(
        None, description="a saved encoder.json to use instead of learning one"
    )
    batch_rows: int = Field(8192, gt=0, description="rows read and encoded at a time")

    @property
    def label_columns(self) -> tuple[str, ...]:
        """The columns that hold the label; none when there is no label."""
        if self.label is None:
            return ()
        return tuple(self.label) if isinstance(self.label, list) else (self.label,)

    @property
    def any_size(self) -> dict[str, dict[int, str]]:
        """Model input → axis that may have any size in the exported graph, like the rows → name."""
        found = {
            name: {1 + axis: size for axis, size in enumerate(part.shape) if isinstance(size, str)}
            for name, part in self.inputs.items()
            if isinstance(part, ConstantInput)
        }
        for name, part in self.inputs.items():
            if isinstance(part, SequenceInput) and part.any_length:
                found |= {made: {1: STEPS} for made in (name, part.mask) if made is not None}
        return {name: axes for name, axes in found.items() if axes}

    @model_validator(mode="after")
    def _some_input_has_columns(self) -> Data:
        if all(isinstance(part, ConstantInput) for part in self.inputs.values()):
            raise ValueError("inputs are constants only. Name one that is made of columns")
        return self

    @model_validator(mode="after")
    def _label_columns_are_different(self) -> Data:
        if len(set(self.label_columns)) < len(self.label_columns):
            raise ValueError(f"label names a column twice: {', '.join(self.label_columns)}")
        return self

    @model_validator(mode="after")
    def _fractions_leave_training_rows(self) -> Data:
        if self.split.calibration + self.split.evaluation >= 1:
            raise ValueError("split.calibration + split.evaluation must be below 1")
        return self

    @model_validator(mode="after")
    def _masks_are_inputs_of_their_own(self) -> Data:
        masks = [part.mask for part in self.inputs.values() if isinstance(part, SequenceInput)]
        names = [*self.inputs, *(mask for mask in masks if mask is not None)]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"mask names {twice}, which another input or mask makes already")
        return self
