"""The plan: the one description of a quantization, read by calibration, QAT, writer and report.

It names, on the prepared graph:

* every node, with its treatment and the reason;
* every quantized activation with its ``QuantSpec``. A node of treatment ``static`` reads the
  quantized value of its planned inputs. Any other node reads the float value, if there is one:
  where the producer is itself static and no matrix product (``leaves_codes``), only codes exist,
  and everyone reads those. A spec with ``axis=1`` (see ``numerics.affine``) has one scale per
  column; the graph's tabular inputs get it, because an amount beside a flag must not destroy the
  flag;
* which activations share the numbers of another (``shares``): a pooling, a concatenation or a
  transposition works on codes only when its ends have one scale;
* every quantized weight. ``folds`` names the column-wise activation whose scales the rows of the
  weight absorb: what is quantized is ``diag(scale) @ weight``, shape (columns, outputs).

Treatments:

* ``static``: an integer kernel (or a node on codes between such kernels) with ranges fixed by
  calibration;
* ``dynamic``: an integer kernel that takes the activation's range from each batch;
* ``weight_only``: weights of 8 or 4 bits with one scale per block, activations in float;
* ``storage``: the file holds int8, the runtime computes in float;
* ``float``: nothing is quantized;
* ``unchanged``: the node works on integers or only moves values; there is nothing to quantize.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from pydantic import TypeAdapter

from qtool.config.quantization import Observer
from qtool.config.section import Section
from qtool.errors import reading
from qtool.numerics.affine import QuantSpec

Treatment = Literal["static", "dynamic", "weight_only", "storage", "float", "unchanged"]
Method = Literal["static", "dynamic", "weight_only", "storage", "fastest"]

PRODUCTS = frozenset({"Gemm", "MatMul"})
"""Their integer kernels can leave float32."""


@dataclass(frozen=True)
class NodePlan:
    """What happens to one node, and why; ``part_of`` is the layer whose kernel does its work."""

    name: str
    op_type: str
    treatment: Treatment
    reason: str
    part_of: str | None = None

    @property
    def leaves_codes(self) -> bool:
        """Whether a planned output of this node exists as codes only."""
        product = self.op_type in PRODUCTS or self.part_of is not None
        return self.treatment == "static" and not product


@dataclass(frozen=True)
class WeightPlan:
    """How one constant is quantized.

    Attributes:
        spec: the codes.
        folds: the activation whose column scales it absorbs.
        narrow: indices of the output channels that use 7 bits only, so that their int16 pair sums
            cannot saturate (``calibration.saturation``).
    """

    spec: QuantSpec
    folds: str | None = None
    narrow: tuple[int, ...] = ()


@dataclass(frozen=True)
class Plan:
    """A quantization of one prepared graph.

    Attributes:
        method: what the configuration asked for.
        target: name of the target profile.
        model_sha256: digest of the prepared model that the names refer to.
        nodes: every node in graph order.
        activations: tensor name → spec.
        weights: initializer name → how it is quantized.
        biases: bias initializer → (activation, weight) whose scales multiply to its int32 scale.
        shares: activation → the activation whose scale and zero point it has.
        observers: activation → its observer, where a layer rule names one.
    """

    method: Method
    target: str
    model_sha256: str
    nodes: tuple[NodePlan, ...]
    activations: dict[str, QuantSpec]
    weights: dict[str, WeightPlan]
    biases: dict[str, tuple[str, str]]
    shares: dict[str, str] = field(default_factory=dict)
    observers: dict[str, Observer] = field(default_factory=dict)

    @property
    def calibrated(self) -> tuple[str, ...]:
        """The activations that need a range of their own."""
        return tuple(name for name in self.activations if name not in self.shares)

    def has(self, treatment: Treatment) -> bool:
        """Whether any node is treated so."""
        return any(node.treatment == treatment for node in self.nodes)

    def to_json(self) -> str:
        """Returns the plan as text that can be read and edited: one line per node and tensor."""
        lines = [
            f'  "{key}": {json.dumps(getattr(self, key))}'
            for key in ("method", "target", "model_sha256")
        ]
        nodes = ",\n".join(f"    {json.dumps(asdict(node))}" for node in self.nodes)
        lines.append(f'  "nodes": [\n{nodes}\n  ]')
        for key in ("activations", "weights", "biases", "shares", "observers"):
            rows = ",\n".join(
                f"    {json.dumps(name)}: {json.dumps(_plain(value))}"
                for name, value in getattr(self, key).items()
            )
            lines.append(f'  "{key}": {{\n{rows}\n  }}' if rows else f'  "{key}": {{}}')
        return "{\n" + ",\n".join(lines) + "\n}\n"

    @staticmethod
    def from_json(text: str, where: str) -> Plan:
        """Returns the plan that ``to_json`` wrote.

        Raises:
            StaleArtifactError: the text is not a plan of this version.
        """
        with reading("a plan", where):
            raw = json.loads(text)
            return Plan(
                method=raw["method"],
                target=raw["target"],
                model_sha256=raw["model_sha256"],
                nodes=tuple(NodePlan(**node) for node in raw["nodes"]),
                activations={name: QuantSpec(**spec) for name, spec in raw["activations"].items()},
                weights={
                    name: WeightPlan(
                        QuantSpec(**weight["spec"]), weight["folds"], tuple(weight["narrow"])
                    )
                    for name, weight in raw["weights"].items()
                },
                biases={name: (pair[0], pair[1]) for name, pair in raw["biases"].items()},
                shares={name: str(other) for name, other in raw["shares"].items()},
                observers=TypeAdapter(dict[str, Observer]).validate_python(raw["observers"]),
            )


def _plain(value: Any) -> Any:
    if isinstance(value, Section):
        return value.model_dump(mode="json")
    return value if isinstance(value, str | tuple) else asdict(value)
