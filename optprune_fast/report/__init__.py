"""Comparison tables, plots and the report. matplotlib, the extra `plot`, is imported when a plot is drawn."""
