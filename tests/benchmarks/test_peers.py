from __future__ import annotations

import importlib
import sys
from pathlib import Path

import numpy as np
import pytest

from qtool.config.load import load
from qtool.evaluation.metrics.registry import metrics_of
from qtool.evaluation.sample import Sample
from qtool.graph.model_file import model_bytes
from qtool.runtime.latency import Timing
from qtool.runtime.sessions import Session

PROJECT = Path(__file__).resolve().parents[2]
BENCHMARKS = PROJECT / "benchmarks"
WORKER = "from peer_workers.job import read_job\njob = read_job()\n"


@pytest.fixture(autouse=True)
def _path(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))


@pytest.fixture
def peers_ort():
    return importlib.import_module("peers_ort")


@pytest.fixture
def environments():
    return importlib.import_module("peers_environments")


@pytest.fixture
def comparing():
    return importlib.import_module("peers_compare")


@pytest.fixture
def block():
    return importlib.import_module("block_models").BLOCKS["mlp-64x3"]()


def output(model, rows):
    session = Session(model, "test")
    return session.run(rows)[session.output_names[0]]


def test_every_setting_makes_a_model_close_to_fp32(peers_ort, block):
    fp32, rows = peers_ort.pre_processed(model_bytes(block.model)), block.rows(64, 1)
    expected = output(fp32, rows)
    static, dynamic = peers_ort.STATIC_SETTINGS, peers_ort.DYNAMIC_SETTINGS
    made = [peers_ort.ort_static(fp32, rows, **given) for given in static.values()]
    made += [peers_ort.ort_dynamic(fp32, **given) for given in dynamic.values()]
    for model in made:
        assert len(model) < 0.6 * len(fp32)
        assert np.abs(output(model, rows) - expected).max() < 0.1 * np.ptp(expected)


def test_pre_processing_keeps_the_outputs(peers_ort, block):
    rows = block.rows(4, 1)
    ready = peers_ort.pre_processed(model_bytes(block.model))
    np.testing.assert_allclose(output(ready, rows), output(block.model, rows), atol=1e-5)


def test_pre_processing_gets_along_without_symbolic_shapes(peers_ort, monkeypatch):
    given = []

    def fails_once(source, path, **options):
        given.append(options)
        if not options:
            raise TypeError("object of type 'NoneType' has no len()")
        Path(path).write_bytes(Path(source).read_bytes())

    monkeypatch.setattr(peers_ort, "quant_pre_process", fails_once)
    assert peers_ort.pre_processed(b"graph") == b"graph"
    assert given == [{}, {"skip_symbolic_shape": True}]


@pytest.fixture
def work(environments, monkeypatch, tmp_path):
    """Runs the lines of a fake worker with rows 0 to 4 of one input; returns what came of it."""
    monkeypatch.setattr(environments, "WORKERS", tmp_path)
    (tmp_path / "fp32.onnx").write_bytes(b"graph")
    rows = {"x": np.arange(5, dtype=np.float32)}

    def run(lines, judge=lambda places, outputs: 0.0, limit_s=60.0):
        (tmp_path / "worker.py").write_text(WORKER + lines, encoding="utf-8")
        folder = tmp_path / "folder"
        folder.mkdir()
        asked = environments.Asked(tmp_path / "fp32.onnx", rows, 0.25, judge)
        peer = environments.Peer("worker.py", "fake", "a setting")
        return environments.quantized(peer, Path(sys.executable), asked, folder, limit_s)

    return run


def test_a_worker_gets_the_job_and_leaves_a_model(work):
    lines = "told = f'{job.setting} {job.max_drop} {[len(b[\"x\"]) for b in job.batches(2, 3)]}'\n"
    found = work(lines + "job.int8.write_bytes(job.fp32.read_bytes() + told.encode())")
    assert found.model.read_bytes() == b"grapha setting 0.25 [2, 2]"
    assert found.seconds > 0


def test_a_worker_asks_for_the_metric_of_some_rows(work):
    asked = []

    def judge(places, outputs):
        asked.append((places.tolist(), outputs.tolist()))
        return sum(asked[-1][1])

    lines = (
        "import numpy as np\nprint('what a tool says')\n"
        "first = job.judged(np.array([3, 1]), job.rows['x'][[3, 1]] / 4)\n"
        "job.int8.write_text(f\"{first} {job.judged(np.array([0]), job.rows['x'][:1])}\")\n"
    )
    assert work(lines, judge).model.read_text(encoding="utf-8") == "1.0 0.0"
    assert asked == [([3, 1], [0.75, 0.25]), ([0], [0.0])]


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        ("print('fine')", "wrote no model"),
        ("raise SystemExit(3)", "ended with status 3"),
        ("raise ValueError('no such operator: GRU')", "ValueError: no such operator: GRU"),
        (
            "import sys\nsys.stderr.write('RuntimeError: deep\\nclosing 3 sessions\\n')\nexit(1)",
            "RuntimeError: deep",
        ),
    ],
)
def test_a_failing_worker_is_skipped_with_its_reason(work, environments, lines, reason):
    assert work(lines) == environments.Skipped(reason)


def test_a_worker_is_ended_when_its_time_is_over(work, environments):
    found = work("import time\ntime.sleep(60)", limit_s=0.5)
    assert found == environments.Skipped("takes more than 0.5 s")


def script(path, lines):
    path.write_text(f"#!/bin/sh\n{lines}\n", encoding="utf-8")
    path.chmod(0o755)
    return path


