"""Remittances: how customers pay invoices, and what is left of an invoice in the bank's text.

The part of ``bank_statements`` that does not know where invoices come from: ``sample_models``
pays the invoices of a public data set in the same way. What is drawn here, and how often, is in
``KINDS``, ``REFERENCES`` and ``NAMES``; names of companies are made of words and belong to the
customer's number, for public data have no names.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

from qtool.data.generators.chunks import random_stream

TOKENS = 8192
"""Numbers of tokens; 0 is for padding."""
KINDS = {"full": 0.8, "discount": 0.06, "split": 0.06, "short": 0.08}
"""How an invoice is paid that is neither from abroad nor paid with others, and how often."""
UNPAID, UNKNOWN = 0.06, 0.06
"""Shares: of invoices that nobody pays, and of payments that belong to no invoice."""
REFERENCES = {
    "number": 0.55, "parts": 0.06, "last digits": 0.09, "typing error": 0.06,
    "an earlier one": 0.03, "customer": 0.07, "none": 0.14,
}  # fmt: skip
"""What the text has of the invoice's number, and how often."""
NAMES = {"whole": 0.52, "cut": 0.18, "short": 0.14, "another payer": 0.05, "none": 0.11}
"""What the text has of the customer's name, and how often."""
TYPING_ERROR, TRACE = 0.08, 0.3
"""Shares of texts: with a wrong letter in the name, and with a number of the bank's own."""
TOGETHER = 0.25
"""Share of customers that pay several invoices at once."""
LONGEST = 60
"""Characters of a text that the bank passes on."""
HEADS = ("", "BGC", "TFR", "FASTER PAYMENT", "SEPA CREDIT", "CHAPS")
PREFIXES = ("", "", "INV ", "INV", "RE ", "REF ", "NO ")
WORDS = (
    "ABBEY ACORN ALBION AMBER ANCHOR APEX ARCADIA ASHDOWN ATLAS AURORA BEACON BIRCH BRIDGE CASTLE "
    "CEDAR CLOVER COBALT CORAL CRESCENT CROWN DELTA EAGLE EMERALD FALCON FERN FOREST GLENN GRANGE "
    "HARBOUR HAWTHORN HAZEL HERON HIGHLAND IVORY JUNIPER KESTREL LAUREL LINDEN MAPLE MARINER "
    "MEADOW MERCURY NORTHERN OAKLEY ORCHARD PARAGON PEAK PENINE PHOENIX PINNACLE QUAYSIDE REGENT "
    "RIVERSIDE ROWAN SAPPHIRE SILVER STERLING SUMMIT THISTLE TRIDENT UNION VICTORIA WILLOW YORK"
)
TRADES = (
    "ANTIQUES BAZAAR BOUTIQUE COLLECTIVE CRAFTS DECOR DESIGN EMPORIUM FLORISTS FURNISHINGS GALLERY "
    "GARDENS GIFTS GOODS HOMEWARE IMPORTS INTERIORS LIFESTYLE MARKET NOVELTIES PARTYWARE RETAIL "
    "STORES SUPPLIES TOYS TRADING VINTAGE WHOLESALE"
)
FORMS = ("LTD", "LIMITED", "PLC", "LLP", "AND SONS", "GROUP", "")


@dataclass(frozen=True)
class Invoice:
    """An open item of the ledger; days are counted from 1970-01-01, amounts are in pounds."""

    number: int
    customer: int
    foreign: bool
    issued: int
    amount: float


@dataclass(frozen=True)
class BankLine:
    """A payment on a bank statement; ``pays`` are positions among the invoices."""

    day: int
    text: str
    amount: float
    pays: tuple[int, ...]
    kind: str


@dataclass(frozen=True)
class Customer:
    """Who pays, ``late`` days after the ``terms``."""

    number: int
    name: tuple[str, ...]
    terms: int
    late: int
    together: bool


@cache
def customer(number: int) -> Customer:
    """Returns the customer of a number, always the same."""
    random = random_stream(number, 0)
    parts = (str(random.choice(part)) for part in (WORDS.split(), TRADES.split(), FORMS))
    return Customer(
        number,
        tuple(part for part in parts if part),
        terms=int(random.choice([14, 30, 60], p=[0.3, 0.6, 0.1])),
        late=int(random.normal(2, 5)),
        together=bool(random.random() < TOGETHER),
    )


def ledger_text(invoice: Invoice) -> str:
    """Returns what the ledger writes of an invoice."""
    name = " ".join(customer(invoice.customer).name)
    return f"{name} {invoice.number} C{invoice.customer}"


def tokens(text: str) -> list[int]:
    """Returns the numbers of the words and of their trigrams, in the order of the text.

    A word is a run of letters or of digits, with ``<`` and ``>`` at its ends.

    Source: the subword units of Bojanowski et al. 2017, arXiv 1607.04606, section 3.2, with n = 3;
    hashed by CRC-32.
    """
    found: list[str] = []
    for word in re.findall("[A-Z]+|[0-9]+", text):
        whole = f"<{word}>"
        found.append(whole)
        found.extend(whole[at : at + 3] for at in range(len(word)) if len(word) > 1)
    return [1 + zlib.crc32(part.encode()) % (TOKENS - 1) for part in found]


