"""Weights outside the graph: protobuf ends at 2 GiB, so a large model has a second file for them.

ONNX calls it external data: the graph names a file, an offset and a length. Such weights are read
as memory maps and written one after the other, so that a model never is in memory as a whole
besides what the runtime keeps of it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

import onnx_ir as ir

SINGLE_FILE_BYTES = 1 << 30
"""Weights beyond this get a file of their own: half of protobuf's limit leaves room for the graph,
and for the copy that serializing makes."""
WEIGHTS_SUFFIX = ".data"
"""What the name of that file ends in: model.onnx.data."""
LARGE_BYTES = 1024
"""Tensors below this stay in the graph, where shape inference reads them."""
ALIGNMENT = 4096
"""Where a tensor may start in the file: at a memory page, so that it can be mapped."""


def weights_bytes(model: ir.Model) -> int:
    """Returns the size of all initializers, those of sub-graphs included."""
    return sum(
        value.const_value.nbytes
        for graph in model.graphs()
        for value in graph.initializers.values()
        if value.const_value is not None
    )


def large_weights(model: ir.Model) -> dict[str, ir.TensorProtocol]:
    """Returns the initializers of the main graph that may lie outside it, by name."""
    return {
        name: value.const_value
        for name, value in model.graph.initializers.items()
        if value.const_value is not None
        and value.const_value.dtype != ir.DataType.STRING
        and value.const_value.nbytes >= LARGE_BYTES
    }


def laid_out(weights: Mapping[str, ir.TensorProtocol]) -> Iterator[bytes]:
    """Yields the content of the file that ``referring_to`` describes, tensor by tensor."""
    for tensor in weights.values():
        yield tensor.tobytes()
        yield bytes(-tensor.nbytes % ALIGNMENT)


def referring_to(
    location: str, model: ir.Model, weights: Mapping[str, ir.TensorProtocol]
) -> ir.Model:
    """Returns a copy of ``model`` whose ``weights`` lie in the file ``location``, others in it."""
    copy, offset = model.clone(), 0
    for name, tensor in weights.items():
        copy.graph.initializers[name].const_value = ir.ExternalTensor(
            location,
            offset,
            tensor.nbytes,
            tensor.dtype,
            shape=ir.Shape(tensor.shape.numpy()),
            name=name,
        )
        offset += -(-tensor.nbytes // ALIGNMENT) * ALIGNMENT
    return _load(copy, except_for=weights)


def in_memory(model: ir.Model) -> ir.Model:
    """Returns a copy of ``model`` with all weights in memory.

    Raises:
        OSError, ValueError: the file of the weights is missing, too short or in another directory.
    """
    return _load(model.clone(), except_for=())


def _load(model: ir.Model, except_for: Collection[str]) -> ir.Model:
    for graph in model.graphs():
        for name, value in graph.initializers.items():
            if isinstance(value.const_value, ir.ExternalTensor) and name not in except_for:
                value.const_value = ir.tensor(value.const_value.numpy().copy(), name=name)
        for node in graph:
            for name, attribute in list(node.attributes.items()):
                if isinstance(attribute.value, ir.ExternalTensor):
                    inside = ir.tensor(attribute.value.numpy().copy(), name=attribute.value.name)
                    node.attributes[name] = ir.AttrTensor(name, inside)
    return model
