"""The blocks that finance models are built of, as torch exports them: for benchmarks and tests.

Each entry of ``BLOCKS`` is a function that returns a ``Block``: an FP32 ONNX model by
``torch.onnx.export(dynamo=True)`` with a symbolic batch, and its inputs. Weights are random but
scaled like trained ones; what is measured is speed and rounding, not a task.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import onnx_ir as ir
import torch
from block_attention import Decoder, Encoder, MaskedEncoder, TorchEncoder
from block_dense import Dlrm, EmbeddingMlp, Mlp, ResidualMlp, TwoTower
from block_sequences import DeepLob, Recurrent, Separable, Tcn
from numpy.typing import NDArray
from torch import nn

from qtool.torchgraph.export import export_onnx

Inputs = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class Block:
    """One FP32 model and rows for it.

    Attributes:
        model: the exported graph.
        rows: (number of rows, seed) → inputs.
    """

    model: ir.Model
    rows: Callable[[int, int], Inputs]


def _normal(*shape: int, name: str = "x") -> Callable[[int, int], Inputs]:
    def rows(count: int, seed: int) -> Inputs:
        generator = np.random.default_rng(seed)
        return {name: generator.standard_normal((count, *shape)).astype(np.float32)}

    return rows


def _steps_and_mask(steps: int, width: int) -> Callable[[int, int], Inputs]:
    def rows(count: int, seed: int) -> Inputs:
        generator = np.random.default_rng(seed)
        lengths = generator.integers(steps // 4, steps + 1, count)
        mask = (np.arange(steps) < lengths[:, None]).astype(np.int64)
        x = generator.standard_normal((count, steps, width)).astype(np.float32)
        return {"x": x * mask[:, :, None].astype(np.float32), "mask": mask}

    return rows


def _codes(sizes: list[int], **numeric: int) -> Callable[[int, int], Inputs]:
    def rows(count: int, seed: int) -> Inputs:
        generator = np.random.default_rng(seed)
        codes = np.column_stack([generator.integers(0, size, count) for size in sizes])
        widths = {
            name: generator.standard_normal((count, width)).astype(np.float32)
            for name, width in numeric.items()
        }
        return {"codes": codes, **widths}

    return rows


def _tokens(vocabulary: int, steps: int) -> Callable[[int, int], Inputs]:
    def rows(count: int, seed: int) -> Inputs:
        generator = np.random.default_rng(seed)
        return {"tokens": generator.integers(0, vocabulary, (count, steps))}

    return rows


def _block(
    build: Callable[[], nn.Module],
    rows: Callable[[int, int], Inputs],
) -> Block:
    torch.manual_seed(0)
    module = build().eval()
    _scale_like_trained(module)
    _settle_batch_norm(module, rows(64, 0))
    return Block(export_onnx(module, rows(2, 0)), rows)


def _scale_like_trained(module: nn.Module) -> None:
    """Keeps the size of activations from layer to layer (He et al. 2015, arXiv 1502.01852).

    torch's default shrinks them layer by layer, until the output hardly depends on the input.
    Transformers keep theirs through normalization and stay as they are.
    """
    if any(isinstance(part, nn.LayerNorm) for part in module.modules()):
        return
    for part in module.modules():
        if isinstance(part, nn.Linear | nn.Conv1d | nn.Conv2d):
            nn.init.kaiming_normal_(part.weight, nonlinearity="relu")


def _settle_batch_norm(module: nn.Module, inputs: Inputs) -> None:
    """Gives batch normalization the statistics of real rows, as training would."""
    if not any(isinstance(part, nn.modules.batchnorm._BatchNorm) for part in module.modules()):
        return
    with torch.no_grad():
        module.train()
        for _ in range(50):
            module(**{name: torch.from_numpy(array) for name, array in inputs.items()})
        module.eval()


def _mlp(
    widths: list[int],
    activation: Callable[[], nn.Module] = nn.ReLU,
    norm: Callable[[int], nn.Module] = lambda width: nn.Identity(),
) -> Callable[[], Block]:
    return partial(_block, partial(Mlp, widths, activation, norm), _normal(widths[0]))


WIDE = [128, 512, 512, 512, 1]
BLOCKS: Mapping[str, Callable[[], Block]] = {
    "mlp-512x3": _mlp([512, 512, 512, 512, 1]),
    "mlp-30-512x3": _mlp([30, 512, 512, 512, 1]),
    "mlp-64x3": _mlp([30, 64, 64, 64, 1]),
    "mlp-silu": _mlp(WIDE, nn.SiLU),
    "mlp-gelu": _mlp(WIDE, nn.GELU),
    "mlp-tanh": _mlp(WIDE, nn.Tanh),
    "mlp-sigmoid": _mlp(WIDE, nn.Sigmoid),
    "mlp-leakyrelu": _mlp(WIDE, nn.LeakyReLU),
    "mlp-layernorm": _mlp(WIDE, nn.ReLU, nn.LayerNorm),
    "mlp-batchnorm": _mlp(WIDE, nn.ReLU, nn.BatchNorm1d),
    "mlp-3d": partial(_block, partial(Mlp, WIDE, nn.ReLU), _normal(16, 128)),
    "residual-mlp-128-512x3": partial(_block, partial(ResidualMlp, 128, 512, 3), _normal(128)),
    "encoder-d128x2-s60": partial(_block, partial(Encoder, 128, 4, 2), _normal(60, 128)),
    "encoder-d384x6-s128": partial(_block, partial(Encoder, 384, 6, 6), _normal(128, 384)),
    "encoder-d768x2-s128": partial(_block, partial(Encoder, 768, 12, 2), _normal(128, 768)),
    "encoder-prenorm-d256x4-s64": partial(
        _block, partial(Encoder, 256, 4, 4, "relu", pre_norm=True), _normal(64, 256)
    ),
    "encoder-masked-d256x2-s64": partial(
        _block, partial(MaskedEncoder, 256, 4, 2), _steps_and_mask(64, 256)
    ),
    "encoder-torch-d256x2-s64": partial(_block, partial(TorchEncoder, 256, 4, 2), _normal(64, 256)),
    "tcn-c32": partial(_block, partial(Tcn, 8, 32, 4), _normal(8, 100)),
    "tcn-c64": partial(_block, partial(Tcn, 8, 64, 4), _normal(8, 100)),
    "tcn-c128": partial(_block, partial(Tcn, 8, 128, 4), _normal(8, 100)),
    "deeplob-relu": partial(_block, partial(DeepLob, nn.ReLU), _normal(1, 100, 40)),
    "deeplob-leakyrelu": partial(_block, partial(DeepLob, nn.LeakyReLU), _normal(1, 100, 40)),
    "separable-c128": partial(_block, partial(Separable, 8, 128, 4), _normal(8, 100)),
    **{
        f"lstm-h{hidden}": partial(_block, partial(Recurrent, nn.LSTM, 40, hidden), _normal(60, 40))
        for hidden in (64, 128, 256, 512)
    },
    **{
        f"gru-h{hidden}": partial(_block, partial(Recurrent, nn.GRU, 40, hidden), _normal(60, 40))
        for hidden in (128, 256)
    },
    "embedding-26x20k": partial(
        _block, partial(EmbeddingMlp, 26, 20_000, 32, 13), _codes([20_000] * 26, numeric=13)
    ),
    "dlrm-8x5k": partial(_block, partial(Dlrm, 8, 5_000, 32, 13), _codes([5_000] * 8, numeric=13)),
    "two-tower": partial(
        _block,
        partial(TwoTower, 5_000, 4_000, 64, 256),
        _codes([5_000, 4_000], customer=16, product=16),
    ),
    "decoder-d512x4-s1": partial(_block, partial(Decoder, 8_000, 512, 8, 4), _tokens(8_000, 1)),
    "decoder-d512x4-s64": partial(_block, partial(Decoder, 8_000, 512, 8, 4), _tokens(8_000, 64)),
}
"""Name → makes the block; a case is a block at one batch size, as in ``tcn-c64-b32``."""
CONV2D: Mapping[str, Callable[[], Block]] = {
    f"tcn-c{channels}": partial(
        _block, partial(Tcn, 8, channels, 4, two_dimensional=True), _normal(8, 100)
    )
    for channels in (32, 64, 128)
}
"""The same networks on the same rows, written with 2-D convolutions."""
