"""The command line: flags, help, console text, exit codes. The only typer.

stdout carries the result (text for people, ``--json`` for machines), stderr the progress. Every
expected error becomes one message and its exit code here; anything else is a bug and ends with code
70 and a report to paste.
"""

from __future__ import annotations

import json
import os
import platform
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from qtool import __version__
from qtool.errors import INTERNAL_ERROR, INTERRUPTED, QtoolError, UsageError
from qtool.progress import Progress, SilentProgress, console_progress

if TYPE_CHECKING:
    from rich.console import RenderableType

    from qtool.commands.context import Context
    from qtool.evaluation.results import Evaluation

app = typer.Typer(
    name="qtool",
    help="FP32 model and finance data in, the fastest INT8 ONNX model with the same decisions out.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

T = TypeVar("T")
WIDTH = 120
"""Columns of a table that is printed to a file or a pipe."""

Config = Annotated[Path, typer.Argument(metavar="CONFIG", help="YAML config of the experiment.")]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Override one config value; may be repeated."),
]
RunDir = Annotated[
    Path | None,
    typer.Option(metavar="DIR", help="Where artifacts go; runs/NAME when left out."),
]
PythonPath = Annotated[
    Path | None,
    typer.Option(metavar="DIR", help="Directory of the module in model.torch (model.pythonpath)."),
]
Force = Annotated[bool, typer.Option("--force", help="Redo this command even if it is current.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="No progress on stderr.")]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]


@app.command("train-qat")
def train_qat(
    config: Config,
    set_: Set = None,
    run_dir: RunDir = None,
    pythonpath: PythonPath = None,
    force: Force = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Train FP32 if there is no checkpoint, then quantization-aware; write the INT8 model."""
    with _opened(
        config, set_, run_dir, pythonpath, force=force, quiet=quiet, together=True
    ) as context:
        from qtool.commands.auto import settled
        from qtool.commands.train_qat import train_qat

        folder = _together(context, lambda alone: train_qat(settled(alone, train=True)))
        if folder is not None:
            _print_folder(folder, as_json=as_json)


@app.command()
def calibrate(
    config: Config,
    set_: Set = None,
    run_dir: RunDir = None,
    pythonpath: PythonPath = None,
    force: Force = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Plan the quantization and observe the range of every planned activation."""
    with _opened(config, set_, run_dir, pythonpath, force=force, quiet=quiet) as context:
        from qtool.commands.auto import settled
        from qtool.commands.calibrate import calibrate, read_representativeness
        from qtool.report.console import console_representativeness

        folder = calibrate(settled(context))
        if not as_json:
            _show(console_representativeness(read_representativeness(folder)))
        _print_folder(folder, as_json=as_json)


@app.command()
def analyze(
    config: Config,
    set_: Set = None,
    run_dir: RunDir = None,
    pythonpath: PythonPath = None,
    force: Force = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Say what quantizing each layer would cost and gain, before anything is quantized."""
    with _opened(config, set_, run_dir, pythonpath, force=force, quiet=quiet) as context:
        from qtool.commands.analyze import ANALYSIS, PAGE, analyze, read_analysis
        from qtool.report.analysis import analysis_verdict, layers_table, model_table
        from qtool.report.console import console_advice

        folder = analyze(context)
        if as_json:
            _print((folder / ANALYSIS).read_text(encoding="utf-8").rstrip())
            return
        found = read_analysis(folder)
        tables = (layers_table(found), model_table(found))
        _show(console_advice(tables, found.notes, analysis_verdict(found)))
        _print(f"Report: {folder / PAGE}")


@app.command()
def quantize(
    config: Config,
    set_: Set = None,
    run_dir: RunDir = None,
    pythonpath: PythonPath = None,
    force: Force = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Quantize after training; write the INT8 model and its coverage."""
    with _opened(config, set_, run_dir, pythonpath, force=force, quiet=quiet) as context:
        from qtool.commands.auto import settled
        from qtool.commands.quantize import quantize, read_coverage
        from qtool.report.console import console_coverage

        folder = quantize(settled(context))
        if not as_json:
            _show(console_coverage(read_coverage(folder)))
        _print_folder(folder, as_json=as_json)


@app.command()
def evaluate(
    config: Config,
    set_: Set = None,
    run_dir: RunDir = None,
    pythonpath: PythonPath = None,
    force: Force = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Compare FP32 and INT8, measure latency, check the gates, write the report."""
    with _opened(config, set_, run_dir, pythonpath, force=force, quiet=quiet) as context:
        from qtool.commands.evaluate import evaluate

        folder, evaluation = evaluate(context)
        _print_evaluation(folder, evaluation, as_json=as_json)


@app.command()
def export(
    config: Config,
    set_: Set = None,
    run_dir: RunDir = None,
    pythonpath: PythonPath = None,
    force: Force = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Write the deployable bundle: model, manifest, model card, evidence."""
    with _opened(config, set_, run_dir, pythonpath, force=force, quiet=quiet) as context:
        from qtool.commands.export import export

        _print_folder(export(context), as_json=as_json)


@app.command()
def run(
    config: Config,
    set_: Set = None,
    run_dir: RunDir = None,
    pythonpath: PythonPath = None,
    force: Force = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Run the whole chain: train or calibrate, quantize, evaluate, export."""
    with _opened(
        config, set_, run_dir, pythonpath, force=force, quiet=quiet, together=True
    ) as context:
        from qtool.commands.run import run

        result = _together(context, run)
        if result is not None:
            _print_evaluation(result.evaluated, result.evaluation, as_json=as_json)


@app.command()
def init(
    model: Annotated[Path, typer.Argument(metavar="MODEL.onnx", help="FP32 ONNX model.")],
    data: Annotated[Path, typer.Option(help="Parquet, CSV or NPZ file, glob or directory.")],
    label: Annotated[
        str | None, typer.Option(help="Label column; guessed when left out.", show_default=False)
    ] = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="File to write.")] = Path(
        "config.yaml"
    ),
    force: Annotated[bool, typer.Option("--force", help="Overwrite an existing file.")] = False,
) -> None:
    """Write a commented config for an ONNX model and a data file."""
    from qtool.commands.init import init

    init(model, data, label, output, force=force)
    _print(f"{output}\nNext: qtool run {output}")


@app.command()
def doctor(as_json: Json = False) -> None:
    """Show what this CPU and these versions can do."""
    from qtool.commands.doctor import diagnose

    report = diagnose()
    _print(
        json.dumps(report, indent=2)
        if as_json
        else "\n".join(f"{k:<18}{v}" for k, v in report.items())
    )


@app.command()
def compare(
    runs: Annotated[
        list[Path], typer.Argument(metavar="RUN", help="Run directories that were evaluated.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="HTML file to write.")] = Path(
        "compare.html"
    ),
    as_json: Json = False,
) -> None:
    """Put the evaluations of several runs beside each other on one page."""
    from qtool.commands.compare import compare
    from qtool.report.comparison import comparison_tables, to_comparison_json, warnings
    from qtool.report.console import console_tables

    found = compare(runs, output)
    if as_json:
        _print(to_comparison_json(found))
    else:
        _show(console_tables(comparison_tables(found), warnings(found)))
        _print(f"Report: {output}")


@app.command()
def sweep(
    configs: Annotated[
        list[Path], typer.Argument(metavar="CONFIG", help="YAML configs of experiments.")
    ],
    set_: Set = None,
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="DIR", help="Gets the runs and the page.")
    ] = Path("runs/sweep"),
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Run many configs, one after another, and put what came of them on one page."""
    from qtool.commands.sweep import PAGE, RECORD, sweep
    from qtool.report.console import console_tables
    from qtool.report.sweep import sweep_tables

    found = sweep(configs, set_ or (), output, (lambda line: None) if quiet else _say)
    if as_json:
        _print((output / RECORD).read_text(encoding="utf-8").rstrip())
    else:
        _show(console_tables(sweep_tables(found), ()))
        _print(f"Report: {output / PAGE}")
    code = max(run.code for run in found)
    if code:
        raise typer.Exit(code)


@app.command()
def schema(
    result: Annotated[
        bool, typer.Option("--result", help="That of the JSON results of 'qtool evaluate'.")
    ] = False,
) -> None:
    """Print the JSON Schema of the config, for editors."""
    if result:
        from qtool.report.schema import result_schema

        _print(json.dumps(result_schema(), indent=2))
    else:
        from qtool.config.load import schema

        _print(json.dumps(schema(), indent=2))


def _version(value: bool) -> None:
    if value:
        _print(f"qtool {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None: ...


def main() -> None:
    """Runs the command line; the one place where errors become text and exit codes."""
    try:
        app(prog_name="qtool")
    except QtoolError as error:
        sys.stderr.write(f"error: {error}\n")
        sys.exit(error.exit_code)
    except SystemExit as end:
        # typer turns Ctrl-C into this code without a word.
        if end.code == INTERRUPTED:
            sys.stderr.write("interrupted: what was finished is kept; run the same command again\n")
        raise
    except Exception:
        sys.stderr.write(_bug_report())
        sys.exit(INTERNAL_ERROR)


@contextmanager
def _opened(
    config: Path,
    set_: list[str] | None,
    run_dir: Path | None,
    pythonpath: Path | None,
    *,
    force: bool,
    quiet: bool,
    together: bool = False,
) -> Iterator[Context]:
    """Opens an experiment; ``together`` says whether the command works under torchrun."""
    from qtool.commands import context as contexts

    if contexts.together() and not together:
        raise UsageError(
            "torchrun",
            "a command that does not train",
            "train-qat or run",
            "Run it without torchrun; what is finished is kept.",
        )
    quiet = quiet or contexts.following()
    progress: Progress = SilentProgress() if quiet else console_progress()
    tell: Callable[[str], Any] = (lambda line: None) if quiet else _say
    overrides = list(set_ or ())
    if pythonpath is not None:
        overrides.append(f"model.pythonpath={json.dumps(str(pythonpath.absolute()))}")
    options = contexts.Options(overrides, run_dir, force, progress, tell)
    with contexts.opened(config, options) as context:
        yield context


def _together(context: Context, command: Callable[[Context], T]) -> T | None:
    """Returns what ``command`` returns; None in all but the first process of several."""
    from qtool.commands import context as contexts

    if not contexts.together():
        return command(context)
    from qtool.commands.together import together

    return together(context, command)


def _print_folder(folder: Path, *, as_json: bool) -> None:
    files = sorted(str(file) for file in folder.iterdir())
    _print(
        json.dumps({"folder": str(folder), "files": files}, indent=2)
        if as_json
        else "\n".join(files)
    )


def _print_evaluation(folder: Path, evaluation: Evaluation, *, as_json: bool) -> None:
    from qtool.commands.evaluate import REPORT

    if as_json:
        from qtool.report.json import to_json

        _print(to_json(evaluation))
    else:
        from qtool.report.console import console_result

        _show(console_result(evaluation))
        _print(f"Report: {folder / REPORT}")
    _annotate(evaluation)
    if not evaluation.passed:
        raise typer.Exit(1)


def _annotate(evaluation: Evaluation) -> None:
    """Shows the verdict on the pull request and in the job's summary when GitHub runs this."""
    if os.environ.get("GITHUB_ACTIONS") == "true":
        from qtool.report.github import to_annotations

        sys.stderr.write(to_annotations(evaluation))  # read there, too; stdout may be JSON
    if summary := os.environ.get("GITHUB_STEP_SUMMARY"):
        from qtool.report.github import append_summary

        append_summary(Path(summary), evaluation)


def _print(text: str) -> None:
    sys.stdout.write(f"{text}\n")


def _show(renderable: RenderableType) -> None:
    from rich.console import Console

    # A file or a pipe has no width; tables are then not wrapped.
    width = None if sys.stdout.isatty() else WIDTH
    Console(width=width, soft_wrap=True).print(renderable)


def _say(line: str) -> None:
    sys.stderr.write(f"{line}\n")


def _bug_report() -> str:
    return (
        f"{traceback.format_exc()}\n"
        "This is a bug in qtool. Please report it with the text above and this line:\n"
        f"qtool {__version__}, Python {platform.python_version()}, {platform.platform()}\n"
    )
