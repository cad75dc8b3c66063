"""A stage is made again when anything that its result depends on has changed."""

from __future__ import annotations

import shutil

import onnx
import pyarrow as pa
import pyarrow.parquet as pq
from onnx import numpy_helper
from support.cli import succeeded
from support.project import tree

from qtool.commands.prepare import source_sha256
from qtool.config.model import TorchModel


def test_changed_rows_outside_training_change_the_evaluation(project, tmp_path):
    """Encoder, cut points and counts stay the same: only the rows differ."""
    here = shutil.copytree(project, tmp_path / "project")
    arguments = ("--run-dir", tmp_path / "run", "--set", "evaluation.gates=null")
    succeeded("evaluate", here / "static.yaml", *arguments)
    before = tree(tmp_path / "run")
    rows = pq.read_table(here / "rows.parquet")
    doubled = pa.array([2 * value for value in rows["n0"].to_pylist()], rows["n0"].type)
    changed = rows.set_column(rows.schema.get_field_index("n0"), "n0", doubled)
    pq.write_table(changed, here / "rows.parquet")
    succeeded("evaluate", here / "static.yaml", *arguments)
    after = tree(tmp_path / "run")
    assert after["data/split.json"] == before["data/split.json"]
    assert after["data/encoder.json"] == before["data/encoder.json"]
    assert after["calibrate/ranges.json"] != before["calibrate/ranges.json"]
    assert after["evaluate/evaluation.json"] != before["evaluate/evaluation.json"]


def test_weights_beside_the_onnx_file_are_part_of_the_model(project, tmp_path):
    here = shutil.copytree(project, tmp_path / "project")
    model = onnx.load(here / "model.onnx")
    onnx.save(
        model, here / "model.onnx", save_as_external_data=True, location="w", size_threshold=0
    )
    graph = (here / "model.onnx").read_bytes()
    arguments = ("--run-dir", tmp_path / "run")
    succeeded("quantize", here / "static.yaml", *arguments)
    before = tree(tmp_path / "run")
    model = onnx.load(here / "model.onnx")
    for item in model.graph.initializer:
        if item.name == "head.weight":
            item.CopyFrom(numpy_helper.from_array(2 * numpy_helper.to_array(item), item.name))
    (here / "w").unlink()
    onnx.save(
        model, here / "model.onnx", save_as_external_data=True, location="w", size_threshold=0
    )
    assert (here / "model.onnx").read_bytes() == graph
    succeeded("quantize", here / "static.yaml", *arguments)
    after = tree(tmp_path / "run")
    assert after["fp32/model.onnx"] != before["fp32/model.onnx"]
    assert after["quantize/model.int8.onnx"] != before["quantize/model.int8.onnx"]


def test_a_helper_of_an_own_metric_is_part_of_the_evaluation(project, tmp_path):
    here = shutil.copytree(project, tmp_path / "project")
    (here / "own_stale_metric.py").write_text("from own_stale_helper import half as metric\n")
    helper = here / "own_stale_helper.py"
    helper.write_text("def half(labels, scores):\n    return 0.5\n")
    overrides = ("metrics=[auc, 'own_stale_metric:metric']", f"pythonpath={here}", "gates=null")
    words = [word for text in overrides for word in ("--set", f"evaluation.{text}")]
    arguments = ("evaluate", here / "static.yaml", "--run-dir", tmp_path / "run", "--json", *words)
    succeeded(*arguments)
    assert "evaluate: current" in succeeded(*arguments).err
    helper.write_text("def half(labels, scores):\n    return 0.25\n")
    assert "evaluate: current" not in succeeded(*arguments).err


def test_a_package_that_builds_the_model_is_part_of_the_key(tmp_path):
    section = TorchModel(torch="nets:build", pythonpath=tmp_path)
    (tmp_path / "nets").mkdir()
    source = tmp_path / "nets" / "__init__.py"
    source.write_text("a = 1\n", encoding="utf-8")
    first = source_sha256(section.torch, section.pythonpath)
    source.write_text("a = 2\n", encoding="utf-8")
    assert None is not first != source_sha256(section.torch, section.pythonpath)
