"""Structured pruning: narrower layers with the same inputs and outputs of the graph."""
