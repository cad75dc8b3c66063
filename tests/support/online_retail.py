"""Tables such as UCI Online Retail, of a few lines."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

BAG, MUG = ("85099B", "JUMBO BAG RED RETROSPOT"), ("21232", "STRAWBERRY CERAMIC MUG")
NAMES = ("InvoiceNo", "StockCode", "Description", "Quantity", "InvoiceDate", "UnitPrice")


def invoices(*lines):
    columns = dict(zip((*NAMES, "CustomerID", "Country"), zip(*lines, strict=True), strict=True))
    types = {"InvoiceDate": pa.timestamp("ms"), "CustomerID": pa.int32()}
    return pa.table({name: pa.array(x, types.get(name)) for name, x in columns.items()})


def moment(day, hour=10):
    return (np.datetime64("2010-12-01T00", "h") + 24 * day + hour).astype("datetime64[ms]")
