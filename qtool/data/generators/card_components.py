"""Card payments as principal components, with rare fraud: seeded, streaming, of any size.

**What a row is.** One card payment in the columns of the ULB set (Dal Pozzolo, Caelen, Johnson and
Bontempi 2015, CIDM, IEEE; 284,807 payments of two days): ``Time`` in seconds since the first,
``V1`` … ``V28``, components of features that the publisher keeps secret, ``Amount``, and ``Class``,
1 for fraud. Rows are in the order of time. The same rows and seed give the same data; the size of
the batches plays no part. No value is one of the ULB set.

**How it is made.** A legitimate payment is a point of a curved surface of ``BEHAVIOURS``
dimensions, whitened, so that components are uncorrelated but far from independent, plus noise; a
factor that all components share gives heavy tails. A fraud is such a payment moved along the
direction in which the frauds of the ULB set lie, far (most) or hardly at all (one in eight).

Statistics, in brackets those of the ULB set (``tests/data/test_card_components.py`` holds the
claims):

* Fraud: 1 % (0.17 %, at which an evaluation split would hold too few frauds to resolve a small
  change); of the payments between 1 and 5 a.m. three times as many.
* Components: standard deviations 1.9 to 0.35 (1.9 to 0.35), of legitimate rows correlations below
  0.1 (0.3), median excess kurtosis 13 (6; up to 650); mean square of the standardised components:
  median 0.7 (0.6), 99 % quantile 6 (7).
* Frauds, in standard deviations: ``V14`` lies 7 lower (median 7), ``V17`` 7 (7), ``V4`` 3 higher
  (3).
* ``Amount``: legitimate median 21, mean 75 (21, 85), correlation of its logarithm with ``V2`` -0.44
  (-0.47); of the frauds 24 % are exactly 1 (23 %), mean 100 (122).
* AUC of boosted trees 0.98 (0.98 to 0.99), of the Mahalanobis distance from legitimate payments
  0.94 (0.97), of an isolation forest 0.93 (0.95).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from qtool.data.generators.chunks import cut, fingerprint, random_stream

VERSION = 1
"""Raised with every change of the rows, so that fingerprints change with them."""

CHUNK_ROWS = 8_192
COMPONENTS = tuple(f"V{number}" for number in range(1, 29))
SCHEMA = pa.schema(
    [
        ("Time", pa.float64()),
        *((name, pa.float64()) for name in COMPONENTS),
        ("Amount", pa.float64()),
        ("Class", pa.int8()),
    ]
)
SECONDS = 172_800
FRAUD, AT_NIGHT = 0.0095, 3.0
"""Share of fraud by day, and how many times that it is at night."""
HIDDEN = 0.12
"""Share of the frauds that look nearly like other payments."""
BEHAVIOURS, FOLDS, NOISE = 6, 64, 0.35
FACTOR = 1.18
"""Root mean square of the factor that the components of a payment share."""
WORLD = 2**63
"""Number of the random stream that makes the surface, beyond those of the chunks."""
# Payments of each hour of the day, relative to noon.
HOURS = np.array([45, 25, 18, 18, 15, 18, 25, 45, 70, 95, 100, 102,
                  100, 100, 100, 100, 100, 98, 100, 95, 98, 102, 90, 65])  # fmt: skip
# Standard deviations of the legitimate rows, and the median move of the frauds in them.
DEVIATION = np.array([1.9, 1.6, 1.4, 1.4, 1.3, 1.3, 1.1, 1.1, 1.1, 1.0, 1.0, 0.9, 1.0, 0.9, 0.9,
                      0.8, 0.75, 0.8, 0.8, 0.75, 0.7, 0.7, 0.55, 0.6, 0.5, 0.5, 0.4,
                      0.35])  # fmt: skip
MOVE = np.array([-1.2, 1.7, -3.5, 3.0, -1.2, -1.1, -2.7, 0.6, -2.0, -4.4, 3.6, -5.9, -0.1, -7.3,
                 -0.1, -4.3, -7.1, -2.0, 0.8, 0.4, 0.9, 0.1, -0.1, -0.1, 0.2, 0.0, 1.0,
                 0.4])  # fmt: skip
OF_AMOUNT = {"V2": -0.47, "V5": -0.28, "V6": 0.16, "V20": 0.13}
"""What log amounts owe to components, as correlations."""

Float64 = NDArray[np.float64]
Surface = tuple[Float64, Float64, Float64, Float64, Float64]


@dataclass(frozen=True)
class CardComponents:
    """The source ``{generator: card_components, rows: …, seed: …}``."""

    rows: int
    seed: int

    @property
    def name(self) -> str:
        """What messages call the source."""
        return f"card_components(rows={self.rows}, seed={self.seed})"

    @property
    def schema(self) -> pa.Schema:
        """All columns."""
        return SCHEMA

    def fingerprint(self) -> str:
        """Returns the sha256 of kind, version, rows and seed."""
        return fingerprint("card_components", VERSION, self.rows, self.seed)

    def batches(self, columns: Sequence[str], batch_rows: int) -> Iterator[pa.RecordBatch]:
        """Yields the rows in time order."""
        surface = _surface(self.seed)
        for first in range(0, self.rows, CHUNK_ROWS):
            values = _chunk(self.rows, self.seed, first, surface)
            batch = pa.RecordBatch.from_arrays(
                [pa.array(values[name], SCHEMA.field(name).type) for name in columns],
                names=list(columns),
            )
            yield from cut(batch.slice(0, self.rows - first), batch_rows)


def _chunk(rows: int, seed: int, first: int, surface: Surface) -> dict[str, NDArray[np.float64]]:
    """Returns the columns of ``CHUNK_ROWS`` payments from row ``first`` on."""
    random = random_stream(seed, first // CHUNK_ROWS)
    position = (first + np.arange(CHUNK_ROWS) + random.random(CHUNK_ROWS)) / rows
    time = np.floor(_seconds(position))
    hour = time // 3_600 % 24
    night = (hour >= 1) & (hour < 5)
    fraud = random.random(CHUNK_ROWS) < FRAUD * np.where(night, AT_NIGHT, 1.0)
    relative = _legitimate(surface, random)
    owed = sum(share * relative[:, COMPONENTS.index(name)] for name, share in OF_AMOUNT.items())
    free = np.sqrt(1 - sum(share**2 for share in OF_AMOUNT.values()))
    # An extreme payment is extreme in its components, not in its amount as well.
    amount = np.exp(3.05 + 1.6 * (np.clip(owed, -2, 2) + free * random.standard_normal(CHUNK_ROWS)))
    kind, size = random.random((2, CHUNK_ROWS))
    stolen = np.exp(3.6 + 1.6 * random.standard_normal(CHUNK_ROWS))
    stolen = np.where(kind < 0.05, 0.0, np.where(kind < 0.29, 1.0, np.minimum(stolen, 2_200)))
    far = random.gamma(3.5, 1 / 3.2, CHUNK_ROWS)
    moved = np.where(size < HIDDEN, 0.1 * far, far) * fraud
    spread = np.exp(0.35 * random.standard_normal((CHUNK_ROWS, len(COMPONENTS))))
    relative += moved[:, np.newaxis] * MOVE * spread
    components = dict(zip(COMPONENTS, (DEVIATION * relative).T, strict=True))
    amounts = np.round(np.where(fraud, stolen, np.minimum(amount, 25_000)), 2)
    return {"Time": time, **components, "Amount": amounts, "Class": fraud.astype(np.float64)}


def _surface(seed: int) -> Surface:
    """Returns two layers of weights, their points' mean, and deviations with all that is added."""
    random = random_stream(seed, WORLD)
    bend = random.standard_normal((BEHAVIOURS, FOLDS))
    offset = random.standard_normal(FOLDS)
    mix = random.standard_normal((FOLDS, len(COMPONENTS)))
    points = np.tanh(random.standard_normal((20_000, BEHAVIOURS)) @ bend + offset) @ mix
    values, vectors = np.linalg.eigh(np.cov(points.T))
    # Whitened in full, directions that hardly vary would be noise.
    whitening = (vectors / np.sqrt(values + 0.02 * values.max()))[:, ::-1]
    kept = values[::-1] / (values[::-1] + 0.02 * values.max())
    deviation = FACTOR * np.sqrt(kept + NOISE**2)
    return bend, offset, mix @ whitening, points.mean(axis=0) @ whitening, deviation


def _legitimate(surface: Surface, random: np.random.Generator) -> Float64:
    """Returns components in standard deviations, (CHUNK_ROWS, 28)."""
    bend, offset, mix, mean, deviation = surface
    behaviour = random.standard_normal((CHUNK_ROWS, BEHAVIOURS))
    point = np.tanh(behaviour @ bend + offset) @ mix - mean
    point += NOISE * random.standard_normal(point.shape)
    rare = random.random(CHUNK_ROWS) < 0.04
    factor = np.exp(0.25 * random.standard_normal(CHUNK_ROWS))
    factor *= np.where(rare, 1 + random.exponential(1.3, CHUNK_ROWS), 1.0)
    relative: Float64 = factor[:, np.newaxis] * point / deviation
    return relative


def _seconds(position: Float64) -> Float64:
    """Returns the time of the share ``position`` of all payments."""
    reached = np.concatenate([[0], np.cumsum(np.tile(HOURS, SECONDS // 86_400))])
    seconds: Float64 = np.interp(
        position * reached[-1], reached, np.linspace(0, SECONDS, len(reached))
    )
    return seconds
