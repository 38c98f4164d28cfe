"""The version of the package; the build reads it from here, and the compiled modules carry it."""

__version__ = "0.1.0"
