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
import torch.nn.functional as F  # noqa: N812 - torch's own convention
from numpy.typing import NDArray
from torch import Tensor, nn

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


# --- dense ----------------------------------------------------------------------------------------


class Mlp(nn.Module):
    """Dense layers with an activation, and a normalization if one is given, between them."""

    def __init__(
        self,
        widths: list[int],
        activation: Callable[[], nn.Module],
        norm: Callable[[int], nn.Module] = lambda width: nn.Identity(),
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for before, width in zip(widths[:-2], widths[1:-1], strict=True):
            layers += [nn.Linear(before, width), norm(width), activation()]
        self.body = nn.Sequential(*layers, nn.Linear(widths[-2], widths[-1]))

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x)


class ResidualMlp(nn.Module):
    """Blocks x + Linear(ReLU(Linear(x)))."""

    def __init__(self, inputs: int, width: int, blocks: int) -> None:
        super().__init__()
        self.stem, self.head = nn.Linear(inputs, width), nn.Linear(width, 1)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width))
            for _ in range(blocks)
        )

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.stem(x))
        for block in self.blocks:
            x = torch.relu(x + block(x))
        return self.head(x)


# --- transformers ---------------------------------------------------------------------------------


class Attention(nn.Module):
    """Multi-head self-attention with separate projections."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value, self.out = (nn.Linear(width, width) for _ in range(4))

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        batch, steps, width = x.shape

        def split(y: Tensor) -> Tensor:
            return y.reshape(batch, steps, self.heads, width // self.heads).transpose(1, 2)

        query, key, value = split(self.query(x)), split(self.key(x)), split(self.value(x))
        scores = query @ key.transpose(2, 3) * (width // self.heads) ** -0.5
        if mask is not None:
            scores = scores + mask
        mixed = (torch.softmax(scores, -1) @ value).transpose(1, 2)
        return self.out(mixed.reshape(batch, steps, width))


class EncoderLayer(nn.Module):
    """Attention and feed-forward, normalized after (or before) each."""

    def __init__(self, width: int, heads: int, activation: str, *, pre_norm: bool) -> None:
        super().__init__()
        self.attention, self.pre_norm = Attention(width, heads), pre_norm
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.activation = getattr(F, activation)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        if self.pre_norm:
            x = x + self.attention(self.norm1(x), mask)
            return x + self.down(self.activation(self.up(self.norm2(x))))
        x = self.norm1(x + self.attention(x, mask))
        return self.norm2(x + self.down(self.activation(self.up(x))))


class Encoder(nn.Module):
    """A stack of encoder layers; ``masked`` takes a padding mask (1 real, 0 padding)."""

    def __init__(
        self,
        width: int,
        heads: int,
        layers: int,
        activation: str = "gelu",
        *,
        pre_norm: bool = False,
    ) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            EncoderLayer(width, heads, activation, pre_norm=pre_norm) for _ in range(layers)
        )

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x)
        return x


class MaskedEncoder(Encoder):
    """The same, with a padding mask (1 real, 0 padding) and a mean over the real steps."""

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:  # type: ignore[override]
        bias = (1 - mask.to(torch.float32))[:, None, None, :] * -1e4
        for layer in self.layers:
            x = layer(x, bias)
        real = mask.to(torch.float32)[:, :, None]
        return (x * real).sum(1) / real.sum(1)


class TorchEncoder(nn.Module):
    """torch's own encoder layers, whose export packs query, key and value."""

    def __init__(self, width: int, heads: int, layers: int) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(
            width, heads, 4 * width, batch_first=True, activation="gelu", dropout=0.0
        )
        self.encoder = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.encoder(x)


class Decoder(nn.Module):
    """A causal language model with tied embeddings: logits of every position."""

    def __init__(self, vocabulary: int, width: int, heads: int, layers: int) -> None:
        super().__init__()
        self.table = nn.Embedding(vocabulary, width)
        self.layers = nn.ModuleList(
            EncoderLayer(width, heads, "gelu", pre_norm=True) for _ in range(layers)
        )
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, vocabulary, bias=False)
        nn.init.normal_(self.table.weight, std=0.02)
        self.head.weight = self.table.weight

    def forward(self, tokens: Tensor) -> Tensor:
        steps = tokens.shape[1]
        causal = torch.triu(torch.full((steps, steps), -1e4), diagonal=1)
        x = self.table(tokens)
        for layer in self.layers:
            x = layer(x, causal)
        return self.head(self.norm(x))


# --- convolutions ---------------------------------------------------------------------------------


class Tcn(nn.Module):
    """Causal dilated convolutions with residuals (Bai et al. 2018, arXiv 1803.01271)."""

    def __init__(self, inputs: int, channels: int, layers: int) -> None:
        super().__init__()
        self.stem, self.head = nn.Conv1d(inputs, channels, 1), nn.Linear(channels, 1)
        self.convolutions = nn.ModuleList(
            nn.Conv1d(channels, channels, 3, padding=2 * 2**i, dilation=2**i) for i in range(layers)
        )

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for index, convolution in enumerate(self.convolutions):
            x = torch.relu(x + torch.relu(convolution(x)[..., : -2 * 2**index]))
        return self.head(x[..., -1])


