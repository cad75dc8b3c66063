"""The ``evaluation:`` section: what is compared between FP32 and INT8, and what must hold."""

from __future__ import annotations

import difflib
import re
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, Discriminator, Field, Tag, model_validator

from qtool.config.section import ConfigPath, Section

Value = TypeVar("Value")
METRICS = (
    *("auc", "gini", "ks", "pr_auc", "brier", "ece", "log_loss"),
    *("accuracy", "macro_f1", "mcc", "hit_rate", "net_pnl"),
    *("mae", "rmse", "smape", "mase", "r2", "pinball", "crps", "coverage_error"),
    *("var_exceedance_error", "es_error"),
    *("mrr", "ari", "nmi"),
    *("perplexity", "entity_f1", "token_accuracy"),
)
"""Names of all tasks; which of them a task has, and what else they need, is known to
``evaluation.metrics``."""
NUMBERED = ("recall_at_fpr", "recall_at", "hit_rate_at", "ndcg_at", "map_at")
"""Names that end with a number, such as ``recall_at_10``."""


OWN = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")
"""A metric of the user, ``module:function``."""


def _known(name: str) -> str:
    stem, _, number = name.rpartition("_")
    if name in METRICS or OWN.fullmatch(name) or (stem in NUMBERED and _is_number(number)):
        return name
    close = difflib.get_close_matches(name, METRICS, n=1)
    listed = ", ".join([*METRICS, *(f"{stem}_NUMBER" for stem in NUMBERED), "module:function"])
    hint = f", perhaps {close[0]!r}" if close else ""
    raise ValueError(f"{name!r}; expected one of {listed}{hint}")


def _is_number(text: str) -> bool:
    try:
        return float(text) > 0
    except ValueError:
        return False


def _each_once(names: list[str]) -> list[str]:
    """Checks that no metric is named twice, in any way of writing its number."""
    once(names)
    seen: dict[tuple[str, float], str] = {}
    for name in names:
        stem, _, number = name.rpartition("_")
        if stem in NUMBERED:
            first = seen.setdefault((stem, float(number)), name)
            if first != name:
                raise ValueError(f"{name!r} is {first!r} again. Remove one")
    return names


def once(values: list[Value]) -> list[Value]:
    """Checks that no value is given twice; for pydantic."""
    twice = next((value for value in values if values.count(value) > 1), None)
    if twice is not None:
        raise ValueError(f"{twice!r} is named twice. Remove one")
    return values


MetricName = Annotated[str, AfterValidator(_known)]
Names = Annotated[list[str], AfterValidator(once)]
Level = Annotated[float, Field(gt=0, lt=1)]
Confidence = Annotated[float, Field(ge=0.5, lt=1)]


class ThresholdValue(Section):
    """A fixed score; at or above it a row is flagged positive."""

    at: Literal["score"]
    value: float = Field(ge=0, le=1)


class ThresholdRate(Section):
    """The FP32 score, on the calibration split, that reaches a rate.

    ``approval_rate``: that share of rows lies below the threshold.
    ``false_positive_rate``: that share of negative rows lies at or above it.
    """

    at: Literal["approval_rate", "false_positive_rate"]
    value: float = Field(gt=0, lt=1)


Threshold = Annotated[ThresholdValue | ThresholdRate, Field(discriminator="at")]


Money = Annotated[float, Field(ge=-1e15, le=1e15)]
"""Sums of more would lose what one row costs."""


class Cost(Section):
    """What an outcome costs, in any unit of money; a gain is negative."""

    false_positive: Money
    false_negative: Money
    true_positive: Money = 0.0
    true_negative: Money = 0.0


class Decision(Section):
    """How a score becomes a decision."""

    threshold: Threshold = ThresholdValue(at="score", value=0.5)
    cost: Cost | None = None


Several = Annotated[int, Field(gt=0, le=1024)]
"""Threads or sessions: more than machines have cores for, and each takes memory."""


class Latency(Section):
    """How the latency of FP32 and INT8 is compared."""

    enabled: bool = True
    blocks: int = Field(40, ge=5, description="interleaved FP32/INT8 blocks per batch size")
    block_ms: float = Field(10.0, gt=0, description="duration of one block, milliseconds")
    threads: Annotated[list[Several], AfterValidator(once)] | None = Field(
        None, min_length=1, description="threads of one session; left out: target.threads"
    )
    sessions: Annotated[list[Several], AfterValidator(once)] = Field(
        [], description="numbers of parallel sessions whose sustained throughput is measured"
    )
    seconds: float = Field(2.0, gt=0, description="how long throughput is measured, each")
    cold: bool = Field(
        False,
        description="also measure load time, peak memory and the first call, each in a "
        "process of its own",
    )
    price_per_core_hour: float | None = Field(
        None, gt=0, description="gives the cost of a million rows, in the same currency"
    )


