"""Card transactions with fraud labels: seeded, streaming, of any size.

**What a row is.** One authorised card payment, in time order over 180 days from 2024-01-01 (UTC). A
feature such as ``transactions_24h`` is what a real-time feature store would deliver; it is drawn
from the card's habits and not counted over the rows, so that a chunk can be made without those
before it. The same rows and seed give the same data; the size of the batches plays no part.

Statistics of 1,000,000 rows with seed 7 (``tests/data/test_card_transactions.py`` holds the
claims):

* Fraud: 0.97 % of the rows, from 0.5 % (grocery stores) to 4 % (money transfer). The public ULB
  data has 0.17 % (492 of 284,807); at that rate an evaluation split of 60,000 rows holds 100
  frauds, too few to tell a small change of the AUC from noise. At 1 % it holds 600. Other seeds:
  0.9 % to 1.1 %.
* Amounts: log-normal around the median of the merchant category (9 to 260) times the card's
  spending; 2 % of the rows are multiplied by a Pareto factor with tail index 1.5; prices grow by 4
  % over the period. Median 29, mean 68, 99.9 % quantile 2,000, largest 180,000.
* Merchants: 2,000, Zipf with exponent 1.1 (the largest has 17 % of the rows), each of one category,
  in one country and with its own fraud propensity. Categories are ISO 18245 codes.
* Cards: one per 20 rows, at least 1,000; some pay far more often than others.
* Time: peaks at noon and in the early evening, few payments at night.
* The label is drawn from a known probability (``fraud.py``), so the best possible AUC is known:
  0.95. It has thresholds and interactions: a new device matters only online and distance only where
  a card is present; many payments with tiny amounts are card testing; an amount is suspicious when
  it is far from the card's habit in either direction. Logistic regression on the same columns
  reaches 0.88, boosted trees 0.94.
* Drift: over the period a new device becomes a weaker sign of fraud and card testing a stronger
  one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa

from qtool.data.generators.chunks import cut, fingerprint
from qtool.data.generators.payments import CHUNK_ROWS, Columns, make_chunk
from qtool.data.generators.population import CHANNELS, COUNTRIES, PRODUCTS, make_merchants

VERSION = 1
"""Raised with every change of the rows, so that fingerprints change with them."""

SCHEMA = pa.schema(
    [
        ("timestamp", pa.timestamp("s")),
        ("card_id", pa.int64()),
        ("merchant_id", pa.int32()),
        ("mcc", pa.int32()),
        ("merchant_country", pa.string()),
        ("channel", pa.string()),
        ("card_product", pa.string()),
        ("amount", pa.float64()),
        ("amount_to_card_average", pa.float64()),
        ("transactions_24h", pa.int32()),
        ("minutes_since_last", pa.float64()),
        ("distance_from_home_km", pa.float64()),
        ("hour_of_day", pa.int32()),
        ("device_age_days", pa.float64()),
        ("card_age_days", pa.float64()),
        ("declines_24h", pa.int32()),
        ("is_fraud", pa.int8()),
    ]
)


@dataclass(frozen=True)
class CardTransactions:
    """The source ``{generator: card_transactions, rows: …, seed: …}``."""

    rows: int
    seed: int

    @property
    def name(self) -> str:
        """What messages call the source."""
        return f"card_transactions(rows={self.rows}, seed={self.seed})"

    @property
    def schema(self) -> pa.Schema:
        """All columns."""
        return SCHEMA

    def fingerprint(self) -> str:
        """Returns the sha256 of kind, version, rows and seed."""
        return fingerprint("card_transactions", VERSION, self.rows, self.seed)

    def batches(self, columns: Sequence[str], batch_rows: int) -> Iterator[pa.RecordBatch]:
        """Yields the rows in time order."""
        merchants = make_merchants(self.seed)
        for chunk in range(-(-self.rows // CHUNK_ROWS)):
            values, _ = make_chunk(self.rows, self.seed, chunk, merchants)
            yield from cut(_record_batch({name: values[name] for name in columns}), batch_rows)


def _record_batch(values: Columns) -> pa.RecordBatch:
    texts = {"merchant_country": COUNTRIES, "channel": CHANNELS, "card_product": PRODUCTS}
    arrays = [
        pa.DictionaryArray.from_arrays(codes, list(texts[name])).dictionary_decode()
        if name in texts
        else pa.array(codes).cast(SCHEMA.field(name).type)
        for name, codes in values.items()
    ]
    return pa.RecordBatch.from_arrays(arrays, names=list(values))
