"""The run directory: one folder per stage, keyed by the content of everything that went into it.

``runs/NAME/STAGE/`` holds the files of a finished stage and ``stage.json`` with its key and the
sha256 of each file. A stage whose key is unchanged is skipped after its files were checked; a file
that was changed by hand is refused, not used. Work in progress lives in
``runs/NAME/.partial/STAGE-KEY/`` and is renamed into place when it is complete and on disk, so a
killed run leaves the last good state, and a stage that keeps a checkpoint goes on from it.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from qtool.errors import OutputError, QtoolError, StaleArtifactError, UsageError, reading

RECORD = "stage.json"


@dataclass(frozen=True)
class Run:
    """One run directory.

    Attributes:
        directory: where the stages lie.
        force: make the stages again that were asked for, even when they are current, and any stage
            that was changed by hand.
        tell: receives one line for people when a stage is skipped or resumed.
    """

    directory: Path
    force: bool
    tell: Callable[[str], None]
    _finished: dict[str, Path] = field(default_factory=dict)

    def stage(
        self,
        name: str,
        inputs: Mapping[str, Any],
        make: Callable[[Path], None],
        *,
        resume_from: str | None = None,
        force: bool = False,
    ) -> Path:
        """Returns the folder of the finished stage ``name``, made by ``make`` unless it is current.

        Args:
            name: stage and folder name.
            inputs: everything the result depends on, as plain values; paths appear as digests of
                their content.
            make: writes the files of the stage into the folder it is given.
            resume_from: name of the file that ``make`` can go on from; a partial folder that holds
                it is kept when ``make`` fails or is interrupted.
            force: make it even if it is current.

        Raises:
            StaleArtifactError: a file of the stage was changed after it was made.
            UsageError: something that is no stage has its name.
            OutputError: the operating system refuses to write.
        """
        key = digest(inputs)
        if f"{name}-{key}" in self._finished:
            return self._finished[f"{name}-{key}"]
        folder = self.directory / name
        partial = self.directory / ".partial" / f"{name}-{key[:16]}"
        for left_over in partial.parent.glob(f"{name}-*.old"):  # killed while it was replaced
            shutil.rmtree(left_over, ignore_errors=True)
        if not force and self._is_current(folder, key):
            self.tell(f"{name}: current")
            return self._finished.setdefault(f"{name}-{key}", folder)
        _check_made_here(folder)
        if force:
            shutil.rmtree(partial, ignore_errors=True)
        with _os_errors_explained(folder):
            if not (partial / RECORD).is_file():  # else killed between the record and the rename
                self._fill(name, key, partial, make, resume_from)
            _move_into_place(partial, folder)
            for stale in partial.parent.glob(f"{name}-*"):
                shutil.rmtree(stale)
        return self._finished.setdefault(f"{name}-{key}", folder)

    def _is_current(self, folder: Path, key: str) -> bool:
        try:
            return _is_current(folder, key)
        except StaleArtifactError as error:
            if not self.force:
                raise
            self.tell(f"{error.where}: {error.found}; made again")
            return False

    def discard(self, name: str, reason: str) -> None:
        """Removes the folder of a finished stage that no longer holds, and says why.

        Raises:
            UsageError: something that is no stage has its name.
            OutputError: the operating system refuses.
        """
        folder = self.directory / name
        retired = self.directory / ".partial" / f"{name}-discarded"
        shutil.rmtree(retired, ignore_errors=True)
        if not folder.exists():
            return
        _check_made_here(folder)
        with _os_errors_explained(folder):
            retired.parent.mkdir(exist_ok=True)
            folder.rename(retired)  # at once, where removing file by file could be interrupted
            shutil.rmtree(retired)
        self.tell(f"{name}: removed, {reason}")

    def _fill(
        self,
        name: str,
        key: str,
        partial: Path,
        make: Callable[[Path], None],
        resume_from: str | None,
    ) -> None:
        if _holds(partial, resume_from):
            self.tell(f"{name}: resuming")
        elif partial.is_dir():
            shutil.rmtree(partial)
        partial.mkdir(parents=True, exist_ok=True)
        try:
            make(partial)
            outputs = {file.name: sha256_of(file) for file in sorted(partial.iterdir())}
            write_text(
                partial / RECORD, json.dumps({"key": key, "outputs": outputs}, indent=2) + "\n"
            )
        except BaseException:
            if not _holds(partial, resume_from):
                shutil.rmtree(partial, ignore_errors=True)
            raise


def content(folder: Path) -> str:
    """Returns the digest of what a finished stage holds, whatever its key."""
    outputs = json.loads((folder / RECORD).read_text(encoding="utf-8"))["outputs"]
    return digest(outputs)


@contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Keeps other qtool processes out of a run directory.

    Raises:
        UsageError: another process is working in it.
        OutputError: the directory cannot be made.
    """
    from filelock import FileLock, Timeout

    with _os_errors_explained(directory):
        directory.mkdir(parents=True, exist_ok=True)
        lock = FileLock(directory / ".lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise UsageError(
                str(directory),
                "another qtool is working here",
                "one at a time",
                "Use another --run-dir.",
            ) from None
    try:
        yield
    finally:
        lock.release()


