"""Sample finance systems: one file each, with a ``build`` function that qtool calls."""
