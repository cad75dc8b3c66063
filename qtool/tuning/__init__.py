"""Tuning: better numbers for the same plan, or a graph that computes the same and quantizes better."""
