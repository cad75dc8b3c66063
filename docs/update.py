"""Keeps generated files current: README's help blocks, the config's reference, results' schema.

``--check`` changes nothing and fails when something is stale. A help block is the fenced block
after ``<!-- help: qtool run -->``.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from qtool.config.load import schema
from qtool.report.schema import result_schema

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "README.md"
RESULT = ROOT / "docs" / "evaluation.schema.json"
REFERENCE = ROOT / "docs" / "configuration.md"
BLOCK = re.compile(
    r"(<!-- help: qtool ?(?P<command>[\w-]*) -->\n```text\n)(?P<text>.*?)(```\n)", re.DOTALL
)
MARK = "<!-- generated from the schema; python docs/update.py -->\n"


def help_of(command: str) -> str:
    """Returns what the command prints for --help, at a fixed width."""
    arguments = [sys.executable, "-m", "qtool", *([command] if command else []), "--help"]
    environment = {**os.environ, "COLUMNS": "100", "NO_COLOR": "1", "TERM": "dumb"}
    done = subprocess.run(arguments, capture_output=True, text=True, check=True, env=environment)
    return "\n".join(line.rstrip() for line in done.stdout.strip().splitlines()) + "\n"


def reference() -> str:
    """Returns the reference of every section as Markdown."""
    root = schema()
    parts = [_section("The file", root)]
    parts += [_section(name, part) for name, part in root["$defs"].items() if "properties" in part]
    return "\n".join(parts)


def _section(title: str, part: dict[str, Any]) -> str:
    lines = [f"### {title}", "", part.get("description", "").strip(), ""]
    lines += ["| key | value | default | meaning |", "|---|---|---|---|"]
    for key, value in part["properties"].items():
        required = key in part.get("required", [])
        default = "**required**" if required else f"`{json.dumps(value.get('default'))}`"
        if not required and "default" not in value:
            default = "see there"
        meaning = value.get("description", "")
        lines.append(f"| `{key}` | {_type(value)} | {default} | {meaning} |")
    return "\n".join(lines) + "\n"


def _type(value: dict[str, Any]) -> str:
    if "$ref" in value:
        name = value["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    if "const" in value:
        return f"`{value['const']}`"
    if "enum" in value:
        return ", ".join(f"`{option}`" for option in value["enum"])
    for union in ("oneOf", "anyOf"):
        if union in value:
            options = [option for option in value[union] if option != {"type": "null"}]
            return " or ".join(_type(option) for option in options)
    if value.get("type") == "array":
        return f"list of {_type(value['items'])}"
    if isinstance(value.get("additionalProperties"), dict):
        return f"name: {_type(value['additionalProperties'])}"
    bounds = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
    limits = [f"{sign} {value[key]}" for key, sign in bounds.items() if key in value]
    kind = "path" if value.get("format") == "path" else value.get("type", "any")
    return " ".join([kind, *limits])


def _current() -> dict[Path, str]:
    readme = BLOCK.sub(
        lambda m: m[1] + help_of(m["command"]) + m[4], README.read_text(encoding="utf-8")
    )
    text = REFERENCE.read_text(encoding="utf-8")
    return {
        README: readme,
        REFERENCE: text.partition(MARK)[0] + MARK + "\n" + reference(),
        RESULT: json.dumps(result_schema(), indent=2) + "\n",
    }


def main() -> int:
    """Updates or checks the files; returns the exit code."""
    stale = {path: text for path, text in _current().items() if path.read_text("utf-8") != text}
    if "--check" in sys.argv:
        for path in stale:
            sys.stderr.write(f"{path.name} is stale; run python docs/update.py\n")
        return int(bool(stale))
    for path, text in stale.items():
        path.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
