"""Reading and writing ONNX files: checked on the way in, deterministic on the way out.

The weights of a large model lie in a second file beside it (``graph.weights_file``).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
from google.protobuf.message import DecodeError
from numpy.typing import NDArray
from onnx.checker import ValidationError
from onnx_ir.serde import SerdeError

from qtool.errors import ModelError
from qtool.graph.weights_file import (
    SINGLE_FILE_BYTES,
    WEIGHTS_SUFFIX,
    in_memory,
    laid_out,
    large_weights,
    referring_to,
    weights_bytes,
)
from qtool.runs import digest, sha256_of, write_bytes, write_pieces

OPSETS = range(13, 24)
"""The ai.onnx opsets that everything works on; 13 is the first with per-axis QuantizeLinear."""
READABLE_OPSETS = range(11, OPSETS.stop)
"""The opsets of files; ``graph.prepare.opset`` converts the ones before ``OPSETS``."""


@dataclass(frozen=True)
class TensorInfo:
    """Name, NumPy dtype (``object`` for text), shape (symbolic: str, unknown: None)."""

    name: str
    dtype: str
    shape: tuple[int | str | None, ...]


def read_model(path: Path, single_file_bytes: int = SINGLE_FILE_BYTES) -> ir.Model:
    """Returns the checked model in ``path``.

    Args:
        path: the file; external data is confined to its directory.
        single_file_bytes: external weights beyond this stay memory maps.

    Raises:
        ModelError: the file is missing, truncated, not ONNX, invalid or of an unsupported opset.
    """
    with _explained(path, "Check model.onnx in the config."):
        # Given the path, the checker also confines external data to the model's directory.
        onnx.checker.check_model(str(path))
        model = ir.load(path)
        if weights_bytes(model) <= single_file_bytes:
            model = in_memory(model)
        for tensor in large_weights(model).values():
            tensor.numpy()  # maps the file, and finds that it is too short
    return _check(model, str(path))


def read_runnable(path: Path) -> ir.Model:
    """Returns the model in ``path`` for the runtime alone: of any opset, as converters write them.

    A ZipMap, which turns probabilities (rows, classes) into one map per row, is left out: the
    output of its name is the tensor.

    Raises:
        ModelError: the file is missing, truncated, not ONNX or invalid.
    """
    with _explained(path, "Check teacher.onnx in the config."):
        onnx.checker.check_model(str(path))
        proto = onnx.load(str(path))
        for node in [node for node in proto.graph.node if node.op_type == "ZipMap"]:
            node.CopyFrom(onnx.helper.make_node("Identity", node.input, node.output, node.name))
            for output in proto.graph.output:
                if output.name == node.output[0]:
                    shape = ("rows", "classes")
                    tensor = onnx.helper.make_tensor_type_proto(onnx.TensorProto.FLOAT, shape)
                    output.type.CopyFrom(tensor)
        imported = {entry.domain for entry in proto.opset_import}
        if "" not in imported:  # a tree ensemble alone needs none
            proto.opset_import.append(onnx.helper.make_opsetid("", OPSETS.start))
        return ir.from_proto(proto)


@contextmanager
def _explained(path: Path, missing: str) -> Iterator[None]:
    """Says what is wrong with a file that cannot be read; ``missing``: what to do without one."""
    if not path.is_file():
        raise ModelError(str(path), "no such file", "an ONNX model", missing)
    try:
        path.open("rb").close()  # the checker calls a file without permission invalid
        yield
    except PermissionError as error:
        raise ModelError(
            str(path), f"cannot be read ({error.strerror})", "a readable file"
        ) from error
    except (DecodeError, ValidationError, SerdeError, ValueError, OSError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ModelError(
            str(path),
            f"not a valid ONNX model ({reason})",
            "a complete .onnx file",
            "Export or copy the model again.",
        ) from error


def write_model(path: Path, model: ir.Model, single_file_bytes: int = SINGLE_FILE_BYTES) -> None:
    """Writes the model; equal models give equal bytes.

    Args:
        path: the file; the weights of a large model go to ``<name>.data`` beside it.
        model: what is written.
        single_file_bytes: weights beyond this make a model large.

    Raises:
        OutputError: the operating system refuses to write.
    """
    if weights_bytes(model) <= single_file_bytes:
        write_bytes(path, model_bytes(model))
        return
    weights = path.with_name(path.name + WEIGHTS_SUFFIX)
    large = large_weights(model)
    write_pieces(weights, laid_out(large))
    write_bytes(path, _serialized(referring_to(weights.name, model, large)))


def model_files(path: Path) -> tuple[Path, ...]:
    """Returns ``path``, which ``read_model`` accepts, and the files beside it with its weights."""
    proto = onnx.load(str(path), load_external_data=False)
    nodes = (node for function in proto.functions for node in function.node)
    locations = {
        entry.value
        for tensor in (*_tensors(proto.graph), *_node_tensors(nodes))
        for entry in tensor.external_data
        if entry.key == "location"
    }
    return (path, *(path.parent / location for location in sorted(locations)))


def size_bytes(path: Path) -> int:
    """Returns the size of a model with the files beside it."""
    return sum(file.stat().st_size for file in model_files(path))


def _tensors(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    """Yields the tensors of a graph and of its sub-graphs: initializers and constants."""
    yield from graph.initializer
    yield from _node_tensors(graph.node)


def _node_tensors(nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.TensorProto]:
    for node in nodes:
        for attribute in node.attribute:
            yield from (attribute.t, *attribute.tensors)
            for graph in (attribute.g, *attribute.graphs):
                yield from _tensors(graph)


def model_sha256(path: Path) -> str:
    """Returns the sha256 of the file, or of the digests of its files where there are several."""
    digests = [sha256_of(file) for file in model_files(path)]
    return digests[0] if len(digests) == 1 else digest({"files": digests})


def model_bytes(model: ir.Model) -> bytes:
    """Returns the serialized model with all weights; equal models give equal bytes."""
    return _serialized(in_memory(model))


def detached(model: ir.Model) -> tuple[bytes, dict[str, NDArray[np.generic]]]:
    """Returns the serialized graph without its large weights, and these by name.

    The graph refers to them as external data; the runtime is given them from memory.
    """
    large = large_weights(model)
    # The runtime takes contiguous arrays only; a folded transposition leaves another kind.
    arrays = {name: np.ascontiguousarray(tensor.numpy()) for name, tensor in large.items()}
    # The dtypes that a package added to NumPy (2: bfloat16, 4 bits) are none that a runtime takes.
    arrays = {name: array for name, array in arrays.items() if array.dtype.isbuiltin != 2}
    referring = referring_to("memory", model, {name: large[name] for name in arrays})
    return _serialized(referring), arrays


def model_from_bytes(data: bytes) -> ir.Model:
    """Returns a model that ``model_bytes`` wrote."""
    return ir.from_proto(onnx.load_from_string(data))


def inputs_of(model: ir.Model) -> tuple[TensorInfo, ...]:
    """Returns the graph inputs that a caller must feed."""
    return tuple(
        _info(value) for value in model.graph.inputs if value.name not in model.graph.initializers
    )


def outputs_of(model: ir.Model) -> tuple[TensorInfo, ...]:
    """Returns the graph outputs."""
    return tuple(_info(value) for value in model.graph.outputs)


def constant(value: ir.Value | None) -> NDArray[np.generic] | None:
    """Returns the array of an initializer, None for anything else."""
    if value is None or not value.is_initializer() or value.const_value is None:
        return None
    return np.asarray(value.const_value.numpy())


def _serialized(model: ir.Model) -> bytes:
    return bytes(ir.to_proto(model).SerializeToString(deterministic=True))


def _info(value: ir.Value) -> TensorInfo:
    shape = () if value.shape is None else value.shape
    dims = tuple(dim if isinstance(dim, int) else dim.value for dim in shape)
    dtype = "unknown" if value.dtype is None else value.dtype.numpy().name
    return TensorInfo(value.name or "", dtype, dims)


def _check(model: ir.Model, where: str) -> ir.Model:
    opset = model.opset_imports.get("", 0)
    if opset not in READABLE_OPSETS:
        raise ModelError(
            where,
            f"ai.onnx opset {opset}",
            f"{READABLE_OPSETS.start} to {READABLE_OPSETS.stop - 1}",
            "Convert it with onnx.version_converter or export it again.",
        )
    if not model.graph.outputs:
        raise ModelError(where, "the graph has no output", "at least one output")
    return model
