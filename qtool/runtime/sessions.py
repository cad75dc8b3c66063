"""ONNX Runtime sessions: opened with qtool's error messages, run on named arrays."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import onnxruntime as ort
from numpy.typing import NDArray

from qtool.errors import ModelError
from qtool.graph.model_file import detached, model_bytes
from qtool.graph.weights_file import SINGLE_FILE_BYTES, WEIGHTS_SUFFIX, weights_bytes

Arrays = dict[str, NDArray[Any]]
FATAL_ONLY = 4
"""ORT log severity: what fails is raised as an exception anyway."""


UNKNOWN_OPERATOR = "is not a registered function/op"
NO_CUSTOM_OPERATORS = (
    "An operator of its own library is not supported: export the model with standard operators, "
    "or as functions of them."
)


class Session:
    """One loaded model on the CPU."""

    def __init__(
        self,
        model: ir.Model | Path | bytes,
        where: str,
        *,
        threads: int = 1,
        optimize: bool = True,
        optimized_to: Path | None = None,
        profiled_to: Path | None = None,
        single_file_bytes: int = SINGLE_FILE_BYTES,
    ) -> None:
        """Loads the model.

        Args:
            model: in memory, as a file with its weights beside it, or serialized.
            where: what to call it in messages.
            threads: intra-op threads.
            optimize: let the runtime fuse nodes; without, Q/DQ nodes are computed one by one in
                float32.
            optimized_to: file that receives the graph as the runtime optimised it; its weights go
                to ``<name>.data`` beside it.
            profiled_to: start of the name of the file that ``end_profiling`` writes; every call is
                slower then.
            single_file_bytes: weights of a model in memory beyond this are handed over as arrays,
                since no serialized model can hold 2 GiB.

        Raises:
            ModelError: the runtime refuses the model.
        """
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = FATAL_ONLY
        if not optimize:
            options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        if optimized_to is not None:
            options.optimized_model_filepath = str(optimized_to)
            weights = optimized_to.with_name(optimized_to.name + WEIGHTS_SUFFIX).name
            options.add_session_config_entry(
                "session.optimized_model_external_initializers_file_name", weights
            )
        if profiled_to is not None:
            options.enable_profiling = True
            options.profile_file_prefix = str(profiled_to)
        try:
            self._weights: Arrays = {}  # the runtime reads them where they are as long as it lives
            if isinstance(model, ir.Model):
                model = self._serialized(model, options, single_file_bytes)
            self._session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # ORT raises a family of pybind exceptions without a common base
            reason = _first_line(error)
            raise ModelError(
                where,
                f"ONNX Runtime {ort.__version__} cannot load it ({reason})",
                action=NO_CUSTOM_OPERATORS if UNKNOWN_OPERATOR in reason else "",
            ) from error
        self.where = where
        self.output_names = [output.name for output in self._session.get_outputs()]
        self.input_names = [value.name for value in self._session.get_inputs()]

    def _serialized(
        self, model: ir.Model, options: ort.SessionOptions, single_file_bytes: int
    ) -> bytes:
        if weights_bytes(model) <= single_file_bytes:
            return model_bytes(model)
        graph, self._weights = detached(model)
        values = [ort.OrtValue.ortvalue_from_numpy(array) for array in self._weights.values()]
        options.add_external_initializers(list(self._weights), values)
        return graph

    def run(
        self, inputs: Mapping[str, NDArray[Any]], outputs: Sequence[str] | None = None
    ) -> Arrays:
        """Returns the named outputs (all by default) for one batch.

        Raises:
            ModelError: the runtime fails on this batch, for example on a code beyond an embedding
                table.
        """
        names = list(outputs) if outputs is not None else self.output_names
        feeds = {name: inputs[name] for name in self.input_names}
        try:
            return dict(zip(names, self._session.run(names, feeds), strict=True))
        except Exception as error:
            raise ModelError(
                self.where, f"cannot run on this data ({_first_line(error)})"
            ) from error

    def end_profiling(self) -> Path:
        """Returns the file with the time of every kernel of every call, as JSON events."""
        return Path(self._session.end_profiling())

    def bound(self, inputs: Mapping[str, NDArray[Any]]) -> Callable[[], None]:
        """Returns a call that runs once on ``inputs``: what latency is measured on.

        Inputs are bound once, so that the call has the runtime's own overhead and not that of
        turning Python arguments into tensors, which no serving process pays.
        """
        binding = self._session.io_binding()
        for name in self.input_names:
            binding.bind_cpu_input(name, inputs[name])
        for name in self.output_names:
            binding.bind_output(name)
        return partial(self._session.run_with_iobinding, binding)


def to_scores(outputs: NDArray[Any], kind: str, where: str) -> NDArray[np.float32]:
    """Returns one probability per row from the model's first output.

    Args:
        outputs: float of shape (rows,), (rows, 1) or (rows, 2); two columns are the negative and
            the positive class.
        kind: ``logit`` or ``probability``.
        where: the model, for messages.

    Raises:
        ModelError: wrong dtype or shape, NaN, or probabilities outside [0, 1].
    """
    if not np.issubdtype(outputs.dtype, np.floating):
        raise ModelError(
            where,
            f"output of dtype {outputs.dtype}",
            "float scores",
            "Make the scores the model's first output.",
        )
    if outputs.ndim not in (1, 2) or (outputs.ndim == 2 and outputs.shape[1] not in (1, 2)):
        raise ModelError(
            where, f"output of shape {outputs.shape}", "(rows,), (rows, 1) or (rows, 2) scores"
        )
    two = outputs.ndim == 2 and outputs.shape[1] == 2
    if kind == "probability":
        scores = outputs[:, 1] if two else outputs.reshape(-1)
    else:
        # exp overflows to the right limit; what is not a number is refused below.
        with np.errstate(over="ignore", invalid="ignore"):
            logit = (outputs[:, 1] - outputs[:, 0]) if two else outputs.reshape(-1)
            scores = 1 / (1 + np.exp(-logit.astype(np.float64)))
    if np.isnan(scores).any():
        raise ModelError(where, "the output contains NaN", "finite scores", "Check the model.")
    if scores.size and (scores.min() < 0 or scores.max() > 1):
        raise ModelError(
            where,
            f"probabilities from {scores.min():.4g} to {scores.max():.4g}",
            "values in [0, 1]",
            "Set model.output: logit if the model returns logits.",
        )
    return np.asarray(scores, np.float32)


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0][:300] if str(error).strip() else type(error).__name__
