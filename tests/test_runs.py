from __future__ import annotations

import errno
import json

import pytest

from qtool.errors import OutputError, StaleArtifactError, UsageError
from qtool.runs import Run, content, locked, write_bytes, write_text


@pytest.fixture
def said():
    return []


def run_in(directory, said, *, force=False):
    return Run(directory, force, said.append)


def maker(calls, text="hello"):
    def make(folder):
        calls.append(folder)
        write_text(folder / "a.txt", text)

    return make


def test_a_current_stage_is_skipped(tmp_path, said):
    calls = []
    for _ in range(2):
        folder = run_in(tmp_path, said).stage("one", {"x": 1}, maker(calls))
    assert len(calls) == 1
    assert (folder / "a.txt").read_text() == "hello"
    assert said == ["one: current"]


def test_other_inputs_or_force_make_it_again(tmp_path, said):
    calls = []
    run_in(tmp_path, said).stage("one", {"x": 1}, maker(calls))
    run_in(tmp_path, said).stage("one", {"x": 2}, maker(calls))
    run_in(tmp_path, said).stage("one", {"x": 2}, maker(calls), force=True)
    assert len(calls) == 3


def test_within_one_command_a_stage_is_made_once(tmp_path, said):
    calls, run = [], run_in(tmp_path, said)
    for _ in range(3):
        run.stage("one", {"x": 1}, maker(calls), force=True)
    assert len(calls) == 1


def test_a_failure_leaves_the_last_good_state(tmp_path, said):
    run_in(tmp_path, said).stage("one", {"x": 1}, maker([]))

    def fail(folder):
        write_text(folder / "a.txt", "half")
        raise OSError(errno.ENOSPC, "No space left on device", "a.txt")

    with pytest.raises(OutputError, match=r"No space left on device.*Free space"):
        run_in(tmp_path, said).stage("one", {"x": 2}, fail)
    assert (tmp_path / "one" / "a.txt").read_text() == "hello"
    assert not list((tmp_path / ".partial").iterdir())


def test_a_resumable_stage_keeps_its_checkpoint(tmp_path, said):
    def interrupted(folder):
        write_text(folder / "checkpoint", "step 3")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_in(tmp_path, said).stage("train", {"x": 1}, interrupted, resume_from="checkpoint")

    def resume(folder):
        assert (folder / "checkpoint").read_text() == "step 3"
        (folder / "checkpoint").unlink()
        write_text(folder / "model", "done")

    folder = run_in(tmp_path, said).stage("train", {"x": 1}, resume, resume_from="checkpoint")
    assert sorted(file.name for file in folder.iterdir()) == ["model", "stage.json"]
    assert said == ["train: resuming"]


def test_killed_between_record_and_rename(tmp_path, said):
    folder = run_in(tmp_path, said).stage("one", {"x": 1}, maker([]))
    key = json.loads((folder / "stage.json").read_text())["key"]
    partial = tmp_path / ".partial" / f"one-{key[:16]}"
    partial.parent.mkdir(exist_ok=True)
    folder.rename(partial)
    calls = []
    again = run_in(tmp_path, said).stage("one", {"x": 1}, maker(calls))
    assert not calls
    assert (again / "a.txt").read_text() == "hello"


@pytest.mark.parametrize("damage", ["changed", "missing", "record"])
def test_artifacts_changed_by_hand_are_refused(tmp_path, said, damage):
    folder = run_in(tmp_path, said).stage("one", {"x": 1}, maker([]))
    if damage == "changed":
        (folder / "a.txt").write_text("other")
    elif damage == "missing":
        (folder / "a.txt").unlink()
    else:
        (folder / "stage.json").write_text("{}")
    with pytest.raises(StaleArtifactError, match="--force"):
        run_in(tmp_path, said).stage("one", {"x": 1}, maker([]))
    run_in(tmp_path, said).stage("one", {"x": 1}, maker([]), force=True)


def test_content_depends_on_the_files_only(tmp_path, said):
    one = run_in(tmp_path, said).stage("one", {"x": 1}, maker([]))
    two = run_in(tmp_path, said).stage("two", {"x": 2}, maker([]))
    other = run_in(tmp_path, said).stage("three", {"x": 1}, maker([], "bye"))
    assert content(one) == content(two) != content(other)


def test_two_processes_cannot_share_a_run_directory(tmp_path):
    with locked(tmp_path), pytest.raises(UsageError, match="another qtool"), locked(tmp_path):
        pass


def test_a_failed_write_leaves_no_file(tmp_path, monkeypatch):
    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OutputError, match="No space left"):
        write_bytes(tmp_path / "model.onnx", b"x" * 10)
    assert not list(tmp_path.iterdir())
