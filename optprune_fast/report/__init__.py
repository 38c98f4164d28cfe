"""Comparison tables and plots. matplotlib, the extra `plot`, is imported when a plot is drawn."""
