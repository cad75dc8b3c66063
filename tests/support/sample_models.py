"""Sample models as configs build them, and public files as ``sample_models.prepare`` reads them."""

from __future__ import annotations

import sys

import pyarrow.parquet as pq
import torch
from support.cli import ROOT

from qtool.config.model import TorchModel
from qtool.training.module import build_module
from sample_models.prepare.__main__ import main


def built(name, inputs, **arguments):
    torch.manual_seed(0)
    section = TorchModel(torch=f"sample_models.{name}:build", pythonpath=ROOT, arguments=arguments)
    return build_module(section, inputs).eval()


def prepared(monkeypatch, tmp_path, *arguments):
    output = tmp_path / "out.parquet"
    monkeypatch.setattr(sys, "argv", ["prepare", *map(str, arguments), str(output)])
    main()
    return pq.read_table(output)
