"""What a source of rows is, and which kind a configured source opens."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Protocol

import pyarrow as pa

from qtool.config.data import GeneratorSource
from qtool.data.csv import open_csv
from qtool.data.files import find_files
from qtool.data.generators.bank_calls import BankCalls
from qtool.data.generators.bank_statements import BankStatements
from qtool.data.generators.card_components import CardComponents
from qtool.data.generators.card_transactions import CardTransactions
from qtool.data.generators.cash_machines import CashMachines
from qtool.data.generators.company_accounts import CompanyAccounts
from qtool.data.generators.credit_clients import CreditClients
from qtool.data.generators.customer_messages import CustomerMessages
from qtool.data.generators.finance_text import FinanceText
from qtool.data.generators.heston_options import HestonOptions
from qtool.data.generators.insurance_claims import InsuranceClaims
from qtool.data.generators.macro_quarters import MacroQuarters
from qtool.data.generators.market_regimes import MarketRegimes
from qtool.data.generators.monthly_series import MonthlySeries
from qtool.data.generators.order_books import OrderBooks
from qtool.data.generators.parent_orders import ParentOrders
from qtool.data.generators.receipts import Receipts
from qtool.data.generators.report_questions import ReportQuestions
from qtool.data.generators.shop_baskets import ShopBaskets
from qtool.data.generators.shop_customers import ShopCustomers
from qtool.data.npz import open_npz
from qtool.data.parquet import open_parquet
from qtool.errors import DataError


class Source(Protocol):
    """Rows in a fixed order, read as a stream of record batches."""

    @property
    def name(self) -> str:
        """What messages call the source."""

    @property
    def schema(self) -> pa.Schema:
        """All columns and their types."""

    def fingerprint(self) -> str:
        """Returns a sha256 hex digest that changes when a row could."""

    def batches(self, columns: Sequence[str], batch_rows: int) -> Iterator[pa.RecordBatch]:
        """Yields all rows in order, at most ``batch_rows`` at a time (batches may be smaller)."""


OPENERS: dict[str, Callable[[str, tuple[Path, ...]], Source]] = {
    ".parquet": open_parquet,
    ".csv": open_csv,
    ".npz": open_npz,
}
GENERATORS: dict[str, Callable[[int, int], Source]] = {
    "bank_calls": BankCalls,
    "bank_statements": BankStatements,
    "card_components": CardComponents,
    "card_transactions": CardTransactions,
    "cash_machines": CashMachines,
    "company_accounts": CompanyAccounts,
    "credit_clients": CreditClients,
    "customer_messages": CustomerMessages,
    "finance_text": FinanceText,
    "heston_options": HestonOptions,
    "insurance_claims": InsuranceClaims,
    "macro_quarters": MacroQuarters,
    "market_regimes": MarketRegimes,
    "monthly_series": MonthlySeries,
    "order_books": OrderBooks,
    "parent_orders": ParentOrders,
    "receipts": Receipts,
    "report_questions": ReportQuestions,
    "shop_baskets": ShopBaskets,
    "shop_customers": ShopCustomers,
}


def open_source(section: Path | GeneratorSource) -> Source:
    """Returns the source that ``data.source`` names.

    Args:
        section: a file, a glob (``dir/part-*.parquet``) or a directory of Parquet, CSV or NPZ
            files, read in the order of their paths; or a generator.

    Raises:
        DataError: nothing found, not readable, an unknown or mixed format, a corrupt file, no rows.
    """
    if isinstance(section, GeneratorSource):
        return GENERATORS[section.generator](section.rows, section.seed)
    files = find_files(section)
    formats = sorted({file.suffix.lower() for file in files})
    if len(formats) > 1:
        raise DataError(
            str(section),
            f"files of several formats: {', '.join(name or 'no extension' for name in formats)}",
            "files of one format",
            "Name the files with a glob, as in 'directory/*.parquet'.",
        )
    if formats[0] not in OPENERS:
        raise DataError(
            str(section),
            f"a file with {f'extension {formats[0]}' if formats[0] else 'no extension'}",
            f"one of {', '.join(OPENERS)}",
        )
    return OPENERS[formats[0]](str(section), files)
