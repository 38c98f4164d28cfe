"""Sparse weights, in memory and on disk: one file a format, and the file that holds them (docs/FORMATS.md)."""