class DeepLob(nn.Module):
    """Convolutions, inception and an LSTM on the order book (Zhang et al. 2019, 1808.03668)."""

    def __init__(self, activation: Callable[[], nn.Module]) -> None:
        super().__init__()

        def block(inputs: int, width: int, stride: int) -> nn.Sequential:
            return nn.Sequential(
                nn.Conv2d(inputs, 32, (1, width), stride=(1, stride)),
                activation(),
                nn.Conv2d(32, 32, (4, 1)),
                activation(),
                nn.Conv2d(32, 32, (4, 1)),
                activation(),
            )

        self.body = nn.Sequential(block(1, 2, 2), block(32, 2, 2), block(32, 10, 1))
        self.branch1 = nn.Sequential(
            nn.Conv2d(32, 64, (1, 1)), activation(), nn.Conv2d(64, 64, (3, 1), padding=(1, 0))
        )
        self.branch2 = nn.Sequential(
            nn.Conv2d(32, 64, (1, 1)), activation(), nn.Conv2d(64, 64, (5, 1), padding=(2, 0))
        )
        self.branch3 = nn.Sequential(
            nn.MaxPool2d((3, 1), stride=1, padding=(1, 0)), nn.Conv2d(32, 64, (1, 1))
        )
        self.activation = activation()
        self.lstm, self.head = nn.LSTM(192, 64, batch_first=True), nn.Linear(64, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.body(x)
        branches = [self.branch1(x), self.branch2(x), self.branch3(x)]
        x = torch.cat([self.activation(branch) for branch in branches], 1)
        return self.head(self.lstm(x.squeeze(3).transpose(1, 2))[0][:, -1])


class Separable(nn.Module):
    """Depthwise and pointwise convolutions over time, with batch normalization."""

    def __init__(self, inputs: int, channels: int, layers: int) -> None:
        super().__init__()
        self.stem = nn.Conv1d(inputs, channels, 1)
        self.body = nn.Sequential(
            *(
                nn.Sequential(
                    nn.Conv1d(channels, channels, 5, padding=2, groups=channels, bias=False),
                    nn.BatchNorm1d(channels),
                    nn.ReLU(),
                    nn.Conv1d(channels, channels, 1, bias=False),
                    nn.BatchNorm1d(channels),
                    nn.ReLU(),
                )
                for _ in range(layers)
            )
        )
        self.head = nn.Linear(channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(self.stem(x)).mean(2))


# --- recurrent ------------------------------------------------------------------------------------


class Recurrent(nn.Module):
    """One LSTM or GRU over (rows, steps, inputs), the last state to a score."""

    def __init__(self, kind: type[nn.LSTM] | type[nn.GRU], inputs: int, hidden: int) -> None:
        super().__init__()
        self.cell, self.head = kind(inputs, hidden, batch_first=True), nn.Linear(hidden, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.cell(x)[0][:, -1])


# --- embeddings -----------------------------------------------------------------------------------


class EmbeddingMlp(nn.Module):
    """Many tables beside numeric columns, then dense layers."""

    def __init__(self, tables: int, size: int, width: int, numeric: int) -> None:
        super().__init__()
        self.tables = nn.ModuleList(nn.Embedding(size, width) for _ in range(tables))
        self.body = Mlp([tables * width + numeric, 512, 256, 1], nn.ReLU)

    def forward(self, codes: Tensor, numeric: Tensor) -> Tensor:
        rows = [table(codes[:, index]) for index, table in enumerate(self.tables)]
        return self.body(torch.cat([*rows, numeric], 1))


class Dlrm(nn.Module):
    """Pairwise dot products of embeddings (Naumov et al. 2019, arXiv 1906.00091)."""

    def __init__(self, tables: int, size: int, width: int, numeric: int) -> None:
        super().__init__()
        self.tables = nn.ModuleList(nn.Embedding(size, width) for _ in range(tables))
        self.bottom = Mlp([numeric, 256, width], nn.ReLU)
        pairs = (tables + 1) * tables // 2
        self.top = Mlp([pairs + width, 512, 256, 1], nn.ReLU)
        first, second = np.triu_indices(tables + 1, 1)
        self.register_buffer("pairs", torch.from_numpy(first * (tables + 1) + second))

    def forward(self, codes: Tensor, numeric: Tensor) -> Tensor:
        dense = self.bottom(numeric)
        rows = [table(codes[:, index]) for index, table in enumerate(self.tables)]
        stacked = torch.stack([dense, *rows], 1)
        products = (stacked @ stacked.transpose(1, 2)).flatten(1)
        return self.top(torch.cat([dense, products[:, self.pairs]], 1))


class TwoTower(nn.Module):
    """Customer and product towers, normalized, and their cosine."""

    def __init__(self, customers: int, products: int, width: int, hidden: int) -> None:
        super().__init__()
        self.customer_table = nn.Embedding(customers, width)
        self.product_table = nn.Embedding(products, width)
        self.customer = Mlp([width + 16, hidden, hidden, width], nn.ReLU)
        self.product = Mlp([width + 16, hidden, hidden, width], nn.ReLU)

    def forward(self, codes: Tensor, customer: Tensor, product: Tensor) -> Tensor:
        left = self.customer(torch.cat([self.customer_table(codes[:, 0]), customer], 1))
        right = self.product(torch.cat([self.product_table(codes[:, 1]), product], 1))
        return (F.normalize(left, dim=1) * F.normalize(right, dim=1)).sum(1, keepdim=True)


# --- the list -------------------------------------------------------------------------------------


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
    _settle_batch_norm(module, rows(64, 0))
    return Block(export_onnx(module, rows(2, 0)), rows)


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
"""Case name → the block."""
