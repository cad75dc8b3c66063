"""Seeded generators of finance data of any size."""
