"""Retrieval over annual reports: one encoder turns questions and passages into vectors.

A bi-encoder with shared weights (Karpukhin et al. 2020, arXiv 2004.04906), whose cosine similarity
ranks passages. A pre-norm Transformer reads the words and says how much each one counts here (Dai
and Callan 2020, "Context-aware term weighting for first stage passage retrieval", SIGIR); the
vector is the sum of the words' own vectors with these weights, and what the Transformer makes of
the whole. A few thousand questions cannot teach the meaning of words from nothing, but this network
starts near TF-IDF: random vectors keep the inner products of word counts (Johnson and
Lindenstrauss 1984), and as words are numbered by frequency, the logarithm of the number is nearly
the inverse document frequency (Zipf's law). What marks a passage starts as a long vector, which
does for the cosine what pivoted length normalization does for TF-IDF (Singhal, Buckley and Mitra
1996, SIGIR): that a passage is short must not count too much.

It returns one embedding per row. ``question_loss`` trains it, a ``function`` of ``training.loss``:
unlike the ``contrastive`` loss it does not drive passages apart, which share what marks them, but
from questions only. ``excerpts`` is its ``training.augment.function``.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

QUESTION, PASSAGE = 1, 2
"""First tokens of a text; words follow, each once, numbered by frequency."""
PIVOT = 4.0
"""About the length of the sum of a passage's word vectors, in lengths of one vector."""


