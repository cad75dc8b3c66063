"""Smoothing at work: which layers read one activation, and what takes the factors of its channels.

Where constants make the channels (``tuning.channels``), these are divided and the graph keeps its
nodes. Elsewhere, as in front of the layers that read a post-norm residual stream, one ``Mul`` by
1/s stands between the activation and its layers; it costs a pass over the activation (measured:
1 % of a static encoder with 2 layers, d 128, 60 steps, for each) and is inserted only where it
lowers the expected error by ``MUL_GAIN_DB``. The other way round, a Mul by s for all that is no
layer, is as many nodes or more and moves the residual stream, too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from qtool.config.tuning import Smooth
from qtool.evaluation.results import Tuned
from qtool.graph.layers import Kind, Layer, layer_of, name_of, value_at
from qtool.graph.tables import tabular_values
from qtool.numerics.affine import QuantSpec
from qtool.numerics.smoothing import (
    STRENGTHS,
    Channels,
    Floats,
    Group,
    Maker,
    Reader,
    best_factors,
)
from qtool.progress import Progress
from qtool.tuning.channel_moments import channel_moments
from qtool.tuning.channels import (
    KeptError,
    Made,
    Part,
    Shapes,
    all_shapes,
    channel_axis,
    divide,
    makers,
    multiply,
    other_readers,
    reads_channels,
    weight_of,
)
from qtool.tuning.matching import matched_layers
from qtool.tuning.tuned import Rows

Moments = dict[str, tuple[Floats, Channels]]
"""Activation → peaks of its channels on some rows, and moments on others."""
ROWS = 1024
"""Calibration rows whose activations are looked at; of sequences each has many positions."""
MUL_GAIN_DB = 6.0
"""One bit, 20 log10(2)."""
CERTAIN_GAIN_DB = 1.0
"""Of ``auto``. Measured on the outputs of an encoder of 4 layers, groups with expected gains of 0.1
to 0.6 dB won 0.1 dB or lost up to 0.5."""
PER_TENSOR, PER_OUTPUT = (QuantSpec("int8", symmetric=True, axis=axis) for axis in (None, 0))
CRITERION = "expected squared output error of all layers that read the activation, as a share"
WHY_NOT: dict[Kind, str] = {
    "product": "a product of two activations: no weight can take the spread",
    "lstm": "its kernel has one scale for its input and one for its states",
    "gru": "its activations stay in float",
    "table": "a lookup reads no activation",
}


@dataclass(frozen=True, eq=False)
class _Site:
    """An activation and the layers that read it; ``kept``: why no constant can take its factors."""

    value: ir.Value
    layers: list[Layer]
    made: Made
    kept: str


def smooth(
    model: ir.Model,
    section: Smooth,
    rows: Rows,
    progress: Progress,
    *,
    masks: Mapping[str, str] | None = None,
    per_channel: bool = False,
) -> tuple[ir.Model, list[Tuned]]:
    """Returns the graph with smoothed activations, and what was done to every matched layer.

    Layers that read one activation are smoothed together, also if only one of them is matched.

    Args:
        model: the prepared graph, which stays as it is.
        section: which layers, and the strength.
        rows: calibration rows.
        progress: where it is shown.
        masks: input → the input that is its mask, which is 0 where the other is padding.
        per_channel: dense layers will have one weight scale per output.

    Raises:
        ConfigError: ``match`` matches no layer.
    """
    changed = model.clone()
    matched = matched_layers(changed, section.match)
    shapes = all_shapes(changed, rows)
    sites, refused = _sites(changed, matched, shapes)
    strengths = STRENGTHS if section.strength == "auto" else (section.strength,)
    records: dict[ir.Node, Tuned] = {}
    with progress.task("smooth", total=len(sites)) as task:
        moments: Moments = {}
        if sites:
            axes = _axes(sites, shapes)
            moments = channel_moments(changed, axes, rows(ROWS), shapes, masks or {})
        for site in sites:
            group = _group(site, moments, per_channel=per_channel)
            before = group.error(np.ones(len(group.peak)))
            factors, after = best_factors(group, strengths)
            reason = _why_not(site, before, after, section)
            if reason:
                after = before
            elif site.kept:
                _insert(changed.graph, site, factors)
            else:
                divide(changed.graph, site.made, factors)
            if not reason:
                _multiply(changed.graph, site, factors, moments)
            for layer in site.layers:
                name = str(layer.node.name)
                records[layer.node] = Tuned("smooth", name, CRITERION, before, after, reason)
            task.advance()
    for layer in matched:
        if layer.node not in records:
            name, reason = str(layer.node.name), refused[layer.node]
            records[layer.node] = Tuned("smooth", name, CRITERION, 0.0, 0.0, reason)
    return changed, [records[layer.node] for layer in matched]


def _why_not(site: _Site, before: float, after: float, section: Smooth) -> str:
    """Returns why an activation is left as it is; empty when it is smoothed."""
    if after >= before:
        return "no strength lowers the expected error"
    gain_db = 10 * np.log10(before / after)
    if site.kept and gain_db < MUL_GAIN_DB:
        return f"{site.kept}; a Mul would gain {gain_db:.1f} dB, less than {MUL_GAIN_DB:g}"
    if section.strength == "auto" and gain_db < CERTAIN_GAIN_DB:
        return f"it would gain {gain_db:.1f} dB, less than what the estimate is uncertain by"
    return ""


def _sites(
    model: ir.Model, matched: Sequence[Layer], shapes: Shapes
) -> tuple[list[_Site], dict[ir.Node, str]]:
    """Returns what can be smoothed, and layer → why its input cannot."""
    tabular, sites = tabular_values(model), []
    refused = {layer.node: WHY_NOT.get(layer.kind, "") for layer in matched}
    read = [value_at(layer.node, 0) for layer in matched if reads_channels(layer)]
    for value in dict.fromkeys(read):
        found = [layer_of(use.node) for use in value.uses() if use.idx == 0]
        layers = [layer for layer in found if layer is not None and reads_channels(layer)]
        others = other_readers(value, {layer.node for layer in layers})
        axes = {channel_axis(layer, len(shapes[name_of(value)])) for layer in layers}
        if len(axes) > 1:
            reason = "layers read it along different axes"
        elif name_of(value) in tabular and not others and not value.is_graph_output():
            reason = "its input is tabular: calibration gives each column a scale where that pays"
        else:
            sites.append(_site(value, layers, others, axes.pop(), shapes))
            continue
        refused |= {layer.node: reason for layer in layers}
    return sites, refused


def _site(
    value: ir.Value,
    layers: list[Layer],
    others: Sequence[ir.Node],
    axis: int,
    shapes: Shapes,
) -> _Site:
    if others:
        reason = f"{others[0].name} ({others[0].op_type}) reads its input, too"
        return _Site(value, layers, Made(), reason)
    try:
        return _Site(value, layers, makers(value, axis, shapes), "")
    except KeptError as error:
        return _Site(value, layers, Made(), str(error))


def _axes(sites: Sequence[_Site], shapes: Shapes) -> dict[str, int]:
    """Returns the activations whose moments are needed, with the axis of their channels."""
    axes = {}
    for site in sites:
        layers = [*site.layers, *(_layer(part) for part in site.made.weights)]
        for layer in layers:
            name = name_of(layer.node.inputs[0])
            axes[name] = channel_axis(layer, len(shapes[name]))
    return axes


def _group(site: _Site, moments: Moments, *, per_channel: bool) -> Group:
    dense = PER_OUTPUT if per_channel else PER_TENSOR
    readers = []
    for layer in site.layers:
        weight = weight_of(layer)
        if layer.kind == "conv":
            groups = layer.node.attributes.get_int("group", 1)
            shaped = weight.reshape(groups, len(weight) // groups, weight.shape[1], -1)
            readers.append(Reader(shaped, PER_OUTPUT))
        else:
            readers.append(Reader(weight.T[None, :, :, None], dense))
    made = [_maker(part, moments, dense) for part in site.made.weights]
    peak, judged = moments[name_of(site.value)]
    return Group(judged, peak, readers, made)


def _maker(part: Part, moments: Moments, dense: QuantSpec) -> Maker:
    layer, weight = _layer(part), part.array
    square = moments[name_of(part.node.inputs[0])][1].mean_square
    labels = part.labels.reshape(-1)
    if layer.kind == "dense":
        return Maker(weight.T, square, labels, dense)
    groups = part.node.attributes.get_int("group", 1)
    inputs = np.repeat(square.reshape(groups, -1), weight[0, 0].size, axis=1)
    inputs = np.repeat(inputs, len(weight) // groups, axis=0)
    return Maker(weight.reshape(len(weight), -1), inputs, labels, PER_OUTPUT)


def _layer(part: Part) -> Layer:
    layer = layer_of(part.node)
    assert layer is not None
    return layer


def _multiply(graph: ir.Graph, site: _Site, factors: Floats, moments: Moments) -> None:
    for layer in site.layers:
        multiply(graph, layer, factors)
    # Layers that come later may read what these make, and their makers read this activation.
    name = name_of(site.layers[0].node.inputs[0])
    peak, judged = moments[name_of(site.value)]
    moments[name] = peak / factors, judged.divided(factors)


def _insert(graph: ir.Graph, site: _Site, factors: Floats) -> None:
    """Puts a Mul by 1/s between the activation and its layers."""
    name, numbers = f"{site.value.name}.smooth", (1 / factors).astype(np.float32)
    if site.layers[0].kind == "conv":
        assert site.value.shape is not None
        numbers = numbers.reshape(-1, *[1] * (len(site.value.shape) - 2))
    factor = ir.val(f"{name}.factor", const_value=ir.tensor(numbers, name=f"{name}.factor"))
    graph.register_initializer(factor)
    node = ir.node("Mul", [site.value, factor], name=name)
    (product,) = node.outputs
    product.name = f"{site.value.name}.smoothed"
    product.type, product.shape = site.value.type, site.value.shape
    readers = {layer.node for layer in site.layers}
    graph.insert_before(next(each for each in graph if each in readers), node)
    for layer in site.layers:
        layer.node.replace_input_with(0, product)