def digest(inputs: Mapping[str, Any]) -> str:
    """Returns the sha256 of plain values in canonical JSON."""
    text = json.dumps(inputs, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def sha256_of(path: Path) -> str:
    """Returns the sha256 of a file, read in pieces.

    Raises:
        OutputError: the operating system refuses to read it.
    """
    hashed = hashlib.sha256()
    action = "Check its owner and mode."
    with _os_errors_explained(path, "a readable file", action), path.open("rb") as file:
        while piece := file.read(1 << 20):
            hashed.update(piece)
    return hashed.hexdigest()


def output_of(folder: Path, name: str) -> Path:
    """Returns a file of a finished stage.

    Raises:
        StaleArtifactError: it, or the record of the stage, is not as the stage wrote it.
    """
    record = folder / RECORD
    with reading("the record of a stage", str(record)):
        expected = json.loads(record.read_text(encoding="utf-8"))["outputs"][name]
    _check_unchanged(folder / name, expected)
    return folder / name


def write_bytes(path: Path, data: bytes) -> None:
    """Writes a file: on disk when this returns, never half-written under its name."""
    write_pieces(path, [data])


def write_pieces(path: Path, pieces: Iterable[bytes]) -> None:
    """``write_bytes`` of a file that need not be in memory at once."""
    temporary = path.with_name(f".{path.name}.tmp")
    with _os_errors_explained(path):
        try:
            with temporary.open("wb") as file:
                for piece in pieces:
                    file.write(piece)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise


def write_text(path: Path, text: str) -> None:
    """``write_bytes`` in UTF-8."""
    write_bytes(path, text.encode())


def _move_into_place(partial: Path, folder: Path) -> None:
    retired = partial.with_name(f"{partial.name}.old")
    shutil.rmtree(retired, ignore_errors=True)
    if folder.exists():
        folder.rename(retired)
    partial.rename(folder)
    _sync_directory(folder.parent)


def _is_current(folder: Path, key: str) -> bool:
    record = folder / RECORD
    if not record.is_file():
        return False
    try:
        stored = json.loads(record.read_text(encoding="utf-8"))
        outputs, stored_key = stored["outputs"], stored["key"]
    except (ValueError, KeyError, TypeError):
        raise _changed(record, "not a stage record") from None
    if stored_key != key:
        return False
    for name, expected in outputs.items():
        _check_unchanged(folder / name, expected)
    return True


def _check_unchanged(file: Path, expected: str) -> None:
    if not file.is_file():
        raise _changed(file, "missing")
    if sha256_of(file) != expected:
        raise _changed(file, "changed after it was made")


def _check_made_here(folder: Path) -> None:
    """A stage replaces its folder; a user's ``data`` in the same place must survive that."""
    if folder.exists() and not (folder / RECORD).is_file():
        raise UsageError(
            str(folder),
            f"not a stage of qtool: it has no {RECORD}",
            "a stage or nothing in this place",
            "Use another --run-dir.",
        )


def _holds(folder: Path, name: str | None) -> bool:
    return name is not None and (folder / name).is_file()


def _changed(file: Path, found: str) -> StaleArtifactError:
    return StaleArtifactError(
        str(file), found, "the file as the stage wrote it", "Make it again with --force."
    )


@contextmanager
def _os_errors_explained(
    where: Path,
    expected: str = "a writable place",
    action: str = "Write to another place.",
) -> Iterator[None]:
    try:
        yield
    except QtoolError:
        raise
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            action = "Free space, or write to another place."
        raise OutputError(
            str(error.filename or where), error.strerror or str(error), expected, action
        ) from error


def _sync_directory(directory: Path) -> None:
    if os.name == "posix":  # Windows cannot open a directory
        descriptor = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
