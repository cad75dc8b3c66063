"""Functions of the user that a config names as ``module:function``."""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from types import ModuleType
from typing import Any

from qtool.errors import ModelError


def _directory(library: str) -> str:
    """Returns where a library lies, without importing it."""
    found = importlib.util.find_spec(library)
    assert found is not None
    return str(Path(str(found.origin)).parent)


CALLED = ("numpy", "scipy", "sklearn", "torch")
NOT_THE_USERS = ("<frozen", str(Path(__file__).parent), *map(_directory, CALLED))
"""Errors are placed in the user's code, not in what it calls or what calls it."""


def user_function(
    reference: str, pythonpath: Path | None, where: str, expected: str
) -> Callable[..., Any]:
    """Returns the function ``module:function``.

    Args:
        reference: ``module:function``.
        pythonpath: directory that is looked in first; on ``sys.path`` only meanwhile.
        where: the config key, for errors.
        expected: what the function is to do, for errors.

    Raises:
        ModelError: the module or the function is missing, or importing it raises.
    """
    name, _, function_name = reference.partition(":")
    with importable(pythonpath):
        module = _import(name, pythonpath, where)
    function = getattr(module, function_name, None)
    if function is None:
        close = difflib.get_close_matches(function_name, vars(module), n=1)
        hint = f"Did you mean {close[0]!r}?" if close else "Check the name after the colon."
        found = f"{module.__file__} has no {function_name!r}"
        raise ModelError(where, found, expected, hint)
    if not callable(function):
        raise ModelError(where, f"a {type(function).__name__}", "a function")
    return function  # type: ignore[no-any-return]


@contextmanager
def importable(directory: Path | None) -> Iterator[None]:
    """Puts ``directory`` first on ``sys.path`` while the body works."""
    previous = list(sys.path)
    if directory is not None:
        sys.path.insert(0, str(directory))
        importlib.invalidate_caches()
    try:
        yield
    finally:
        sys.path[:] = previous


@contextmanager
def users_code(where: str, action: str) -> Iterator[None]:
    """Runs code of the user: its prints go to stderr, since stdout carries the result.

    Args:
        where: what runs, for errors.
        action: what to do about an error.

    Raises:
        ModelError: it raised.
    """
    try:
        with redirect_stdout(sys.stderr):
            yield
    except (Exception, SystemExit) as error:  # the user's code may raise anything
        raise _raised(where, error, action) from error


def _raised(where: str, error: Exception | SystemExit, action: str) -> ModelError:
    frames = traceback.extract_tb(error.__traceback__)
    users = [frame for frame in frames if not frame.filename.startswith(NOT_THE_USERS)]
    place = f"{users[-1].filename}:{users[-1].lineno} " if users else ""
    if isinstance(error, SyntaxError):
        place = f"{error.filename}:{error.lineno} "
    found = f"{place}raised {type(error).__name__}: {first_line(error)}"
    return ModelError(where, found, "no error", action)


def first_line(error: Exception | SystemExit) -> str:
    """Returns the first line of an error's text."""
    return str(error).strip().partition("\n")[0]


def _import(name: str, pythonpath: Path | None, where: str) -> ModuleType:
    try:
        with redirect_stdout(sys.stderr):
            module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise _raised(where, error, "Install what that module imports.") from error
        looked = f"{pythonpath} and " if pythonpath else ""
        raise ModelError(
            where,
            f"no module named {error.name!r} in {looked}the installed packages",
            "module:function",
            "Set pythonpath to the directory that holds the module.",
        ) from error
    except (Exception, SystemExit) as error:  # the user's code may raise anything
        raise _raised(where, error, "Correct that code.") from error
    file = module.__file__
    if pythonpath is not None and file is not None:
        inside = Path(file).resolve().is_relative_to(pythonpath.resolve())
        if not inside:
            found = f"the module {name!r} comes from {file}"
            action = "Rename the module; another one of that name is in use."
            raise ModelError(where, found, f"one in {pythonpath}", action)
    return module