class Layer(nn.Module):
    """Self-attention and feed-forward, each normalized before it."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value, self.out = (nn.Linear(width, width) for _ in range(4))
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        for last in (self.out, self.down):
            # At first a word is itself; with the usual deviation, training forgets the words.
            nn.init.normal_(last.weight, std=0.01)
            nn.init.zeros_(last.bias)

    def forward(self, x: Tensor, bias: Tensor | None = None) -> Tensor:
        """Returns (batch, steps, width); ``bias`` is added to the scores of attention."""
        query, key, value = self.projections(x)
        return self.mixed(x, query, key, value, bias)

    def projections(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Returns query, key and value of every step, each (batch, heads, steps, width / heads)."""
        y = self.norm1(x)
        batch, steps, width = x.shape

        def split(part: Tensor) -> Tensor:
            return part.reshape(batch, steps, self.heads, width // self.heads).transpose(1, 2)

        return split(self.query(y)), split(self.key(y)), split(self.value(y))

    def mixed(
        self, x: Tensor, query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None = None
    ) -> Tensor:
        """Returns (batch, steps, width): what attention and feed-forward add to ``x``, and it.

        Args:
            x: (batch, steps, width).
            query: (batch, heads, steps, width / heads).
            key: (batch, heads, keys, width / heads).
            value: as ``key``.
            bias: added to the scores (batch, heads, steps, keys).
        """
        scores = query @ key.transpose(2, 3) * query.shape[-1] ** -0.5
        attention = torch.softmax(scores if bias is None else scores + bias, -1)
        x = x + self.out((attention @ value).transpose(1, 2).reshape(x.shape))
        result: Tensor = x + self.down(functional.gelu(self.up(self.norm2(x))))
        return result


class TextEncoder(nn.Module):
    """Words into one vector; see ``build``."""

    def __init__(
        self, steps: int, vocabulary: int, width: int, layers: int, heads: int, embedding: int
    ) -> None:
        super().__init__()
        self.table = nn.Embedding(vocabulary, width)
        self.positions = nn.Parameter(torch.zeros(steps, width))
        self.layers = nn.ModuleList(Layer(width, heads) for _ in range(layers))
        self.norm, self.dropout = nn.LayerNorm(width), nn.Dropout(0.1)
        self.weight, self.meaning = nn.Linear(width, 1), nn.Linear(width, embedding)
        self.vectors = nn.Embedding(vocabulary, embedding)
        nn.init.normal_(self.table.weight, std=0.5)
        # All words count the same, and only words count, until training finds better.
        nn.init.zeros_(self.weight.weight)
        nn.init.ones_(self.weight.bias)
        nn.init.zeros_(self.meaning.weight)
        nn.init.zeros_(self.meaning.bias)
        rarity = torch.log1p(torch.arange(vocabulary)) / math.log(vocabulary)
        rarity[PASSAGE] = PIVOT
        with torch.no_grad():
            self.vectors.weight.mul_(rarity[:, None])

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """Returns float32 (batch, embedding).

        Args:
            tokens: int64 (batch, steps), what the text is and its words; 0 is padding.
            mask: int64 (batch, steps), 1 at words.
        """
        real = mask.to(torch.float32)
        bias = (1 - real)[:, None, None, :] * -1e4
        x = self.dropout(self.table(tokens) + self.positions)
        for layer in self.layers:
            x = layer(x, bias)
        x = self.norm(x)
        weights = torch.relu(self.weight(x)) * real[:, :, None]
        words = (weights.transpose(1, 2) @ self.vectors(tokens))[:, 0]
        whole = (x * real[:, :, None]).sum(1)
        embedding: Tensor = (words + self.meaning(whole)) / real.sum(1, keepdim=True)
        return embedding


def question_loss(
    outputs: dict[str, Tensor], labels: Tensor, inputs: dict[str, Tensor], temperature: float = 0.05
) -> Tensor:
    """Returns the mean of both directions of InfoNCE between the questions and the passages.

    Source: van den Oord et al. 2018, arXiv 1807.03748, equation 4, with cosine similarity; several
    partners of a row count alike (Khosla et al. 2020, arXiv 2004.11362, equation 2), rows without
    one only as wrong answers.

    Args:
        outputs: one embedding, (batch, d).
        labels: int64 (batch,).
        inputs: ``tokens`` says what is a question.
        temperature: divides the cosine similarities.
    """
    (embeddings,) = outputs.values()
    unit = functional.normalize(embeddings, dim=1)
    asks = inputs["tokens"][:, 0] == QUESTION
    similarity = unit[asks] @ unit[~asks].t() / temperature
    same = labels[asks][:, None] == labels[~asks]
    return 0.5 * (_info_nce(similarity, same) + _info_nce(similarity.t(), same.t()))


def _info_nce(similarity: Tensor, same: Tensor) -> Tensor:
    partners = same.sum(1)
    loss = -(similarity.log_softmax(1) * same).sum(1) / partners.clamp_min(1)
    return loss.sum() / (partners > 0).sum().clamp_min(1)


def excerpts(
    inputs: dict[str, Tensor], labels: Tensor, shortest: int = 6, longest: int = 20
) -> tuple[dict[str, Tensor], Tensor]:
    """Returns a batch in which rows without a partner get one: a few words of a passage, asked for.

    Rows of a random batch seldom belong together, and those that do are soon known by heart, at the
    expense of the words. Of the rows whose label no other row has, the shorter half becomes
    excerpts of the longer half, as questions.

    Source: the inverse cloze task of Lee, Chang and Toutanova 2019, arXiv 1906.00300, section 4,
    that keeps the excerpt in the passage.

    Args:
        inputs: ``tokens`` and ``mask``, int64 (batch, steps).
        labels: int64 (batch,).
        shortest: words of an excerpt.
        longest: words of an excerpt.
    """
    tokens, labels = inputs["tokens"].clone(), labels.clone()
    lengths = inputs["mask"].sum(1)
    alone = ((labels[:, None] == labels).sum(1) == 1).nonzero()[:, 0]
    alone = alone[lengths[alone].argsort(descending=True, stable=True)]
    half, steps = len(alone) // 2, torch.arange(tokens.shape[1])
    sources, replaced = alone[:half], alone[half : 2 * half]
    words = lengths[sources] - 1
    size = torch.randint(shortest, longest + 1, (half,)).minimum(words)
    first = 1 + (torch.rand(half) * (words - size + 1)).long()
    chosen = (first[:, None] - 1 + steps).clamp_max(tokens.shape[1] - 1)
    kept = (steps <= size[:, None]).to(tokens.dtype)
    excerpt = tokens[sources].gather(1, chosen) * kept
    excerpt[:, 0] = QUESTION
    tokens[replaced], labels[replaced] = excerpt, labels[sources]
    mask = inputs["mask"].clone()
    mask[replaced] = kept.to(mask.dtype)
    return {"tokens": tokens, "mask": mask}, labels


def build(
    inputs: dict[str, dict[str, list[int]]],
    vocabulary: int = 4096,
    width: int = 128,
    layers: int = 2,
    heads: int = 4,
    embedding: int = 1024,
) -> nn.Module:
    """Returns an untrained encoder.

    Args:
        inputs: filled in by qtool from the encoder; input ``tokens``, beside it its ``mask``.
        vocabulary: numbers of tokens, padding included.
        width: of the Transformer.
        layers: of the Transformer.
        heads: of each layer.
        embedding: numbers of the vector that is returned.
    """
    return TextEncoder(
        steps=inputs["tokens"]["shape"][0],
        vocabulary=vocabulary,
        width=width,
        layers=layers,
        heads=heads,
        embedding=embedding,
    )
