"""Modules that hold and multiply compressed weights alone, and the ways from a model or a file to them."""
