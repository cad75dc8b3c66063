"""Personalisation: what a customer orders next, by a tower for customers and one for items.

Two towers whose vectors are compared by their cosine (Yi et al. 2019, "Sampling-bias-corrected
neural modeling for large corpus item recommendations", RecSys; three dense layers of 1024, 512 and
128 as there). The customer is what it entered last (Covington, Adams and Sargin 2016, "Deep neural
networks for YouTube recommendations", RecSys, figure 3), here as three vectors: the line before,
the mean of all, and their mean weighted by attention; and the words of the line before, as lines
that follow each other are often variants of one thing. An item has the tables of the histories and
of the words, its price and its sales. To each tower a linear one is added (Cheng et al. 2016, "Wide
& deep learning for recommender systems", arXiv 1606.07792), which learns from few orders what the
dense layers then refine.

It returns a dict: ``embedding`` is exported, the vector of the customer or of the item, as
``is_customer`` says; ``of_customer`` and ``of_item`` are for ``sampled_softmax``, a ``function`` of
``training.loss`` that compares each customer of a batch with the items of all of them.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

SALES = 1
"""Column of ``about``: the logarithm of 1 + lines that were sold."""


class Tower(nn.Module):
    """Dense layers with ReLU between them, and one beside them."""

    def __init__(self, widths: list[int], dropout: float) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for width, next_width in pairwise(widths):
            layers += [nn.Linear(width, next_width), nn.ReLU()]
        self.deep, self.wide = nn.Sequential(*layers[:-1]), nn.Linear(widths[0], widths[-1])
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Returns (batch, last width)."""
        x = self.dropout(x)
        result: Tensor = self.deep(x) + self.wide(x)
        return result


class TwoTowers(nn.Module):
    """Customers and items into vectors of one space; see ``build``."""

    def __init__(
        self,
        steps: int,
        countries: int,
        items: int,
        words: int,
        width: int,
        hidden: list[int],
        embedding: int,
        dropout: float,
    ) -> None:
        super().__init__()
        self.items = nn.Embedding(items, width, padding_idx=0)
        self.words = nn.Embedding(words, width, padding_idx=0)
        self.countries = nn.Embedding(countries, 8)
        self.positions = nn.Parameter(torch.zeros(steps, width))
        self.attention = nn.Linear(width, 1)
        for table in (self.items, self.words):
            with torch.no_grad():
                table.weight.mul_(0.3)
        self.customer = Tower([4 * width + 8, *hidden, embedding], dropout)
        self.item = Tower([2 * width + 2, *hidden, embedding], dropout)

    def forward(
        self,
        history: Tensor,
        history_mask: Tensor,
        last_words: Tensor,
        country: Tensor,
        item: Tensor,
        words: Tensor,
        about: Tensor,
        is_customer: Tensor,
    ) -> dict[str, Tensor]:
        """Returns ``embedding``, ``of_customer`` and ``of_item``, each float32 (batch, embedding).

        Args:
            history: int64 (batch, steps), items, the latest first; 0 is padding.
            history_mask: int64 (batch, steps), 1 at items.
            last_words: int64 (batch, words), of the latest item; 0 is padding.
            country: int64 (batch, 1), code.
            item: int64 (batch, 1).
            words: int64 (batch, words), of the item; 0 is padding.
            about: float32 (batch, 2), logarithms of the item's price and sales.
            is_customer: float32 (batch, 1), 1 for a customer, 0 for an item.
        """
        real = history_mask.to(torch.float32)
        x = self.items(history)
        scores = self.attention(x + self.positions)[:, :, 0] + (1 - real) * -1e4
        attended = (torch.softmax(scores, 1)[:, None, :] @ x)[:, 0]
        # Padding is the vector 0.
        mean = x.sum(1) / real.sum(1, keepdim=True).clamp_min(1)
        said = self.words(last_words).sum(1)
        parts = [x[:, 0], mean, attended, said, self.countries(country[:, 0])]
        customer = self.customer(torch.cat(parts, 1))
        described = [self.items(item[:, 0]), self.words(words).sum(1), about]
        found = self.item(torch.cat(described, 1))
        chosen = torch.where(is_customer > 0.5, customer, found)
        return {"embedding": chosen, "of_customer": customer, "of_item": found}


def sampled_softmax(
    outputs: dict[str, Tensor], labels: Tensor, inputs: dict[str, Tensor], temperature: float = 0.05
) -> Tensor:
    """Returns the cross-entropy of each customer's next item among those of the batch.

    An item is drawn into a batch as often as it is sold, so the logarithm of its sales is taken off
    its logit; the same item again in a batch is no wrong answer.

    Source: Yi et al. 2019, equations 4 to 6.

    Args:
        outputs: ``of_customer`` and ``of_item`` of the same rows, (batch, d).
        labels: int64 (batch,), the item.
        inputs: ``is_customer`` says which rows are pairs, ``about`` has the sales.
        temperature: divides the cosine similarities.
    """
    asks = inputs["is_customer"][:, 0] > 0.5
    pair = (outputs[name][asks] for name in ("of_customer", "of_item"))
    customer, item = (functional.normalize(vectors, dim=1) for vectors in pair)
    logits = customer @ item.t() / temperature - inputs["about"][asks, SALES]
    wanted = labels[asks]
    own = torch.arange(len(wanted), device=wanted.device)
    again = (wanted[:, None] == wanted) & (own[:, None] != own)
    logits = logits.masked_fill(again, -torch.inf)
    return functional.cross_entropy(logits, own, reduction="sum") / max(1, len(wanted))


def build(
    inputs: dict[str, dict[str, list[int]]],
    items: int = 3072,
    words: int = 2048,
    width: int = 128,
    hidden: list[int] | None = None,
    embedding: int = 128,
    dropout: float = 0.3,
) -> nn.Module:
    """Returns untrained towers.

    Args:
        inputs: filled in by qtool from the encoder; inputs ``history`` and ``country`` among them.
        items: numbers of items, padding included.
        words: numbers of words, padding included.
        width: of the vectors of items and words in the tables.
        hidden: widths of the hidden layers of each tower.
        embedding: numbers of the vector that is returned.
        dropout: of what the towers read.
    """
    return TwoTowers(
        steps=inputs["history"]["shape"][0],
        countries=inputs["country"]["cardinalities"][0],
        items=items,
        words=words,
        width=width,
        hidden=[1024, 512] if hidden is None else hidden,
        embedding=embedding,
        dropout=dropout,
    )
