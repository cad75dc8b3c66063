"""Which layer every kernel of the runtime works for, and so what each layer costs.

The runtime fuses nodes and names the result as it likes. A kernel is the sub-graph between what it
reads and what it leaves, both of which are values of the graph that was given to the runtime: what
lies between them is found there again. It works for

1. the layer that lies in this sub-graph, or whose weight it reads;
2. else, for what works on codes behind a layer (``graph.code_regions``) or only quantizes: the
   layers that read what it leaves, or the layer that made what it reads;
3. else for none: the rest of the model, which no quantization changes.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

import onnx_ir as ir

from qtool.graph.layers import Layer
from qtool.runtime.kernels import Kernel
from qtool.runtime.profile import Profile

QUANTIZES = frozenset({"Add", "Cast", "Clip", "DequantizeLinear", "Mul", "QuantizeLinear"})
"""Operators of the nodes that the writer adds around a layer."""

MOVED = ".q"
"""What the writer adds to the name of a node that it repeats on codes."""
BLOCKED = "_nchwc"
"""What the runtime adds to the name of a value, to name the blocked convolution that makes it."""
MADE_OF_WEIGHTS = frozenset({"codes", "real"})
"""What the writer adds to the name of a weight. (Of scales the runtime joins equal ones.)"""


def layer_us(
    given: ir.Model,
    layers: Sequence[Layer],
    behind: Mapping[str, str],
    profiles: Mapping[int, Profile],
) -> dict[str, dict[int, float]]:
    """Returns layer → batch size → microseconds of the kernels that work for it.

    Layers that no kernel of their own was found for are left out.

    Args:
        given: the graph that the runtime was given: the prepared one, or what was written of it.
        layers: of the prepared graph.
        behind: node of the prepared graph that can work on codes → the layer whose codes these are.
        profiles: batch size → what the runtime made of ``given``.
    """
    owners = Owners(given, layers, behind)
    found: dict[str, dict[int, float]] = defaultdict(lambda: dict.fromkeys(profiles, 0.0))
    own: set[str] = set()
    for size, profile in profiles.items():
        for timed in profile.kernels:
            names = owners.of(timed.kernel)
            for name in names:
                found[name][size] += timed.us / len(names)
            own.update(owners.inside(timed.kernel))
    return {name: times for name, times in found.items() if name in own}


class Owners:
    """The layers behind the kernels of one optimised graph."""

    def __init__(self, given: ir.Model, layers: Sequence[Layer], behind: Mapping[str, str]) -> None:
        self.nodes = {str(node.name): node for node in given.graph}
        self.producers = {str(v.name): node for node in given.graph for v in node.outputs}
        self.known = {*self.producers, *given.graph.initializers} | {
            str(value.name) for value in given.graph.inputs
        }
        self.behind = behind
        self.layers = {str(layer.node.name) for layer in layers}
        self.part_of = {
            str(layer.add.name): str(layer.node.name) for layer in layers if layer.add is not None
        }
        weights = (
            (str(value.name), str(layer.node.name))
            for layer in layers
            for index in layer.weights
            if (value := layer.node.inputs[index]) is not None
        )
        self.weights: dict[str, list[str]] = defaultdict(list)
        for weight, name in weights:
            self.weights[weight].append(name)

    def of(self, kernel: Kernel) -> tuple[str, ...]:
        """Returns the layers that ``kernel`` works for, none for the rest of the model."""
        inside = self.inside(kernel)
        if inside:
            return inside
        covered = self._covered(kernel)
        nodes = [name.removesuffix(MOVED) for name in covered]
        of_codes = {self.behind[name] for name in nodes if name in self.behind}
        if of_codes:
            return tuple(sorted(of_codes))
        added = [name for name in covered if self._is_added(name)]
        if not added or len(added) < len(covered):
            return ()
        return self._readers(kernel.outputs) or self._makers(kernel.inputs)

    def inside(self, kernel: Kernel) -> tuple[str, ...]:
        """Returns the layers that ``kernel`` computes itself."""
        covered = self._covered(kernel)
        found = {name for name in covered if name in self.layers}
        for value in () if found else kernel.inputs:
            stem, _, last = value.rpartition(".")
            readers = self.weights.get(stem if last in MADE_OF_WEIGHTS else value, [])
            if len(readers) == 1:  # several layers may share a weight
                found.update(readers)
        found = found or {self.part_of[name] for name in covered if name in self.part_of}
        return tuple(sorted(found))

    def _covered(self, kernel: Kernel) -> list[str]:
        """Returns the nodes of the given graph between what a kernel reads and what it leaves."""
        ends = [value for value in kernel.outputs if value in self.producers]
        stem = kernel.name.removesuffix(BLOCKED)
        if not ends and stem != kernel.name and stem in self.producers:
            ends = [stem]
        if not ends:
            words = [re.sub(r"/.*|_token_\d+$", "", word) for word in kernel.name.split()]
            return [word for word in words if word in self.nodes][:1]
        if any(name and name not in self.known for name in kernel.inputs):
            return self._until(ends[0], kernel.op_type)
        read, found = set(kernel.inputs), list[str]()
        while ends:
            node = self.producers.get(ends.pop())
            if node is None or str(node.name) in found:
                continue
            found.append(str(node.name))
            ends += [str(v.name) for v in node.inputs if v is not None and v.name not in read]
        return found

    def _until(self, value: str, op_type: str) -> list[str]:
        """Returns what lies between an operator and its value, where inputs have new names.

        Where the operator is not found, the node that makes the value.
        """
        found: list[str] = []
        node = self.producers.get(value)
        while node is not None and str(node.name) not in found:
            found.append(str(node.name))
            if node.op_type == op_type:
                return found
            first = node.inputs[0] if node.inputs else None
            node = None if first is None else first.producer()
        return found[:1]

    def _is_added(self, name: str) -> bool:
        node = self.nodes[name]
        return node.op_type in QUANTIZES and "." in name

    def _readers(self, values: Iterable[str]) -> tuple[str, ...]:
        """Returns the layers that read values, through what only quantizes."""
        found, waiting, seen = set(), list(values), set()
        while waiting:
            name = waiting.pop()
            producer = self.producers.get(name)
            if producer is None or name in seen:
                continue
            seen.add(name)
            for value in producer.outputs:
                if value.name != name:
                    continue
                for use in value.uses():
                    reader = str(use.node.name)
                    if reader in self.layers:
                        found.add(reader)
                    elif reader in self.behind:
                        found.add(self.behind[reader])
                    elif use.node.op_type in QUANTIZES or use.node.op_type == "Concat":
                        waiting += [str(output.name) for output in use.node.outputs]
        return tuple(sorted(found))

    def _makers(self, values: Iterable[str]) -> tuple[str, ...]:
        found, waiting = set(), list(values)
        while waiting:
            producer = self.producers.get(waiting.pop())
            if producer is None:
                continue
            name = str(producer.name)
            if name in self.layers:
                found.add(name)
            elif name in self.part_of:
                found.add(self.part_of[name])
            elif producer.op_type in QUANTIZES:
                waiting += [str(value.name) for value in producer.inputs if value is not None]
        return tuple(sorted(found))
