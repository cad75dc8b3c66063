"""Functions of the user that a config names as ``module:function``."""

from __future__ import annotations

import ast
import difflib
import importlib
import importlib.machinery
import importlib.util
import sys
import sysconfig
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
INSTALLED = {Path(place).resolve() for place in sysconfig.get_paths().values()}
"""Where the standard library and installed packages lie."""


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


def source_files(reference: str, pythonpath: Path | None) -> dict[str, Path]:
    """Returns the files that the module of ``module:function`` is made of, by dotted name.

    These are the module and what it imports, directly or not, from the same directory: the one that
    ``pythonpath`` names, else the one in which the module was found. Of a directory of installed
    packages it is the package of the module only. Nothing is run: an import is what a statement
    says, wherever it stands; modules that code imports by a computed name are not seen. Empty when
    there is no such module.

    Not ``modulefinder``: that of Python 3.11 fails on packages without ``__init__.py``.
    """
    name = reference.partition(":")[0]
    top = name.partition(".")[0]
    directory = _found_in(top) if pythonpath is None else pythonpath
    if directory is None:
        return {}
    alone = directory.resolve() in INSTALLED
    found: dict[str, Path] = {}
    waiting = [name]
    while waiting:
        for module, file in _files(directory, waiting.pop()):
            if module not in found and not (alone and module.partition(".")[0] != top):
                found[module] = file
                waiting += _imported(module, file)
    return found


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


def _found_in(top: str) -> Path | None:
    """Returns the directory in which Python finds a top-level module; None when in none."""
    try:
        spec = importlib.util.find_spec(top)
    except ValueError:  # a module that was not imported from a file
        return None
    if spec is None:
        return None
    place = next(iter(spec.submodule_search_locations or ()), spec.origin)
    return None if place is None else Path(place).parent


def _files(directory: Path, name: str) -> Iterator[tuple[str, Path]]:
    """Yields what importing a dotted name loads from a directory: each package, then the module."""
    parts = name.split(".")
    for end in range(1, len(parts) + 1):
        place = directory.joinpath(*parts[:end])
        suffixes = importlib.machinery.all_suffixes()
        beside = (place.with_name(f"{place.name}{suffix}") for suffix in suffixes)
        file = next(filter(Path.is_file, (place / "__init__.py", *beside)), None)
        if file is not None:
            yield ".".join(parts[:end]), file


def _imported(module: str, file: Path) -> Iterator[str]:
    """Yields the names in the import statements of a file; they may be of modules or of others."""
    if file.suffix != ".py":
        return
    try:
        tree = ast.parse(file.read_bytes())
    except (SyntaxError, ValueError):  # importing it will say so
        return
    package = module if file.name == "__init__.py" else module.rpartition(".")[0]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parts = package.split(".")
            above = parts[: len(parts) + 1 - node.level] if node.level else []
            for alias in node.names:
                yield ".".join(filter(None, [*above, node.module, alias.name]))


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
