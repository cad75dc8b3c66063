from __future__ import annotations

import pytest
from support.project import make_project


@pytest.fixture(scope="session", autouse=True)
def _disks_do_not_wait():
    """Tests do not cut the power; waiting for the disk would take half of their time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("os.fsync", lambda descriptor: None)
        yield


@pytest.fixture(scope="session")
def project(tmp_path_factory):
    """A small project; tests that change its files copy it first."""
    return make_project(tmp_path_factory.mktemp("project"))
