"""The manifest: what went into a bundle and what is in it, each with its sha256."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

FORMAT = 1


@dataclass(frozen=True)
class Manifest:
    """Everything a reviewer needs to know that a bundle is what it claims to be.

    Attributes:
        name: of the experiment.
        inputs: what was read → sha256 of its content.
        outputs: file of the bundle → sha256.
        versions: package → version.
        target: profile that the INT8 model was written for.
        cpu: CPU that it was made and measured on.
        seed: of the experiment.
    """

    name: str
    inputs: dict[str, str]
    outputs: dict[str, str]
    versions: dict[str, str]
    target: str
    cpu: str
    seed: int

    def to_json(self) -> str:
        """Returns the manifest as text."""
        return json.dumps({"format": FORMAT, **asdict(self)}, indent=2) + "\n"
