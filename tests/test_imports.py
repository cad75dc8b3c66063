"""Who may import whom: arrows between packages go down only, and each library has one home."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1] / "qtool"

LAYERS = (
    {"__main__"},
    {"cli"},
    {"commands"},
    {"bundle", "pruning", "report", "robustness", "search", "training", "tuning"},
    {"calibration", "evaluation"},
    {"data", "graph", "runtime", "torchgraph"},
    {"history", "numerics", "statistics"},
    {"config"},
    {"runs", "user_code"},
    {"errors", "progress"},
    {""},  # the version
)
"""From the top: a package imports what stands below it."""
BESIDE = {
    ("report", "search"),  # the page of an analysis
    ("search", "tuning"),  # which rows it reads
    ("training", "robustness"),  # rows that are trained on can be attacked
    ("torchgraph", "graph"),  # the ONNX graph as a torch module
    ("runtime", "graph"),  # a session takes a graph in memory
    ("graph", "data"),  # the fitted encoder as graph nodes
}
"""The only arrows within a layer."""
HOMES = {
    "archspec": {"runtime/cpu"},
    "filelock": {"runs"},
    "google": {"graph/model_file"},
    "jinja2": {"report/html"},
    "matplotlib": {"report"},
    "mlflow": {"training/logs"},
    "onnx": {"graph/model_file", "graph/prepare", "runtime/kernels"},
    "onnx_ir": {
        "calibration",
        "commands/calibrate",
        "commands/export",
        "commands/inputs",
        "commands/plan",
        "commands/prepare",
        "commands/prune",
        "commands/quantize",
        "commands/train_qat",
        "commands/tuning",
        "commands/workbench",
        "evaluation",
        "graph",
        "pruning",
        "runtime",
        "search",
        "torchgraph",
        "tuning",
    },
    "onnxruntime": {"runtime/cold_process", "runtime/sessions"},
    "onnxscript": {"graph/prepare"},
    "pyarrow": {"data", "commands/init"},
    "pydantic": {
        "config",
        "graph/plan",
        "report/schema",
        "report/stored",
        "search/analysis_file",
        "search/trial",
    },
    "rich": {"cli", "progress", "report/console"},
    "scipy": {"data/generators/heston", "evaluation", "statistics"},
    "sklearn": {"evaluation"},
    "torch": {
        "pruning/importance",
        "robustness/gradient",
        "torchgraph",
        "training",
        "commands/teacher",
        "commands/train_fp32",
        "commands/train_qat",
    },
    "typer": {"cli"},
    "yaml": {"config/document"},
}
"""Modules or packages that may import a library; NumPy may be used everywhere but in LIGHT."""
DISTRIBUTIONS = {"google": "onnx", "sklearn": "scikit-learn", "yaml": "pyyaml"}
EXTRAS = {"mlflow"}
"""Libraries of an extra; TensorBoard's is written through torch."""
LIGHT = ("cli", "config", "errors", "graph/plan", "progress", "runs")
"""What ``--help`` and a config error need: none of these imports more than the standard library,
pydantic, yaml and typer when it is loaded."""
LAZY = ("cli", "commands", "progress", "runs", "training/logs", "tuning/apply")
"""Where a function may import: one command must not load the libraries of another, and what extras
install may be missing."""


@dataclass(frozen=True)
class Import:
    """``module`` imports ``name`` (absolute, dotted)."""

    module: str
    name: str
    top: bool
    typing_only: bool


def below(module: str, places) -> bool:
    return any(module == place or module.startswith(f"{place}/") for place in places)


def imports_of(file: Path) -> Iterator[Import]:
    module = file.relative_to(ROOT).with_suffix("").as_posix().removesuffix("/__init__")
    tree = ast.parse(file.read_text(encoding="utf-8"))
    typing_only = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    lazy = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef)
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: relative import"
            names = [str(node.module)]
        for name in names:
            yield Import(module, name, id(node) not in lazy, id(node) in typing_only)


IMPORTS = [found for file in sorted(ROOT.rglob("*.py")) for found in imports_of(file)]
OWN = [found for found in IMPORTS if found.name.split(".")[0] == "qtool" and not found.typing_only]
FOREIGN = [
    found
    for found in IMPORTS
    if found.name.split(".")[0] not in {"qtool", "numpy", *sys.stdlib_module_names}
]


def package(name: str) -> str:
    return name.partition(".")[2].partition(".")[0]


def layer(name: str) -> int:
    return next(index for index, names in enumerate(LAYERS) if name in names)


def test_every_package_has_a_layer():
    listed = set().union(*LAYERS)
    found = {path.stem for path in ROOT.iterdir() if path.suffix == ".py" or path.is_dir()}
    assert found - {"__init__", "__pycache__"} == listed - {""}


def test_arrows_between_packages_go_down():
    wrong = set()
    for found in OWN:
        here, there = found.module.split("/")[0], package(found.name)
        if here != there and layer(here) >= layer(there) and (here, there) not in BESIDE:
            wrong.add(f"{found.module} imports {found.name}")
    assert not wrong


def test_every_exception_is_needed():
    pairs = {(found.module.split("/")[0], package(found.name)) for found in OWN}
    assert pairs >= BESIDE


def test_no_module_imports_itself_through_others():
    """Loading a module; what a function imports when it is called may lead back."""
    graph: dict[str, set[str]] = {}
    for found in (one for one in OWN if one.top):
        name = found.name.removeprefix("qtool").removeprefix(".").replace(".", "/")
        graph.setdefault(found.module, set()).add(name)
    TopologicalSorter(graph).prepare()  # raises CycleError


def test_each_library_stays_at_home():
    strays = {
        f"{found.module} imports {found.name}"
        for found in FOREIGN
        if not below(found.module, HOMES.get(found.name.split(".")[0], ()))
    }
    assert not strays


@pytest.mark.parametrize("library", HOMES)
def test_each_home_is_lived_in(library):
    users = {found.module for found in FOREIGN if found.name.split(".")[0] == library}
    empty = {home for home in HOMES[library] if not any(below(user, [home]) for user in users)}
    assert not empty


def test_the_libraries_are_the_declared_dependencies():
    text = (ROOT.parent / "pyproject.toml").read_text(encoding="utf-8")
    listed = text.partition("\ndependencies = [")[2].partition("\n]")[0]
    declared = set(re.findall(r'"([A-Za-z0-9-]+)', listed))
    used = {DISTRIBUTIONS.get(name, name.replace("_", "-")) for name in HOMES.keys() - EXTRAS}
    assert used | {"numpy"} == declared


def test_what_every_command_loads_is_light():
    heavy = {
        f"{found.module} imports {found.name}"
        for found in IMPORTS
        if below(found.module, LIGHT)
        and found.top
        and not found.typing_only
        and found.name.split(".")[0]
        not in {"qtool", "pydantic", "yaml", "typer", *sys.stdlib_module_names}
    }
    assert not heavy


def test_only_commands_import_lazily():
    lazy = {
        f"{found.module} imports {found.name} in a function"
        for found in IMPORTS
        if not found.top and not below(found.module, LAZY)
    }
    assert not lazy
