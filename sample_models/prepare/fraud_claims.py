"""Vehicle insurance claims: ``fraud_oracle.csv`` (known as carclaims), or the table as Parquet."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa

from qtool.data.generators import insurance_claims
from sample_models.prepare.tables import only, read_table


def prepare(files: Sequence[Path]) -> pa.Table:
    """Returns the claims in the columns of ``insurance_claims``.

    Source: Phua, Alahakoon and Lee 2004, ACM SIGKDD Explorations 6(1).
    """
    schema = insurance_claims.SCHEMA
    return read_table(only(files)).select(schema.names).cast(schema)
