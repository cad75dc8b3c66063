"""Tuning: better numbers for a plan, or a graph that computes the same and quantizes better."""
