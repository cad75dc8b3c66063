"""Which files a user's function is made of."""

from __future__ import annotations

import pytest

from qtool import user_code
from qtool.user_code import source_files

FILES = {
    "metrics.py": "import numpy\nimport costs\nfrom shared import rates\n\ndef cost(): ...\n",
    "costs.py": "def cost():\n    from shared.deep.table import ROWS\n    return ROWS\n",
    "shared/__init__.py": "",
    "shared/rates.py": "from . import rounding as r\nfrom .deep import table, missing\n",
    "shared/rounding.py": "from ..outside import x\nimport shared.rates\n",
    "shared/deep/table.py": "from ..other import *\nROWS = 3\n",
    "shared/other.py": "import no_such_module\n",
    "shared/unused.py": "x = 1\n",
    "broken.py": "import costs\ndef (:\n",
}


@pytest.fixture
def folder(tmp_path):
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    return tmp_path


def test_the_module_and_all_that_it_imports_from_its_directory(folder):
    found = source_files("metrics:cost", folder)
    assert {name: file.relative_to(folder).as_posix() for name, file in found.items()} == {
        "metrics": "metrics.py",
        "costs": "costs.py",
        "shared": "shared/__init__.py",
        "shared.rates": "shared/rates.py",
        "shared.rounding": "shared/rounding.py",
        "shared.deep.table": "shared/deep/table.py",
        "shared.other": "shared/other.py",
    }


def test_a_module_of_a_folder_without_init(folder):
    assert set(source_files("shared.deep.table:ROWS", folder)) == {
        "shared",
        "shared.deep.table",
        "shared.other",
    }


def test_what_cannot_be_read_as_python_is_a_file_all_the_same(folder):
    (folder / "nul.py").write_bytes(b"x = 1\0")
    assert list(source_files("broken:f", folder)) == ["broken"]
    assert list(source_files("nul:f", folder)) == ["nul"]
    assert source_files("none:f", folder) == {}


def test_compiled_helpers_count(folder):
    (folder / "fast.so").write_bytes(b"\x7fELF")
    (folder / "slow.py").write_text("import fast\n")
    assert source_files("slow:f", folder)["fast"] == folder / "fast.so"


def test_without_a_directory_it_is_the_one_where_python_finds_it(folder, monkeypatch):
    monkeypatch.syspath_prepend(folder)
    assert set(source_files("costs:cost", None)) == set(source_files("costs:cost", folder))
    assert source_files("no_such_module_at_all:f", None) == {}


def test_of_installed_packages_only_the_one_that_is_named(folder, monkeypatch):
    monkeypatch.setattr(user_code, "INSTALLED", {folder.resolve()})
    assert set(source_files("metrics:cost", folder)) == {"metrics"}
    assert "shared.other" in source_files("shared.deep.table:ROWS", folder)
    monkeypatch.undo()
    names = source_files("sklearn.utils.validation:check_array", None)
    assert "sklearn.utils.validation" in names
    assert all(name.partition(".")[0] == "sklearn" for name in names)
