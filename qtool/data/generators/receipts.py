"""Scanned receipts with the fields that bookkeeping needs: seeded, streaming, of any size.

**What a row is.** One receipt: ``text``, its words in reading order; ``tokens``, four numbers of
each word; ``boxes``, where each word is (``document_words``); ``tags``, the number of the field
that it is part of, else 0 (``FIELDS``). ``python -m sample_models.prepare invoice`` makes the same
columns of SROIE (Huang et al. 2019, ICDAR), whose statistics were the model. No company, address
or receipt is one of SROIE.

**How it is made.** A vendor has a name, an address and a layout of its own: which lines there are,
in which order, how dates, amounts and the total are written, and whether a key and its value are
one box or two. A few vendors issue many receipts and many issue one. What makes it hard is what
makes it hard there: total of the taxes, of the quantity, before rounding and of the cash look like
the total; a second date, telephone and registration numbers; names of persons above the company;
addresses over several lines; wrong characters, skewed scans and boxes that stand out of line.

Statistics of 700 receipts, in brackets those of SROIE (``tests/data/test_receipts.py`` holds the
claims): 109 words at the median (116) and 163 at the 95th percentile (191); a company has 4.9 words
(4.4), an address 10.6 (12.5); 0.30 of the receipts are the only one of their vendor (0.26), and
0.08 are of the most frequent one (0.08); 0.62 have the amount of the total elsewhere too (0.74),
and 0.80 say total twice or more (0.82).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby
from typing import Any

import numpy as np
import pyarrow as pa

from qtool.data.generators.chunks import cut, fingerprint, random_stream
from qtool.data.generators.document_words import Line, Word, boxes, numbers, tags, words

VERSION = 1
"""Raised with every change of the rows, so that fingerprints change with them."""

CHUNK_ROWS = 64
VENDORS = 2**32
"""First of the random streams of vendors, behind those of chunks."""
REPEATED, NEW = 60, 0.25
"""Vendors with many receipts, and the share of receipts of vendors that have only one."""
WRONG_CHARACTER, OUT_OF_LINE, LOST_LINE = 0.004, 0.03, 0.01
"""Shares: of characters; of boxes that are read apart from their row; of boxes that are lost."""
SCHEMA = pa.schema(
    [
        ("receipt", pa.string()),
        ("text", pa.list_(pa.string())),
        ("tokens", pa.list_(pa.list_(pa.int32(), 4))),
        ("boxes", pa.list_(pa.list_(pa.float32(), 6))),
        ("tags", pa.list_(pa.int32())),
    ]
)
FIELDS = ("company", "address", "date", "total")
"""Tagged 1, 2, 3, 4; a field is one run of words, so that none needs a tag that begins it."""
Spans = list[tuple[str, int, int]]
"""Field, first word and the one behind the last."""

NAMES = (
    "AMAN|ANGGERIK|BAYU|BINTANG|CAHAYA|CEMPAKA|DAMAI|DELIMA|EMAS|FAJAR|GEMILANG|HARMONI|INTAN|"
    "JAYA|KENANGA|LESTARI|MAJU|MELATI|MURNI|NILAM|PERDANA|PUTERI|RIA|SAGA|SENTOSA|SERI|SINAR|"
    "TERATAI|USAHA|WANGI|YAKIN|ZAMRUD|LIM|TAN|WONG|LEE|CHAN|KIM|HENG|SOON|HUAT|KEONG|BENG|AH|"
    "GOLDEN|SUNNY|PACIFIC|ORIENT|LOTUS|DRAGON|CITY|GARDEN|MODERN|FRESH|ROYAL|UNITED"
)
TRADES = (
    "RESTAURANT|RESTORAN|HARDWARE|STATIONERY|TRADING|BAKERY|MINI MARKET|PASARAYA|CAFE|"
    "ENTERPRISE|PHARMACY|BOOK STORE|ELECTRICAL|MARKETING|MACHINERY|SUPERMARKET|"
    "SEAFOOD RESTAURANT|PETROL|HEALTH & BEAUTY|GIFT & DECO|CASH & CARRY|KEDAI MAKAN|PERNIAGAAN"
)
NAME_BEHIND = ("KEDAI MAKAN", "PASARAYA", "PERNIAGAAN", "RESTORAN")
"""Trades that are written before the name."""
FORMS = "SDN BHD|SDN BHD|SDN. BHD.|(M) SDN BHD|ENTERPRISE|TRADING|S/B||"
STREETS = "JALAN|JALAN|JALAN|JLN|LORONG|LEBUH|PERSIARAN"
PLACES = (
    "TAMAN {a}|TAMAN {a} {b}|BANDAR {a} {b}|KAWASAN PERINDUSTRIAN {a}|DESA {a}|SEKSYEN {n}|"
    "{a} SHOPPING CENTRE|PUSAT BANDAR {a}|TMN {a}"
)
TOWNS = (
    "JOHOR BAHRU, JOHOR|SHAH ALAM, SELANGOR|KUALA LUMPUR|PETALING JAYA, SELANGOR|"
    "KLANG, SELANGOR|KAJANG, SELANGOR|SEREMBAN, NEGERI SEMBILAN|IPOH, PERAK|GEORGETOWN, PENANG|"
    "MELAKA|BATU PAHAT JOHOR|SUBANG JAYA|AMPANG, SELANGOR D.E.|KUANTAN PAHANG"
)
GOODS = (
    "PAPER|PEN|GLUE|TAPE|NAIL|SCREW|PAINT|BRUSH|LAMP|CABLE|BATTERY|BREAD|BUN|CAKE|MILK|TEA|"
    "KOPI O|NASI LEMAK|MEE GORENG|ROTI CANAI|CHICKEN RICE|FISH BALL|SOUP|RICE 5KG|SUGAR|OIL|"
    "SOAP|SHAMPOO|TISSUE|WATER|JUICE|FILE A4|ENVELOPE|TOTAL CARE MOUTHWASH|BOX|HOSE|VALVE|BOLT|"
    "BELT|FILTER"
)
BRANDS = "ABC|SUPER|KING|EURO|MAX|STAR|PRO|3M|HOME|BEST|XL|MINI|ECO|GOLD"
TOTALS = (
    "TOTAL|TOTAL|TOTAL|TOTAL :|GRAND TOTAL|NET TOTAL|TOTAL (RM)|TOTAL AMOUNT|"
    "ROUNDED TOTAL (RM):|TOTAL SALES (INCLUSIVE OF GST)|TOTAL INCL GST|NETT TOTAL:|AMOUNT DUE|"
    "TOTAL RM|TOTAL PAYABLE"
)
SUBTOTALS = "SUB TOTAL|SUBTOTAL:|SUB-TOTAL|TOTAL EXCL GST|TOTAL SALES (EXCLUDING GST)|AMOUNT"
DATES = (
    "{d:02}/{m:02}/{y}|{d:02}/{m:02}/{y}|{d:02}/{m:02}/{y}|{d:02}/{m:02}/{y}|{d:02}-{m:02}-{y}|"
    "{d:02}-{m:02}-{s:02}|{d:02}/{m:02}/{s:02}|{d:02} {M} {y}|{d}/{m}/{y}|{d:02}-{M}-{y}"
)
MONTHS = "JAN|FEB|MAR|APR|MAY|JUN|JUL|AUG|SEP|OCT|NOV|DEC"
DATE_KEYS = "DATE:|DATE :|DATE||||BILL DATE:|DOC DATE :|INV DATE"
NUMBER_KEYS = "INVOICE NO :|DOC NO:|BILL#:|RECEIPT #"
TAX_KEYS = "ID|NO|REG NO"
SIMILAR = dict(zip("O0I1S5B8EDNGZ2.,", "0O1I58B8FOHC2Z,.", strict=True))
"""What OCR takes a character for."""
TITLES = "TAX INVOICE|TAX INVOICE|INVOICE|CASH BILL|RECEIPT|SIMPLIFIED TAX INVOICE||"
FOOTERS = (
    "THANK YOU|THANK YOU PLEASE COME AGAIN|GOODS SOLD ARE NOT RETURNABLE|THANK YOU FOR SHOPPING|"
    "EXCHANGE WITHIN 7 DAYS WITH RECEIPT|TERIMA KASIH|*** CUSTOMER COPY ***|PRICES INCLUDE GST|"
    "PLEASE KEEP THIS RECEIPT|E. & O. E.|FOLLOW US AT WWW.SHOP.MY|POWERED BY POS 2.1"
)


@dataclass(frozen=True)
class Receipts:
    """The source ``{generator: receipts, rows: …, seed: …}``."""

    rows: int
    seed: int

    @property
    def name(self) -> str:
        """What messages call the source."""
        return f"receipts(rows={self.rows}, seed={self.seed})"

    @property
    def schema(self) -> pa.Schema:
        """All columns."""
        return SCHEMA

    def fingerprint(self) -> str:
        """Returns the sha256 of kind, version, rows and seed."""
        return fingerprint("receipts", VERSION, self.rows, self.seed)

    def batches(self, columns: Sequence[str], batch_rows: int) -> Iterator[pa.RecordBatch]:
        """Yields the receipts in order."""
        for first in range(0, self.rows, CHUNK_ROWS):
            receipts = make_chunk(self.seed, first // CHUNK_ROWS)[: self.rows - first]
            rows = [
                as_row(f"receipt {first + number}", found, spans)
                for number, (found, spans) in enumerate(receipts)
            ]
            yield from cut(
                pa.RecordBatch.from_pylist(rows, SCHEMA).select(list(columns)), batch_rows
            )


def as_row(receipt: str, found: Sequence[Word], spans: Spans) -> dict[str, Any]:
    """Returns the columns of one receipt.

    Args:
        receipt: its name.
        found: its words.
        spans: its fields.
    """
    return {
        "receipt": receipt,
        "text": [word.text for word in found],
        "tokens": [numbers(word.text) for word in found],
        "boxes": boxes(found),
        "tags": tags(
            len(found), ((1 + FIELDS.index(kind), first, end) for kind, first, end in spans)
        ),
    }


def make_chunk(seed: int, chunk: int) -> list[tuple[list[Word], Spans]]:
    """Returns words and fields of ``CHUNK_ROWS`` receipts."""
    random = random_stream(seed, chunk)
    found = []
    for number in range(chunk * CHUNK_ROWS, (chunk + 1) * CHUNK_ROWS):
        popular = int(REPEATED * random.random() ** 1.8)
        other = REPEATED + number
        who = vendor(seed, other if random.random() < NEW else popular)
        found.append(_scanned(_printed(who, random), random))
    return found


@dataclass(frozen=True)
class Vendor:
    """Who issues receipts, and how they look."""

    company: str
    address: tuple[str, ...]
    layout: int
    date: str
    date_key: str
    total: str
    currency: str
    tax: bool

    def has(self, number: int) -> bool:
        """Whether the layout has a thing, by the number of its bit."""
        return bool(self.layout >> number & 1)


ODDS = (0.15, 0.8, 0.85, 0.5, 0.6, 0.35, 0.5, 0.2, 0.7, 0.1, 0.4, 0.75, 0.8, 0.08, 0.15, 0.8)
"""That a vendor's layout has the things that follow, which are numbers of bits."""
PERSON, REGISTRATION, TELEPHONE, TWO_LINES, SUBTOTAL, ROUNDING, TAX_TABLE, DATE_LAST = range(8)
SPLIT, BRANCH, QUANTITY, CENTRED, TIME, DUE_DATE, TOTAL_TWICE, PAID = range(8, 16)


