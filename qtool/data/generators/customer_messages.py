"""Messages of customers to their bank, each with its intent: seeded, streaming, of any size.

**What a row is.** One message as ``text``, what a model reads of it as ``words`` and ``ngrams``
(``message_tokens``), its ``intent``, and ``number``, its place in the order of arrival.
``python -m sample_models.prepare triage`` makes the same columns of BANKING77 (Casanueva et al.
2020, arXiv 2003.04807), whose sizes were the model, and of the complaints that the CFPB publishes.
No text is one of theirs.

**How it is made.** An intent is a topic and what is the matter with it; neighbours share one of
both, as "card, not arrived" and "transfer, not arrived" do. A sentence is drawn for the matter, a
word for the topic, the usual ones more often; around it come greetings, other topics that are only
mentioned, and closing words. Some senders write "it" instead of the topic, words have typing
errors, and a few messages are filed under a wrong intent of the same topic. Some intents are five
times as frequent as others, and which ones moves slowly. The random stream belongs to the seed and
the chunk alone.

Statistics of 13,083 rows, in brackets those of BANKING77 (``tests/data/test_customer_messages.py``
holds the claims): 62 intents (77), the most frequent 4.7 times the rarest (3.0); 11 words at the
median (10) and 19 at the 95th percentile (28), of 1,316 different ones (2,600), half of which occur
once (38 %). On the official split's shares of rows, a linear support vector machine on all n-grams
has a macro F1 of 0.91 (0.91), logistic regression on words 0.88 (0.90).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from qtool.data.generators.chunks import cut, fingerprint, random_stream
from qtool.data.generators.message_tokens import ngram_numbers, word_numbers

VERSION = 1
"""Raised with every change of the rows, so that fingerprints change with them."""

CHUNK_ROWS = 1024
PERIOD_CHUNKS = 16
"""After so many chunks the intents are as frequent as at first."""
SCHEMA = pa.schema(
    [
        ("number", pa.int64()),
        ("text", pa.string()),
        ("intent", pa.string()),
        ("words", pa.list_(pa.int32())),
        ("ngrams", pa.list_(pa.int32())),
    ]
)
TOPICS = {
    "card": "card|debit card|bank card|new card|credit card|plastic|visa|mastercard",
    "virtual_card": "virtual card|disposable card|online card|digital card|one time card",
    "transfer": "transfer|bank transfer|money transfer|payment to a friend|wire|remittance",
    "top_up": "top up|top-up|deposit|load|topping up|added money",
    "cash": "cash withdrawal|atm withdrawal|withdrawal|cash|money from the machine|cashpoint",
    "direct_debit": "direct debit|standing order|subscription|regular payment|mandate",
    "purchase": "card payment|payment|purchase|transaction|order in a shop|contactless payment",
    "refund": "refund|money back|reimbursement|credit for a return|chargeback",
    "pin": "pin|pin code|passcode|security code|four digits",
    "exchange": "exchange|currency exchange|conversion|foreign currency|exchange rate",
    "account": "account|current account|joint account|savings account|profile",
    "loan": "loan|personal loan|car loan|borrowing|overdraft",
}
MATTERS = {
    "not_arrived": (
        "my {x} still has not arrived|where is my {x}|i am waiting for my {x} for {n} days|"
        "no sign of the {x}|the {x} never came|when will i get my {x}|{x} has not shown up yet"
    ),
    "declined": (
        "my {x} was declined|why was my {x} refused|the {x} did not go through|{x} got rejected|"
        "{x} keeps failing|i could not complete the {x}|error with my {x}, not accepted"
    ),
    "pending": (
        "my {x} is still pending|how long does a {x} take|the {x} is stuck|{x} not completed yet|"
        "{x} shows as processing since {n} days|why is the {x} not final"
    ),
    "fee": (
        "why was i charged for my {x}|there is a fee on my {x}|what does a {x} cost|"
        "is there a charge for {x}|you took extra money for the {x}|unexpected costs of my {x}"
    ),
    "twice": (
        "my {x} was charged twice|i see the same {x} two times|duplicate {x}|"
        "{x} is listed again|you took the {x} double|the {x} appears more than once"
    ),
    "wrong_amount": (
        "the amount of my {x} is wrong|i got less than i should from the {x}|{x} is too high|"
        "my {x} shows another sum|{x} is not what i asked for|bad rate on my {x}"
    ),
    "not_mine": (
        "i do not recognise this {x}|there is a {x} that i did not make|someone used my {x}|"
        "fraud, an unknown {x}|who made this {x}|strange {x} on my statement"
    ),
    "cancel": (
        "please cancel my {x}|how do i stop a {x}|can i undo the {x}|i want to close my {x}|"
        "i do not need the {x} any more|take back my {x}"
    ),
    "limit": (
        "what is the limit for a {x}|can i raise the limit of my {x}|how much {x} is allowed|"
        "is there a maximum {x}|how many times can i use {x}"
    ),
    "get": (
        "how do i get a {x}|i would like to order a {x}|can i have another {x}|"
        "where can i set up a {x}|what do i need for a {x}|i want to apply for a {x}"
    ),
    "lost": (
        "i lost my {x}|my {x} was stolen|i can not find my {x}|i forgot my {x}|"
        "my {x} is gone|i left my {x} somewhere"
    ),
    "change": (
        "how can i change my {x}|i need to update the {x}|can i edit my {x}|"
        "replace my {x} with another one|my details changed, what about the {x}"
    ),
    "abroad": (
        "can i use my {x} abroad|does {x} work in {c}|which countries have {x}|"
        "i am in {c} and need {x}|is {x} supported outside of the country"
    ),
}
INTENTS = tuple(
    f"{topic}, {matter}"
    for topic, matters in {
        "card": "not_arrived declined fee get lost cancel abroad limit",
        "virtual_card": "declined get limit cancel",
        "transfer": "not_arrived declined pending fee cancel limit not_mine abroad",
        "top_up": "declined pending fee limit cancel twice",
        "cash": "declined pending fee wrong_amount not_mine limit",
        "direct_debit": "cancel not_mine twice change get",
        "purchase": "declined pending fee twice wrong_amount not_mine cancel",
        "refund": "not_arrived wrong_amount get",
        "pin": "change lost declined not_arrived",
        "exchange": "fee wrong_amount abroad",
        "account": "cancel change get not_mine",
        "loan": "get declined cancel fee",
    }.items()
    for matter in matters.split()
)
OPENERS = (
    "||||||hello|hi|hi there|good morning|please help|i have a question|sorry to bother you|"
    "can you tell me|quick question|i am confused|not happy|urgent"
)
MENTIONS = (
    "i used my {x} yesterday|i have had a {x} for years|my {x} is fine|i also have a {x}|"
    "this has nothing to do with my {x}|it was the day after my {x}|i checked the {x} before"
)
CLOSERS = (
    "||||||thanks|thank you|please|what should i do|can you help|please advise|"
    "what is going on|i need it soon|this is urgent|let me know"
)
COUNTRIES = "spain|france|the us|germany|japan|australia|thailand|poland|turkey|india"
MENTION, PRONOUN, MISFILED, TYPING_ERROR = 0.3, 0.05, 0.02, 0.025
"""Shares: of messages with another topic, without a topic, under a wrong intent; of words."""
STEEPNESS = 1.5
"""Of the choice among synonyms: the first is taken most often."""


@dataclass(frozen=True)
class CustomerMessages:
    """The source ``{generator: customer_messages, rows: …, seed: …}``."""

    rows: int
    seed: int

    @property
    def name(self) -> str:
        """What messages call the source."""
        return f"customer_messages(rows={self.rows}, seed={self.seed})"

    @property
    def schema(self) -> pa.Schema:
        """All columns."""
        return SCHEMA

    def fingerprint(self) -> str:
        """Returns the sha256 of kind, version, rows and seed."""
        return fingerprint("customer_messages", VERSION, self.rows, self.seed)

    def batches(self, columns: Sequence[str], batch_rows: int) -> Iterator[pa.RecordBatch]:
        """Yields the messages in the order of arrival."""
        for first in range(0, self.rows, CHUNK_ROWS):
            messages = make_chunk(self.seed, first // CHUNK_ROWS)[: self.rows - first]
            yield from cut(as_batch(messages, first, columns), batch_rows)


def as_batch(
    messages: Sequence[tuple[str, str]], first: int, columns: Sequence[str]
) -> pa.RecordBatch:
    """Returns texts and their intents as rows of some columns of ``SCHEMA``.

    Args:
        messages: text and intent.
        first: number of the first.
        columns: the ones to make.
    """
    make: dict[str, Callable[[], list[Any]]] = {
        "number": lambda: list(range(first, first + len(messages))),
        "text": lambda: [text for text, _ in messages],
        "intent": lambda: [intent for _, intent in messages],
        "words": lambda: [word_numbers(text) for text, _ in messages],
        "ngrams": lambda: [ngram_numbers(text) for text, _ in messages],
    }
    schema = pa.schema([SCHEMA.field(column) for column in columns])
    arrays = [pa.array(make[field.name](), field.type) for field in schema]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def make_chunk(seed: int, chunk: int) -> list[tuple[str, str]]:
    """Returns text and intent of ``CHUNK_ROWS`` messages."""
    random = random_stream(seed, chunk)
    phase = np.arange(len(INTENTS)) * 2.4 + 2 * np.pi * chunk / PERIOD_CHUNKS
    share = np.exp(0.7 * np.sin(np.arange(len(INTENTS)) * 1.7) + 0.2 * np.sin(phase))
    intents = random.choice(len(INTENTS), CHUNK_ROWS, p=share / share.sum())
    return [_message(INTENTS[number], random) for number in intents]


def _message(intent: str, random: np.random.Generator) -> tuple[str, str]:
    topic, matter = intent.split(", ")
    known = random.random() >= PRONOUN
    word = _pick(TOPICS[topic], random) if known else "it"
    sentence = _pick(MATTERS[matter], random)
    core = sentence.format(x=word, n=random.integers(2, 15), c=_pick(COUNTRIES, random))
    if not known:
        core = re.sub(r"\b(my|a|the|this|another|same) it\b", "it", core)
    parts = [_pick(OPENERS, random, 1.0), core, _pick(CLOSERS, random, 1.0)]
    if random.random() < MENTION:
        other = _pick("|".join(TOPICS.values()), random, 1.0)
        parts.insert(int(random.integers(1, 3)), _pick(MENTIONS, random, 1.0).format(x=other))
    text = ". ".join(part for part in parts if part)
    if random.random() < MISFILED:
        siblings = [other for other in INTENTS if other.startswith(f"{topic},")]
        intent = siblings[int(random.integers(len(siblings)))]
    return " ".join(_typed(word, random) for word in text.split(" ")), intent


def _pick(options: str, random: np.random.Generator, steepness: float = STEEPNESS) -> str:
    found = options.split("|")
    return found[int(random.random() ** steepness * len(found))]


def _typed(word: str, random: np.random.Generator) -> str:
    """Returns the word, sometimes with a letter left out, doubled or exchanged for the next."""
    if len(word) < 4 or random.random() >= TYPING_ERROR:
        return word
    at = int(random.integers(1, len(word) - 1))
    first, second = word[at], word[at + 1]
    changed = ("", first * 2 + second, second + first, second)[int(random.integers(4))]
    return word[:at] + changed + word[at + 2 :]