def pay(invoices: Sequence[Invoice], random: np.random.Generator) -> list[BankLine]:
    """Returns the payments of some invoices, and payments for none of them, by day.

    Args:
        invoices: by day of issue.
        random: the stream that decides everything but the customers' habits.
    """
    own: dict[int, list[int]] = {}
    for position, invoice in enumerate(invoices):
        own.setdefault(invoice.customer, []).append(position)
    lines: list[BankLine] = []
    for number, positions in own.items():
        left = [position for position in positions if random.random() >= UNPAID]
        while left:
            paid = 1
            while customer(number).together and paid < min(3, len(left)):
                if invoices[left[paid]].issued - invoices[left[0]].issued > 14:
                    break
                paid += 1
            lines.extend(_payments(invoices, tuple(left[:paid]), random))
            left = left[paid:]
    for _ in range(round(UNKNOWN * len(lines))):
        like = invoices[int(random.integers(len(invoices)))]
        stranger = Invoice(
            like.number + int(random.integers(-5000, 5000)),
            int(random.integers(12_000, 19_000)),
            like.foreign,
            like.issued,
            round(like.amount * float(np.exp(random.normal(0, 1))), 2),
        )
        text = _text(customer(stranger.customer), [stranger.number], random)
        day = _banking_day(like.issued + int(random.integers(1, 60)))
        lines.append(BankLine(day, text, max(stranger.amount, 0.01), (), "unknown"))
    return sorted(lines, key=lambda line: line.day)


def _payments(
    invoices: Sequence[Invoice], pays: tuple[int, ...], random: np.random.Generator
) -> list[BankLine]:
    """Returns the one or two bank lines that settle some invoices of one customer."""
    first = invoices[pays[0]]
    payer = customer(first.customer)
    total = sum(invoices[position].amount for position in pays)
    kind = "combined" if len(pays) > 1 else _drawn(KINDS, random)
    if kind != "combined" and first.foreign:
        kind = "foreign"
    after = payer.terms + payer.late + int(random.gamma(1.0, 4.0))
    if kind == "discount":
        after = int(random.integers(3, 11))
    day = invoices[pays[-1]].issued + max(1, after)
    numbers = [invoices[position].number for position in pays]
    lines = []
    for amount in _amounts(kind, total, random):
        text = _text(payer, numbers, random)
        lines.append(BankLine(_banking_day(day), text, max(0.01, round(amount, 2)), pays, kind))
        day += int(random.integers(5, 25))
    return lines


def _amounts(kind: str, total: float, random: np.random.Generator) -> list[float]:
    """Returns what arrives of the total, in one part or two.

    Short is an amount after a fee, without its pence, or after something was sent back.
    """
    if kind == "split":
        share = float(random.choice([0.5, 0.5, 0.3, random.uniform(0.2, 0.8)]))
        return [total * share, total * (1 - share)]
    if kind == "foreign":
        return [total * float(np.exp(random.normal(0, 0.006))) - random.choice([0, 5, 12.5])]
    if kind == "discount":
        return [total * (1 - random.choice([0.02, 0.025, 0.03]))]
    if kind == "short":
        ways = (total - 2.5, float(np.floor(total)), total * (1 - random.uniform(0.02, 0.3)))
        return [ways[random.integers(len(ways))]]
    return [total]


def _banking_day(day: int) -> int:
    """Returns the day, or the Monday after it; 1970-01-01 was a Thursday."""
    return day + {5: 2, 6: 1}.get((day + 3) % 7, 0)


def _text(payer: Customer, numbers: Sequence[int], random: np.random.Generator) -> str:
    reference = " ".join([_reference(payer, numbers[0], random), *map(str, numbers[1:])])
    parts = [str(random.choice(HEADS)), _name(payer, random), reference]
    if random.random() < TRACE:
        parts.insert(int(random.integers(1, 4)), str(random.integers(10**5, 10**8)))
    return " ".join(part for part in parts if part)[:LONGEST]


def _reference(payer: Customer, number: int, random: np.random.Generator) -> str:
    kind, digits = _drawn(REFERENCES, random), str(number)
    if kind == "none":
        return str(random.choice(["", "PAYMENT", "THANK YOU", "ACCOUNT"]))
    if kind == "customer":
        return f"C{payer.number}"
    ways: dict[str, Callable[[], str]] = {
        "parts": lambda: f"{digits[:3]} {digits[3:]}",
        "last digits": lambda: digits[-4:],
        "typing error": lambda: _mistyped(digits, "0123456789", random),
        "an earlier one": lambda: str(number - int(random.integers(1, 400))),
    }
    return f"{random.choice(PREFIXES)}{ways.get(kind, lambda: digits)()}"


def _name(payer: Customer, random: np.random.Generator) -> str:
    kind = _drawn(NAMES, random)
    if kind == "none":
        return ""
    if kind == "another payer":
        payer = customer(int(random.integers(12_000, 19_000)))
    name = payer.name[0] if kind == "short" else " ".join(payer.name)
    if kind == "cut":
        name = name[: int(random.integers(7, 15))]
    if random.random() < TYPING_ERROR:
        name = _mistyped(name, "AEIOURSTNL", random)
    return name


def _mistyped(text: str, alphabet: str, random: np.random.Generator) -> str:
    """Returns the text with one character replaced, left out, or swapped with the next."""
    at = int(random.integers(len(text) - 1))
    middle = (
        str(random.choice(list(alphabet))) + text[at + 1],
        text[at + 1],
        text[at + 1] + text[at],
    )
    return text[:at] + middle[random.integers(3)] + text[at + 2 :]


def _drawn(shares: dict[str, float], random: np.random.Generator) -> str:
    at = np.searchsorted(np.cumsum(list(shares.values())), random.random())
    return list(shares)[min(int(at), len(shares) - 1)]