@lru_cache(4096)
def vendor(seed: int, number: int) -> Vendor:
    """Returns the vendor of a number, always the same."""
    random = random_stream(seed, VENDORS + number)
    name = " ".join(dict.fromkeys(_pick(NAMES, random) for _ in range(random.integers(1, 4))))
    trade = _pick(TRADES, random)
    first = trade in NAME_BEHIND
    company = f"{trade} {name}" if first else f"{name} {trade}"
    bits = random.random(len(ODDS)) < ODDS
    return Vendor(
        company=f"{company} {_pick(FORMS, random)}".strip(),
        address=_address(random),
        layout=int(sum(int(bit) << at for at, bit in enumerate(bits))),
        date=_pick(DATES, random),
        date_key=_pick(DATE_KEYS, random),
        total=_pick(TOTALS, random),
        currency=_pick("||||RM|RM |$", random),
        tax=bool(random.random() < 0.7),
    )


def _address(random: np.random.Generator) -> tuple[str, ...]:
    """Returns the lines of an address."""
    house = _pick("NO. {}|NO {}|NO.{}|{}|LOT {}|{}-G", random)
    street = f"{_pick(STREETS, random)} {_pick(NAMES, random)}"
    if random.random() < 0.7:
        street += _pick(" {}| {}| {}/{}", random).format(*random.integers(1, 60, 2))
    names = {"a": _pick(NAMES, random), "b": _pick(NAMES, random)}
    place = _pick(PLACES, random).format(n=random.integers(1, 30), **names)
    town = f"{random.integers(100, 990)}00 {_pick(TOWNS, random)}."
    above = f"{house.format(random.integers(1, 400))}, {street},"
    kind = random.random()
    if kind < 0.5:
        return f"{above} {place},", town
    return (above, f"{place}, {town}") if kind < 0.7 else (above, f"{place},", town)


