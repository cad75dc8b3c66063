"""Sources of rows, splits, tabular encoding, calibration samples."""
