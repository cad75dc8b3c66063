"""Relus that quantizers do the work of: codes that start at zero clamp as the Relu does."""

from __future__ import annotations

from collections.abc import Collection

from qtool.torchgraph.steps import Step


def without_folded_relus(
    steps: list[Step], relus: Collection[str], clamping: Collection[int], outputs: Collection[int]
) -> list[Step]:
    """Returns ``steps`` without each Relu that only a quantizer reads whose codes start at zero.

    Args:
        steps: all.
        relus: names of the Relu nodes.
        clamping: outputs of quantizers whose codes start at zero.
        outputs: slots that the graph returns.
    """
    readers: dict[int, list[Step]] = {}
    for step in steps:
        for slot in step.inputs:
            readers.setdefault(slot, []).append(step)
    folded = {
        step.outputs[0]: step.inputs[0]
        for step in steps
        if step.name in relus
        and step.outputs[0] not in outputs
        and len(read_by := readers.get(step.outputs[0], [])) == 1
        and read_by[0].outputs[0] in clamping
    }
    kept = [step for step in steps if step.outputs[0] not in folded]
    return [
        step._replace(inputs=tuple(folded.get(slot, slot) for slot in step.inputs)) for step in kept
    ]