@dataclass(frozen=True)
class Part:
    """A text that OCR finds as one box, and the field in it.

    ``start`` is where it begins, as a share of the width; below 0 it is centred.
    """

    start: float
    text: str
    kind: str = ""
    field: str = ""


def _printed(who: Vendor, random: np.random.Generator) -> list[list[Part]]:
    """Returns the parts of each line of one receipt of a vendor, from above."""
    date, time = _date(who, random)
    header = [Part(-1, f"{_pick(NAMES, random)} {_pick(NAMES, random)}")] * who.has(PERSON)
    edge = -1.0 if who.has(CENTRED) else 0.02
    header.append(Part(edge, who.company, "company", who.company))
    if who.has(REGISTRATION):
        form = _pick("({}-{})|CO. REG : {}-{}|{}-{}", random)
        header.append(Part(edge, form.format(_digits(6, random), _pick("A|K|T|W|X", random))))
    header += [Part(edge, line, "address", line) for line in who.address]
    header += [Part(edge, f"{_pick(NAMES, random)} BRANCH")] * who.has(BRANCH)
    header += [Part(edge, f"TEL: 03-{_digits(8, random)}")] * who.has(TELEPHONE)
    if who.tax:
        header.append(Part(edge, f"GST {_pick(TAX_KEYS, random)} : 00{_digits(10, random)}"))
    title = _pick(TITLES, random)
    header += [Part(-1, title)] * bool(title)
    when = _pair(who, who.date_key, f"{date}{time}", "date", date, at=0.3)
    number = _pair(who, _pick(NUMBER_KEYS, random), _digits(8, random), at=0.3)
    cashier = _pair(who, "CASHIER:", _pick(NAMES, random), at=0.3)
    meta = [when, number, cashier] if who.layout % 3 else [number, cashier, when]
    if who.has(DATE_LAST):
        meta.remove(when)
    if who.has(DUE_DATE):
        meta.append(_pair(who, "DUE DATE:", _date(who, random)[0], at=0.3))
    end = [[Part(-1, _pick(FOOTERS, random))] for _ in range(random.integers(2, 8))]
    end += [[Part(0.1, f"{date}{time}", "date", date)]] * who.has(DATE_LAST)
    return [*([part] for part in header), *meta, *_sums(who, random), *end]


