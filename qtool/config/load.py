"""From a YAML file to a frozen ``Experiment``: the one door to the configuration."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from qtool.config.document import read_document
from qtool.config.experiment import Experiment
from qtool.config.problems import problems
from qtool.errors import ConfigErrors


@dataclass(frozen=True)
class Loaded:
    """A validated experiment, and the merged values as they were written."""

    experiment: Experiment
    written: dict[str, Any]


def load(path: Path, overrides: Sequence[str] = ()) -> Loaded:
    """Returns the experiment in ``path``.

    Args:
        path: YAML file.
        overrides: ``key=value`` texts, applied last.

    Raises:
        ConfigErrors: everything that is wrong with the values, at once.
        ConfigError: the file cannot be read as YAML.
        UsageError: an override is not ``key=value``.
    """
    document = read_document(path, overrides)
    try:
        experiment = Experiment.model_validate(document.values)
    except ValidationError as error:
        raise ConfigErrors(problems(error, document, Experiment.model_json_schema())) from None
    return Loaded(experiment, document.values)


def schema() -> dict[str, Any]:
    """Returns the JSON Schema of a configuration file, for editors."""
    described = Experiment.model_json_schema()
    described["properties"]["extends"] = {
        "type": "string",
        "description": "another config file to start from; null removes one of its keys",
    }
    described["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    described["title"] = "qtool experiment"
    return described
