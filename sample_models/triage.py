"""Triage of customer messages: which intent, or which product, a message is about.

Wide and deep (Cheng et al. 2016, arXiv 1606.07792). The wide part is a linear classifier of hashed
words, word pairs and character trigrams, which is hard to beat where a class has a hundred examples
(Joulin et al. 2017, arXiv 1607.01759). The deep part is a BERT encoder of the words in their order
(Devlin et al. 2019, arXiv 1810.04805) of the size of BERT-Small (Turc et al. 2019, arXiv
1908.08962), with three changes: normalization before each block (Xiong et al. 2020, arXiv
2002.04745), ReLU instead of GELU, and attention pooling (Lin et al. 2017, arXiv 1703.03130). Both
parts are trained from nothing and add up to the scores of the classes.

Tokens are the rows of one matrix, so that every dense layer is a plain matrix product, and training
leaves padding out of them: two thirds of the steps of short messages (Portes et al. 2023, arXiv
2312.17482, section 2.1, "unpadding").
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

GAIN = 30.0
"""Of the wide part: its weights need larger steps than those of the Transformer."""


class Layer(nn.Module):
    """Self-attention and feed-forward with ReLU, each normalized before it, on rows of tokens."""

    def __init__(self, width: int, heads: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value, self.out = (nn.Linear(width, width) for _ in range(4))
        self.up, self.down = nn.Linear(width, hidden), nn.Linear(hidden, width)
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)
        for last in (self.out, self.down):
            # At first a word is itself; with the usual deviation, training forgets the words.
            nn.init.normal_(last.weight, std=0.01)
            nn.init.zeros_(last.bias)

    def forward(self, x: Tensor, bias: Tensor, kept: Tensor | None) -> Tensor:
        """Returns float32 (tokens, width).

        Args:
            x: float32 (tokens, width), the tokens of all rows one after the other.
            bias: float32 (batch, 1, 1, steps), added to the scores of attention.
            kept: int64 (tokens,), positions in (batch * steps) of those in ``x``; None: all.
        """
        batch, steps, width = bias.shape[0], bias.shape[-1], x.shape[-1]

        def split(y: Tensor) -> Tensor:
            if kept is not None:
                y = y.new_zeros(batch * steps, width).index_copy(0, kept, y)
            return y.reshape(batch, steps, self.heads, width // self.heads).transpose(1, 2)

        y = self.norm1(x)
        scores = split(self.query(y)) @ split(self.key(y)).transpose(2, 3)
        attention = torch.softmax(scores * (width // self.heads) ** -0.5 + bias, -1)
        mixed = (attention @ split(self.value(y))).transpose(1, 2).reshape(-1, width)
        x = x + self.dropout(self.out(mixed if kept is None else mixed[kept]))
        hidden = self.dropout(torch.relu(self.up(self.norm2(x))))
        result: Tensor = x + self.dropout(self.down(hidden))
        return result


class TriageNet(nn.Module):
    """Words and n-grams into one score per class; see ``build``."""

    def __init__(
        self,
        steps: int,
        classes: int,
        words: int,
        ngrams: int,
        width: int,
        layers: int,
        heads: int,
        hidden: int,
        dropout: float,
    ) -> None:
        super().__init__()
        self.table = nn.Embedding(words, width)
        self.positions = nn.Parameter(torch.zeros(steps, width))
        self.layers = nn.ModuleList(Layer(width, heads, hidden, dropout) for _ in range(layers))
        self.norm, self.dropout = nn.LayerNorm(width), nn.Dropout(dropout)
        self.attend, self.head = nn.Linear(width, 1), nn.Linear(width, classes)
        self.wide = nn.Embedding(ngrams, classes, padding_idx=0)
        nn.init.normal_(self.table.weight, std=0.5)
        nn.init.zeros_(self.wide.weight)

    def forward(self, words: Tensor, words_mask: Tensor, ngrams: Tensor, count: Tensor) -> Tensor:
        """Returns float32 (batch, classes).

        Args:
            words: int64 (batch, steps), hashed words; 0 is padding.
            words_mask: float32 (batch, steps), 1 at words.
            ngrams: int64 (batch, n), hashed words, pairs and trigrams, each once; 0 is padding.
            count: float32 (batch, n), 1 at n-grams.
        """
        bias = (1 - words_mask)[:, None, None, :] * -1e4
        steps, width = self.positions.shape
        x = self.dropout(self.table(words) + self.positions).reshape(-1, width)
        kept = words_mask.reshape(-1).nonzero()[:, 0] if self.training else None
        if kept is not None:
            x = x[kept]
        for layer in self.layers:
            x = layer(x, bias, kept)
        x = self.norm(x)
        if kept is not None:
            x = x.new_zeros(words.numel(), width).index_copy(0, kept, x)
        weights = torch.softmax(self.attend(x).reshape(-1, 1, steps) + bias[:, 0], -1)
        pooled = (weights @ x.reshape(-1, steps, width))[:, 0]
        deep = self.head(self.dropout(pooled))
        found = count.sum(1, keepdim=True).clamp_min(1)
        scores: Tensor = deep + self.wide(ngrams).sum(1) * (GAIN * found**-0.5)
        return scores


def build(
    inputs: dict[str, dict[str, list[int]]],
    classes: int,
    words: int = 8192,
    ngrams: int = 16384,
    width: int = 512,
    layers: int = 2,
    heads: int = 8,
    hidden: int = 2048,
    dropout: float = 0.2,
) -> nn.Module:
    """Returns an untrained classifier.

    Args:
        inputs: filled in by qtool from the encoder; input ``words``, beside it its mask.
        classes: of the messages.
        words: numbers of hashed words, padding included.
        ngrams: numbers of hashed n-grams, padding included.
        width: of the Transformer.
        layers: of the Transformer.
        heads: of each layer.
        hidden: width of the feed-forward blocks.
        dropout: share of the values that training leaves out, in the Transformer.
    """
    return TriageNet(
        steps=inputs["words"]["shape"][0],
        classes=classes,
        words=words,
        ngrams=ngrams,
        width=width,
        layers=layers,
        heads=heads,
        hidden=hidden,
        dropout=dropout,
    )
