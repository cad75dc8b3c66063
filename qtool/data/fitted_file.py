"""The fitted split as a file: cut points and counts, beside the encoder's own file."""

from __future__ import annotations

import json
from dataclasses import asdict

from qtool.config.data import HashSplit
from qtool.data.encoding import Encoder
from qtool.data.fitting import Fitted
from qtool.data.label_counts import SplitCounts
from qtool.data.split import TimeCuts
from qtool.errors import reading


def split_to_json(fitted: Fitted) -> str:
    """Returns split and counts of ``fitted`` as text; the encoder has a file of its own."""
    split = fitted.split
    described = split.model_dump() if isinstance(split, HashSplit) else asdict(split)
    counts = asdict(fitted.counts)
    if not fitted.counts.classes:
        del counts["classes"]  # as in the files of versions that knew two classes only
    return json.dumps({"split": described, "counts": counts}, indent=2) + "\n"


def fitted_from_json(text: str, encoder: Encoder, where: str) -> Fitted:
    """Returns what was fitted, from the text that ``split_to_json`` wrote and the encoder.

    Raises:
        StaleArtifactError: the text is no such file.
    """
    with reading("a fitted split", where):
        raw = json.loads(text)
        described = raw["split"]
        by_hash = described.get("by") == "hash"
        split = HashSplit(**described) if by_hash else TimeCuts(**described)
        return Fitted(encoder, split, SplitCounts(**raw["counts"]))
