"""Reconciliation: does a line of a bank statement pay an open invoice?

A matcher of two texts with one encoder for both: the hybrid model of DeepMatcher (Mudgal et al.
2018, "Deep Learning for Entity Matching", SIGMOD, section 4.3), in which every token is compared
with what the other text has of it (Parikh et al. 2016, arXiv 1606.01933). Changes: words and their
trigrams, hashed, take the place of fastText vectors, which know no invoice numbers; a convolution
reads the neighbours of a token, for texts of banks have an order but no grammar; amounts and days
enter beside the texts. The vectors of tokens start at random, of length one: their cosine tells
equal ones from others before training, so that numbers that were never seen can be compared.

``u`` is what the bank's text has of the ledger's, ``v`` the other way round; the head reads both,
``|u - v|`` and ``u * v`` (Mueller and Thyagarajan 2016, "Siamese recurrent architectures for
learning sentence similarity", AAAI, compare by the first). It returns one logit per pair.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

TAPS = 3


class Matcher(nn.Module):
    """Two texts and numbers into a logit; see ``build``."""

    def __init__(self, numbers: int, vocabulary: int, width: int, hidden: list[int]) -> None:
        super().__init__()
        self.table = nn.Embedding(vocabulary, width)
        nn.init.normal_(self.table.weight, std=width**-0.5)
        self.sharpness = nn.Parameter(torch.tensor(8.0))
        self.context = nn.Conv1d(width, width, TAPS, padding=TAPS // 2)
        self.compare = nn.Linear(3 * width, 2 * width)
        self.again = nn.Linear(2 * width, width)
        sizes = [4 * width + numbers, *hidden]
        self.layers = nn.ModuleList(nn.Linear(before, after) for before, after in pairwise(sizes))
        self.dropout = nn.Dropout(0.1)
        self.score = nn.Linear(hidden[-1], 1)

    def forward(
        self, bank: Tensor, bank_mask: Tensor, ledger: Tensor, ledger_mask: Tensor, numbers: Tensor
    ) -> Tensor:
        """Returns the logits, float32 (batch,).

        Args:
            bank: int64 (batch, steps), tokens of the bank's text; 0 is padding.
            bank_mask: float32 (batch, steps), 1 at tokens.
            ledger: int64 (batch, other steps), tokens of the ledger's text.
            ledger_mask: float32 (batch, other steps).
            numbers: float32 (batch, columns).
        """
        x, y = self.table(bank), self.table(ledger)
        scores = x @ y.transpose(1, 2) * self.sharpness
        u = self._compared(x, self._aligned(scores, ledger_mask, y), bank_mask)
        v = self._compared(y, self._aligned(scores.transpose(1, 2), bank_mask, x), ledger_mask)
        features = torch.cat([u, v, (u - v).abs(), u * v, numbers], dim=1)
        for layer in self.layers:
            features = self.dropout(torch.relu(layer(features)))
        logits: Tensor = self.score(features)[:, 0]
        return logits

    @staticmethod
    def _aligned(scores: Tensor, mask: Tensor, other: Tensor) -> Tensor:
        """Returns for each token what the other text has of it, (batch, steps, width)."""
        return torch.softmax(scores + (mask[:, None] - 1) * 1e4, -1) @ other

    def _compared(self, x: Tensor, aligned: Tensor, mask: Tensor) -> Tensor:
        """Returns the sum of the comparisons of a text's tokens, (batch, width)."""
        context = torch.relu(self.context(x.transpose(1, 2))).transpose(1, 2)
        pairs = torch.cat([(x - aligned).abs(), x * aligned, context], dim=2)
        compared = torch.relu(self.again(torch.relu(self.compare(pairs))))
        return (compared * mask[:, :, None]).mean(1)


def build(
    inputs: dict[str, dict[str, list[int]]],
    vocabulary: int = 8192,
    width: int = 64,
    hidden: list[int] | None = None,
) -> nn.Module:
    """Returns an untrained matcher.

    Args:
        inputs: filled in by qtool from the encoder; ``bank`` and ``ledger`` with their masks, and
            ``numbers``.
        vocabulary: numbers of tokens, padding included.
        width: of a token's vector.
        hidden: neurons of the head's layers; left out: 256 and 128.
    """
    return Matcher(
        numbers=inputs["numbers"]["shape"][0],
        vocabulary=vocabulary,
        width=width,
        hidden=hidden or [256, 128],
    )
