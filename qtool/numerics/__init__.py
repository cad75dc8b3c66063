"""Affine quantization arithmetic, histograms, observers: NumPy only."""
