"""The plan: the one description of a quantization, read by calibration, QAT, writer and report.

It names, on the prepared graph:

* every node, with its treatment and the reason;
* every quantized activation with its ``QuantSpec``. Its meaning is simple: wherever the tensor is
  used, its quantized and dequantized value is used. A spec with ``axis=1`` (see
  ``numerics.affine``) has one scale per column; the graph's tabular inputs get it, because an
  amount beside a flag must not destroy the flag;
* every quantized weight. ``folds`` names the column-wise activation whose scales the rows of the
  weight absorb: what is quantized is ``diag(scale) @ weight``, shape (columns, outputs).

Rules (static method):

1. A Gemm with a constant weight and a float32 input of rank 2 is static: uint8 (on Arm int8)
   activation, int8 weight, int32 bias with scale s_x * s_w. Its output stays float unless it feeds
   another static Gemm (through Relu, which the runtime folds into the requantization).
2. Only inputs of static Gemms are quantized. Islands between them (softmax, GELU, normalisations)
   stay float.
3. A table read by one Gather whose values reach static Gemms only, through one Concat of columns,
   is stored as codes of that Gemm's column-wise input; any other embedding table is stored as
   int8 with one scale per column and dequantized after the Gather (treatment ``storage``).
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any, Literal

from qtool.errors import StaleArtifactError
from qtool.numerics.affine import QuantSpec

Treatment = Literal["static", "dynamic", "storage", "float", "unchanged"]
"""``unchanged``: the node works on integers or only moves values; there is nothing to quantize."""


@dataclass(frozen=True)
class NodePlan:
    """What happens to one node, and why."""

    name: str
    op_type: str
    treatment: Treatment
    reason: str


@dataclass(frozen=True)
class WeightPlan:
    """How one constant is quantized; ``folds`` is the activation whose column scales it absorbs."""

    spec: QuantSpec
    folds: str | None = None


@dataclass(frozen=True)
class Plan:
    """A quantization of one prepared graph.

    Attributes:
        method: ``static`` or ``dynamic``.
        target: name of the target profile.
        model_sha256: digest of the prepared model that the names refer to.
        nodes: every node in graph order.
        activations: tensor name → spec.
        weights: initializer name → how it is quantized.
        biases: bias initializer → (activation, weight) whose scales multiply to its int32 scale.
    """

    method: Literal["static", "dynamic"]
    target: str
    model_sha256: str
    nodes: tuple[NodePlan, ...]
    activations: dict[str, QuantSpec]
    weights: dict[str, WeightPlan]
    biases: dict[str, tuple[str, str]]

    def to_json(self) -> str:
        """Returns the plan as text that can be read and edited: one line per node and tensor."""
        lines = [
            f'  "{key}": {json.dumps(getattr(self, key))}'
            for key in ("method", "target", "model_sha256")
        ]
        nodes = ",\n".join(f"    {json.dumps(asdict(node))}" for node in self.nodes)
        lines.append(f'  "nodes": [\n{nodes}\n  ]')
        for key in ("activations", "weights", "biases"):
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
        try:
            raw = json.loads(text)
            return Plan(
                method=raw["method"],
                target=raw["target"],
                model_sha256=raw["model_sha256"],
                nodes=tuple(NodePlan(**node) for node in raw["nodes"]),
                activations={name: QuantSpec(**spec) for name, spec in raw["activations"].items()},
                weights={
                    name: WeightPlan(QuantSpec(**weight["spec"]), weight["folds"])
                    for name, weight in raw["weights"].items()
                },
                biases={name: (pair[0], pair[1]) for name, pair in raw["biases"].items()},
            )
        except (ValueError, KeyError, TypeError) as error:
            raise StaleArtifactError(
                where,
                f"not a plan ({error})",
                "a plan.json of this version",
                "Make it again with --force.",
            ) from error


def _plain(value: Any) -> Any:
    return value if isinstance(value, tuple) else asdict(value)
