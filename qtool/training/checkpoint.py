"""Training state on disk: written atomically, read without running code, refused when damaged.

A file is the SHA-256 of what follows, then what ``torch.save`` writes. A kill at any moment leaves
the previous or the next complete file.
"""

from __future__ import annotations

import hashlib
import io
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from qtool.errors import StaleArtifactError
from qtool.runs import write_bytes

State = dict[str, Any]
"""Tensors, numbers, text, None, and lists and dicts of these."""


def save_state(state: State, path: Path) -> None:
    """Writes ``state`` to ``path``; what is there is complete at any moment.

    Raises:
        OutputError: the operating system refused.
    """
    buffer = io.BytesIO()
    torch.save(state, buffer)
    payload = buffer.getvalue()
    write_bytes(path, hashlib.sha256(payload).digest() + payload)


def load_state(path: Path, identity: Mapping[str, Any]) -> State | None:
    """Returns the state in ``path``, None when there is no such file.

    Args:
        path: what ``save_state`` wrote.
        identity: what the run is made of, by name; the state must have been saved under the same.

    Raises:
        StaleArtifactError: the file is damaged, or belongs to another run.
    """
    if not path.exists():
        return None
    content = path.read_bytes()
    digest, payload = content[:32], content[32:]
    action = "Go on as it was begun, or remove the file to train from the start."
    if hashlib.sha256(payload).digest() != digest:
        raise StaleArtifactError(str(path), "a damaged checkpoint", "a complete file", action)
    try:
        state: State = torch.load(io.BytesIO(payload), weights_only=True)
    except (RuntimeError, EOFError, ValueError, pickle.UnpicklingError) as error:
        found = "not a training checkpoint"
        raise StaleArtifactError(str(path), found, "a file of this version", action) from error
    differs = [name for name, value in identity.items() if state["identity"].get(name) != value]
    if differs:
        found = f"the checkpoint of another run ({_shown(state['identity'], differs)})"
        raise StaleArtifactError(str(path), found, _shown(identity, differs), action)
    return state


def _shown(identity: Mapping[str, Any], names: list[str]) -> str:
    return ", ".join(f"{name}: {identity.get(name)}" for name in names)