class Resampling(Section):
    """How intervals are computed."""

    confidence: Confidence = Field(0.95, description="of every interval, two-sided")
    resamples: int = Field(1000, ge=100, description="of the paired bootstrap")
    block: int | None = Field(
        None,
        gt=0,
        description="consecutive rows that are drawn together; left out: the cube root of the "
        "rows when the data are split by time, else 1",
    )
    cluster: str | None = Field(
        None, description="column whose equal values are drawn together, such as a customer"
    )

    @model_validator(mode="after")
    def _one_kind_of_units(self) -> Resampling:
        if self.cluster is not None and self.block is not None:
            raise ValueError("block and cluster are both set, and draw other rows. Remove one")
        return self


class Fairness(Section):
    """Adverse impact: the share of favourable decisions of a group over that of the best group."""

    columns: Names = Field(min_length=1, description="protected columns")
    favourable: Literal["flagged", "passed"] = Field(
        "passed", description="the decision that is good for the person"
    )
    smallest_group: int = Field(100, gt=0, description="rows; smaller groups are not judged")


class Monotonicity(Section):
    """Columns that may move the score in one direction only."""

    columns: dict[str, Literal["increasing", "decreasing"]] = Field(min_length=1)
    rows: int = Field(500, gt=0, description="rows whose column is varied")
    points: int = Field(9, ge=2, description="values of the column, at its quantiles")


class ReasonCodes(Section):
    """The columns that explain a decision: do INT8 and FP32 name the same?"""

    top: int = Field(4, gt=0, description="columns given to a customer")
    rows: int = Field(500, gt=0, description="flagged rows that are explained")


class Trading(Section):
    """What classes mean to a trader."""

    returns: str = Field(description="column with the return of the following period, as a share")
    positions: list[float] = Field(
        min_length=2, description="position taken for each class, such as [-1, 0, 1]"
    )
    cost: float = Field(0.0, ge=0, description="cost of a change of position by 1, as a share")


class Forecast(Section):
    """What a forecast is compared with."""

    history: str | None = Field(
        None, description="column of lists: the values before the forecast; for MASE"
    )
    season: int = Field(1, gt=0, description="periods in a season; 1: the last value is the naive")
    quantiles: Annotated[list[Level], AfterValidator(once)] | None = Field(
        None, min_length=1, description="levels of the outputs; left out: those of a quantile loss"
    )


class Risk(Section):
    """Value at risk and expected shortfall: the model's first and second output, as losses."""

    level: float = Field(gt=0.5, lt=1, description="of VaR, such as 0.99")


class Retrieval(Section):
    """Which rows ask and which are found; rows with equal labels are relevant to each other."""

    query: str | None = Field(
        None, description="column that is true for queries; left out: every row asks the others"
    )


class Segmentation(Section):
    """Clusters of the outputs: k-means on the FP32 outputs of the evaluation split."""

    clusters: int = Field(ge=2)


class Box(Section):
    """How far raw columns may be moved, each by itself.

    A value that is missing, outside of ``low`` and ``high``, or not whole where ``integer`` is set,
    stays as it is.
    """

    columns: list[str] = Field(
        min_length=1, description="raw columns of one number, each of one numeric input"
    )
    range: float = Field(0.1, gt=0, description="largest move")
    unit: Literal["deviations", "raw"] = Field(
        "deviations",
        description="of range: standard deviations of the encoded column (after its log) in the "
        "calibration split, or the unit of the column itself",
    )
    low: float | None = Field(
        None, description="smallest value; left out: that of the calibration split"
    )
    high: float | None = Field(
        None, description="largest value; left out: that of the calibration split"
    )
    direction: Literal["both", "up", "down"] = "both"
    integer: bool = Field(False, description="whole numbers only")

    @model_validator(mode="after")
    def _holds_a_value(self) -> Box:
        if self.low is not None and self.high is not None and self.low > self.high:
            raise ValueError(f"low {self.low:g} is above high {self.high:g}")
        return self


AttackName = Literal["fgsm", "pgd", "transfer", "black_box"]
GRADIENT_ATTACKS: tuple[AttackName, ...] = ("fgsm", "pgd", "transfer")
"""Attacks that read gradients of the model, and so load torch."""


