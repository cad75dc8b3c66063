"""From plan and parameters to the INT8 graph: one file per group of forms."""
