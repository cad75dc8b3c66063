"""One file per command: load the config, call five to ten steps, write artifacts."""