def _sums(who: Vendor, random: np.random.Generator) -> list[list[Part]]:
    """Returns the goods and what is to be paid."""
    first = Part(0.02, _pick("ITEM|DESCRIPTION|CODE/DESC", random))
    lines = [[first, Part(0.5, "QTY"), Part(0.65, "PRICE"), Part(0.82, "AMOUNT")]]
    total = pieces = 0
    for _ in range(int(np.clip(round(np.exp(1.65 + 0.65 * random.standard_normal())), 1, 18))):
        price = int(np.exp(6.3 + 0.9 * random.standard_normal())) // 5 * 5 + 5
        count = 1 + int(random.random() ** 4 * 6)
        goods = f"{_pick(BRANDS, random)} {_pick(GOODS, random)}"
        amount = Part(0.82, _money(price * count))
        if who.has(TWO_LINES):
            lines.append([Part(0.02, _digits(13, random)), Part(0.35, goods)])
            lines.append([Part(0.2, f"{count} X {_money(price)}"), amount])
        else:
            columns = Part(0.02, goods), Part(0.52, str(count)), Part(0.65, _money(price))
            lines.append([*columns, amount])
        total += price * count
        pieces += count
    tax = round(total * 6 / 106) if who.tax else 0
    due = (total + 2) // 5 * 5 if who.has(ROUNDING) else total

    def money(key: str, cents: int, kind: str = "") -> list[Part]:
        return _pair(who, key, who.currency + _money(cents), kind, _money(cents) if kind else "")

    if who.has(QUANTITY):
        lines.append(_pair(who, "TOTAL QTY:", str(pieces), at=0.5))
    if who.has(SUBTOTAL):
        before = total - tax if random.random() < 0.4 else total
        lines.append(money(_pick(SUBTOTALS, random), before))
    if who.tax:
        lines.append(money(_pick("GST 6%|TOTAL GST|TAX AMT", random), tax))
    lines += [money("TOTAL", total)] * who.has(TOTAL_TWICE)
    if who.has(ROUNDING):
        lines.append(money(_pick("ROUNDING|ROUNDING ADJ:", random), due - total))
    lines.append(money(who.total, due, "total"))
    if who.has(PAID):
        given = due if random.random() < 0.4 else -(-due // 1000) * 1000
        lines.append(money(_pick("CASH|CASH|VISA CARD|TENDERED", random), given))
        lines.append(money(_pick("CHANGE|CHANGE DUE|BALANCE", random), given - due))
    if who.tax and who.has(TAX_TABLE):
        sums = Part(0.5, _money(total - tax)), Part(0.8, _money(tax))
        lines.append([Part(0.05, "GST SUMMARY"), Part(0.5, "AMOUNT(RM)"), Part(0.8, "TAX(RM)")])
        lines.append([Part(0.05, "SR @ 6%"), *sums])
        lines += [[Part(0.05, "TOTAL"), *sums]] * (random.random() < 0.5)
    return lines


def _pair(
    who: Vendor, key: str, value: str, kind: str = "", field: str = "", at: float = 0.75
) -> list[Part]:
    """Returns a key and its value, as one box or as two."""
    if key and who.has(SPLIT):
        return [Part(0.05, key), Part(at, value, kind, field)]
    return [Part(0.05, f"{key} {value}".lstrip(), kind, field)]


def _date(who: Vendor, random: np.random.Generator) -> tuple[str, str]:
    """Returns a date as the vendor writes it, and the time of day behind it, if it does."""
    day, month, year = random.integers(1, 29), random.integers(1, 13), random.integers(16, 20)
    date = who.date.format(d=day, m=month, s=year, y=2000 + year, M=MONTHS.split("|")[month - 1])
    clock = f" {random.integers(8, 23):02}:{random.integers(60):02}:{random.integers(60):02}"
    return date, clock if who.has(TIME) else ""


def _scanned(
    printed: Sequence[Sequence[Part]], random: np.random.Generator
) -> tuple[list[Word], Spans]:
    """Returns what OCR makes of the lines: the words, and the fields among them."""
    width, height = random.uniform(400, 800), random.uniform(18, 34)
    size, slope = height * random.uniform(0.4, 0.5), 0.01 * random.standard_normal()
    lines: list[Line] = []
    parts: list[Part] = []
    y = 0.0
    for members in printed:
        y += height * (1.15 if random.random() < 0.15 else 1.0)
        for part in members:
            if not part.kind and random.random() < LOST_LINE:
                continue
            length = size * len(part.text)
            left = max(0.0, (width - length) / 2) if part.start < 0 else part.start * width
            shift = 0.5 if random.random() < OUT_OF_LINE else 0.05 * random.standard_normal()
            top = y + shift * height + slope * left
            text = _misread(part.text, random)
            lines.append(Line(text, left, top, left + length, top + 0.8 * height))
            parts.append(part)
    found = words(lines)
    return found, list(_spans(found, parts))


def _spans(found: Sequence[Word], parts: Sequence[Part]) -> Iterator[tuple[str, int, int]]:
    """Yields the runs of words that are in the same field."""
    kinds = []
    for word in found:
        part = parts[word.line]
        start = part.text.find(part.field)
        inside = part.kind and start <= word.at < start + len(part.field)
        kinds.append(part.kind if inside else "")
    first = 0
    for kind, run in groupby(kinds):
        behind = first + len(list(run))
        if kind:
            yield kind, first, behind
        first = behind


def _misread(text: str, random: np.random.Generator) -> str:
    """Returns the text with some characters taken for similar ones."""
    wrong = random.random(len(text)) < WRONG_CHARACTER
    if not wrong.any():
        return text
    return "".join(
        SIMILAR.get(letter, letter) if is_wrong else letter
        for letter, is_wrong in zip(text, wrong, strict=True)
    )


def _pick(options: str, random: np.random.Generator) -> str:
    found = options.split("|")
    return found[int(random.random() * len(found))]


def _digits(count: int, random: np.random.Generator) -> str:
    return f"{int(random.random() * 10**count):0{count}}"


def _money(cents: int) -> str:
    return f"{cents / 100:,.2f}"
