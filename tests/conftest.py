from __future__ import annotations

import pytest
from support.project import make_project


@pytest.fixture(scope="session")
def project(tmp_path_factory):
    """A small project; tests that change its files copy it first."""
    return make_project(tmp_path_factory.mktemp("project"))
