"""``qtool analyze``: what quantizing each layer would cost and gain."""

from __future__ import annotations

from pathlib import Path

from qtool.calibration.sample import masks_of
from qtool.commands.context import Context
from qtool.commands.prepare import MODEL, data_content, dataset, prepared_stage, versions
from qtool.commands.tuning import rows_of
from qtool.config.quantization import Calibrated, StaticQuantization
from qtool.graph.model_file import read_model
from qtool.report.analysis import to_analysis_html
from qtool.runs import content, write_text
from qtool.runtime.cpu import detect
from qtool.search.analysis import Analysis
from qtool.search.analysis_file import analysis_from_json, analysis_to_json
from qtool.search.analyze import analyze as analyze_model

ANALYSIS, PAGE = "analysis.json", "analysis.html"


def analyze(context: Context) -> Path:
    """Analyzes the prepared model: folder with analysis.json and analysis.html."""
    prepared, experiment = prepared_stage(context), context.experiment
    section = _section(context)

    def make(folder: Path) -> None:
        found = analyze_model(
            read_model(prepared / MODEL),
            rows_of(context),
            masks=masks_of(dataset(context)),
            target=context.target,
            batch_sizes=experiment.target.batch_sizes,
            threads=experiment.target.threads,
            section=section,
            progress=context.progress,
            seed=experiment.seed,
        )
        write_text(folder / ANALYSIS, analysis_to_json(found))
        write_text(folder / PAGE, to_analysis_html(experiment.name, found))

    key = context.key(
        model=content(prepared),
        data=data_content(context),
        section=section.model_dump(mode="json"),
        target=experiment.target.model_dump(mode="json"),
        cpu=detect().name,
        versions=versions("onnxruntime", "onnx-ir", "numpy", "torch"),
    )
    return context.run.stage("analyze", key, make, force=context.run.force)


def analysis_of(context: Context) -> Analysis:
    """Returns the analysis of the prepared model, made when there is none."""
    return read_analysis(analyze(context))


def analysis_content(context: Context) -> str:
    """Returns the digest of the analysis of the prepared model."""
    return content(analyze(context))


def read_analysis(folder: Path) -> Analysis:
    """Returns the analysis that a stage left in ``folder``."""
    file = folder / ANALYSIS
    return analysis_from_json(file.read_text(encoding="utf-8"), str(file))


def _section(context: Context) -> StaticQuantization:
    """Returns what counts of the config's section: how numbers are chosen, not where."""
    section = context.experiment.quantization
    known = {"per_channel", "block_size"}
    if isinstance(section, Calibrated):
        known |= {"observer", "columns"}
    return StaticQuantization.model_validate(
        {**section.model_dump(include=known), "method": "static"}
    )
