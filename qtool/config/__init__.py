"""The experiment's configuration: sections as frozen pydantic models, YAML with line numbers."""
