"""Brings public data sets into the columns that the configs read."""
