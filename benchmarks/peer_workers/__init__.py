"""One script per peer tool, run in the environment of that tool; see ``job``."""
