"""The blocks of finance models: seeded torch modules as torch exports them, and rows for them.

Weights are drawn so that activations stay in the ranges of trained networks: He initialization
before a ReLU, norms with uneven scales and offsets. Nothing is trained; what is measured here is
speed, size, and the error against the FP32 model on normal inputs.
"""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
import torch
from block_attention import Decoder, Encoder
from block_dense import Dlrm, EmbeddingMlp, Mlp, ResidualMlp, TwoTower
from block_sequences import DeepLob, Recurrent, Separable, Tcn
from numpy.typing import NDArray
from torch import nn

OPSET = 20
Spec = tuple[int, ...] | tuple[int, int, str]
Rows = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class Input:
    """One input of a block.

    Attributes:
        shape: of one row.
        kind: normal float32 numbers, int64 codes below ``codes``, or a bool mask of which the first
            steps, at least half, are true.
        codes: number of codes.
    """

    shape: tuple[int, ...]
    kind: str = "normal"
    codes: int = 0

    def rows(self, count: int, generator: np.random.Generator) -> NDArray[Any]:
        """Returns ``count`` rows."""
        if self.kind == "codes":
            return generator.integers(0, self.codes, (count, *self.shape))
        if self.kind == "mask":
            steps = self.shape[0]
            lengths = generator.integers(steps // 2, steps + 1, (count, 1))
            return np.arange(steps)[None] < lengths
        return generator.normal(size=(count, *self.shape)).astype(np.float32)


@dataclass(frozen=True)
class Block:
    """A model and the batch sizes that it is timed at.

    Attributes:
        build: makes the module; weights are drawn anew afterwards.
        inputs: by name.
        batch_sizes: rows per call.
        gain: variance of a layer's output over that of its input; 2 before a ReLU.
        steps: whether axis 1 of the inputs is symbolic, too.
    """

    build: Callable[[], nn.Module]
    inputs: Mapping[str, Input]
    batch_sizes: tuple[int, ...]
    gain: float = 2.0
    steps: bool = False

    def rows(self, count: int, seed: int) -> Rows:
        """Returns ``count`` rows of every input; equal seeds give equal rows."""
        generator = np.random.default_rng(seed)
        return {name: given.rows(count, generator) for name, given in self.inputs.items()}

    def model(self) -> ir.Model:
        """Returns the ONNX graph with a symbolic batch, as ``torch.onnx.export`` makes it."""
        torch.manual_seed(0)
        module = self.build().eval()
        _draw_weights(module, self.gain)
        return _exported(module, self.rows(2, seed=0), steps=self.steps)


def _draw_weights(module: nn.Module, gain: float) -> None:
    for part in module.modules():
        if isinstance(part, nn.Linear | nn.Conv1d | nn.Conv2d):
            nn.init.normal_(part.weight, std=(gain / part.weight[0].numel()) ** 0.5)
            if part.bias is not None:
                nn.init.normal_(part.bias, std=0.1)
        elif isinstance(part, nn.Embedding):
            nn.init.normal_(part.weight, std=part.embedding_dim**-0.5)
        elif isinstance(part, nn.LayerNorm | nn.BatchNorm1d):
            nn.init.normal_(part.weight, mean=1.0, std=0.2)
            nn.init.normal_(part.bias, std=0.1)
        if isinstance(part, nn.BatchNorm1d):
            assert part.running_mean is not None
            assert part.running_var is not None
            nn.init.normal_(part.running_mean, std=0.2)
            nn.init.uniform_(part.running_var, 0.5, 2.0)


def _exported(module: nn.Module, rows: Rows, *, steps: bool) -> ir.Model:
    axes = {0: torch.export.Dim("batch")}
    if steps:
        axes[1] = torch.export.Dim("steps", max=1024)
    with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
        warnings.simplefilter("ignore")  # torch 2.13 warns of its own deprecations
        program = torch.onnx.export(
            module,
            kwargs={name: torch.from_numpy(array) for name, array in rows.items()},
            dynamo=True,
            verbose=False,
            opset_version=OPSET,
            dynamic_shapes=dict.fromkeys(rows, axes),
            input_names=list(rows),
            output_names=["output"],
        )
    assert program is not None
    return ir.from_proto(program.model_proto)


def _mlp(inputs: int, width: int, batch_sizes: tuple[int, ...], **options: Any) -> Block:
    widths = [inputs, width, width, width, 1]
    return Block(lambda: Mlp(widths, **options), {"x": Input((inputs,))}, batch_sizes)


def _with_norm(norm: Callable[[int], nn.Module]) -> Callable[[int], nn.Module]:
    return lambda width: nn.Sequential(norm(width), nn.ReLU())


def _encoder(
    width: int, layers: int, steps: int, batch_sizes: tuple[int, ...], *, pre: bool = False
) -> Block:
    inputs = {"x": Input((steps, width))}
    return Block(lambda: Encoder(width, layers, pre=pre), inputs, batch_sizes, gain=1.0)


def _sequence(build: Callable[[], nn.Module], shape: tuple[int, ...], gain: float = 2.0) -> Block:
    return Block(build, {"x": Input(shape)}, (1, 32), gain)


def _tables(count: int, rows: int, amounts: int) -> dict[str, Input]:
    return {"amounts": Input((amounts,)), "codes": Input((count,), "codes", rows)}


ACTIVATIONS: dict[str, Callable[[int], nn.Module]] = {
    "silu": lambda width: nn.SiLU(),
    "gelu": lambda width: nn.GELU(),
    "tanh": lambda width: nn.Tanh(),
    "leakyrelu": lambda width: nn.LeakyReLU(0.01),
    "sigmoid": lambda width: nn.Sigmoid(),
    "layernorm": _with_norm(nn.LayerNorm),
    "batchnorm": _with_norm(nn.BatchNorm1d),
}
TABULAR = (1, 32, 256)
BLOCKS: dict[str, Block] = {
    "mlp-64x3": _mlp(30, 64, (1,)),
    "mlp-512x3": _mlp(30, 512, TABULAR),
    **{f"mlp-{n}-128-512x3": _mlp(128, 512, (64,), activation=a) for n, a in ACTIVATIONS.items()},
    "residual-mlp-128-512x3": Block(
        lambda: ResidualMlp(128, 512, 3), {"x": Input((128,))}, (64,), gain=1.0
    ),
    "mlp-3d-128-256x3-s16": Block(
        lambda: Mlp([128, 256, 256, 256, 1]), {"x": Input((16, 128))}, (1, 32)
    ),
    "encoder-d128x2-s60": _encoder(128, 2, 60, (1,)),
    "encoder-masked-d128x2-s60": Block(
        lambda: Encoder(128, 2),
        {"x": Input((60, 128)), "mask": Input((60,), "mask")},
        (1,),
        gain=1.0,
        steps=True,
    ),
    "encoder-d384x6-s128": _encoder(384, 6, 128, (1, 8)),
    "encoder-d768x2-s128": _encoder(768, 2, 128, (8,)),
    "encoder-prenorm-d256x4-s64": _encoder(256, 4, 64, (1,), pre=True),
    **{f"tcn-c{c}": _sequence(lambda c=c: Tcn(c, 4), (c, 100)) for c in (32, 64, 128)},  # type: ignore[misc]
    "deeplob-relu": _sequence(lambda: DeepLob(nn.ReLU), (1, 100, 40)),
    "deeplob-leakyrelu": _sequence(lambda: DeepLob(lambda: nn.LeakyReLU(0.01)), (1, 100, 40)),
    "separable-c64": _sequence(lambda: Separable(40, 64, 4), (40, 100)),
    **{
        f"lstm-h{h}": _sequence(lambda h=h: Recurrent(nn.LSTM, 40, h), (60, 40), 1.0)  # type: ignore[misc]
        for h in (64, 128, 256, 512)
    },
    **{
        f"gru-h{h}": _sequence(lambda h=h: Recurrent(nn.GRU, 40, h), (60, 40), 1.0)  # type: ignore[misc]
        for h in (128, 256)
    },
    "embedding-26x20k": Block(
        lambda: EmbeddingMlp(26, 20_000, 32, 13, [512, 256, 1]), _tables(26, 20_000, 13), TABULAR
    ),
    "two-tower": Block(
        lambda: TwoTower(
            EmbeddingMlp(4, 5000, 32, 30, [256, 128, 64]),
            EmbeddingMlp(2, 5000, 32, 20, [256, 128, 64]),
        ),
        {
            "client": Input((30,)),
            "client_codes": Input((4,), "codes", 5000),
            "product": Input((20,)),
            "product_codes": Input((2,), "codes", 5000),
        },
        TABULAR,
    ),
    "dlrm": Block(lambda: Dlrm(8, 5000, 64, 13), _tables(8, 5000, 13), TABULAR),
    **{
        f"decoder-d512x4-s{steps}": Block(
            lambda: Decoder(8192, 512, 4, 256),
            {"tokens": Input((steps,), "codes", 8192)},
            (1,),
            gain=1.0,
            steps=True,
        )
        for steps in (1, 64)
    },
}
"""Name → block; a case is a block at one batch size, as in ``tcn-c64-b32``."""
