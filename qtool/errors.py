"""Every expected error and the exit code it owns.

An error reads *where: what was found; expected what was expected. What to do next.* The command
line is the one place that catches these and prints them; anything else that escapes is a bug (exit
code 70).

Exit codes: 0 ok, 1 a gate said no, 2 usage, 3 config, 4 model, 5 data, 6 stale artifact, 74 the
operating system refused to read or write (``EX_IOERR`` of sysexits.h), 130 interrupted by Ctrl-C.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

INTERNAL_ERROR = 70
INTERRUPTED = 130


class QtoolError(Exception):
    """An expected failure: where it happened, what was found, what was expected, what to do."""

    exit_code = INTERNAL_ERROR

    def __init__(self, where: str, found: str, expected: str = "", action: str = "") -> None:
        self.where, self.found, self.expected, self.action = where, found, expected, action
        text = f"{where}: {found}"
        text += f"; expected {expected}." if expected else "."
        super().__init__(f"{text} {action}".rstrip())


class GateFailedError(QtoolError):
    """The model did not pass the gates of its config."""

    exit_code = 1


class UsageError(QtoolError):
    """The command line is wrong."""

    exit_code = 2


class ConfigError(QtoolError):
    """The configuration is wrong."""

    exit_code = 3


class ConfigErrors(ConfigError):  # noqa: N818 - the plural of ConfigError
    """All that is wrong with one configuration, reported at once."""

    def __init__(self, errors: list[ConfigError]) -> None:
        first = errors[0]
        super().__init__(first.where, first.found, first.expected, first.action)
        self.errors = errors

    def __str__(self) -> str:
        return "\n".join(str(error) for error in self.errors)


class ModelError(QtoolError):
    """The model cannot be read, built, exported or run."""

    exit_code = 4


class DataError(QtoolError):
    """The data cannot be read or does not fit the model or the configuration."""

    exit_code = 5


class StaleArtifactError(QtoolError):
    """An artifact was made from other inputs, or was changed after it was made."""

    exit_code = 6


@contextmanager
def reading(what: str, where: str) -> Iterator[None]:
    """Says which artifact is read, of whatever is wrong with its text.

    Raises:
        StaleArtifactError: the text is not ``what``, as this version writes it.
    """
    try:
        yield
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise StaleArtifactError(
            where,
            f"not {what} ({error})",
            "the file as this version of qtool wrote it",
            "Make it again with --force.",
        ) from error


class OutputError(QtoolError):
    """The operating system refused to read or write: disk full, read-only, no permission."""

    exit_code = 74
