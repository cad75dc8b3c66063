"""Search in an index of passages: FP32 vectors beside an INT8 encoder with INT8 vectors, in Faiss.

Faiss (Douze et al. 2024, arXiv 2401.08281) searches all vectors, or a graph of them (HNSW, Malkov
and Yashunin 2018, arXiv 1603.09320). INT8 vectors are its ``QT_8bit_direct_signed``, products of
codes with codes: a quarter of the memory, and with AVX-512 a third of the time (1,000 vectors of
1,024 numbers, one thread: 19 us, float32 55 us; usearch with int8: 47 us).
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qtool.data.batch import Batch, labels_of
from qtool.evaluation.system import Predict

NEAREST = 10
CHUNK_ROWS = 64
"""Passages encoded at a time."""
LARGEST = 127

Floats = NDArray[np.float64]
Vectors = NDArray[np.float32]
Rows = NDArray[np.int64]


def search(
    fp32: Predict, int8: Predict, rows: Batch, query: str, links: int = 0
) -> dict[str, tuple[Floats, Floats]]:
    """Returns what a search finds, takes and holds, with the FP32 and with the INT8 system.

    Args:
        fp32: the encoder that is replaced; its first output is the vector of each row.
        int8: the encoder that replaces it.
        rows: queries and passages; their labels say which belong together.
        query: column that is true where a row is a query.
        links: of each vector in an HNSW graph; 0: all vectors are compared.

    Returns:
        ``index_recall_at_10`` and ``index_ndcg_at_10`` of every query that has a passage,
        (queries,); ``end_to_end_ms`` (1,), the median time to encode and find one query, and
        ``index_mb`` (1,), the size of the index in 10^6 bytes.
    """
    labels, asks = labels_of(rows), rows.columns[query] > 0
    passages = np.flatnonzero(~asks)
    queries: Rows = np.flatnonzero(asks & np.isin(labels, labels[passages]))
    sides = [
        _Index(model, _encoded(model, rows, passages), bits, links)
        for model, bits in ((fp32, 32), (int8, 8))
    ]
    relevant = (labels[queries, None] == labels[passages]).sum(axis=1)
    gains = np.zeros((2, len(queries), NEAREST))
    seconds = np.zeros((2, len(queries)))
    for place, row in enumerate(queries):
        one = _taken(rows, queries[place : place + 1])
        # The next query is met in the other order: the second finds its passages in the cache.
        for side in (0, 1) if place % 2 else (1, 0):
            started = time.perf_counter()
            near = sides[side].nearest(one)
            seconds[side, place] = time.perf_counter() - started
            gains[side, place, : len(near)] = labels[passages[near]] == labels[row]
    recall, ndcg = gains.sum(axis=2) / relevant, _ndcg(gains, relevant)
    milliseconds = 1000 * np.median(seconds, axis=1)
    megabytes = np.array([side.size_bytes() / 1e6 for side in sides])
    return {
        "index_recall_at_10": (recall[0], recall[1]),
        "index_ndcg_at_10": (ndcg[0], ndcg[1]),
        "end_to_end_ms": (milliseconds[:1], milliseconds[1:]),
        "index_mb": (megabytes[:1], megabytes[1:]),
    }


class _Index:
    """Passages in Faiss, by cosine, and the encoder of what is looked for."""

    def __init__(self, encoder: Predict, passages: Vectors, bits: int, links: int) -> None:
        import faiss

        faiss.omp_set_num_threads(1)
        self.encoder, self.bits = encoder, bits
        width, metric = passages.shape[1], faiss.METRIC_INNER_PRODUCT
        signed: Any = faiss.ScalarQuantizer.QT_8bit_direct_signed
        self.index: Any
        if links and bits == 8:
            self.index = faiss.IndexHNSWSQ(width, signed, links, metric)
        elif links:
            self.index = faiss.IndexHNSWFlat(width, links, metric)
        elif bits == 8:
            self.index = faiss.IndexScalarQuantizer(width, signed, metric)
        else:
            self.index = faiss.IndexFlat(width, metric)
        self.index.train(self._stored(passages))
        self.index.add(self._stored(passages))

    def nearest(self, inputs: Mapping[str, NDArray[Any]]) -> Rows:
        """Returns the places of the passages nearest to one row, the nearest first."""
        _, found = self.index.search(self._stored(_unit(self.encoder(inputs))), NEAREST)
        near: Rows = found[0]
        return near[near >= 0]

    def _stored(self, vectors: Vectors) -> Vectors:
        """Returns vectors as they are, or as codes with one scale, which changes no order."""
        if self.bits != 8:
            return vectors
        codes: Vectors = np.rint(vectors * (LARGEST / np.abs(vectors).max()))
        return codes

    def size_bytes(self) -> int:
        """Returns the size of the index as a file."""
        import faiss

        return int(faiss.serialize_index(self.index).nbytes)


def _ndcg(gains: NDArray[np.float64], relevant: Rows) -> Floats:
    """Returns the normalized discounted cumulative gain, as ``evaluation.metrics`` has it."""
    discounts = 1 / np.log2(np.arange(2, NEAREST + 2))
    ideal = np.cumsum(discounts)[np.minimum(relevant, NEAREST) - 1]
    found: Floats = (gains * discounts).sum(axis=2) / ideal
    return found


def _encoded(model: Predict, rows: Batch, chosen: Rows) -> Vectors:
    parts = [
        _unit(model(_taken(rows, chosen[first : first + CHUNK_ROWS])))
        for first in range(0, len(chosen), CHUNK_ROWS)
    ]
    return np.concatenate(parts)


def _taken(rows: Batch, chosen: Rows) -> dict[str, NDArray[Any]]:
    return {name: array[chosen] for name, array in rows.inputs.items()}


def _unit(outputs: Mapping[str, NDArray[Any]]) -> Vectors:
    vectors = next(iter(outputs.values()))
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit: Vectors = np.ascontiguousarray(vectors / np.maximum(lengths, 1e-12), dtype=np.float32)
    return unit
