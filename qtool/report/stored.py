"""The whole result as a file of a stage, with every timed call, so that it can be shown again."""

from __future__ import annotations

import dataclasses
import json

from pydantic import TypeAdapter

from qtool.errors import reading
from qtool.evaluation.results import Evaluation

_ADAPTER = TypeAdapter(Evaluation)


def to_stored(evaluation: Evaluation) -> str:
    """Returns the evaluation as text that ``from_stored`` reads."""
    # json keeps NaN, which a gate without a measurement has; pydantic would write null.
    return json.dumps(dataclasses.asdict(evaluation))


def from_stored(text: bytes, where: str) -> Evaluation:
    """Returns the evaluation that ``to_stored`` wrote.

    Raises:
        StaleArtifactError: the text is not an evaluation of this version.
    """
    with reading("an evaluation", where):
        return _ADAPTER.validate_json(text)
