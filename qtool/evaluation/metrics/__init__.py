"""The metrics: one file per kind, one entry per name of the configuration in ``registry``."""