class Robustness(Section):
    """Attacks and stress whose effect on FP32 and on INT8 is compared."""

    mutable: list[Box] = Field([], description="columns that an attacker can change")
    attacks: list[AttackName] | None = Field(
        None,
        description="fgsm and pgd follow the gradient of the model that they attack, transfer "
        "shows INT8 what pgd found for FP32, black_box asks each model for scores only; left out: "
        "all of them when there are mutable columns",
    )
    budgets: Annotated[list[Annotated[float, Field(gt=0, le=1)]], AfterValidator(once)] = Field(
        [1.0], min_length=1, description="shares of every range, each attacked with"
    )
    steps: int = Field(10, gt=0, description="of pgd and transfer")
    queries: int = Field(200, gt=0, description="scores per row that black_box asks for")
    noise: Annotated[list[Annotated[float, Field(gt=0)]], AfterValidator(once)] = Field(
        [], description="Gaussian noise on every numeric input, in standard deviations"
    )
    missing: Annotated[list[Annotated[float, Field(gt=0, le=1)]], AfterValidator(once)] = Field(
        [], description="share of the values of every column that are made missing"
    )
    rows: int = Field(1000, gt=0, description="rows that are attacked and stressed")

    @property
    def chosen_attacks(self) -> tuple[AttackName, ...]:
        """The attacks, in the order in which they are told."""
        if self.attacks is not None:
            return tuple(dict.fromkeys(self.attacks))
        return (*GRADIENT_ATTACKS, "black_box") if self.mutable else ()

    @property
    def needs_gradients(self) -> bool:
        """Whether an attack reads gradients."""
        return any(name in GRADIENT_ATTACKS for name in self.chosen_attacks)

    @property
    def mutable_columns(self) -> tuple[str, ...]:
        """The raw columns that an attacker can change."""
        return tuple(column for box in self.mutable for column in box.columns)

    @model_validator(mode="after")
    def _has_something_to_do(self) -> Robustness:
        if self.chosen_attacks and not self.mutable:
            raise ValueError("attacks need mutable columns. Name those that a person can change")
        if not (self.chosen_attacks or self.noise or self.missing):
            raise ValueError("no attack, noise or missing values to measure. Name one")
        once(list(self.mutable_columns))
        return self


Figures = dict[Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")], Literal["higher", "lower"]]


class System(Section):
    """A function of the user that uses both models as their system does, and says what came of it.

    It is called as ``function(fp32, int8, rows, **arguments)`` and returns, for every figure, the
    values with FP32 and those with INT8, one per independent unit, such as a day or a customer.
    """

    function: str = Field(
        pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$",
        description="module:function; gets both models as functions, and evaluation rows",
    )
    pythonpath: ConfigPath | None = Field(
        None, description="directory to import the module from (else: installed packages only)"
    )
    figures: Figures = Field(
        min_length=1, description="what it returns, and which of two values is the better one"
    )
    timed: Figures = Field(
        {}, description="what it returns beside them and has from a clock: shown, without gates"
    )
    rows: int = Field(1000, gt=0, description="evaluation rows it is given, the first ones")
    columns: Names = Field([], description="raw columns it is given with them")
    arguments: dict[str, Any] = Field({}, description="keyword arguments of that function")

    @model_validator(mode="after")
    def _each_figure_once(self) -> System:
        once([*self.figures, *self.timed])
        return self


Number = Annotated[float, Field(strict=True)]
"""Not true, which would be 1 and let nearly all pass."""


class Margin(Section):
    """A limit with the confidence that is asked for."""

    margin: Number
    confidence: Confidence = 0.95


def _limit_kind(value: object) -> str:
    return "a margin" if isinstance(value, dict | Margin) else "a number"


Limit = Annotated[
    Annotated[Number, Tag("a number")] | Annotated[Margin, Tag("a margin")],
    Discriminator(_limit_kind),
]
"""A number asks for 95 % confidence."""


class Evaluation(Section):
    """What is compared between FP32 and INT8, and what must hold."""

    metrics: Annotated[list[MetricName], AfterValidator(_each_once)] | None = Field(
        None,
        min_length=1,
        description="names, or module:function of your own; left out: the usual ones of the task",
    )
    pythonpath: ConfigPath | None = Field(
        None, description="directory to import your own metrics from"
    )
    decision: Decision = Decision()
    resampling: Resampling = Resampling()
    segments: Names = Field([], description="columns by whose values rows are judged apart")
    fairness: Fairness | None = None
    monotonicity: Monotonicity | None = None
    reason_codes: ReasonCodes | None = None
    trading: Trading | None = None
    forecast: Forecast = Forecast()
    risk: Risk | None = None
    retrieval: Retrieval = Retrieval()
    segmentation: Segmentation | None = None
    robustness: Robustness | None = None
    system: System | None = None
    latency: Latency = Latency()
    gates: dict[str, Limit | None] = Field({}, description="limits that decide the exit code")

    @model_validator(mode="after")
    def _own_metrics_can_be_imported(self) -> Evaluation:
        if self.pythonpath is not None and not any(":" in name for name in self.metrics or ()):
            raise ValueError("pythonpath is set, and metrics names no module:function. Remove it")
        return self

    @property
    def gated_figures(self) -> tuple[str, ...]:
        """Figures of the system that gates may name, as they name metrics."""
        return () if self.system is None else tuple(self.system.figures)

    @model_validator(mode="after")
    def _figures_are_no_metrics(self) -> Evaluation:
        once([*self.gated_figures, *(self.metrics or ())])
        return self

    @model_validator(mode="after")
    def _outputs_mean_one_thing(self) -> Evaluation:
        if self.risk is not None and "forecast" in self.model_fields_set:
            raise ValueError("risk and forecast are both set, and read the outputs as other things")
        return self
