"""The losses that a config can name: means over the rows of a mini-batch, shape ()."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

SMALLEST_LOG_VARIANCE, LARGEST_LOG_VARIANCE = -12.0, 12.0
"""Beyond, a variance says only that training diverges."""


def binary_cross_entropy(logits: Tensor, labels: Tensor, positive_weight: float = 1.0) -> Tensor:
    """Returns the cross-entropy of logits (rows,) with labels 0 and 1 or between, (rows,)."""
    weight = torch.tensor(positive_weight, device=logits.device)
    return functional.binary_cross_entropy_with_logits(logits, labels.float(), pos_weight=weight)


def binary_focal(
    logits: Tensor, labels: Tensor, gamma: float, positive_weight: float = 1.0
) -> Tensor:
    """Returns cross-entropy times (1 - p)^gamma, p the probability of the true class.

    Source: Lin et al. 2017, "Focal loss for dense object detection", arXiv 1708.02002, equation 4.
    """
    labels = labels.float()
    true = torch.where(labels > 0.5, logits, -logits)
    weight = torch.where(labels > 0.5, positive_weight, 1.0)
    # In logarithms: where p rounds to 1, a power below 1 of 1 - p has an infinite gradient.
    factor = torch.exp(gamma * functional.logsigmoid(-true))
    return (-weight * factor * functional.logsigmoid(true)).mean()


def focal(logits: Tensor, labels: Tensor, gamma: float) -> Tensor:
    """Returns the focal loss of logits (rows, classes) with integer labels (rows,)."""
    chosen = labels.long()[:, None]
    log_p = functional.log_softmax(logits, dim=1).gather(1, chosen)[:, 0]
    others = logits.scatter(1, chosen, -torch.inf)
    # In logarithms, as above.
    log_rest = others.logsumexp(dim=1) - logits.logsumexp(dim=1)
    return (-torch.exp(gamma * log_rest) * log_p).mean()


def cross_entropy(
    logits: Tensor, labels: Tensor, weights: list[float] | None = None, smoothing: float = 0.0
) -> Tensor:
    """Returns the cross-entropy of logits (rows, classes) with integer labels (rows,).

    With ``weights`` it is the mean over the sum of the rows' weights.
    """
    weight = None if weights is None else torch.tensor(weights, device=logits.device)
    return functional.cross_entropy(logits, labels.long(), weight=weight, label_smoothing=smoothing)


def next_token(logits: Tensor, tokens: Tensor) -> Tensor:
    """Returns the cross-entropy of logits (n, vocabulary) with tokens (n,); 0 of no tokens.

    A mini-batch, or the share of one process, may hold nothing but padding.
    """
    return functional.cross_entropy(logits, tokens, reduction="sum") / max(1, len(tokens))


def pinball(predictions: Tensor, labels: Tensor, quantiles: list[float]) -> Tensor:
    """Returns the mean of max(q * e, (q - 1) * e), e = label - prediction.

    Source: Koenker and Bassett 1978, "Regression quantiles", Econometrica 46(1).

    Args:
        predictions: (rows, targets, quantiles).
        labels: (rows, targets).
        quantiles: in the order of the last axis.
    """
    q = torch.tensor(quantiles, device=predictions.device)
    error = labels[..., None] - predictions
    return torch.maximum(q * error, (q - 1) * error).mean()


def gaussian_nll(means: Tensor, log_variances: Tensor, labels: Tensor) -> Tensor:
    """Returns the mean negative log-likelihood of normal distributions, all (rows, targets).

    Source: Nix and Weigend 1994, "Estimating the mean and variance of the target distribution".
    """
    log_variances = log_variances.clamp(SMALLEST_LOG_VARIANCE, LARGEST_LOG_VARIANCE)
    squared = (labels - means) ** 2 * torch.exp(-log_variances)
    return 0.5 * (log_variances + squared + math.log(2 * math.pi)).mean()


def info_nce(left: Tensor, right: Tensor, temperature: float) -> Tensor:
    """Returns the mean of both directions of InfoNCE; row i of one output belongs to row i.

    Source: van den Oord et al. 2018, arXiv 1807.03748, equation 4, with cosine similarity and
    both directions as in Radford et al. 2021, arXiv 2103.00020, figure 3.

    Args:
        left: (rows, d).
        right: (rows, d).
        temperature: divides the cosine similarities.
    """
    left, right = functional.normalize(left, dim=1), functional.normalize(right, dim=1)
    similarity = left @ right.t() / temperature
    own = torch.arange(len(left), device=left.device)
    there = functional.cross_entropy(similarity, own)
    return 0.5 * (there + functional.cross_entropy(similarity.t(), own))


def supervised_contrastive(embeddings: Tensor, labels: Tensor, temperature: float) -> Tensor:
    """Returns the mean loss of the rows that share their label with another row of the batch.

    Source: Khosla et al. 2020, "Supervised contrastive learning", arXiv 2004.11362, equation 2.

    Args:
        embeddings: (rows, d).
        labels: integers, (rows,).
        temperature: divides the cosine similarities.
    """
    unit = functional.normalize(embeddings, dim=1)
    itself = torch.eye(len(unit), dtype=torch.bool, device=unit.device)
    similarity = (unit @ unit.t() / temperature).masked_fill(itself, -torch.inf)
    log_p = similarity.log_softmax(dim=1).masked_fill(itself, 0.0)
    same = (labels[:, None] == labels[None, :]) & ~itself
    partners = same.sum(dim=1)
    loss = -(log_p * same).sum(dim=1) / partners.clamp_min(1)
    return loss.sum() / (partners > 0).sum().clamp_min(1)


def soft_binary(logits: Tensor, teacher: Tensor, temperature: float = 1.0) -> Tensor:
    """Returns the cross-entropy with the teacher's probabilities, both logits (rows,).

    Source: Hinton et al. 2015, "Distilling the knowledge in a neural network", arXiv 1503.02531,
    section 2, for two classes; smallest where both give the same score.
    """
    soft = torch.sigmoid(teacher / temperature)
    return temperature**2 * binary_cross_entropy(logits / temperature, soft)


def soft_classes(logits: Tensor, teacher: Tensor, temperature: float = 1.0) -> Tensor:
    """Returns the cross-entropy with the teacher's probabilities, both logits (rows, classes).

    It is 0 without rows, as ``next_token``.

    Source: Hinton et al. 2015, arXiv 1503.02531, section 2; the square of the temperature keeps
    the size of the gradient.
    """
    soft = torch.softmax(teacher / temperature, dim=1)
    total = functional.cross_entropy(logits / temperature, soft, reduction="sum")
    return temperature**2 * total / max(1, len(logits))


def feature_distance(feature: Tensor, teacher: Tensor) -> Tensor:
    """Returns the squared difference over the teacher's mean square: 0 equal, 1 unrelated.

    Source: Romero et al. 2015, "FitNets", arXiv 1412.6550, equation 3, made free of scale.
    """
    return (feature - teacher).square().mean() / teacher.square().mean().clamp_min(1e-12)
