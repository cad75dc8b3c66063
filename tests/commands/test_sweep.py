"""``qtool sweep``: many configs on one page; what is done stays, what fails is said."""

from __future__ import annotations

import json
import shutil

import pytest
from support.cli import qtool, succeeded


@pytest.fixture(scope="module")
def folder(project, tmp_path_factory):
    return shutil.copytree(project, tmp_path_factory.mktemp("sweep") / "project")


@pytest.fixture(scope="module")
def swept(folder):
    (folder / "absent.yaml").write_text(
        "extends: static.yaml\nname: absent\ndata: {source: absent.parquet}\n"
    )
    (folder / "strict.yaml").write_text(
        "extends: static.yaml\nname: strict\nevaluation: {gates: {size_ratio: 0.01}}\n"
    )
    configs = [folder / f"{name}.yaml" for name in ("static", "absent", "strict")]
    sweep = ("sweep", *configs, "-o", folder / "all")
    return sweep, qtool(*sweep)


def test_every_config_has_its_place_whatever_became_of_the_others(swept, folder):
    _, done = swept
    assert done.code == 5
    assert "small: passed" in done.err
    assert "absent: no result (exit code 5)" in done.err
    assert "strict: failed" in done.err
    runs = json.loads((folder / "all" / "sweep.json").read_text())["runs"]
    assert [run["code"] for run in runs.values()] == [0, 5, 1]
    assert "absent.parquet" in runs["absent"]["error"]
    assert runs["small"]["result"]["passed"] is True
    page, text = ((folder / "all" / f"sweep.{kind}").read_text() for kind in ("html", "md"))
    assert page.count("<svg") == 2
    for part in ("What changed", "What was gained", "Without a result"):
        assert part in page
        assert part in text
        assert part in done.out


def test_it_goes_on_with_what_is_there(swept, folder):
    sweep, _ = swept
    before = json.loads((folder / "all" / "sweep.json").read_text())["runs"]
    evaluated = (folder / "all" / "small" / "evaluate" / "result.json").stat().st_mtime_ns
    assert qtool(*sweep, "--json").code == 5
    after = json.loads((folder / "all" / "sweep.json").read_text())["runs"]
    assert (folder / "all" / "small" / "evaluate" / "result.json").stat().st_mtime_ns == evaluated
    assert after["small"]["seconds"] > before["small"]["seconds"]
    assert after["small"]["result"] == before["small"]["result"]


def test_two_configs_of_one_name_are_refused_before_any_work(folder, tmp_path):
    other = shutil.copy(folder / "static.yaml", folder / "again.yaml")
    done = qtool("sweep", folder / "static.yaml", other, "-o", tmp_path / "all")
    assert done.code == 2
    assert "the name 'small' again" in done.err
    assert not (tmp_path / "all").exists()


def test_settings_are_those_of_all(folder, tmp_path):
    settings = ("--set", "evaluation.gates=null", "--quiet")
    (tmp_path / "all").mkdir()
    before = {"machine": {}, "runs": {"other": {"config": "other.yaml", "seconds": 7}}}
    (tmp_path / "all" / "sweep.json").write_text(json.dumps(before))
    done = succeeded("sweep", folder / "static.yaml", *settings, "-o", tmp_path / "all")
    assert done.err == ""
    assert "no gates" in done.out
    runs = json.loads((tmp_path / "all" / "sweep.json").read_text())["runs"]
    assert runs["other"]["seconds"] == 7  # what an interrupted sweep has not come to yet
