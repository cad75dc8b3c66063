"""Cold starts: load time, first call and peak memory, each in a fresh process.

``cold_process.py`` is what runs there. A run from a cold cache first drops the model's files from
the page cache (``posix_fadvise``, POSIX_FADV_DONTNEED) and asks the kernel whether they have left
(``mincore``): the advice may be ignored, and always is for files in memory.
"""

from __future__ import annotations

import ctypes
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qtool.errors import ModelError

PROGRAM = "qtool.runtime.cold_process"


@dataclass(frozen=True)
class Start:
    """What one process found.

    Attributes:
        load_ms: from the file to a session.
        first_us: first call.
        peak_bytes: largest resident memory above that before loading; None where the system does
            not tell.
    """

    load_ms: float
    first_us: float
    peak_bytes: int | None


def write_rows(file: Path, inputs: Mapping[str, NDArray[Any]]) -> Path:
    """Writes the inputs of one call as ``cold_process`` reads them: names, then arrays in order."""
    np.savez(file, np.array(list(inputs)), *inputs.values())
    return file


def start(model: Path, rows: Path, threads: int, where: str) -> Start:
    """Returns what a fresh process needs to load ``model`` and to run it once.

    The process ends when this one does, however that ends.

    Args:
        model: the file, its external data beside it.
        rows: as ``write_rows`` wrote them.
        threads: intra-op threads.
        where: what to call the model in messages.

    Raises:
        ModelError: the process failed, or was killed.
    """
    command = [sys.executable, "-m", PROGRAM, str(model.resolve()), str(rows.resolve())]
    path = os.pathsep.join(str(Path(entry).resolve()) for entry in sys.path)
    with (
        tempfile.TemporaryFile() as messages,
        subprocess.Popen(  # noqa: S603
            [*command, str(threads)],
            stdin=subprocess.PIPE,  # never written to: its end tells the child of ours
            stdout=subprocess.PIPE,
            stderr=messages,
            cwd=rows.parent,  # -m imports from it before anything else, and it has no modules
            env={**os.environ, "PYTHONPATH": path},
        ) as child,
    ):
        assert child.stdout is not None
        try:
            told = child.stdout.read()
            code = child.wait()
        finally:
            child.kill()
        if code:
            messages.seek(0)
            raise ModelError(
                where, f"a fresh process cannot run it ({_reason(messages.read(), code)})"
            )
    return Start(**json.loads(told))


def _reason(messages: bytes, code: int) -> str:
    lines = messages.decode(errors="replace").strip().splitlines()
    ended = f"killed by signal {-code}" if code < 0 else f"exit code {code}"
    return f"{ended}: {lines[-1][:300]}" if lines else ended


def drop_from_cache(files: Iterable[Path]) -> bool:
    """Drops files from the page cache; returns whether all of them have left it."""
    if not hasattr(os, "posix_fadvise"):
        return False
    kept = False
    for file in files:
        descriptor = os.open(file, os.O_RDONLY)
        try:
            os.fdatasync(descriptor)  # what is not yet on disk stays
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(descriptor)
        kept |= _in_cache(file)
    return not kept


def _in_cache(file: Path) -> bool:
    """Whether a page of a file that is not empty is in memory."""
    mapped = np.memmap(file, mode="c")
    pages = (ctypes.c_ubyte * -(-mapped.size // os.sysconf("SC_PAGE_SIZE")))()
    address, length = ctypes.c_void_p(mapped.ctypes.data), ctypes.c_size_t(mapped.size)
    refused = ctypes.CDLL(None).mincore(address, length, pages)
    return bool(refused) or any(page & 1 for page in pages)