def test_a_package_that_cannot_be_installed_is_told(environments, monkeypatch, tmp_path):
    pip = script(
        tmp_path / "pip", 'echo "ERROR: No matching distribution found for $6" >&2; exit 1'
    )
    venv = script(tmp_path / "python", f'mkdir -p "$3/bin" && cp {pip} "$3/bin/python"')
    monkeypatch.setattr(environments.sys, "executable", str(venv))
    found = environments.interpreter(("no-such-tool==1.0",), tmp_path / "fake")
    reason = "ERROR: No matching distribution found for no-such-tool==1.0"
    assert found == environments.Skipped(f"cannot be installed: {reason}")
    assert not (tmp_path / "fake" / environments.INSTALLED).exists()


def test_an_environment_is_made_once(environments, monkeypatch, tmp_path):
    pip = script(tmp_path / "pip", f"echo $6 $7 >> {tmp_path}/log")
    venv = script(tmp_path / "python", f'mkdir -p "$3/bin" && cp {pip} "$3/bin/python"')
    monkeypatch.setattr(environments.sys, "executable", str(venv))
    for version in ("1.0", "1.0", "1.1"):
        asked = (f"tool=={version}", "other==2.0")
        made = environments.interpreter(asked, tmp_path / "fake")
        assert made == tmp_path / "fake" / "bin" / "python"
    told = (tmp_path / "log").read_text(encoding="utf-8").splitlines()
    assert told == ["tool==1.0 other==2.0", "tool==1.1 other==2.0"]


def test_the_worker_of_onnx_runtime_makes_what_its_tool_makes(
    environments, peers_ort, block, tmp_path
):
    fp32, rows = tmp_path / "given.onnx", block.rows(64, 1)
    fp32.write_bytes(model_bytes(block.model))
    asked = environments.Asked(fp32, rows, 0.0, lambda places, outputs: 0.0)
    peer = environments.PEERS["ort-static-channels"]
    found = environments.quantized(peer, Path(sys.executable), asked, tmp_path, 60.0)
    settings = peers_ort.STATIC_SETTINGS["u8s8 per channel"]
    own = peers_ort.ort_static(peers_ort.pre_processed(fp32.read_bytes()), rows, **settings)
    np.testing.assert_array_equal(output(found.model, rows), output(own, rows))


def test_every_peer_has_a_worker_and_an_environment(environments, peers_ort):
    known = {"static": peers_ort.STATIC_SETTINGS, "dynamic": peers_ort.DYNAMIC_SETTINGS}
    for peer in environments.PEERS.values():
        assert (environments.WORKERS / peer.worker).is_file()
        assert all("==" in pinned for pinned in environments.REQUIREMENTS[peer.environment])
        tool, _, best = peer.setting.partition(": ")
        assert peer.worker != "ort_worker.py" or not best or best in known[tool]


@pytest.fixture
def judge(comparing):
    experiment = load(PROJECT / "configs" / "credit_static.yaml", []).experiment
    metric = metrics_of(experiment.task, experiment.evaluation, None)[0]
    generator = np.random.default_rng(3)
    labels = np.repeat(np.array([0, 1], np.int8), 200)
    scores = np.clip(0.3 * labels + 0.7 * generator.random(400), 0, 1).astype(np.float32)
    return comparing.Judge(experiment, metric, Sample(np.arange(400), labels, scores, scores), 0.5)


def timing(us):
    return Timing(np.full(8, us), np.full(8, us))


def test_figures_of_one_model(comparing, judge):
    fp32 = judge.sample.fp32
    moved = fp32.copy()
    moved[0] += 0.5 if fp32[0] < 0.5 else -0.5
    rows = {row.metric: row for row in comparing.accuracy_rows("case", judge, moved, 30, 120)}
    assert rows["size"].value == 0.25
    assert rows["changed"].value == 1 / 400
    variance = fp32.astype(np.float64).var()
    assert rows["output_error"].value == pytest.approx(0.25 / 400 / variance, rel=1e-6)
    assert abs(rows["auc_difference"].value) < 0.01


def test_a_gain_is_how_much_better_the_subject_is(comparing, judge):
    fp32 = judge.sample.fp32
    gain, low, high = judge.gain(fp32, 1 - fp32)
    assert gain == pytest.approx(2 * judge.change(fp32, fp32).fp32 - 1)
    assert low <= gain <= high


def test_the_best_peer_is_the_fastest_as_accurate_and_the_most_accurate_as_fast(comparing, judge):
    fp32 = judge.sample.fp32
    noise = np.random.default_rng(4).normal(size=fp32.size)
    noisy = {
        share: np.clip(fp32 + share * noise, 0, 1).astype(np.float32)
        for share in (0.001, 0.002, 0.003, 1.0)
    }
    peers = {
        "fp32": fp32,
        "auto": noisy[0.002],
        "exact": noisy[0.001],
        "rough": noisy[0.003],
        "wrong": noisy[1.0],
    }
    us = {"fp32": 40.0, "auto": 10.0, "exact": 20.0, "rough": 8.0, "wrong": 1.0}
    times = {name: timing(value) for name, value in us.items()}
    rows = comparing.best_rows("case", "auto", peers, judge, times)
    found = {(row.metric, row.peer): (row.value, row.notes.partition(";")[0]) for row in rows}
    assert found["speed_against_best", "metric"] == (0.8, "rough")
    assert found["speed_against_best", "error"] == (2.0, "exact")
    assert found["gain_against_best", "metric"][1] == "rough"
    assert found["error_against_best", "error"][0] < 1
    assert found["error_against_best", "error"][1] == "rough"


def test_nobody_is_as_fast(comparing, judge):
    peers = {"fp32": judge.sample.fp32, "auto": judge.sample.fp32}
    times = {"fp32": timing(3.0), "auto": timing(1.0)}
    rows = comparing.best_rows("case", "auto", peers, judge, times)
    assert [(row.value, row.peer) for row in rows] == [(3.0, "metric"), (3.0, "error")]
