"""Invoice processing: which words of a receipt are its company, address, date and total.

A tagger of words in reading order. ``encoder: lstm`` is the bidirectional LSTM of Lample et al.
2016 (arXiv 1603.01360) without its CRF, whose decoding is a search outside of the network.
``encoder: transformer`` follows LayoutLM (Xu et al. 2020,
arXiv 1912.13318): a word is the sum of what it says and where it stands, and a Transformer relates
them. Both are trained from nothing on a few hundred receipts. So a word has more than its own
vector: its first and last three characters and its shape (Collobert et al. 2011, JMLR 12, section
6), all hashed; and boxes are numbers, not tables of coordinates, which are learned one by one.

``unknown_words`` is its ``training.augment.function``: names of companies that are new at run time
are known by where they stand.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from sample_models.triage import Layer

TABLES = (8192, 2048, 2048, 512)
"""Numbers of words, of first and of last characters, and of shapes; padding included."""


class InvoiceNet(nn.Module):
    """Words and boxes into one score per tag and word; see ``build``."""

    def __init__(
        self,
        steps: int,
        boxes: int,
        tags: int,
        encoder: Literal["lstm", "transformer"],
        width: int,
        layers: int,
        heads: int,
        dropout: float,
    ) -> None:
        super().__init__()
        tables = [nn.Embedding(count, width) for count in TABLES]
        for table in tables:
            nn.init.normal_(table.weight, std=0.5)
        self.tables = nn.ModuleList(tables)
        self.place = nn.Sequential(nn.Linear(boxes, width), nn.ReLU(), nn.Linear(width, width))
        self.dropout = nn.Dropout(dropout)
        self.norm = nn.LayerNorm(width)
        self.layers = nn.ModuleList()
        self.lstm = None
        if encoder == "transformer":
            self.positions = nn.Parameter(torch.zeros(steps, width))
            self.layers.extend(Layer(width, heads, 4 * width, dropout) for _ in range(layers))
        else:
            self.lstm = nn.LSTM(width, width // 2, layers, batch_first=True, bidirectional=True)
        self.head = nn.Linear(width, tags)

    def forward(self, tokens: Tensor, boxes: Tensor, mask: Tensor) -> Tensor:
        """Returns float32 (batch, steps, tags).

        Args:
            tokens: int64 (batch, steps, 4), hashed numbers of each word; 0 is padding.
            boxes: float32 (batch, steps, 6), where it stands, -1 to 1.
            mask: float32 (batch, steps), 1 at words.
        """
        batch, steps = mask.shape
        x: Tensor = self.place(boxes)
        for at, table in enumerate(self.tables):
            x = x + table(tokens[..., at])
        x = self.dropout(x) * mask[:, :, None]
        if self.lstm is not None:
            scores: Tensor = self.head(self.dropout(self.norm(self.lstm(x)[0])))
            return scores
        x = (x + self.positions).reshape(-1, x.shape[-1])
        kept = mask.reshape(-1).nonzero()[:, 0] if self.training else None
        bias = (1 - mask)[:, None, None, :] * -1e4
        x = x if kept is None else x[kept]
        for layer in self.layers:
            x = layer(x, bias, kept)
        x = self.head(self.dropout(self.norm(x)))
        if kept is not None:
            x = x.new_zeros(batch * steps, x.shape[-1]).index_copy(0, kept, x)
        return x.reshape(batch, steps, -1)


def unknown_words(
    inputs: dict[str, Tensor], labels: Tensor, share: float = 0.15
) -> tuple[dict[str, Tensor], Tensor]:
    """Returns a batch in which some words are known by their shape and their place only.

    Source: the word dropout of Iyyer et al. 2015, "Deep unordered composition rivals syntactic
    methods for text classification", ACL, section 3.1.

    Args:
        inputs: ``tokens``, int64 (batch, steps, 4), among others.
        labels: of the batch.
        share: of the words.
    """
    tokens = inputs["tokens"].clone()
    hidden = torch.rand(tokens.shape[:2]) < share
    tokens[..., :3] *= ~hidden[:, :, None]
    return {**inputs, "tokens": tokens}, labels


def build(
    inputs: dict[str, dict[str, list[int]]],
    encoder: Literal["lstm", "transformer"] = "lstm",
    tags: int = 5,
    width: int = 256,
    layers: int = 2,
    heads: int = 4,
    dropout: float = 0.1,
) -> nn.Module:
    """Returns an untrained tagger.

    Args:
        inputs: filled in by qtool from the encoder; inputs ``tokens`` and ``boxes``.
        encoder: what relates the words.
        tags: of the fields, and that of no field.
        width: of the encoder; half of it is that of each direction of the LSTM.
        layers: of the encoder.
        heads: of each layer of the Transformer.
        dropout: share of the values that training leaves out.
    """
    return InvoiceNet(
        steps=inputs["tokens"]["shape"][0],
        boxes=inputs["boxes"]["shape"][1],
        tags=tags,
        encoder=encoder,
        width=width,
        layers=layers,
        heads=heads,
        dropout=dropout,
    )
